from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.clients.config_file import ChangedMeanwhile, ClientFile, read_client_file, replace_client_file
from dragoman.clients.editing import EditRefused
from dragoman.clients.setup_record import (
    Owned,
    Wish,
    preview_setup,
    read_record,
    run_setup,
    run_uninstall,
)
from dragoman.config.paths import Home, resolve_home

WISHES = (
    Wish(("model_providers", "dragoman"), {"name": "dragoman", "auth": {"command": "/x"}}, "table"),
    Wish(("features", "unbounded_connection_retries"), False),
    Wish(("model_provider",), "dragoman"),
    Wish(("model",), "glm-5.2", "seed"),
)
MINE = b"# mine\nmodel_provider = 'openai' # why\n\n[features]\r\nx = true\n[t]\ny = 1"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return resolve_home({"DRAGOMAN_HOME": str(tmp_path / "home")})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "client"
    folder.mkdir()
    file = folder / "config.toml"
    file.write_bytes(MINE)
    return file


def test_setup_then_uninstall_gives_the_bytes_of_before(home: Home, config: Path) -> None:
    edit = run_setup(home, config, WISHES)
    assert edit.changed
    tree = tomllib.loads(config.read_text())
    assert (tree["model_provider"], tree["model"], tree["features"]["x"]) == ("dragoman", "glm-5.2", True)
    undone = run_uninstall(home, config)
    assert undone.changed
    assert config.read_bytes() == MINE
    assert read_record(home, config) is None


def test_twice_is_once(home: Home, config: Path) -> None:
    run_setup(home, config, WISHES)
    first, at = config.read_bytes(), config.stat().st_mtime_ns
    assert not run_setup(home, config, WISHES).changed
    assert (config.read_bytes(), config.stat().st_mtime_ns) == (first, at)
    run_uninstall(home, config)
    assert config.read_bytes() == MINE


def test_an_older_setup_of_ours_is_brought_up_to_date_and_still_undone_to_the_byte(
    home: Home, config: Path
) -> None:
    run_setup(home, config, WISHES)
    newer = (
        Wish(("model_providers", "dragoman"), {"name": "dragoman", "base_url": "u"}, "table"),
        *WISHES[1:],
    )
    assert run_setup(home, config, newer).changed
    assert tomllib.loads(config.read_text())["model_providers"]["dragoman"] == newer[0].value
    run_uninstall(home, config)
    assert config.read_bytes() == MINE


def test_a_later_change_by_the_user_survives_uninstall(home: Home, config: Path) -> None:
    run_setup(home, config, WISHES)
    changed = config.read_text().replace('"glm-5.2"', '"my-own"').replace("y = 1", "y = 2\n[new]\nz = 3")
    config.write_text(changed)
    run_setup(home, config, WISHES)
    run_uninstall(home, config)
    tree = tomllib.loads(config.read_text())
    assert tree == {
        "model_provider": "openai",
        "model": "my-own",
        "features": {"x": True},
        "t": {"y": 2},
        "new": {"z": 3},
    }
    assert "model_provider = 'openai' # why" in config.read_text()


def test_a_model_chosen_by_the_user_is_never_changed_by_a_second_setup(home: Home, config: Path) -> None:
    run_setup(home, config, WISHES)
    run_setup(home, config, (Wish(("model",), "glm-5.1"),))
    run_setup(home, config, WISHES)
    assert tomllib.loads(config.read_text())["model"] == "glm-5.1"
    run_uninstall(home, config)
    assert config.read_bytes() == MINE


