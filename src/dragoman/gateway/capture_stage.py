"""The stage a recording is played on: everything the gateway got from outside comes from the recording.

Each of these stands where the real thing stands in `Means`; the exchange, the attempts, the translation and
the pump between them are the real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import msgspec

from dragoman.config.tokens import TokenLimits, TokenRecord
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import Failure
from dragoman.wire.turns import Reasoning

from .budgets import Budgets
from .capture_file import Capture, NoCapture, Sent, bytes_of, headers_of
from .exchange import Means
from .incoming import Incoming
from .keys import Key, KeysExhausted, KeyStates
from .quota_headers import QuotaHeaders
from .routes import Route, RouteTable, UnknownModel
from .tariffs import Tariffs
from .transport import Answer, Outgoing, Timeouts, Transport, TransportError


class PlainKey(msgspec.Struct, frozen=True):
    """A key; its secret is what stands in its place."""

    label: str
    secret: str | None


class PlainLease(msgspec.Struct, frozen=True):
    """The number of the key lent, or why none was."""

    key: int | None = None
    failure: Failure | None = None


class PlainToken(msgspec.Struct, frozen=True):
    """What a token may."""

    models: tuple[str, ...] | None
    limited: bool


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway knew; the fields are those of `capture_tape.Staged` and of the conversation."""

    response_id: str
    created_at: int
    silence_s: float
    embedded_url: str
    token: PlainToken | None
    route: Route | None
    nearest: str | None
    learned: list[tuple[str, str, Dialect]]
    keys: dict[str, list[PlainKey]]
    leases: list[PlainLease | None]
    added: dict[str, list[tuple[str, str]]]
    refused: Failure | None
    walls: list[float]
    recalled: dict[str, Reasoning]

    def token_record(self) -> TokenRecord | None:
        """A token that may what the client's might."""
        if self.token is None:
            return None
        limits = TokenLimits(requests=1) if self.token.limited else TokenLimits()
        return TokenRecord(id="0" * 64, scope="data", created_at=0.0, models=self.token.models, limits=limits)


def read_stage(capture: Capture) -> Stage:
    """The stage of a recording.

    Raises:
        NoCapture: it was recorded by a version that knew other things.
    """
    try:
        return msgspec.convert(capture.stage, Stage)
    except msgspec.ValidationError as error:
        raise NoCapture(
            f"the recording by dragoman {capture.dragoman} does not fit this version: {error}"[:300],
            hint="record it again with this version",
        ) from None


