"""The envelope: reasoning wrapped so that a foreign client carries it home unread.

Codex (0.163, 0.169) gives back `encrypted_content` verbatim, Claude Code (2.1.197, 2.1.329) `signature` and
`redacted_thinking.data`. Into these goes one string that holds the complete thought and what its maker needs
to accept it again, so that a provider's reasoning survives a client that speaks another protocol.

    gw1.<base64url(zlib(JSON))>     JSON: {"h": check, "c": [carriers], "t": full text}
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib

import msgspec

from dragoman.wire.turns import Carrier, CarrierKind, RawText, Reasoning, quoted

PREFIX = "gw1."
MAX_UNWRAPPED_BYTES = 16 * 1024 * 1024
"""A thought longer than this is not one; stops a small string from filling the memory."""


class _Carrier(msgspec.Struct, omit_defaults=True):
    kind: CarrierKind = msgspec.field(name="k")
    data: str = msgspec.field(name="d", default="")
    realm: str | None = msgspec.field(name="p", default=None)
    model: str | None = msgspec.field(name="m", default=None)
    item_id: str | None = msgspec.field(name="i", default=None)


class _Body(msgspec.Struct, omit_defaults=True):
    check: str = msgspec.field(name="h")
    carriers: list[_Carrier] = msgspec.field(name="c")
    text: msgspec.Raw = msgspec.field(name="t", default=msgspec.Raw(b'""'))


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Body)


def wrap(text: RawText, carriers: tuple[Carrier, ...]) -> str:
    """Put a whole thought into one ASCII string.

    Args:
        text: the complete reasoning, escaped as inside a JSON string.
        carriers: what its maker wants back.
    """
    inner = [
        _Carrier(kind=c.kind, data=c.data, realm=c.realm, model=c.model, item_id=c.item_id) for c in carriers
    ]
    body = _encoder.encode(_Body(check=_check(inner, text), carriers=inner, text=quoted(text)))
    return PREFIX + base64.urlsafe_b64encode(zlib.compress(body, 1)).rstrip(b"=").decode()


def unwrap(value: str) -> Reasoning | None:
    """Read an envelope; None when `value` is somebody else's blob, was cut or was changed on the way."""
    if not value.startswith(PREFIX):
        return None
    packed = value[len(PREFIX) :]
    try:
        inflate = zlib.decompressobj()
        body = inflate.decompress(
            base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True),
            MAX_UNWRAPPED_BYTES,
        )
        if not inflate.eof:
            return None
        found = _decoder.decode(body)
    except (binascii.Error, zlib.error, ValueError):
        return None
    quoted_text = bytes(found.text)
    if not quoted_text.startswith(b'"'):
        return None
    text = quoted_text[1:-1]
    if found.check != _check(found.carriers, text):
        return None
    return Reasoning(
        text=text,
        carriers=tuple(
            Carrier(kind=c.kind, data=c.data, realm=c.realm, model=c.model, item_id=c.item_id)
            for c in found.carriers
        ),
    )


def is_envelope(value: str) -> bool:
    """Whether `value` claims to be one of ours; whether it still holds together is for `unwrap` to say."""
    return value.startswith(PREFIX)


def _check(carriers: list[_Carrier], text: RawText) -> str:
    digest = hashlib.blake2s(text, digest_size=6)
    digest.update(_encoder.encode(carriers))
    return digest.hexdigest()
