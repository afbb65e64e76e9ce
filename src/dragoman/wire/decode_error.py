"""Reading a provider's error, in whatever shape it comes, into one `Failure`.

The shapes are those of the three protocols plus what gateways and proxies in front of providers answer with:
`{"error": {...}}`, `{"error": "text"}`, `{"detail": [...]}`, `{"code", "msg"}`, a bare text, a HTML page.
Business codes that only one provider uses come in as data (`Dialect.error_codes`), never as code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, cast

import msgspec

from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import Failure, FailureCode, failure
from dragoman.wire.loose_json import mend_json

MAX_ERROR_BYTES = 64 * 1024
"""More of an error body is never looked at."""


_NO_CODES: Mapping[str, FailureCode] = {}

# Codes and types that mean the same at every provider that uses them.
_COMMON: dict[str, FailureCode] = {
    "context_length_exceeded": "context",
    "string_above_max_length": "context",
    "model_context_window_exceeded": "context",
    "insufficient_quota": "quota_window",
    "usage_limit_reached": "quota_window",
    "usage_not_included": "quota_window",
    "billing_error": "quota_window",
    "billing_hard_limit_reached": "quota_window",
    "rate_limit_exceeded": "rate",
    "rate_limit_error": "rate",
    "rate_limit_reached": "rate",
    "slow_down": "rate",
    "tokens": "rate",
    "requests": "rate",
    "overloaded_error": "overloaded",
    "server_is_overloaded": "overloaded",
    "engine_overloaded_error": "overloaded",
    "service_unavailable": "overloaded",
    "service_unavailable_error": "overloaded",
    "insufficient_system_resource": "overloaded",
    "invalid_api_key": "auth",
    "authentication_error": "auth",
    "permission_error": "permission",
    "permission_denied": "permission",
    "model_not_found": "not_found",
    "not_found_error": "not_found",
    "request_too_large": "too_large",
    "content_filter": "filtered",
    "content_policy_violation": "filtered",
    "invalid_prompt": "invalid",
    "invalid_request_error": "invalid",
    "timeout_error": "timeout",
    "api_error": "upstream",
    "server_error": "upstream",
    "internal_error": "upstream",
    "internal_server_error": "upstream",
}

_CONTEXT = re.compile(
    r"context[ _]length|context[ _]window|maximum context|prompt is too long|prompt exceeds|input is too long"
    r"|input (?:token count|length)\b.{0,60}\bexceed|too many (?:input )?tokens"
    r"|exceeds? the (?:maximum|max) (?:number of tokens|input)|range of input length|reduce the length of",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"usage limit reached|limit will reset|insufficient (?:balance|quota|credits?)"
    r"|exceeded your current quota|quota (?:is |has been )?(?:exceeded|exhausted)"
    r"|in arrears|credit balance is too low|out of credits",
    re.IGNORECASE,
)
_BUSY = re.compile(r"overload|server is busy|at capacity|no capacity|temporarily unavailable", re.IGNORECASE)
_TOO_FAST = re.compile(r"rate limit|too many requests|too frequent|concurren", re.IGNORECASE)
_TOKENS_OF_LIMIT = (
    re.compile(r"(?P<tokens>\d{3,})\s*tokens?\s*>\s*(?P<limit>\d{3,})", re.IGNORECASE),
    re.compile(
        r"maximum context length is (?P<limit>\d{3,}).{0,80}?(?P<tokens>\d{3,})", re.IGNORECASE | re.S
    ),
    re.compile(
        r"(?P<tokens>\d{3,}).{0,60}?(?:exceeds?|greater|larger|more).{0,60}?(?P<limit>\d{3,})", re.I | re.S
    ),
)
_CLOCK = re.compile(
    r"\b(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2}(?::\d{2})?)(?:\.\d+)?\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
)
_WAIT = re.compile(r"(?:try|retry)[a-z ]* in (\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?", re.IGNORECASE)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def decode_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    codes: Mapping[str, FailureCode] = _NO_CODES,
    reset_utc_offset_h: float | None = None,
    now: float | None = None,
) -> Failure:
    """Read a refused HTTP exchange.

    Args:
        status: the upstream's status; a 200 with an error inside is fine.
        headers: its headers, names in lower case.
        body: its body or the beginning of it.
        codes: the provider's own codes and types, as text.
        reset_utc_offset_h: the offset of clock times in messages ("will reset at 2026-11-21 05:00:00"), in
            hours; None when it is unknown: the time is then shown but not counted with.
        now: the time in Unix seconds, to read HTTP dates in `retry-after`; without it they are ignored.
    """
    retry_after_s = _retry_after(headers, now)
    resets_at = _reset_header(headers)
    body = body[:MAX_ERROR_BYTES]
    value = _json(body)
    if value is None:
        text = body.decode("utf-8", "replace") if _is_plain(headers, body) else ""
        value = {"message": text}
    return failure_from(
        value,
        http_status=status,
        codes=codes,
        reset_utc_offset_h=reset_utc_offset_h,
        retry_after_s=retry_after_s,
        resets_at=resets_at,
    )


def failure_from(
    value: object,
    *,
    http_status: int | None = None,
    codes: Mapping[str, FailureCode] = _NO_CODES,
    reset_utc_offset_h: float | None = None,
    retry_after_s: float | None = None,
    resets_at: float | None = None,
) -> Failure:
    """Read a decoded error value: a whole error body, the `error` object in a stream, or a bare text.

    Args:
        value: what the JSON decoder gave.
        http_status: the status, if the error came as one; an error inside a 200 stream has none that counts.
        codes: the provider's own codes and types, as text.
        reset_utc_offset_h: the offset of clock times in messages ("will reset at 2026-11-21 05:00:00"), in
            hours; None when it is unknown: the time is then shown but not counted with.
        retry_after_s: what the headers said about waiting.
        resets_at: what the headers said about the quota window, in Unix seconds.
    """
    if http_status is not None and http_status < 300:
        http_status = None
    found = _Found()
    found.collect(value)
    message = found.message
    if found.role_refused:
        # The exact words after which Claude Code (2.1.197, 2.1.329) repeats the request without the message.
        message = f'role "system" is not supported ({message})'
    code = _classify(found.codes, message, http_status, codes)
    if code in ("rate", "overloaded") and retry_after_s is None and (wait := _WAIT.search(message)):
        retry_after_s = float(wait[1]) * _UNIT_S[(wait[2] or "s").lower()]
    prompt_tokens, limit_tokens = _token_counts(message) if code == "context" else (None, None)
    if code == "quota_window" and resets_at is None:
        resets_at = found.resets_at if found.resets_at is not None else _clock(message, reset_utc_offset_h)
    built = failure(
        code,
        message,
        http_status=http_status,
        retry_after_s=retry_after_s,
        resets_at=resets_at,
        param=found.param,
        upstream_code=next(iter(found.codes), None),
        prompt_tokens=prompt_tokens,
        limit_tokens=limit_tokens,
    )
    if built.message == message or message or http_status is None:
        return built
    return msgspec.structs.replace(built, message=f"{built.message[:-1]} (HTTP {http_status}).")


def failure_told(value: object, dialect: Dialect) -> Failure:
    """Read an error value from inside an answer, in the words and the zone of its provider."""
    return failure_from(value, codes=dialect.error_codes, reset_utc_offset_h=dialect.reset_utc_offset_h)


class _Found:
    """What could be picked out of an error of unknown shape."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.message = ""
        self.param: str | None = None
        self.resets_at: float | None = None
        self.role_refused = False

    def collect(self, value: object, depth: int = 0) -> None:
        """Walk the shapes errors come in; the innermost message and every code on the way are kept."""
        if depth > 6:
            return
        if isinstance(value, str):
            self.message = self.message or value
        elif isinstance(value, list):
            self._details(cast("list[object]", value), depth)
        elif isinstance(value, dict):
            self._object(cast("dict[str, Any]", value), depth)

    def _object(self, value: dict[str, Any], depth: int) -> None:
        for key in ("error", "response", "errors", "base_resp", "detail"):
            inner: object = value.get(key)
            if inner:
                self.collect(inner, depth + 1)
        for key in ("code", "type", "status_code", "error_code", "err_code"):
            word = value.get(key)
            if isinstance(word, str | int) and not isinstance(word, bool) and word not in ("error", ""):
                self.codes.append(str(word))
        for key in ("message", "msg", "status_msg", "error_msg", "error_description", "title"):
            if not self.message and isinstance(text := value.get(key), str):
                self.message = text
        metadata: object = value.get("metadata")
        if isinstance(metadata, dict):
            raw: object = cast("dict[str, Any]", metadata).get("raw")
            if isinstance(raw, str) and raw:
                self.message = f"{self.message}: {raw}" if self.message else raw
        if isinstance(param := value.get("param"), str):
            self.param = param
        reset = value.get("resets_at")
        if isinstance(reset, int | float) and not isinstance(reset, bool):
            self.resets_at = float(reset)

    def _details(self, items: list[object], depth: int) -> None:
        """FastAPI's `detail` list and JSON:API's `errors` list."""
        for item in items[:3]:
            if not isinstance(item, dict):
                self.collect(item, depth + 1)
                continue
            entry = cast("dict[str, Any]", item)
            loc, text = entry.get("loc"), entry.get("msg")
            if isinstance(loc, list) and isinstance(text, str):
                place = [str(step) for step in cast("list[object]", loc)]
                self.message = self.message or f"{'.'.join(place)}: {text}"
                self.role_refused |= place[-1:] == ["role"] and "user" in text and "assistant" in text
            else:
                self.collect(entry, depth + 1)


