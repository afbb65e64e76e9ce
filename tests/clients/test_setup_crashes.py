"""Set-up and its undoing, cut off at every single operation on the file system, on files of odd shapes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman.clients.editing import EditRefused
from dragoman.clients.setup_record import Wish, run_setup, run_uninstall
from dragoman.config.paths import Home, resolve_home

TOML_WISHES = (
    Wish(("model_providers", "dragoman"), {"name": "dragoman", "auth": {"command": "/x"}}, "table"),
    Wish(("features", "unbounded_connection_retries"), False),
    Wish(("model_provider",), "dragoman"),
    Wish(("model",), "glm-5.2", "seed"),
)
JSON_WISHES = (
    Wish(("env", "ANTHROPIC_AUTH_TOKEN"), kind="absent"),
    Wish(("apiKeyHelper",), "/d token"),
    Wish(("env", "ANTHROPIC_BASE_URL"), "u"),
)

# Everything that changes a file system, or moves from one step of a change to the next.
OPERATIONS = (
    "open",
    "mkdir",
    "replace",
    "rename",
    "unlink",
    "link",
    "fsync",
    "fchmod",
    "fchown",
    "chmod",
    "write",
)


class PowerCut(BaseException):
    """From here on nothing happens any more."""


@contextmanager
def power_cut_at(count: int) -> Iterator[list[str]]:
    """Let `count` operations happen; the next one and all after it fail. Yields the operations."""
    done: list[str] = []

    def cut(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **named: Any) -> Any:
            done.append(name)
            if len(done) > count:
                raise PowerCut
            return real(*args, **named)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, cut(name, getattr(os, name)))
        yield done


class Desk:
    """A folder with a client's file and a home, emptied for every try."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home: Home = resolve_home({"DRAGOMAN_HOME": str(root / "home")})

    def start(self, name: str, content: bytes | None) -> Path:
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / "client").mkdir(parents=True)
        file = self.root / "client" / name
        if content is not None:
            file.write_bytes(content)
        return file


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk")


def read(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def hold(desk: Desk, name: str, before: bytes | None, wishes: tuple[Wish, ...]) -> int:
    """Cut set-up and uninstall off at every operation; returns at how many."""
    file = desk.start(name, before)
    run_setup(desk.home, file, wishes)
    after = read(file)
    count = -1
    while True:
        count += 1
        file = desk.start(name, before)
        try:
            with power_cut_at(count):
                run_setup(desk.home, file, wishes)
        except PowerCut:
            assert read(file) in (before, after), f"set-up, operation {count}"
            if count % 2:  # after the cut the user goes on, or gives up
                run_setup(desk.home, file, wishes)
                assert read(file) == after
            run_uninstall(desk.home, file)
            assert read(file) == before, f"set-up, operation {count}"
            continue
        break
    for undone in itertools.count():
        file = desk.start(name, before)
        run_setup(desk.home, file, wishes)
        try:
            with power_cut_at(undone):
                run_uninstall(desk.home, file)
        except PowerCut:
            assert read(file) in (before, after), f"uninstall, operation {undone}"
            run_uninstall(desk.home, file)
            assert read(file) == before, f"uninstall, operation {undone}"
            continue
        return count + undone
    raise AssertionError("unreachable")


@pytest.mark.parametrize(
    ("name", "before", "wishes"),
    [
        ("config.toml", None, TOML_WISHES),
        ("config.toml", b"# mine\r\nmodel_provider = 'openai' # why\r\n[features]\r\nx = true", TOML_WISHES),
        ("settings.json", None, JSON_WISHES),
        ("settings.json", b'{"env": {"ANTHROPIC_AUTH_TOKEN": "t"}, "theme": "dark"}\n', JSON_WISHES),
    ],
)
def test_a_cut_at_any_operation_leaves_the_old_or_the_new_file_and_both_can_be_undone(
    desk: Desk, name: str, before: bytes | None, wishes: tuple[Wish, ...]
) -> None:
    assert hold(desk, name, before, wishes) > 15, "the cut has to fall between real operations"


LINES = st.lists(
    st.sampled_from(
        [
            "# c",
            "model = 'm'",
            "model_provider = 'p' # c",
            "features = { q = 1 }",
            "features.z = true",
            "a = '''\n[f]'''",
        ]
    ),
    max_size=3,
    unique=True,
)
TABLES = st.lists(
    st.sampled_from(
        ["[features] # f\nk = 1", "[model_providers.o]\nname = 'o'", "[t]\nx = 1", "[[l]]\nq = 1"]
    ),
    max_size=3,
    unique=True,
)


@st.composite
def toml_files(draw: st.DrawFn) -> bytes:
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = "\n".join([*draw(LINES), *draw(TABLES)]).replace("\n", newline)
    return (text + draw(st.sampled_from(["", newline]))).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=5, deadline=None)
@given(toml_files())
def test_for_any_valid_file_a_cut_at_any_operation_leaves_the_old_or_the_new_one(
    desk: Desk, content: bytes
) -> None:
    try:
        tomllib.loads(content.decode())
    except tomllib.TOMLDecodeError:
        return
    hold(desk, "config.toml", content, TOML_WISHES)


