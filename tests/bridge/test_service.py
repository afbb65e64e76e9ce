"""The bridge's loop around a Claude Code of paper: no process, a clock that is turned by hand."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dragoman.bridge.__main__ import log_to
from dragoman.bridge.hooks import BackgroundTask, Hook
from dragoman.bridge.mailbox import Mailbox
from dragoman.bridge.parts import Parts, Start
from dragoman.bridge.screen import View
from dragoman.bridge.service import BridgeService
from dragoman.bridge.telling import ScreenStream, StateTeller
from dragoman.bridge.timing import ScreenTiming
from dragoman.bridge.transcript import Transcript

RULE = "─" * 60
PASTE = re.compile(rb"\x1b\[200~(.*?)\x1b\[201~", re.S)


@dataclass
class PaperClaude:
    """Draws what Claude Code draws, remembers what was typed, says what it is told to say.

    Attributes:
        swallow: how many Enters go unheard.
        deaf: whether no Enter is heard at all.
        stalled: whether it reads no keys and draws nothing; what was typed waits.
        exit_code: set to end it.
    """

    swallow: int = 0
    deaf: bool = False
    stalled: bool = False
    exit_code: int | None = None
    pid: int | None = 4711
    seen_any: bool = True
    box: str = ""
    busy: bool = False
    dialog: list[str] = field(default_factory=list[str])
    submitted: list[str] = field(default_factory=list[str])
    keys: list[bytes] = field(default_factory=list[bytes])
    said: list[str] = field(default_factory=list[str])
    hooks: list[Hook] = field(default_factory=list[Hook])
    closed: bool = False
    drawn: str = ""
    sizes: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    interrupted: bool = False
    shell: bool = False
    hint: str = ""
    executed: list[str] = field(default_factory=list[str])
    unread: list[bytes] = field(default_factory=list[bytes])

    def fileno(self) -> int:
        return -1

    def resize(self, cols: int, rows: int) -> None:
        self.sizes.append((cols, rows))

    def close(self, grace_s: float) -> None:
        self.closed = True

    def take(self) -> list[Hook]:
        hooks, self.hooks = self.hooks, []
        return hooks

    def go_on(self) -> None:
        """End a stall: everything typed meanwhile is read at once."""
        self.stalled = False
        unread, self.unread = self.unread, []
        for data in unread:
            self.write(data)

    def write(self, data: bytes) -> None:
        if self.stalled:
            self.unread.append(data)
        elif pasted := PASTE.findall(data):
            assert not self.dialog, "a prompt was typed into a question"
            self.box += b"".join(pasted).decode()
        elif data == b"\r" and not self.dialog:
            if self.deaf:
                return
            if self.swallow:
                self.swallow -= 1
                return
            if self.shell:
                self.executed.append(self.box)
                self.box, self.shell = "", False
            elif self.box:
                self.submitted.append(self.box)
                self.tell("UserPromptSubmit", prompt=self.box, prompt_id="p1")
                self.box, self.busy = "", True
        elif data == b"\x05":
            pass
        elif data == b"\x15":
            before, _, _ = self.box.rpartition("\n")
            self.box = f"{before}\n" if "\n" in self.box else ""
        elif data == b"\x7f":
            self.shell = self.shell and bool(self.box)
            self.box = self.box[:-1]
        else:
            self.keys.append(data)
            if data == b"\x1b" and self.busy:
                self.busy, self.interrupted = False, True

    def tell(self, name: str, **fields: Any) -> None:
        if self.seen_any:
            self.hooks.append(Hook(name, **fields))

    def stop(self, text: str, **fields: Any) -> None:
        self.busy = False
        self.said.append(text)
        self.tell("Stop", last_assistant_message=text, **fields)

    def ask(self, *labels: str) -> None:
        self.dialog = [
            RULE,
            " Bash command",
            "   touch a",
            " Do you want to proceed?",
            *(f" {'❯' if n == 1 else ' '} {n}. {label}" for n, label in enumerate(labels, 1)),
            " Esc to cancel",
        ]

    def read(self) -> bytes:
        box = f"{'!' if self.shell else '❯'} {self.box or self.hint}".rstrip().replace("\n", "\r\n  ")
        bottom = self.dialog or [RULE, box, RULE, "  ? for shortcuts"]
        lines = [*(f"● {text}" for text in self.said[-5:]), *bottom]
        title = "◐ working" if self.busy else "✳ Claude Code"
        picture = f"\x1b]0;{title}\x07\x1b[2J\x1b[H" + "\r\n".join(lines)
        if picture == self.drawn or self.stalled:
            return b""
        self.drawn = picture
        return picture.encode()


class Desk:
    """A service, its paper Claude Code and its mailbox."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.claude = PaperClaude()
        self.starts: list[Start] = []
        self.mailbox = Mailbox(folder / "bridge")
        self.mailbox.make()
        self.log: list[str] = []

        def start(how: Start) -> PaperClaude:
            self.starts.append(how)
            if len(self.starts) > 1:
                self.claude.exit_code, self.claude.drawn = None, ""
            return self.claude

        self.service = BridgeService(
            Parts(
                start,
                self.mailbox,
                self.claude,
                Transcript(folder / "none.jsonl"),
                80,
                24,
                ScreenTiming(),
                self.log.append,
                clock=lambda: self.now,
            ),
            {"bridge_pid": 1},
        )
        self.run(1.0)

    def run(self, seconds: float, until: Callable[[], Any] = lambda: None) -> None:
        ends = self.now + seconds
        while self.now < ends and not until():
            self.service.step()
            self.now += 0.02

    def ask(self, **what: Any) -> str:
        import json

        name = f"{int(self.now * 1e6):016d}-{secrets.token_hex(4)}"
        (self.mailbox.inbox / f"{name}.json").write_text(json.dumps({"timeout_s": 60, **what}))
        return name

    def send(self, prompt: str, **what: Any) -> str:
        name = self.ask(kind="send", prompt=prompt, **what)
        self.run(10, lambda: self.claude.submitted or self.result(name))
        return name

    def result(self, name: str) -> dict[str, Any] | None:
        import json

        path = self.mailbox.results / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def answer(self, name: str, within_s: float = 30.0) -> dict[str, Any]:
        self.run(within_s, lambda: self.result(name))
        result = self.result(name)
        assert result is not None, self.log
        return result


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    assert desk.service.status == "ready"
    return desk


