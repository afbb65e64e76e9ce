from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dragoman.clients.editing import EditRefused, has, lookup, with_leaf
from dragoman.clients.editing import Path as KeyPath
from dragoman.clients.json_edit import JsonText
from dragoman.clients.setup_claude import plan_claude
from dragoman.clients.setup_codex import Program
from dragoman.clients.setup_record import run_setup, run_uninstall
from dragoman.config.paths import resolve_home

URL: KeyPath = ("env", "ANTHROPIC_BASE_URL")
HELPER: KeyPath = ("apiKeyHelper",)

SETTINGS = """{
    "permissions": {"allow": ["Bash(git status)"], "deny": []},
    "env": {
        "FOO": "bar"
    },
    "theme" : "dark"
}
"""


def test_a_new_member_is_laid_out_like_its_neighbours() -> None:
    new = JsonText(SETTINGS).with_value(URL, "http://x").with_value(HELPER, "/d token")
    assert new.text == SETTINGS.replace(
        '"FOO": "bar"', '"FOO": "bar",\n        "ANTHROPIC_BASE_URL": "http://x"'
    ).replace('"dark"', '"dark",\n    "apiKeyHelper": "/d token"')
    assert new.without(URL).without(HELPER).text == SETTINGS


def test_missing_objects_are_made_and_taken_away_again() -> None:
    for text, expected in (
        ("{}", '{\n  "env": {\n    "ANTHROPIC_BASE_URL": "u"\n  }\n}'),
        ('{"a": 1}', '{"a": 1, "env": {"ANTHROPIC_BASE_URL": "u"}}'),
        ('{\n\t"a": 1\n}', '{\n\t"a": 1,\n\t"env": {\n\t\t"ANTHROPIC_BASE_URL": "u"\n\t}\n}'),
    ):
        new = JsonText(text).with_value(URL, "u")
        assert new.text == expected
        assert new.without(URL, prune=1).text == text


def test_an_empty_file_becomes_an_object() -> None:
    assert json.loads(JsonText("").with_value(URL, "u").text) == {"env": {"ANTHROPIC_BASE_URL": "u"}}


def test_windows_line_ends_are_used_for_new_lines_too() -> None:
    new = (
        JsonText(SETTINGS.replace("\n", "\r\n"))
        .with_value(URL, "x")
        .with_table(("new",), {"a": {"b": 1}})
        .text
    )
    assert new.count("\n") == new.count("\r\n")


def test_a_changed_value_keeps_its_place_and_an_equal_one_its_spelling() -> None:
    text = '{"env": {"A": "\\u0061", "ANTHROPIC_BASE_URL": "old"}, "b": 1.0}'
    document = JsonText(text)
    assert document.with_value(("env", "A"), "a").text == text
    new = document.with_value(URL, "new")
    assert new.text == text.replace('"old"', '"new"')
    assert new.with_literal(URL, '"old"').text == text
    assert document.literal(("env", "A")) == '"\\u0061"'


def test_a_key_given_twice_is_changed_where_readers_look() -> None:
    document = JsonText('{"env": {"A": 1}, "env": {"B": 2}, "x": 1, "x": 2}')
    assert document.with_value(URL, "u").tree["env"] == {"B": 2, "ANTHROPIC_BASE_URL": "u"}
    assert document.with_value(("x",), 3).tree["x"] == 3


@pytest.mark.parametrize(
    ("text", "line"), [('{\n"a": 1,\n}', 3), ("[]", 1), ('{\n"a": 1 // c\n}', 2), ("nul", 1)]
)
def test_what_is_not_a_json_object_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(EditRefused) as failure:
        JsonText(text)
    assert failure.value.line == line


def test_what_is_in_the_way_is_refused() -> None:
    with pytest.raises(EditRefused, match="env is not a table"):
        JsonText('{"env": "x"}').with_value(URL, "u")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("env"), inner, max_size=3)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["env", "apiKeyHelper", "a", 'q"\\', "é"]), json_values, max_size=4)


@st.composite
def texts(draw: st.DrawFn) -> str:
    tree: dict[str, Any] = draw(objects)
    indent = draw(st.sampled_from([None, 2, 4, "\t", ""]))
    separators = draw(st.sampled_from([None, (",", ":"), (" , ", " : ")]))
    text = json.dumps(tree, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
    return draw(st.sampled_from(["", " ", "\n"])) + text + draw(st.sampled_from(["", "\n", "\r\n\r\n"]))


@given(texts(), st.sampled_from([URL, HELPER, ("mcpServers", "dragoman", "command")]), st.text(max_size=5))
def test_any_json_is_edited_rightly_and_what_was_put_in_comes_out_again(
    text: str, path: KeyPath, value: str
) -> None:
    document = JsonText(text)
    before = document.tree
    try:
        new = document.with_value(path, value)
    except EditRefused:
        around = [path[:depth] for depth in range(1, len(path))]
        assert any(has(before, table) and not isinstance(lookup(before, table), dict) for table in around)
        return
    assert new.tree == with_leaf(before, path, value)
    assert new.with_value(path, value).text == new.text
    assume(lookup(before, path) is None and not (len(path) == 1 and path[0] in before))
    missing = next((n for n in range(1, len(path)) if lookup(before, path[:n]) is None), len(path))
    assert new.without(path, prune=len(path) - missing).tree == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(texts())
def test_what_setup_writes_into_any_settings_is_undone_to_the_byte(tmp_path: Path, text: str) -> None:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path / "home")})
    file = tmp_path / "settings.json"
    file.write_bytes(text.encode())
    program = Program("/opt/dragoman")
    plan = plan_claude(
        json.loads(text), url="http://127.0.0.1:4891", program=program, default_model="glm-5.2"
    )
    try:
        run_setup(home, file, plan.wishes)
    except EditRefused:
        assert file.read_bytes() == text.encode()
        return
    written = file.read_bytes()
    assert not run_setup(home, file, plan.wishes).changed
    assert file.read_bytes() == written
    run_uninstall(home, file)
    assert file.read_bytes() == text.encode()
