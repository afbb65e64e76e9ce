"""`/api/v1/sessions`: the bridge's sessions; the terminal of one, shown by server-sent events, typed by POST.

`GET /{id}/terminal` streams `size` (`{"cols", "rows"}`), `screen` (base64 of what draws all that is to be
seen), `output` (base64 of what the terminal prints) and, last, `end` (`{"reason": "ended" | "too_slow"}`).
A watcher that stops reading is let go by the bridge; the session does not wait for it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from dragoman.bridge.join import join_message, size_message, typed_message
from dragoman.bridge.listing import describe_session, describe_sessions
from dragoman.bridge.mailbox import Mailbox
from dragoman.bridge.session import SessionFolder, find_session
from dragoman.config.paths import Home
from dragoman.control.answers import JsonResponse
from dragoman.control.bodies import BadRequest, read_body
from dragoman.errors import DragomanError

# A line of the bridge holds up to 64 KB of the terminal in base64.
_MAX_LINE_BYTES = 1 << 20
# A line to the bridge has at most 128 KB, base64 included.
_MAX_INPUT_BYTES = 64 << 10
_ANSWER_TIMEOUT_S = 5.0
# Says through every relay on the way that both ends are there.
_STILL_HERE_S = 10.0


class TerminalUnreachable(DragomanError):
    """The session's terminal cannot be joined."""

    code = "terminal_unreachable"
    http_status = 409


class InputBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a person types: `text`, or `data` for bytes that are no text.

    Attributes:
        text: characters, control characters included.
        data: base64.
    """

    text: str | None = None
    data: str | None = None

    def keys(self) -> bytes:
        """The bytes to type.

        Raises:
            BadRequest: none or both are given, it is no base64, or it is too much at once.
        """
        if (self.text is None) == (self.data is None):
            raise BadRequest("give either text or data")
        try:
            keys = (
                self.text.encode()
                if self.text is not None
                else base64.b64decode(self.data or "", validate=True)
            )
        except (binascii.Error, UnicodeEncodeError):
            raise BadRequest("data is no base64, or text no text") from None
        if not 0 < len(keys) <= _MAX_INPUT_BYTES:
            raise BadRequest(f"between 1 and {_MAX_INPUT_BYTES:,} bytes can be typed at once")
        return keys


class SizeBody(msgspec.Struct, forbid_unknown_fields=True):
    """A size for the session's terminal, in characters."""

    cols: int
    rows: int


def session_routes(home: Home, closing: asyncio.Event) -> list[Route]:
    """The routes of the bridge's sessions.

    Args:
        home: whose sessions.
        closing: set when the process is leaving; watchers are let go then.
    """

    async def listing(request: Request) -> JsonResponse:
        """The bridge's sessions."""
        return JsonResponse({"sessions": await asyncio.to_thread(describe_sessions, home)})

    async def show(request: Request) -> JsonResponse:
        """A session as it is now."""
        folder = _asked_for(home, request)
        return JsonResponse({"session": await asyncio.to_thread(describe_session, folder)})

    async def terminal(request: Request) -> StreamingResponse:
        """A session's screen as it changes."""
        folder = _asked_for(home, request)
        reader, writer = await _join(folder, join_message("watch", framed=True))
        try:
            first = await asyncio.wait_for(reader.readline(), _ANSWER_TIMEOUT_S)
        except (OSError, TimeoutError, ValueError):
            first = b""
        if not first:
            writer.close()
            raise TerminalUnreachable("the session takes no more watchers", http_status=503)
        return StreamingResponse(
            _events(folder, reader, writer, first, closing),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def typed(request: Request) -> JsonResponse:
        """Type into a session, as a person would."""
        folder = _asked_for(home, request)
        body = await read_body(request, InputBody)
        return JsonResponse(await _say(folder, typed_message(body.keys())))

    async def resized(request: Request) -> JsonResponse:
        """Change the size of a session's terminal."""
        folder = _asked_for(home, request)
        body = await read_body(request, SizeBody)
        answer = await _say(folder, size_message(body.cols, body.rows))
        cols, rows = answer["size"]
        # Within a round the size stays: the screen is being read.
        return JsonResponse({"cols": cols, "rows": rows, "resized": (cols, rows) == (body.cols, body.rows)})

    root = "/api/v1/sessions"
    return [
        Route(root, listing),
        Route(root + "/{session_id}", show),
        Route(root + "/{session_id}/terminal", terminal),
        Route(root + "/{session_id}/input", typed, methods=["POST"]),
        Route(root + "/{session_id}/resize", resized, methods=["POST"]),
    ]


def _asked_for(home: Home, request: Request) -> SessionFolder:
    return find_session(home, request.path_params["session_id"])


async def _join(folder: SessionFolder, words: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        reader, writer = await asyncio.open_unix_connection(folder.attach_socket, limit=_MAX_LINE_BYTES)
        writer.write(words)
        await writer.drain()
    except OSError:
        raise TerminalUnreachable(
            f"session {folder.path.name} does not run", hint="start one with `dragoman lead`"
        ) from None
    return reader, writer


async def _say(folder: SessionFolder, words: bytes) -> dict[str, Any]:
    """Say one thing to the bridge as one who sees nothing, and hear what became of it."""
    reader, writer = await _join(folder, join_message("keys"))
    try:
        writer.write(words)
        await writer.drain()
        answer = await asyncio.wait_for(reader.readline(), _ANSWER_TIMEOUT_S)
        return msgspec.json.decode(answer, type=dict[str, Any])
    except (OSError, TimeoutError, ValueError, msgspec.MsgspecError):
        raise TerminalUnreachable(f"session {folder.path.name} did not answer", http_status=503) from None
    finally:
        writer.close()


async def _events(
    folder: SessionFolder,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    first: bytes,
    closing: asyncio.Event,
) -> AsyncIterator[bytes]:
    left = asyncio.ensure_future(closing.wait())
    coming = asyncio.ensure_future(reader.readline())
    line, ended = first, False
    try:
        while line and not ended:
            event, ended = _event(line)
            yield event
            while not coming.done():
                await asyncio.wait({coming, left}, timeout=_STILL_HERE_S, return_when=asyncio.FIRST_COMPLETED)
                if left.done():
                    return
                if not coming.done():
                    yield b": still here\n\n"
            try:
                line = coming.result()
            except (OSError, ValueError):
                line = b""
            if not line.endswith(b"\n"):
                line = b""  # the bridge was killed in the middle of it
            coming = asyncio.ensure_future(reader.readline())
        if not ended:
            # The bridge let this watcher go without a word: it was too slow, or the bridge was killed.
            lives = await asyncio.to_thread(Mailbox(folder.bridge).bridge_lives)
            yield _end("too_slow" if lives else "ended")
    finally:
        left.cancel()
        coming.cancel()
        writer.close()


def _event(line: bytes) -> tuple[bytes, bool]:
    """A line of the bridge as an event, and whether it is the last one."""
    match msgspec.json.decode(line, type=dict[str, Any]):
        case {"size": [int(cols), int(rows)]}:
            size = msgspec.json.encode({"cols": cols, "rows": rows})
            return b"event: size\ndata: " + size + b"\n\n", False
        case {"screen": str(data)}:
            return f"event: screen\ndata: {data}\n\n".encode(), False
        case {"output": str(data)}:
            return f"event: output\ndata: {data}\n\n".encode(), False
        case {"end": str(reason)}:
            return _end(reason), True
        case _:
            return b"", False


def _end(reason: str) -> bytes:
    return b"event: end\ndata: " + msgspec.json.encode({"reason": reason}) + b"\n\n"
