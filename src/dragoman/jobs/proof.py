"""A run's validation commands, before and after the work, run by us and confined like the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from dragoman.jobs.evidence import Observation, observe
from dragoman.jobs.folder import RunFolder
from dragoman.jobs.isolation import CommandSandbox, Isolation
from dragoman.jobs.telling import Emit
from dragoman.workspace import Workspace, baseline


class Proof:
    """Runs the validation commands of one run.

    Parameters:
        folder: the run's folder, where whole outputs are kept.
        commands: in order.
        env: their environment.
        isolation: confines them; None for no confinement.
        emit: tells events.
        stop: ends them when set.
    """

    def __init__(
        self,
        folder: RunFolder,
        commands: tuple[str, ...],
        env: Mapping[str, str],
        isolation: Isolation | None,
        emit: Emit,
        stop: asyncio.Event,
    ) -> None:
        self._folder = folder
        self._commands = commands
        self._env = env
        self._isolation = isolation
        self._emit = emit
        self._stop = stop

    async def before(self, workspace: Workspace) -> list[Observation]:
        """Run the validation commands on a throw-away clone of the base, never in the worker's."""
        if not self._commands or self._stop.is_set():
            return []
        clone = baseline(workspace)
        tree = await asyncio.to_thread(clone.__enter__)
        try:
            return await self._observe("before", workspace, tree)
        finally:
            await asyncio.to_thread(clone.__exit__, None, None, None)

    async def after(self, workspace: Workspace) -> list[Observation]:
        """Run them in the worker's clone."""
        if self._stop.is_set():
            return []
        return await self._observe("after", workspace, workspace.path)

    async def _observe(self, moment: str, workspace: Workspace, tree: Path) -> list[Observation]:
        isolation = self._isolation
        if isolation is None or not self._commands:
            return await self._observe_in(moment, tree / workspace.prefix, None)
        confined = isolation.commands(workspace, tree, self._folder.path / "scratch")
        sandbox = await asyncio.to_thread(confined.__enter__)
        try:
            return await self._observe_in(moment, tree / workspace.prefix, sandbox)
        finally:
            await asyncio.to_thread(confined.__exit__, None, None, None)

    async def _observe_in(self, moment: str, cwd: Path, sandbox: CommandSandbox | None) -> list[Observation]:
        seen: list[Observation] = []
        for number, command in enumerate(self._commands, start=1):
            if self._stop.is_set():
                break
            observation = await observe(
                command,
                cwd=cwd,
                environment=self._env,
                evidence=self._folder.evidence,
                name=f"{moment}-{number}",
                stop=self._stop,
                sandbox=sandbox,
            )
            seen.append(observation)
            self._emit("evidence", moment=moment, observation=msgspec.to_builtins(observation))
        return seen
