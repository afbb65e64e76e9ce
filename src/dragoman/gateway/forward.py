"""Hand everything that is not data plane to the control process, over its unix socket.

Control is started when first needed and may take seconds or be killed at any time: the request is held for a
while, then refused with a hint. Streams of the data plane notice nothing of it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from .asgi import Headers, Receive, Send
from .bodies import read_body
from .departure import Departure
from .incoming import Incoming
from .replies import Refusal, send_head, send_refusal
from .transport import (
    Answer,
    ConnectFailed,
    Outgoing,
    Timeouts,
    Transport,
    TransportError,
    socket_origin,
)

HOLD_S = 10.0
CONTROL_PREFIXES = ("/c/", "/api/", "/mcp/")
CONTROL_PATHS = frozenset({"/", "/c", "/api", "/mcp", "/metrics"})
SCOPED_PREFIXES = ("/api", "/mcp", "/metrics")

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_ONLY_ASKING = frozenset({"GET", "HEAD"})
_OURS = frozenset({b"host", b"content-length", b"accept-encoding", b"expect", b"content-encoding"})
# Control streams events for as long as a page is open and blocks for the jobs it is asked to wait for.
_TIMEOUTS = Timeouts(connect_s=2.0, first_byte_s=3600.0, idle_s=86_400.0)


def is_control_path(path: str) -> bool:
    """Whether a path belongs to the control process."""
    return path in CONTROL_PATHS or path.startswith(CONTROL_PREFIXES)


class ControlDoor:
    """The way to the control process.

    Args:
        socket: its unix socket.
        transport: what carries the requests.
        hold_s: how long a request waits for control to come up.
        body_limit_bytes: largest request body taken.
    """

    def __init__(
        self,
        socket: Path,
        transport: Transport,
        *,
        hold_s: float = HOLD_S,
        body_limit_bytes: int = 64 << 20,
    ) -> None:
        self._origin = socket_origin(socket)
        self._transport = transport
        self._hold_s = hold_s
        self._body_limit_bytes = body_limit_bytes
        self._awake_until = 0.0

    async def relay(self, incoming: Incoming, raw_target: str, receive: Receive, send: Send) -> None:
        """Carry one request and its answer, streamed.

        Raises:
            ClientLeft: the client hung up while its body was read.
        """
        if incoming.token is not None and incoming.token.scope != "control" and _is_scoped(incoming.path):
            await send_refusal(
                send,
                incoming,
                Refusal(403, "forbidden", "This token opens model calls only.", hint="Use a control token."),
            )
            return
        body = await read_body(receive, incoming, self._body_limit_bytes)
        if isinstance(body, Refusal):
            await send_refusal(send, incoming, body)
            return
        request = Outgoing(
            incoming.method,
            self._origin,
            raw_target,
            _request_headers(incoming),
            body,
            incoming.headers.get(b"host"),
        )
        with Departure(receive) as departure:
            answer = await self._ask(request)
            if answer is None:
                departure.settle()
                await send_refusal(send, incoming, _unavailable())
            else:
                await self._carry(answer, incoming, send, departure)

    async def _ask(self, request: Outgoing) -> Answer | None:
        """Control's answer, or None when it does not come up.

        Control leaves when it is idle, and may do so between our look and our request. What never reached it,
        or only asks, is then sent to its successor; what may have been done is not done twice.
        """
        for attempt in (1, 2):
            if not await self._wake():
                return None
            try:
                return await self._transport.send(request, _TIMEOUTS)
            except TransportError as error:
                self._awake_until = 0.0
                again = isinstance(error, ConnectFailed) or (
                    request.method in _ONLY_ASKING and not error.began
                )
                if attempt == 2 or not again:
                    return None
        return None

    async def _carry(self, answer: Answer, incoming: Incoming, send: Send, departure: Departure) -> None:
        try:
            headers = [(n, v) for n, v in answer.headers if n not in _HOP_BY_HOP and n != b"content-encoding"]
            await send_head(send, incoming, answer.status, headers)
            while piece := await answer.read():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            departure.settle()
            await send({"type": "http.response.body", "body": b""})
        except TransportError:
            # Control was killed in the middle: the body stays without its end and the server closes the
            # connection, which is how HTTP says so.
            return
        finally:
            answer.abort()

    async def _wake(self) -> bool:
        """Whether control answers, waiting until it does or `hold_s` is over. A connection starts it."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._awake_until:
            return True
        deadline = loop.time() + self._hold_s
        while True:
            if await self._answers(deadline - loop.time()):
                # An idle control process ends after ten minutes; a probe a minute costs nothing.
                self._awake_until = loop.time() + 60.0
                return True
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(0.05)

    async def _answers(self, within_s: float) -> bool:
        # The parent listens on the socket while nobody serves it, so that a connection alone proves nothing.
        limit_s = max(within_s, 0.05)
        timeouts = Timeouts(connect_s=limit_s, first_byte_s=limit_s, idle_s=limit_s)
        try:
            answer = await self._transport.send(Outgoing("HEAD", self._origin, "/"), timeouts)
        except TransportError:
            return False
        answer.abort()
        return True


def _request_headers(incoming: Incoming) -> tuple[tuple[bytes, bytes], ...]:
    """The client's headers but for those of its own connection; control checks Host and Origin again."""
    kept: Headers = [
        (name, value)
        for name, value in incoming.headers.items()
        if name not in _HOP_BY_HOP and name not in _OURS
    ]
    kept.append((b"x-dragoman-request-id", incoming.id.encode("latin-1")))
    return tuple(kept)


def _is_scoped(path: str) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in SCOPED_PREFIXES)


def _unavailable() -> Refusal:
    return Refusal(
        503,
        "control_unavailable",
        "The control process does not answer; model calls are not affected.",
        hint="`dragoman logs` says why; `dragoman restart` starts it again.",
        headers=((b"retry-after", b"2"),),
    )
