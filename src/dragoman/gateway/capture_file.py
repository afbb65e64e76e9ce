"""A recording on disk: one JSON file with everything needed to play the exchange again, and their folder.

Texts are the redacted bytes; what is no UTF-8 stands as `{"base64": ...}`. A body's `pieces` say when each
part of it came and how long it was; a piece of length 0 is a silence that the client was told of by a sign of
life. Times are milliseconds after the request's arrival.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from dragoman.config.files import PRIVATE_FILE, write_private_file
from dragoman.errors import DragomanError
from dragoman.wire.turns import Wire

from .asgi import Headers

FORMAT: Literal["dragoman capture"] = "dragoman capture"
SCHEMA = 1
SUFFIX = ".json"
_MIN_PREFIX = 4
_COUNT_PREFIX = ".count-"  # an order's places; no order lasts as long as this
_COUNT_S = 2 * 86_400.0


class NoCapture(DragomanError):
    """There is no such recording, or what there is cannot be read."""

    code = "no_capture"
    http_status = 404


class Base64(msgspec.Struct, frozen=True):
    """Bytes that are no text."""

    base64: bytes


Text = str | Base64
Piece = tuple[float, int]
HeaderList = list[tuple[str, str]]

AnswerEnd = Literal["complete", "unread", "failed", "left"]
"""How an upstream's answer ended: with its last byte; unread beyond its end; with an error below HTTP; or
never, since the client left."""

ClientEnd = Literal["whole", "left", "broken"]


class Fault(msgspec.Struct, frozen=True):
    """An exchange with an upstream that failed below HTTP."""

    code: str
    message: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The request as it came; its body decompressed."""

    method: str
    path: str
    query: str
    headers: HeaderList
    repeated: list[str]
    body: Text


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it passed."""

    at_ms: float
    status: int
    headers: HeaderList
    body: Text
    pieces: list[Piece]


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One request to an upstream and what came of it."""

    at_ms: float
    method: str
    url: str
    headers: HeaderList
    body: Text
    answer: Given | None = None
    end: AnswerEnd = "complete"
    fault: Fault | None = None


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange.

    Attributes:
        format, schema, dragoman: what wrote it.
        id: the request's, shown to the client as `x-dragoman-request-id`.
        at: Unix seconds when it arrived.
        client, client_wire, model, provider, upstream_model, upstream_wire, stream, status, outcome,
            failure, total_ms: as in its usage row.
        redacted: how many places were overwritten.
        incomplete: it was too large to keep; it cannot be replayed.
        ended: how it ended for the client.
        request: from the client.
        upstream: to and from upstreams, in order.
        answer: to the client; None when there was none.
        stage: what the gateway knew (see `dragoman.gateway.capture_replay`).
    """

    format: Literal["dragoman capture"] = FORMAT
    schema: int = SCHEMA
    dragoman: str
    id: str
    at: float
    client: str
    client_wire: Wire
    model: str
    provider: str
    upstream_model: str
    upstream_wire: Wire | None
    stream: bool
    status: int
    outcome: str
    failure: str | None
    total_ms: float
    redacted: int
    incomplete: bool
    ended: ClientEnd
    request: Asked
    upstream: list[Sent]
    answer: Given | None
    stage: dict[str, Any]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a list shows of a recording."""

    id: str
    at: float
    client: str
    client_wire: Wire
    model: str
    provider: str
    upstream_model: str
    upstream_wire: Wire | None
    stream: bool
    status: int
    outcome: str
    failure: str | None
    total_ms: float
    redacted: int
    incomplete: bool
    ended: ClientEnd


def text_of(data: bytes) -> Text:
    """Bytes as they stand in the file."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Base64(data)


def bytes_of(text: Text) -> bytes:
    """What `text_of` was given."""
    return text.base64 if isinstance(text, Base64) else text.encode()


def header_list(headers: Headers) -> HeaderList:
    """Headers as they stand in the file."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def headers_of(headers: HeaderList) -> Headers:
    """What `header_list` was given."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def encode_capture(capture: Capture, *, readable: bool = False) -> bytes:
    """The file's content; indented for people when `readable`."""
    content = msgspec.json.encode(capture)
    return msgspec.json.format(content, indent=1) + b"\n" if readable else content


