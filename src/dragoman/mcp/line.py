"""The shim's line to the daemon: found or started, one POST a call, progress and answer as they come.

Standard library only, and imported at the first call, so that a client's start does not pay for it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from dragoman.config.paths import Home, resolve_home

# What this connection may do is decided where it was started: the daemon has another environment.
_TOLD = {
    "x-dragoman-allow-roots": "CODEX_CLAUDE_ALLOW_ROOTS",
    "x-dragoman-depth": "BRIDGE_DEPTH",
}
# A daemon that starts is up within a second; a machine under load may need many.
_DAEMON_DEADLINE_S = 30.0
_BETWEEN_TRIES_S = 0.1
# Longer than any blocking wait a tool offers (540 s), so that only a dead daemon runs into it.
_ANSWER_DEADLINE_S = 600.0

_starting = threading.Lock()


class Unreachable(Exception):
    """The daemon could not be reached; the text is for the user."""


class Line:
    """One connection to the daemon, for one call.

    Args:
        connection: open.
        headers: what every request of it carries.

    Attributes:
        refusal: the daemon's words when it answered with an error instead of messages.
    """

    def __init__(self, connection: http.client.HTTPConnection, headers: dict[str, str]) -> None:
        self.refusal: str | None = None
        self._connection = connection
        self._headers = headers

    def post(self, body: bytes) -> Iterator[bytes]:
        """Send one message to `/mcp` and yield what comes back, a message each.

        Raises:
            OSError: the line was cut.
        """
        try:
            self._connection.request("POST", "/mcp", body, self._headers)
            response = self._connection.getresponse()
            if response.status != 200:
                self.refusal = _reason(response)
            elif response.headers.get_content_type() == "text/event-stream":
                for line in response:
                    if line.startswith(b"data:") and (data := line[5:].strip()):
                        yield data
            else:
                yield response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(type(error).__name__) from error

    def get(self, path: str) -> None:
        """Ask for something whose answer does not matter."""
        self._connection.request("GET", path, headers=self._headers)
        self._connection.getresponse().read()

    def hang_up(self) -> None:
        """End the call from another thread; whoever reads gets the end at once."""
        if self._connection.sock is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()


def open_line(home: str | None, protocol: str) -> Line:
    """A line that is open, the daemon started when there is none.

    Args:
        home: the daemon's folder; None for the environment's.
        protocol: the MCP revision negotiated with the client.

    Raises:
        Unreachable: it cannot be started, or does not answer in time.
    """
    environment = {**os.environ, **({"DRAGOMAN_HOME": home} if home else {})}
    whose = resolve_home(environment)
    deadline = time.monotonic() + _DAEMON_DEADLINE_S
    started = False
    while True:
        if (connection := _dial(whose)) is not None:
            return Line(connection, _headers(whose, protocol))
        if time.monotonic() > deadline:
            raise Unreachable("the dragoman daemon does not answer. Next: dragoman doctor")
        if started:
            time.sleep(_BETWEEN_TRIES_S)
        else:
            _start(environment)
            started = True


def knock(home: str | None, protocol: str) -> None:
    """Have daemon and control process warm for the first call; a failure is told at that call."""
    try:
        line = open_line(home, protocol)
        try:
            line.get("/api/v1/status")
        finally:
            line.close()
    except (Unreachable, OSError, http.client.HTTPException):
        pass


def _dial(home: Home) -> http.client.HTTPConnection | None:
    """A connection to the daemon the home names, or None when there is none that listens."""
    try:
        address = urlsplit(json.loads(home.daemon_json.read_bytes())["url"])
        connection = http.client.HTTPConnection(
            address.hostname or "127.0.0.1", address.port, timeout=_ANSWER_DEADLINE_S
        )
        connection.connect()
    except (OSError, ValueError, KeyError):
        return None  # no daemon, or the note of one that is gone
    return connection


def _start(environment: dict[str, str]) -> None:
    """Have the daemon started; its own command does it, so that all ways of starting are one.

    Raises:
        Unreachable: it says why it cannot.
    """
    with _starting:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "dragoman.cli.main", "token", "--ensure"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_DAEMON_DEADLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unreachable("the dragoman daemon did not start in time. Next: dragoman serve") from None
    if done.returncode != 0:
        reason = _in_one_sentence(done.stderr.decode(errors="replace"))
        raise Unreachable(reason or "the dragoman daemon could not be started. Next: dragoman serve")


def _in_one_sentence(said: str) -> str:
    """What a command wrote to its error output, without what it was about to do."""
    lines = [line.strip().removeprefix("dragoman: ") for line in said.strip().splitlines()]
    told = [line.replace("next: ", "Next: ") for line in lines if line and not line.startswith("starting ")]
    return ". ".join(told)[-400:]


def _headers(home: Home, protocol: str) -> dict[str, str]:
    from dragoman.config.tokens import ensure_control_token

    told = {header: quote(os.environ[name]) for header, name in _TOLD.items() if os.environ.get(name)}
    return {
        "authorization": f"Bearer {ensure_control_token(home)}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": protocol,
        "x-dragoman-cwd": quote(str(Path.cwd())),
        **told,
    }


def _reason(response: http.client.HTTPResponse) -> str:
    """The words of an error answer, whichever of our shapes it has."""
    try:
        said = json.loads(response.read(65536))
    except ValueError:
        said = None
    text = said.get("error") if isinstance(said, dict) else None
    if isinstance(text, dict):
        text = text.get("message")
    return str(text or f"the daemon answered {response.status}")
