"""Where everything stands in a TOML text: the offsets that let one value be replaced and nothing else."""

from __future__ import annotations

import re
import tomllib
from typing import NamedTuple

SpanPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_REST_OF_LINE = re.compile(r"[ \t]*(?:#[^\n]*)?\r?\n?")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?"{3,5}' r"|'''[\s\S]*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'"
)
_PLAIN_VALUE = re.compile(r"[^,\]}\r\n#]+")


class Section(NamedTuple):
    """The part under one header; the first one has no header.

    Attributes:
        path: the table.
        start, end: the header's line.
    """

    path: SpanPath
    start: int
    end: int


class Pair(NamedTuple):
    """One `key = value`.

    Attributes:
        section: index of its section.
        start, end: its lines, with indentation, comment and line end; of an inline pair only itself.
        value_start, value_end: the value.
        inline: whether it stands in an inline table.
    """

    section: int
    start: int
    end: int
    value_start: int
    value_end: int
    inline: bool


class Braces(NamedTuple):
    """An inline table: the offsets of its braces and of the pairs inside."""

    open: int
    close: int
    pairs: tuple[tuple[int, int], ...]


class Spans:
    """The map of a text that `tomllib` has accepted.

    Attributes:
        sections: in order; the first is the part before any header.
        pairs: path -> pair; paths through arrays hold the element's number.
        inline: path -> inline table.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.sections: list[Section] = [Section((), 0, 0)]
        self.pairs: dict[SpanPath, Pair] = {}
        self.inline: dict[SpanPath, Braces] = {}
        self._at = 0
        self._elements: dict[SpanPath, int] = {}
        self._document()

    def last_pair_of(self, section: int) -> Pair | None:
        """The last pair that stands directly in a section."""
        own = [pair for pair in self.pairs.values() if pair.section == section and not pair.inline]
        return max(own, key=lambda pair: pair.start, default=None)

    def _document(self) -> None:
        while self._blank() < len(self.text):
            start = self._line_start()
            if self.text.startswith("[[", self._at):
                self._header(start, "[[", "]]")
            elif self.text.startswith("[", self._at):
                self._header(start, "[", "]")
            else:
                self._pair(self.sections[-1].path, start)

    def _header(self, start: int, opening: str, closing: str) -> None:
        self._take(opening)
        keys = self._key()
        self._take(closing)
        path: SpanPath = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            if opening == "[[" and position == len(keys) - 1:
                self._elements[path] = self._elements.get(path, -1) + 1
            if path in self._elements:
                path = (*path, self._elements[path])
        self.sections.append(Section(path, start, self._line_end()))

    def _pair(self, table: SpanPath, start: int, *, inline: bool = False) -> None:
        path = (*table, *self._key())
        self._space()
        self._take("=")
        self._space()
        value_start = self._at
        self._value(path)
        value_end = self._at
        if self.text[value_start:value_end].strip() != self.text[value_start:value_end]:
            value_end = value_start + len(self.text[value_start:value_end].rstrip())
            self._at = value_end
        end = value_end if inline else self._line_end()
        self.pairs[path] = Pair(len(self.sections) - 1, start, end, value_start, value_end, inline)

    def _value(self, path: SpanPath) -> None:
        if string := _STRING.match(self.text, self._at):
            self._at = string.end()
        elif self._take("["):
            index = 0
            while self._blank() < len(self.text) and not self._take("]"):
                self._value((*path, index))
                self._blank()
                self._take(",")
                index += 1
        elif self._take("{"):
            opening = self._at - 1
            inside: list[tuple[int, int]] = []
            while self._blank() < len(self.text) and not self._take("}"):
                start = self._at
                self._pair(path, start, inline=True)
                inside.append((start, self._at))
                self._blank()
                self._take(",")
            self.inline[path] = Braces(opening, self._at - 1, tuple(inside))
        elif plain := _PLAIN_VALUE.match(self.text, self._at):
            self._at = plain.end()
        else:
            self._at += 1

    def _key(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._space()
            if string := _STRING.match(self.text, self._at):
                keys.append(tomllib.loads(f"key = {string[0]}")["key"])
                self._at = string.end()
            elif bare := _BARE_KEY.match(self.text, self._at):
                keys.append(bare[0])
                self._at = bare.end()
            else:
                self._at += 1
            self._space()
            if not self._take("."):
                return keys

    def _line_start(self) -> int:
        return self.text.rfind("\n", 0, self._at) + 1

    def _line_end(self) -> int:
        if rest := _REST_OF_LINE.match(self.text, self._at):
            self._at = rest.end()
        return self._at

    def _blank(self) -> int:
        if found := _BLANK.match(self.text, self._at):
            self._at = found.end()
        return self._at

    def _space(self) -> None:
        if found := _SPACE.match(self.text, self._at):
            self._at = found.end()

    def _take(self, token: str) -> bool:
        if self.text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False