@dataclass(slots=True)
class Asking:
    """A request the replay sent to an upstream."""

    method: str
    url: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Play:
    """A recording at play.

    Args:
        capture: the recording.
        stage: its stage.

    Attributes:
        asked: what was sent to upstreams, in order.
        left: set when the client leaves.
    """

    def __init__(self, capture: Capture, stage: Stage) -> None:
        self.asked: list[Asking] = []
        self.left = asyncio.Event()
        self._capture = capture
        self._stage = stage
        self._leases = list(stage.leases)
        self._walls = list(stage.walls)

    def means(self, clock: Callable[[], float]) -> Means:
        """What an exchange works with here."""
        stage = self._stage
        return Means(
            routes=cast("RouteTable", self),
            keys={name: _keys(name, keys) for name, keys in stage.keys.items()},
            key_states=cast("KeyStates", self),
            budgets=cast("Budgets", self),
            tariffs=cast("Tariffs", self),
            quota=cast("QuotaHeaders", self),
            transport=cast("Transport", self),
            learned={(provider, model): dialect for provider, model, dialect in stage.learned},
            embedded_url=stage.embedded_url,
            clock=clock,
            wall=self._wall,
            new_id=lambda: stage.response_id,
            silence_s=stage.silence_s,
            note=lambda event, **fields: None,
        )

    async def leave(self) -> NoReturn:
        """The client leaves here."""
        self.left.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("the client is gone")

    def _wall(self) -> float:
        if len(self._walls) > 1:
            return self._walls.pop(0)
        return self._walls[0] if self._walls else self._capture.at

    # --- as the route table, the budgets, the tariffs, the quota

    def resolve(self, model: str, client_wire: str) -> Route:
        if self._stage.route is None:
            raise UnknownModel(model, self._stage.nearest)
        return self._stage.route

    async def room(self, *_: Any, **__: Any) -> None:
        if self._capture.ended == "left" and not self._stage.leases:
            await self.leave()

    def admit(self, *_: Any, **__: Any) -> Failure | None:
        return self._stage.refused

    def spend(self, *_: Any, **__: Any) -> None:
        return

    def price_of(self, *_: Any, **__: Any) -> tuple[None, str]:
        return None, ""

    def headers_for(self, incoming: Incoming, provider: str) -> tuple[tuple[bytes, bytes], ...]:
        return tuple(headers_of(self._stage.added.get(provider, [])))

    # --- as the memory

    def find(self, call_id: str) -> Reasoning | None:
        return self._stage.recalled.get(call_id)

    def keep(self, call_ids: Sequence[str], reasoning: Reasoning) -> None:
        return

    # --- as the keys

    async def lease(self, keys: tuple[Key, ...], *_: Any, **__: Any) -> _Lease:
        lent = self._leases.pop(0) if self._leases else PlainLease(key=0)
        if lent is None:
            await self.leave()
        if lent.failure is not None:
            raise KeysExhausted(lent.failure)
        return _Lease(keys[(lent.key or 0) % len(keys)])

    # --- as the transport

    async def send(self, request: Outgoing, timeouts: Timeouts) -> Answer:
        number = len(self.asked)
        url = f"{request.origin}{request.target}"
        self.asked.append(Asking(request.method, url, list(request.headers), request.body))
        if number >= len(self._capture.upstream):
            raise TransportError("the recording has no further answer")
        script = self._capture.upstream[number]
        if script.answer is None:
            if script.fault is None:
                await self.leave()
            raise TransportError(script.fault.message, code=script.fault.code)
        return cast("Answer", _ScriptedAnswer(script, self, self._stage.silence_s))


def _keys(provider: str, keys: list[PlainKey]) -> tuple[Key, ...]:
    return tuple(Key(provider, key.label, key.secret) for key in keys)


@dataclass(slots=True)
class _Lease:
    key: Key

    def release(self) -> None:
        return

    def succeeded(self) -> None:
        return

    def failed(self, found: Failure) -> None:
        return


class _Silences:
    """As much of a loop as measures silence: it is over when the recording says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def call_later(self, *_: Any) -> _Silences:
        return self

    call_at = call_later

    def cancel(self) -> None:
        return


class _ScriptedAnswer:
    """An upstream's answer, handed on in the recorded pieces."""

    reused = False
    origin = "the recording"

    def __init__(self, script: Sent, play: Play, silence_s: float) -> None:
        answer = script.answer
        assert answer is not None
        self.status = answer.status
        self.headers = headers_of(answer.headers)
        self.loop = _Silences()
        self.sink = None
        self._script = script
        self._play = play
        self._silence_s = silence_s
        self._pieces = list(_cut(bytes_of(answer.body), [length for _, length in answer.pieces]))

    @property
    def complete(self) -> bool:
        return not self._pieces and self._script.end == "complete"

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)

    async def read(self) -> bytes | None:
        if self._pieces:
            piece = self._pieces.pop(0)
            if piece:
                return piece
            self.loop.now += self._silence_s + 1.0
            return None
        if self._script.end == "left":
            await self._play.leave()
        if (fault := self._script.fault) is not None:
            raise TransportError(fault.message, code=fault.code)
        return b""

    async def read_all(self, limit_bytes: int) -> bytes:
        pieces: list[bytes] = []
        while (piece := await self.read()) != b"":
            pieces.append(piece or b"")
        return b"".join(pieces)

    def nudge(self) -> None:
        return

    def abort(self) -> None:
        return

    close = drain = abort


def _cut(body: bytes, lengths: list[int]) -> Sequence[bytes]:
    pieces: list[bytes] = []
    at = 0
    for length in lengths:
        pieces.append(body[at : at + length])
        at += length
    if at < len(body):
        pieces.append(body[at:])
    return pieces
