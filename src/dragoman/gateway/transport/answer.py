"""One answer of an upstream: parsed as it arrives, read as it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import httptools

from .address import Origin
from .decoding import Inflater, inflater_for
from .failures import (
    AnswerAborted,
    AnswerCut,
    BrokenAnswer,
    ConnectionDropped,
    FirstByteTimedOut,
    IdleTimedOut,
    TransportError,
)
from .limits import Limits, Timeouts

if TYPE_CHECKING:
    from .connection import Connection

_MAX_INTERIM_ANSWERS = 16


class Answer:
    """Status, headers and the body as a sequence of reads.

    A read gives everything that arrived since the last one, so a reader that writes once a read writes once
    for each network read. The connection goes back to its pool by itself when the body is complete; until
    then the holder must end with `close`, after `drain` where the answer's own end has been seen.

    Attributes:
        status: HTTP status; 1xx are skipped.
        headers: lower-case names in the order they came.
        reused: True when the connection had served another exchange before.
        origin: where it came from.
        loop: the event loop it arrives on.
        sink: takes pieces the moment they arrive while a `read` is waiting and nothing is queued; a piece it
            does not take (False) goes to the `read`. Compressed bodies, and the last piece, never go to it.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_complete",
        "_connection",
        "_discard_left",
        "_extra",
        "_failure",
        "_framed",
        "_head_bytes",
        "_head_done",
        "_inflater",
        "_interim",
        "_keep_alive",
        "_last_at",
        "_limits",
        "_loop",
        "_no_body",
        "_nudged",
        "_parser",
        "_paused",
        "_seen_body",
        "_started_at",
        "_timeouts",
        "_timer",
        "_waiter",
        "began",
        "headers",
        "loop",
        "origin",
        "reused",
        "sink",
        "status",
    )

    def __init__(
        self,
        connection: Connection,
        origin: Origin,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        timeouts: Timeouts,
        reused: bool,
        no_body: bool,
    ) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.origin = origin
        self.reused = reused
        self.began = False
        self.sink: Callable[[bytes], bool] | None = None
        self._connection = connection
        self.loop = self._loop = loop
        self._limits = limits
        self._timeouts = timeouts
        self._no_body = no_body
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: TransportError | None = None
        self._head_done = False
        self._head_bytes = 0
        self._interim = 0
        self._framed = False
        self._keep_alive = False
        self._complete = False
        self._extra = False
        self._paused = False
        self._seen_body = False
        self._nudged = False
        self._discard_left: int | None = None
        self._inflater: Inflater | None = None
        self._started_at = self._last_at = loop.time()
        self._timer: asyncio.TimerHandle | None = loop.call_later(
            min(timeouts.first_byte_s, timeouts.idle_s), self._check_time
        )

    # --- for the holder

    @property
    def complete(self) -> bool:
        """True when the whole answer has arrived (parts of it may still wait to be read)."""
        return self._complete

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header by its lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    async def head(self) -> None:
        """Wait for status and headers.

        Raises:
            TransportError: there will be none.
        """
        while not self._head_done:
            if self._failure is not None:
                raise self._failure
            await self._wait()

    async def read(self) -> bytes | None:
        """The next piece of the body; `b""` at its end; None when `nudge` ended the wait.

        Raises:
            TransportError: the body ended early, fell silent, or was aborted.
        """
        while True:
            if self._chunks or (self._inflater is not None and self._inflater.waiting):
                if piece := self._take():
                    return piece
                continue
            if self._failure is not None:
                raise self._failure
            if self._complete:
                if self._inflater is not None and self._seen_body:
                    self._inflater.finish()
                return b""
            if self._nudged:
                self._nudged = False
                return None
            await self._wait()

    async def read_all(self, limit_bytes: int) -> bytes:
        """The rest of the body.

        Raises:
            BrokenAnswer: it is longer than `limit_bytes`.
            TransportError: as `read`.
        """
        pieces: list[bytes] = []
        size = 0
        while piece := await self._piece():
            pieces.append(piece)
            size += len(piece)
            if size > limit_bytes:
                self.abort()
                raise BrokenAnswer(f"the answer of {self.origin} is longer than {limit_bytes} bytes")
        return b"".join(pieces)

    async def _piece(self) -> bytes:
        while (piece := await self.read()) is None:
            pass
        return piece

    def nudge(self) -> None:
        """End a pending `read` with None, so that its caller can look at the clock."""
        if self._waiter is not None:
            self._nudged = True
            self._wake()

    def abort(self) -> None:
        """End the exchange now. Nothing happens when it is over already."""
        if not self._complete:
            self._fail(AnswerAborted(f"the exchange with {self.origin} was aborted"))
            self._connection.abort()

    def close(self) -> None:
        """Abort, unless the rest is being drained."""
        if self._discard_left is None:
            self.abort()

    def drain(self) -> None:
        """Let the rest arrive unread, within `Limits.drain_bytes` and `drain_s`, so that the upstream sees a
        clean end and the connection can be kept."""
        if self._complete or self._failure is not None:
            return
        self._chunks.clear()
        self._buffered = 0
        self._discard_left = self._limits.drain_bytes
        self._stop_timer()
        self._timer = self._loop.call_later(self._limits.drain_s, self.abort)
        self._resume()

    # --- for the connection

    def received(self, data: bytes) -> None:
        """Bytes from the network."""
        parser = self._parser
        if parser is None:
            return
        self.began = True
        self._last_at = self._loop.time()
        before_feed = self._head_bytes
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._break(f"the answer of {self.origin} is not HTTP/1.1: {str(error)[:80]}")
                return
            self._extra = True
        if not self._head_done:
            # An unfinished header is not told to us, so what arrived is counted, whole.
            self._head_bytes = before_feed + len(data)
        if self._head_bytes > self._limits.head_bytes:
            self._break(f"the headers of {self.origin} are longer than {self._limits.head_bytes} bytes")
            return
        if self._failure is not None:
            self._connection.abort()
        elif self._complete:
            self._parser = None  # it holds us, and would keep every answer until the next collection
            self._stop_timer()
            self._resume()
            self._connection.release(reusable=self._keep_alive and not self._extra)
        elif self.sink is not None and self._passed_on(self.sink):
            return
        elif self._discard_left is None and self._buffered > self._limits.buffer_bytes and not self._paused:
            self._paused = True
            self._connection.pause()
        self._wake()

    def _passed_on(self, sink: Callable[[bytes], bool]) -> bool:
        waiter, chunks = self._waiter, self._chunks
        if waiter is None or waiter.done() or not chunks or self._inflater is not None:
            return False
        if not sink(chunks[0] if len(chunks) == 1 else b"".join(chunks)):
            return False
        chunks.clear()
        self._buffered = 0
        return True

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self._complete or self._failure is not None:
            return
        if not self.began:
            self._fail(ConnectionDropped(f"{self.origin} closed the connection before it answered"))
        elif self._head_done and not self._framed and error is None:
            self._complete = True
            self._stop_timer()
            self._wake()
        else:
            self._fail(AnswerCut(f"the answer of {self.origin} was cut off"))

    # --- httptools callbacks; they must not raise

    def on_message_begin(self) -> None:
        self._extra = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return
        name = name.lower()
        self.headers.append((name, value))
        self._head_bytes += len(name) + len(value)
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        parser = self._parser
        if self._complete or parser is None:
            return
        status = parser.get_status_code()
        if status < 200:
            return
        self.status = status
        self._head_done = True
        self._keep_alive = parser.should_keep_alive()
        if status in (204, 304):
            self._framed = True
        try:
            self._inflater = inflater_for(self.header(b"content-encoding") or b"")
        except BrokenAnswer as error:
            self._fail(error)
        if self._no_body:
            self._complete = True
            self._keep_alive = False

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._seen_body = True
        if self._discard_left is None:
            self._chunks.append(body)
            self._buffered += len(body)
            return
        self._discard_left -= len(body)
        if self._discard_left < 0:
            self._fail(AnswerAborted(f"{self.origin} went on after the end of its answer"))

    def on_message_complete(self) -> None:
        if self._head_done:
            self._complete = True
            return
        self.headers.clear()
        self._framed = False
        self._interim += 1
        if self._interim > _MAX_INTERIM_ANSWERS:
            self._fail(BrokenAnswer(f"{self.origin} sent more than {_MAX_INTERIM_ANSWERS} interim answers"))

    # --- inside

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered = 0
        self._nudged = False
        if self._inflater is not None:
            try:
                data = self._inflater.take(data)
            except BrokenAnswer as error:
                self._fail(error)
                self._connection.abort()
                raise
            if self._inflater.waiting:
                return data
        self._resume()
        return data

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._last_at = self._loop.time()
            self._connection.resume()

    def _break(self, message: str) -> None:
        self._fail(BrokenAnswer(message))
        self._connection.abort()

    def _fail(self, failure: TransportError) -> None:
        if self._failure is None and not self._complete:
            failure.began = self.began
            self._failure = failure
            self._parser = None
            self._stop_timer()
            self._wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_time(self) -> None:
        """One timer an exchange, re-armed only when it fires: a read costs no timer."""
        now = self._loop.time()
        if self._seen_body:
            limit_s, since = self._timeouts.idle_s, now if self._paused else self._last_at
        else:
            limit_s, since = self._timeouts.first_byte_s, self._started_at
        if now < since + limit_s:
            # Both limits are looked at: the first byte may arrive before the longer one is due.
            due = min(since + limit_s, now + self._timeouts.idle_s)
            self._timer = self._loop.call_at(due, self._check_time)
            return
        if self._seen_body:
            self._fail(
                IdleTimedOut(f"{self.origin} was silent for {limit_s:g} s in the middle of its answer")
            )
        else:
            self._fail(FirstByteTimedOut(f"{self.origin} gave no answer within {limit_s:g} s"))
        self._connection.abort()