def test_a_prompt_is_typed_submitted_and_answered_with_the_hooks_text(desk: Desk) -> None:
    name = desk.send("do it\nnow")
    assert desk.claude.submitted == ["do it\nnow"]
    desk.claude.stop("**done**")
    began = desk.now
    answer = desk.answer(name)
    assert (answer["status"], answer["output"], answer["prompt_id"]) == ("completed", "**done**", "p1")
    assert desk.now - began < 0.1


def test_a_swallowed_enter_is_pressed_again(desk: Desk) -> None:
    desk.claude.swallow = 2
    desk.send("go")
    assert desk.claude.submitted == ["go"]


def test_what_is_never_taken_is_said_so_and_the_box_is_emptied(desk: Desk) -> None:
    desk.claude.deaf = True
    answer = desk.answer(desk.send("go"))
    assert answer["status"] == "not_submitted"
    desk.run(0.5)
    assert desk.claude.box == ""


@pytest.mark.parametrize("hooks", [True, False])
@pytest.mark.parametrize("stall_s", [3.0, 7.0, 12.0])
def test_a_prompt_that_a_stalled_claude_code_takes_late_is_never_called_not_submitted(
    desk: Desk, hooks: bool, stall_s: float
) -> None:
    desk.claude.seen_any = hooks
    name = desk.ask(kind="send", prompt="go")
    desk.run(5, lambda: desk.claude.box)
    desk.run(0.03)
    desk.claude.stalled = True
    desk.run(stall_s)
    assert desk.result(name) is None
    desk.claude.go_on()
    desk.run(2.0)
    assert (desk.claude.submitted, desk.claude.interrupted) == (["go"], False)
    if hooks:
        desk.claude.stop("done")
        assert desk.answer(name)["output"] == "done"
    else:
        assert desk.result(name) is None


