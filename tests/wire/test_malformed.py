"""Sound requests with one value changed, anywhere: a refusal in the asking wire's own shape that names the
place, or a request every upstream takes. Never anything else."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from checkers import check_chat_request, check_messages_request
from hypothesis import given, settings
from hypothesis import strategies as st
from responses_checker import check_responses_request

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.encode_error import encode_error
from dragoman.wire.errors import BadRequest
from dragoman.wire.turns import Wire

Place = tuple[str | int, ...]

PNG = "data:image/png;base64,AAAA"
PDF = "data:application/pdf;base64,JVBE"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}

SOUND: dict[Wire, dict[str, Any]] = {
    "messages": {
        "model": "m", "max_tokens": 4000, "stream": True, "temperature": 0.5, "stop_sequences": ["x"],
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "tool_choice": {"type": "tool", "name": "Bash"},
        "metadata": {"user_id": "{\"session_id\":\"1\"}"}, "output_config": {"effort": "high"},
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "system", "content": "between"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t", "signature": "x"},
                {"type": "text", "text": "well"},
                {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"a": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "is_error": False, "content": [
                    {"type": "text", "text": "é"},
                    {"type": "image", "source": {
                        "type": "base64", "media_type": "image/png", "data": "AA"}}]},
                {"type": "document", "title": "d", "source": {
                    "type": "base64", "media_type": "application/pdf", "data": "AA"}}]}],
        "tools": [{"name": "Bash", "description": "d", "input_schema": SCHEMA}],
    },
    "chat": {
        "model": "m", "stream": True, "stop": ["a"], "temperature": 1.0, "reasoning_effort": "high",
        "tool_choice": {"type": "function", "function": {"name": "Bash"}}, "max_completion_tokens": 90,
        "stream_options": {"include_usage": True}, "parallel_tool_calls": True, "seed": 4, "user": "u",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [
                {"type": "text", "text": "hé"},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}]},
            {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "Bash", "arguments": "{\"a\":1}"}},
                {"id": "d", "type": "custom", "custom": {"name": "apply_patch", "input": "p"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "out"},
            {"role": "tool", "tool_call_id": "d", "content": [{"type": "text", "text": "out"}]}],
        "tools": [
            {"type": "function", "function": {"name": "Bash", "description": "d", "parameters": SCHEMA}},
            {"type": "custom", "custom": {"name": "apply_patch", "format": {
                "type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    },
    "responses": {
        "model": "m", "stream": True, "instructions": "s", "parallel_tool_calls": True,
        "reasoning": {"effort": "low", "summary": "auto"}, "tool_choice": "auto", "max_output_tokens": 90,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"},
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "d"}]},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "hé"},
                {"type": "input_image", "image_url": PNG, "detail": "high"},
                {"type": "input_file", "filename": "a.pdf", "file_data": PDF}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}],
             "encrypted_content": "e"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "well"}]},
            {"type": "function_call", "call_id": "c", "namespace": "mcp__a", "name": "read",
             "arguments": "{\"a\":1}"},
            {"type": "custom_tool_call", "call_id": "d", "name": "apply_patch", "input": "p"},
            {"type": "local_shell_call", "call_id": "e", "status": "completed",
             "action": {"type": "exec", "command": ["ls"], "env": {}}},
            {"type": "function_call_output", "call_id": "c", "output": [
                {"type": "input_text", "text": "out"}, {"type": "input_image", "image_url": PNG}]},
            {"type": "custom_tool_call_output", "call_id": "d", "output": "out"},
            {"type": "local_shell_call_output", "call_id": "e", "output": "out"}],
        "tools": [
            {"type": "function", "name": "Bash", "parameters": SCHEMA, "strict": False},
            {"type": "custom", "name": "apply_patch", "format": {
                "type": "grammar", "syntax": "lark", "definition": "start: x"}},
            {"type": "namespace", "name": "mcp__a", "tools": [
                {"type": "function", "name": "read", "parameters": SCHEMA}]},
            {"type": "local_shell"}, {"type": "web_search"}],
    },
}  # fmt: skip

JUDGES: dict[Wire, Any] = {
    "chat": check_chat_request,
    "messages": check_messages_request,
    "responses": check_responses_request,
}
KNOWN_ITEMS = {"message", "reasoning"} | {
    f"{kind}{end}" for kind in ("function_call", "custom_tool_call") for end in ("", "_output")
}
WRONG: list[Any] = [
    None, True, 0, -1, 1.5, 10**20, "", "x", "\ud83d", [], [[]], ["x"], {}, {"type": "x"}, {"x": None},
]  # fmt: skip
GONE = object()


def places(value: object, here: Place = ()) -> list[Place]:
    """The place of every value of a JSON value, its own not among them."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, found in inner for place in ((*here, key), *places(found, (*here, key)))]


