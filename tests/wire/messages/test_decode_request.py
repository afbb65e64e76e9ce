"""Messages requests, decoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dragoman.wire import envelope, translate
from dragoman.wire.errors import BadRequest
from dragoman.wire.ids import safe_id
from dragoman.wire.turns import (
    Assistant,
    Call,
    Carrier,
    File,
    Hosted,
    Image,
    Note,
    Reasoning,
    Request,
    Result,
    Text,
    Thinking,
    ToolChoice,
    User,
)


def decoded(*messages: object, **fields: Any) -> Request:
    body = {"model": "m", "max_tokens": 9, "messages": list(messages), **fields}
    return translate.decode_request("messages", json.dumps(body).encode())


def user(*blocks: object) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: object) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def test_a_recorded_conversation_is_understood(claude_request: Callable[[str], dict[str, Any]]) -> None:
    request = translate.decode_request("messages", json.dumps(claude_request("329_task_3")).encode())
    kinds = [type(turn).__name__ for turn in request.turns]
    assert kinds == ["User", "Note", "Assistant", "User", "Assistant", "User"]
    assert request.thinking.mode == "adaptive"
    assert request.cache_key
    first, second = request.turns[2], request.turns[4]
    assert isinstance(first, Assistant)
    assert isinstance(second, Assistant)
    assert [type(part).__name__ for part in first.parts] == ["Reasoning", "Text", "Call"]
    assert [part.name for part in second.parts if isinstance(part, Call)] == ["Edit", "Write"]
    assert any(tool.deferred for tool in request.tools)


def test_content_may_be_a_string_or_blocks() -> None:
    assert decoded({"role": "user", "content": "é"}).turns == (User(parts=(Text("é".encode()),)),)
    assert decoded(user(text("a"), text("b"))).turns == (User(parts=(Text(b"a"), Text(b"b"))),)


def test_cache_marks_are_kept() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    request = decoded(user({**text("a"), **mark}), system=[{**text("s"), **mark}])
    assert request.system[0].cache_control == b'{"type": "ephemeral"}'
    assert isinstance(request.turns[0], User)
    assert request.turns[0].parts[0].cache_control is not None


def test_a_system_message_in_the_middle_is_a_note() -> None:
    assert decoded(user(text("a")), {"role": "system", "content": "n"}).turns[1] == Note((Text(b"n"),))


def test_results_are_kept_apart_from_words() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": "ok"},
        {"type": "tool_result", "tool_use_id": safe_id("f:0"), "content": [text("no")], "is_error": True},
        {"type": "tool_result", "tool_use_id": "c"},
    ]
    turn = decoded(user(text("words"), *results)).turns[0]
    assert turn == User(
        (Result("a", (Text(b"ok"),)), Result("f:0", (Text(b"no"),), is_error=True), Result("c")),
        (Text(b"words"),),
    )


def test_pictures_and_documents() -> None:
    base64 = {"type": "base64", "data": "AAAA", "media_type": "image/png"}
    pdf = {"type": "base64", "data": "BBBB", "media_type": "application/pdf"}
    turn = decoded(
        user(
            {"type": "image", "source": base64},
            {"type": "image", "source": {"type": "url", "url": "https://example.test/x.png"}},
            {"type": "document", "source": pdf, "title": "a.pdf"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "T"}},
        )
    ).turns[0]
    assert turn == User(
        parts=(
            Image(media_type="image/png", data=b"AAAA"),
            Image(url=b"https://example.test/x.png"),
            File(media_type="application/pdf", data=b"BBBB", filename=b"a.pdf"),
            File(media_type="text/plain", text=b"T"),
        )
    )


def test_a_found_tool_is_told_in_words_and_unknown_blocks_are_skipped() -> None:
    content = [text("a"), {"type": "tool_reference", "tool_name": "X"}, {"type": "brand_new"}]
    turn = decoded(user({"type": "tool_result", "tool_use_id": "t", "content": content})).turns[0]
    assert isinstance(turn, User)
    assert [part.text for part in turn.results[0].parts] == [b"a", b"[tool available: X]"]  # type: ignore[union-attr]


def test_a_call_keeps_the_spelling_of_its_input() -> None:
    body = (
        b'{"model":"m","messages":[{"role":"assistant","content":['
        b'{"type":"tool_use","id":"t","name":"f","input":{"n":1.0,"t":"\\u00e9"}}]}]}'
    )
    turn = translate.decode_request("messages", body).turns[0]
    assert turn == Assistant((Call("t", "f", arguments_json=b'{"n":1.0,"t":"\\u00e9"}'),))


def test_thinking_comes_with_whatever_its_signature_holds() -> None:
    own = Reasoning(b"full text", carriers=(Carrier(kind="reasoning_content", realm="home"),))
    sealed = envelope.wrap(own.text, own.carriers)
    turn = decoded(
        assistant(
            {"type": "thinking", "thinking": "T", "signature": "SIG"},
            {"type": "thinking", "thinking": "shown", "signature": sealed},
            {"type": "thinking", "thinking": "T", "signature": "gw1.broken"},
            {"type": "redacted_thinking", "data": "foreign"},
            {"type": "redacted_thinking", "data": sealed},
        )
    ).turns[0]
    assert turn == Assistant(
        (
            Reasoning(b"T", carriers=(Carrier(kind="signature", data="SIG"),)),
            own,
            Reasoning(b"T"),
            Reasoning(carriers=(Carrier(kind="redacted", data="foreign"),)),
            own,
        )
    )


def test_blocks_nobody_here_knows_are_carried_as_they_were_spelled() -> None:
    body = (
        b'{"model":"m","messages":[{"role":"assistant","content":[{"type":"text","text":"a"},'
        b'{"type":"server_tool_use", "id":"s","input":{"n":1.0}}]}]}'
    )
    turn = translate.decode_request("messages", body).turns[0]
    assert isinstance(turn, Assistant)
    expected = b'{"type":"server_tool_use", "id":"s","input":{"n":1.0}}'
    assert turn.parts[1] == Hosted("messages", "server_tool_use", expected)


def test_tools_are_functions_or_hosted() -> None:
    request = decoded(
        user(text("a")),
        tools=[
            {"name": "f", "description": "D", "input_schema": {"type": "object"}},
            {"type": "custom", "name": "g", "input_schema": {}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
            {"name": "later", "input_schema": {}, "defer_loading": True},
        ],
    )
    assert [(tool.kind, tool.name, tool.deferred) for tool in request.tools] == [
        ("function", "f", False),
        ("function", "g", False),
        ("hosted", "web_search", False),
        ("function", "later", True),
    ]


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(mode="auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice(mode="required"), False),
        ({"type": "tool", "name": "f"}, ToolChoice(mode="named", name="f"), None),
        ({"type": "none"}, ToolChoice(mode="none"), None),
    ],
)
def test_tool_choices(choice: object, expected: ToolChoice, parallel: bool | None) -> None:
    request = decoded(user(text("a")), tool_choice=choice)
    assert (request.tool_choice, request.parallel_calls) == (expected, parallel)


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, Thinking(mode="off")),
        ({"thinking": {"type": "disabled"}}, Thinking(mode="off")),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            Thinking(mode="adaptive", summary="omitted"),
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, Thinking(mode="on", budget_tokens=5)),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            Thinking(mode="adaptive", effort="max"),
        ),
    ],
)
def test_no_word_about_thinking_means_none_is_wanted(fields: dict[str, Any], thinking: Thinking) -> None:
    assert decoded(user(text("a")), **fields).thinking == thinking


def test_a_demanded_shape_is_found_in_both_places() -> None:
    shape = {"type": "json_schema", "schema": {"a": 1}}
    for fields in ({"output_config": {"format": shape}}, {"output_format": shape}):
        found = decoded(user(text("a")), **fields).format
        assert found is not None
        assert found.schema == b'{"a": 1}'


def test_the_session_is_read_out_of_the_user_id() -> None:
    metadata = {"user_id": json.dumps({"device_id": "d", "session_id": "s-1"})}
    assert decoded(user(text("a")), metadata=metadata).cache_key == "s-1"
    assert decoded(user(text("a")), metadata={"user_id": "plain"}).cache_key is None


def test_lone_surrogates_and_raw_control_characters_are_mended() -> None:
    for spelled in (b'"a\\ud83d"', b'"a\tb"', b'"a\xff"'):
        body = b'{"model":"m","messages":[{"role":"user","content":' + spelled + b"}]}"
        turn = translate.decode_request("messages", body).turns[0]
        assert isinstance(turn, User)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{", "$"),
        (b"[]", "$"),
        (b'{"messages":[]}', "$"),
        (b'{"model":"m","messages":[{"role":"user","content":null}]}', "$.messages[0].content"),
        (b'{"model":"m","messages":[{"role":"boss","content":""}]}', "$.messages[0].role"),
        (b'{"model":"m","messages":[{"role":"user","content":[{}]}]}', "$.messages[0].content[0]"),
        (
            b'{"model":"m","messages":[{"role":"user","content":"a"},'
            b'{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":5}]}]}',
            "$.messages[1].content[1].text",
        ),
        (
            b'{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","content":"x"}]}]}',
            "$.messages[0].content[0].tool_use_id",
        ),
        (
            b'{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t",'
            b'"content":[{"type":"image"}]}]}]}',
            "$.messages[0].content[0].content[0].source",
        ),
        (
            b'{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f",'
            b'"input":[]}]}]}',
            "$.messages[0].content[0].input",
        ),
        (b'{"model":"m","messages":[],"tools":[{"name":"f"},{}]}', "$.tools[1].name"),
        (b'{"model":"m","messages":[],"max_tokens":-1}', "$.max_tokens"),
        (b'{"model":"m","messages":[],"system":[{"type":"text","text":1}]}', "$.system[0].text"),
        (b'{"model":"m","messages":[],"system":5}', "$.system"),
        (b'{"model":"m","messages":[],"temperature":"hot"}', "$.temperature"),
        (b'{"model":"m","messages":[],"tool_choice":{"type":"tool"}}', "$.tool_choice.name"),
        (b'{"model":"m","messages":[],"max_tokens":"many"}', "$.max_tokens"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(body: bytes, path: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translate.decode_request("messages", body)
    assert caught.value.path == path
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    ("body", "path"),
    [(b"{", "$"), (b"{}", "$"), (b'{"model":1}', "$.model"), (b'{"model":"m","stream":"yes"}', "$.stream")],
)
def test_a_peek_refuses_what_it_cannot_read(body: bytes, path: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translate.peek_request("messages", body)
    assert caught.value.path == path


def test_a_peek_sees_model_and_stream() -> None:
    peek = translate.peek_request("messages", b'{"messages":[{"model":"x"}],"stream":true,"model":"m"}')
    assert (peek.model, peek.stream) == ("m", True)


def test_a_providers_own_tool_may_have_no_name() -> None:
    tool = {"type": "mcp_toolset", "mcp_server_name": "s"}
    body = {"model": "m", "messages": [], "tools": [tool]}
    (found,) = translate.decode_request("messages", json.dumps(body).encode()).tools
    assert (found.kind, found.name, json.loads(found.json)) == ("hosted", "mcp_toolset", tool)
