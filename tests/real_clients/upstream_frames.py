"""Scripted answers as the bytes of the three wires.

A reply is a list of steps, each a table:

    {"think": text, "seal": s}         reasoning, with what only its maker can read
    {"say": text}                      words
    {"call": tool, "args": x, "id": i} a call; `args` is a table, or a string that is sent as it is
    {"call": tool, "input": text, ..}  a call of a freeform tool
    {"finish": "length"}               the answer was too long
    {"usage": (input, output)}         in tokens
    {"pause_s": 1.5}                   silence; before all else, before the response head
    {"head": True}                     the response head, on its own
    {"wait": True}                     silence until the other side hangs up
    {"cut": True}                      the connection ends here
    {"tear": text}                     words, and the connection ends before their end
    {"refuse": status, "headers": {}, "body": {}}  instead of all else

The bytes of the three wires are written here once more, so that the translator cannot share a mistake
with them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any, Literal

from upstream_asked import Asked

Step = dict[str, Any]
Reply = list[Step]
Frame = bytes | float | Literal["cut", "wait"]
"""Bytes, seconds of silence, or the end; no bytes at all are the response head."""


def _sse(event: dict[str, Any], named: bool = True) -> bytes:
    head = b"event: " + event["type"].encode() + b"\n" if named else b""
    return head + b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def _pieces(text: str) -> list[str]:
    """Two deltas, so that a client that keeps only the last one is found out."""
    middle = len(text) // 2
    return [text[:middle], text[middle:]] if middle else [text]


def _arguments(asked: Asked, step: Step, name: str) -> str:
    if "input" in step:
        (key,) = asked.tools[name]["schema"].get("required") or ["input"]
        return json.dumps({key: step["input"]})
    args = step["args"]
    return args if isinstance(args, str) else json.dumps(args)


def _ending(reply: Reply) -> tuple[str | None, tuple[int, int]]:
    finish = next((step["finish"] for step in reply if "finish" in step), None)
    usage = next((step["usage"] for step in reply if "usage" in step), (100, 10))
    return finish, usage


def _waits(step: Step) -> list[Frame] | None:
    """What is the same on every wire."""
    match step:
        case {"pause_s": seconds}:
            return [float(seconds)]
        case {"cut": _}:
            return ["cut"]
        case {"wait": _}:
            return ["wait"]
        case _:
            return None


def _opening(reply: Reply) -> tuple[list[Frame], Reply]:
    """Silence and head before the first word, and the rest."""
    opening: list[Frame] = []
    for place, step in enumerate(reply):
        if "head" in step:
            opening.append(b"")
        elif "pause_s" in step:
            opening.append(float(step["pause_s"]))
        else:
            return opening, reply[place:]
    return opening, []


def stream_frames(asked: Asked, reply: Reply) -> list[Frame]:
    """A whole stream."""
    opening, rest = _opening(reply)
    return opening + list(_FRAMES[asked.wire](asked, rest))


def chat_frames(asked: Asked, reply: Reply) -> Iterator[Frame]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}
        return _sse({**head, "choices": [choice]}, named=False)

    number = 0
    for step in reply:
        if (waits := _waits(step)) is not None:
            yield from waits
        elif "think" in step:
            for piece in _pieces(step["think"]):
                yield chunk({"reasoning_content": piece})
        elif "say" in step:
            for piece in _pieces(step["say"]):
                yield chunk({"content": piece})
        elif "tear" in step:
            yield chunk({"content": step["tear"]})
            yield "cut"
        elif "call" in step:
            name = asked.tool(step["call"])
            function = {"name": name, "arguments": ""}
            yield chunk(
                {
                    "tool_calls": [
                        {"index": number, "id": step["id"], "type": "function", "function": function}
                    ]
                }
            )
            for piece in _pieces(_arguments(asked, step, name)):
                yield chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
            number += 1
    finish, (fed, said) = _ending(reply)
    yield chunk({}, finish or ("tool_calls" if number else "stop"))
    usage = {"prompt_tokens": fed, "completion_tokens": said, "total_tokens": fed + said}
    last = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}
    yield _sse({**last, "choices": [], "usage": usage}, named=False) + b"data: [DONE]\n\n"


def messages_frames(asked: Asked, reply: Reply) -> Iterator[Frame]:
    finish, (fed, said) = _ending(reply)
    message: dict[str, Any] = {"type": "message", "role": "assistant", "model": "up", "content": []}
    # Claude Code takes answers of one id for parts of one message.
    message["id"] = f"msg_{uuid.uuid4().hex}"
    usage = {"input_tokens": fed, "output_tokens": 1}
    yield _sse({"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}})
    index = called = 0
    for step in reply:
        if (waits := _waits(step)) is not None:
            yield from waits
            continue
        if "think" in step:
            block: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
            deltas: list[dict[str, Any]] = [
                {"type": "thinking_delta", "thinking": piece} for piece in _pieces(step["think"])
            ]
            deltas.append({"type": "signature_delta", "signature": step["seal"]})
        elif "say" in step or "tear" in step:
            block = {"type": "text", "text": ""}
            text = step.get("say") or step["tear"]
            deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(text)]
        elif "call" in step:
            name = asked.tool(step["call"])
            called += 1
            block = {"type": "tool_use", "id": step["id"], "name": name, "input": {}}
            raw = _arguments(asked, step, name)
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in _pieces(raw)]
        else:
            continue
        yield _sse({"type": "content_block_start", "index": index, "content_block": block})
        for delta in deltas:
            yield _sse({"type": "content_block_delta", "index": index, "delta": delta})
        if "tear" in step:
            yield "cut"
        yield _sse({"type": "content_block_stop", "index": index})
        index += 1
    reason = {"length": "max_tokens", None: "tool_use" if called else "end_turn"}[finish]
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield _sse({"type": "message_delta", "delta": delta, "usage": {"output_tokens": said}})
    yield _sse({"type": "message_stop"})


def responses_frames(asked: Asked, reply: Reply) -> Iterator[Frame]:
    finish, (fed, said) = _ending(reply)
    response: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 1, "model": "up"}
    sequence = iter(range(10_000))

    def event(kind: str, **more: Any) -> bytes:
        return _sse({"type": kind, "sequence_number": next(sequence), **more})

    yield event("response.created", response={**response, "status": "in_progress", "output": []})
    output: list[dict[str, Any]] = []
    for step in reply:
        if (waits := _waits(step)) is not None:
            yield from waits
            continue
        place = len(output)
        if "think" in step:
            item = {"type": "reasoning", "id": f"rs_{place}", "encrypted_content": step["seal"]}
            part = {"type": "summary_text", "text": step["think"]}
            yield event("response.output_item.added", output_index=place, item={**item, "summary": []})
            at = {"item_id": item["id"], "output_index": place, "summary_index": 0}
            empty = {"type": "summary_text", "text": ""}
            yield event("response.reasoning_summary_part.added", **at, part=empty)
            for piece in _pieces(step["think"]):
                yield event("response.reasoning_summary_text.delta", **at, delta=piece)
            yield event("response.reasoning_summary_text.done", **at, text=step["think"])
            yield event("response.reasoning_summary_part.done", **at, part=part)
            done = {**item, "summary": [part]}
        elif "say" in step or "tear" in step:
            text = step.get("say") or step["tear"]
            item = {"type": "message", "id": f"msg_{place}", "role": "assistant"}
            part = {"type": "output_text", "text": text, "annotations": []}
            added = {**item, "status": "in_progress", "content": []}
            yield event("response.output_item.added", output_index=place, item=added)
            at = {"item_id": item["id"], "output_index": place, "content_index": 0}
            yield event("response.content_part.added", **at, part={**part, "text": ""})
            for piece in _pieces(text):
                yield event("response.output_text.delta", **at, delta=piece)
            if "tear" in step:
                yield "cut"
            yield event("response.output_text.done", **at, text=text)
            yield event("response.content_part.done", **at, part=part)
            done = {**item, "status": "completed", "content": [part]}
        elif "call" in step:
            name = asked.tool(step["call"])
            tool = asked.tools[name]
            custom = tool["kind"] == "custom"
            kind, key = ("custom_tool_call", "input") if custom else ("function_call", "arguments")
            raw = step["input"] if custom else _arguments(asked, step, name)
            item = {"type": kind, "id": f"fc_{place}", "call_id": step["id"], "name": name}
            if "namespace" in tool:
                item["namespace"] = tool["namespace"]
            added = {**item, "status": "in_progress", key: ""}
            yield event("response.output_item.added", output_index=place, item=added)
            at = {"item_id": item["id"], "output_index": place}
            word = "custom_tool_call_input" if custom else "function_call_arguments"
            for piece in _pieces(raw):
                yield event(f"response.{word}.delta", **at, delta=piece)
            yield event(f"response.{word}.done", **at, **{key: raw})
            done = {**item, "status": "completed", key: raw}
        else:
            continue
        output.append(done)
        yield event("response.output_item.done", output_index=place, item=done)
    usage = {"input_tokens": fed, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": said}
    usage |= {"output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": fed + said}
    whole = {**response, "output": output, "usage": usage}
    if finish == "length":
        whole |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        yield event("response.incomplete", response=whole)
    else:
        yield event("response.completed", response={**whole, "status": "completed"})


_FRAMES = {"chat": chat_frames, "messages": messages_frames, "responses": responses_frames}


def whole_body(asked: Asked, reply: Reply) -> dict[str, Any]:
    """The answer in one piece: words, calls of functions and usage."""
    text = "".join(step.get("say", "") for step in reply)
    calls = [
        (step["id"], name, _arguments(asked, step, name))
        for step in reply
        if "call" in step
        for name in [asked.tool(step["call"])]
    ]
    _, (fed, said) = _ending(reply)
    match asked.wire:
        case "chat":
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if calls:
                message["tool_calls"] = [
                    {"id": i, "type": "function", "function": {"name": name, "arguments": raw}}
                    for i, name, raw in calls
                ]
            finish = "tool_calls" if calls else "stop"
            return {
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "up",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": {"prompt_tokens": fed, "completion_tokens": said, "total_tokens": fed + said},
            }  # fmt: skip
        case "messages":
            content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
            content += [
                {"type": "tool_use", "id": i, "name": name, "input": json.loads(raw)}
                for i, name, raw in calls
            ]
            return {
                "id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": "up",
                "content": content, "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None,
                "usage": {"input_tokens": fed, "output_tokens": said},
            }  # fmt: skip
        case "responses":
            part = {"type": "output_text", "text": text, "annotations": []}
            words = {"type": "message", "id": "msg_0", "role": "assistant", "status": "completed"}
            output: list[dict[str, Any]] = [{**words, "content": [part]}] if text else []
            output += [
                {"type": "function_call", "id": f"fc_{i}", "call_id": i, "name": name, "arguments": raw}
                for i, name, raw in calls
            ]
            return {
                "id": "resp_1", "object": "response", "created_at": 1, "model": "up", "status": "completed",
                "output": output,
                "usage": {
                    "input_tokens": fed, "input_tokens_details": {"cached_tokens": 0},
                    "output_tokens": said, "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": fed + said,
                },
            }  # fmt: skip