def _classify(
    words: list[str], message: str, status: int | None, codes: Mapping[str, FailureCode]
) -> FailureCode:
    """Provider's codes first, then common codes, then telling messages, then the status."""
    for word in words:
        if word in codes:
            return codes[word]
    common: list[FailureCode] = [_COMMON[word] for word in words if word in _COMMON]
    for code in common:
        if code not in ("invalid", "upstream", "rate"):
            return code
    if status in (None, 400, 413, 422, 500) and _CONTEXT.search(message):
        return "context"
    if status == 402 or (status in (None, 400, 403, 429) and _QUOTA.search(message)):
        return "quota_window"
    by_status: FailureCode = _by_words(words, message) if status is None else _by_status(status)
    vague = by_status == "invalid" or by_status == "upstream"
    return common[0] if common and vague else by_status


def _by_words(words: list[str], message: str) -> FailureCode:
    """An error without a status: told inside a stream, or by a body that came with 200.

    A number that is a HTTP status counts as one. Any other number is a business code of a provider nobody
    told us about: such a request was refused, not broken off, and would be refused again.
    """
    if _BUSY.search(message):
        return "overloaded"
    if _TOO_FAST.search(message):
        return "rate"
    numbers = [int(word) for word in words if re.fullmatch(r"\d{3,6}", word)]
    for number in numbers:
        if 400 <= number < 600:
            return _by_status(number)
    return "invalid" if numbers else "upstream"


