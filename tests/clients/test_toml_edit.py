from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dragoman.clients.editing import EditRefused, Tree, has, lookup, with_leaf, without_leaf
from dragoman.clients.editing import Path as KeyPath
from dragoman.clients.setup_codex import Program, plan_codex
from dragoman.clients.setup_record import run_setup, run_uninstall
from dragoman.clients.toml_edit import TomlText, spelled
from dragoman.clients.toml_spans import Spans
from dragoman.config.paths import resolve_home

PROVIDER: Tree = {
    "name": "dragoman",
    "base_url": "http://127.0.0.1:4891/v1",
    "auth": {"command": "/x", "args": ["token"]},
}
FLAG: KeyPath = ("features", "unbounded_connection_retries")
TABLE: KeyPath = ("model_providers", "dragoman")


def edited(text: str) -> TomlText:
    return (
        TomlText(text)
        .with_value(("model_provider",), "dragoman")
        .with_value(FLAG, False)
        .with_table(TABLE, PROVIDER)
    )


def undone(text: str, before: Tree) -> TomlText:
    result = TomlText(text).without(TABLE, prune=0 if "model_providers" in before else 1)
    result = result.without(FLAG, prune=0 if "features" in before else 1)
    return result.without(("model_provider",))


def meant(text: str) -> Tree:
    tree = with_leaf(tomllib.loads(text), ("model_provider",), "dragoman")
    return with_leaf(with_leaf(tree, FLAG, False), TABLE, PROVIDER)


ODD = {
    "empty": "",
    "a comment": "# just a comment\n\n",
    "no last newline": "a = 1\n[t]\nx = 1",
    "windows line ends": 'model = "m"\r\n# c\r\n[features]\r\nx = true # c\r\n\r\n[t]\r\ny = 1\r\n',
    "mixed line ends": "a=1\r\nb=2\n[t]\r\nx=1\n",
    "dotted at the root": "features.x = true\nmodel_providers.a.name = 'n'\n[t]\nb=1\n",
    "dotted in a table": "[model_providers]\na.name = 'n'\n[features]\nx.y = 1\n",
    "inline tables": "model_providers = { a = { name = 'n' } } # keep\nfeatures = { q = true }\n[t]\nb=1\n",
    "empty inline tables": "model_providers = {}\nfeatures = { }\n",
    "tables out of order": "[model_providers.a]\nname='n'\n[t]\nb=1\n[model_providers.b]\nname='m'\n"
    "[features]\nq=true\n[model_providers.a.auth]\ncommand='x'\n",
    "a table first": "# head\n[t] # c\nb=1\n",
    "quoted keys": "\"a.b\" = 'x' # c\n['features']\ny=1\n[\"model_providers\".\"x y\"]\nname='z'\n",
    "arrays of tables": "[[mcp]]\na=1\n[[mcp]]\na=2\n[mcp_servers.x]\ncommand='c'\n[[mcp.deep]]\nq=1\n",
    "indented": "  model = 'q'\n  [t]\n    x = 1\n\n\n  [features]   # f\n    z = 1\n  # tail comment\n[u]\n",
    "spaces in headers": "[ features ]\nz = 1\n[ model_providers . a ]\nname='n'\n",
    "only a sub-table": "[features.sub]\nx=1\n",
    "a table after its sub-table": "[features.sub]\nx=1\n[features]\ny=1\n[z]\n",
    "an empty table": "[features]\n[model_providers]\n",
    "multi-line values": "a = '''\n[features]\nx = 1\n'''\nb = [\n  1, # [t]\n  2,\n]\n"
    '[t]\nc = """\\\n  model_provider = \'q\'"""\n',
}


@pytest.mark.parametrize("name", ODD)
def test_an_edit_means_exactly_what_was_wanted_and_keeps_every_line(name: str) -> None:
    text = ODD[name]
    new = edited(text)
    assert new.tree == meant(text)
    for line in text.splitlines():
        if "= {" not in line:
            assert line in new.text.splitlines()
    assert edited(new.text).text == new.text, "a second time changes nothing"
    back = undone(new.text, tomllib.loads(text))
    assert back.tree == tomllib.loads(text)


