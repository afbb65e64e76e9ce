"""A second chance for JSON that a strict reader refuses and real clients and upstreams send all the same.

JavaScript clients cut tool output in the middle of a surrogate pair and send the lone half as an escape;
some upstreams put raw control characters or broken UTF-8 into strings. Both are mended, so that one bad
character does not cost a whole turn.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn


def mend_json(data: bytes) -> bytes | None:
    """Rewrite almost-JSON as strict JSON in UTF-8; key order stays, bad characters become U+FFFD.

    Costs several times a strict parse; call it only after the strict reader refused.

    Returns:
        The rewritten bytes, or None when the data is not JSON even by a lenient reading.
    """
    try:
        value: Any = json.loads(data.decode("utf-8", "replace"), strict=False, parse_constant=_refuse)
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