def decode_capture(content: bytes, name: str) -> Capture:
    """Read a file's content.

    Args:
        content: of the file.
        name: what it is called in an error.

    Raises:
        NoCapture: it is no recording, or a newer version's.
    """
    try:
        found = msgspec.json.decode(content, type=Capture)
    except msgspec.MsgspecError as error:
        raise NoCapture(f"{name} is no recording: {error}"[:300], hint="dragoman capture list") from None
    if found.schema > SCHEMA:
        raise NoCapture(f"{name} was recorded by a newer dragoman ({found.dragoman})", hint="dragoman update")
    return found


def write_capture(folder: Path, capture: Capture) -> Path:
    """Keep a recording; it appears whole.

    Raises:
        OSError: the disk does not take it; nothing of it stays.
    """
    draft = folder / f".{capture.id}.{os.getpid()}.{secrets.token_hex(4)}"
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(draft, flags, PRIVATE_FILE)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(encode_capture(capture))
        final = folder / f"{capture.id}{SUFFIX}"
        draft.rename(final)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return final


def write_export(file: Path, content: bytes) -> None:
    """Write a recording where somebody wants it, readable by them alone; a file there is replaced.

    Raises:
        OSError: it cannot be written.
    """
    write_private_file(file, content)


def list_captures(folder: Path) -> list[Summary]:
    """Every recording, the newest first; unreadable files are left out."""
    found: list[Summary] = []
    for file in _files(folder):
        try:
            found.append(msgspec.json.decode(file.read_bytes(), type=Summary))
        except (OSError, msgspec.MsgspecError):
            continue
    return sorted(found, key=lambda each: each.at, reverse=True)


def find_capture(folder: Path, id: str) -> Capture:
    """A recording by its id or the beginning of it; `last` is the newest.

    Raises:
        NoCapture: none, or several, begin so.
    """
    files = list(_files(folder))
    if id == "last":
        named = sorted(files, key=_changed_at)[-1:]
    else:
        named = [file for file in files if len(id) >= _MIN_PREFIX and file.stem.startswith(id)]
    if len(named) != 1:
        count = "more than one recording begins with" if named else "there is no recording"
        raise NoCapture(f"{count} {id[:100]}", hint="dragoman capture list")
    return open_capture(named[0])


def open_capture(file: Path) -> Capture:
    """The recording in a file.

    Raises:
        NoCapture: there is none, or none that can be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise NoCapture(f"cannot read {file.name}: {error.strerror or type(error).__name__}") from None
    return decode_capture(content, file.name)


def _changed_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


@dataclass(frozen=True, slots=True)
class OldCapture:
    """A recording that goes."""

    id: str
    bytes: int
    reason: str


def sweep_captures(
    folder: Path,
    *,
    days: int,
    max_bytes: int,
    max_files: int = 1000,
    execute: bool,
    wall: Callable[[], float] = time.time,
) -> list[OldCapture]:
    """What goes by age, and the oldest until the rest fits.

    Args:
        folder: where recordings are; it need not exist.
        days: how old one may get; 0 is for ever.
        max_bytes, max_files: what all may take together.
        execute: do it.
        wall: Unix seconds.
    """
    files: list[tuple[Path, os.stat_result]] = []
    for file in _files(folder, drafts=True):
        try:
            found = file.stat()
        except OSError:
            continue
        if not file.name.startswith(_COUNT_PREFIX):
            files.append((file, found))
        elif execute and wall() - found.st_mtime > _COUNT_S:
            file.unlink(missing_ok=True)
    left, total = len(files), sum(found.st_size for _, found in files)
    gone: list[OldCapture] = []
    for file, found in sorted(files, key=lambda each: each[1].st_mtime):
        age_s = wall() - found.st_mtime
        if days and age_s > days * 86_400:
            reason = "old"
        elif total > max_bytes or left > max_files:
            reason = "over the limit"
        elif file.name.startswith(".") and age_s > 3600:
            reason = "left behind"
        else:
            continue
        if execute:
            file.unlink(missing_ok=True)
        gone.append(OldCapture(file.stem, found.st_size, reason))
        left, total = left - 1, total - found.st_size
    return gone


def _files(folder: Path, *, drafts: bool = False) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        hidden = file.name.startswith(".")
        if file.is_symlink() or (hidden and not drafts):
            continue
        if hidden or file.suffix == SUFFIX:
            yield file
