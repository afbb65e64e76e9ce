"""Speaks like a headless Claude Code and behaves as it is told: the worker of tests.

It is never imported but copied, as `claude`, by `dragoman.workers.testing`, and knows nothing but the
standard library. How it ends is a behaviour (`BEHAVIOURS`): the variable FAKE_CLAUDE, else a line `fake: X`
of the task, else `normal`. What it does before is steps, one line of the task each:

    fake: write PATH TEXT      (a file of the working directory, or an absolute one; \\n is a line break)
    fake: append PATH TEXT
    fake: say TEXT
    fake: tool COMMAND SECONDS (a tool call that takes so long)
    fake: denied TOOL PATH     (a tool call the rules refuse)
    fake: sleep SECONDS
    fake: wait PATH            (until this file is there)
    fake: status CODE          (of the API error it ends with)
    fake: note NAME            (leave this file among its notes)
    fake: report TEXT          (its last words)
    fake: structured JSON      (its answer in the form asked for)

Its notes (`argv.json`, `environment.json`, `heard.jsonl`, `ready`, `grandchild`, ...) lie in FAKE_NOTES, else
in the folder `notes` of the run's private configuration.
"""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

VERSION = "2.1.329"
SESSION = "11111111-2222-3333-4444-555555555555"
FORKED_SESSION = "99999999-2222-3333-4444-555555555555"
STUBBORN = (
    "import signal,time;signal.signal(signal.SIGTERM,signal.SIG_IGN);print('up',flush=True);time.sleep(600)"
)
CONFIG = Path(os.environ.get("CLAUDE_CONFIG_DIR", "claude"))
NOTES = Path(os.environ.get("FAKE_NOTES") or CONFIG.parent / "notes")

words = {"report": "All done."}
structured: list[Any] = []
session = SESSION


def say(**message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def init() -> None:
    say(
        type="system",
        subtype="init",
        session_id=session,
        model="m",
        tools=["Read"],
        claude_code_version=VERSION,
    )


def assistant(**block: Any) -> None:
    say(type="assistant", parent_tool_use_id=None, message={"model": "m", "content": [block]})


def text(said: str) -> None:
    assistant(type="text", text=said)


def tool(name: str, answer: str, seconds: float = 0.0, *, error: bool = False, **given: Any) -> None:
    call_id = f"toolu_{time.monotonic_ns()}"
    assistant(type="tool_use", id=call_id, name=name, input=given)
    time.sleep(seconds)
    block = {"type": "tool_result", "tool_use_id": call_id, "content": answer, "is_error": error}
    say(type="user", message={"role": "user", "content": [block]})


def denied(name: str, path: str) -> None:
    tool(name, f"Permission to use {name} with path {path} has been denied.", error=True, file_path=path)


def result(said: str | None = None, **more: Any) -> None:
    message: dict[str, Any] = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "result": words["report"] if said is None else said,
        "session_id": session,
        "num_turns": 2,
        "stop_reason": "end_turn",
        "terminal_reason": "completed",
        "modelUsage": {"m": {"inputTokens": 7, "outputTokens": 3}},
        "permission_denials": [],
    }
    if structured:
        message["structured_output"] = structured[0]
    message.update(more)
    say(**{key: value for key, value in message.items() if value is not None})


def failure(**more: Any) -> None:
    """An error result has no words of the worker."""
    message = {"type": "result", "is_error": True, "session_id": session, "num_turns": 2, **more}
    say(**{key: value for key, value in message.items() if value is not None})


def note(name: str, value: object) -> None:
    """Tell the test something, such as a pid, all or nothing."""
    NOTES.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = NOTES / f"{name}.part"
    part.write_text(str(value))
    part.rename(NOTES / name)


def read_until_user() -> list[str]:
    heard: list[str] = []
    for line in sys.stdin:
        heard.append(line)
        if json.loads(line).get("type") == "user":
            return heard
    sys.exit(0)


def wait_for_end_of_input() -> None:
    for _ in sys.stdin:
        pass


def leave_grandchild() -> None:
    """One in a session of its own that ignores SIGTERM."""
    child = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    note("grandchild", child.pid)


def sleep_for_ever() -> NoReturn:
    while True:
        time.sleep(60)


def end_well() -> None:
    result()
    wait_for_end_of_input()


# --- behaviours: each is how a run goes on after its steps, to its end