def _by_status(status: int) -> FailureCode:
    match status:
        case 401:
            return "auth"
        case 403:
            return "permission"
        case 404:
            return "not_found"
        case 408 | 504 | 524:
            return "timeout"
        case 413:
            return "too_large"
        case 429:
            return "rate"
        case 503 | 529:
            return "overloaded"
        case _:
            return "invalid" if 400 <= status < 500 else "upstream"


def _token_counts(message: str) -> tuple[int | None, int | None]:
    for pattern in _TOKENS_OF_LIMIT:
        if found := pattern.search(message):
            tokens, limit = int(found["tokens"]), int(found["limit"])
            if tokens > limit:
                return tokens, limit
    return None, None


def _clock(message: str, offset_h: float | None) -> float | None:
    """The Unix time of a clock time in a message, if its zone is written or known."""
    found = _CLOCK.search(message)
    if found is None:
        return None
    date, time, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}")
        if zone in ("Z", "UTC", "GMT"):
            return moment.replace(tzinfo=UTC).timestamp()
        if zone:
            return datetime.fromisoformat(f"{date}T{time}{zone}").timestamp()
        if offset_h is None:
            return None
        return moment.replace(tzinfo=timezone(timedelta(hours=offset_h))).timestamp()
    except (ValueError, OverflowError):
        return None


def _retry_after(headers: Mapping[str, str], now: float | None) -> float | None:
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value):
            return float(value) * scale
        if value and now is not None and scale == 1.0:
            try:
                return max(0.0, parsedate_to_datetime(value).timestamp() - now)
            except (ValueError, OverflowError):
                return None
    return None


def _reset_header(headers: Mapping[str, str]) -> float | None:
    """The reset time of a subscription window; only absolute times of the next thousand years count."""
    for name in ("anthropic-ratelimit-unified-reset", "x-codex-primary-reset-at", "x-ratelimit-reset"):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{10}", value):
            return float(value)
    return None


def _is_plain(headers: Mapping[str, str], body: bytes) -> bool:
    kind = headers.get("content-type", "text/plain").lower()
    return "html" not in kind and not body.lstrip().startswith(b"<")


def _json(body: bytes) -> object:
    for candidate in _candidates(body):
        try:
            return msgspec.json.decode(candidate)
        except (ValueError, RecursionError):
            continue
    return None


def _candidates(body: bytes) -> Iterator[bytes]:
    yield body
    text = body.strip()
    if text.startswith((b"{", b"[", b'"')) and (mended := mend_json(text)) is not None:
        yield mended
    if b"data:" in text:  # an error sent as a stream although the status says otherwise
        for line in text.split(b"\n"):
            if line.startswith(b"data:"):
                yield line[5:].strip()