def test_a_claude_code_that_reads_no_keys_at_all_may_still_take_the_prompt_and_is_said_so(
    desk: Desk,
) -> None:
    name = desk.ask(kind="send", prompt="go")
    desk.run(5, lambda: desk.claude.box)
    desk.run(0.03)
    desk.claude.stalled = True
    answer = desk.answer(name, 60.0)
    assert (answer["status"], answer["busy"], "may still" in answer["error"]) == ("timeout", True, True)
    desk.claude.go_on()
    desk.run(1.0)
    assert (desk.claude.submitted, desk.claude.interrupted) == (["go"], False)
    desk.claude.stop("done after all")
    desk.run(1.0)
    state = desk.mailbox.read_state()
    assert state is not None
    assert state["finished"]["output"] == "done after all"


def test_a_prompt_that_is_never_drawn_is_not_sent_blindly(desk: Desk) -> None:
    desk.claude.stalled = True
    name = desk.ask(kind="send", prompt="go")
    answer = desk.answer(name, 60.0)
    assert (answer["status"], "not sent" in answer["error"]) == ("not_submitted", True)
    desk.claude.go_on()
    desk.run(1.0)
    assert (desk.claude.submitted, desk.claude.box) == ([], "")


@pytest.mark.parametrize(
    "hint", ['Try "fix lint errors"', "Resend your message to try again", "Words of a new version"]
)
@pytest.mark.parametrize("prompt", ["Try harder", "one\ntwo\nthree\nfour"])
def test_a_hint_in_the_empty_box_is_neither_somebodys_words_nor_the_prompt(
    desk: Desk, hint: str, prompt: str
) -> None:
    desk.claude.hint = hint
    desk.claude.swallow = 2
    name = desk.send(prompt)
    assert desk.claude.submitted == [prompt]
    desk.claude.stop("done")
    assert desk.answer(name)["output"] == "done"


@pytest.mark.parametrize("left", ["", "ls", "ls\npwd"])
def test_a_prompt_is_never_run_in_a_shell_that_somebody_left_open(desk: Desk, left: str) -> None:
    desk.claude.shell, desk.claude.box = True, left
    desk.run(0.1)
    desk.send("touch a")
    assert (desk.claude.executed, desk.claude.submitted) == ([], ["touch a"])


def test_a_shell_that_opens_while_the_prompt_is_typed_is_seen_before_enter(desk: Desk) -> None:
    name = desk.ask(kind="send", prompt="one\ntwo\nthree\nfour\nfive")
    desk.run(5, lambda: desk.claude.box)
    desk.claude.shell = True
    answer = desk.answer(name)
    assert (answer["status"], "shell mode" in answer["error"]) == ("not_submitted", True)
    desk.run(0.5)
    assert (desk.claude.executed, desk.claude.box) == ([], "")


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.04, 0.06])
@pytest.mark.parametrize("known", [True, False])
def test_enter_is_never_pressed_into_a_question_that_came_while_the_prompt_was_typed(
    desk: Desk, after_s: float, known: bool
) -> None:
    name = desk.ask(kind="send", prompt="go")
    desk.run(5, lambda: desk.claude.box)
    desk.run(after_s)
    desk.claude.ask("Yes", "No")
    if not known:
        desk.claude.dialog = ["Something new that nobody has recorded", "  (*) Allow   ( ) Deny"]
    answer = desk.answer(name)
    assert (answer["status"], b"\r" in desk.claude.keys) == ("not_submitted", False)


def test_a_box_too_high_for_the_screen_gets_its_enter(desk: Desk) -> None:
    name = desk.send("\n".join(f"line {number}" for number in range(60)))
    assert len(desk.claude.submitted) == 1
    desk.claude.stop("done")
    assert desk.answer(name)["output"] == "done"


def test_a_prompt_of_many_lines_that_is_not_taken_leaves_none_of_them_behind(desk: Desk) -> None:
    desk.claude.deaf = True
    answer = desk.answer(desk.send("one\ntwo\nthree\nfour"))
    assert answer["status"] == "not_submitted"
    assert desk.claude.box == ""


