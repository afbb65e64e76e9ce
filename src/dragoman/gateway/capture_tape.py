"""Record one exchange: what it works with is wrapped, the exchange itself knows nothing of it.

Everything that comes from outside (the upstreams' answers, the keys lent, the time, what a session remembers)
is noted as it is handed in, so that the replay can hand in the same. Bytes are noted by reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import Failure
from dragoman.wire.turns import Reasoning, Recall, Wire

from .asgi import Headers, Message
from .budgets import Budgets
from .capture_file import AnswerEnd, ClientEnd
from .conversation import Conversation
from .exchange import Exchange, Means
from .incoming import Incoming
from .keys import Key, KeysExhausted, KeyStates, Lease
from .quota_headers import QuotaHeaders
from .routes import Route, RouteTable, UnknownModel
from .spool import UsageRow
from .transport import Answer, Outgoing, Timeouts, Transport, TransportError
from .transport.failures import BrokenAnswer


class Room:
    """How many bytes all recordings of a process may hold before they are on disk.

    Args:
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, count: int) -> bool:
        """Take some; False when there is not so much."""
        if count > self.left:
            return False
        self.left -= count
        return True

    def give(self, count: int) -> None:
        """Give some back."""
        self.left += count


@dataclass(slots=True)
class TapedAnswer:
    """An answer as it passes; an empty piece is a silence that was told of."""

    at: float
    status: int
    headers: Headers
    pieces: list[tuple[float, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class TapedRequest:
    """A request to an upstream and what came of it."""

    at: float
    sent: Outgoing
    answer: TapedAnswer | None = None
    end: AnswerEnd = "unread"
    fault: TransportError | None = None


@dataclass(slots=True)
class Staged:
    """What the gateway knew and decided on the way.

    Attributes:
        route: where the name led; None when nowhere.
        nearest: the known name most like one that led nowhere.
        learned: quirks seen before.
        keys: the keys of each provider asked.
        leases: the key lent each time, or why none was; None while the client left.
        added: headers about quota, by provider.
        recalled: reasoning found by call id.
        refused: what the budget said.
        walls: Unix seconds, each time somebody looked.
    """

    route: Route | None = None
    nearest: str | None = None
    learned: dict[tuple[str, str], Dialect] = field(default_factory=dict)
    keys: dict[str, tuple[Key, ...]] = field(default_factory=dict)
    leases: list[Key | Failure | None] = field(default_factory=list)
    added: dict[str, tuple[tuple[bytes, bytes], ...]] = field(default_factory=dict)
    recalled: dict[str, Reasoning] = field(default_factory=dict)
    refused: Failure | None = None
    walls: list[float] = field(default_factory=list)


class Tape:
    """The recording of one exchange.

    Args:
        talk: the request; its `send` and `recall` are wrapped here.
        means: what the exchange works with.
        record: takes the usage row.
        limit_bytes: what is kept of it at most.
        room: what all recordings may hold together.

    Attributes:
        talk, staged, requests, answer: what was recorded.
        row: its usage row.
        ended: how it ended for the client.
        cut: it was too large; `requests` and `answer` are not whole.
        held: bytes it takes of the room.
    """

    def __init__(
        self,
        talk: Conversation,
        means: Means,
        record: Callable[[UsageRow], None],
        *,
        limit_bytes: int,
        room: Room,
    ) -> None:
        self.talk = talk
        self.means = means
        self.staged = Staged(learned=dict(means.learned))
        self.requests: list[TapedRequest] = []
        self.answer: TapedAnswer | None = None
        self.row: UsageRow | None = None
        self.ended: ClientEnd = "left"
        self.cut = False
        self.held = 0
        self._record = record
        self._limit = limit_bytes
        self._room = room
        self._send = talk.send
        self._silent: TapedRequest | None = None
        self.keeps(talk.body)

    async def run(self) -> None:
        """Carry the exchange and record it.

        Raises:
            ClientLeft: as `Exchange.run`.
        """

        def note_row(row: UsageRow) -> None:
            self.row = row
            self._record(row)

        talk = self.talk
        talk.send = self._note_send
        if talk.recall is not None:
            talk.recall = _Recall(talk.recall, self.staged.recalled)
        try:
            await Exchange(self._wrapped(), talk, note_row).run()
        except Exception:
            self.ended = "broken"
            raise
        finally:
            if self.ended == "left" and self.requests and self.requests[-1].end == "unread":
                self.requests[-1].end = "left"

    def release(self) -> None:
        """The recording is on disk, or given up."""
        self._room.give(self.held)
        self.held = 0

    def keeps(self, data: bytes) -> bool:
        """Whether some more bytes can be held; once they cannot, nothing more is."""
        if self.cut or self.held + len(data) > self._limit or not self._room.take(len(data)):
            self.cut = True
            return False
        self.held += len(data)
        return True

    def note(self, request: TapedRequest, piece: bytes, at: float) -> None:
        """A piece of an upstream's answer was handed on."""
        if request.answer is not None and self.keeps(piece):
            request.answer.pieces.append((at, piece))

    def note_silence(self, request: TapedRequest | None) -> None:
        """Somebody looked at the clock; if the client hears something next, this was why."""
        self._silent = request

    async def _note_send(self, message: Message) -> None:
        at = self.talk.clock()
        if (silent := self._silent) is not None:
            self._silent = None
            if silent.answer is not None:
                silent.answer.pieces.append((at, b""))
        if message["type"] == "http.response.start":
            self.answer = TapedAnswer(at, message["status"], list(message["headers"]))
        elif self.answer is not None:
            body = message.get("body", b"")
            if body and self.keeps(body):
                self.answer.pieces.append((at, body))
            if not message.get("more_body", False):
                self.ended = "whole"
        await self._send(message)

    def _wrapped(self) -> Means:
        means, staged = self.means, self.staged

        def wall() -> float:
            at = means.wall()
            staged.walls.append(at)
            return at

        return dataclasses.replace(
            means,
            routes=cast("RouteTable", _Routes(means.routes, staged)),
            key_states=cast("KeyStates", _Keys(means.key_states, staged)),
            budgets=cast("Budgets", _Budgets(means.budgets, staged)),
            quota=cast("QuotaHeaders", _Quota(means.quota, staged)),
            transport=cast("Transport", _Transport(means.transport, self)),
            wall=wall,
        )


class _Wrapper:
    """Passes on everything it does not know."""

    def __init__(self, inner: Any, staged: Staged) -> None:
        self._inner = inner
        self._staged = staged

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Routes(_Wrapper):
    def resolve(self, model: str, client_wire: Wire) -> Route:
        try:
            self._staged.route = self._inner.resolve(model, client_wire)
        except UnknownModel as error:
            self._staged.nearest = error.nearest
            raise
        return self._staged.route  # pyright: ignore[reportReturnType]


class _Keys(_Wrapper):
    async def lease(self, keys: tuple[Key, ...], *more: Any, **how: Any) -> Lease:
        staged = self._staged
        staged.keys[keys[0].provider] = keys
        place = len(staged.leases)
        staged.leases.append(None)
        try:
            lease: Lease = await self._inner.lease(keys, *more, **how)
        except KeysExhausted as error:
            staged.leases[place] = error.failure
            raise
        staged.leases[place] = lease.key
        return lease


class _Budgets(_Wrapper):
    def admit(self, *told: Any, **more: Any) -> Failure | None:
        self._staged.refused = self._inner.admit(*told, **more)
        return self._staged.refused


class _Quota(_Wrapper):
    def headers_for(self, incoming: Incoming, provider: str) -> tuple[tuple[bytes, bytes], ...]:
        found = self._inner.headers_for(incoming, provider)
        if found:
            self._staged.added[provider] = found
        return found


class _Recall:
    """A session's memory; what is found in it is noted."""

    def __init__(self, inner: Recall, found: dict[str, Reasoning]) -> None:
        self._inner = inner
        self._found = found

    def find(self, call_id: str) -> Reasoning | None:
        reasoning = self._inner.find(call_id)
        if reasoning is not None:
            self._found[call_id] = reasoning
        return reasoning

    def keep(self, call_ids: Sequence[str], reasoning: Reasoning) -> None:
        self._inner.keep(call_ids, reasoning)


class _Transport:
    """Notes requests, and wraps their answers."""

    def __init__(self, inner: Transport, tape: Tape) -> None:
        self._inner = inner
        self._tape = tape

    async def send(self, request: Outgoing, timeouts: Timeouts) -> Answer:
        tape = self._tape
        taped = TapedRequest(tape.talk.clock(), request, end="left")
        tape.requests.append(taped)
        tape.keeps(request.body)
        try:
            answer = await self._inner.send(request, timeouts)
        except TransportError as error:
            taped.end, taped.fault = "failed", error
            raise
        taped.answer = TapedAnswer(tape.talk.clock(), answer.status, list(answer.headers))
        taped.end = "unread"
        return cast("Answer", _Answer(answer, taped, tape))


class _Answer:
    """An upstream's answer; what its reader gets is noted."""

    def __init__(self, inner: Answer, taped: TapedRequest, tape: Tape) -> None:
        self._inner = inner
        self._taped = taped
        self._tape = tape
        self._sink: Callable[[bytes], bool] | None = None
        self._inside = False
        self._called = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def sink(self) -> Callable[[bytes], bool] | None:
        return self._sink

    @sink.setter
    def sink(self, sink: Callable[[bytes], bool] | None) -> None:
        self._sink = sink
        self._inner.sink = None if sink is None else self._pass_on

    def nudge(self) -> None:
        # A reader that calls itself has something to do; any other call is about silence.
        self._called = self._called or self._inside
        self._inner.nudge()

    async def read(self) -> bytes | None:
        taped, tape = self._taped, self._tape
        tape.note_silence(None)
        try:
            piece = await self._inner.read()
        except TransportError as error:
            taped.end, taped.fault = "failed", error
            raise
        if piece:
            tape.note(taped, piece, tape.talk.clock())
        elif piece is not None:
            taped.end = "complete"
        elif not self._called:
            tape.note_silence(taped)
        self._called = False
        return piece

    async def read_all(self, limit_bytes: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while (piece := await self.read()) != b"":
            pieces.append(piece or b"")
            size += len(pieces[-1])
            if size > limit_bytes:
                self._inner.abort()
                error = BrokenAnswer(f"the answer of {self._inner.origin} is longer than {limit_bytes} bytes")
                self._taped.end, self._taped.fault = "failed", error
                raise error
        return b"".join(pieces)

    def _pass_on(self, data: bytes) -> bool:
        sink, tape = self._sink, self._tape
        if sink is None:
            return False
        at = tape.talk.clock()
        self._inside = True
        try:
            taken = sink(data)
        finally:
            self._inside = False
        if taken:
            tape.note(self._taped, data, at)
        return taken
