"""Replacing the model's name and nothing else: in a request body, in a whole answer, and in the frames of a
stream that passes through untouched."""

from __future__ import annotations

import re

import msgspec

from dragoman.wire.turns import Wire

_MEMBER = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')
_FIRST = re.compile(rb'\s*{\s*"model"\s*:\s*("(?:[^"\\]|\\.)*")')
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]')
_KEY = re.compile(rb'[{,]\s*("(?:[^"\\]|\\.)*")\s*:\s*')
_KEY_END = re.compile(rb"\s*:\s*")
_SPACE = re.compile(rb"\s*")

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def splice_model(body: bytes, model: str) -> bytes:
    """`body` with the value of its top-level `model` replaced; every other byte stays.

    Args:
        body: a JSON object that has been read before (see `peek_request`).
        model: the new name.
    """
    new = msgspec.json.encode(model)
    spans = _at_the_head(body) or _walk(body) or _top_level(body)
    out: list[bytes] = []
    done = 0
    for start, end in spans:
        out += (body[done:start], new)
        done = end
    out.append(body[done:])
    return b"".join(out)


def _at_the_head(body: bytes) -> list[tuple[int, int]] | None:
    """Where the value stands when `model` is the first field, as nearly every client writes it, and nowhere
    else in the body is a key of that name."""
    first = _FIRST.match(body)
    if first is None or body.find(b'"model"', first.end()) >= 0:
        return None
    return [first.span(1)]


def _walk(body: bytes) -> list[tuple[int, int]] | None:
    """Where the value of the top-level `model` stands, found by stepping over the other fields; None when a
    field stands there twice."""
    try:
        fields = _fields.decode(body)
    except (ValueError, RecursionError):
        return None
    place = _space_end(body, 0)
    found: list[tuple[int, int]] = []
    for name, value in fields.items():
        key = _KEY.match(body, place)
        if key is None or msgspec.json.decode(key[1]) != name:
            return None
        end = key.end() + len(value)
        if name == "model":
            found.append((key.end(), end))
        place = _space_end(body, end)
    return found if body[place : place + 1] == b"}" else None


def _space_end(body: bytes, place: int) -> int:
    found = _SPACE.match(body, place)
    return found.end() if found else place


def _top_level(body: bytes) -> list[tuple[int, int]]:
    """Where the values of top-level `model` keys stand, however they are spelled."""
    spans: list[tuple[int, int]] = []
    depth = 0
    tokens = _TOKEN.finditer(body)
    for token in tokens:
        match token[0][:1]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
            case _ if depth == 1 and (colon := _KEY_END.match(body, token.end())):
                if not _is_model(token[0]) or body[colon.end() : colon.end() + 1] != b'"':
                    continue
                value = next(tokens)
                spans.append(value.span())
            case _:
                pass
    return spans


def _is_model(key: bytes) -> bool:
    if key == b'"model"':
        return True
    try:
        return b"\\" in key and msgspec.json.decode(key) == "model"
    except msgspec.DecodeError:
        return False


class ModelRewriter:
    """Shows a client the model name it asked for in a stream that otherwise passes unchanged.

    Only lines that name the model are touched: `message_start` on messages, `response.*` events on responses,
    every chunk on chat. A line that is not complete yet waits for its rest; nothing else is held back.

    Args:
        wire: the wire of the stream.
        model: the name the client asked for.
    """

    def __init__(self, wire: Wire, model: str) -> None:
        self._wire: Wire = wire
        self._member = b'"model":' + msgspec.json.encode(model)
        self._held = b""
        self._done = False

    def feed(self, data: bytes) -> bytes:
        """The bytes for the client."""
        if self._done:
            return data
        data = self._held + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        ready, self._held = data[:end], data[end:]
        if b'"model"' not in ready:
            return ready
        return b"".join(self._line(line) for line in _lines(ready)) + self._release()

    def eof(self) -> bytes:
        """What was held back when the upstream closed."""
        held, self._held = self._held, b""
        return self._line(held) if b'"model"' in held else held

    def _release(self) -> bytes:
        if not self._done:
            return b""
        held, self._held = self._held, b""
        return held

    def _line(self, line: bytes) -> bytes:
        if self._done or b'"model"' not in line:
            return line
        if self._wire == "messages":
            if b'"message_start"' not in line:
                return line
            self._done = True
        elif self._wire == "responses" and b'"response"' not in line:
            return line
        return _MEMBER.sub(lambda _: self._member, line, count=1)


def _lines(data: bytes) -> list[bytes]:
    """Lines with their ends; cut at LF alone, a CR inside a line changes nothing here."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)