@pytest.mark.parametrize("left", ["left by somebody", "left\nby\nsomebody"])
def test_text_that_lies_in_the_box_is_not_sent_along(desk: Desk, left: str) -> None:
    desk.claude.box = left
    desk.run(0.1)
    desk.send("mine")
    assert desk.claude.submitted == ["mine"]


def test_a_stop_with_live_subagents_is_not_the_end(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.stop("first", background_tasks=(BackgroundTask("a", "subagent", "running"),))
    desk.run(5.0)
    assert desk.result(name) is None
    desk.claude.tell("UserPromptSubmit", prompt="<task-notification>…", prompt_id="p2")
    desk.claude.stop("second", background_tasks=(BackgroundTask("s", "shell", "running", "server"),))
    answer = desk.answer(name)
    assert answer["output"] == "first\n\nsecond"
    assert answer["background_tasks"][0]["description"] == "server"


def test_a_question_is_told_with_its_options_and_a_key_answers_it(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.tell("PermissionRequest", tool_name="Bash", tool_input={"command": "touch a"})
    desk.claude.ask("Yes", "Yes, and always allow", "No")
    answer = desk.answer(name)
    assert (answer["status"], answer["tool"], answer["suggested_keys"]) == (
        "needs_permission",
        "Bash",
        ["1", "2", "3"],
    )
    pressed = desk.ask(kind="input", key="1")
    desk.run(0.2)
    assert desk.claude.keys == [b"1"]
    desk.claude.dialog = []
    desk.claude.stop("done")
    assert desk.answer(pressed)["status"] == "completed"


def test_a_question_that_goes_slowly_is_not_told_twice_but_a_swallowed_key_is(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.tell("PermissionRequest", tool_name="Bash", tool_input={"command": "touch a"})
    desk.claude.ask("Yes", "No")
    assert desk.answer(name)["status"] == "needs_permission"
    pressed = desk.ask(kind="input", key="1")
    desk.run(8.0)
    assert desk.result(pressed) is None
    assert desk.answer(pressed)["status"] == "needs_permission"
    # The same question once more, with a hook: a new one.
    pressed = desk.ask(kind="input", key="1")
    desk.run(0.5)
    desk.claude.tell("PermissionRequest", tool_name="Bash", tool_input={"command": "touch a"})
    began = desk.now
    assert desk.answer(pressed)["status"] == "needs_permission"
    assert desk.now - began < 1.0


def test_a_hook_that_comes_after_its_question_was_answered_does_not_ask_again(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.ask("Yes", "No")
    answer = desk.answer(name)
    assert (answer["status"], answer["source"]) == ("needs_permission", "screen")
    pressed = desk.ask(kind="input", key="1")
    desk.run(0.3)
    desk.claude.tell("PermissionRequest", tool_name="Bash", tool_input={"command": "touch a"})
    desk.run(3.0)
    assert desk.result(pressed) is None
    desk.claude.dialog = []
    desk.claude.tell("PostToolUse", tool_name="Bash")
    desk.claude.stop("done")
    assert desk.answer(pressed)["output"] == "done"


def test_a_hook_that_comes_between_question_and_answer_leaves_the_next_one_a_new_one(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.ask("Yes", "No")
    assert desk.answer(name)["source"] == "screen"
    desk.claude.tell("PermissionRequest", tool_name="Bash", tool_input={"command": "touch a"})
    desk.run(0.3)
    pressed = desk.ask(kind="input", key="1")
    desk.run(0.3)
    desk.claude.tell("PermissionRequest", tool_name="Bash", tool_input={"command": "touch a"})
    assert desk.answer(pressed, 1.0)["status"] == "needs_permission"


def test_of_two_tools_that_ask_at_once_the_one_on_the_screen_is_told(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.tell("PermissionRequest", tool_name="Bash", tool_input={"command": "touch a"})
    desk.claude.tell("PermissionRequest", tool_name="WebFetch", tool_input={"url": "https://b.example/x"})
    desk.claude.ask("Yes", "No")
    answer = desk.answer(name)
    assert (answer["tool"], answer["tool_input"]) == ("Bash", {"command": "touch a"})


def test_a_key_without_a_row_is_not_pressed(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.ask("Yes", "No")
    assert desk.answer(name)["status"] == "needs_permission"
    answer = desk.answer(desk.ask(kind="input", key="7"))
    assert (answer["status"], "no option 7" in answer["error"]) == ("needs_permission", True)
    assert desk.claude.keys == []


def test_no_prompt_is_typed_into_a_question(desk: Desk) -> None:
    desk.claude.ask("Yes", "No")
    desk.run(0.5)
    answer = desk.answer(desk.ask(kind="send", prompt="go"))
    assert answer["status"] == "needs_permission"
    assert desk.claude.box == ""


def test_a_turn_that_begins_by_itself_and_is_short_is_waited_out(desk: Desk) -> None:
    desk.claude.busy = True
    desk.run(0.1)
    name = desk.ask(kind="send", prompt="go")
    desk.run(1.0)
    desk.claude.busy = False
    desk.run(5, lambda: desk.claude.submitted)
    assert desk.claude.submitted == ["go"]
    assert desk.result(name) is None


def test_a_turn_that_goes_on_is_busy(desk: Desk) -> None:
    desk.claude.busy = True
    desk.claude.tell("UserPromptSubmit", prompt="<task-notification>…")
    answer = desk.answer(desk.ask(kind="send", prompt="go"))
    assert (answer["status"], answer["busy"]) == ("busy", True)
    assert desk.claude.box == ""


def test_a_timeout_answers_and_the_late_end_is_kept(desk: Desk) -> None:
    name = desk.send("go", timeout_s=2.0)
    assert desk.answer(name)["status"] == "timeout"
    assert desk.answer(desk.ask(kind="send", prompt="again"))["status"] == "busy"
    desk.claude.stop("late words")
    desk.run(1.0)
    state = desk.mailbox.read_state()
    assert state is not None
    assert state["finished"]["output"] == "late words"


def test_a_crash_under_a_turn_is_told_and_the_next_prompt_takes_it_up(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.exit_code, desk.claude.busy = -9, False
    answer = desk.answer(name)
    assert (answer["status"], answer["exit_code"]) == ("exited", -9)
    assert desk.answer(desk.ask(kind="input", key="1"))["status"] == "exited"
    desk.claude.submitted.clear()
    name = desk.send("again")
    desk.claude.stop("back")
    answer = desk.answer(name)
    assert (answer["output"], answer["resumed"], desk.starts) == ("back", True, ["first", "resume"])


def test_one_that_crashes_again_and_again_is_left_alone(desk: Desk) -> None:
    for _ in range(5):
        desk.claude.exit_code = 1
        desk.run(0.2)
        name = desk.ask(kind="send", prompt="go")
        desk.run(5, lambda name=name: desk.result(name) or desk.claude.submitted)
        desk.claude.submitted.clear()
        desk.claude.exit_code, desk.claude.busy = 1, False
        desk.answer(name)
    assert desk.starts.count("resume") == 3


def test_a_clean_end_is_not_undone(desk: Desk) -> None:
    desk.claude.exit_code = 0
    desk.run(0.2)
    assert desk.answer(desk.ask(kind="send", prompt="go"))["status"] == "exited"
    assert desk.starts == ["first"]


def test_a_person_who_types_has_the_terminal_to_himself_for_a_while(desk: Desk) -> None:
    desk.service.person_typed(b"h")
    answer = desk.answer(desk.ask(kind="send", prompt="go"))
    assert (answer["status"], "person" in answer["error"]) == ("busy", True)
    desk.run(6.0)
    desk.send("go")
    assert desk.claude.submitted == ["go"]


def test_an_api_error_is_a_failure_with_its_words(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.busy = False
    desk.claude.tell("StopFailure", error="server_error", last_assistant_message="API Error: 529 Overloaded")
    answer = desk.answer(name)
    assert (answer["status"], answer["error"]) == ("failed", "API Error: 529 Overloaded")


def test_an_idle_screen_without_an_end_is_not_waited_for_for_ever(desk: Desk) -> None:
    name = desk.send("go")
    desk.claude.busy = False
    answer = desk.answer(name, 30.0)
    assert (answer["status"], "never said" in answer["error"]) == ("failed", True)


def test_the_log_holds_neither_prompt_nor_answer(desk: Desk) -> None:
    name = desk.send("my secret prompt")
    desk.claude.stop("my secret answer")
    desk.answer(name)
    assert "secret" not in "\n".join(desk.log)
    assert any(name in line for line in desk.log)


def test_the_end_of_the_bridge_answers_who_waits(desk: Desk) -> None:
    name = desk.send("go")
    desk.service.close()
    assert desk.result(name) is not None
    assert desk.claude.closed
    state = desk.mailbox.read_state()
    assert state is not None
    assert (state["status"], state["ended"]) == ("exited", True)


def test_the_screen_alone_is_asked_as_often_as_the_settings_say(tmp_path: Path) -> None:
    from dragoman.bridge.detector import Round, Seen

    box = View((RULE, "❯", RULE))
    turn = Round(0.0, 60.0, box, screen=ScreenTiming(check_interval_s=3.0))

    def look(at: float, line: str = "● an answer") -> Any:
        view = View((line, *box.lines))
        return turn.observe(Seen(at, view, last_output_at=0.0, hooks_work=False))

    # Asked at 1.0 (too early to say so), it is not asked again before 4.0.
    assert [look(at) is not None for at in (1.0, 2.9, 3.9, 4.1)] == [False, False, False, True]


def test_the_size_is_a_persons_to_change_between_rounds_only(desk: Desk) -> None:
    assert desk.service.resize(100, 30) == (100, 30) == desk.service.size()
    name = desk.send("go")
    assert desk.service.resize(60, 20) == (100, 30)
    assert desk.claude.sizes == [(100, 30)]
    desk.claude.stop("done")
    assert desk.answer(name)["status"] == "completed"
    assert desk.service.resize(60, 20) == (60, 20)


def test_what_a_person_types_while_a_prompt_goes_in_comes_after_it(desk: Desk) -> None:
    waited: list[bool] = []
    desk.ask(kind="send", prompt="one\ntwo\nthree\nfour\nfive")
    desk.run(10, lambda: "one" in desk.claude.box)
    waited.append(desk.service.person_typed(b"x"))
    desk.run(10, lambda: desk.claude.submitted)
    desk.run(0.1)
    assert (waited, desk.claude.submitted) == ([True], ["one\ntwo\nthree\nfour\nfive"])
    assert desk.claude.keys == [b"x"]
    assert desk.service.person_typed(b"y") is False


def test_a_stream_holds_each_new_line_once_and_has_a_limit(tmp_path: Path) -> None:
    stream = ScreenStream(tmp_path / "s.log")
    for at, lines in [(1.0, ("a", "b")), (1.1, ("a", "b", "lost")), (1.4, ("a", "b", "c")), (1.7, ("c",))]:
        stream.show(View(lines), at)
    assert (tmp_path / "s.log").read_text() == "a\nb\nc\n"
    for at in range(2, 100):
        stream.show(View((f"{at}" * 20_000,)), float(at))
    assert (tmp_path / "s.log").stat().st_size < 1 << 20


def test_what_somebody_waits_for_is_told_at_once_and_what_flickers_once_a_second(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "bridge")
    mailbox.make()
    teller = StateTeller(mailbox)
    told: list[Any] = []
    for now, status, busy in [(1.0, "ready", 0), (1.1, "ready", 1), (1.2, "running", 1), (1.3, "running", 0)]:
        teller.tell({"status": status, "busy": busy}, now)
        told.append(mailbox.read_state())
    assert [(one["status"], one["busy"]) for one in told] == [
        ("ready", 0),
        ("ready", 0),
        ("running", 1),
        ("running", 1),
    ]
    teller.tell({"status": "running", "busy": 0}, 2.3)
    assert mailbox.read_state() == {"status": "running", "busy": 0}


def test_the_log_has_a_limit(tmp_path: Path) -> None:
    log = log_to(tmp_path / "bridge.log")
    for _ in range(1200):
        log("x" * 2000)
    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir())
    assert len(sizes) == 2
    assert sizes[-1] < (1 << 20) + 3000
