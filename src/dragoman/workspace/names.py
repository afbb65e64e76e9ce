"""Names of files as git has them: bytes. How they are shown, read back and checked.

Inside this room a name is `bytes`, relative to the work tree, with `/` between its parts. Towards people and
JSON it is a `str` (`shown`): the name itself where it is valid UTF-8, else quoted the way git quotes, such as
`"caf\\351.txt"`. `unshown` reads either form back.
"""

from __future__ import annotations

import re
import unicodedata

_ESCAPES = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b'"': b'"',
    b"\\": b"\\",
}
_LETTERS = {value[0]: b"\\" + key for key, value in _ESCAPES.items()}
_ESCAPED = re.compile(rb'\\([0-3][0-7]{2}|[abfnrtv"\\])')


def shown(name: bytes) -> str:
    """Show a name so that `unshown` gives the same bytes back, whatever they are."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return quoted(name)
    return quoted(name) if text.startswith('"') else text


def quoted(name: bytes) -> str:
    """Quote a name for a terminal or a patch: printable ASCII only, between double quotes."""
    out = bytearray(b'"')
    for byte in name:
        if byte in _LETTERS:
            out += _LETTERS[byte]
        elif 0x20 <= byte < 0x7F:
            out.append(byte)
        else:
            out += b"\\%03o" % byte
    return (bytes(out) + b'"').decode("ascii")


def printable(name: bytes) -> str:
    """Show a name on one line of a terminal: as it is where harmless, quoted where it could play tricks."""
    text = shown(name)
    return text if text.isprintable() else quoted(name)


def unshown(text: str) -> bytes:
    """Read back what `shown` or `quoted` gave; a plain name is taken as it is."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) < 2 or not (raw.startswith(b'"') and raw.endswith(b'"')):
        return raw

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return _ESCAPES[code] if code in _ESCAPES else bytes([int(code, 8)])

    return _ESCAPED.sub(plain, raw[1:-1])


def is_safe(name: bytes) -> bool:
    """Tell whether a name stays inside the work tree and away from git's own folder.

    git refuses such names when it reads trees into an index; this says so again for what we write ourselves,
    with the look-alikes HFS+ and NTFS treat as `.git` (ignorable code points, short names, streams).
    """
    if not name or name.startswith(b"/") or b"\0" in name:
        return False
    return all(_is_safe_part(part) for part in name.split(b"/"))


def _is_safe_part(part: bytes) -> bool:
    if part in (b"", b".", b".."):
        return False
    text = part.decode("utf-8", "replace")
    folded = "".join(c for c in text if unicodedata.category(c) != "Cf").casefold()
    folded = folded.split(":")[0].rstrip(". ")
    return folded not in (".git", "git~1")


def parents(name: bytes) -> list[bytes]:
    """Name the folders above a name, outermost first, without the work tree's top."""
    parts = name.split(b"/")
    return [b"/".join(parts[:n]) for n in range(1, len(parts))]


def is_under(name: bytes, tops: frozenset[bytes]) -> bool:
    """Tell whether a name is one of `tops` or lies below one of them."""
    return name in tops or any(parent in tops for parent in parents(name))
