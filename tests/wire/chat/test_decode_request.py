"""Chat Completions requests, decoded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dragoman.wire import translate
from dragoman.wire.errors import BadRequest
from dragoman.wire.ids import safe_id
from dragoman.wire.turns import (
    Assistant,
    Call,
    File,
    Format,
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
    body = {"model": "m", "messages": list(messages), **fields}
    return translate.decode_request("chat", json.dumps(body, ensure_ascii=False).encode())


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_leading_system_and_developer_messages_are_the_system_text() -> None:
    request = decoded({"role": "system", "content": "S"}, {"role": "developer", "content": "D"}, user("u"))
    assert [text.text for text in request.system] == [b"S", b"D"]
    assert request.turns == (User(parts=(Text(b"u"),)),)


def test_a_later_system_message_keeps_its_place() -> None:
    assert decoded(user("u"), {"role": "system", "content": "S"}).turns[1] == Note((Text(b"S"),))


def test_texts_stay_escaped_as_they_were() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"caf\\u00e9 \\"\\/\\""}]}'
    turn = translate.decode_request("chat", body).turns[0]
    assert turn == User(parts=(Text(b'caf\\u00e9 \\"\\/\\"'),))


def test_pictures_and_files_come_as_data_or_as_addresses() -> None:
    parts = [
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BB"}},
    ]
    turn = decoded(user(parts)).turns[0]
    assert isinstance(turn, User)
    text, data, address, file = turn.parts
    assert text.cache_control == b'{"type": "ephemeral"}'
    assert data == Image(media_type="image/jpeg", data=b"/9j/", detail="low")
    assert address == Image(url=b"https://example.test/a.png")
    assert file == File(media_type="application/pdf", data=b"BB", filename=b"a.pdf")


def test_a_data_url_with_escaped_slashes_is_understood() -> None:
    part = rb'{"type":"image_url","image_url":{"url":"data:image\/png;base64,A\/B"}}'
    body = b'{"model":"m","messages":[{"role":"user","content":[' + part + b"]}]}"
    turn = translate.decode_request("chat", body).turns[0]
    assert turn == User(parts=(Image(media_type="image/png", data=b"A/B"),))


def test_an_assistant_turn_holds_reasoning_words_and_calls_in_this_order() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    said = {"role": "assistant", "content": "t", "reasoning_content": "r", "tool_calls": [call]}
    turn = decoded(user("u"), said, {"role": "tool", "tool_call_id": "c", "content": "out"}).turns[1]
    expected = Call("c", "f", arguments=rb"{\"a\":1}")
    assert turn == Assistant((Reasoning(b"r"), Text(b"t"), expected))


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_arguments_may_be_an_object(arguments: object) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    turn = decoded(user("u"), {"role": "assistant", "content": None, "tool_calls": [call]}).turns[1]
    assert isinstance(turn, Assistant)
    assert isinstance(turn.parts[0], Call)
    assert turn.parts[0].arguments == rb"{\"a\": 1}"


def test_a_wrapped_id_is_unwrapped() -> None:
    wrapped = safe_id("functions.Bash:0")
    call = {"id": wrapped, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    request = decoded(
        user("u"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": wrapped, "content": "x"},
    )
    assert request.turns[2] == User(results=(Result("functions.Bash:0", (Text(b"x"),)),))
    assert isinstance(request.turns[1], Assistant)
    assert request.turns[1].parts[0] == Call("functions.Bash:0", "f", arguments=b"{}")


def test_the_older_function_fields_are_tools_and_calls() -> None:
    request = decoded(
        user("u"),
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "x"},
        functions=[{"name": "f", "parameters": {"type": "object"}}],
        function_call={"name": "f"},
    )
    assert [tool.name for tool in request.tools] == ["f"]
    assert request.tool_choice == ToolChoice(mode="named", name="f")
    assert isinstance(request.turns[1], Assistant)
    assert isinstance(request.turns[2], User)
    assert request.turns[2].results[0].call_id == request.turns[1].parts[0].id  # type: ignore[union-attr]


def test_a_custom_tool_is_freeform_with_its_grammar() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}}
    tool = {"type": "custom", "custom": {"name": "apply", "description": "D", "format": grammar}}
    found = decoded(user("u"), tools=[tool]).tools[0]
    assert (found.kind, found.name, found.description) == ("freeform", "apply", b"D")
    assert found.grammar is not None
    assert found.grammar.definition == b"start: x"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice(mode="auto")),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(mode="named", name="f")),
        ({"type": "custom", "custom": {"name": "f"}}, ToolChoice(mode="named", name="f")),
        (None, None),
    ],
)
def test_tool_choices(choice: object, expected: ToolChoice | None) -> None:
    assert decoded(user("u"), tool_choice=choice).tool_choice == expected


def test_limits_sampling_and_shape_are_kept_as_spelled() -> None:
    body = (
        b'{"model":"m","messages":[],"max_tokens":5,"max_completion_tokens":7,"temperature":1.0,"stop":"X",'
        b'"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"a":1.0}}},'
        b'"stream":true,"stream_options":{"include_usage":true},"parallel_tool_calls":false}'
    )
    request = translate.decode_request("chat", body)
    assert request.max_output_tokens == 7
    assert request.sampling == {"temperature": b"1.0"}
    assert request.stop == ("X",)
    assert request.format == Format(kind="json_schema", name="n", schema=b'{"a":1.0}', strict=True)
    assert (request.stream, request.include_usage, request.parallel_calls) == (True, True, False)


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, Thinking()),
        ({"reasoning_effort": "low"}, Thinking(effort="low")),
        ({"reasoning_effort": "none"}, Thinking(mode="off", effort="none")),
        ({"thinking": {"type": "disabled"}}, Thinking(mode="off")),
        ({"thinking": {"type": "enabled"}}, Thinking(mode="on")),
        ({"reasoning_effort": "colossal"}, Thinking()),
    ],
)
def test_thinking_wishes(fields: dict[str, Any], thinking: Thinking) -> None:
    assert decoded(user("u"), **fields).thinking == thinking


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"messages": []}, "$"),
        ({"model": 5, "messages": []}, "$.model"),
        ({"model": "m", "messages": {}}, "$.messages"),
        ({"model": "m", "messages": [{"role": "king", "content": "x"}]}, "$.messages[0].role"),
        ({"model": "m", "messages": [user([{"type": "text", "text": 5}])]}, "$.messages[0].content[0].text"),
        ({"model": "m", "messages": [user(5)]}, "$.messages[0].content"),
        ({"model": "m", "messages": [{"role": "tool", "content": "x"}]}, "$.messages[0].tool_call_id"),
        (
            {"model": "m", "messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]},
            "$.messages[0].tool_calls[0]",
        ),
        ({"model": "m", "messages": [], "tools": [{"type": "function"}]}, "$.tools[0]"),
        ({"model": "m", "messages": [], "temperature": "hot"}, "$.temperature"),
        ({"model": "m", "messages": [], "n": 2}, "$.n"),
        ({"model": "m", "messages": [], "tool_choice": "maybe"}, "$.tool_choice"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(body: object, path: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translate.decode_request("chat", json.dumps(body).encode())
    assert caught.value.path == path
    assert caught.value.http_status == 400
