"""A client's request before anything is done with it: what its head says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from dragoman.config.tokens import TokenRecord
from dragoman.wire.turns import Wire

from .asgi import Scope

Client = Literal["codex", "claude", "other"]

WIRE_PATHS: dict[str, Wire] = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
    "/v1/messages": "messages",
}
FLOW = "dragoman.flow"
"""The ASGI extension under which our server shows its flow control."""
_MAX_ID_CHARS = 128


@dataclass(slots=True)
class Incoming:
    """The head of a request.

    Attributes:
        id: ours, shown as `x-dragoman-request-id`.
        method, path: as sent; the path is percent-decoded.
        query: the query string without its `?`.
        headers: lower-case names, the first value of each; `repeated` names those sent more than once.
        wire: whose shape errors take.
        at: Unix seconds when it arrived.
        started: monotonic seconds when it arrived.
        token: what the client showed, once it has been looked up.
        flow: whether the client's connection takes more, where the server says (see `BoundedProtocol`).
        status: the status of the answer, 0 until there is one.
        added: headers to add to the answer, whatever it is.
    """

    id: str
    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    repeated: frozenset[bytes]
    wire: Wire
    at: float
    started: float
    token: TokenRecord | None = field(default=None)
    flow: Any = None
    status: int = 0
    added: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def client(self) -> Client:
        """Which of the agents we know is asking."""
        agent = self.headers.get(b"user-agent", b"").lower()
        if b"originator" in self.headers or agent.startswith(b"codex"):
            return "codex"
        return "claude" if agent.startswith((b"claude-cli", b"claude-code")) else "other"

    @property
    def client_agent(self) -> str:
        """Name and version of the client program, such as `claude-cli/2.1.197`."""
        first = self.headers.get(b"user-agent", b"").split(b" ", 1)[0]
        return _clean(first)

    @property
    def session(self) -> str:
        """The client's own id of the conversation, "" when it sends none.

        Codex sends its root thread's id as `session-id`, Claude Code `x-claude-code-session-id`.
        """
        return _clean(self.headers.get(b"session-id") or self.headers.get(b"x-claude-code-session-id") or b"")

    @property
    def turn(self) -> str:
        """Codex's id of the turn, from its metadata header; "" for other clients."""
        raw = self.headers.get(b"x-codex-turn-metadata")
        if raw is None:
            return ""
        try:
            return _clean(msgspec.json.decode(raw, type=_TurnMetadata).turn_id.encode())
        except msgspec.MsgspecError:
            return ""

    @property
    def shown_token(self) -> str | None:
        """The secret the client shows, from `Authorization: Bearer` or `x-api-key`."""
        authorization = self.headers.get(b"authorization")
        if authorization is not None:
            scheme, _, value = authorization.partition(b" ")
            if scheme.lower() == b"bearer" and value.strip():
                return value.strip().decode("latin-1")
        key = self.headers.get(b"x-api-key", b"").strip()
        return key.decode("latin-1") or None


class _TurnMetadata(msgspec.Struct):
    turn_id: str = ""


def read_head(scope: Scope, *, request_id: str, at: float, started: float) -> Incoming:
    """Take an ASGI scope apart."""
    headers: dict[bytes, bytes] = {}
    repeated: set[bytes] = set()
    for name, value in scope["headers"]:
        if name in headers:
            repeated.add(name)
        else:
            headers[name] = value
    path = scope["path"]
    return Incoming(
        id=request_id,
        method=scope["method"],
        path=path,
        query=scope["query_string"],
        headers=headers,
        repeated=frozenset(repeated),
        wire=_asking_wire(path, headers),
        at=at,
        started=started,
        flow=scope.get("extensions", {}).get(FLOW),
    )


def _asking_wire(path: str, headers: dict[bytes, bytes]) -> Wire:
    for prefix, wire in WIRE_PATHS.items():
        if path.startswith(prefix):
            return wire
    return "messages" if b"anthropic-version" in headers else "chat"


def _clean(value: bytes) -> str:
    """A client's id as short printable text: it goes to files and logs."""
    text = value.decode("latin-1")[:_MAX_ID_CHARS]
    return text if text.isprintable() else ""
