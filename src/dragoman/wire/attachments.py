"""Pictures and documents as the two OpenAI protocols write them: in a `data:` address, or as text."""

from __future__ import annotations

from dragoman.wire.turns import File, Image, RawText, raw

_GAP = b"\\n\\n"


def image_url(part: Image) -> RawText:
    """An image's address, a `data:` one when its content is at hand."""
    if part.data is None:
        return part.url or b""
    return _data_url(part.media_type or "image/png", part.data)


def file_url(part: File) -> RawText:
    """A document's content as a `data:` address."""
    return _data_url(part.media_type or "application/pdf", part.data or b"")


def file_text(part: File) -> RawText | None:
    """A plain-text document under its name; None for any other."""
    if part.text is None:
        return None
    return b"[document " + part.filename + b"]" + _GAP + part.text if part.filename else part.text


def _data_url(media_type: str, data: RawText) -> RawText:
    return b"".join((b"data:", raw(media_type), b";base64,", data))
