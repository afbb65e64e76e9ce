"""A fake Claude Code, tasks for it, and a scripted Messages server for the real one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dragoman.clients.claude_code import ClaudeCode, bundled_binary, find_claude_code
from dragoman.clients.codex_program import Codex, bundled_codex, find_codex
from dragoman.workers.base import WorkerEvent, WorkerOutcome, WorkerTask
from dragoman.workers.child import ChildPatience
from dragoman.workers.claude import ClaudeWorker
from dragoman.workers.codex import CodexWorker
from dragoman.workers.testing import FakeClaude

FIXTURES = Path(__file__).parents[1] / "fixtures" / "workers"

# The fake dies at once or never; nothing is gained by waiting as long as for the real one.
IMPATIENT = ChildPatience(interrupt_s=0.6, exit_s=0.3, term_s=0.3, linger_s=0.4, orphans_s=0.3)


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of recorded transcripts of the real clients."""
    return FIXTURES / "claude"


@pytest.fixture(scope="session")
def fake_claude(fake_worker: FakeClaude) -> ClaudeCode:
    return fake_worker.client


@dataclass
class Play:
    """One run: what it told and how it ended."""

    outcome: WorkerOutcome
    events: list[WorkerEvent]
    notes: Path
    took_s: float

    def told(self, kind: type[WorkerEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def noted(self, name: str) -> str:
        """What the fake noted for us."""
        return (self.notes / name).read_text("utf-8")


@dataclass
class Stage:
    """Plays tasks with one client in one working directory."""

    client: ClaudeCode | Codex
    task: WorkerTask
    worker: Any

    @property
    def cwd(self) -> Path:
        return self.task.cwd

    @property
    def notes(self) -> Path:
        """Where the fake leaves its notes."""
        return self.task.config_folder / "notes"

    def play(
        self,
        behaviour: str | None = None,
        *,
        stop_when: Callable[[list[WorkerEvent]], bool] | None = None,
        questions: list[dict[str, Any]] | None = None,
        **changes: Any,
    ) -> Play:
        environment = dict(self.task.environment or {})
        if behaviour:
            environment["FAKE_CLAUDE"] = behaviour
        if questions is not None:
            environment["FAKE_QUESTIONS"] = json.dumps(questions)
        task = replace(self.task, environment=environment, **changes)
        events: list[WorkerEvent] = []

        async def main() -> tuple[WorkerOutcome, float]:
            stop = asyncio.Event()

            async def watch() -> float:
                assert stop_when is not None
                while not stop_when(events):
                    await asyncio.sleep(0.01)
                stop.set()
                return time.monotonic()

            watcher = asyncio.create_task(watch()) if stop_when else None
            started = time.monotonic()
            outcome = await self.worker.run(task, on_event=events.append, stop=stop)
            if watcher is not None:
                started = await watcher
            return outcome, time.monotonic() - started

        outcome, took_s = asyncio.run(asyncio.wait_for(main(), 90))
        return Play(outcome, events, self.notes, took_s)


def make_stage(client: ClaudeCode | Codex, folder: Path, *, patience: ChildPatience | None = None) -> Stage:
    cwd = folder / "workspace"
    cwd.mkdir()
    task = WorkerTask(
        prompt="Do the thing.",
        cwd=cwd,
        model="glm-5.2",
        gateway_url="http://127.0.0.1:9",
        token="run-token-secret",
        run_id=f"run-{os.getpid()}-{time.monotonic_ns()}",
        config_folder=folder / "private",
        timeout_s=60,
    )
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    if isinstance(client, Codex):
        return Stage(client, task, CodexWorker(client, env, patience=patience))
    worker = ClaudeWorker(client, env, patience=patience)
    return Stage(client, task, worker)


@pytest.fixture
def stage(fake_claude: ClaudeCode, tmp_path: Path) -> Stage:
    """The fake Claude Code in a working directory of its own."""
    return make_stage(fake_claude, tmp_path, patience=IMPATIENT)


def running(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


@pytest.fixture
def is_running() -> Callable[[int], bool]:
    return running


def marked(run_id: str) -> list[str]:
    """Every process of a run, found by the marker in its environment."""
    wanted = f"DRAGOMAN_RUN={run_id}".encode()
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.fixture
def processes_of() -> Callable[[str], list[str]]:
    return marked


@dataclass
class MessagesServer:
    """Answers each request to /v1/messages or /v1/responses with the next step; records what was asked."""

    url: str = ""
    steps: list[list[dict[str, Any]]] = field(default_factory=list[list[dict[str, Any]]])
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(
        default_factory=list[tuple[dict[str, str], dict[str, Any]]]
    )
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def sent(self) -> str:
        """All bodies as one text."""
        return json.dumps([body for _, body in self.requests], ensure_ascii=False)


class _Handler(BaseHTTPRequestHandler):
    book: MessagesServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = len(self.book.requests)
        self.book.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
        step = self.book.steps[number] if number < len(self.book.steps) else [{"text": "nothing more"}]
        if step and "status" in step[0]:
            error = {"type": "error", "error": {"type": "api_error", "message": step[0]["message"]}}
            self._reply(int(step[0]["status"]), json.dumps(error).encode())
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if self.path.endswith("/responses"):
            self._respond(number, step)
            return
        usage = {"input_tokens": 100, "output_tokens": 1}
        message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"]}
        self._event("message_start", message={**message, "content": [], "stop_reason": None, "usage": usage})
        for index, block in enumerate(step):
            if block.get("hang"):
                self.book.closing.wait(60)
            elif "text" in block:
                self._event("content_block_start", index=index, content_block={"type": "text", "text": ""})
                delta = {"type": "text_delta", "text": block["text"]}
                self._event("content_block_delta", index=index, delta=delta)
                self._event("content_block_stop", index=index)
            else:
                call = {
                    "type": "tool_use",
                    "id": f"toolu_{number}_{index}",
                    "name": block["tool"],
                    "input": {},
                }
                self._event("content_block_start", index=index, content_block=call)
                delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
                self._event("content_block_delta", index=index, delta=delta)
                self._event("content_block_stop", index=index)
        reason = "tool_use" if any("tool" in block for block in step) else "end_turn"
        self._event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 20})
        self._event("message_stop")

    def _respond(self, number: int, step: list[dict[str, Any]]) -> None:
        """The same in the Responses protocol; Codex needs only finished items and the end."""
        self._event("response.created", response={"id": f"resp_{number}"})
        for index, block in enumerate(step):
            if block.get("hang"):
                self.book.closing.wait(60)
                continue
            if "text" in block:
                content = [{"type": "output_text", "text": block["text"]}]
                item = {"type": "message", "role": "assistant", "id": f"msg_{number}", "content": content}
            else:
                call = {"type": "function_call", "call_id": f"call_{number}_{index}", "name": block["tool"]}
                item = {**call, "arguments": json.dumps(block["input"])}
            self._event("response.output_item.done", output_index=index, item=item)
        usage = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
        details = {
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        self._event("response.completed", response={"id": f"resp_{number}", "usage": {**usage, **details}})

    def do_GET(self) -> None:
        self._reply(404, b"{}")

    def _reply(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _event(self, kind: str, **fields: Any) -> None:
        self.wfile.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())
        self.wfile.flush()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # the client was stopped in the middle, which is what the test is about
            self.close_connection = True


@pytest.fixture
def messages_server() -> Iterator[MessagesServer]:
    book = MessagesServer()
    handler = type("Handler", (_Handler,), {"book": book})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    book.url = f"http://127.0.0.1:{server.server_port}"
    yield book
    book.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def real_stage(tmp_path: Path, messages_server: MessagesServer) -> Stage:
    """The real Claude Code of the `clients` extra (or of CLAUDE_BIN) against the scripted server."""
    if not os.environ.get("CLAUDE_BIN") and bundled_binary() is None:
        pytest.skip("no Claude Code: install the `clients` extra")
    client = find_claude_code(os.environ.get("CLAUDE_BIN") or str(bundled_binary()), os.environ)
    stage = make_stage(client, tmp_path)
    stage.task = replace(stage.task, gateway_url=messages_server.url)
    subprocess.run(["git", "init", "-q", str(stage.cwd)], check=True)
    return stage


@pytest.fixture
def codex_stage(tmp_path: Path, messages_server: MessagesServer) -> Stage:
    """The real Codex of the `clients` extra (or of CODEX_BIN) against the scripted server."""
    if not os.environ.get("CODEX_BIN") and bundled_codex() is None:
        pytest.skip("no Codex: install the `clients` extra")
    client = find_codex(os.environ.get("CODEX_BIN") or str(bundled_codex()), os.environ)
    stage = make_stage(client, tmp_path)
    stage.task = replace(stage.task, gateway_url=messages_server.url)
    subprocess.run(["git", "init", "-q", str(stage.cwd)], check=True)
    return stage
