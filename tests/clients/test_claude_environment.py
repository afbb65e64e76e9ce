"""The worker's environment: what gets in, what stays out, and what wins."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.clients.claude_environment import ClaudeLaunch, plan_worker_environment
from dragoman.clients.run_header import RunIdInvalid


def launch(**changes: object) -> ClaudeLaunch:
    fields: dict[str, object] = {
        "gateway_url": "http://127.0.0.1:4891/",
        "token": "tok",
        "run_id": "run-1",
        "model": "glm-5.2",
        "config_folder": Path("/private"),
    }
    return ClaudeLaunch(**(fields | changes))  # pyright: ignore[reportArgumentType]


def test_every_alias_of_the_client_is_the_same_model() -> None:
    planned = plan_worker_environment(launch(), {})
    models = {name: value for name, value in planned.items() if "MODEL" in name}
    assert set(models.values()) == {"glm-5.2"}
    assert {"ANTHROPIC_DEFAULT_HAIKU_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL"} <= set(models)


def test_the_run_is_named_in_a_header_and_the_token_is_the_runs_own() -> None:
    planned = plan_worker_environment(
        launch(), {"ANTHROPIC_AUTH_TOKEN": "users", "ANTHROPIC_API_KEY": "users"}
    )
    assert planned["ANTHROPIC_CUSTOM_HEADERS"] == "x-dragoman-run: run-1"
    assert planned["ANTHROPIC_AUTH_TOKEN"] == "tok"
    assert planned["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:4891"
    assert "ANTHROPIC_API_KEY" not in planned


@given(st.dictionaries(st.from_regex(r"[A-Z_]{3,20}", fullmatch=True), st.text(max_size=8), max_size=8))
def test_no_secret_of_the_user_gets_in(env: dict[str, str]) -> None:
    secrets = {f"{name}_API_KEY": "user-secret" for name in env} | {
        "AWS_SECRET_ACCESS_KEY": "user-secret",
        "GITHUB_TOKEN": "user-secret",
        "SSH_AUTH_SOCK": "user-secret",
        "HTTPS_PROXY": "http://me:user-secret@proxy",
        "IS_SANDBOX": "user-secret",
        "ANTHROPIC_CUSTOM_HEADERS": "user-secret",
        "NODE_OPTIONS": "user-secret",
        "LD_PRELOAD": "user-secret",
        "PYTHONPATH": "user-secret",
        "GIT_SSH_COMMAND": "user-secret",
        "LC_A_API_KEY": "user-secret",
    }
    assert "user-secret" not in plan_worker_environment(launch(), env | secrets).values()


def test_home_and_configuration_are_private() -> None:
    planned = plan_worker_environment(launch(), {"HOME": "/home/me", "CLAUDE_CONFIG_DIR": "/home/me/.claude"})
    assert planned["HOME"] == "/private/home"
    assert planned["CLAUDE_CONFIG_DIR"] == "/private/claude"
    assert planned["CLAUDE_CODE_TMPDIR"] == "/private/tmp"


def test_windows_and_ceilings_are_given_only_when_known() -> None:
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS" not in plan_worker_environment(launch(), {})
    planned = plan_worker_environment(
        launch(context_window=200_000, max_output_tokens=8_000, max_turns=7), {}
    )
    assert planned["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "200000"
    assert planned["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "8000"
    assert planned["CLAUDE_CODE_MAX_TURNS"] == "7"


def test_the_client_is_patient_quiet_and_without_background_work() -> None:
    planned = plan_worker_environment(launch(), {})
    assert planned["CLAUDE_CODE_MAX_RETRIES"] == "10"
    assert planned["CLAUDE_CODE_DISABLE_BACKGROUND_TASKS"] == "1"
    assert planned["CLAUDE_CODE_ATTRIBUTION_HEADER"] == "0"
    assert planned["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"


def test_scrubbing_is_asked_for_only_on_request_because_it_needs_bubblewrap() -> None:
    assert "CLAUDE_CODE_SUBPROCESS_ENV_SCRUB" not in plan_worker_environment(launch(), {})
    assert plan_worker_environment(launch(scrub=True), {})["CLAUDE_CODE_SUBPROCESS_ENV_SCRUB"] == "1"


def test_a_projects_own_variables_come_along_but_never_replace_ours() -> None:
    planned = plan_worker_environment(launch(extra={"DJANGO_SETTINGS_MODULE": "x", "HOME": "/evil"}), {})
    assert planned["DJANGO_SETTINGS_MODULE"] == "x"
    assert planned["HOME"] == "/private/home"


def test_the_users_toolchains_are_found_although_the_home_is_private(tmp_path: Path) -> None:
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".pyenv").mkdir()
    planned = plan_worker_environment(launch(), {"PYENV_ROOT": "/opt/pyenv"}, user_home=tmp_path)
    assert planned["CARGO_HOME"] == str(tmp_path / ".cargo")
    assert planned["PYENV_ROOT"] == "/opt/pyenv"
    assert "RUSTUP_HOME" not in planned


def test_path_keeps_its_order_and_loses_relative_entries() -> None:
    assert plan_worker_environment(launch(), {"PATH": "/b:.:/a:"})["PATH"] == "/b:/a"
    assert plan_worker_environment(launch(), {})["PATH"].startswith("/usr/")


def test_a_private_temp_folder_can_be_given() -> None:
    assert "TMPDIR" not in plan_worker_environment(launch(), {"TMPDIR": "/users"})
    assert plan_worker_environment(launch(temp_folder=Path("/t")), {})["TMPDIR"] == "/t"


@pytest.mark.parametrize("run_id", ["", "a b", "a\r\nx: y", "é", "x" * 200])
def test_a_run_id_that_cannot_travel_is_refused(run_id: str) -> None:
    with pytest.raises(RunIdInvalid):
        plan_worker_environment(launch(run_id=run_id), {})