PLACES = {wire: places(body) for wire, body in SOUND.items()}


def changed(body: dict[str, Any], place: Place, value: object) -> dict[str, Any]:
    body = copy.deepcopy(body)
    owner: Any = body
    for key in place[:-1]:
        owner = owner[key]
    if value is GONE:
        del owner[place[-1]]
    else:
        owner[place[-1]] = value
    return body


def path_keys(path: str) -> Place:
    """`$.input[2].role` as ("input", 2, "role"); `[...]` is any place of a list, as msgspec writes it."""
    assert re.fullmatch(r"\$(\.[\w-]+|\[\d+\]|\[\.\.\.\])*", path), path
    return tuple(int(i) if i else key for key, i in re.findall(r"\.([\w-]+)|\[(\d+)\]", path))


def is_near(found: Place, place: Place) -> bool:
    """Whether a path leads to the change, its neighbours, or at most two steps around them."""
    if place[0] == "tools" and found == ("tool_choice",):
        return True  # the chosen tool became one that nobody runs
    around = place[:-1]
    depth = min(len(found), len(around))
    return found[:depth] == around[:depth] and len(found) >= len(around) - 2


def check_refusal(wire: Wire, error: BadRequest) -> None:
    """A refusal as the client of a wire has to see it."""
    answer = encode_error(wire, error.failure, "req_1")
    body = json.loads(answer.body)
    assert answer.status == 400
    assert ("x-should-retry", "false") in answer.headers
    told = body["error"]
    assert told["type"] == "invalid_request_error"
    assert error.path in told["message"]
    if wire == "messages":
        assert body["type"] == "error"
    else:
        assert told["param"] == error.path


def translated(wire: Wire, body: bytes) -> BadRequest | None:
    """Everything done to a request before it is sent: None when every upstream takes the result."""
    try:
        peek = translate.peek_request(wire, body)
        request = translate.decode_request(wire, body)
    except BadRequest as error:
        return error
    for upstream, judge in JUDGES.items():
        try:
            sent = translate.encode_request(
                upstream, request, model="up", dialect=Dialect(realm="r"), stream=peek.stream
            )
        except BadRequest as error:
            return error
        judged = json.loads(sent.body)
        if upstream == wire == "responses":  # an item nobody here knows is the vendor's own to refuse
            judged["input"] = [item for item in judged["input"] if item["type"] in KNOWN_ITEMS]
        if judged.get("max_tokens") != 0:  # what a Messages client says to fill a cache
            judge(judged)
    translate.forward_request(wire, body, model="up", dialect=Dialect(checked=True))
    return None


@pytest.mark.parametrize("wire", list(SOUND))
def test_each_change_of_one_value_is_refused_by_its_path_or_legal_everywhere(wire: Wire) -> None:
    refused = 0
    for place in PLACES[wire]:
        for value in (GONE, *WRONG):
            error = translated(wire, json.dumps(changed(SOUND[wire], place, value)).encode())
            if error is not None:
                refused += 1
                check_refusal(wire, error)
                assert is_near(path_keys(error.path), place), (error.path, place)
    tried = len(PLACES[wire]) * (1 + len(WRONG))
    assert 0.5 * tried < refused < 0.9 * tried


@pytest.mark.parametrize("wire", list(SOUND))
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_changes_in_several_places_are_refused_by_the_path_of_one_or_legal_everywhere(
    wire: Wire, data: st.DataObject
) -> None:
    body, done = SOUND[wire], list[Place]()
    for _ in range(data.draw(st.integers(2, 5))):
        place = data.draw(st.sampled_from(places(body)))
        body = changed(body, place, data.draw(st.sampled_from([GONE, *WRONG])))
        done.append(place)
        if not body:
            break
    error = translated(wire, json.dumps(body).encode())
    if error is not None:
        check_refusal(wire, error)
        assert any(is_near(path_keys(error.path), place) for place in done), (error.path, done)


@pytest.mark.parametrize("wire", list(SOUND))
def test_the_unchanged_request_is_taken(wire: Wire) -> None:
    assert translated(wire, json.dumps(SOUND[wire]).encode()) is None


@pytest.mark.parametrize("wire", list(SOUND))
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"7", b'"x"', b"{", b"\xff\xfe", b"{}", b"[" * 3000])
def test_what_is_no_request_at_all_is_refused(wire: Wire, body: bytes) -> None:
    error = translated(wire, body)
    assert error is not None
    check_refusal(wire, error)
