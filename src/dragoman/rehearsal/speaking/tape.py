"""A stream as a tape: writes with the silence before each, so that pace is data and can be tested as such."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from dragoman.rehearsal.asked import CHARACTERS_PER_TOKEN
from dragoman.rehearsal.scenario import Pace

# Bodies carry a date; the same request must give the same bytes. 2026-01-01T00:00:00Z.
CREATED_AT = 1_767_225_600


class Frame(msgspec.Struct, frozen=True):
    """One write, and the silence before it."""

    wait_s: float
    data: bytes


class Tape:
    """Collects a stream. What follows without silence joins the same write, as real services send it."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._frames: list[tuple[float, list[bytes]]] = []
        self._wait_s: float | None = 0.0

    @property
    def frames(self) -> list[Frame]:
        """Everything said so far."""
        return [Frame(wait_s, b"".join(chunks)) for wait_s, chunks in self._frames]

    def put(self, data: bytes) -> None:
        """Say bytes, joined to the last write unless a pause was asked for."""
        if self._wait_s is None:
            self._frames[-1][1].append(data)
        else:
            self._frames.append((self._wait_s, [data]))
            self._wait_s = None

    def event(self, data: dict[str, Any], name: str | None = None) -> None:
        """Say a server-sent event."""
        head = b"" if name is None else b"event: %s\n" % name.encode()
        self.put(b"%sdata: %s\n\n" % (head, msgspec.json.encode(data)))

    def pause(self, seconds: float) -> None:
        """Begin a new write after a silence."""
        self._wait_s = (self._wait_s or 0.0) + seconds

    def spoken(self, text: str) -> Iterator[str]:
        """Yield a text in deltas, pausing before each as the pace wants; an empty text is one empty delta."""
        characters = self._pace.chunk_tokens * CHARACTERS_PER_TOKEN
        for at in range(0, len(text) or 1, characters):
            piece = text[at : at + characters]
            speed = self._pace.tokens_per_s
            self.pause(len(piece) / CHARACTERS_PER_TOKEN / speed if speed else 0.0)
            yield piece


def identifier(prefix: str, *seeds: str | int, length: int = 24) -> str:
    """Make an id that is the same for the same seeds."""
    digest = hashlib.sha256("/".join(str(seed) for seed in seeds).encode()).hexdigest()
    return prefix + digest[:length]


def sealed(text: str) -> str:
    """Make the opaque string that stands for signed or encrypted reasoning."""
    return base64.b64encode(hashlib.sha512(text.encode()).digest()).decode()
