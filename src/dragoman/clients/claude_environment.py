"""The environment a Claude Code worker gets: chosen from an allow-list, everything else left behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dragoman.clients.program import absolute_path
from dragoman.clients.run_header import RUN_HEADER, checked_run_id
from dragoman.sandbox.toolchain import TOOL_HOMES

# What a program needs to find itself, its language and its certificates. No proxies: the only address a
# worker speaks to is on loopback, and a proxy's own address may hold a password.
_KEPT = (
    "PATH",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "USER",
    "LOGNAME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    # Where a toolchain lives when it is not found through PATH alone; the private HOME would hide it.
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYENV_ROOT",
    "JAVA_HOME",
    "GOROOT",
    "GOPATH",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "NVM_DIR",
    "VOLTA_HOME",
    "GEM_HOME",
    "SDKMAN_DIR",
)

_LOCALE = re.compile(r"LC_[A-Z]+")


@dataclass(frozen=True, slots=True)
class ClaudeLaunch:
    """What a worker's environment depends on.

    Attributes:
        gateway_url: address of the gateway, `http://127.0.0.1:PORT`.
        token: the run's own token.
        run_id: names the run in a header of every request, so that the gateway can account for it.
        model: the one model every alias of the client stands for.
        config_folder: private folder of this run for the client's configuration, HOME included.
        context_window: tokens the model can hold, or None to let the client guess.
        max_output_tokens: ceiling of one answer, or None to let the client guess.
        max_turns: model calls allowed, or None.
        scrub: have the client keep its token out of the commands it runs; from 2.1.329 on that needs
            bubblewrap.
        temp_folder: TMPDIR of the run, or None for the system's.
        extra: further variables, such as a project's own; they lose against ours.
    """

    gateway_url: str
    token: str
    run_id: str
    model: str
    config_folder: Path
    context_window: int | None = None
    max_output_tokens: int | None = None
    max_turns: int | None = None
    scrub: bool = False
    temp_folder: Path | None = None
    extra: Mapping[str, str] | None = None


def plan_worker_environment(
    launch: ClaudeLaunch, env: Mapping[str, str], *, user_home: Path | None = None
) -> dict[str, str]:
    """The whole environment of a worker; nothing else of `env` gets through.

    Learned from Claude Code 2.1.197 and 2.1.329: without the alias variables 2.1.197's Explore agent asks
    for a haiku whatever the main model is; without the window 2.1.329 assumes a million tokens for a model
    it does not know; its attribution header changes every run and would spoil prompt caching at byte 0.

    Args:
        launch: what to plan for.
        env: the surroundings to choose from.
        user_home: where to look for toolchains whose variable is not set; None looks nowhere.

    Raises:
        RunIdInvalid: the run's id has characters a header cannot carry.
    """
    kept = {name: env[name] for name in _KEPT if env.get(name)}
    kept |= {name: value for name, value in env.items() if _LOCALE.fullmatch(name)}
    kept["PATH"] = absolute_path(env.get("PATH", "")) or "/usr/local/bin:/usr/bin:/bin"
    if user_home is not None:
        for name, folder in TOOL_HOMES.items():
            if name not in kept and (user_home / folder).is_dir():
                kept[name] = str(user_home / folder)
    kept.update(launch.extra or {})
    kept.update(_private_folders(launch))
    kept.update(_model_variables(launch))
    kept.update(_behaviour_variables(launch))
    return kept


def _private_folders(launch: ClaudeLaunch) -> dict[str, str]:
    folders = {
        "HOME": str(launch.config_folder / "home"),
        "CLAUDE_CONFIG_DIR": str(launch.config_folder / "claude"),
        # Else it leaves a folder for each session under /tmp/claude-<uid> behind.
        "CLAUDE_CODE_TMPDIR": str(launch.config_folder / "tmp"),
        # A worker has no one to type a password, and no editor to wait for.
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
        "GIT_PAGER": "cat",
        "PAGER": "cat",
    }
    if launch.temp_folder is not None:
        folders["TMPDIR"] = str(launch.temp_folder)
    return folders


def _model_variables(launch: ClaudeLaunch) -> dict[str, str]:
    same_model = (
        "ANTHROPIC_MODEL",
        "ANTHROPIC_DEFAULT_OPUS_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
        "ANTHROPIC_SMALL_FAST_MODEL",
        "CLAUDE_CODE_SUBAGENT_MODEL",
    )
    variables = dict.fromkeys(same_model, launch.model)
    variables |= {
        "ANTHROPIC_BASE_URL": launch.gateway_url.rstrip("/"),
        "ANTHROPIC_AUTH_TOKEN": launch.token,
        "ANTHROPIC_CUSTOM_HEADERS": f"{RUN_HEADER}: {checked_run_id(launch.run_id)}",
    }
    if launch.context_window is not None:
        variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(launch.context_window)
    if launch.max_output_tokens is not None:
        variables["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(launch.max_output_tokens)
    return variables


def _behaviour_variables(launch: ClaudeLaunch) -> dict[str, str]:
    variables = {
        # About two and a half minutes of patience: the gateway may be restarted meanwhile.
        "CLAUDE_CODE_MAX_RETRIES": "10",
        # Background agents give several results, and background commands outlive the answer.
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        # Caches of the tests it runs would show up as its changes.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if launch.max_turns is not None:
        variables["CLAUDE_CODE_MAX_TURNS"] = str(launch.max_turns)
    if launch.scrub:
        variables["CLAUDE_CODE_SUBPROCESS_ENV_SCRUB"] = "1"
    return variables
