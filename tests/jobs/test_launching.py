"""From a job to what its runner is told: the configuration only makes it tighter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from dragoman.config.paths import Home, resolve_home
from dragoman.config.schema import Config, Delegation, Provider
from dragoman.config.tokens import list_tokens
from dragoman.gateway.routes import RouteTable
from dragoman.jobs.folder import RunFolder
from dragoman.jobs.inheritance import TOKEN_VARIABLE
from dragoman.jobs.janitor import end_stray_tokens
from dragoman.jobs.launching import Launcher, NoModel, Place, plan_run
from dragoman.jobs.request import JobRequest, packet_of
from dragoman.jobs.states import JobStatus
from dragoman.jobs.table import Job
from dragoman.process.identity import own_identity
from dragoman.process.spawn import SpawnPlan


def job(**asked: Any) -> Job:
    request = JobRequest(**{"task": "Goal: x", "cwd": "/srv/repo/sub", **asked})
    return Job(
        id="job-1",
        number=1,
        executor="here",
        kind=request.kind,
        status=JobStatus.RUNNING,
        result_status=None,
        repository="/srv/repo",
        limited=True,
        fingerprint="f",
        priority=5,
        run_id="run-1",
        created_at=0.0,
        request=request,
    )


def place(**delegation: Any) -> Place:
    config = Config(delegation=Delegation(**delegation))
    return Place(config, RouteTable(config), "http://127.0.0.1:4891")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path), "HOME": str(tmp_path)})
    home.ensure()
    return home


def test_a_run_is_told_what_was_asked_and_where_the_user_stands(home: Home) -> None:
    asked = job(model="rehearsal", allowed_files=("a.py",), max_turns=3, kind="review", timeout_s=60.0)
    run = plan_run(asked, place(), home, "run-0")
    assert (run.run_id, run.job_id, run.kind, run.repository) == ("run-1", "job-1", "review", "/srv/repo/sub")
    assert (run.model, run.allowed_files, run.max_turns) == ("rehearsal", ("a.py",), 3)
    assert (run.timeout_s, run.resume_run, run.state) == (60.0, "run-0", str(home.state))


def test_limits_of_the_configuration_win_where_they_are_tighter(home: Home) -> None:
    tight = place(model="rehearsal", safety_ceiling_s=30.0, max_budget_usd=1.0)
    assert plan_run(job(timeout_s=60.0, max_cost_usd=5.0), tight, home, None).timeout_s == 30.0
    assert plan_run(job(max_cost_usd=5.0), tight, home, None).max_cost_usd == 1.0
    assert plan_run(job(max_cost_usd=0.5), tight, home, None).max_cost_usd == 0.5


def test_without_any_model_it_is_said_where_to_name_one(home: Home) -> None:
    with pytest.raises(NoModel) as raised:
        plan_run(job(), place(), home, None)
    assert "[delegation]" in str(raised.value.hint)


def test_the_default_providers_model_works_when_nothing_else_is_named(home: Home) -> None:
    config = msgspec.structs.replace(
        Config(),
        providers={"zai": Provider(preset="zai")},
        gateway=msgspec.structs.replace(Config().gateway, default_provider="zai"),
    )
    run = plan_run(job(), Place(config, RouteTable(config), "http://127.0.0.1:1"), home, None)
    assert run.model == "glm-5.2"


def test_a_start_mints_a_token_for_this_run_alone_and_repeats_itself_harmlessly(home: Home) -> None:
    plans: list[SpawnPlan] = []

    def spawn(plan: SpawnPlan) -> Any:
        plans.append(plan)
        return own_identity()

    launcher = Launcher(home, lambda: place(model="rehearsal"), env={}, spawn=spawn, wall=lambda: 1000.0)
    launcher(job(timeout_s=60.0), None)
    (record,) = [token for token in list_tokens(home) if token.run == "run-1"]
    assert (record.scope, record.models, record.expires_at) == ("run", ("rehearsal",), 1000.0 + 60.0 + 900.0)
    assert plans[0].env[TOKEN_VARIABLE].startswith("dgm_")
    assert all(plans[0].env[TOKEN_VARIABLE] not in word for word in plans[0].argv)
    folder = RunFolder(home.runs / "run-1")
    assert plans[0].env[TOKEN_VARIABLE] not in folder.request_file.read_text()
    launcher(job(timeout_s=60.0), None)
    assert folder.request().job_id == "job-1"


def test_a_folder_whose_maker_was_killed_is_made_anew(home: Home) -> None:
    (home.runs / "run-1").mkdir()
    Launcher(home, lambda: place(model="rehearsal"), env={}, spawn=lambda plan: own_identity())(job(), None)
    assert RunFolder(home.runs / "run-1").request().run_id == "run-1"


def test_tokens_of_runs_that_are_over_are_ended_and_those_of_the_living_kept(home: Home) -> None:
    from dragoman.config.tokens import mint

    for run in ("run-alive", "run-over", "run-newborn"):
        mint(home, "run", run=run, now=1000.0)
    mint(home, "run", run="run-lost", now=10.0)
    mint(home, "data", now=10.0)
    (home.runs / "run-over").mkdir()
    (home.runs / "run-over" / "result.json").write_text("{}")
    assert end_stray_tokens(home, {"run-alive"}, wall=lambda: 1010.0) == 2
    left = {token.run for token in list_tokens(home)}
    assert left == {"run-alive", "run-newborn", None}


def test_a_packet_says_everything_that_was_asked_beside_the_task() -> None:
    text = packet_of(
        JobRequest(
            task="Goal: mend it",
            cwd="/r",
            allowed_files=("a b.py",),
            constraints=("no new files",),
            verification_commands=("pytest -q",),
            diff="--- a\n+++ b\n",
        )
    )
    from dragoman.jobs.packet import parse_packet

    packet = parse_packet(text)
    assert packet.goal == "mend it"
    assert packet.allowed_files == ("a b.py",)
    assert packet.validation == ("pytest -q",)
    assert packet.constraints == ("no new files",)
    assert "+++ b" in text
