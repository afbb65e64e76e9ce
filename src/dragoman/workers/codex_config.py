"""The private configuration and the command line of a headless Codex.

Learned from Codex 0.163.0 and 0.169.0: `model_max_output_tokens` does not exist; `exec resume` takes no
`-s` and `-C`, so both are configuration; a CODEX_HOME below the temp folder breaks the sandbox, so the run
has a TMPDIR of its own; a project's own configuration, hooks and rules run only when trusted, and nothing
is trusted here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from dragoman.clients.codex_program import Codex
from dragoman.clients.program import absolute_path
from dragoman.clients.run_header import RUN_HEADER, checked_run_id
from dragoman.workers.base import Notice, WorkerTask

CodexSandbox = Literal["read-only", "workspace-write", "danger-full-access"]

TOKEN_VARIABLE = "DRAGOMAN_RUN_TOKEN"  # noqa: S105 - the variable's name, not a token

_KEPT = (
    "PATH",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "TZ",
    "TERM",
    "USER",
    "LOGNAME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "VIRTUAL_ENV",
    "JAVA_HOME",
    "PYENV_ROOT",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "GOPATH",
    "NVM_DIR",
)


def plan_config(task: WorkerTask, sandbox: CodexSandbox) -> str:
    """The whole `config.toml` of one run."""
    text = msgspec.json.encode  # JSON strings are TOML strings
    lines = [
        f"model = {text(task.model).decode()}",
        'model_provider = "dragoman"',
        'approval_policy = "never"',
        f'sandbox_mode = "{sandbox}"',
        'web_search = "disabled"',
        "check_for_update_on_startup = false",
    ]
    if task.context_window is not None:
        lines.append(f"model_context_window = {task.context_window}")
    if task.instructions:
        lines.append(f"developer_instructions = {text(task.instructions).decode()}")
    base = task.gateway_url.rstrip("/")
    lines += [
        "",
        "[model_providers.dragoman]",
        'name = "dragoman"',
        f"base_url = {text(f'{base}/v1').decode()}",
        'wire_api = "responses"',
        f'env_key = "{TOKEN_VARIABLE}"',
        f'http_headers = {{ "{RUN_HEADER}" = {text(checked_run_id(task.run_id)).decode()} }}',
        f"model_catalog_url = {text(f'{base}/v1/models').decode()}",
        "request_max_retries = 4",
        "stream_max_retries = 10",
        "",
        # Without a network its report of itself would hold up its end by five seconds (0.163).
        "[analytics]",
        "enabled = false",
        "",
        "[sandbox_workspace_write]",
        "exclude_slash_tmp = true",
        "network_access = false",
        "",
        "[shell_environment_policy]",
        f'exclude = ["{TOKEN_VARIABLE}"]',
        "",
    ]
    return "\n".join(lines)


def plan_command(client: Codex, task: WorkerTask, schema_file: Path | None) -> tuple[str, ...]:
    """The argument list; the task goes through standard input."""
    argv = [str(client.path), "exec"]
    if task.resume:
        argv.append("resume")
    argv += ["--json", "--skip-git-repo-check"]
    if schema_file is not None:
        argv.append(f"--output-schema={schema_file}")
    if task.resume:
        argv.append(task.resume)
    return (*argv, "-")


def plan_environment(task: WorkerTask, env: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the worker; nothing else of `env` gets through."""
    folder = task.config_folder.resolve()
    kept = {name: env[name] for name in _KEPT if env.get(name)}
    kept["PATH"] = absolute_path(env.get("PATH", "")) or "/usr/local/bin:/usr/bin:/bin"
    kept.update(task.environment or {})
    return kept | {
        "HOME": str(folder / "home"),
        "CODEX_HOME": str(folder / "codex"),
        "TMPDIR": str(folder / "tmp"),
        TOKEN_VARIABLE: task.token,
        "NO_PROXY": "127.0.0.1,localhost",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def sandbox_for(task: WorkerTask, *, confined: bool) -> CodexSandbox:
    """Codex's own sandbox, unless ours is around it: two do not nest."""
    if confined:
        return "danger-full-access"
    return "read-only" if task.read_only or not task.editable else "workspace-write"


def unenforced(task: WorkerTask, *, confined: bool) -> tuple[Notice, ...]:
    """What of the task's scope Codex cannot enforce while it works; the run is checked afterwards."""
    open_ends: list[str] = []
    if not task.read_only and task.editable and task.editable != ("**",):
        open_ends.append("any file of the whole folder can be written")
    if not confined:
        open_ends.append("files outside the folder can be read")
    if not open_ends:
        return ()
    return (Notice(code="scope_not_enforced", text=f"Codex: {' and '.join(open_ends)}"),)


def write_private_config(task: WorkerTask, sandbox: CodexSandbox) -> Path | None:
    """Make the run's private folders, configuration and schema; returns the schema's file.

    Raises:
        OSError: the folder cannot be used.
    """
    folder = task.config_folder
    for part in (folder, folder / "home", folder / "codex", folder / "tmp"):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    _write(folder / "codex" / "config.toml", plan_config(task, sandbox).encode())
    if task.output_schema is None:
        return None
    schema = folder.resolve() / "schema.json"
    _write(schema, msgspec.json.encode(task.output_schema))
    return schema


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
