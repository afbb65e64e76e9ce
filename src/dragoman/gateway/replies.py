"""Short answers of our own: JSON, and refusals in the shape the asking wire expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from dragoman.wire.encode_error import ErrorAnswer
from dragoman.wire.turns import Wire

from .asgi import Headers, Send
from .incoming import Incoming

RequestIdHeader = b"x-dragoman-request-id"

RefusalCode = Literal[
    "invalid",
    "invalid_token",
    "forbidden",
    "foreign_host",
    "foreign_origin",
    "not_found",
    "method_not_allowed",
    "body_too_large",
    "unsupported_encoding",
    "upgrade_required",
    "model_not_allowed",
    "budget_exhausted",
    "control_unavailable",
]

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why we do not do it. `message` and `hint` are one sentence each and repeat nothing secret."""

    status: int
    code: RefusalCode
    message: str
    hint: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def body(self, wire: Wire, request_id: str) -> dict[str, Any]:
        """The refusal in a wire's own shape."""
        text = f"{self.message} {self.hint}" if self.hint else self.message
        if wire == "messages":
            kind = _ANTHROPIC_TYPES.get(self.status, "invalid_request_error")
            return {"type": "error", "error": {"type": kind, "message": text}, "request_id": request_id}
        kind = _OPENAI_TYPES.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )
        return {"error": {"message": text, "type": kind, "param": None, "code": self.code}}


async def send_refusal(send: Send, incoming: Incoming, refusal: Refusal) -> None:
    """Answer with a refusal."""
    headers = [(b"content-type", b"application/json"), *refusal.headers]
    await send_whole(
        send, incoming, refusal.status, headers, _encode(refusal.body(incoming.wire, incoming.id))
    )


async def send_error_answer(send: Send, incoming: Incoming, answer: ErrorAnswer) -> None:
    """Answer with an error the wire has written."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send_whole(send, incoming, answer.status, headers, answer.body)


async def send_json(send: Send, incoming: Incoming, value: Any, status: int = 200) -> None:
    """Answer with a JSON value."""
    await send_whole(send, incoming, status, [(b"content-type", b"application/json")], _encode(value))


async def send_whole(send: Send, incoming: Incoming, status: int, headers: Headers, body: bytes) -> None:
    """Answer in one piece."""
    await send_head(send, incoming, status, [*headers, (b"content-length", b"%d" % len(body))])
    await send({"type": "http.response.body", "body": body})


async def send_head(send: Send, incoming: Incoming, status: int, headers: Headers) -> None:
    """Begin an answer; from here on no other can be given."""
    incoming.status = status
    await send(
        {"type": "http.response.start", "status": status, "headers": with_request_id(headers, incoming)}
    )


def with_request_id(headers: Headers, incoming: Incoming) -> Headers:
    """`headers` and our id; Messages clients also log `request-id`."""
    names = {name for name, _ in headers}
    own = incoming.id.encode("latin-1")
    added = [(name, own) for name in (RequestIdHeader,) if name not in names]
    added += [pair for pair in incoming.added if pair[0] not in names]
    if incoming.wire == "messages" and b"request-id" not in names:
        added.append((b"request-id", own))
    return [*headers, *added]
