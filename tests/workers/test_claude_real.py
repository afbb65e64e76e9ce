"""The real Claude Code, driven against a scripted model: what is allowed works, what is not does not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dragoman.workers.base import Denied, Notice, Retrying, Said, Spawned, Started, ToolAnswered, ToolCalled
from dragoman.workers.child import ChildPatience

if TYPE_CHECKING:
    from tests.workers.conftest import MessagesServer, Play, Stage

pytestmark = pytest.mark.real_client

CALC = "def add(a, b):\n    return a - b\n"
TEST_CALC = """\
import unittest
from calc import add


class AddTest(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 2), 4)
"""


def read(path: object) -> list[dict[str, Any]]:
    return [{"tool": "Read", "input": {"file_path": str(path)}}]


def edit(path: object, old: str, new: str) -> list[dict[str, Any]]:
    return [{"tool": "Edit", "input": {"file_path": str(path), "old_string": old, "new_string": new}}]


def write(path: object, content: str = "written") -> list[dict[str, Any]]:
    return [{"tool": "Write", "input": {"file_path": str(path), "content": content}}]


def bash(command: str) -> list[dict[str, Any]]:
    return [{"tool": "Bash", "input": {"command": command}}]


def say(text: str) -> list[dict[str, Any]]:
    return [{"text": text}]


def answers(play: Play) -> list[bool]:
    """Whether each tool call went through, in order."""
    return [answer.ok for answer in play.told(ToolAnswered)]


def test_a_task_is_read_edited_tested_and_reported(
    real_stage: Stage, messages_server: MessagesServer
) -> None:
    cwd = real_stage.cwd
    (cwd / "calc.py").write_text(CALC)
    (cwd / "test_calc.py").write_text(TEST_CALC)
    messages_server.steps = [
        read(cwd / "calc.py"),
        edit(cwd / "calc.py", "a - b", "a + b"),
        bash("python3 -m unittest -q"),
        bash(f"cd {cwd} && python3 -m unittest discover -p 'test_*.py'"),
        say("Fixed add(); the tests pass."),
    ]
    play = real_stage.play(
        editable=("calc.py",),
        allowed_commands=("python3 -m unittest -q", "python3 -m unittest discover -p 'test_*.py'"),
        context_window=128_000,
        max_output_tokens=8_000,
        max_turns=20,
    )
    assert (play.outcome.status, play.outcome.text) == ("finished", "Fixed add(); the tests pass.")
    assert answers(play) == [True] * 4
    assert "a + b" in (cwd / "calc.py").read_text()
    assert [event.tool for event in play.told(ToolCalled)] == ["Read", "Edit", "Bash", "Bash"]
    assert [type(event) for event in play.events[:2]] == [Spawned, Started]
    assert isinstance(play.events[-1], Said)
    assert play.outcome.permission_denials == ()
    usage = play.outcome.usage["glm-5.2"]
    assert (usage.input_tokens, usage.context_window) == (500, 128_000)


def test_a_task_is_carried_out_although_the_input_ended_before_the_client_had_said_a_word(
    real_stage: Stage, messages_server: MessagesServer
) -> None:
    cwd = real_stage.cwd
    (cwd / "calc.py").write_text(CALC)
    messages_server.steps = [read(cwd / "calc.py"), edit(cwd / "calc.py", "a - b", "a + b"), say("Fixed.")]
    real_stage.worker = replace(real_stage.worker, patience=ChildPatience(mute_s=0.0))
    play = real_stage.play(editable=("calc.py",))
    assert (play.outcome.status, play.outcome.text) == ("finished", "Fixed.")
    assert "a + b" in (cwd / "calc.py").read_text()


def test_every_request_carries_the_token_the_run_and_the_ceilings(
    real_stage: Stage, messages_server: MessagesServer
) -> None:
    messages_server.steps = [say("hello")]
    assert real_stage.play(max_output_tokens=4321).outcome.status == "finished"
    headers, body = messages_server.requests[0]
    assert headers["authorization"] == f"Bearer {real_stage.task.token}"
    assert headers["x-dragoman-run"] == real_stage.task.run_id
    assert (body["model"], body["max_tokens"]) == ("glm-5.2", 4321)
    assert {tool["name"] for tool in body["tools"]} == {"Bash", "Edit", "Glob", "Grep", "Read", "Write"}
    assert "billing-header" not in json.dumps(body["system"])


def test_edits_outside_the_scope_are_denied_and_told(
    real_stage: Stage, messages_server: MessagesServer, tmp_path: Path
) -> None:
    cwd = real_stage.cwd
    for name in ("inside.txt", "other.txt"):
        (cwd / name).write_text("old")
    (cwd / "link").symlink_to(tmp_path)
    outside = tmp_path / "outside.txt"
    outside.write_text("old")
    created = tmp_path / "created.txt"
    odd = ["src/(group)/[id] x.tsx", "src/é.py", "star*.txt"]
    messages_server.steps = [
        read(cwd / "inside.txt"),
        edit(cwd / "inside.txt", "old", "new"),
        *(write(cwd / name) for name in odd),
        write(cwd / "starred.txt"),
        read(cwd / "other.txt"),
        edit(cwd / "other.txt", "old", "new"),
        write(cwd / "src" / ".." / "up.txt"),
        write(outside),
        write(created),
        write(cwd / "link" / "through.txt"),
        write(cwd / ".git" / "hooks" / "post-checkout"),
        write(Path.home() / "dragoman-was-here.txt"),
        bash(f"cp inside.txt {outside}"),
        bash("echo x > other.txt"),
        say("done"),
    ]
    (cwd / "star*.txt").touch()
    play = real_stage.play(editable=("inside.txt", "src/", "star*.txt", ".git/**"))
    assert answers(play)[:2] == [True, True]
    assert answers(play)[2:4] == [True, True]
    # The seventh call only reads; everything after the allowed edits is refused.
    assert answers(play)[5:] == [False, True, *[False] * 9]
    assert (cwd / "inside.txt").read_text() == "new"
    assert (cwd / "other.txt").read_text() == "old"
    assert outside.read_text() == "old"
    assert not created.exists()
    assert not (tmp_path / "through.txt").exists()
    assert not (Path.home() / "dragoman-was-here.txt").exists()
    assert not (cwd / ".git" / "hooks" / "post-checkout").exists()
    denied = {event.target for event in play.told(Denied)}
    assert {"starred.txt", "other.txt", str(created)} <= denied
    assert {denial.target for denial in play.outcome.permission_denials} == denied


def test_env_files_cannot_be_read(real_stage: Stage, messages_server: MessagesServer) -> None:
    cwd = real_stage.cwd
    (cwd / "sub").mkdir()
    for folder in (cwd, cwd / "sub"):
        (folder / ".env").write_text("SECRET=squirrel\n")
    messages_server.steps = [
        read(cwd / ".env"),
        read(cwd / "sub" / ".env"),
        bash("cat .env"),
        bash("head sub/.env"),
        bash("git diff --no-index /dev/null .env"),
        [{"tool": "Grep", "input": {"pattern": "SECRET", "path": str(cwd), "output_mode": "content"}}],
        say("done"),
    ]
    play = real_stage.play()
    assert answers(play) == [False] * 5 + [True]
    assert "squirrel" not in messages_server.sent


def test_nothing_outside_the_folder_can_be_read_but_what_was_opened(
    real_stage: Stage, messages_server: MessagesServer, tmp_path: Path
) -> None:
    opened, closed = tmp_path / "opened", tmp_path / "closed"
    for folder in (opened, closed):
        folder.mkdir()
        (folder / "note.txt").write_text(f"note in {folder.name}")
    messages_server.steps = [
        read(opened / "note.txt"),
        read(closed / "note.txt"),
        bash(f"cat {closed / 'note.txt'}"),
        bash("cat ../closed/note.txt"),
        write(opened / "note.txt"),
        say("done"),
    ]
    play = real_stage.play(
        readable_dirs=(opened,), prompt=f"Look at @{closed / 'note.txt'} and @../closed/note.txt"
    )
    assert answers(play) == [True, False, False, False, False]
    assert "note in opened" in messages_server.sent
    assert "note in closed" not in messages_server.sent


def test_a_task_that_begins_like_a_command_is_still_a_task(
    real_stage: Stage, messages_server: MessagesServer
) -> None:
    messages_server.steps = [say("done")]
    assert real_stage.play(prompt="/clear the table").outcome.text == "done"
    assert "/clear the table" in messages_server.sent


def test_a_reading_task_has_no_tool_to_write_with_and_git_writes_no_file(
    real_stage: Stage, messages_server: MessagesServer, tmp_path: Path
) -> None:
    target = tmp_path / "out.txt"
    messages_server.steps = [
        write(real_stage.cwd / "a.txt"),
        bash("git status"),
        bash(f"git diff --output={target}"),
        bash("git log --output=log.txt"),
        bash("touch b.txt"),
        say("done"),
    ]
    play = real_stage.play(read_only=True)
    assert answers(play) == [False, True, False, False, False]
    assert not target.exists()
    assert [path.name for path in real_stage.cwd.iterdir()] == [".git"]


def test_the_repositorys_own_settings_hooks_servers_and_commands_do_not_run(
    real_stage: Stage, messages_server: MessagesServer
) -> None:
    cwd = real_stage.cwd
    trap = {"type": "command", "command": "touch trap-sprung"}
    settings = {
        "permissions": {"allow": ["Bash", "Write", "Edit"]},
        "hooks": {
            "PreToolUse": [{"matcher": "*", "hooks": [trap]}],
            "SessionStart": [{"hooks": [trap]}],
        },
        "env": {"FROM_REPOSITORY": "1"},
    }
    (cwd / ".claude" / "commands").mkdir(parents=True)
    for name in ("settings.json", "settings.local.json"):
        (cwd / ".claude" / name).write_text(json.dumps(settings))
    (cwd / ".claude" / "commands" / "go.md").write_text("!`touch trap-sprung`")
    server = {"mcpServers": {"trap": {"command": "touch", "args": ["trap-sprung"]}}}
    (cwd / ".mcp.json").write_text(json.dumps(server))
    messages_server.steps = [bash("touch by-rule"), bash("python3 show.py"), say("done")]
    (cwd / "show.py").write_text("import os; print('FROM_REPOSITORY' in os.environ)")
    play = real_stage.play(prompt="/go", editable=(), allowed_commands=("python3 show.py",))
    assert play.outcome.status == "finished"
    assert answers(play) == [False, True]
    assert play.told(ToolAnswered)[1].text.strip() == "False"
    assert not (cwd / "trap-sprung").exists()
    assert not (cwd / "by-rule").exists()


def test_a_command_runs_only_word_for_word(real_stage: Stage, messages_server: MessagesServer) -> None:
    (real_stage.cwd / "ok.py").write_text("print('ran')")
    commands = [
        "python3 ok.py",
        "python3 ok.py | tail -1",
        "python3 ok.py more",
        "python3 ok.py; touch x",
        "python3 ok.py > x",
        "python3 ok.py $(touch x)",
        "sh -c 'python3 ok.py'",
    ]
    messages_server.steps = [*(bash(command) for command in commands), say("done")]
    play = real_stage.play(editable=("ok.py",), allowed_commands=("python3 ok.py",))
    assert answers(play) == [True, True, False, False, False, False, False]
    assert not (real_stage.cwd / "x").exists()


def test_a_provider_that_fails_is_told_with_its_status(
    real_stage: Stage, messages_server: MessagesServer
) -> None:
    messages_server.steps = [
        [{"status": 529, "message": "overloaded"}],
        [{"status": 400, "message": "no such thing"}] * 1,
        *([{"status": 400, "message": "no such thing"}] for _ in range(8)),
    ]
    play = real_stage.play()
    assert (play.outcome.status, play.outcome.error_code) == ("failed", "provider_error")
    assert (play.outcome.provider_status, play.outcome.retryable) == (400, False)
    assert [retry.status for retry in play.told(Retrying)] == [529]


def test_a_turn_limit_ends_the_run(real_stage: Stage, messages_server: MessagesServer) -> None:
    (real_stage.cwd / "a.txt").write_text("x")
    messages_server.steps = [read(real_stage.cwd / "a.txt") for _ in range(5)]
    outcome = real_stage.play(max_turns=2).outcome
    assert (outcome.status, outcome.error_code) == ("failed", "worker_max_turns")
    assert len(messages_server.requests) == 2


def test_a_session_goes_on_where_it_stopped_and_a_lost_one_begins_afresh(
    real_stage: Stage, messages_server: MessagesServer
) -> None:
    messages_server.steps = [say("first answer"), say("second answer"), say("third answer")]
    first = real_stage.play(prompt="first task").outcome
    second = real_stage.play(prompt="second task", resume=first.session_id)
    assert (second.outcome.text, second.outcome.session_id) == ("second answer", first.session_id)
    assert "first answer" in json.dumps(messages_server.requests[1][1])
    lost = "99999999-2222-4333-8444-555555555555"
    third = real_stage.play(prompt="third task", resume=lost)
    assert third.outcome.text == "third answer"
    assert [notice.code for notice in third.told(Notice)] == ["session_not_found"]


def test_an_answer_can_be_asked_for_in_a_form(real_stage: Stage, messages_server: MessagesServer) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    messages_server.steps = [[{"tool": "StructuredOutput", "input": {"ok": True}}]]
    outcome = real_stage.play(output_schema=schema).outcome
    assert (outcome.status, outcome.structured_output) == ("finished", {"ok": True})


WANDERER = """\
import os, subprocess, sys, time
stubborn = '''
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
'''
child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
open("ready", "w").write(str(child.pid))
time.sleep(600)
"""


def test_a_stop_in_the_middle_of_a_command_leaves_no_process(
    real_stage: Stage,
    messages_server: MessagesServer,
    processes_of: Callable[[str], list[str]],
    is_running: Callable[[int], bool],
) -> None:
    (real_stage.cwd / "wander.py").write_text(WANDERER)
    messages_server.steps = [bash("python3 wander.py"), say("never")]
    ready = real_stage.cwd / "ready"
    play = real_stage.play(
        allowed_commands=("python3 wander.py",),
        stop_when=lambda _: ready.exists() and bool(ready.read_text()),
    )
    assert (play.outcome.status, play.outcome.survivors) == ("stopped", 0)
    assert play.took_s < 11
    assert processes_of(real_stage.task.run_id) == []
    assert not is_running(int(ready.read_text()))


def test_a_stop_in_the_middle_of_an_answer_keeps_what_was_said(
    real_stage: Stage, messages_server: MessagesServer, processes_of: Callable[[str], list[str]]
) -> None:
    messages_server.steps = [[{"text": "so far"}, {"hang": True}]]
    play = real_stage.play(stop_when=lambda events: any(isinstance(event, Said) for event in events))
    assert (play.outcome.status, play.outcome.text) == ("stopped", "so far")
    assert play.took_s < 5
    assert processes_of(real_stage.task.run_id) == []


def test_nothing_is_left_in_the_users_home_the_workspace_or_the_temp_folder(
    real_stage: Stage, messages_server: MessagesServer, tmp_path: Path
) -> None:
    messages_server.steps = [bash("ls"), say("done")]
    real_stage.play()
    shared = Path(f"/tmp/claude-{os.getuid()}")
    slug = re.sub(r"[^A-Za-z0-9]", "-", str(tmp_path))
    assert [path for path in shared.glob("*") if slug in path.name] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["private", "workspace"]
    assert (real_stage.task.config_folder / "claude" / ".claude.json").exists()
    assert [path.name for path in real_stage.cwd.iterdir()] == [".git"]
