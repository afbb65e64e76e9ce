"""Undo a compression we did not ask for: some upstreams compress although the request says `identity`."""

from __future__ import annotations

import zlib
from typing import Protocol

from .failures import AnswerCut, BrokenAnswer

PIECE_BYTES = 1 << 20


class Inflater(Protocol):
    """Takes compressed bytes, gives plain ones, at most PIECE_BYTES a call: a bomb cannot fill memory."""

    def take(self, data: bytes) -> bytes: ...
    @property
    def waiting(self) -> bool:
        """True when there is more output for the bytes already taken."""
        ...

    def finish(self) -> None:
        """Raise `AnswerCut` when the compressed stream has not ended."""
        ...


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._decoder = zlib.decompressobj(window_bits)
        self._tail = b""

    @property
    def waiting(self) -> bool:
        return bool(self._tail)

    def take(self, data: bytes) -> bytes:
        try:
            piece = self._decoder.decompress(self._tail + data, PIECE_BYTES)
        except zlib.error:
            raise BrokenAnswer("the upstream's compressed answer is damaged") from None
        self._tail = self._decoder.unconsumed_tail
        return piece

    def finish(self) -> None:
        if not self._decoder.eof:
            raise AnswerCut("the upstream's compressed answer ended early")


def inflater_for(encoding: bytes) -> Inflater | None:
    """The inflater of a Content-Encoding value, None for plain bodies.

    Raises:
        BrokenAnswer: an encoding nobody asked for and we cannot read.
    """
    match encoding.strip().lower():
        case b"" | b"identity":
            return None
        case b"gzip" | b"x-gzip":
            return _Zlib(31)
        case b"deflate":
            return _Zlib(15)
        case other:
            name = other.decode("latin-1")[:40]
            raise BrokenAnswer(f"the upstream compressed its answer with {name!r} although asked not to")
