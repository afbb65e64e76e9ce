from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import platformdirs
import pytest

from dragoman.config import paths
from dragoman.config.paths import HomeUnwritable, resolve_home, unwritable


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_dragoman_home_holds_everything(tmp_path: Path) -> None:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path), "HOME": "/nowhere", "XDG_STATE_HOME": "/elsewhere"})
    assert home.config_file == tmp_path / "dragoman.toml"
    assert home.tokens == tmp_path / "state" / "tokens"
    assert home.daemon_json == tmp_path / "run" / "daemon.json"
    for place in (home.spool, home.runs, home.workspaces, home.trash, home.logs, home.slots, home.lock_file):
        assert place.is_relative_to(tmp_path)


def test_a_home_may_be_written_with_a_tilde() -> None:
    assert resolve_home({"DRAGOMAN_HOME": "~/d", "HOME": "/people/ada"}).state == Path("/people/ada/d/state")


def test_without_dragoman_home_the_platform_folders_are_those_of_platformdirs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variables in ({}, {"XDG_CONFIG_HOME": str(tmp_path / "c"), "XDG_STATE_HOME": str(tmp_path / "s")}):
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "DRAGOMAN_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        home = resolve_home(os.environ)
        assert home.config_file.parent == platformdirs.user_config_path("dragoman")
        assert home.state == platformdirs.user_state_path("dragoman")
        assert home.run == home.state / "run"


def test_a_relative_xdg_folder_is_ignored_as_its_standard_says() -> None:
    if sys.platform == "darwin":
        pytest.skip("the default differs on macOS")
    home = resolve_home({"HOME": "/people/ada", "XDG_STATE_HOME": "state"})
    assert home.state == Path("/people/ada/.local/state/dragoman")


def test_a_config_named_on_the_command_line_wins_and_moves_nothing_else(tmp_path: Path) -> None:
    env = {"DRAGOMAN_HOME": str(tmp_path)}
    home = resolve_home(env, tmp_path / "x" / "other.toml")
    assert home.config_file == tmp_path / "x" / "other.toml"
    assert home.state == resolve_home(env).state


def test_ensure_makes_private_folders_under_any_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o022, 0o777):
        home = resolve_home({"DRAGOMAN_HOME": str(tmp_path / f"{umask}" / "deep")})
        old = os.umask(umask)
        try:
            home.ensure()
        finally:
            os.umask(old)
        assert {mode(f) for f in (home.state, home.run, home.tokens, home.gateway_socket.parent)} == {0o700}
        assert mode(home.state.parent) == 0o700


def test_ensure_narrows_a_state_folder_left_open_but_not_the_folder_the_user_chose(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    resolve_home({"DRAGOMAN_HOME": str(tmp_path)}).ensure()
    assert mode(tmp_path / "state") == 0o700
    assert mode(tmp_path) == 0o755


def test_ensure_may_be_repeated(home: paths.Home) -> None:
    home.ensure()
    home.ensure()
    assert home.spool.is_dir()


def test_an_unusable_home_is_one_sentence_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path / "file")})
    with pytest.raises(HomeUnwritable, match=r"cannot write .*file/state") as failure:
        home.ensure()
    assert failure.value.hint
    assert "DRAGOMAN_HOME" in failure.value.hint


def test_short_socket_paths_stay_inside_the_home() -> None:
    home = resolve_home({"DRAGOMAN_HOME": "/h"})
    assert home.control_socket == Path("/h/run/control.sock")
    assert home.gateway_socket == Path("/h/run/gateway/gateway.sock")


def test_long_socket_paths_move_together_to_a_short_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SHORT_SOCKET_ROOT", tmp_path)
    deep = tmp_path / ("d" * 110)
    home, other = (resolve_home({"DRAGOMAN_HOME": str(deep / name)}) for name in "ab")
    home.ensure()
    assert home.control_socket.parent == home.gateway_socket.parent.parent == home.short_sockets
    assert home.short_sockets.parent == tmp_path / f"dragoman-{os.geteuid()}"
    assert mode(home.short_sockets) == mode(home.short_sockets.parent) == 0o700
    assert home.control_socket != other.control_socket
    assert home.lock_file.is_relative_to(deep)


def test_every_socket_path_fits_the_system(tmp_path: Path) -> None:
    for length in range(40, 140):
        home = resolve_home({"DRAGOMAN_HOME": "/" + "ü" * (length // 2)})
        assert max(len(os.fsencode(s)) for s in (home.control_socket, home.gateway_socket)) <= 100


def test_a_socket_folder_planted_in_the_temp_dir_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SHORT_SOCKET_ROOT", tmp_path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"dragoman-{os.geteuid()}").symlink_to(tmp_path / "theirs")
    with pytest.raises(HomeUnwritable, match="belongs to somebody else"):
        resolve_home({"DRAGOMAN_HOME": str(tmp_path / ("d" * 110))}).ensure()


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "free some disk"), (errno.EDQUOT, "free some disk"), (errno.EACCES, "make it yours")],
)
def test_a_full_disk_is_not_taken_for_missing_rights(code: int, advice: str) -> None:
    told = unwritable(Path("/home/me/state"), OSError(code, os.strerror(code)))
    assert told.hint is not None
    assert told.hint.startswith(advice)
    assert "DRAGOMAN_HOME" in told.hint
