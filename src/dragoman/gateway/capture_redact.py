"""Take secrets out of a recorded exchange without moving a byte.

A secret is overwritten by letters of the same number, the same letters wherever it stands: lengths, chunk
boundaries and JSON stay what they were, and what the translator makes of the redacted request is the redacted
form of what it made of the real one. That is why a redacted recording can be replayed byte for byte.

Three things are secret: what the gateway itself knows (keys, the client's token), what has the shape of a key
somebody issues, and what stands next to a telling name (`password=`, `"api_key":`). The first two are sought
everywhere, also where a stream gives them out in pieces, one fragment an event.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from urllib.parse import quote

import msgspec

from dragoman.wire.ids import original_id

from .asgi import Headers

_SECRET_HEADERS = frozenset(
    {
        b"authorization",
        b"proxy-authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"cookie",
        b"set-cookie",
        b"chatgpt-account-id",
    }
)
_SECRET_WORDS = re.compile(rb"token|secret|api-?key|auth|cookie|credential|password")
_SCHEME = re.compile(rb"(?i)(?:bearer|basic|token)\s+")

# What may stand before a key: the end of a word, or an escaped line end inside a JSON string.
_BEFORE = rb"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
_SHAPES = (
    rb"sk-[A-Za-z0-9_-]{16,}",
    rb"(?:gsk|xai|hf|npm|pplx|fw|r8|tvly|nvapi|lin_api|dop_v1|shpat)[_-][A-Za-z0-9_-]{20,}",
    rb"[spr]k_(?:live|test)_[A-Za-z0-9]{16,}",
    rb"dgm_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])",
    rb"gh[pousr]_[A-Za-z0-9]{30,}",
    rb"github_pat_[A-Za-z0-9_]{40,}",
    rb"glpat-[A-Za-z0-9_-]{20,}",
    rb"pypi-[A-Za-z0-9_-]{32,}",
    rb"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",
    rb"AIza[A-Za-z0-9_-]{35}",
    rb"ya29\.[A-Za-z0-9_-]{20,}",
    rb"xox[abeoprs]-[A-Za-z0-9-]{10,}",
    rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
)
_ISSUED = re.compile(_BEFORE + rb"(" + rb"|".join(_SHAPES) + rb")")
_HEX = re.compile(_BEFORE + rb"([0-9a-f]{32}\.[A-Za-z0-9]{16}(?![A-Za-z0-9]))")
_PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----([^-]{16,65536})-----END")
_BEARER = re.compile(rb"(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{16,})")
_LOGIN = re.compile(rb"://[^/\s:@\"\\]{1,64}:([^/\s:@\"\\]{3,128})@")
_NAMED = re.compile(
    rb"(?i)(?:api[_-]?key|apikey|secret|passw(?:or)?d|pwd|passphrase|credentials?|token|access[_-]?key)"
    rb"\\{0,3}[\"']?\s{0,4}[:=]\s{0,4}\\{0,3}[\"']?"
    rb"([^\s\"'\\,;&<>{}()\[\]$`|]{6,512})"
)
_SHOWN = (_BEARER, _LOGIN)
# A pattern is tried where one of these stands, in any case: looking for a word is a hundred times cheaper.
_WORDS: dict[re.Pattern[bytes], tuple[bytes, ...]] = {
    _ISSUED: (
        *(b"sk-", b"gsk", b"xai", b"hf_", b"hf-", b"npm", b"pplx", b"fw_", b"fw-", b"r8_", b"r8-", b"tvly"),
        *(b"nvapi", b"lin_api", b"dop_v1", b"shpat", b"k_live", b"k_test", b"dgm_", b"gh", b"glpat-"),
        *(b"pypi-", b"akia", b"asia", b"aiza", b"ya29.", b"xox", b"eyj"),
    ),
    _HEX: (b".",),
    _BEARER: (b"bearer",),
    _LOGIN: (b"://",),
    _NAMED: (b"key", b"secret", b"pass", b"pwd", b"credential", b"token"),
}
# A prefix says whose key it is, and nothing of the key.
_PUBLIC = re.compile(
    rb"(?:sk-(?:ant-|proj-|or-)?|(?:pk|rk|key|ak|gsk|xai|hf|npm|dgm|gh[pousr]|pypi|glpat)[_-]|eyJ|AKIA|ASIA|AIza)"
)
_HEX_AND_MORE = re.compile(rb"[0-9a-f]{32}\.")
_REDACTED = b"redacted"
_MIN_SOUGHT = 8
_WORD = re.compile(rb"[A-Za-z_]{0,19}|[0-9.]{0,11}")

_LINE = re.compile(rb"data:[^\r\n]*")
_PLACE = re.compile(rb'"(?:output_index|content_index|summary_index|index)"\s*:\s*(\d+)')
_FRAGMENT = re.compile(
    rb'"(text|delta|content|arguments|partial_json|thinking|reasoning_content|reasoning|refusal|input)"'
    rb'\s*:\s*"((?:[^"\\]|\\.)*)"',
    re.DOTALL,
)
# Under a millisecond of work, which is all that a stream beside it may be kept waiting.
_SLICE = 8 << 10
_OVERLAP = 1 << 10

Lane = list[tuple[int, int]]
"""Where the fragments of one growing text stand, as (start, end)."""


class Redactor:
    """Redacts the parts of one exchange: first every part is read, then every part is overwritten.

    Args:
        known: secrets the gateway knows.
        breathe: called between short pieces of work, so that others who share the interpreter get their turn.
    """

    def __init__(self, known: Iterable[bytes] = (), *, breathe: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self._masks: dict[bytes, bytes] = {}
        self._sought: set[bytes] = set()
        self._breathe = breathe
        for secret in known:
            self.note(secret)

    def note(self, secret: bytes) -> None:
        """Something known to be secret, sought as it is and as JSON and addresses spell it."""
        self._learn(secret)
        text = secret.decode("latin-1")
        self._learn(msgspec.json.encode(text)[1:-1])
        self._learn(quote(text, safe="").encode())

    def note_query(self, query: bytes) -> None:
        """The secret values of a query string."""
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            if name == b"key" or is_secret_header(name):
                self.note(value)

    def read(self, part: bytes) -> None:
        """Look for secrets that have the shape of one."""
        self._seek(part)
        for lane in self._lanes(part):
            self._seek(_joined(part, lane))

    def read_headers(self, headers: Headers) -> None:
        """Note the values of headers that carry secrets."""
        for name, value in headers:
            if is_secret_header(name):
                for secret in _credentials(value):
                    self._learn(secret)
            else:
                self._seek(value)

    def redacted(self, part: bytes) -> bytes:
        """The part, as long as before, without a secret."""
        if not part:
            return part
        out = bytearray(part)
        for secret in sorted(self._sought, key=len, reverse=True):
            if secret in out:
                self._overwrite(out, [(0, len(out))], bytes(out), secret)
        lanes = self._lanes(part)
        for lane in lanes:
            text = _joined(out, lane)
            for secret in sorted(self._sought, key=len, reverse=True):
                if secret in text:
                    self._overwrite(out, lane, text, secret)
                    text = _joined(out, lane)
            self._overwrite_named(out, lane, text)
        self._overwrite_named(out, [(0, len(out))], bytes(out))
        return bytes(out)

    def redacted_headers(self, headers: Headers) -> Headers:
        """The headers, values of the same length."""
        return [(name, self._header(name, value)) for name, value in headers]

    def mask(self, secret: bytes) -> bytes:
        """What stands in a secret's place."""
        found = self._masks.get(secret)
        if found is None:
            found = self._masks[secret] = _mask(secret, len(self._masks) + 1)
        return found

    # --- inside

    def _learn(self, secret: bytes) -> None:
        if not secret or _is_mask(secret):
            return
        self.mask(secret)
        # What might as well be a word of the protocol is overwritten in its own place alone.
        if len(secret) >= _MIN_SOUGHT and _WORD.fullmatch(secret) is None:
            self._sought.add(secret)

    def _seek(self, text: bytes) -> None:
        for found in self._found(text, _ISSUED, _HEX):
            secret = found[1]
            if secret.startswith(b"dgm_") and original_id(secret.decode()) != secret.decode():
                continue  # a call id that was wrapped, not a token
            self._learn(secret)
        for found in self._found(text, *_SHOWN):
            self._learn(found[1])
        if b"PRIVATE KEY" in text:
            for found in _PEM.finditer(text):
                self._learn(found[1])
        for found in self._found(text, _NAMED):
            if len(found[1]) >= 12 and _is_telling(found[1]):
                self._learn(found[1])

    def _found(self, text: bytes, *patterns: re.Pattern[bytes]) -> Iterator[re.Match[bytes]]:
        """All matches; each step looks at a slice, and sees a little further than it looks."""
        for start in range(0, len(text), _SLICE):
            seen = text[start : start + _SLICE + _OVERLAP].lower()
            for pattern in patterns:
                if not any(word in seen for word in _WORDS[pattern]):
                    continue
                for found in pattern.finditer(text, max(0, start - 1), start + _SLICE + _OVERLAP):
                    if found.start() >= start + _SLICE:
                        break
                    yield found
            self._breathe()

    def _header(self, name: bytes, value: bytes) -> bytes:
        if not is_secret_header(name):
            return self.redacted(value)
        out = bytearray(value)
        for secret in sorted(_credentials(value), key=len, reverse=True):
            at = bytes(out).find(secret)
            if at >= 0 and not _is_mask(secret):
                out[at : at + len(secret)] = self.mask(secret)
                self.count += 1
        return bytes(out)

    def _overwrite(self, out: bytearray, lane: Lane, text: bytes, secret: bytes) -> None:
        mask, starts = self.mask(secret), _starts(lane)
        at = text.find(secret)
        while at >= 0:
            _write(out, lane, starts, at, mask)
            self.count += 1
            at = text.find(secret, at + len(secret))

    def _overwrite_named(self, out: bytearray, lane: Lane, text: bytes) -> None:
        starts = _starts(lane)
        for found in self._found(text, _NAMED, *_SHOWN):
            telling = found.re is not _NAMED or _is_telling(found[1])
            if telling and not _is_mask(found[1]):
                _write(out, lane, starts, found.start(1), self.mask(found[1]))
                self.count += 1

    def _lanes(self, part: bytes) -> list[Lane]:
        """The growing texts of a stream: the fragments of each field of each block, in order."""
        if b"data:" not in part[:4096]:
            return []
        lanes: dict[tuple[bytes, ...], Lane] = {}
        for number, line in enumerate(_LINE.finditer(part)):
            if number % 64 == 63:
                self._breathe()
            place = tuple(_PLACE.findall(line[0]))
            for found in _FRAGMENT.finditer(part, line.start(), line.end()):
                lanes.setdefault((found[1], *place), []).append(found.span(2))
        return [lane for lane in lanes.values() if len(lane) > 1]