# What a user may do to the file after set-up, as text and as what it means.
CHANGES: dict[str, Callable[[str], str]] = {
    "another model": lambda text: text.replace('"glm-5.2"', '"mine"').replace("'m'", '"mine"'),
    "another provider": lambda text: text.replace('"dragoman"\n', '"own"\n', 1),
    "a comment": lambda text: "# added\n" + text,
    "a table": lambda text: text + ("" if text.endswith("\n") else "\n") + "[added]\nz = 3\n",
    "a key under features": lambda text: text.replace(
        "unbounded_connection_retries = false\n", "unbounded_connection_retries = false\nadded = 1\n"
    ),
    "retries again": lambda text: text.replace("_retries = false", "_retries = true"),
}


def without_ours(tree: dict[str, Any]) -> dict[str, Any]:
    """What the user has in a tree that is set up."""
    providers = {k: v for k, v in tree.get("model_providers", {}).items() if k != "dragoman"}
    return {**tree, "model_providers": providers}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(
    toml_files(), st.lists(st.sampled_from(list(CHANGES)), min_size=1, max_size=3, unique=True), st.booleans()
)
def test_whatever_a_user_changes_after_setup_survives_uninstall(
    desk: Desk, content: bytes, changes: list[str], again: bool
) -> None:
    try:
        before = tomllib.loads(content.decode())
    except tomllib.TOMLDecodeError:
        return
    file = desk.start("config.toml", content)
    run_setup(desk.home, file, TOML_WISHES)
    written = file.read_bytes().decode()
    changed = written
    for name in changes:
        changed = CHANGES[name](changed)
    try:
        meant = tomllib.loads(changed)
    except tomllib.TOMLDecodeError:
        return
    file.write_bytes(changed.encode())
    if (
        again
        and meant.get("model_provider") == "dragoman"
        and not meant["features"]["unbounded_connection_retries"]
    ):
        run_setup(desk.home, file, TOML_WISHES)
    run_uninstall(desk.home, file)
    left = tomllib.loads(file.read_bytes().decode())
    was_ours = tomllib.loads(written)
    for key in {*meant, *before}:
        mine: Any = without_ours(meant).get(key)
        if meant.get(key) == was_ours.get(key):
            expected = before.get(key)  # untouched by the user: as before set-up
        elif key == "features":
            expected = {k: v for k, v in mine.items() if v is not False or before.get(key, {}).get(k) is v}
        elif key == "model_providers":
            expected = mine or None
        else:
            expected = mine
        assert left.get(key) == expected or (not left.get(key) and not expected), (key, changed)
    assert "dragoman" not in left.get("model_providers", {})


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [("config.toml", "a = 1\n\n[t\nb = 2\n", 3), ("settings.json", '{\n  "a": 1\n  "b": 2\n}\n', 3)],
)
def test_a_file_with_a_syntax_error_is_left_alone_with_its_line_named(
    desk: Desk, name: str, text: str, line: int
) -> None:
    file = desk.start(name, text.encode())
    wishes = TOML_WISHES if name.endswith("toml") else JSON_WISHES
    for action in (lambda: run_setup(desk.home, file, wishes), lambda: run_uninstall(desk.home, file)):
        with pytest.raises(EditRefused, match=f"{name}, line {line} ") as refused:
            action()
        assert refused.value.line == line
        assert f"line {line}" in (refused.value.hint or "")
    assert file.read_text() == text
    assert [entry.name for entry in file.parent.iterdir()] == [name]


json_files = st.dictionaries(
    st.sampled_from(["theme", "model", "permissions"]),
    st.sampled_from([1, "x", {"allow": ["Bash"]}, None]),
    max_size=3,
).flatmap(
    lambda tree: st.sampled_from([{}, {"env": {}}, {"env": {"A": "b", "ANTHROPIC_AUTH_TOKEN": "t"}}]).map(
        lambda env: {**tree, **env}
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(json_files, st.sampled_from([None, 2, "\t"]), st.sampled_from(["", "\n", "\r\n"]))
def test_for_any_json_settings_setup_then_uninstall_gives_the_bytes_of_before_and_twice_is_once(
    desk: Desk, tree: dict[str, Any], indent: int | str | None, end: str
) -> None:
    content = (json.dumps(tree, indent=indent) + end).encode()
    file = desk.start("settings.json", content)
    run_setup(desk.home, file, JSON_WISHES)
    written = file.read_bytes()
    assert json.loads(written)["env"]["ANTHROPIC_BASE_URL"] == "u"
    assert not run_setup(desk.home, file, JSON_WISHES).changed
    assert file.read_bytes() == written
    file.write_bytes(written.replace(b'"u"', b'"u" ', 1))  # changed by one blank: our keys go one by one
    run_uninstall(desk.home, file)
    assert json.loads(file.read_bytes()) == tree
    file.write_bytes(content)
    run_setup(desk.home, file, JSON_WISHES)
    run_uninstall(desk.home, file)
    assert file.read_bytes() == content
