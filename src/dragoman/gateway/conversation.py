"""What is known of one request while it is being answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dragoman.wire import translate
from dragoman.wire.errors import Failure
from dragoman.wire.events import Usage
from dragoman.wire.translate import StreamEncoder
from dragoman.wire.turns import Recall, Request, Wire

from .asgi import Send
from .departure import Departure
from .incoming import Incoming
from .pulse import SILENCE_S
from .spool import UsageRow

if TYPE_CHECKING:
    from .legs import Leg


class Flow(Protocol):
    """Whether a connection takes more."""

    write_paused: bool


@dataclass(slots=True)
class Conversation:
    """A client's request through all its attempts.

    Attributes:
        incoming, body: as they came.
        model, stream: what the body asks for.
        send: ASGI's.
        departure: the watch over the client.
        response_id: letters and digits of the ids the client sees.
        created_at: Unix seconds.
        recall: the session's memory of reasoning.
        flow: whether the client's connection takes more; None where the server does not say.
        silence_s: how long a client hears nothing before a sign of life.
        request: the body decoded, once an attempt needed it.
        encoder: the client's stream, once it has been begun.
        committed: the answer's head has been sent: from here on errors are told inside the stream.
        usage, said: what the answer cost, as far as known.
        first_byte_at: monotonic seconds of the first content sent.
        finished_at: monotonic seconds when the answer was complete.
        own_s: time that was our own work.
        shims: what was changed on purpose for the last attempt.
        leg: what carries the answer while it streams.
        so_far: the usage row as it would be if this process died now.
    """

    incoming: Incoming
    body: bytes
    send: Send
    departure: Departure
    response_id: str
    created_at: int
    model: str = ""
    stream: bool = False
    recall: Recall | None = None
    flow: Flow | None = None
    silence_s: float = SILENCE_S
    request: Request | None = None
    encoder: StreamEncoder | None = None
    committed: bool = False
    usage: Usage | None = None
    said: int = 0
    first_byte_at: float | None = None
    finished_at: float | None = None
    own_s: float = 0.0
    shims: tuple[str, ...] = ()
    failure: Failure | None = None
    leg: Leg | None = None
    so_far: Callable[[], UsageRow] | None = None
    clock: Callable[[], float] = time.monotonic

    @property
    def wire(self) -> Wire:
        """The client's wire."""
        return self.incoming.wire

    def decoded(self) -> Request:
        """The body as a request, decoded once.

        Raises:
            BadRequest: it cannot be read.
        """
        if self.request is None:
            self.request = translate.decode_request(self.wire, self.body)
        return self.request
