"""Where each key of a TOML text stands: tomllib gives values without lines, an error needs the line."""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\[\s\S]|[^\\])*?"{3,5}' r"|'''[\s\S]*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'"
)
_PLAIN_VALUE = re.compile(r"[^,\]}\n#]+")


def key_lines(text: str) -> dict[Path, int]:
    """Map every table, key and array element of a TOML text to its line, counted from 1.

    Args:
        text: TOML that `tomllib` has accepted; anything else gives lines without meaning.
    """
    return _Scanner(text).document()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.elements: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self.blank() < len(self.text):
            if self.take("[["):
                table = self.header(repeated=True)
                self.take("]]")
            elif self.take("["):
                table = self.header(repeated=False)
                self.take("]")
            else:
                self.pair(table)
        return self.lines

    def header(self, *, repeated: bool) -> Path:
        keys = self.key()
        path: Path = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            self.note(path)
            last = position == len(keys) - 1
            if last and repeated:
                self.elements[path] = self.elements.get(path, -1) + 1
            if path in self.elements:
                path = (*path, self.elements[path])
                self.note(path)
        return path

    def pair(self, table: Path) -> None:
        path = table
        for key in self.key():
            path = (*path, key)
            self.note(path)
        self.space()
        self.take("=")
        self.space()
        self.value(path)

    def value(self, path: Path) -> None:
        if string := _STRING.match(self.text, self.at):
            self.at = string.end()
        elif self.take("["):
            index = 0
            while self.blank() < len(self.text) and not self.take("]"):
                self.note((*path, index))
                self.value((*path, index))
                self.blank()
                self.take(",")
                index += 1
        elif self.take("{"):
            while self.blank() < len(self.text) and not self.take("}"):
                self.pair(path)
                self.blank()
                self.take(",")
        elif plain := _PLAIN_VALUE.match(self.text, self.at):
            self.at = plain.end()
        else:
            self.at += 1

    def key(self) -> list[str]:
        keys: list[str] = []
        while True:
            self.space()
            if string := _STRING.match(self.text, self.at):
                keys.append(tomllib.loads(f"key = {string[0]}")["key"])
                self.at = string.end()
            elif bare := _BARE_KEY.match(self.text, self.at):
                keys.append(bare[0])
                self.at = bare.end()
            else:
                self.at += 1
            self.space()
            if not self.take("."):
                return keys

    def note(self, path: Path) -> None:
        self.lines.setdefault(path, self.text.count("\n", 0, self.at) + 1)

    def blank(self) -> int:
        if found := _BLANK.match(self.text, self.at):
            self.at = found.end()
        return self.at

    def space(self) -> None:
        if found := _SPACE.match(self.text, self.at):
            self.at = found.end()

    def take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False