def test_a_file_that_was_not_there_is_made_private_and_goes_again(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "new" / "config.toml"
    run_setup(home, file, WISHES)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    edit = run_uninstall(home, file)
    assert edit.removed
    assert not file.exists()


@pytest.mark.parametrize("name", ["config.toml", "settings.json"])
def test_where_nothing_is_to_be_said_no_file_is_made(home: Home, tmp_path: Path, name: str) -> None:
    edit = run_setup(home, tmp_path / "new" / name, ())
    assert not edit.changed
    assert not (tmp_path / "new").exists()
    assert read_record(home, tmp_path / "new" / name) is None


@pytest.mark.parametrize(
    ("name", "text", "wish"),
    [
        ("settings.json", '{"env": {"ANTHROPIC_API_KEY": "s3\\u0063ret", "A_TOKEN": "s3cret"}}', "env"),
        ("config.toml", "t = { api_key = 's3cret', x = 1 }\n", "t"),
    ],
)
def test_keys_of_the_user_are_in_no_line_that_is_shown(
    home: Home, tmp_path: Path, name: str, text: str, wish: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    wishes = (Wish((wish, "ours"), "1"), Wish((wish, "ANTHROPIC_API_KEY"), kind="absent"))
    planned = preview_setup(home, file, wishes)
    shown = [planned, run_setup(home, file, wishes), run_uninstall(home, file)]
    assert file.read_text() == text
    for edit in shown:
        assert any("…" in line for line in edit.diff), edit.diff
        assert not any("s3" in line for line in edit.diff), edit.diff


def test_an_emptied_or_vanished_file_is_no_trouble(home: Home, config: Path) -> None:
    run_setup(home, config, WISHES)
    config.unlink()
    assert not run_uninstall(home, config).changed
    assert read_record(home, config) is None


def test_without_a_record_only_what_is_surely_ours_goes(home: Home, config: Path) -> None:
    run_setup(home, config, WISHES)
    for file in home.backups.iterdir():
        file.unlink()
    run_uninstall(
        home,
        config,
        [
            Owned(("model_provider",), "key", "dragoman"),
            Owned(("model_providers", "dragoman"), "table", made=1),
        ],
    )
    tree = tomllib.loads(config.read_text())
    assert "model_providers" not in tree
    assert "model_provider" not in tree
    assert tree["t"] == {"y": 1}


def test_a_dry_run_and_a_preview_change_nothing(home: Home, config: Path) -> None:
    preview = preview_setup(home, config, WISHES)
    assert '+model_provider = "dragoman" # why' in preview.diff
    assert config.read_bytes() == MINE
    run_setup(home, config, WISHES)
    written = config.read_bytes()
    assert run_uninstall(home, config, dry_run=True).changed
    assert config.read_bytes() == written
    run_uninstall(home, config)
    assert config.read_bytes() == MINE


def test_only_changed_lines_are_shown(home: Home, config: Path) -> None:
    config.write_text("token = 'secret'\nmodel_provider = 'x'\nkey = 'secret'\n")
    assert not any("secret" in line for line in preview_setup(home, config, WISHES).diff)


def test_backups_and_records_are_private(home: Home, config: Path) -> None:
    edit = run_setup(home, config, WISHES)
    assert edit.backup
    assert edit.backup.read_bytes() == MINE
    for file in home.backups.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_links_mode_and_byte_order_mark_stay(home: Home, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "c.toml"
    real.parent.mkdir()
    real.write_bytes(b"\xef\xbb\xbfa = 1\n")
    real.chmod(0o640)
    link = tmp_path / "config.toml"
    link.symlink_to(real)
    run_setup(home, link, WISHES)
    assert link.is_symlink()
    assert real.read_bytes().startswith(b"\xef\xbb\xbf")
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert [file.name for file in real.parent.iterdir()] == ["c.toml"]
    run_uninstall(home, real)
    assert real.read_bytes() == b"\xef\xbb\xbfa = 1\n"


@pytest.mark.parametrize("content", [b"a = = 1\n", b"\xff\xfe\n", b"features = 3\n"])
def test_a_file_we_cannot_read_is_left_alone(home: Home, config: Path, content: bytes) -> None:
    config.write_bytes(content)
    with pytest.raises(EditRefused) as failure:
        run_setup(home, config, WISHES)
    assert failure.value.hint
    assert config.read_bytes() == content
    assert not list(home.backups.glob("*"))


def test_a_read_only_file_is_left_alone(home: Home, config: Path) -> None:
    config.chmod(0o444)
    with pytest.raises(EditRefused, match="read-only"):
        run_setup(home, config, WISHES)
    assert config.read_bytes() == MINE


def test_a_folder_or_a_circle_of_links_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "d.toml").mkdir()
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    for name in ("d.toml", "loop.toml"):
        with pytest.raises(EditRefused):
            run_setup(home, tmp_path / name, WISHES)


def test_a_locked_file_is_tried_again_for_about_a_second(config: Path) -> None:
    waits: list[float] = []
    tries = iter([PermissionError(13, "locked"), PermissionError(13, "locked"), None])

    def replace(source: Path, target: Path) -> None:
        if (error := next(tries)) is not None:
            raise error
        source.replace(target)

    replace_client_file(read_client_file(config), b"a = 2\n", sleep=waits.append, replace=replace)
    assert config.read_bytes() == b"a = 2\n"
    assert len(waits) == 2

    def always(source: Path, target: Path) -> None:
        raise PermissionError(13, "locked")

    waits.clear()
    with pytest.raises(EditRefused, match="cannot be written: locked"):
        replace_client_file(read_client_file(config), b"a = 3\n", sleep=waits.append, replace=always)
    assert 0.5 < sum(waits) < 2
    assert config.read_bytes() == b"a = 2\n"
    assert [file.name for file in config.parent.iterdir()] == ["config.toml"]


def test_a_change_made_meanwhile_is_not_lost(home: Home, config: Path) -> None:
    raced: list[bool] = []

    def write(file: ClientFile, content: bytes | None) -> None:
        if not raced:
            raced.append(True)
            config.write_bytes(MINE + b"\nraced = 1\n")
        replace_client_file(file, content)

    run_setup(home, config, WISHES, write=write)
    assert tomllib.loads(config.read_text())["t"] == {"y": 1, "raced": 1}
    run_uninstall(home, config)
    assert config.read_bytes() == MINE + b"\nraced = 1\n"

    def always(file: ClientFile, content: bytes | None) -> None:
        raise ChangedMeanwhile("x")

    with pytest.raises(ChangedMeanwhile):
        run_setup(home, config, WISHES, write=always)


class Crash(Exception):
    pass


@pytest.mark.parametrize("before_replace", [True, False])
def test_a_crash_at_the_write_leaves_the_old_or_the_new_file_and_both_can_be_undone(
    home: Home, config: Path, before_replace: bool
) -> None:
    def write(file: ClientFile, content: bytes | None) -> None:
        if not before_replace:
            replace_client_file(file, content)
        raise Crash

    with pytest.raises(Crash):
        run_setup(home, config, WISHES, write=write)
    assert (config.read_bytes() == MINE) == before_replace
    run_uninstall(home, config)
    assert config.read_bytes() == MINE
    run_setup(home, config, WISHES)
    with pytest.raises(Crash):
        run_uninstall(home, config, write=write)
    run_uninstall(home, config)
    assert config.read_bytes() == MINE


def test_json_settings_are_set_up_with_rivals_set_aside_and_given_back(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    text = '{\n  "env": {"ANTHROPIC_AUTH_TOKEN": "t\\u0031", "A": "b"},\n  "theme": "dark"\n}\n'
    file.write_text(text)
    wishes = (
        Wish(("env", "ANTHROPIC_AUTH_TOKEN"), kind="absent"),
        Wish(("env", "ANTHROPIC_BASE_URL"), "u"),
        Wish(("apiKeyHelper",), "x token"),
    )
    run_setup(home, file, wishes)
    assert json.loads(file.read_text()) == {
        "env": {"A": "b", "ANTHROPIC_BASE_URL": "u"},
        "theme": "dark",
        "apiKeyHelper": "x token",
    }
    file.write_text(file.read_text().replace("dark", "light"))
    assert not run_setup(home, file, wishes).changed
    run_uninstall(home, file)
    back = json.loads(file.read_text())
    assert back == {"env": {"ANTHROPIC_AUTH_TOKEN": "t1", "A": "b"}, "theme": "light"}


LINES = st.sampled_from(
    [
        "",
        "# c",
        "model = 'm'",
        "model_provider = 'p' # c",
        "a.b = 1",
        "features.z = true",
        "features = { q = 1 }",
    ]
)
TABLES = st.sampled_from(
    ["[features]\nk = 1", "[model_providers.o]\nname = 'o'", "[t]\nx = '''\n[f]'''", "[[l]]\nq = 1"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.lists(LINES, max_size=4, unique=True),
    st.lists(TABLES, max_size=3, unique=True),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_for_any_valid_file_setup_then_uninstall_gives_the_bytes_of_before(
    home: Home, config: Path, lines: list[str], tables: list[str], newline: str, last: bool
) -> None:
    text = newline.join([*lines, *tables]) + (newline if last else "")
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    config.write_bytes(text.encode())
    run_setup(home, config, WISHES)
    written = config.read_bytes()
    run_setup(home, config, WISHES)
    assert config.read_bytes() == written
    run_uninstall(home, config)
    assert config.read_bytes() == text.encode()
