"""One connection to an upstream, lent to one exchange at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from .answer import Answer
from .failures import ConnectionDropped

_JOIN_BELOW_BYTES = 64 * 1024


class Connection(asyncio.Protocol):
    """The protocol end of a connection.

    Attributes:
        usable: False once it may not serve another exchange.
        served: exchanges started on it.
    """

    __slots__ = ("_answer", "_on_free", "_on_lost", "_transport", "served", "usable")

    def __init__(self) -> None:
        self.usable = True
        self.served = 0
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._on_free: Callable[[Connection], None] | None = None
        self._on_lost: Callable[[Connection], None] | None = None

    def watch(self, on_free: Callable[[Connection], None], on_lost: Callable[[Connection], None]) -> None:
        """Say who is told when an exchange left the connection reusable, and when the connection is gone."""
        self._on_free = on_free
        self._on_lost = on_lost

    def attach(self, transport: asyncio.Transport) -> None:
        """Take over a transport that was upgraded to TLS (`start_tls` does not call `connection_made`)."""
        self._transport = transport

    def start(self, answer: Answer, head: bytes, body: bytes) -> None:
        """Write a request; `answer` receives what comes back.

        Raises:
            ConnectionDropped: the connection went away in the meantime.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionDropped(f"the connection to {answer.origin} is closed")
        self._answer = answer
        self.served += 1
        if len(body) < _JOIN_BELOW_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    def release(self, *, reusable: bool) -> None:
        """The exchange is over; keep the connection or close it."""
        self._answer = None
        transport = self._transport
        if transport is None:
            return
        # An upstream that answered before it read the whole request would read the rest as the next one.
        clean = self.alive and not transport.get_write_buffer_size()
        if reusable and clean and self._on_free is not None:
            self._on_free(self)
        else:
            self.close()

    def keep(self) -> None:
        """Nothing was asked on it yet: keep it. What uvloop has still to write ends the handshake."""
        if self.alive and self._on_free is not None:
            self._on_free(self)
        else:
            self.close()

    def pause(self) -> None:
        """Stop reading: the reader is slower than the upstream."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection at once, discarding what was not sent."""
        self.usable = False
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    @property
    def alive(self) -> bool:
        """True when a request may be written to it."""
        return self.usable and self._transport is not None and not self._transport.is_closing()

    # --- asyncio callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The unix transports of uvloop 0.23 are no subclass of asyncio.Transport: nothing to assert.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            # Bytes nobody asked for: whatever follows could be taken for the next answer.
            self.abort()
            return
        self._answer.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.lost(exc)
        if self._on_lost is not None:
            self._on_lost(self)