def normal() -> None:
    text("Working.")
    end_well()


def lies() -> NoReturn:
    result("All tests pass.")
    sys.exit(1)


def answers_empty() -> None:
    result("")
    wait_for_end_of_input()


def floods() -> NoReturn:
    block = "x" * 4000
    while True:
        text(block)


def floods_200_mb() -> None:
    block = "x" * 100_000
    for _ in range(2000):
        text(block)
    end_well()


def floods_without_newline() -> NoReturn:
    while True:
        sys.stdout.write("x" * 65536)


def floods_stderr() -> None:
    for _ in range(2000):
        sys.stderr.write("e" * 4096)
    end_well()


def ignores_everything() -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_grandchild()
    note("ready", os.getpid())
    sleep_for_ever()


def hangs() -> None:
    """Until it is asked to stop, politely."""
    text("Thinking about it.")
    note("ready", os.getpid())
    for line in sys.stdin:
        if json.loads(line).get("type") == "control_request":
            note("interrupted", "yes")
            failure(subtype="error_during_execution", terminal_reason="aborted_streaming")


def hangs_deaf() -> NoReturn:
    """Until SIGTERM, upon which it exits 143 without a word, as the real one does."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    note("ready", os.getpid())
    sleep_for_ever()


def leaves_grandchild() -> None:
    leave_grandchild()
    end_well()


def leaves_grandchild_on_the_pipe() -> None:
    child = subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=True)
    note("grandchild", child.pid)
    result()


def lingers() -> NoReturn:
    result()
    sleep_for_ever()


def api_error() -> NoReturn:
    """The status is FAKE_STATUS, 529 when that is not set."""
    status = int(os.environ.get("FAKE_STATUS", "529"))
    say(
        type="system",
        subtype="api_retry",
        attempt=1,
        max_retries=10,
        retry_delay_ms=600,
        error_status=status,
        error="overloaded",
    )
    failure(
        subtype="success",
        result=f"API Error: {status} Overloaded for " + os.environ["ANTHROPIC_AUTH_TOKEN"],
        api_error_status=status,
        stop_reason="stop_sequence",
        terminal_reason="api_error",
    )
    wait_for_end_of_input()
    sys.exit(1)


def turn_limit() -> NoReturn:
    failure(subtype="error_max_turns", errors=["Reached maximum number of turns (2)"])
    wait_for_end_of_input()
    sys.exit(1)


def budget_limit() -> NoReturn:
    failure(subtype="error_max_budget_usd", errors=["Reached maximum budget ($1)"])
    wait_for_end_of_input()
    sys.exit(1)


def gives_two_results() -> None:
    result("The first.", num_turns=1)
    result("The last.", num_turns=4)
    wait_for_end_of_input()


def prints_garbage() -> None:
    sys.stdout.write('not json\n[1,2]\n"word"\n{"type": 5}\n{"type":"assistant","message":7}\n')
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\xff\xfe\n" + b"[" * 5000 + b"\n")
    say(type="user", message={"content": "plain"})
    say(type="result_of_something_else")
    end_well()


def prints_50_mb_line() -> None:
    sys.stdout.write('{"type":"user","message":{"content":"')
    for _ in range(50):
        sys.stdout.write("x" * 1_000_000)
    sys.stdout.write('"}}\n')
    end_well()


def splits_characters() -> None:
    """Every byte of a line of many-byte characters comes alone."""
    block = {"type": "text", "text": "naïve – 東京 🦊 done"}
    line = json.dumps({"type": "assistant", "message": {"content": [block]}}, ensure_ascii=False)
    for byte in line.encode() + b"\n":
        os.write(1, bytes([byte]))
    end_well()


def dies_before_its_result() -> NoReturn:
    text("Half way.")
    sys.exit(3)


def cuts_its_stream() -> NoReturn:
    """Ends well in the middle of its result."""
    text("Nearly there.")
    sys.stdout.write('{"type":"result","subtype":"success","is_error":false,"res')
    sys.stdout.flush()
    sys.exit(0)


def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def asks() -> None:
    for number, request in enumerate(json.loads(os.environ["FAKE_QUESTIONS"])):
        say(type="control_request", request_id=f"q{number}", request=request)
        note(f"answer{number}.json", sys.stdin.readline())
    end_well()


def wants_permission_again_and_again() -> NoReturn:
    while True:
        denied("Write", "/etc/passwd")
        time.sleep(0.02)


# These end before they have heard their task, so only FAKE_CLAUDE can name them.


def exits_143_silently() -> NoReturn:
    sys.exit(143)


def refuses_to_start() -> NoReturn:
    sys.stderr.write("error: unknown option '--tools'\n")
    sys.exit(1)


def never_reads() -> NoReturn:
    sleep_for_ever()


def session_is_gone() -> None:
    if any(word.startswith("--resume=") for word in sys.argv):
        sys.stderr.write("No conversation found with session ID: x\n")
        sys.exit(1)


def reads_to_the_end_first() -> None:
    """Says nothing before its input ends, as a script does that reads all of it."""
    sys.stdin = io.StringIO(sys.stdin.read())


DEAF: tuple[Callable[[], None], ...] = (
    exits_143_silently,
    refuses_to_start,
    never_reads,
    session_is_gone,
    reads_to_the_end_first,
)
BEHAVIOURS: tuple[Callable[[], None], ...] = (
    normal,
    answers_empty,
    api_error,
    asks,
    budget_limit,
    cuts_its_stream,
    dies_before_its_result,
    exits_143_silently,
    floods,
    floods_200_mb,
    floods_stderr,
    floods_without_newline,
    gives_two_results,
    hangs,
    hangs_deaf,
    ignores_everything,
    kills_itself,
    leaves_grandchild,
    leaves_grandchild_on_the_pipe,
    lies,
    lingers,
    prints_50_mb_line,
    prints_garbage,
    splits_characters,
    turn_limit,
    wants_permission_again_and_again,
)


def take_step(kind: str, rest: list[str]) -> bool:
    """One step of the task; False when it is none but names a behaviour."""
    match kind, rest:
        case "write", [path, content]:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(content.replace("\\n", "\n"), "utf-8")
            tool("Write", "ok", file_path=path)
        case "append", [path, content]:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(content.replace("\\n", "\n"))
        case "say", [said]:
            text(said)
        case "tool", [command, seconds]:
            tool("Bash", "done", float(seconds), command=command)
        case "denied", [name, path]:
            denied(name, path)
        case "sleep", [seconds]:
            time.sleep(float(seconds))
        case "wait", [path]:
            while not Path(path).exists():
                time.sleep(0.01)
        case "status", [code]:
            os.environ["FAKE_STATUS"] = code
        case "note", [name]:
            note(name, os.getpid())
        case "report", [said]:
            words["report"] = said.replace("\\n", "\n")
        case "structured", [answer]:
            structured.append(json.loads(answer))
        case _:
            return False
    return True


def resume(heard: list[str]) -> None:
    """Keep sessions as the real one does: by configuration folder and working directory."""
    global session
    slug = "".join(letter if letter.isalnum() else "-" for letter in str(Path.cwd()))
    folder = CONFIG / "projects" / slug
    wanted = [word.removeprefix("--resume=") for word in sys.argv if word.startswith("--resume=")]
    old = ""
    if wanted:
        session = wanted[0]
        if not (folder / f"{session}.jsonl").is_file():
            error = f"No conversation found with session ID: {session}"
            failure(subtype="error_during_execution", errors=[error])
            sys.exit(1)
        old = (folder / f"{session}.jsonl").read_text("utf-8")
        if "--fork-session" in sys.argv:
            session = FORKED_SESSION
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{session}.jsonl").write_text(old + heard[-1], "utf-8")


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"{VERSION} (Claude Code)\n")
        return
    note("argv.json", json.dumps(sys.argv[1:]))
    note("environment.json", json.dumps(dict(os.environ)))
    note("pid", os.getpid())
    known = {behaviour.__name__: behaviour for behaviour in (*BEHAVIOURS, *DEAF)}
    behave = known[os.environ.get("FAKE_CLAUDE", "normal")]
    if behave in DEAF:
        behave()
        behave = normal
    heard = read_until_user()
    note("heard.jsonl", "".join(heard))
    resume(heard)
    init()
    for line in json.loads(heard[-1])["message"]["content"][0]["text"].splitlines():
        if not line.strip().startswith("fake: "):
            continue
        kind, *rest = shlex.split(line.strip().removeprefix("fake: "))
        if not take_step(kind, rest):
            behave = known[kind]
    behave()


main()
