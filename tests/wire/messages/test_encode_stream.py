"""Messages answers, written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from checkers import MessagesAnswer

from dragoman.wire import envelope, translate
from dragoman.wire.errors import failure
from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Fail,
    Finish,
    FinishReason,
    Open,
    Ping,
    ReasoningBlock,
    Start,
    TextBlock,
    Usage,
)
from dragoman.wire.tools import ToolTable
from dragoman.wire.turns import Carrier, Request

OWN = Carrier(kind="signature", data="SIG", realm="home", model="up")


def encoder() -> Any:
    request = Request(wire="messages", model="asked[1m]", stream=True)
    return translate.stream_encoder(
        "messages", request=request, tools=ToolTable(), response_id="r1", created_at=5
    )


def block(kind: Any, *texts: bytes, carriers: tuple[Carrier, ...] = ()) -> list[Event]:
    return [Open(kind), *(Delta(text) for text in texts), Close(carriers)]


def answer(*events: Event) -> MessagesAnswer:
    return MessagesAnswer(encoder().feed(events))


def test_the_asked_model_is_named_whatever_the_upstream_calls_itself() -> None:
    assert answer(Start("u", "up"), Finish("end")).message["model"] == "asked[1m]"


def test_every_event_has_its_event_line_and_the_message_starts_once() -> None:
    stream = encoder().feed([Start(), *block(TextBlock(), b"a"), Ping(), Finish("end")])
    assert stream.count(b"event: message_start\n") == 1
    assert stream.count(b"event: ") == stream.count(b"data: ")
    assert b"[DONE]" not in stream


def test_thinking_is_signed_with_an_envelope_that_holds_all_of_it() -> None:
    (thinking,) = answer(*block(ReasoningBlock(), b"a", b"b", carriers=(OWN,)), Finish("end")).content
    found = envelope.unwrap(thinking["signature"])
    assert found is not None
    assert (found.text, found.carriers) == (b"ab", (OWN,))


def test_thinking_nobody_wants_back_has_an_empty_signature() -> None:
    (thinking,) = answer(*block(ReasoningBlock(), b"a"), Finish("end")).content
    assert (thinking["thinking"], thinking["signature"]) == ("a", "")


def test_thinking_without_words_is_redacted() -> None:
    (thinking,) = answer(*block(ReasoningBlock(), carriers=(OWN,)), Finish("end")).content
    assert thinking["type"] == "redacted_thinking"
    assert envelope.unwrap(thinking["data"]) is not None


def test_empty_blocks_are_never_sent_and_leave_no_gap() -> None:
    found = answer(
        *block(TextBlock()), *block(ReasoningBlock()), *block(TextBlock(), b"", b"a"), Finish("end")
    )
    assert [piece["text"] for piece in found.content] == ["a"]


def test_a_call_comes_in_deltas_with_a_plain_id() -> None:
    found = answer(*block(CallBlock("functions.Bash:0", "Bash"), b'{\\"a\\":', b"1}"), Finish("tool_use"))
    assert found.content[0]["input_raw"] == '{"a":1}'
    assert found.stop_reason == "tool_use"


def test_a_call_without_arguments_needs_no_delta() -> None:
    assert answer(*block(CallBlock("c", "List")), Finish("tool_use")).content[0]["input_raw"] == ""


def test_usage_leaves_out_what_the_cache_served() -> None:
    usage = Usage(input_tokens=10, output_tokens=3, cache_read_tokens=6, cache_write_tokens=2)
    assert answer(usage, Finish("end")).usage == {
        "input_tokens": 2,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 6,
        "output_tokens": 3,
    }


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("end", "end_turn"),
        ("length", "max_tokens"),
        ("refusal", "refusal"),
        ("context", "model_context_window_exceeded"),
        ("pause", "pause_turn"),
        ("stop_sequence", "stop_sequence"),
    ],
)
def test_stop_reasons(reason: FinishReason, word: str) -> None:
    assert answer(Finish(reason, stop_sequence="X")).stop_reason == word


def test_a_broken_answer_ends_in_an_error_and_nothing_else() -> None:
    found = encoder()
    stream = found.feed([Open(TextBlock()), Delta(b"a"), Fail(failure("truncated", "it broke off"))])
    read = MessagesAnswer(stream)
    assert read.error == {"type": "api_error", "message": "it broke off"}
    assert b"message_stop" not in stream
    assert found.feed([Finish("end")]) == found.keep_alive() == found.fail(failure("upstream", "x")) == b""


def test_a_failure_before_anything_is_an_error_event() -> None:
    assert MessagesAnswer(encoder().fail(failure("rate", "slow"))).error == {
        "type": "rate_limit_error",
        "message": "slow",
    }


def test_a_sign_of_life_is_a_ping_after_the_message_has_started() -> None:
    found = encoder()
    alive = found.keep_alive() + found.keep_alive()
    assert alive.startswith(b"event: message_start\n")
    assert alive.count(b"event: ping\n") == 2
    MessagesAnswer(alive + found.feed([Finish("end")]))


def whole(*events: Event) -> dict[str, Any]:
    request = Request(wire="messages", model="asked")
    return json.loads(
        translate.encode_body(
            "messages", events, request=request, tools=ToolTable(), response_id="r1", created_at=5
        )
    )


def test_a_whole_answer() -> None:
    body = whole(
        *block(ReasoningBlock(), b"R", carriers=(OWN,)),
        *block(TextBlock(), b"x"),
        *block(CallBlock("Bash:0", "Bash"), b'{\\"n\\":1.0}'),
        Usage(input_tokens=4, output_tokens=2),
        Finish("tool_use"),
    )
    assert [piece["type"] for piece in body["content"]] == ["thinking", "text", "tool_use"]
    assert body["content"][2]["input"] == {"n": 1.0}
    assert (body["stop_reason"], body["stop_sequence"], body["model"]) == ("tool_use", None, "asked")


def test_an_empty_answer_has_no_content() -> None:
    assert whole(*block(TextBlock()), Finish("end"))["content"] == []


def test_broken_arguments_are_never_replaced_by_others() -> None:
    body = whole(*block(CallBlock("c", "f"), b'{\\"command\\": \\"rm'), Finish("tool_use"))
    assert body["content"][0]["input"] == {"__unparsedToolInput": {"raw": '{"command": "rm'}}
