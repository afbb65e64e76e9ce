"""`claude_setup`: whether delegation would work here, each problem with its fix."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from dragoman.clients.checks import Finding
from dragoman.clients.config_file import read_client_file
from dragoman.clients.setup_provider import ProviderEdit
from dragoman.clients.toml_edit import TomlText
from dragoman.config.paths import Home
from dragoman.errors import DragomanError
from dragoman.jobs.guards import Refused, check_cwd
from dragoman.mcp.caller import Caller
from dragoman.mcp.inputs import SetupInput
from dragoman.mcp.place import Desk
from dragoman.mcp.replies import Reply
from dragoman.workspace import open_repository

Look = Callable[[], Iterable[Finding]]


async def claude_setup(desk: Desk, caller: Caller, asked: SetupInput, look: Look) -> Reply:
    """Look at everything a delegated task needs.

    Args:
        desk: what the tools work with.
        caller: who asks.
        asked: for which folder, and whether it may be added to the allow roots.
        look: the doctor's findings, those of an offline look.
    """
    return await asyncio.to_thread(_look, desk, caller, asked, look)


def _look(desk: Desk, caller: Caller, asked: SetupInput, look: Look) -> Reply:
    problems: list[Reply] = []
    warnings: list[str] = []
    allowed = True
    added: str | None = None
    try:
        open_repository(desk.place(caller, asked.cwd))
    except Refused as error:
        allowed = error.code != "cwd_not_allowed"
        problem: Reply = {"problem": error.message, "fix": error.hint}
        if not allowed and asked.configure_allow_root:
            added = _allow(desk, caller, asked.cwd or caller.cwd)
            problem = {"problem": f"{added} was added to the allow roots", "fix": "dragoman reload"}
        problems.append(problem)
    except DragomanError as error:
        problems.append({"problem": error.message, "fix": error.hint})
    for finding in look():
        if finding.verdict == "fail":
            problems.append({"problem": finding.text, "fix": finding.fix})
        elif finding.verdict == "warn":
            warnings.append(finding.text if finding.fix is None else f"{finding.text}. {finding.fix}")
    settings = desk.settings()
    ready = not problems
    return {
        "ready": ready,
        "status": "ready" if ready else "needs_setup" if not allowed else "not_ready",
        "worker": settings.worker,
        "model": settings.model,
        "allow_root_added": added,
        "allow_roots": [str(root) for root in desk.allow_roots(caller)],
        "problems": problems,
        "warnings": warnings,
        "interaction": {
            "state": "ready" if ready else "needs_attention",
            "headline": "Ready to delegate."
            if ready
            else f"{len(problems)} to fix before work is delegated.",
        },
    }


def _allow(desk: Desk, caller: Caller, cwd: str) -> str:
    """Add the repository of a folder to `[delegation] allow_roots`.

    The guards for dangerous places hold as they do for a person; the connection's own list, where it has
    one, still wins over the file.

    Raises:
        DragomanError: not a place to work in, or the file cannot be edited safely.
    """
    real = check_cwd(cwd, home=desk.user_home, allow_roots=None, private=(desk.state,))
    root = str(open_repository(real).root)
    home: Home = desk.jobs.home
    file = read_client_file(home.config_file)
    document = TomlText(file.text, str(home.config_file))
    roots = [*dict.fromkeys((*desk.settings().allow_roots, root))]
    ProviderEdit(file, document.with_value(("delegation", "allow_roots"), roots).text).run()
    return root
