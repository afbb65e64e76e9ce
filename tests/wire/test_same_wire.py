"""Requests for an upstream of the client's own wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dragoman.wire import envelope
from dragoman.wire.dialect import Dialect, EffortRule
from dragoman.wire.ids import safe_id
from dragoman.wire.messages.billing_line import without_billing_line
from dragoman.wire.translate import EncodedRequest, Limits, forward_request
from dragoman.wire.turns import Carrier, Wire

ANTHROPIC = Dialect(
    realm="anthropic",
    checked=True,
    thinking_key="adaptive",
    effort_key="output_config",
    efforts=(EffortRule(words={"low": "low", "medium": "medium", "high": "high"}),),
    reasoning_replay="always",
    late_system=True,
    billing_header=True,
    hosted_tools=frozenset({"*"}),
    params=frozenset({"temperature", "top_p", "top_k", "stop", "parallel_tool_calls"}),
)
NAMES = ["197_task_1", "197_task_4", "329_task_1", "329_task_4", "329_opus", "197_title", "329_websearch"]


def forward(body: object, dialect: Dialect, wire: Wire = "messages", model: str = "up") -> EncodedRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return forward_request(wire, raw, model=model, dialect=dialect, limits=Limits())


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_request_keeps_its_bytes(
    name: str, claude_request: Callable[[str], dict[str, Any]]
) -> None:
    body = json.dumps(claude_request(name), indent=2)
    asked = claude_request(name)["model"]
    spliced = body.replace(f'"model": "{asked}"', '"model": "up"', 1).encode()
    assert forward(body.encode(), Dialect(billing_header=True)).body == spliced


@pytest.mark.parametrize("name", NAMES)
def test_a_clean_request_keeps_its_bytes_although_it_is_checked(
    name: str, claude_request: Callable[[str], dict[str, Any]]
) -> None:
    body = claude_request(name)
    found = forward(body, ANTHROPIC, model=body["model"])
    assert found.shims == ()
    assert found.body == json.dumps(body).encode()


BILLING = '{"type": "text", "text": "x-anthropic-billing-header: cc_version=1; \\"x\\""}, '


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_billing_line_is_cut_out_for_other_vendors_and_nothing_else(
    name: str, checked: bool, claude_request: Callable[[str], dict[str, Any]]
) -> None:
    body = claude_request(name)
    dialect = msgspec.structs.replace(ANTHROPIC, billing_header=False, checked=checked)
    found = forward(body, dialect, model=body["model"])
    assert body["system"][0]["text"].startswith("x-anthropic-billing-header")
    assert found.shims == ("billing line left out",)
    assert found.body == json.dumps({**body, "system": body["system"][1:]}).encode()


@pytest.mark.parametrize(
    ("body", "cut"),
    [
        ('{"model": "m", "system": [' + BILLING + '{"type": "text", "text": "s"}], "messages": []}', True),
        ('{"model": "m", "system": [{"type": "text", "text": "s"}], "messages": [' + BILLING + "{}]}", False),
        ('{"model": "m", "messages": [{"role": "user", "content": [' + BILLING + "{}]}]}", False),
        ('{"model": "m", "system": "x-anthropic-billing-header: a", "messages": []}', False),
        ('{"model": "m", "system": [' + BILLING, False),
    ],
)
def test_only_a_block_at_the_head_of_the_system_text_is_a_billing_line(body: str, cut: bool) -> None:
    found = without_billing_line(body.encode()).decode()
    assert found == (body.replace(BILLING, "") if cut else body)


def conversation(*messages: object, **fields: object) -> dict[str, Any]:
    return {
        "model": "m",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hi"}, *messages],
        **fields,
    }


def assistant(*blocks: object) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def answered(call_id: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": "ok"}]}


def sent(found: EncodedRequest) -> dict[str, Any]:
    assert found.shims[-1] == "request written anew"
    return json.loads(found.body)


def test_an_odd_call_id_is_mended_on_both_sides() -> None:
    call = {"type": "tool_use", "id": "Bash:0", "name": "Bash", "input": {}}
    messages = sent(forward(conversation(assistant(call), answered("Bash:0")), ANTHROPIC))["messages"]
    assert messages[1]["content"][0]["id"] == messages[2]["content"][0]["tool_use_id"] != "Bash:0"


def test_an_odd_id_that_was_wrapped_before_keeps_its_bytes() -> None:
    call_id = safe_id("functions.Bash:0")
    call = {"type": "tool_use", "id": call_id, "name": "Bash", "input": {}}
    assert forward(conversation(assistant(call), answered(call_id)), ANTHROPIC).shims == ()


def test_unsigned_thinking_is_dropped_where_signatures_count() -> None:
    thinking = {"type": "thinking", "thinking": "T", "signature": ""}
    body = conversation(assistant(thinking, {"type": "text", "text": "a"}), {"role": "user", "content": "x"})
    assert sent(forward(body, ANTHROPIC))["messages"][1]["content"] == [{"type": "text", "text": "a"}]


def test_signed_thinking_keeps_its_bytes() -> None:
    thinking = {"type": "thinking", "thinking": "T", "signature": "EqRe"}
    body = conversation(assistant(thinking, {"type": "text", "text": "a"}), {"role": "user", "content": "x"})
    assert forward(body, ANTHROPIC).shims == ()


def test_an_envelope_never_reaches_a_provider_of_the_same_wire() -> None:
    sealed = envelope.wrap(b"T", (Carrier(kind="reasoning_content", realm="elsewhere"),))
    thinking = {"type": "thinking", "thinking": "T", "signature": sealed}
    body = conversation(assistant(thinking, {"type": "text", "text": "a"}), {"role": "user", "content": "x"})
    assert b"gw1." not in forward(body, Dialect(realm="plain")).body


def test_its_own_envelope_comes_home_as_the_signature_it_held() -> None:
    sealed = envelope.wrap(b"T", (Carrier(kind="signature", data="EqRe", realm="anthropic"),))
    thinking = {"type": "thinking", "thinking": "T", "signature": sealed}
    body = conversation(assistant(thinking, {"type": "text", "text": "a"}), {"role": "user", "content": "x"})
    first = sent(forward(body, ANTHROPIC))["messages"][1]["content"][0]
    assert first == {"type": "thinking", "thinking": "T", "signature": "EqRe"}


def test_a_late_system_message_becomes_user_words_where_the_role_is_refused() -> None:
    dialect = Dialect(realm="z", checked=True)
    body = conversation(
        {"role": "system", "content": "mid"},
        assistant({"type": "text", "text": "a"}),
        {"role": "user", "content": "x"},
    )
    messages = sent(forward(body, dialect))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert "mid" in json.dumps(messages[0])


def test_fields_a_provider_refuses_are_stripped_and_unknown_ones_stay() -> None:
    dialect = Dialect(realm="z", checked=True, strip_fields=frozenset({"context_management"}))
    body = sent(forward(conversation(context_management={}, x_new=[1.0], metadata={"user_id": "u"}), dialect))
    assert "context_management" not in body
    assert body["x_new"] == [1.0]
    assert body["metadata"] == {"user_id": "u"}


@pytest.mark.parametrize("odd", [b"\\ud83d", b"a\nb", b"\xff"])
def test_a_body_no_strict_reader_takes_is_checked_all_the_same(odd: bytes) -> None:
    dialect = Dialect(realm="z", checked=True, strip_fields=frozenset({"context_management"}))
    asked = b'{"model":"m","max_tokens":9,"context_management":{},"messages":[{"role":"user","content":"'
    body = sent(forward(asked + odd + b'"}]}', dialect))
    assert "context_management" not in body


@pytest.mark.parametrize("by_default", [False, True])
def test_a_provider_that_thinks_by_default_is_told_when_it_need_not(by_default: bool) -> None:
    dialect = Dialect(realm="z", checked=True, thinking_key="thinking", thinks_by_default=by_default)
    found = forward(conversation(), dialect)
    if by_default:
        assert sent(found)["thinking"] == {"type": "disabled"}
    else:
        assert found.shims == ()
    asked = conversation(thinking={"type": "disabled"})
    assert forward(asked, dialect).shims == ()


def test_blocks_nobody_here_knows_survive_being_written_anew() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1.0}}
    thinking = {"type": "thinking", "thinking": "T", "signature": ""}
    body = conversation(
        assistant(thinking, block, {"type": "text", "text": "a"}), {"role": "user", "content": "x"}
    )
    assert sent(forward(body, ANTHROPIC))["messages"][1]["content"][0] == block


def test_missing_thinking_is_filled_in_where_it_is_demanded() -> None:
    dialect = Dialect(
        realm="d", checked=True, reasoning_required=True, unsigned_thinking=True, thinking_key="thinking"
    )
    call = {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}
    body = conversation(assistant(call), answered("t"), thinking={"type": "enabled", "budget_tokens": 2000})
    assert sent(forward(body, dialect))["messages"][1]["content"][0]["type"] == "thinking"


@pytest.mark.parametrize("readable", [("text",), ("text", "image", "pdf")])
@pytest.mark.parametrize("wire", ["chat", "messages", "responses"])
def test_a_picture_is_only_left_out_for_a_model_that_reads_none(
    wire: Wire, readable: tuple[str, ...]
) -> None:
    data = "aGk="
    body: dict[str, Any] = {"model": "m", "max_tokens": 9}
    match wire:
        case "chat":
            part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
            body["messages"] = [{"role": "user", "content": [part]}]
        case "messages":
            source = {"type": "base64", "media_type": "image/png", "data": data}
            body["messages"] = [{"role": "user", "content": [{"type": "image", "source": source}]}]
        case "responses":
            part = {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}
            body["input"] = [{"type": "message", "role": "user", "content": [part]}]
    limits = Limits(input_modalities=frozenset(readable))
    raw = json.dumps(body).encode()
    found = forward_request(wire, raw, model="m", dialect=Dialect(), limits=limits)
    if "image" in readable:
        assert (found.body, found.shims) == (raw, ())
    else:
        assert data.encode() not in found.body
        assert b"image omitted" in found.body
        assert "images omitted" in found.shims
