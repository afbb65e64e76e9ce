"""Writing a `Failure` in the words each client acts on.

Learned from the real clients: Codex 0.163 and 0.169 stop or retry by `error.code`, Claude Code 2.1.197 and
2.1.329 by status, `x-should-retry` and the sentence `prompt is too long: N tokens > M maximum`.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from dragoman.wire.errors import Failure, FailureCode
from dragoman.wire.sse import frame
from dragoman.wire.turns import Wire


class ErrorAnswer(msgspec.Struct, frozen=True):
    """A whole HTTP answer that says what went wrong.

    Attributes:
        status: the HTTP status.
        headers: names in lower case.
        body: JSON, or one server-sent event when the failure is told inside a stream.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


# What Codex stops at without another request (0.169): it shows the message, or its own wording of the code.
_RESPONSES_CODES: dict[FailureCode, str] = {
    "auth": "invalid_prompt",
    "permission": "invalid_prompt",
    "not_found": "invalid_prompt",
    "invalid": "invalid_prompt",
    "context": "context_length_exceeded",
    "too_large": "invalid_prompt",
    "rate": "rate_limit_exceeded",
    "quota_window": "insufficient_quota",
    "overloaded": "server_is_overloaded",
    "upstream": "server_error",
    "timeout": "server_error",
    "truncated": "server_error",
    "filtered": "invalid_prompt",
}
_REPEATED = frozenset({"rate_limit_exceeded", "server_error"})

_OPENAI: dict[FailureCode, tuple[int, str, str | None]] = {
    "auth": (401, "authentication_error", "upstream_unauthorized"),
    "permission": (403, "permission_error", "upstream_forbidden"),
    "not_found": (404, "invalid_request_error", "model_not_found"),
    "invalid": (400, "invalid_request_error", None),
    "context": (400, "invalid_request_error", "context_length_exceeded"),
    "too_large": (413, "invalid_request_error", "request_too_large"),
    "rate": (429, "rate_limit_error", "rate_limit_exceeded"),
    "quota_window": (429, "insufficient_quota", "insufficient_quota"),
    "overloaded": (503, "server_error", "server_is_overloaded"),
    "upstream": (502, "server_error", "server_error"),
    "timeout": (504, "server_error", "timeout"),
    "truncated": (502, "server_error", "truncated"),
    "filtered": (400, "invalid_request_error", "content_filter"),
}

_ANTHROPIC: dict[FailureCode, tuple[int, str]] = {
    "auth": (401, "authentication_error"),
    "permission": (403, "permission_error"),
    "not_found": (404, "not_found_error"),
    "invalid": (400, "invalid_request_error"),
    "context": (400, "invalid_request_error"),
    "too_large": (413, "request_too_large"),
    "rate": (429, "rate_limit_error"),
    "quota_window": (429, "rate_limit_error"),
    "overloaded": (529, "overloaded_error"),
    "upstream": (502, "api_error"),
    "timeout": (504, "timeout_error"),
    "truncated": (502, "api_error"),
    "filtered": (400, "invalid_request_error"),
}

ASSUMED_CONTEXT_TOKENS = 200_000
"""The window when neither the provider nor the catalogue says it; the sentence needs a number."""

_NATIVE_TOO_LONG = re.compile(r"^prompt is too long: \d+ tokens > \d+ maximum")
_encode = msgspec.json.Encoder().encode


