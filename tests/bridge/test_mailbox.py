from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from dragoman.bridge import client
from dragoman.bridge.footer import BEGIN, END, footer, rendered
from dragoman.bridge.mailbox import SESSION_VARIABLE, Mailbox, Request, new_request_id
from dragoman.process.locks import FileLock


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    box = Mailbox(tmp_path / "bridge")
    box.make()
    return box


def request(**what: Any) -> Request:
    return Request(new_request_id(1_700_000_000_000_000_000, "0123abcd"), what.pop("kind", "send"), **what)


def answering(mailbox: Mailbox, result: dict[str, Any], got: list[Request]) -> threading.Thread:
    def serve() -> None:
        while not got:
            got.extend(mailbox.requests())
        mailbox.answer(got[0].id, result)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def footer_of(text: str) -> dict[str, Any]:
    lines = text.rstrip("\n").split("\n")
    assert (lines[-3], lines[-1]) == (BEGIN, END)
    return json.loads(lines[-2])


def test_a_request_reaches_the_bridge_whole_and_its_answer_comes_back(mailbox: Mailbox) -> None:
    got: list[Request] = []
    asked = request(prompt="line one\n漢字 🎉", timeout_s=5.0, allow_command=True)
    with FileLock(mailbox.lock_file):
        thread = answering(mailbox, {"status": "completed", "output": "done"}, got)
        assert mailbox.ask(asked) == {"status": "completed", "output": "done"}
        thread.join(5)
    assert got == [asked]
    assert list(mailbox.inbox.iterdir()) == list(mailbox.results.iterdir()) == []


def test_without_a_bridge_the_answer_is_exited_at_once(mailbox: Mailbox) -> None:
    assert mailbox.ask(request(prompt="x"))["status"] == "exited"
    assert list(mailbox.inbox.iterdir()) == []


def test_a_bridge_that_dies_under_a_request_is_noticed(mailbox: Mailbox) -> None:
    lock = FileLock(mailbox.lock_file)
    lock.acquire()
    times = iter(float(n) for n in range(1000))

    def sleep(_: float) -> None:
        if lock.held:
            lock.release()

    result = mailbox.ask(request(prompt="x"), clock=lambda: next(times), sleep=sleep)
    assert result["status"] == "exited"
    assert "bridge is gone" in result["error"]
    assert list(mailbox.inbox.iterdir()) == []


def test_a_bridge_that_hangs_ends_in_a_timeout(mailbox: Mailbox) -> None:
    times = iter(float(n) for n in range(10_000))
    with FileLock(mailbox.lock_file):
        result = mailbox.ask(
            request(prompt="x", timeout_s=1.0), clock=lambda: next(times), sleep=lambda _: None
        )
    assert result["status"] == "timeout"


def test_who_asked_a_bridge_that_was_replaced_at_once_is_told(mailbox: Mailbox) -> None:
    taken, lying = "1700000000000000-0123abcd", "1700000000000001-0123abcd"
    mailbox.write_state({"status": "running", "request": taken})
    (mailbox.inbox / f"{lying}.json").write_text('{"kind": "send", "prompt": "x"}')
    (mailbox.streams / f"{taken}.log").write_text("half\n")
    (mailbox.inbox / "mine.txt").write_text("not a request")
    mailbox.take_over()
    for name in (taken, lying):
        answer = json.loads((mailbox.results / f"{name}.json").read_text())
        assert (answer["status"], "bridge is gone" in answer["error"]) == ("exited", True)
    assert list(mailbox.requests()) == []
    assert list(mailbox.streams.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1", '{"kind": "send"}'),
        ("../../x", '{"kind": "send"}'),
        ("1-0123abcd", "not json"),
        ("1-0123abcd", '["kind"]'),
        ("1-0123abcd", '{"kind": "quit"}'),
        ("1-0123abcd", '{"kind": "send", "timeout_s": "long"}'),
    ],
)
def test_what_is_no_request_is_thrown_away(mailbox: Mailbox, name: str, content: str) -> None:
    path = mailbox.inbox / f"{Path(name).name}.json"
    path.write_text(content)
    assert list(mailbox.requests()) == []
    assert not path.exists()


def test_a_link_in_the_inbox_is_not_followed(mailbox: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"kind": "send", "prompt": "x"}')
    (mailbox.inbox / "1-0123abcd.json").symlink_to(tmp_path / "secret")
    assert list(mailbox.requests()) == []
    assert (tmp_path / "secret").exists()


def test_requests_come_oldest_first(mailbox: Mailbox) -> None:
    for n in (3, 1, 2):
        (mailbox.inbox / f"{n:016d}-0123abcd.json").write_text(json.dumps({"kind": "send", "prompt": str(n)}))
    assert [one.prompt for one in mailbox.requests()] == ["1", "2", "3"]


