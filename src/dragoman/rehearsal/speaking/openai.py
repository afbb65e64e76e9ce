"""What the chat and the responses wire share: the shape of an error."""

from __future__ import annotations

import msgspec

from dragoman.rehearsal.answer import Failure

_KINDS = {
    400: ("invalid_request_error", None),
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "server_is_overloaded"),
}


def error_of(failed: Failure) -> dict[str, str | None]:
    """The error object of OpenAI's services."""
    usual = ("server_error", "server_error") if failed.status >= 500 else _KINDS[400]
    kind, code = _KINDS.get(failed.status, usual)
    return {"message": failed.message, "type": kind, "param": None, "code": failed.code or code}


def failure(failed: Failure, digest: str) -> bytes:
    """The body of an HTTP error."""
    return msgspec.json.encode({"error": error_of(failed)})
