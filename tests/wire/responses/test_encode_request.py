"""Requests written for Responses upstreams: OpenAI's own and third parties'."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.wire.dialect import Dialect, EffortRule, Limits
from dragoman.wire.errors import BadRequest
from dragoman.wire.translate import EncodedRequest, decode_request, encode_request
from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    Carrier,
    Format,
    Grammar,
    Hosted,
    Image,
    Note,
    Part,
    Reasoning,
    Request,
    Result,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
    User,
    raw,
)

Recorded = Callable[[str], list[dict[str, Any]]]

NATIVE = Dialect(
    realm="openai",
    thinking_key="reasoning",
    reasoning_replay="always",
    freeform_tools=True,
    hosted_tools=frozenset({"web_search"}),
    params=frozenset(
        {"temperature", "top_p", "parallel_tool_calls", "verbosity", "prompt_cache_key", "service_tier"}
    ),
)
THIRD = Dialect(
    realm="third", reasoning_replay="tool_turns", reasoning_required=True, foreign_reasoning="text"
)


def encoded(request: Request, dialect: Dialect = NATIVE, limits: Limits | None = None) -> EncodedRequest:
    return encode_request("responses", request, model="up", dialect=dialect, stream=True, limits=limits)


def body_of(request: Request, dialect: Dialect = NATIVE, limits: Limits | None = None) -> dict[str, Any]:
    return json.loads(encoded(request, dialect, limits).body)


def asked(*turns: Turn, wire: Any = "messages", **fields: Any) -> Request:
    return Request(wire=wire, model="m", turns=turns or (User(parts=(Text(b"hi"),)),), **fields)


HI = User(parts=(Text(b"hi"),))


def test_a_small_conversation_is_written_as_items() -> None:
    request = asked(
        HI,
        Assistant((Text(b"t"), Call(id="c1", name="f", arguments_json=b'{"a":1}'))),
        User(results=(Result(call_id="c1", parts=(Text(b"out"),)),), parts=(Text(b"next"),)),
        system=(Text(b"S"), Text(b"T")),
        max_output_tokens=1000,
    )
    body = body_of(request)
    assert body["instructions"] == "S\n\nT"
    assert (body["model"], body["stream"], body["store"], body["max_output_tokens"]) == (
        "up",
        True,
        False,
        1000,
    )
    assert body["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "out"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "next"}]},
    ]


def test_the_input_comes_last_so_that_prompts_stay_prefixes() -> None:
    assert list(body_of(asked(tools=(Tool(name="f"),))))[-1] == "input"


def test_long_call_ids_are_shortened_alike_in_call_and_result() -> None:
    long_id = "toolu_" + "x" * 80
    request = asked(
        HI,
        Assistant((Call(id=long_id, name="f"),)),
        User(results=(Result(call_id=long_id, parts=(Text(b"o"),)),)),
    )
    _, call, output = body_of(request)["input"]
    assert call["call_id"] == output["call_id"]
    assert len(call["call_id"]) == 64


def test_results_keep_pictures_and_tell_failures() -> None:
    picture = Image(media_type="image/png", data=b"AAAA")
    request = asked(
        HI,
        Assistant((Call(id="a", name="f"), Call(id="b", name="f"), Call(id="c", name="f"))),
        User(
            results=(
                Result(call_id="a", parts=(Text(b"x"), picture)),
                Result(call_id="b", parts=(Text(b"bad"),), is_error=True),
                Result(call_id="c"),
            )
        ),
    )
    outputs = [item["output"] for item in body_of(request)["input"] if item["type"] == "function_call_output"]
    assert outputs == [
        [
            {"type": "input_text", "text": "x"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        ],
        "[tool error] bad",
        "(no output)",
    ]


@pytest.mark.parametrize(
    ("arguments", "written"),
    [(b"", "{}"), (rb"{\"a\":1}", '{"a":1}'), (rb"{\"a\":", '{"_raw":"{\\"a\\":"}')],
)
def test_arguments_are_always_json(arguments: bytes, written: str) -> None:
    request = asked(HI, Assistant((Call(id="c", name="f", arguments=arguments),)))
    assert body_of(request)["input"][1]["arguments"] == written


# --- tools


def test_functions_say_that_they_are_not_strict() -> None:
    tool = Tool(name="f", description=b"D", schema=b'{"type":"object","properties":{}}')
    assert body_of(asked(tools=(tool,)))["tools"] == [
        {
            "type": "function",
            "name": "f",
            "description": "D",
            "strict": False,
            "parameters": {"type": "object", "properties": {}},
        }
    ]


FREEFORM = Tool(
    kind="freeform", name="p", description=b"D", grammar=Grammar(syntax="lark", definition=b"start: x")
)
PATCHED = (
    HI,
    Assistant((Call(id="c", name="p", kind="freeform", arguments=rb"a\nb"),)),
    User(results=(Result(call_id="c", parts=(Text(b"ok"),), kind="freeform"),)),
)


def test_a_freeform_tool_stays_one_where_it_is_understood() -> None:
    body = body_of(asked(*PATCHED, tools=(FREEFORM,), tool_choice=ToolChoice(mode="named", name="p")))
    (tool,) = body["tools"]
    assert tool["format"] == {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    assert body["tool_choice"] == {"type": "custom", "name": "p"}
    assert body["input"][1:] == [
        {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "a\nb"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"},
    ]


def test_a_freeform_tool_becomes_a_function_elsewhere() -> None:
    found = encoded(asked(*PATCHED, tools=(FREEFORM,)), Dialect())
    body = json.loads(found.body)
    (tool,) = body["tools"]
    assert (tool["type"], tool["parameters"]["required"]) == ("function", ["input"])
    assert "start: x" in tool["description"]
    assert json.loads(body["input"][1]["arguments"]) == {"input": "a\nb"}
    assert body["input"][2]["type"] == "function_call_output"
    assert "freeform tools as functions" in found.shims


def test_namespaced_tools_get_flat_names_in_declaration_choice_and_history() -> None:
    request = asked(
        HI,
        Assistant((Call(id="c", name="read", namespace="mcp__fs"),)),
        tools=(Tool(name="read", namespace="mcp__fs"),),
        tool_choice=ToolChoice(mode="named", name="read", namespace="mcp__fs"),
    )
    body = body_of(request)
    assert (
        body["tools"][0]["name"] == body["tool_choice"]["name"] == body["input"][1]["name"] == "mcp__fs__read"
    )
    assert "namespace" not in json.dumps(body)


def test_hosted_tools_pass_only_where_the_provider_runs_them() -> None:
    search = Tool(kind="hosted", name="web_search", json=b'{"type":"web_search","x":1.0}')
    request = asked(tools=(search,), tool_choice=ToolChoice(mode="named", name="web_search"))
    found = encoded(request)
    assert b'{"type":"web_search","x":1.0}' in found.body
    assert json.loads(found.body)["tool_choice"] == {"type": "web_search"}
    with pytest.raises(BadRequest):
        encoded(request, Dialect())
    plain = body_of(asked(tools=(search,), parallel_calls=True), Dialect())
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(plain)


@pytest.mark.parametrize(
    ("modes", "choice", "written"),
    [
        (frozenset({"auto"}), ToolChoice(mode="required"), "auto"),
        (frozenset({"auto", "required"}), ToolChoice(mode="named", name="f"), "required"),
        (frozenset({"auto", "none"}), ToolChoice(mode="none"), "none"),
    ],
)
def test_a_choice_the_provider_refuses_is_lowered(modes: Any, choice: ToolChoice, written: str) -> None:
    body = body_of(asked(tools=(Tool(name="f"),), tool_choice=choice), Dialect(tool_choices=modes))
    assert body["tool_choice"] == written


# --- reasoning


def test_own_reasoning_goes_back_sealed_as_it_came() -> None:
    sealed = Carrier(kind="encrypted", data="ENC==", realm="openai", item_id="rs_1")
    request = asked(HI, Assistant((Reasoning(b"T", carriers=(sealed,)), Text(b"a"))), HI)
    assert body_of(request)["input"][1] == {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "T"}],
        "encrypted_content": "ENC==",
    }


def test_an_item_id_is_sent_only_where_it_is_welcome() -> None:
    sealed = Carrier(kind="encrypted", data="E", realm="r", item_id="rs_1")
    request = asked(HI, Assistant((Reasoning(carriers=(sealed,)), Text(b"a"))), HI)
    assert body_of(request, Dialect(realm="r", item_ids=True))["input"][1]["id"] == "rs_1"
    assert "id" not in body_of(request, Dialect(realm="r"))["input"][1]


def test_foreign_signatures_never_reach_another_provider() -> None:
    foreign = Carrier(kind="signature", data="ErUB", realm="anthropic")
    request = asked(HI, Assistant((Reasoning(b"T", carriers=(foreign,)), Call(id="c", name="f"))))
    assert "ErUB" not in encoded(request).body.decode()
    assert "reasoning_text" not in encoded(request).body.decode()
    assert body_of(request, THIRD)["input"][1] == {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "T"}],
    }


def test_a_provider_that_demands_reasoning_gets_a_blank_before_the_calls() -> None:
    found = encoded(asked(HI, Assistant((Text(b"t"), Call(id="c", name="f"), Call(id="d", name="f")))), THIRD)
    kinds = [item["type"] for item in json.loads(found.body)["input"]]
    assert kinds[1:5] == ["message", "reasoning", "function_call", "function_call"]
    assert "blank reasoning before calls" in found.shims


EFFORTS = (EffortRule(words={"low": "low", "high": "high", "max": "xhigh"}),)


@pytest.mark.parametrize(
    ("wish", "dialect", "limits", "expected"),
    [
        (
            Thinking(mode="adaptive", effort="max"),
            Dialect(),
            Limits(),
            {"effort": "xhigh", "summary": "auto"},
        ),
        (Thinking(mode="adaptive"), Dialect(), Limits(), {"summary": "auto"}),
        (Thinking(effort="low"), Dialect(efforts=EFFORTS), Limits(), {"effort": "low", "summary": "auto"}),
        (Thinking(mode="off"), Dialect(), Limits(), None),
        (Thinking(mode="off"), Dialect(thinks_by_default=True), Limits(), {"effort": "none"}),
        (Thinking(), Dialect(), Limits(), None),
        (Thinking(mode="on", effort="high"), Dialect(), Limits(thinks=False), None),
    ],
)
def test_thinking_is_asked_for_in_the_protocols_words(
    wish: Thinking, dialect: Dialect, limits: Limits, expected: Any
) -> None:
    body = body_of(asked(thinking=wish), dialect, limits)
    assert body.get("reasoning") == expected
    assert ("include" in body) is limits.thinks


# --- parameters


def test_parameters_and_formats_are_written_where_they_are_known() -> None:
    request = asked(
        sampling={"temperature": b"1.0", "top_k": b"4"},
        verbosity="low",
        cache_key="k",
        service_tier="priority",
        format=Format(kind="json_schema", name="out", strict=True, schema=b'{"x":1}'),
        max_output_tokens=9000,
    )
    found = encoded(request, limits=Limits(max_output_tokens=4000))
    body = json.loads(found.body)
    assert b'"temperature":1.0' in found.body
    assert "top_k" not in body
    assert body["text"] == {
        "format": {"type": "json_schema", "name": "out", "strict": True, "schema": {"x": 1}},
        "verbosity": "low",
    }
    assert (body["prompt_cache_key"], body["service_tier"], body["max_output_tokens"]) == (
        "k",
        "priority",
        4000,
    )
    bare = body_of(request, Dialect(params=frozenset(), json_schema="none"))
    assert not {"text", "temperature", "prompt_cache_key", "service_tier"} & set(bare)


def test_a_schema_is_told_in_words_where_only_an_object_can_be_demanded() -> None:
    wanted = Format(kind="json_schema", name="out", schema=b'{"x":"y"}')
    body = body_of(asked(format=wanted, system=(Text(b"S"),)), Dialect(json_schema="object"))
    assert body["text"] == {"format": {"type": "json_object"}}
    assert body["instructions"].startswith("S")
    assert body["instructions"].endswith('{"x":"y"}')


def test_a_client_of_the_same_wire_keeps_its_other_fields_but_not_its_metadata(recorded: Recorded) -> None:
    sent = {**recorded("task")[0], "truncation": "auto", "x_unknown": {"a": 1.5}}
    request = decode_request("responses", json.dumps(sent).encode())
    found = encoded(request)
    body = json.loads(found.body)
    assert (body["truncation"], body["x_unknown"]) == ("auto", {"a": 1.5})
    assert "client_metadata" not in body
    assert b"git_commit" not in found.body
    assert body["prompt_cache_key"] == sent["prompt_cache_key"]
    assert "truncation" not in body_of(request, Dialect(strip_fields=frozenset({"truncation"})))


@pytest.mark.parametrize("wire", ["responses", "chat", "messages"])
@pytest.mark.parametrize("name", ["task", "mcp", "code_mode", "tool_search", "reasoning", "view_image"])
def test_each_recorded_request_begins_like_the_one_before(recorded: Recorded, name: str, wire: Any) -> None:
    """Prompt caches hit on prefixes: nothing before the new items may change from turn to turn."""
    bodies: list[bytes] = []
    for sent in recorded(name):
        request = decode_request("responses", json.dumps(sent).encode())
        if name == "tool_search":  # tools found on the way are declared from then on: no prefix to be kept
            assert encode_request(wire, request, model="up", dialect=Dialect(), stream=True).body
            continue
        found = encode_request(wire, request, model="up", dialect=Dialect(), stream=True)
        assert b"client_metadata" not in found.body
        assert b'"id":"msg_' not in found.body
        bodies.append(found.body)
    for earlier, later in itertools.pairwise(bodies):
        assert later.startswith(earlier.removesuffix(b"]}"))


# --- there and back

words = st.text(min_size=1, max_size=10).map(raw)
ids = st.text("abcXYZ019_-", min_size=1, max_size=12)
names = st.sampled_from(["f", "g", "long_name"])
thoughts = st.builds(
    lambda text, data: Reasoning(text, carriers=(Carrier(kind="encrypted", data=data, realm="openai"),)),
    words,
    st.text("abc=", min_size=1, max_size=6),
)
functions = st.builds(
    lambda name, args: Call(id="", name=name, arguments=raw(json.dumps(args))),
    names,
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
)
freeforms = st.builds(lambda text: Call(id="", name="p", kind="freeform", arguments=text), words)
pictures = st.builds(lambda data: Image(media_type="image/png", data=data), st.just(b"AAAA"))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Turn, ...]:
    """A legal conversation: rounds of calls with all their results, texts, thoughts, notes."""
    turns: list[Turn] = [User(parts=(Text(draw(words)),))]
    used: set[str] = set()
    for _ in range(draw(st.integers(0, 4))):
        parts: list[AssistantPart] = []
        results: list[Result] = []
        for part in draw(
            st.lists(st.one_of(words.map(Text), thoughts, functions, freeforms), min_size=1, max_size=4)
        ):
            if isinstance(part, Call):
                call_id = draw(ids.filter(lambda i: i not in used))
                used.add(call_id)
                part = Call(id=call_id, name=part.name, kind=part.kind, arguments=part.arguments)
                told: list[Part] = draw(
                    st.lists(st.one_of(words.map(Text), pictures), min_size=1, max_size=1)
                )
                results.append(Result(call_id=call_id, parts=tuple(told), kind=part.kind))
            parts.append(part)
        turns.append(Assistant(tuple(parts)))
        asked_next = draw(st.lists(words.map(Text), min_size=0 if results else 1, max_size=2))
        turns.append(User(results=tuple(results), parts=tuple(asked_next)))
        if draw(st.booleans()):
            turns += [Note((Text(draw(words)),)), User(parts=(Text(draw(words)),))]
    return tuple(turns)


def without_marks(turn: Turn) -> Turn:
    """What the protocol does not say: which provider sealed a thought."""
    if not isinstance(turn, Assistant):
        return turn
    return Assistant(
        tuple(
            Reasoning(p.text, carriers=tuple(Carrier(kind=c.kind, data=c.data) for c in p.carriers))
            if isinstance(p, Reasoning)
            else p
            for p in turn.parts
        )
    )


@settings(max_examples=80, deadline=None)
@given(turns=conversations())
def test_a_conversation_survives_the_way_there_and_back(turns: tuple[Turn, ...]) -> None:
    request = asked(*turns, wire="responses", tools=(Tool(kind="freeform", name="p"), Tool(name="f")))
    again = decode_request("responses", encoded(request).body)
    assert again.turns == tuple(without_marks(turn) for turn in turns)
    assert [(tool.kind, tool.name) for tool in again.tools] == [("freeform", "p"), ("function", "f")]


def test_what_only_the_vendor_understands_comes_back_as_it_was() -> None:
    item = b'{"type": "web_search_call", "id": "ws_1", "x": 1.50}'
    request = asked(
        HI, Assistant((Hosted("responses", "web_search_call", item), Text(b"a"))), HI, wire="responses"
    )
    assert item in encoded(request).body
    assert b"web_search_call" not in encoded(asked(*request.turns, wire="messages")).body
