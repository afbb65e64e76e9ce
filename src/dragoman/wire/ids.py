"""Call ids that every reader accepts, and the way back.

Some upstreams make ids like `functions.Bash:0` (Kimi) and restore reasoning by them, so they must come back
unchanged; Messages clients and servers want letters, digits, `_` and `-`. An odd id is therefore wrapped,
reversibly, for the client, and unwrapped when the client sends it home.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from functools import lru_cache

PREFIX = "dgm_"
MAX_STRICT_CHARS = 64

_SAFE = re.compile(r"[A-Za-z0-9_-]+")


def safe_id(call_id: str) -> str:
    """An id of letters, digits, `_` and `-`; different ids stay different."""
    if _SAFE.fullmatch(call_id) and not call_id.startswith(PREFIX):
        return call_id
    return PREFIX + base64.urlsafe_b64encode(call_id.encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


def original_id(call_id: str) -> str:
    """The id that `safe_id` wrapped; any other id as it is."""
    if not call_id.startswith(PREFIX):
        return call_id
    packed = call_id[len(PREFIX) :]
    try:
        found = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        original = found.decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return call_id
    return original if safe_id(original) == call_id else call_id


@lru_cache(maxsize=16_384)
def strict_id(call_id: str) -> str:
    """`safe_id` for servers that also limit the length: a long id ends in a hash of the whole."""
    safe = safe_id(call_id)
    if len(safe) <= MAX_STRICT_CHARS:
        return safe
    digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{safe[: MAX_STRICT_CHARS - 17]}_{digest}"


def made_id(seed: str, number: int) -> str:
    """An id for a call whose upstream gave none."""
    return f"call_{seed}{number}"
