"""Before a worker works: its workspace, the user's setup command in it, and the session it goes on with."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from pathlib import Path

import msgspec

from dragoman.errors import DragomanError
from dragoman.jobs.earlier import Earlier, find_earlier, reusable_workspace
from dragoman.jobs.evidence import run_command
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.telling import Emit
from dragoman.process.locks import FileLock
from dragoman.workers.sessions import carry_session
from dragoman.workspace import Repository, Workspace, create_workspace, settle, worktree_include

_SETUP_TIMEOUT_S = 600.0


class SetupFailed(DragomanError):
    """The user's setup command did not end well, so no worker was started."""

    code = "setup_failed"


class Preparation:
    """Prepares one run; holds the run it goes on from until it is closed.

    Parameters:
        folder: the run's folder.
        request: what to do.
        env: the environment of the setup command.
        emit: tells events.
        stop: ends the setup command when set.
    """

    def __init__(
        self,
        folder: RunFolder,
        request: RunRequest,
        env: Mapping[str, str],
        emit: Emit,
        stop: asyncio.Event,
    ) -> None:
        self._folder = folder
        self._request = request
        self._env = env
        self._emit = emit
        self._stop = stop
        self._earlier: Earlier | None = None
        self._lock: FileLock | None = None
        self.warnings: list[str] = []

    @property
    def held_fds(self) -> tuple[int, ...]:
        """Descriptors that lock the run this one goes on from, for the worker to keep."""
        return () if self._lock is None else (self._lock.fileno(),)

    async def workspace(self, repository: Repository) -> Workspace:
        """Where the worker works, set up.

        Raises:
            SetupFailed: the setup command did not end well.
            RunFolderInvalid, LockHeld: the run to go on from is not there, or somebody is at it.
            NoCommits, GitFailed: it cannot be made.
        """
        return await self._set_up(await asyncio.to_thread(self._open, repository))

    async def session(self, workspace: Workspace) -> str | None:
        """The session to go on with, brought here; None when there is none."""
        return await asyncio.to_thread(self._carry_session, workspace)

    def close(self) -> None:
        """Let go of the run this one went on from."""
        if self._lock is not None:
            self._lock.release()

    def _open(self, repository: Repository) -> Workspace:
        request, state = self._request, Path(self._request.state)
        if request.resume_run is not None:
            self._earlier = find_earlier(self._folder.path.parent, request.resume_run)
            # Two runs never work in one workspace, nor does a runner end while we copy from it.
            self._lock = FileLock(self._earlier.folder.lock_file, note=f"resumed by {request.run_id}")
            self._lock.acquire()
            if not request.fork_session:
                workspace = reusable_workspace(self._earlier, state.resolve(), repository.root)
                if workspace is not None:
                    return workspace
                self.warnings.append("the earlier workspace is gone or was applied; this is a new one")
        return create_workspace(
            repository,
            state,
            id=request.run_id,
            dirty="committed" if request.dirty == "committed" else "snapshot",
            include=worktree_include(repository) if request.worktree_include else (),
        )

    async def _set_up(self, workspace: Workspace) -> Workspace:
        """Run the user's setup command, then take the base again: what it did is not the worker's doing.

        Raises:
            SetupFailed: it did not end well.
        """
        argv = list(self._request.setup_command)
        if not argv or workspace.id != self._request.run_id:
            return workspace
        seen = await run_command(
            shlex.join(argv),
            argv,
            cwd=workspace.cwd,
            environment=self._env,
            evidence=self._folder.evidence,
            name="setup",
            timeout_s=_SETUP_TIMEOUT_S,
            stop=self._stop,
        )
        self._emit("setup", observation=msgspec.to_builtins(seen))
        if seen.status != "passed":
            raise SetupFailed(
                f"the setup command `{seen.command}` {seen.reason or seen.status.replace('_', ' ')}",
                hint=f"see {self._folder.evidence / 'setup.txt'}",
            )
        return await asyncio.to_thread(settle, workspace)

    def _carry_session(self, workspace: Workspace) -> str | None:
        """Bring the earlier run's session here; its id, or None when there is none to go on with."""
        earlier = self._earlier
        if earlier is None or earlier.session_id is None:
            return None
        carry_session(
            self._request.worker,
            earlier.session_id,
            earlier.folder.worker_config,
            self._folder.worker_config,
            cwd=workspace.cwd,
        )
        return earlier.session_id
