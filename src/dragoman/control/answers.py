"""How the control API answers: one shape for errors, the same as the command line's `--json`."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from dragoman.errors import DragomanError


class JsonResponse(Response):
    """msgspec structs, dataclasses and plain values as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


def error_response(error: DragomanError) -> JsonResponse:
    """An error as a response."""
    headers = {"www-authenticate": "Bearer"} if error.http_status == 401 else None
    return JsonResponse(error_body(error), status_code=error.http_status, headers=headers)


def error_body(error: DragomanError) -> dict[str, Any]:
    """An error as the JSON object every surface prints."""
    return {"error": error.message, "error_code": error.code, "next": error.hint}


async def send_error(error: DragomanError, send: Any) -> None:
    """An error as the whole answer of a raw ASGI application."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    await error_response(error)({"type": "http"}, receive, send)
