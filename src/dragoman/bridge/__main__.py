"""`python -m dragoman.bridge SESSION_DIR PRIVATE_DIR [--resume]`: the bridge, started by `dragoman lead`.

Its standard input is a pipe held by the lead's launcher: when that ends, however it ends, so does the bridge
with everything Claude Code started.
"""

from __future__ import annotations

import datetime
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dragoman.bridge.asciicast import Recorder
from dragoman.bridge.attach import AttachServer
from dragoman.bridge.hooks import HookInbox, install_hooks
from dragoman.bridge.mailbox import Mailbox
from dragoman.bridge.parts import Parts, Start
from dragoman.bridge.service import BridgeService
from dragoman.bridge.session import SessionFolder, read_plan
from dragoman.bridge.terminal import PtyTerminal
from dragoman.bridge.transcript import Transcript, transcript_file
from dragoman.config.files import write_private_file
from dragoman.process.identity import own_identity
from dragoman.process.locks import FileLock
from dragoman.process.prctl import forbid_inspection
from dragoman.process.tree import Marker, become_subreaper, end_tree, reap_adopted

_MAX_LOG_BYTES = 1 << 20
MARKER_NAME = "DRAGOMAN_BRIDGE_TREE"

# What would make Claude Code take itself for part of another terminal or another Claude Code.
_NOT_FOR_CLAUDE = (
    "TMUX", "TMUX_PANE", "STY", "CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_CODE_SSE_PORT", "COLUMNS", "LINES",
)  # fmt: skip


def claude_environment(env: dict[str, str]) -> dict[str, str]:
    """The user's own environment, as Claude Code in the bridge gets it."""
    kept = {name: value for name, value in env.items() if name not in _NOT_FOR_CLAUDE}
    # The bridge's screen understands this and no more, whatever the user's own terminal is.
    return kept | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


def main() -> int:
    """Serve one session until its lead is gone."""
    import msgspec

    forbid_inspection()
    folder = SessionFolder(Path(sys.argv[1]), Path(sys.argv[2]))
    take_up = "--resume" in sys.argv[3:]
    session, plan = folder.read(), read_plan(folder)
    mailbox = Mailbox(folder.bridge)
    mailbox.make()
    lock = FileLock(mailbox.lock_file, note="bridge")
    lock.acquire(timeout_s=5.0)
    mailbox.take_over()
    log = log_to(folder.bridge / "bridge.log")
    marker = Marker(MARKER_NAME, session.session_id)
    become_subreaper()
    # A bridge that was killed may have left its Claude Code's tools behind.
    end_tree(None, grace_s=0.5, marker=marker)
    settings = install_hooks(folder.private)
    if plan.variables:
        # In this file, which the lead cannot read, and not in the environment, whose names are written down.
        settings["env"] = plan.variables
    write_private_file(folder.settings_file, msgspec.json.encode(settings))
    env = claude_environment(dict(os.environ))
    project = Path(session.project_path)
    transcript = Transcript(transcript_file(env, project, session.claude_session_id), at_end=True)

    def start(how: Start) -> PtyTerminal:
        if how == "fresh":
            session.claude_session_id = str(uuid.uuid4())
            transcript.follow(transcript_file(env, project, session.claude_session_id))
        known = (how == "resume" or (how == "first" and take_up)) and transcript.path.exists()
        name = ["--resume" if known else "--session-id", session.claude_session_id]
        argv = [plan.claude, *name, "--settings", str(folder.settings_file), *plan.arguments]
        return PtyTerminal(argv, env, project, plan.cols, plan.rows, marker)

    def started(pid: int | None) -> None:
        session.bridge_pid, session.cc_pid = os.getpid(), pid
        folder.write(session)

    recorder = Recorder(folder.recording, plan.cols, plan.rows, time.time()) if plan.record else None
    identity: dict[str, Any] = {
        "bridge_pid": os.getpid(),
        "bridge_started_at": own_identity().started_at,
        "session": session.session_id,
    }
    service = BridgeService(
        Parts(
            start,
            mailbox,
            HookInbox(folder.private),
            transcript,
            plan.cols,
            plan.rows,
            plan.screen,
            log,
            started,
            recorder,
        ),
        identity,
    )
    service.attach = AttachServer(
        folder.attach_socket,
        typed=service.person_typed,
        resized=service.resize,
        repaint=service.repaint,
        picture=service.picture,
        size=service.size,
    )
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda got, _: told.append(got))
    os.set_blocking(0, False)
    looked_at = 0.0

    def stopped() -> bool:
        nonlocal looked_at
        now = time.monotonic()
        if now - looked_at > 1.0:
            looked_at = now
            reap_adopted(spare=[session.cc_pid or 0])
        return bool(told) or _launcher_is_gone()

    try:
        service.run(stopped, [0])
        log(f"told to end: {f'signal {told[0]}' if told else 'the launcher is gone'}")
    except Exception as error:
        # The text of an error may quote a prompt; its kind and place do not.
        at = traceback.extract_tb(error.__traceback__)[-1]
        log(f"fault: {type(error).__name__} in {Path(at.filename).name}:{at.lineno}")
        raise
    finally:
        service.close()
        session.ended_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        session.cc_pid = None
        folder.write(session)
        log("ended")
        lock.release()
    return 0


def _launcher_is_gone() -> bool:
    try:
        return os.read(0, 64) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def log_to(path: Path) -> Callable[[str], None]:
    """Writes lines with the time to a 0600 file; beyond a megabyte it begins anew and keeps the last one."""

    def log(text: str) -> None:
        try:
            if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))
            handle = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f"{time.time():.3f} {text}\n")
        except OSError:
            return

    return log


if __name__ == "__main__":
    sys.exit(main())
