"""`dragoman mcp`: a stdio server that is ready before a client has finished asking.

Codex sends its first request without the tools of a server that needs a second or two to start (measured with
0.163), so this process imports nothing but the standard library, answers `initialize`, `ping` and
`tools/list` itself from `tools.json`, and sends each `tools/call` as one POST to the daemon. Daemon start,
restart and upgrade are therefore invisible to the client: its server never goes away.

When the client closes our input we leave; the daemon then sees its waiting calls hang up. Jobs go on.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from dragoman.mcp.line import Line

# The revisions with an `initialize`; a client that offers another gets the last.
PROTOCOL_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")

_METHOD_NOT_FOUND = -32601
_INVALID_REQUEST = -32600
_PARSE_ERROR = -32700
_INTERNAL = -32603


_CUT_OFF: dict[str | None, str] = {
    None: "the daemon went away while it answered. Next: dragoman logs",
    "claude_apply": "the daemon went away while it applied. Next: claude_apply with preview=true",
}


class Shim:
    """One client's connection.

    Args:
        document: the content of `tools.json`.
        home: folder of the daemon, None for the environment's own.
        version: ours.
        write: gets one whole line for the client.
    """

    def __init__(self, document: dict[str, Any], home: str | None, version: str, write: BinaryIO) -> None:
        self._document = document
        self._home = home
        self._version = version
        self._out = write
        self._out_lock = threading.Lock()
        self._calls: dict[str, Line | None] = {}
        self._protocol = PROTOCOL_VERSIONS[-1]
        self._safe_again = {
            tool["name"]
            for tool in document["tools"]
            if tool["annotations"]["readOnlyHint"] or not tool["annotations"]["destructiveHint"]
        }

    def serve(self, lines: BinaryIO) -> None:
        """Answer until the client closes its end."""
        for line in lines:
            if line.strip():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            self._fail(None, _PARSE_ERROR, "this is no JSON")
            return
        for one in message if isinstance(message, list) else [message]:
            if not isinstance(one, dict):
                self._fail(None, _INVALID_REQUEST, "a message is a JSON object")
            elif "method" in one:
                self._handle(one)

    def _handle(self, message: dict[str, Any]) -> None:
        number, params = message.get("id"), message.get("params")
        params = params if isinstance(params, dict) else {}
        match message["method"]:
            case "initialize":
                self._initialize(number, params)
            case "ping":
                self._answer(number, {})
            case "tools/list":
                self._answer(number, {"tools": self._document["tools"]})
                # Now nothing of ours is waited for: make the daemon warm for the first call.
                threading.Thread(target=self._warm, daemon=True).start()
            case "tools/call" if number is not None:
                self._calls[_key(number)] = None
                threading.Thread(target=self._call, args=(message,), daemon=True).start()
            case "notifications/cancelled":
                self._cancel(params.get("requestId"))
            case method if number is not None:
                self._fail(number, _METHOD_NOT_FOUND, f"there is no method {str(method)[:80]}")
            case _:
                pass

    def _initialize(self, number: Any, params: dict[str, Any]) -> None:
        offered = params.get("protocolVersion")
        self._protocol = offered if offered in PROTOCOL_VERSIONS else PROTOCOL_VERSIONS[-1]
        self._answer(
            number,
            {
                "protocolVersion": self._protocol,
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": {"name": self._document["server"], "version": self._version},
                "instructions": self._document["instructions"],
            },
        )

    def _cancel(self, number: Any) -> None:
        """The client no longer wants an answer: hang up, so that the daemon stops waiting too."""
        if _key(number) in self._calls:
            line = self._calls.pop(_key(number))
            if line is not None:
                line.hang_up()

    def _call(self, message: dict[str, Any]) -> None:
        from dragoman.mcp.line import Unreachable

        number = message["id"]
        name = (message.get("params") or {}).get("name")
        body = json.dumps(message).encode()
        try:
            for attempt in (1, 2):
                if self._forward(number, body) or _key(number) not in self._calls:
                    return
                if attempt == 2 or name not in self._safe_again:
                    raise Unreachable(_CUT_OFF.get(name, _CUT_OFF[None]))
        except Unreachable as error:
            text = json.dumps({"error": str(error), "error_code": "internal", "retryable": True})
            self._answer(number, {"content": [{"type": "text", "text": text}], "isError": True})
        finally:
            self._calls.pop(_key(number), None)

    def _forward(self, number: Any, body: bytes) -> bool:
        """POST one call and write what comes back; False when the answer was cut off, or is not wanted."""
        from dragoman.mcp.line import open_line

        line = open_line(self._home, self._protocol)
        with self._out_lock:
            if _key(number) not in self._calls:
                line.close()
                return False
            self._calls[_key(number)] = line
        try:
            for message in line.post(body):
                self._write(message)
                # Progress comes first, the answer last.
                if (told := json.loads(message)).get("id") == number and "method" not in told:
                    return True
            if line.refusal is not None:
                self._fail(number, _INTERNAL, line.refusal)
                return True
            return False
        except (OSError, ValueError):
            return False
        finally:
            line.close()

    def _warm(self) -> None:
        from dragoman.mcp.line import knock

        knock(self._home, self._protocol)

    def _answer(self, number: Any, result: dict[str, Any]) -> None:
        if number is not None:
            self._send({"jsonrpc": "2.0", "id": number, "result": result})

    def _fail(self, number: Any, code: int, text: str) -> None:
        self._send({"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}})

    def _send(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message, separators=(",", ":")).encode())

    def _write(self, line: bytes) -> None:
        with self._out_lock:
            self._out.write(line.replace(b"\n", b" ") + b"\n")
            self._out.flush()


def _key(number: Any) -> str:
    """1 and "1" are different requests."""
    return repr(number)


def run(*, home: str | None, version: str) -> None:
    """Serve the process's own standard input until it ends.

    Args:
        home: the daemon's folder, as `--home` says; None for the environment's.
        version: ours, told to the client.
    """
    document = json.loads(Path(__file__).with_name("tools.json").read_bytes())
    try:
        Shim(document, home, version, sys.stdout.buffer).serve(sys.stdin.buffer)
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        # Calls still waiting are given up with the process; a buffer nobody reads must not hold it.
        os._exit(0)
