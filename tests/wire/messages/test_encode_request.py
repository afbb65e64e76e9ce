"""Turns, written for a Messages upstream."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect, EffortRule, Limits
from dragoman.wire.errors import BadRequest
from dragoman.wire.turns import (
    Assistant,
    Call,
    Carrier,
    File,
    Format,
    Image,
    Note,
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

HI = User(parts=(Text(b"hi"),))
SIGNED = Dialect(
    realm="home",
    thinking_key="adaptive",
    effort_key="output_config",
    efforts=(EffortRule(words={"high": "high", "xhigh": "max"}),),
    reasoning_replay="always",
    sampling_with_thinking=False,
    late_system=True,
)
BUDGETED = Dialect(realm="home", thinking_key="thinking", budget_tokens=True, reasoning_replay="always")


def sent(
    *turns: Turn, dialect: Dialect | None = None, limits: Limits | None = None, **fields: Any
) -> dict[str, Any]:
    request = Request(wire=fields.pop("wire", "responses"), model="m", turns=turns or (HI,), **fields)
    encoded = translate.encode_request(
        "messages", request, model="up", dialect=dialect or Dialect(), stream=True, limits=limits
    )
    return json.loads(encoded.body)


def messages(*turns: Turn, **options: Any) -> list[dict[str, Any]]:
    return sent(*turns, **options)["messages"]


def test_the_smallest_request() -> None:
    assert sent() == {
        "model": "up",
        "max_tokens": 32_000,
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


@pytest.mark.parametrize(
    ("wanted", "limits", "ceiling"),
    [
        (None, Limits(), 32_000),
        (None, Limits(max_output_tokens=8_000), 8_000),
        (None, Limits(default_output_tokens=64_000), 64_000),
        (200_000, Limits(max_output_tokens=131_072), 131_072),
        (50, Limits(), 50),
    ],
)
def test_there_is_always_a_ceiling(wanted: int | None, limits: Limits, ceiling: int) -> None:
    assert sent(max_output_tokens=wanted, limits=limits)["max_tokens"] == ceiling


def test_all_results_of_a_round_stand_first_in_one_message() -> None:
    turns = (
        HI,
        Assistant((Text(b"t"), Call("a", "f"), Call("b", "g"))),
        User((Result("a", (Text(b"1"),)), Result("b", (Text(b"2"),), is_error=True)), (Text(b"and"),)),
    )
    answered = messages(*turns)[2]
    assert answered["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "1"},
        {"type": "tool_result", "tool_use_id": "b", "content": "2", "is_error": True},
        {"type": "text", "text": "and"},
    ]


def test_odd_ids_become_plain_ones_on_both_sides() -> None:
    call_id = "functions.Bash:0"
    turns = (HI, Assistant((Call(call_id, "f"),)), User((Result(call_id, (Text(b"x"),)),)))
    call, answer = messages(*turns)[1:]
    assert call["content"][0]["id"] == answer["content"][0]["tool_use_id"]
    assert call["content"][0]["id"].replace("_", "").isalnum()


@pytest.mark.parametrize(
    ("arguments", "value"),
    [("", {}), ('{"a":1}', {"a": 1}), ('{"a":', {"_raw": '{"a":'}), ("[1]", {"_raw": "[1]"})],
)
def test_input_is_always_an_object(arguments: str, value: object) -> None:
    said = messages(HI, Assistant((Call("c", "f", arguments=raw(arguments)),)))[1]
    assert said["content"][0]["input"] == value


def test_a_freeform_call_carries_its_whole_text() -> None:
    said = messages(HI, Assistant((Call("c", "p", kind="freeform", arguments=raw('a"\n')),)))[1]
    assert said["content"][0]["input"] == {"input": 'a"\n'}


def test_pictures_and_documents_have_their_sources() -> None:
    parts = (
        Image(media_type="image/png", data=b"AAAA"),
        Image(url=b"https://example.test/x.png"),
        File(media_type="application/pdf", data=b"BBBB", filename=b"a.pdf"),
        File(text=b"T"),
    )
    content = messages(User(parts=parts))[0]["content"]
    assert [block["source"] for block in content] == [
        {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        {"type": "url", "url": "https://example.test/x.png"},
        {"type": "base64", "media_type": "application/pdf", "data": "BBBB"},
        {"type": "text", "media_type": "text/plain", "data": "T"},
    ]
    assert content[2]["title"] == "a.pdf"


def test_a_picture_of_a_tool_stays_in_its_result() -> None:
    parts = (Text(b"cap"), Image(media_type="image/png", data=b"AAAA"))
    turns = (HI, Assistant((Call("c", "view"),)), User((Result("c", parts),)))
    content = messages(*turns)[2]["content"][0]["content"]
    assert [block["type"] for block in content] == ["text", "image"]


def test_white_texts_are_left_out() -> None:
    turns = (User(parts=(Text(b"hi"), Text(b" \\n"))), Assistant((Text(b"\\t"), Text(b"a"))), HI)
    said = messages(*turns)
    assert [len(message["content"]) for message in said] == [1, 1, 1]


def test_the_user_begins_and_a_prefill_does_not_end_in_white_space() -> None:
    said = messages(Assistant((Text(b"prefill? \\n"),)))
    assert [message["role"] for message in said] == ["user", "assistant"]
    assert said[1]["content"][0]["text"] == "prefill?"


def test_a_late_note_is_a_system_message_only_where_it_is_taken() -> None:
    turns = (HI, Note((Text(b"n"),)), Assistant((Text(b"a"),)), HI)
    assert [message["role"] for message in messages(*turns)] == ["user", "assistant", "user"]
    taken = messages(*turns, dialect=Dialect(late_system=True))
    assert [message["role"] for message in taken] == ["user", "system", "assistant", "user"]


def test_system_texts_are_one_string_until_something_is_marked() -> None:
    assert sent(system=(Text(b"a"), Text(b"b")))["system"] == "a\n\nb"
    marked = sent(system=(Text(b"a"), Text(b"b", cache_control=b'{"type":"ephemeral"}')))["system"]
    assert marked[1] == {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}


def test_cache_marks_are_set_for_clients_that_know_none() -> None:
    turns = (HI, Assistant((Text(b"a"),)), HI)
    body = sent(*turns, dialect=Dialect(cache_marks=True), system=(Text(b"s"),))
    assert body["system"][-1]["cache_control"] == {"type": "ephemeral"}
    marked = [("cache_control" in message["content"][-1]) for message in body["messages"]]
    assert marked == [True, False, True]


def test_tools_have_closed_roots_and_no_nulls() -> None:
    union = b'{"anyOf":[{"properties":{"a":{}}},{"properties":{"b":{}}}]}'
    tools = sent(tools=(Tool(name="f"), Tool(name="g", schema=union, description=b"D")))["tools"]
    assert tools[0] == {"name": "f", "input_schema": {"type": "object", "properties": {}}}
    assert "anyOf" not in tools[1]["input_schema"]
    assert tools[1]["description"] == "D"


@pytest.mark.parametrize(
    ("choice", "parallel", "said"),
    [
        (None, None, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice(mode="required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice(mode="named", name="f"), None, {"type": "tool", "name": "f"}),
        (ToolChoice(mode="none"), False, {"type": "none"}),
    ],
)
def test_choices_are_written_in_the_protocols_words(
    choice: ToolChoice | None, parallel: bool | None, said: object
) -> None:
    body = sent(tools=(Tool(name="f"),), tool_choice=choice, parallel_calls=parallel)
    assert body.get("tool_choice") == said


def test_a_demand_for_a_tool_nobody_runs_is_refused_clearly() -> None:
    hosted = Tool(kind="hosted", name="web_search", type="web_search_20250305")
    with pytest.raises(BadRequest, match="web_search"):
        sent(tools=(hosted,), tool_choice=ToolChoice(mode="required"))


def test_adaptive_thinking_has_an_effort_and_no_temperature() -> None:
    body = sent(thinking=Thinking(effort="xhigh"), sampling={"temperature": b"0.3"}, dialect=SIGNED)
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "max"}
    assert "temperature" not in body


def test_a_temperature_of_one_is_always_fine() -> None:
    body = sent(thinking=Thinking(effort="high"), sampling={"temperature": b"1.0"}, dialect=SIGNED)
    assert body["temperature"] == 1.0


def test_budgeted_thinking_stays_below_the_ceiling() -> None:
    body = sent(thinking=Thinking(effort="high"), max_output_tokens=2_000, dialect=BUDGETED)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 1_999}


def thinking(realm: str | None, kind: Any = "signature", data: str = "SIG") -> Reasoning:
    return Reasoning(b"T", carriers=(Carrier(kind=kind, data=data, realm=realm),))


def test_its_own_thinking_goes_back_first_and_byte_for_byte() -> None:
    said = messages(HI, Assistant((thinking("home"), Text(b"t"), Call("c", "f"))), dialect=SIGNED)[1]
    assert said["content"][0] == {"type": "thinking", "thinking": "T", "signature": "SIG"}


def test_redacted_thinking_goes_back_as_it_was() -> None:
    said = messages(HI, Assistant((thinking("home", "redacted"), Text(b"t"))), HI, dialect=SIGNED)[1]
    assert said["content"][0] == {"type": "redacted_thinking", "data": "SIG"}


@pytest.mark.parametrize("found", [thinking("other"), thinking(None, data=""), Reasoning(b"T")])
def test_thinking_nobody_could_verify_is_left_out(found: Reasoning) -> None:
    said = messages(HI, Assistant((found, Text(b"t"))), HI, dialect=SIGNED, wire="messages")[1]
    assert [block["type"] for block in said["content"]] == ["text"]


def test_unsigned_thinking_is_kept_where_no_signature_is_needed() -> None:
    easy = Dialect(realm="home", unsigned_thinking=True, reasoning_replay="always", foreign_reasoning="text")
    said = messages(HI, Assistant((thinking("other"), Text(b"t"))), HI, dialect=easy)[1]
    assert said["content"][0] == {"type": "thinking", "thinking": "T", "signature": ""}


def test_a_tool_loop_that_began_elsewhere_goes_on_without_budgeted_thinking() -> None:
    turns = (HI, Assistant((thinking("other"), Call("c", "f"))), User((Result("c", (Text(b"x"),)),)))
    assert "thinking" not in sent(*turns, thinking=Thinking(effort="high"), dialect=BUDGETED)
    own = (HI, Assistant((thinking("home"), Call("c", "f"))), User((Result("c", (Text(b"x"),)),)))
    assert sent(*own, thinking=Thinking(effort="high"), dialect=BUDGETED)["thinking"]["type"] == "enabled"


def called(call_id: str, *before: Reasoning) -> tuple[Turn, Turn]:
    return Assistant((*before, Call(call_id, "f"))), User((Result(call_id, (Text(b"x"),)),))


@pytest.mark.parametrize(
    ("loop", "thinks"),
    [
        ([*called("c", thinking("home")), *called("d")], True),
        ([*called("c"), *called("d", thinking("home"))], False),
        ([*called("c", thinking("other")), *called("d", thinking("home"))], False),
        ([*called("c"), Assistant((Text(b"done"),)), HI, *called("d", thinking("home"))], True),
        ([*called("c"), Assistant((Text(b"done"),)), HI], True),
        ([Assistant((Text(b"t"),)), HI, *called("d")], False),
    ],
)
def test_a_tool_loop_keeps_the_thinking_it_began_with(loop: list[Turn], thinks: bool) -> None:
    body = sent(HI, *loop, thinking=Thinking(effort="high"), dialect=BUDGETED)
    assert ("thinking" in body) is thinks


def test_a_provider_that_takes_any_history_thinks_in_every_loop() -> None:
    easy = msgspec.structs.replace(BUDGETED, loops_begin_thinking=False)
    body = sent(HI, *called("c"), thinking=Thinking(effort="high"), dialect=easy)
    assert body["thinking"]["type"] == "enabled"


def test_a_demanded_schema_is_part_of_the_output_config() -> None:
    shape = Format(kind="json_schema", schema=b'{"type":"object"}')
    assert sent(format=shape)["output_config"]["format"]["schema"] == {"type": "object"}
    told = sent(format=shape, dialect=Dialect(json_schema="object"))
    assert "output_config" not in told
    assert '{"type":"object"}' in told["system"]


def test_chat_only_wishes_stay_behind() -> None:
    body = sent(sampling={"frequency_penalty": b"1", "seed": b"4"}, stop=("X",), user="id", verbosity="low")
    assert body["stop_sequences"] == ["X"]
    assert not {"frequency_penalty", "seed", "user", "metadata", "verbosity"} & set(body)
