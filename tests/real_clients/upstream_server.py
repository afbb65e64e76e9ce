"""An upstream that plays scripted answers on one wire."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from upstream_asked import Asked, Wire
from upstream_frames import Reply, stream_frames, whole_body

UNSCRIPTED: Reply = [{"refuse": 400, "body": {"error": {"message": "not in the script", "type": "script"}}}]


class Upstream:
    """Plays replies on one wire and keeps what it was asked.

    Attributes:
        asked: the requests since `play`.
        trouble: what the script could not answer; a test with trouble fails.
        left: set when the other side hung up before the answer's end.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire: Wire = wire
        self.asked: list[Asked] = []
        self.trouble: list[str] = []
        self.left = threading.Event()
        self._asked_once = threading.Event()
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
            self._begin(answer)

    def play_by(self, answer: Callable[[Asked], Reply]) -> None:
        """Answer every request by what it says."""
        with self._lock:
            self._begin(answer)

    def wait_asked(self, timeout_s: float = 30.0) -> None:
        """Wait for the first request."""
        assert self._asked_once.wait(timeout_s), "nobody asked"

    def _begin(self, answer: Callable[[Asked], Reply]) -> None:
        self.asked, self.trouble, self._answer = [], [], answer
        self.left.clear()
        self._asked_once.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _unscripted(self, asked: Asked) -> Reply:
        self.trouble.append("a request after the last reply")
        return UNSCRIPTED

    def take(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            self._asked_once.set()
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
                    upstream.left.set()
                except AssertionError as error:
                    upstream.trouble.append(str(error))
                    self._play(asked, UNSCRIPTED)

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
                frames = stream_frames(asked, reply)
                while isinstance(silence_s := frames[0], float):
                    time.sleep(silence_s)
                    frames.pop(0)
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for frame in frames:
                    match frame:
                        case b"":
                            pass
                        case bytes():
                            self.wfile.write(b"%x\r\n%b\r\n" % (len(frame), frame))
                        case float():
                            time.sleep(frame)
                        case "cut":
                            self.close_connection = True
                            self.connection.shutdown(socket.SHUT_RDWR)
                            return
                        case "wait":
                            self.close_connection = True
                            with contextlib.suppress(ConnectionResetError):
                                self.connection.recv(1)
                            upstream.left.set()
                            return
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
