"""The tool table: both names of every tool."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.wire.dialect import Dialect
from dragoman.wire.tools import (
    ToolName,
    ToolTable,
    arguments_object,
    arguments_text,
    safe_name,
    unwrap_freeform,
    wrap_freeform,
)
from dragoman.wire.turns import Call, Tool, plain, raw

LONG = "mcp__" + "x" * 70


@given(st.lists(st.tuples(st.none() | st.text(max_size=20), st.text(min_size=1, max_size=90)), max_size=8))
def test_every_tool_comes_back_under_the_clients_names(named: list[tuple[str | None, str]]) -> None:
    table = ToolTable([Tool(name=name, namespace=namespace) for namespace, name in named])
    upstream = [entry.upstream_name for entry in table.entries]
    assert len(set(upstream)) == len(upstream) == len(set(named))
    for namespace, name in named:
        flat = table.upstream_name(name, namespace)
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", flat)
        assert table.restore(flat) == ToolName(name, namespace)


def test_a_namespaced_tool_gets_a_flat_name_that_shows_both() -> None:
    table = ToolTable([Tool(name="read", namespace="mcp__fs")])
    assert table.entries[0].upstream_name == "mcp__fs__read"


def test_long_names_that_share_a_beginning_stay_apart() -> None:
    table = ToolTable([Tool(name=f"{LONG}_a"), Tool(name=f"{LONG}_b")])
    one, other = (entry.upstream_name for entry in table.entries)
    assert one != other
    assert table.restore(one).name == f"{LONG}_a"


def test_a_flattened_name_that_is_taken_already_gets_another_one() -> None:
    table = ToolTable([Tool(name="a__b"), Tool(name="b", namespace="a")])
    one, other = (entry.upstream_name for entry in table.entries)
    assert one == "a__b"
    assert one != other
    assert table.restore(other) == ToolName("b", "a")


def test_the_first_declaration_of_a_name_wins() -> None:
    table = ToolTable([Tool(name="f", description=b"first"), Tool(name="f", description=b"second")])
    assert [entry.tool.description for entry in table.entries] == [b"first"]


def test_a_name_nobody_declared_stays_what_it_is() -> None:
    assert ToolTable([Tool(name="f")]).restore("g") == ToolName("g")


def test_history_of_an_undeclared_tool_gets_the_name_a_declaration_would_have_given() -> None:
    declared = ToolTable([Tool(name="do it", namespace="mcp__x")])
    assert ToolTable().upstream_name("do it", "mcp__x") == declared.entries[0].upstream_name


def test_a_bare_name_finds_its_only_namespace() -> None:
    table = ToolTable([Tool(name="exec", namespace="functions")])
    assert table.upstream_name("exec") == "functions__exec"


def test_freeform_tools_are_wrapped_unless_the_upstream_knows_them() -> None:
    tool = Tool(name="apply_patch", kind="freeform")
    assert ToolTable([tool]).is_wrapped("apply_patch")
    native = ToolTable([tool], dialect=Dialect(freeform_tools=True), wire="responses")
    assert not native.is_wrapped("apply_patch")
    assert native.restore("apply_patch").kind == "freeform"


def test_hosted_tools_are_refused_unless_the_provider_runs_them() -> None:
    tool = Tool(kind="hosted", name="web_search", type="web_search_20250305")
    assert ToolTable([tool]).refused == [tool]
    table = ToolTable([tool], dialect=Dialect(hosted_tools=frozenset({"web_search_*"})))
    assert [entry.tool for entry in table.entries] == [tool]


def test_deferred_tools_are_known_but_not_offered() -> None:
    table = ToolTable([Tool(name="later", deferred=True)])
    assert not table
    assert table.restore("later") == ToolName("later")


@given(st.text())
def test_a_freeform_text_survives_its_wrapping(text: str) -> None:
    sound = raw(text.encode("utf-8", "replace").decode())
    assert unwrap_freeform(raw(wrap_freeform(sound).decode())) == sound


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"patch":"P"}', "P"),
        ('{"input":"P","why":"x"}', "P"),
        ('{"a":"1","b":"2"}', '{"a":"1","b":"2"}'),
        ('{"input":5}', '{"input":5}'),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"input":"cut', '{"input":"cut'),
    ],
)
def test_a_model_that_ignored_the_freeform_schema_is_met_half_way(arguments: str, text: str) -> None:
    assert plain(unwrap_freeform(raw(arguments))) == text


@pytest.mark.parametrize(
    ("arguments", "value"),
    [("", b"{}"), ("  ", b"{}"), (' {"a":1.0}', b'{"a":1.0}'), ("[1]", None), ('{"a":', None), ("5", None)],
)
def test_arguments_are_an_object_or_nothing(arguments: str, value: bytes | None) -> None:
    assert arguments_object(Call("c", "f", arguments=raw(arguments))) == value


def test_arguments_keep_their_spelling_both_ways() -> None:
    spelled = b'{"n":1.0,"t":"\\u00e9\\n"}'
    call = Call("c", "f", arguments_json=spelled)
    assert arguments_object(call) == spelled
    assert plain(arguments_text(call)).encode() == spelled


def test_a_safe_name_is_not_touched() -> None:
    assert safe_name("Read_2-x") == "Read_2-x"
