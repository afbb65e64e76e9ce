"""A killed daemon comes back for the worker that needs it; one that was stopped does not."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.config.paths import Home, resolve_home
from dragoman.jobs.relight import Relight
from dragoman.process.identity import ProcessIdentity, own_identity, send_signal
from dragoman.process.spawn import SpawnFailed, SpawnPlan


class World:
    """A gateway that is reachable or not, a clock, and starts that are only remembered."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.now = 0.0
        self.up = True
        self.started: list[SpawnPlan] = []
        self.told: list[str] = []
        self.broken = False
        env = {"ZAI_API_KEY": "k", "DRAGOMAN_RUN": "r"}
        self.relight = Relight(
            home,
            "http://127.0.0.1:4891",
            env,
            reachable=self._reachable,
            spawn=self._spawn,
            clock=lambda: self.now,
        )

    async def _reachable(self, host: str, port: int) -> bool:
        assert (host, port) == ("127.0.0.1", 4891)
        return self.up

    def _spawn(self, plan: SpawnPlan) -> ProcessIdentity:
        if self.broken:
            raise SpawnFailed("no")
        self.started.append(plan)
        return ProcessIdentity(100 + len(self.started), "x")

    def _emit(self, kind: str, **fields: object) -> None:
        self.told.append(str(fields["state"]))

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            asyncio.run(self.relight.look(self._emit))

    def write_daemon(self, identity: ProcessIdentity) -> None:
        note = {"url": "x", "pid": identity.pid, "started_at": identity.started_at}
        self.home.daemon_json.write_text(json.dumps(note))


@pytest.fixture
def world(tmp_path: Path) -> World:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path)})
    home.ensure()
    return World(home)


def test_a_killed_daemon_is_started_again_after_a_second_where_it_was(world: World) -> None:
    world.write_daemon(ProcessIdentity(1, "long ago"))
    world.pass_time(2)
    assert world.started == []
    world.up = False
    world.pass_time(1.0)
    assert world.started == []
    world.pass_time(0.5)
    (plan,) = world.started
    options = json.loads(plan.argv[-1])
    assert (options["host"], options["port"]) == ("127.0.0.1", 4891)
    assert plan.env == {"ZAI_API_KEY": "k"}
    assert world.relight.pids() == (101,)
    world.up = True
    world.pass_time(0.5)
    assert world.told == ["away", "started_again", "back"]


def test_a_daemon_that_was_stopped_or_lives_is_left_alone(world: World) -> None:
    world.up = False
    world.pass_time(10)
    world.write_daemon(own_identity())
    world.pass_time(10)
    assert (world.started, world.told) == ([], ["away"])


def test_a_short_absence_is_nothing(world: World) -> None:
    world.write_daemon(ProcessIdentity(1, "long ago"))
    for _ in range(5):
        world.up = False
        world.pass_time(0.75)
        world.up = True
        world.pass_time(0.25)
    assert (world.started, world.told) == ([], [])


def test_a_daemon_that_does_not_come_up_is_tried_a_few_times_only(world: World) -> None:
    world.write_daemon(ProcessIdentity(1, "long ago"))
    world.up = False
    world.pass_time(120)
    assert len(world.started) == 5


def test_a_start_that_fails_is_told(world: World) -> None:
    world.write_daemon(ProcessIdentity(1, "long ago"))
    world.up, world.broken = False, True
    world.pass_time(2)
    assert world.told == ["away", "not_started"]


@pytest.fixture
def daemon_home(tmp_path: Path) -> Iterator[Home]:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path / "home")})
    home.ensure()
    home.config_file.write_text("[gateway]\nport = 0\n")
    yield home
    from dragoman.daemon.stopping import stop_daemon

    stop_daemon(home, now=True)


def test_the_daemon_of_a_working_run_survives_kill_9(daemon_home: Home, place: Any) -> None:
    from dragoman.daemon.connect import ensure_daemon, find_daemon
    from dragoman.daemon.where import read_daemon_json

    place.home = daemon_home
    env = {**place.environment, "ZAI_API_KEY": "kept-by-the-runner"}
    first = ensure_daemon(daemon_home, env, say=lambda text: None)
    run = place.start(behaviour="hangs", gateway_url=first.url, env=env)
    place.note(run, "ready")
    note = read_daemon_json(daemon_home)
    assert note is not None
    assert send_signal(note.identity, signal.SIGKILL)
    second = place.until(lambda: (now := find_daemon(daemon_home)) and now.pid != first.pid and now)
    assert second.url == first.url
    environ = Path(f"/proc/{second.pid}/environ").read_bytes().split(b"\0")
    assert b"ZAI_API_KEY=kept-by-the-runner" in environ
    assert not any(entry.startswith((b"DRAGOMAN_RUN", b"DRAGOMAN_RUN_TOKEN")) for entry in environ)
    run.folder.cancel()
    assert place.result(run)["error_code"] == "worker_cancelled"
    # The daemon is nobody's orphan: it outlives the run that started it.
    assert find_daemon(daemon_home) == second
