"""The file mailbox between the commands and the bridge. Standard library only: commands start quickly.

Files and one lock, nothing else: the lead's sandbox blocks sockets and hides our processes (it has its own
process ids), but a lock on a file is seen through it. A request is a file moved into `inbox`, its answer a
file moved into `results`, a stream a file that grows.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SESSION_VARIABLE = "DRAGOMAN_BRIDGE_SESSION"
_ID = re.compile(r"[0-9]{1,16}-[0-9a-f]{8}")
# A prompt has at most 50,000 characters; this is far above it and far below what would hurt.
_MAX_REQUEST_BYTES = 2 << 20
_POLL_S = 0.01
# The bridge answers by itself when a round's time is over; this is for one that hangs.
_PATIENCE_S = 30.0
_STREAM_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """What a command asks of the bridge.

    Attributes:
        id: names its files.
        kind: a prompt or a key.
        prompt: for `send`.
        key: for `input`.
        timeout_s: after how long to answer although the turn goes on.
        stream: whether to write what the screen shows meanwhile.
        allow_command: let a prompt that begins with `/` be a command.
    """

    id: str
    kind: Literal["send", "input"]
    prompt: str = ""
    key: str = ""
    timeout_s: float = 120.0
    stream: bool = False
    allow_command: bool = False


class Mailbox:
    """The files of one bridge.

    Args:
        folder: `bridge` inside the session folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inbox = folder / "inbox"
        self.streams = folder / "streams"
        self.results = folder / "results"
        self.state_file = folder / "state.json"
        self.lock_file = folder / "lock"

    # ---- both sides

    def make(self) -> None:
        """Make the folders, 0700."""
        for folder in (self.folder, self.inbox, self.streams, self.results):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read_state(self) -> dict[str, Any] | None:
        """What the bridge says about itself, or None."""
        return _read_json(self.state_file)

    def bridge_lives(self) -> bool:
        """Whether a bridge serves this mailbox right now."""
        try:
            handle = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    # ---- a command's side

    def ask(
        self,
        request: Request,
        *,
        on_stream: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> dict[str, Any]:
        """Put a request in and wait for its answer; every wait ends.

        Args:
            request: what to ask.
            on_stream: given what the screen shows as it comes.
            clock: seconds, monotonic.
            sleep: waits seconds.

        Returns:
            The answer; `exited` when the bridge is gone, `timeout` when it hangs.
        """
        if not self.bridge_lives():
            return _gone(self.read_state())
        _write_json(self.inbox / f"{request.id}.json", _as_json(request))
        answer = self.results / f"{request.id}.json"
        stream = self.streams / f"{request.id}.log"
        give_up_at = clock() + request.timeout_s + _PATIENCE_S
        read = 0
        next_look = clock() + 0.5
        while True:
            found = _read_json(answer)
            if on_stream is not None:
                read = _pass_on(stream, read, on_stream)
            if found is not None:
                for path in (answer, stream):
                    with contextlib.suppress(OSError):
                        path.unlink()
                return found
            now = clock()
            if now >= next_look:
                next_look = now + 0.5
                if not self.bridge_lives() and _read_json(answer) is None:
                    with contextlib.suppress(OSError):
                        (self.inbox / f"{request.id}.json").unlink()
                    return _gone(self.read_state())
            if now >= give_up_at:
                return {
                    "status": "timeout",
                    "error": "the bridge did not answer; see bridge.log",
                    "busy": True,
                }
            sleep(_POLL_S)

    # ---- the bridge's side

    def requests(self) -> Iterator[Request]:
        """Take what lies in the inbox, oldest first; what is no request is removed."""
        try:
            names = sorted(path.name for path in self.inbox.iterdir() if path.suffix == ".json")
        except OSError:
            return
        for name in names:
            path = self.inbox / name
            raw = _read_json(path)
            with contextlib.suppress(OSError):
                path.unlink()
            request = _request(path.stem, raw)
            if request is not None:
                yield request

    def answer(self, request_id: str, result: dict[str, Any]) -> None:
        """Give a request its answer."""
        _write_json(self.results / f"{request_id}.json", result)

    def write_state(self, state: dict[str, Any]) -> None:
        """Say how things stand."""
        _write_json(self.state_file, state)

    def take_over(self) -> None:
        """Remove what an earlier bridge left, and tell who still waits for it.

        A bridge that is killed is replaced within milliseconds: whoever asked the old one cannot see that it
        is gone.
        """
        waiting = [path.stem for path in self.inbox.iterdir() if _ID.fullmatch(path.stem)]
        request = (self.read_state() or {}).get("request")
        if isinstance(request, str) and _ID.fullmatch(request):
            waiting.append(request)
        self._clean()
        for request_id in waiting:
            self.answer(request_id, _gone(None))

    def _clean(self) -> None:
        """Only files of the right names."""
        for folder in (self.inbox, self.results, self.streams):
            for path in folder.iterdir():
                if _ID.fullmatch(path.stem) or path.name.startswith("."):
                    with contextlib.suppress(OSError):
                        path.unlink()


def new_request_id(now_ns: int, random_hex: str) -> str:
    """An id that sorts by time: microseconds and eight hexadecimal digits."""
    return f"{now_ns // 1000:016d}-{random_hex}"


def _request(request_id: str, raw: dict[str, Any] | None) -> Request | None:
    if raw is None or not _ID.fullmatch(request_id) or raw.get("kind") not in ("send", "input"):
        return None
    try:
        timeout_s = float(raw.get("timeout_s", 120.0))
    except (TypeError, ValueError):
        return None
    return Request(
        request_id,
        raw["kind"],
        prompt=str(raw.get("prompt", "")),
        key=str(raw.get("key", "")),
        timeout_s=min(max(timeout_s, 0.0), 86_400.0),
        stream=raw.get("stream") is True,
        allow_command=raw.get("allow_command") is True,
    )


def _as_json(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in Request.__slots__ if name != "id"}


def _gone(state: dict[str, Any] | None) -> dict[str, Any]:
    if state is not None and state.get("ended"):
        return {"status": "exited", "error": "the bridge has ended with its session"}
    return {
        "status": "exited",
        "error": "the bridge is gone; it comes back with the same conversation: wait a few seconds, then "
        "run cc-status, and send again what was not answered",
    }


def _pass_on(stream: Path, read: int, on_stream: Callable[[str], None]) -> int:
    try:
        with stream.open("rb") as file:
            file.seek(read)
            data = file.read(_STREAM_CHUNK)
    except OSError:
        return read
    whole = data[: data.rfind(b"\n") + 1]
    if whole:
        on_stream(whole.decode(errors="replace"))
    return read + len(whole)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        with os.fdopen(handle, "rb") as file:
            value = json.loads(file.read(_MAX_REQUEST_BYTES))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _write_json(path: Path, value: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass") as file:
        json.dump(value, file, ensure_ascii=True)
    draft.replace(path)