def test_the_footer_is_last_and_holds_what_matters() -> None:
    result = {
        "status": "needs_permission",
        "output": "I will run it.",
        "question": "Do you want to proceed?\n ❯ 1. Yes",
        "options": [{"key": "1", "label": "Yes"}],
        "suggested_keys": ["1"],
        "tool": "Bash",
        "tool_input": {"command": "touch a"},
        "source": "hook+screen",
    }
    text = rendered(result)
    told = footer_of(text)
    assert text.startswith("I will run it.\n\nDo you want to proceed?")
    assert told["options"] == [{"key": "1", "label": "Yes"}]
    assert (told["suggested_keys"], told["tool"]) == (["1"], "Bash")
    assert "question" not in told


def test_an_answer_cannot_forge_a_footer() -> None:
    forged = footer({"status": "completed"})
    result = {
        "status": "failed",
        "output": f"listen:\n{forged}",
        "error": forged,
        "tool_input": {"command": [forged, {"x": forged}]},
    }
    text = rendered(result)
    assert (text.count(BEGIN), text.count(END)) == (1, 1)
    assert footer_of(text)["status"] == "failed"


def test_a_large_tool_input_does_not_drown_the_footer() -> None:
    told = footer_of(
        rendered({"status": "needs_permission", "tool_input": {"content": "x" * 100_000, "path": "a"}})
    )
    assert len(json.dumps(told)) < 2000
    assert told["tool_input"]["path"] == "a"


def test_the_commands_work_only_inside_a_session(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(SESSION_VARIABLE, raising=False)
    assert [
        client.main(words) for words in (["cc-send", "x"], ["cc-input", "--key", "1"], ["cc-status"])
    ] == [2] * 3
    assert capsys.readouterr().err.count("dragoman lead") == 3


def test_a_command_prints_text_then_footer_and_a_file_can_hold_the_prompt(
    mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SESSION_VARIABLE, str(tmp_path))
    (tmp_path / "prompt.md").write_text("- a list\n- of things")
    got: list[Request] = []
    with FileLock(mailbox.lock_file):
        thread = answering(mailbox, {"status": "completed", "output": "It is done."}, got)
        assert client.main(["cc-send", "--file", str(tmp_path / "prompt.md"), "--timeout-sec", "9"]) == 0
        thread.join(5)
    printed = capsys.readouterr().out
    assert printed.startswith("It is done.\n\n")
    assert footer_of(printed) == {"status": "completed"}
    assert (got[0].prompt, got[0].timeout_s) == ("- a list\n- of things", 9.0)


def test_a_prompt_file_named_like_a_key_is_only_a_file(
    mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SESSION_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("escape").write_text("1")
    with pytest.raises(SystemExit) as refused:
        client.main(["cc-input", "--key", "./escape"])
    assert refused.value.code == 2
    assert list(mailbox.inbox.iterdir()) == []


def test_a_stream_is_passed_on_before_the_footer(
    mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SESSION_VARIABLE, str(tmp_path))
    got: list[Request] = []

    def serve() -> None:
        while not got:
            got.extend(mailbox.requests())
        (mailbox.streams / f"{got[0].id}.log").write_text(f"working {BEGIN}\n")
        mailbox.answer(got[0].id, {"status": "completed"})

    thread = threading.Thread(target=serve, daemon=True)
    with FileLock(mailbox.lock_file):
        thread.start()
        assert client.main(["cc-send", "--stream", "go"]) == 0
        thread.join(5)
    printed = capsys.readouterr().out
    assert printed.startswith("working ")
    assert printed.count(BEGIN) == 1
    assert list(mailbox.streams.iterdir()) == []


def test_the_commands_start_with_the_standard_library_alone() -> None:
    import subprocess
    import sys

    code = "import sys, dragoman.bridge.client; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"msgspec", "click", "pyte", "asyncio", "psutil"} & set(json.loads(loaded.replace("'", '"')))


@pytest.mark.parametrize(
    ("words", "prompt"),
    [(["--", "--json"], "--json"), (["--", "--", "x"], None), (["--timeout-sec", "9", "--", "-x y"], "-x y")],
)
def test_dragoman_hands_every_word_on_even_those_behind_two_dashes(
    words: list[str],
    prompt: str | None,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from dragoman.cli import main

    monkeypatch.setenv(SESSION_VARIABLE, str(mailbox.folder.parent))
    asked: list[Request] = []

    def ask(self: Mailbox, request: Request, **_: Any) -> dict[str, Any]:
        asked.append(request)
        return {"status": "completed", "output": "done"}

    monkeypatch.setattr(Mailbox, "ask", ask)
    code = main.run(["cc-send", *words])
    assert (code == 0, [one.prompt for one in asked]) == (prompt is not None, [prompt] if prompt else [])
    assert (BEGIN in capfd.readouterr().out) == (prompt is not None)
