"""The tools on the official SDK: one server for the streamable HTTP endpoint and for whoever tests it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server

from dragoman.errors import DragomanError
from dragoman.mcp.apply import claude_apply, claude_cleanup
from dragoman.mcp.caller import Caller, caller_of
from dragoman.mcp.declarations import DEFAULT_TOOLS, INSTRUCTIONS, SERVER_NAME, tool_named
from dragoman.mcp.delegate import claude_job_wait, claude_result, claude_task
from dragoman.mcp.inputs import (
    ApplyInput,
    CleanupInput,
    JobWaitInput,
    ResultInput,
    SetupInput,
    TaskInput,
    read_input,
)
from dragoman.mcp.place import Desk
from dragoman.mcp.replies import Reply, as_text, error_reply, fit
from dragoman.mcp.setup import Look, claude_setup
from mcp import types

log = logging.getLogger("dragoman.mcp")

Call = Callable[[Caller, dict[str, Any] | None], Awaitable[Reply]]
Context = ServerRequestContext[Any, Any]


def tool_calls(desk: Desk, look: Look) -> dict[str, Call]:
    """Every tool by name, its arguments still to be checked.

    Args:
        desk: what the tools work with.
        look: the doctor's findings, for `claude_setup`.
    """

    async def setup(caller: Caller, arguments: dict[str, Any] | None) -> Reply:
        return await claude_setup(desk, caller, read_input(SetupInput, "claude_setup", arguments), look)

    async def task(caller: Caller, arguments: dict[str, Any] | None) -> Reply:
        return await claude_task(desk, caller, read_input(TaskInput, "claude_task", arguments))

    async def job_wait(caller: Caller, arguments: dict[str, Any] | None) -> Reply:
        return await claude_job_wait(desk, caller, read_input(JobWaitInput, "claude_job_wait", arguments))

    async def result(caller: Caller, arguments: dict[str, Any] | None) -> Reply:
        return await claude_result(desk, caller, read_input(ResultInput, "claude_result", arguments))

    async def apply(caller: Caller, arguments: dict[str, Any] | None) -> Reply:
        return await claude_apply(desk, caller, read_input(ApplyInput, "claude_apply", arguments))

    async def cleanup(caller: Caller, arguments: dict[str, Any] | None) -> Reply:
        return await claude_cleanup(desk, caller, read_input(CleanupInput, "claude_cleanup", arguments))

    return {
        "claude_setup": setup,
        "claude_task": task,
        "claude_job_wait": job_wait,
        "claude_result": result,
        "claude_apply": apply,
        "claude_cleanup": cleanup,
    }


def mcp_server(desk: Desk, look: Look, version: str) -> Server[Any]:
    """A server with the six tools.

    Args:
        desk: what the tools work with.
        look: the doctor's findings.
        version: ours.
    """
    calls = tool_calls(desk, look)
    listed = [types.Tool.model_validate(tool.as_listed()) for tool in DEFAULT_TOOLS]

    async def list_tools(
        context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        reply, failed = await _answer(calls, context, params)
        text = types.TextContent(type="text", text=as_text(reply))
        return types.CallToolResult(content=[text], structured_content=reply, is_error=failed)

    return Server(
        SERVER_NAME,
        version=version,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=_schema_of,
    )


def _schema_of(name: str) -> dict[str, Any] | None:
    tool = tool_named(name)
    return None if tool is None else tool.input_schema()


async def _answer(
    calls: dict[str, Call], context: Context, params: types.CallToolRequestParams
) -> tuple[Reply, bool]:
    """Carry a call out; whatever goes wrong is an answer a model can act on."""
    call = calls.get(params.name)
    if call is None:
        names = ", ".join(calls)
        error = DragomanError(
            f"there is no tool {params.name[:80]!r}; there are {names}", code="invalid_input"
        )
        return error_reply(error), True
    try:
        reply = fit(await call(_caller(context), params.arguments))
    except DragomanError as error:
        return fit(error_reply(error)), True
    except Exception as error:  # noqa: BLE001 - a mistake of ours is an answer too, never a dead connection
        # Its text may quote what nobody else may read; its type and place are enough to find it.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        log.error("tool %s failed: %s at %s", params.name, type(error).__name__, where)
        internal = DragomanError("dragoman made a mistake", hint="dragoman logs", code="internal")
        return error_reply(internal), True
    return reply, "error" in reply


def _caller(context: Context) -> Caller:
    headers: dict[str, str] = {}
    if context.request is not None:
        headers = {name.lower(): value for name, value in context.request.headers.items()}

    async def progress(done: float, message: str) -> None:
        await context.session.report_progress(done, None, message)

    info = context.session.client_params
    client = "" if info is None else info.client_info.name
    return caller_of(headers, dict(context.meta or {}), client, progress)
