"""What a runner is given: limits of the configuration, a cleaned environment, and an inheritance unseen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dragoman.config.schema import Delegation, Sandbox
from dragoman.jobs.folder import RunFolder, RunRequest
from dragoman.jobs.inheritance import INHERITANCE_VARIABLE, Inheritance, take_inheritance
from dragoman.jobs.launch import start_runner, with_settings
from dragoman.process.identity import ProcessIdentity, own_identity
from dragoman.process.spawn import SpawnPlan


def request(**asked: object) -> RunRequest:
    told = {"run_id": "r", "packet": "Goal: x", "repository": "/r", "state": "/s", "model": "m"}
    return RunRequest(**(told | {"gateway_url": "http://127.0.0.1:1"} | asked))  # pyright: ignore


def test_the_configuration_reaches_the_run() -> None:
    settings = Delegation(
        setup_command="npm ci --ignore-scripts",
        worktree_include=True,
        worker_login="own",
        sandbox=Sandbox(level="bubblewrap", read=("/opt/sdk",), link_dirs=("vendor",)),
    )
    got = with_settings(request(), settings)
    assert got.setup_command == ("npm", "ci", "--ignore-scripts")
    assert (got.worktree_include, got.worker_login) == (True, "own")
    assert (got.sandbox_level, got.sandbox_read, got.link_dirs) == ("bubblewrap", ("/opt/sdk",), ("vendor",))


@pytest.mark.parametrize(
    ("asked", "configured", "ceiling", "got"),
    [(900, 0, 21600, 900), (900, 300, 21600, 300), (99999, 0, 21600, 21600), (100, 300, 21600, 100)],
)
def test_limits_only_become_tighter(asked: float, configured: float, ceiling: float, got: float) -> None:
    settings = Delegation(timeout_s=configured, safety_ceiling_s=ceiling, max_output_tokens=1000)
    result = with_settings(request(timeout_s=asked, max_output_tokens=4000), settings)
    assert (result.timeout_s, result.max_output_tokens) == (got, 1000)
    assert with_settings(request(max_output_tokens=10), settings).max_output_tokens == 10


def test_names_that_sound_like_secrets_are_never_passed_on() -> None:
    settings = Delegation(env_passthrough=("JAVA_OPTS", "GITHUB_TOKEN", "DATABASE_URL", "MY_API_KEY"))
    assert with_settings(request(), settings).env_passthrough == ("JAVA_OPTS",)


class Spawned:
    """Remembers the plan and reads the inheritance as the runner would."""

    def __init__(self) -> None:
        self.plans: list[SpawnPlan] = []
        self.inheritance = Inheritance()

    def __call__(self, plan: SpawnPlan) -> ProcessIdentity:
        self.plans.append(plan)
        (fd,) = plan.pass_fds
        self.inheritance = take_inheritance({INHERITANCE_VARIABLE: str(os.dup(fd))})
        return own_identity()


@pytest.fixture
def started(tmp_path: Path) -> tuple[RunFolder, Spawned]:
    return RunFolder(tmp_path / "runs" / "r"), Spawned()


ENV = {
    "PATH": "/usr/bin",
    "HOME": "/home/u",
    "ZAI_API_KEY": "provider-secret",
    "ANTHROPIC_AUTH_TOKEN": "own-secret",
    "JAVA_OPTS": "-Xmx1g",
    "DRAGOMAN_RUN_TOKEN": "another runs token",
}


def test_the_daemons_environment_goes_through_a_file_without_a_name(
    started: tuple[RunFolder, Spawned], tmp_path: Path
) -> None:
    folder, spawned = started
    folder.create(request(env_passthrough=("JAVA_OPTS",)))
    start_runner(folder, token="t", env=ENV, spawn=spawned, config_file=tmp_path / "c.toml")
    (plan,) = spawned.plans
    assert "provider-secret" not in str(plan)
    assert "own-secret" not in str(plan)
    assert plan.env["JAVA_OPTS"] == "-Xmx1g"
    assert plan.env["DRAGOMAN_RUN_TOKEN"] == "t"
    assert spawned.inheritance.daemon_env["ZAI_API_KEY"] == "provider-secret"
    assert "DRAGOMAN_RUN_TOKEN" not in spawned.inheritance.daemon_env
    assert spawned.inheritance.config_file == str(tmp_path / "c.toml")


def test_only_an_own_login_brings_the_users_endpoint_to_the_runner(
    started: tuple[RunFolder, Spawned],
) -> None:
    folder, spawned = started
    folder.create(request(worker_login="own"))
    start_runner(folder, token="t", env=ENV, spawn=spawned)
    assert spawned.plans[0].env["ANTHROPIC_AUTH_TOKEN"] == "own-secret"
    assert "ZAI_API_KEY" not in spawned.plans[0].env


@pytest.mark.parametrize("number", ["", "x", "999999"])
def test_a_runner_started_by_hand_inherits_nothing(number: str) -> None:
    assert take_inheritance({INHERITANCE_VARIABLE: number}) == Inheritance()


def test_bytes_that_are_no_text_survive(started: tuple[RunFolder, Spawned]) -> None:
    folder, spawned = started
    folder.create(request())
    start_runner(folder, token="t", env={**ENV, "ODD": "\udcff"}, spawn=spawned)
    assert spawned.inheritance.daemon_env["ODD"] == "\udcff"