def encode_error(
    wire: Wire,
    failure: Failure,
    request_id: str,
    *,
    context_window: int | None = None,
    now: float | None = None,
    in_stream: bool = False,
) -> ErrorAnswer:
    """Write a failure as the answer to a request that has not been answered yet.

    Args:
        wire: the client's wire.
        failure: what happened.
        request_id: sent as `x-dragoman-request-id`.
        context_window: the model's window in tokens, for the sentence about too long prompts.
        now: the time in Unix seconds; with it an exhausted quota tells Messages clients when to come back.
        in_stream: answer 200 with one `response.failed` event. For a streaming Codex this is the better way
            to say `context` (0.163 shows a 400 as raw JSON), and the only one for `auth`, `permission` and
            `not_found` that it does not repeat. Ignored on the other wires.
    """
    headers = [("x-dragoman-request-id", request_id)]
    if in_stream and wire == "responses":
        body = failed_event(
            failure, response_id=f"resp_{request_id}", created_at=int(now or 0), sequence_number=0
        )
        headers += [("content-type", "text/event-stream"), ("cache-control", "no-cache")]
        return ErrorAnswer(200, tuple(headers), body)
    headers.append(("content-type", "application/json"))
    if (wait := _retry_after(wire, failure, now)) is not None:
        headers.append(("retry-after", wait))
    if not failure.retryable:
        headers.append(("x-should-retry", "false"))
    status = _ANTHROPIC[failure.code][0] if wire == "messages" else _OPENAI[failure.code][0]
    body = _encode(error_body(wire, failure, context_window=context_window, request_id=request_id))
    return ErrorAnswer(status, tuple(headers), body)


def error_body(
    wire: Wire, failure: Failure, *, context_window: int | None = None, request_id: str | None = None
) -> dict[str, Any]:
    """The error value of a wire: a whole JSON body, also the data of a Chat or Messages error event."""
    if wire == "messages":
        message = _too_long(failure, context_window) if failure.code == "context" else failure.message
        body: dict[str, Any] = {
            "type": "error",
            "error": {"type": _ANTHROPIC[failure.code][1], "message": message},
        }
        if request_id is not None:
            body["request_id"] = request_id
        return body
    _, kind, code = _OPENAI[failure.code]
    return {"error": {"message": failure.message, "type": kind, "param": failure.param, "code": code}}


def responses_error(failure: Failure, *, content_sent: bool) -> dict[str, str]:
    """The `error` of a `response.failed` event.

    Args:
        failure: what happened.
        content_sent: whether finished items went out already. Codex may then go on from them, so an overload
            in the middle is told by a code it retries, not by the one it gives up on.
    """
    code = _RESPONSES_CODES[failure.code]
    message = failure.message
    wait_s = failure.retry_after_s
    if code in _REPEATED and not failure.retryable:
        # Codex 0.163 would sit out the wait, an hour too, without a word to its user.
        code = "invalid_prompt"
        if wait_s:
            message = f"{message} (The provider asks to wait {wait_s:.0f} s.)"
    elif code == "server_is_overloaded" and content_sent and failure.retryable:
        code = "slow_down"
    if code in ("rate_limit_exceeded", "slow_down") and wait_s and "try again in" not in message.lower():
        message = f"{message} Please try again in {wait_s:g}s."
    return {"code": code, "message": message}


def failed_event(failure: Failure, *, response_id: str, created_at: int, sequence_number: int) -> bytes:
    """A stand-alone `response.failed` event, for a stream in which nothing was said yet."""
    response: dict[str, Any] = {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "status": "failed",
        "error": responses_error(failure, content_sent=False),
        "incomplete_details": None,
        "model": "",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }
    event: dict[str, Any] = {
        "type": "response.failed",
        "sequence_number": sequence_number,
        "response": response,
    }
    return frame(b"response.failed", _encode(event))


def _too_long(failure: Failure, context_window: int | None) -> str:
    """The sentence both versions of Claude Code parse and answer with a compaction."""
    if _NATIVE_TOO_LONG.match(failure.message):
        return failure.message
    limit = failure.limit_tokens or context_window or ASSUMED_CONTEXT_TOKENS
    tokens = max(failure.prompt_tokens or 0, limit + 1)
    return f"prompt is too long: {tokens} tokens > {limit} maximum"


def _retry_after(wire: Wire, failure: Failure, now: float | None) -> str | None:
    """Whole seconds as text, none too few. Codex answers a `retry-after` with retries, so an exhausted quota
    and a wait nobody sits out send it none."""
    wait_s = failure.retry_after_s
    if wire == "responses" and not failure.retryable:
        return None
    if failure.code == "quota_window":
        if wire != "messages":
            return None
        if wait_s is None and failure.resets_at is not None and now is not None:
            wait_s = max(1.0, failure.resets_at - now)
    if wait_s is None:
        return None
    return str(math.ceil(wait_s))  # RFC 9110 knows whole seconds; urllib3 refuses an answer with others
