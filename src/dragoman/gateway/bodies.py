"""Read a request's body: bounded, decompressed, and not one byte before the guard has agreed."""

from __future__ import annotations

import zlib

import zstandard

from .asgi import Receive
from .departure import ClientLeft
from .incoming import Incoming
from .replies import Refusal


async def read_body(receive: Receive, incoming: Incoming, limit_bytes: int) -> bytes | Refusal:
    """The whole body, decompressed.

    Args:
        receive: ASGI's.
        incoming: the request's head.
        limit_bytes: bound of the body, before and after decompression.

    Raises:
        ClientLeft: the client hung up meanwhile.
    """
    declared = incoming.headers.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > limit_bytes:
        return _too_large(limit_bytes)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientLeft
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            return _too_large(limit_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            break
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    encoding = incoming.headers.get(b"content-encoding", b"").strip().lower()
    if encoding in (b"", b"identity"):
        return body
    return _decompress(body, encoding.decode("latin-1"), limit_bytes)


def _decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes | Refusal:
    """Undo one compression. Codex has a feature for zstd bodies; gzip is what proxies and SDKs use."""
    try:
        match encoding:
            case "gzip" | "x-gzip" | "deflate":
                decoder = zlib.decompressobj(15 if encoding == "deflate" else 31)
                plain = decoder.decompress(body, limit_bytes + 1)
                whole = decoder.eof or len(plain) > limit_bytes
            case "zstd":
                reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body)
                plain = reader.read(limit_bytes + 1)
                whole = True
            case _:
                return Refusal(
                    415,
                    "unsupported_encoding",
                    f"The content encoding {encoding[:40]!r} is not understood.",
                    hint="Send the body plain, or as gzip or zstd.",
                )
    except (zlib.error, zstandard.ZstdError):
        return Refusal(400, "invalid", f"The body is not valid {encoding}.")
    if len(plain) > limit_bytes:
        return _too_large(limit_bytes)
    if not whole:
        return Refusal(400, "invalid", f"The {encoding} body ends early.")
    return plain


def _too_large(limit_bytes: int) -> Refusal:
    return Refusal(
        413,
        "body_too_large",
        f"The request is larger than {limit_bytes / (1 << 20):g} MiB.",
        hint="`max_body_mb` in dragoman.toml sets the limit.",
    )
