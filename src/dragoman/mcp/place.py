"""The place a tool is called for: the folder checked, its repository opened, before anything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dragoman.config.schema import Delegation
from dragoman.jobs.guards import check_cwd, check_depth, connection_roots, roots_for
from dragoman.jobs.service import JobService
from dragoman.mcp.caller import Caller
from dragoman.mcp.inputs import InvalidInput


@dataclass(frozen=True, slots=True)
class Desk:
    """What the tools work with.

    Attributes:
        jobs: the jobs of this home.
        settings: `[delegation]` as it stands now.
        user_home: what `~` stands for.
        environment: the daemon's own; a connection's variables win over it.
    """

    jobs: JobService
    settings: Callable[[], Delegation]
    user_home: Path
    environment: Mapping[str, str]

    @property
    def state(self) -> Path:
        """Where workspaces and runs are; nobody works in it."""
        return self.jobs.home.state

    def allow_roots(self, caller: Caller) -> tuple[Path, ...]:
        """The real folders this connection may delegate."""
        configured = connection_roots(caller.environment, self.settings().allow_roots)
        roots = roots_for("connection", allow_roots=configured, cli_roots=False, home=self.user_home)
        assert roots is not None  # only a person has none
        return roots

    def place(self, caller: Caller, cwd: str | None) -> Path:
        """The real folder a call is for.

        Raises:
            Refused: the guards turned it away; nothing was started.
        """
        check_depth(caller.environment)
        given = cwd or caller.cwd
        if not given:
            raise InvalidInput("name the folder to work in: cwd, an absolute path")
        return check_cwd(
            given, home=self.user_home, allow_roots=self.allow_roots(caller), private=(self.state,)
        )
