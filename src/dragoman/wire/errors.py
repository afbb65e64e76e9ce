"""What can go wrong on a wire: one set of codes, one value that carries a failure, one exception.

A provider's error is read into a `Failure` (`decode_error`), and a `Failure` is written in the words each
client acts on (`encode_error`). Nothing else of a provider's error reaches a client.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from dragoman.errors import DragomanError

FailureCode = Literal[
    "auth",
    "permission",
    "not_found",
    "invalid",
    "context",
    "too_large",
    "rate",
    "quota_window",
    "overloaded",
    "upstream",
    "timeout",
    "truncated",
    "filtered",
]

RETRYABLE_CODES: frozenset[FailureCode] = frozenset(
    {"rate", "overloaded", "upstream", "timeout", "truncated"}
)

# A wait longer than this is not worth holding a client for: it is told at once.
PATIENT_RETRY_AFTER_S = 60.0

MAX_MESSAGE_CHARS = 1000


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an exchange failed, in one vocabulary for the three wires.

    Attributes:
        code: what kind of failure it is.
        message: one or two sentences for the user, already free of secrets (see `clean_message`).
        retryable: whether the same request may succeed soon.
        http_status: the status the upstream answered with, if it answered.
        retry_after_s: how long the upstream asked to wait, in seconds.
        resets_at: when an exhausted quota window opens again, in Unix seconds.
        param: JSON path of the offending value in the request, such as `$.messages[0].content`.
        upstream_code: the provider's own code or type, for logs.
        prompt_tokens: how many tokens the refused prompt had (code `context`).
        limit_tokens: how many the model takes (code `context`).
    """

    code: FailureCode
    message: str
    retryable: bool = False
    http_status: int | None = None
    retry_after_s: float | None = None
    resets_at: float | None = None
    param: str | None = None
    upstream_code: str | None = None
    prompt_tokens: int | None = None
    limit_tokens: int | None = None


def failure(
    code: FailureCode,
    message: str,
    *,
    http_status: int | None = None,
    retry_after_s: float | None = None,
    resets_at: float | None = None,
    param: str | None = None,
    upstream_code: str | None = None,
    prompt_tokens: int | None = None,
    limit_tokens: int | None = None,
) -> Failure:
    """Build a `Failure` whose message is cleaned and whose `retryable` follows from its code and wait."""
    patient = retry_after_s is None or retry_after_s <= PATIENT_RETRY_AFTER_S
    return Failure(
        code=code,
        message=clean_message(message) or DEFAULT_MESSAGES[code],
        retryable=code in RETRYABLE_CODES and patient,
        http_status=http_status,
        retry_after_s=retry_after_s,
        resets_at=resets_at,
        param=param,
        upstream_code=upstream_code,
        prompt_tokens=prompt_tokens,
        limit_tokens=limit_tokens,
    )


DEFAULT_MESSAGES: dict[FailureCode, str] = {
    "auth": "The provider refused the key.",
    "permission": "The provider does not allow this key to do that.",
    "not_found": "The provider does not know this model or address.",
    "invalid": "The provider refused the request.",
    "context": "The conversation is longer than the model's context window.",
    "too_large": "The request is larger than the provider accepts.",
    "rate": "The provider asks to slow down.",
    "quota_window": "The quota of this key is used up.",
    "overloaded": "The provider is overloaded.",
    "upstream": "The provider failed.",
    "timeout": "The provider did not answer in time.",
    "truncated": "The provider's answer broke off.",
    "filtered": "The provider's content filter stopped the answer.",
}


class BadRequest(DragomanError):
    """A client's request that cannot be read.

    Attributes:
        path: JSON path of the value that is wrong, such as `$.input[2].role`; `$` for the whole body.
    """

    code = "bad_request"
    http_status = 400
    exit_code = 1

    def __init__(self, message: str, *, path: str = "$", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path

    @property
    def failure(self) -> Failure:
        """The same fact as a `Failure`, ready to be written in the client's wire."""
        where = "" if self.path == "$" and "$" in self.message else f" (at {self.path})"
        return failure("invalid", f"{self.message}{where}", http_status=400, param=self.path)


_MSGSPEC_PATH = re.compile(r"^(?P<what>.*?) - at `(?P<key>key in )?(?P<path>\$[^`]*)`$", re.DOTALL)


def bad_request(error: msgspec.MsgspecError) -> BadRequest:
    """Turn msgspec's refusal of a body into a `BadRequest` with the JSON path taken from its text."""
    text = str(error)
    if found := _MSGSPEC_PATH.match(text):
        return BadRequest(found["what"], path=found["path"])
    if isinstance(error, msgspec.ValidationError):
        return BadRequest(text)
    return BadRequest(f"The body is not valid JSON: {text}")


_HTML = re.compile(r"<\s*(?:!doctype|html|head|body|title|script|style|center|h1)\b", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u0085]+")
_SECRETS = (
    re.compile(
        r"(?i)\b((?:proxy-)?authorization|x-api-key|api[-_ ]?key|set-cookie|cookie|access[-_]token|secret)"
        r"(\"?\s*[:=]\s*\"?)(?:bearer\s+)?[^\s\"',;}]+"
    ),
    re.compile(r"(?i)\b(bearer)(\s+)[a-z0-9._~+/=-]{6,}"),
)
_KEY_SHAPES = re.compile(
    r"\b(?:sk|pk|rk|key|ak|gsk|xai|ghp|gho|eyJ)[-_][A-Za-z0-9_.\-*]{8,}|\b[0-9a-f]{32}\.[A-Za-z0-9]{12,}"
)
_ADDRESS = re.compile(
    r"(?i)\b(?:[a-z][a-z0-9+.-]*://)?(?:localhost|127(?:\.\d{1,3}){3}|10(?:\.\d{1,3}){3}|192\.168(?:\.\d{1,3}){2}"
    r"|169\.254(?:\.\d{1,3}){2}|172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2}|[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:internal|local|svc|lan))"
    r"\b(?::\d+)?(?:/[^\s\"',;)}]*)?"
)


def clean_message(text: str) -> str:
    """Make a provider's words fit to show: one bounded line without markup, header, key or private address.

    A HTML page gives an empty string; the caller then says what happened in our own words.
    """
    text = text[: 8 * MAX_MESSAGE_CHARS]
    if _HTML.search(text):
        return ""
    text = _CONTROL.sub(" ", text)
    for pattern in _SECRETS:
        text = pattern.sub(r"\1\2[redacted]", text)
    text = _KEY_SHAPES.sub("[redacted]", text)
    text = _ADDRESS.sub("[address]", text).strip()
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
