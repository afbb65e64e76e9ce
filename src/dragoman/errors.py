"""The one error root. Every surface (terminal, HTTP, MCP) renders these in one place and nothing else."""

from __future__ import annotations


class DragomanError(Exception):
    """Something the user can be told in one sentence.

    `message` says what happened and where; `hint` is the next command to type or the next thing to do.
    Neither may hold a secret, a prompt or a traceback.

    Attributes:
        code: stable machine-readable name, such as `git_too_old`.
        hint: what to do next, or None when there is nothing to do.
        http_status: the status a HTTP surface answers with.
        exit_code: the exit code a command ends with (see `ExitCode`).
    """

    code: str = "internal"
    http_status: int = 500
    exit_code: int = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        http_status: int | None = None,
        exit_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code
        if http_status is not None:
            self.http_status = http_status
        if exit_code is not None:
            self.exit_code = exit_code


class ExitCode:
    """Exit codes shared by every command (see the command-line contract)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NEEDS_USER = 3
    CONFLICT = 4
    TIMEOUT = 124
    INTERRUPTED = 130