def test_windows_line_ends_are_used_for_new_lines_too() -> None:
    new = edited(ODD["windows line ends"]).text
    assert new.count("\n") == new.count("\r\n")


def test_a_changed_value_keeps_its_comment_and_place() -> None:
    text = 'model = "m"\nmodel_provider = "openai" # mine\n[t]\nx = 1\n'
    new = TomlText(text).with_value(("model_provider",), "dragoman")
    assert new.text == text.replace('"openai"', '"dragoman"')
    assert new.literal(("model_provider",)) == '"dragoman"'
    assert new.with_literal(("model_provider",), '"openai"').text == text


def test_an_equal_value_keeps_its_spelling() -> None:
    text = "model_provider = 'dragoman'\n[features]\nunbounded_connection_retries = false\n"
    assert TomlText(text).with_value(("model_provider",), "dragoman").with_value(FLAG, False).text == text


def test_a_table_of_ours_is_brought_up_to_date_in_place() -> None:
    text = "[model_providers.dragoman] # ours\nname = 'old'\ngone = 1\n"
    text += "[model_providers.dragoman.env]\na = 'b'\n[t]\nx = 1\n"
    new = TomlText(text).with_table(TABLE, PROVIDER)
    assert lookup(new.tree, TABLE) == PROVIDER
    assert new.text.startswith("[model_providers.dragoman] # ours\n")
    assert "[t]\nx = 1\n" in new.text


def test_removing_our_table_takes_what_users_added_to_it_but_no_comment_after_it() -> None:
    text = "a = 1\n\n[model_providers.dragoman]\nname = 'd'\n# inside\nextra = 1\n\n"
    text += "[model_providers.dragoman.auth]\nc = 1\n\n# about t\n[t]\n"
    assert TomlText(text).without(TABLE).text == "a = 1\n\n# about t\n[t]\n"


def test_what_is_not_toml_is_refused_with_its_line() -> None:
    with pytest.raises(EditRefused, match=r"config.toml, line 2 is not valid TOML") as failure:
        TomlText("a = 1\nb = = 2\n")
    assert failure.value.line == 2
    with pytest.raises(EditRefused):
        TomlText("a = " + "[" * 5000 + "]" * 5000)


def test_what_cannot_be_edited_is_refused() -> None:
    with pytest.raises(EditRefused, match="features is not a table"):
        TomlText("features = 3\n").with_value(FLAG, False)
    with pytest.raises(EditRefused, match="not a table"):
        TomlText("[[features]]\na = 1\n").with_value(FLAG, False)
    with pytest.raises(EditRefused, match="model_provider is a table"):
        TomlText("[model_provider]\nx = 1\n").with_value(("model_provider",), "dragoman")
    with pytest.raises(EditRefused, match="model_provider is a table"):
        TomlText("model_provider = { x = 1 }\n").with_value(("model_provider",), "dragoman")


@given(st.text(max_size=30) | st.integers() | st.booleans() | st.lists(st.text(max_size=5), max_size=3))
def test_values_are_spelled_so_that_toml_reads_them_back(value: object) -> None:
    assume(not (isinstance(value, int) and abs(value) >= 2**63))
    assert tomllib.loads(f"v = {spelled(value)}")["v"] == value


