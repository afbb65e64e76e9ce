"""Server-sent events: an answer that goes on until its source, its reader or this process ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import StreamingResponse

# Says through every relay on the way that both ends are there.
_STILL_HERE_S = 10.0


def server_sent(
    frames: AsyncIterator[bytes], closing: asyncio.Event, *, still_here_s: float = _STILL_HERE_S
) -> StreamingResponse:
    """A stream of frames, with a comment whenever nothing has come for a while.

    Args:
        frames: see `frame`.
        closing: ends the stream when it is set.
        still_here_s: seconds of silence before a comment.
    """
    return StreamingResponse(
        _until_closed(frames, closing, still_here_s),
        media_type="text/event-stream",
        headers={"cache-control": "no-store"},
    )


def frame(event: str, data: Any, *, id: int | None = None) -> bytes:
    """One event.

    Args:
        event: its name.
        data: anything that is JSON.
        id: what a reader that comes back names as the last one it saw.
    """
    number = b"" if id is None else b"id: %d\n" % id
    return number + b"event: " + event.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


async def _until_closed(
    frames: AsyncIterator[bytes], closing: asyncio.Event, still_here_s: float
) -> AsyncIterator[bytes]:
    yield b": here\n\n"
    ending = asyncio.ensure_future(closing.wait())
    coming: asyncio.Future[bytes] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(frames))
            done, _ = await asyncio.wait(
                {coming, ending}, timeout=still_here_s, return_when=asyncio.FIRST_COMPLETED
            )
            if coming in done:
                try:
                    yield coming.result()
                except StopAsyncIteration:
                    return
                coming = None
            elif ending in done:
                return
            else:
                yield b": still here\n\n"
    finally:
        ending.cancel()
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await coming
        close = getattr(frames, "aclose", None)
        if close is not None:
            await close()
