"""Reasoning that comes inside the text, between `<think>` and `</think>`, told apart from it again."""

from __future__ import annotations

from typing import Literal

from dragoman.wire.turns import RawText, plain, raw

_OPEN = "<think>"
_CLOSE = "</think>"

Lane = Literal["text", "reasoning"]


class ThinkTags:
    """Splits a stream of text pieces. A tag may be cut anywhere; only a leading block of thoughts counts."""

    def __init__(self) -> None:
        self._held: str = ""
        self._state: Literal["start", "opened", "thinking", "after", "text"] = "start"

    def feed(self, text: RawText) -> list[tuple[Lane, RawText]]:
        """The pieces that `text` completes."""
        if self._state == "text":
            return [("text", text)]
        self._held += plain(text)
        return self._split(at_end=False)

    def end(self) -> list[tuple[Lane, RawText]]:
        """What was held back because it might have been half a tag."""
        return self._split(at_end=True)

    def _split(self, *, at_end: bool) -> list[tuple[Lane, RawText]]:
        out: list[tuple[Lane, RawText]] = []
        if self._state == "start":
            seen = self._held.lstrip()
            if seen.startswith(_OPEN):
                self._held = seen[len(_OPEN) :]
                self._state = "opened"
            elif not at_end and _OPEN.startswith(seen):
                return out
            else:
                self._state = "text"
        if self._state == "opened":
            self._held = self._held.lstrip("\n")
            if self._held:
                self._state = "thinking"
        if self._state == "thinking":
            thought, tag, rest = self._held.partition(_CLOSE)
            keep = 0 if tag or at_end else _half_tag(thought)
            ready = thought[: len(thought) - keep]
            if ready:
                out.append(("reasoning", raw(ready)))
            self._held = rest if tag else thought[len(ready) :]
            if tag:
                self._state = "after"
        if self._state == "after":
            self._held = self._held.lstrip("\n")
            if self._held:
                self._state = "text"
        if self._state == "text" and self._held:
            out.append(("text", raw(self._held)))
            self._held = ""
        return out


def _half_tag(text: str) -> int:
    """How many characters at the end may be the beginning of a closing tag."""
    for size in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if _CLOSE.startswith(text[-size:]):
            return size
    return 0