def is_secret_header(name: bytes) -> bool:
    """Whether a header's value is nobody else's business."""
    name = name.lower()
    return name in _SECRET_HEADERS or _SECRET_WORDS.search(name) is not None


def _credentials(value: bytes) -> Iterator[bytes]:
    """The secret parts of a header's value: without its scheme, and each value of a cookie."""
    scheme = _SCHEME.match(value)
    rest = value[scheme.end() :] if scheme else value
    if b"=" in rest and b";" in rest:
        for pair in rest.split(b";"):
            yield pair.partition(b"=")[2].strip()
    yield rest.strip()


def _is_telling(value: bytes) -> bool:
    """Whether what stands next to a telling name is no word of a program or a schema."""
    return re.search(rb"[0-9]", value) is not None and re.search(rb"[A-Za-z]", value) is not None


def _is_mask(secret: bytes) -> bool:
    public = _PUBLIC.match(secret) or _HEX_AND_MORE.match(secret)
    rest = secret[public.end() if public else 0 :]
    return rest.startswith(_REDACTED) or (0 < len(rest) < len(_REDACTED) and _REDACTED.startswith(rest))


def _mask(secret: bytes, number: int) -> bytes:
    """Letters of the secret's length; what its prefix or shape says of its maker stays, since the texts of
    errors are cleaned by it."""
    kept = b""
    if found := _PUBLIC.match(secret):
        kept = found[0]
    elif _HEX_AND_MORE.match(secret):
        kept = b"0" * 32 + b"."
    unit = b"redacted-%d-" % number
    room = max(0, len(secret) - len(kept))
    return (kept + unit * (room // len(unit) + 1))[: len(secret)]


def _joined(part: bytes | bytearray, lane: Lane) -> bytes:
    return b"".join(part[start:end] for start, end in lane)


def _write(out: bytearray, lane: Lane, starts: list[int], at: int, mask: bytes) -> None:
    """Overwrite a place of a joined text where its fragments stand."""
    number = bisect_right(starts, at) - 1
    while mask:
        start, end = lane[number]
        begin = start + at - starts[number]
        count = min(end - begin, len(mask))
        out[begin : begin + count] = mask[:count]
        mask = mask[count:]
        number += 1
        at = starts[number]


def _starts(lane: Lane) -> list[int]:
    """Where each fragment begins in the joined text, and its length at last."""
    return [0, *accumulate(end - start for start, end in lane)]
