"""A real session seen through a real gateway and its control process."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import ensure_control_token

pytestmark = pytest.mark.real_client


class Listener:
    """Reads server-sent events as they come, in a thread.

    Attributes:
        events: name and data of each.
        ended: set when the server has ended the answer by itself.
    """

    def __init__(self, client: httpx.Client, path: str) -> None:
        self.events: list[tuple[str, str]] = []
        self.status = 0
        self.ended = threading.Event()
        self._client, self._path = client, path
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        name = ""
        with contextlib.suppress(httpx.TransportError), self._client.stream("GET", self._path) as answer:
            self.status = answer.status_code
            for line in answer.iter_lines():
                key, _, value = line.partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    self.events.append((name, value))
            self.ended.set()

    def shown(self) -> str:
        """All that the terminal printed."""
        pieces = [base64.b64decode(data) for name, data in self.events if name in ("screen", "output")]
        return b"".join(pieces).decode(errors="replace")

    def resources(self) -> list[dict[str, Any]]:
        return [json.loads(data)["resource"] for _, data in self.events]


@pytest.fixture
def serve(scratch: Path) -> Iterator[Callable[[dict[str, str]], str]]:
    """Start `dragoman serve` for a home; its address."""
    started: list[tuple[subprocess.Popen[str], dict[str, str]]] = []

    def start(env: dict[str, str]) -> str:
        argv = [sys.executable, "-m", "dragoman.cli.main", "serve", "--port", "0"]
        # A file, not a pipe: nobody would empty it.
        with (scratch / "serve.err").open("w") as errors:
            process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
        started.append((process, env))
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("listening on "), (line, (scratch / "serve.err").read_text())
        return line.removeprefix("listening on ")

    yield start
    for process, env in started:
        stop = [sys.executable, "-m", "dragoman.cli.main", "stop"]
        subprocess.run(stop, env=env, capture_output=True, timeout=60, check=True)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def test_a_session_is_watched_typed_into_and_heard_of_through_the_gateway(
    start_session: Callable[..., Any],
    claude_329: Path,
    serve: Callable[[dict[str, str]], str],
    scratch: Path,
    wait_until: Callable[..., Any],
) -> None:
    session = start_session(claude_329)
    env = {**session.env, "DRAGOMAN_HOME": str(scratch / "state")}
    home: Home = resolve_home(env)
    url = serve(env)
    headers = {"authorization": f"Bearer {ensure_control_token(home)}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30.0, trust_env=False) as client:
        (row,) = client.get("/api/v1/sessions").json()["sessions"]
        assert (row["runs"], row["status"]) == (True, "ready")
        path = f"/api/v1/sessions/{row['session_id']}"

        feed = Listener(client, "/api/v1/events?topics=session")
        terminal = Listener(client, f"{path}/terminal")
        wait_until(lambda: terminal.events, "the terminal")
        wait_until(lambda: feed.status, "the feed")
        assert terminal.events[0] == ("size", '{"cols":140,"rows":50}')
        wait_until(lambda: [name for name, _ in terminal.events][:2] == ["size", "screen"], "the screen")

        # What is posted is typed, and what comes of it is shown: each in less time than a person notices.
        assert client.post(f"{path}/input", json={"text": "say by-hand"}).json()["waits"] is False
        wait_until(lambda: "by-hand" in terminal.shown(), "the typed words")
        client.post(f"{path}/input", json={"text": "\r"}).raise_for_status()
        wait_until(lambda: "turn_duration" in session.transcript(), "the turn's end")
        assert "by-hand" in session.transcript()
        # A person has just typed: the lead is told so, and the feed tells of it.
        assert session.send("say too soon")["status"] == "busy"
        wait_until(lambda: any(one["status"] == "busy" for one in feed.resources()), "busy on the feed")

        answer = client.post(f"{path}/resize", json={"cols": 100, "rows": 40}).json()
        assert answer == {"cols": 100, "rows": 40, "resized": True}
        wait_until(lambda: ("size", '{"cols":100,"rows":40}') in terminal.events, "the new size")

        time_left = time.monotonic() + 20.0
        while (asked := session.send("run touch one.txt"))["status"] == "busy":
            assert time.monotonic() < time_left, asked
            time.sleep(0.2)
        assert asked["status"] == "needs_permission", asked
        wait_until(
            lambda: any(one["status"] == "needs_permission" and one["options"] for one in feed.resources()),
            "the question on the feed",
        )
        assert session.press("1")["output"] == "It ran."
        assert not any("It ran." in str(one) for one in feed.resources())

        session.bridge.stop()
        wait_until(terminal.ended.is_set, "the terminal's end")
        assert terminal.events[-1] == ("end", '{"reason":"ended"}')
        wait_until(lambda: feed.resources()[-1]["runs"] is False, "the end on the feed")
        assert client.get(path).json()["session"]["runs"] is False
