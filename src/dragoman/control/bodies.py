"""Read a JSON request body into a struct, bounded, with an error a person can act on."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request

from dragoman.errors import DragomanError, ExitCode

MAX_BODY_BYTES = 1 << 20

Body = TypeVar("Body")


class BadRequest(DragomanError):
    """The body is not what this address takes."""

    code = "bad_request"
    http_status = 400
    exit_code = ExitCode.USAGE


async def read_body(request: Request, kind: type[Body], *, max_bytes: int = MAX_BODY_BYTES) -> Body:
    """The request's JSON body.

    Args:
        request: whose body.
        kind: the struct it must fit; an empty body is an empty object.
        max_bytes: what is larger is not read.

    Raises:
        BadRequest: not JSON, not of this shape, or too large.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            raise BadRequest(f"the body is over {max_bytes >> 20} MiB", http_status=413)
    try:
        return msgspec.json.decode(bytes(content) or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"the body does not fit: {error}") from None
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8 text") from None
