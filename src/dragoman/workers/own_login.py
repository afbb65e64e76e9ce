"""The user's own Claude login for a worker: their configuration folder and endpoint instead of our gateway.

Asked for by `worker_login = "own"` alone, and said in the result's isolation: with it the worker speaks to
wherever the user's Claude Code speaks, unmetered, and the gateway neither sees nor ends what it does there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# What stands between the client and the user's own endpoint.
_OURS = (
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_CUSTOM_HEADERS",
    "CLAUDE_CONFIG_DIR",
    "HOME",
    "NO_PROXY",
    "CLAUDE_CODE_MAX_CONTEXT_TOKENS",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def open_own_login(planned: Mapping[str, str], env: Mapping[str, str], *, user_home: Path) -> dict[str, str]:
    """A worker's planned environment with the user's own login in place of ours.

    Args:
        planned: by `plan_worker_environment`.
        env: the surroundings, with the user's `ANTHROPIC_*` and `CLAUDE_*` variables.
        user_home: where their `.claude` lies.
    """
    kept = {name: value for name, value in planned.items() if name not in _OURS}
    own = {name: value for name, value in env.items() if name.startswith(("ANTHROPIC_", "CLAUDE_CODE_"))}
    for name in _PROXIES:
        own |= {spelled: env[spelled] for spelled in (name, name.lower()) if spelled in env}
    if "CLAUDE_CONFIG_DIR" in env:
        own["CLAUDE_CONFIG_DIR"] = env["CLAUDE_CONFIG_DIR"]
    # What we plan for every worker (no background tasks, its model) wins over the user's habits.
    return own | kept | {"HOME": str(user_home)}
