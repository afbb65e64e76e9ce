"""Who calls a tool, from where, and what that connection may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from dragoman.jobs.guards import DEPTH_VARIABLE

Progress = Callable[[float, str], Awaitable[None]]


async def _silent(done: float, message: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class Caller:
    """One call's surroundings.

    Attributes:
        client: what the client calls itself, such as `codex-mcp-client`.
        thread: the client's own conversation, from the call's `_meta` (Codex 0.163 sends `threadId`).
        cwd: where its server was started; used where a call names no folder.
        environment: the variables of that connection that decide what it may do.
        progress: tells the client how far the call is; silent when it did not ask.
    """

    client: str = ""
    thread: str = ""
    cwd: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    progress: Progress = _silent


def caller_of(
    headers: Mapping[str, str], meta: Mapping[str, Any], client: str = "", progress: Progress = _silent
) -> Caller:
    """Read a caller from a request.

    Args:
        headers: of the HTTP request, names in lower case.
        meta: the call's `_meta`.
        client: its name, when it said one.
        progress: how to tell it how far we are.
    """
    environment = {
        variable: unquote(headers[header])
        for header, variable in (
            ("x-dragoman-allow-roots", "CODEX_CLAUDE_ALLOW_ROOTS"),
            ("x-dragoman-depth", DEPTH_VARIABLE),
        )
        if header in headers
    }
    thread = meta.get("threadId")
    return Caller(
        client=client or ("codex" if "x-codex-turn-metadata" in meta else "mcp"),
        thread=thread if isinstance(thread, str) else "",
        cwd=unquote(headers.get("x-dragoman-cwd", "")),
        environment=environment,
        progress=progress,
    )
