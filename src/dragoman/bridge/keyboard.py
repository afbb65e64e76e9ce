"""Whose keyboard it is: the bridge's while it types a prompt, a person's while he types and a while after."""

from __future__ import annotations

from collections.abc import Callable

# A person who types has the terminal to himself for this long after the last key.
_TYPING_S = 5.0
# What a person types while a prompt goes in is kept; nobody types more than this in that time.
_MAX_KEPT_BYTES = 1 << 16


class SharedKeyboard:
    """Two write to one terminal, and never at once.

    Args:
        write: types into the terminal.
        clock: seconds, monotonic.
    """

    def __init__(self, write: Callable[[bytes], None], clock: Callable[[], float]) -> None:
        self._write, self._clock = write, clock
        self._held = False
        self._kept = bytearray()
        self._typed_at = float("-inf")

    @property
    def is_a_persons(self) -> bool:
        """Whether a person typed just now: no prompt is typed then."""
        return self._clock() - self._typed_at < _TYPING_S

    def person_typed(self, data: bytes) -> bool:
        """A person at an attached terminal typed; True when it is kept back while a prompt is being typed."""
        self._typed_at = self._clock()
        if not self._held:
            self._write(data)
        elif len(self._kept) + len(data) <= _MAX_KEPT_BYTES:
            self._kept += data
        return self._held

    def hold(self, on: bool) -> None:
        """Keep a person's typing back (True), or let it go (False)."""
        self._held = on
        if not on and self._kept:
            self._write(bytes(self._kept))
            self._kept.clear()
