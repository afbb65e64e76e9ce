"""Play a recording again, without a network, and compare byte for byte.

The client's request goes through the real exchange: decoded, repaired, encoded for the upstream, its recorded
answer decoded and encoded for the client. What upstreams were sent and what the client was told must be what
the recording says.
"""

from __future__ import annotations

import asyncio
import re
from difflib import unified_diff
from typing import Any

import msgspec

from dragoman import __version__
from dragoman.wire.turns import Wire

from .asgi import Headers, Message
from .capture_file import Capture, NoCapture, bytes_of, headers_of
from .capture_loop import HurriedLoop, Stuck
from .capture_stage import Asking, Play, Stage, read_stage
from .conversation import Conversation
from .departure import ClientLeft, Departure
from .exchange import Exchange
from .incoming import Incoming

_SHOWN_CHARS = 160
_SHOWN_LINES = 40


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was compared.

    Attributes:
        what: such as `upstream request 1 body` or `answer body`.
        same: whether it is the same byte for byte.
        bytes: how long it is in the recording.
        at: where the first difference is, None when there is none.
        diff: what is different, line by line.
    """

    what: str
    same: bool
    bytes: int
    at: int | None = None
    diff: list[str] = []


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay went.

    Attributes:
        id: the recording's.
        same: nothing is different.
        dragoman: the version that played.
        recorded_by: the version that recorded.
        parts: what was compared, in order.
        answer: what the client was told this time.
    """

    id: str
    same: bool
    dragoman: str
    recorded_by: str
    parts: list[Part]
    answer: bytes


def replay(capture: Capture) -> Replayed:
    """Play a recording and compare.

    Raises:
        NoCapture: it is incomplete, or does not fit this version.
    """
    if capture.incomplete:
        raise NoCapture(
            f"the exchange {capture.id} was too large to be recorded whole", hint="dragoman capture list"
        )
    stage = read_stage(capture)
    loop = HurriedLoop()
    try:
        told = loop.run_until_complete(_play(capture, stage))
    except Stuck:
        raise NoCapture(f"the replay of {capture.id} waits for what was not recorded") from None
    finally:
        loop.close()
    parts = [*_requests(capture, told.play.asked), *_answer(capture, told)]
    return Replayed(
        id=capture.id,
        same=all(part.same for part in parts),
        dragoman=__version__,
        recorded_by=capture.dragoman,
        parts=parts,
        answer=told.body,
    )


def describe_replay(played: Replayed) -> dict[str, Any]:
    """A replay as every surface shows it: of the answer only its length."""
    plain: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(played, answer=b""))
    return {**plain, "answer": len(played.answer)}


class _Told:
    """What the client hears."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.status = 0
        self.headers: Headers = []
        self.body = b""
        self.mistake = ""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")


async def _play(capture: Capture, stage: Stage) -> _Told:
    loop = asyncio.get_running_loop()
    play = Play(capture, stage)
    told = _Told(play)

    async def receive() -> Message:
        await play.left.wait()
        return {"type": "http.disconnect"}

    incoming = _incoming(capture, stage, loop.time())
    try:
        with Departure(receive) as departure:
            talk = Conversation(
                incoming=incoming,
                body=bytes_of(capture.request.body),
                send=told.send,
                departure=departure,
                response_id=stage.response_id,
                created_at=stage.created_at,
                recall=play,
                silence_s=stage.silence_s,
                clock=loop.time,
            )
            await Exchange(play.means(loop.time), talk, lambda row: None).run()
    except ClientLeft:
        pass
    except Exception as error:  # noqa: BLE001 - what broke the exchange then may break it now, and is compared
        told.mistake = type(error).__name__
    return told


def _incoming(capture: Capture, stage: Stage, now: float) -> Incoming:
    asked = capture.request
    wire: Wire = capture.client_wire
    return Incoming(
        id=capture.id,
        method=asked.method,
        path=asked.path,
        query=asked.query.encode("latin-1"),
        headers=dict(headers_of(asked.headers)),
        repeated=frozenset(name.encode("latin-1") for name in asked.repeated),
        wire=wire,
        at=capture.at,
        started=now,
        token=stage.token_record(),
    )


# --- comparing


def _requests(capture: Capture, asked: list[Asking]) -> list[Part]:
    parts: list[Part] = []
    if len(asked) != len(capture.upstream):
        said = f"{len(capture.upstream)} requests were recorded, {len(asked)} were made"
        parts.append(Part(what="upstream requests", same=False, bytes=0, diff=[said]))
    for number, (old, new) in enumerate(zip(capture.upstream, asked, strict=False), 1):
        name = f"upstream request {number}"
        line = f"{old.method} {old.url}".encode("latin-1")
        parts.append(_compare(f"{name} line", line, f"{new.method} {new.url}".encode("latin-1")))
        headers = _plain_headers(headers_of(old.headers), capture.dragoman)
        parts.append(_compare(f"{name} headers", headers, _plain_headers(new.headers, __version__)))
        parts.append(_compare(f"{name} body", bytes_of(old.body), new.body))
    return parts


def _answer(capture: Capture, told: _Told) -> list[Part]:
    old = capture.answer
    if bool(told.mistake) != (capture.ended == "broken"):
        said = f"the exchange broke: {told.mistake}" if told.mistake else "the exchange broke then, not now"
        return [Part(what="answer", same=False, bytes=0, diff=[said])]
    if old is None:
        same = told.status == 0
        diff = [] if same else [f"no answer was recorded, one with status {told.status} was given"]
        return [Part(what="answer", same=same, bytes=0, diff=diff)]
    return [
        _compare("answer status", str(old.status).encode(), str(told.status).encode()),
        _compare("answer headers", _plain_headers(headers_of(old.headers)), _plain_headers(told.headers)),
        _compare("answer body", bytes_of(old.body), told.body),
    ]


def _plain_headers(headers: Headers, version: str = "") -> bytes:
    """Headers as lines; our own version in them is no difference."""
    own = f"dragoman/{version}".encode()
    return b"\n".join(name + b": " + (b"dragoman" if value == own else value) for name, value in headers)


def _compare(what: str, old: bytes, new: bytes) -> Part:
    if old == new:
        return Part(what=what, same=True, bytes=len(old))
    at = next(
        (place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
        min(len(old), len(new)),
    )
    return Part(what=what, same=False, bytes=len(old), at=at, diff=_diff(old, new))


def _diff(old: bytes, new: bytes) -> list[str]:
    lines = unified_diff(_lines(old), _lines(new), "recorded", "replayed", n=1, lineterm="")
    shown: list[str] = []
    for line in lines:
        if len(shown) >= _SHOWN_LINES:
            shown.append("…")
            break
        shown.append(line)
    return shown


def _lines(data: bytes) -> list[str]:
    """Lines short enough to be read; a long one is cut into members, so that the diff shows the one."""
    lines: list[str] = []
    for line in data.decode("utf-8", "replace").splitlines():
        pieces = re.split(r"(?<=,)(?=[\"{\[])", line) if len(line) > _SHOWN_CHARS else [line]
        lines += [
            piece[start : start + _SHOWN_CHARS]
            for piece in pieces
            for start in range(0, max(len(piece), 1), _SHOWN_CHARS)
        ]
    return lines