KEYS = st.sampled_from(
    [
        "model",
        "model_provider",
        "features",
        "model_providers",
        "dragoman",
        "a",
        '"b.c"',
        "'d e'",
        "auth",
        "x-1",
        "é".join('""'),
    ]
)
DOTTED = st.lists(KEYS, min_size=1, max_size=3).map(lambda parts: ".".join(parts))
SPACE = st.sampled_from(["", " ", "\t", "  "])
VALUES = st.recursive(
    st.sampled_from(
        [
            "1",
            "true",
            '"s # no"',
            "'l'",
            '"""m\n[x]\n"""',
            "'''\nk = 1'''",
            "1979-05-27",
            "1_000",
            "inf",
            '"\\u00e9"',
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda v: "[" + ", ".join(v) + "]")
        | st.lists(inner, max_size=2).map(lambda v: "[\n" + "".join(f"  {i}, # c\n" for i in v) + "]")
        | st.lists(st.tuples(KEYS, inner), max_size=2).map(
            lambda v: "{ " + ", ".join(f"{k} = {i}" for k, i in v) + " }"
        )
    ),
    max_leaves=3,
)
COMMENT = st.sampled_from(["", "", " # c", "# [t] = 1"])
LINES = (
    st.tuples(SPACE, DOTTED, VALUES, COMMENT).map(lambda t: f"{t[0]}{t[1]} = {t[2]}{t[3]}")
    | st.tuples(SPACE, DOTTED, COMMENT).map(lambda t: f"{t[0]}[{t[1]}]{t[2]}")
    | st.tuples(SPACE, DOTTED).map(lambda t: f"{t[0]}[[ {t[1]} ]]")
    | st.sampled_from(["", "# comment", "   "])
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Valid TOML of odd shapes: a line that would make it invalid is left out."""
    text = ""
    for line in draw(st.lists(LINES, max_size=9)):
        longer = f"{text}{line}\n"
        try:
            tomllib.loads(longer)
        except tomllib.TOMLDecodeError:
            continue
        text = longer
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
    return text.removesuffix("\n") if draw(st.booleans()) and not text.endswith("\r\n") else text


@given(documents())
def test_any_valid_document_is_edited_rightly_or_refused_untouched(text: str) -> None:
    before = tomllib.loads(text)
    try:
        new = edited(text)
    except EditRefused:
        assert (
            any(not isinstance(before.get(k, {}), dict) for k in ("features", "model_providers"))
            or any(
                isinstance(lookup(before, p), dict | list)
                or isinstance(lookup(before, TABLE), list | str | int | bool)
                for p in (("model_provider",), FLAG)
            )
            or _in_the_way(before)
        )
        return
    assert new.tree == meant(text)
    if lookup(before, TABLE) is None:  # else a table of ours is brought up to date, its lines may go
        spans = Spans(text).pairs
        values = [pair[3:5] for path in (("model_provider",), FLAG) if (pair := spans.get(path))]
        rest = text
        for start, end in sorted(values, reverse=True):
            rest = rest[:start] + rest[end:]
        new_letters = iter(new.text)
        assert all(letter in new_letters for letter in rest), "every other byte is still there, in order"
    assert edited(new.text).text == new.text


@given(documents(), st.sampled_from([TABLE, FLAG, ("model_provider",), ("model",), ("features",)]))
def test_taking_out_what_was_put_in_leaves_what_was_there(text: str, path: KeyPath) -> None:
    before = tomllib.loads(text)
    assume(lookup(before, path) is None)
    value: Any = PROVIDER if path == TABLE else {"q": 1} if path == ("features",) else "v"
    document = TomlText(text)
    try:
        new = (
            document.with_table(path, value) if isinstance(value, dict) else document.with_value(path, value)
        )
    except EditRefused:
        return
    fresh = len(path) > 1 and not has(before, path[:1])
    back = new.without(path, prune=1 if fresh else 0)
    assert back.tree in (before, without_leaf(before, path[:1]))
    assert back.tree == before or lookup(before, path[:1]) == {}


def _in_the_way(before: Tree) -> bool:
    ours = lookup(before, TABLE)
    return ours is not None or not isinstance(before.get("model_providers", {}), dict)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(documents())
def test_what_setup_writes_into_any_valid_document_is_undone_to_the_byte(tmp_path: Path, text: str) -> None:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path / "home")})
    file = tmp_path / "config.toml"
    file.write_bytes(text.encode())
    plan = plan_codex(
        tomllib.loads(text),
        url="http://127.0.0.1:4891",
        program=Program("/opt/dragoman"),
        default_model="glm-5.2",
        has_route={"glm-5.2"}.__contains__,
        parts=("provider", "mcp"),
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
