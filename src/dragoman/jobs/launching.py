"""From a job to a started runner: what was asked, joined with the configuration, a token and a folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dragoman.config.paths import Home
from dragoman.config.schema import Config
from dragoman.config.tokens import TokenLimits, mint
from dragoman.errors import DragomanError
from dragoman.gateway.routes import RouteTable
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.launch import start_runner, with_settings
from dragoman.jobs.request import packet_of
from dragoman.jobs.table import Job
from dragoman.process.identity import ProcessIdentity
from dragoman.process.spawn import Spawner, spawn_detached

# A run without a time of its own ends by the configuration's ceiling.
DEFAULT_TIMEOUT_S = 1800.0
# A token outlives its run's time by what ending, proving and writing may take.
_TOKEN_SPARE_S = 900.0


class NoModel(DragomanError):
    """Nothing says which model is to work."""

    code = "invalid_input"
    http_status = 400


@dataclass(frozen=True)
class Place:
    """What a run is started with; read anew for every run, since a configuration may be reloaded.

    Attributes:
        config: the configuration in force.
        routes: what its model names become.
        gateway_url: base address of the gateway.
    """

    config: Config
    routes: RouteTable
    gateway_url: str


def plan_run(job: Job, place: Place, home: Home, resume_run: str | None) -> RunRequest:
    """What a job's runner is told; limits of the configuration only make it tighter.

    Args:
        job: what was asked.
        place: with what.
        home: whose state holds workspaces.
        resume_run: the run whose session is gone on with.

    Raises:
        NoModel: neither the job nor the configuration names a model.
        UnknownModel: nobody serves the one that is named.
    """
    asked, delegation = job.request, place.config.delegation
    model = asked.model or delegation.model or _first_model(place)
    route = place.routes.resolve(model, "messages")
    worker = asked.worker or delegation.worker
    programs = {"claude": place.config.clients.claude, "codex": place.config.clients.codex}
    request = RunRequest(
        run_id=job.run_id,
        job_id=job.id,
        kind=job.kind,
        packet=packet_of(asked),
        # Where in the repository the user stands matters to the worker: it starts there.
        repository=asked.cwd,
        state=str(home.state),
        model=model,
        gateway_url=place.gateway_url,
        worker=worker,
        worker_command=programs[worker],
        dirty=asked.dirty_policy,
        timeout_s=asked.timeout_s or delegation.timeout_s or DEFAULT_TIMEOUT_S,
        context_window=route.context_window,
        max_output_tokens=route.limits.max_output_tokens,
        allowed_files=asked.allowed_files,
        validation=asked.verification_commands,
        context_roots=asked.context_roots,
        max_turns=asked.max_turns,
        max_cost_usd=_least(asked.max_cost_usd, delegation.max_budget_usd),
        max_changed_files=asked.max_changed_files,
        resume_run=resume_run,
        fork_session=asked.fork_session,
        security_profile=asked.security_profile,
    )
    return with_settings(request, delegation)


class Launcher:
    """Mints a run's token, writes its folder and starts its runner.

    Args:
        home: whose runs.
        place: what they are started with.
        env: what a runner's environment is chosen from.
        spawn: starts a process.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        home: Home,
        place: Callable[[], Place],
        *,
        env: Mapping[str, str] = os.environ,
        spawn: Spawner = spawn_detached,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._home = home
        self._place = place
        self._env = env
        self._spawn = spawn
        self._wall = wall

    def __call__(self, job: Job, resume_run: str | None) -> ProcessIdentity:
        """Start a job's runner, in the folder there is or a new one.

        Raises:
            NoModel, UnknownModel: as `plan_run`.
            SpawnFailed: the runner cannot be started.
        """
        request = plan_run(job, self._place(), self._home, resume_run)
        folder = RunFolder(self._home.runs / job.run_id)
        if folder.path.exists() and not folder.request_file.exists():
            shutil.rmtree(folder.path)  # whoever made it was killed before there was anything in it
        if not folder.path.exists():
            folder.create(request)
        token = mint(
            self._home,
            "run",
            models=(request.model,),
            limits=TokenLimits(usd=request.max_cost_usd),
            expires_at=self._wall() + request.timeout_s + _TOKEN_SPARE_S,
            run=job.run_id,
            label=job.id,
            now=self._wall(),
        )
        return start_runner(
            folder,
            token=token.secret,
            env=self._env,
            spawn=self._spawn,
            config_file=self._home.config_file,
        ).runner


def _first_model(place: Place) -> str:
    """The default provider's own model: what a user who has set up nothing else works with."""
    default = place.config.gateway.default_provider
    own = place.routes.upstreams[default].default_model if default is not None else None
    if own is None:
        raise NoModel(
            "no model is named for workers, and no default provider has one",
            hint='set model = "…" under [delegation] in dragoman.toml, or name one with the task',
        )
    return own


def _least(*limits: float | None) -> float | None:
    named = [limit for limit in limits if limit is not None]
    return min(named) if named else None
