"""An upstream that plays scripted answers on one wire."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from upstream_asked import Asked, Wire
from upstream_frames import FRAMES, Reply, whole_body


class Upstream:
    """Plays replies on one wire and keeps what it was asked.

    Attributes:
        asked: the requests since `play`.
        surplus: how many came after the last reply.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire: Wire = wire
        self.asked: list[Asked] = []
        self.surplus = 0
        self._answer: Callable[[Asked], Reply] = self._unscripted
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def base(self) -> str:
        """The address as the configuration wants it."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return url if self.wire == "messages" else f"{url}/v1"

    def play(self, *replies: Reply | Callable[[Asked], Reply]) -> None:
        """Answer the coming requests with these, one after another; a function is asked for its reply."""
        left = iter(replies)

        def answer(asked: Asked) -> Reply:
            reply = next(left, None)
            if reply is None:
                return self._unscripted(asked)
            return reply(asked) if callable(reply) else reply

        with self._lock:
            self.asked, self.surplus, self._answer = [], 0, answer

    def play_by(self, answer: Callable[[Asked], Reply]) -> None:
        """Answer every request by what it says."""
        with self._lock:
            self.asked, self.surplus, self._answer = [], 0, answer

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _unscripted(self, asked: Asked) -> Reply:
        self.surplus += 1
        return [{"refuse": 400, "body": {"error": {"message": "not in the script", "type": "script"}}}]

    def take(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            return self._answer(asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(upstream.wire, body, headers, time.monotonic())
                try:
                    self._play(asked, upstream.take(asked))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def _play(self, asked: Asked, reply: Reply) -> None:
                if reply and "refuse" in reply[0]:
                    self._whole(reply[0]["refuse"], reply[0].get("headers", {}), reply[0]["body"])
                elif asked.stream:
                    self._stream(asked, reply)
                else:
                    self._whole(200, {}, whole_body(asked, reply))

            def _whole(self, status: int, headers: dict[str, str], value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                for name, text in {**headers, "content-type": "application/json"}.items():
                    self.send_header(name, text)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self, asked: Asked, reply: Reply) -> None:
                steps = list(reply)
                while steps and "pause_s" in steps[0]:
                    time.sleep(steps.pop(0)["pause_s"])
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.wfile.flush()
                while steps and ("head" in steps[0] or "pause_s" in steps[0]):
                    time.sleep(steps.pop(0).get("pause_s", 0))
                for frame in FRAMES[asked.wire](asked, steps):
                    if frame == "cut":
                        self.close_connection = True
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return
                    if isinstance(frame, float):
                        time.sleep(frame)
                    elif isinstance(frame, bytes):
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(frame), frame))
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
