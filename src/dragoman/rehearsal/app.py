"""The provider's HTTP side: a raw ASGI app that routes, reads, plays and speaks."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dragoman import __version__
from dragoman.rehearsal import models
from dragoman.rehearsal.answer import Answer, Cut, Failure
from dragoman.rehearsal.asked import Asked, BadRequest
from dragoman.rehearsal.journal import Journal, JournalRow, Outcome
from dragoman.rehearsal.play import answers_for, play
from dragoman.rehearsal.reading import chat as read_chat
from dragoman.rehearsal.reading import messages as read_messages
from dragoman.rehearsal.reading import responses as read_responses
from dragoman.rehearsal.scenario import Scenario, Wire
from dragoman.rehearsal.speaking import chat as speak_chat
from dragoman.rehearsal.speaking import messages as speak_messages
from dragoman.rehearsal.speaking import openai as speak_openai
from dragoman.rehearsal.speaking import responses as speak_responses
from dragoman.rehearsal.speaking.tape import Frame, identifier

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY_BYTES = 64 * 1024 * 1024

_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


@dataclass(frozen=True)
class _Speaker:
    """How one wire is read and spoken."""

    wire: Wire
    read: Callable[[dict[str, Any], str, str], Asked]
    body: Callable[[Answer, Asked], bytes]
    frames: Callable[[Answer, Asked], list[Frame]]
    failure: Callable[[Failure, str], bytes]
    request_id_header: bytes


_SPEAKERS = {
    "/v1/messages": _Speaker(
        "messages",
        read_messages.read,
        speak_messages.body,
        speak_messages.frames,
        speak_messages.failure,
        b"request-id",
    ),
    "/v1/chat/completions": _Speaker(
        "chat", read_chat.read, speak_chat.body, speak_chat.frames, speak_openai.failure, b"x-request-id"
    ),
    "/v1/responses": _Speaker(
        "responses",
        read_responses.read,
        speak_responses.body,
        speak_responses.frames,
        speak_openai.failure,
        b"x-request-id",
    ),
}


class _ClientGone(Exception):
    """Nobody is left to speak to."""


class Rehearsal:
    """The ASGI app.

    Args:
        scenarios: in order; the first one with a rule that holds answers.
        wait_factor: every silence is multiplied by it; 0 plays without waiting.
        journal: where each request is written down.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        *,
        wait_factor: float = 1.0,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scenarios = tuple(scenarios)
        self.wait_factor = wait_factor
        self.journal = journal or Journal(None)
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        speaker = _SPEAKERS.get(path.removesuffix("/count_tokens"))
        if method == "POST" and speaker is not None:
            await self._model_call(speaker, path, receive, send)
        elif method == "POST":
            await _refuse(_like(scope), Failure(404, f"there is no {path} here"), "", send)
        elif path == "/v1/models" or path.startswith("/v1/models/"):
            await self._models(scope, path.removeprefix("/v1/models").strip("/"), send)
        elif path in ("/", "/health"):
            about = {
                "status": "ok",
                "version": __version__,
                "scenarios": [one.name for one in self.scenarios],
            }
            await _reply(200, about, send, silent=method == "HEAD")
        else:
            await _refuse(_like(scope), Failure(404, f"there is no {path} here"), "", send)

    async def _models(self, scope: Scope, name: str, send: Send) -> None:
        names = models.model_names(self.scenarios)
        anthropic = _like(scope).wire == "messages"
        if not name:
            listing = models.anthropic_list if anthropic else models.openai_list
            await _reply(200, listing(names), send)
        elif answers_for(name, self.scenarios):
            entry = models.anthropic_entry if anthropic else models.openai_entry
            await _reply(200, entry(name), send)
        else:
            await _refuse(_like(scope), Failure(404, f"the model '{name}' does not exist"), name, send)

    async def _model_call(self, speaker: _Speaker, path: str, receive: Receive, send: Send) -> None:
        raw = await _whole_body(receive)
        started = self.clock()
        if raw is None:
            return
        digest = hashlib.sha256(path.encode() + b"\n" + raw).hexdigest()
        try:
            asked = _read(speaker, raw, digest)
        except BadRequest as error:
            await _refuse(speaker, Failure(400, str(error)), digest, send)
            return
        if path.endswith("/count_tokens"):
            await _reply(200, {"input_tokens": asked.prompt_tokens}, send)
            return
        answer = play(asked, self.scenarios)
        status, outcome = await self._speak(speaker, asked, answer, receive, send)
        self.journal.write(
            JournalRow(
                wire=asked.wire,
                model=asked.model,
                stream=asked.wishes.stream,
                digest=digest,
                turn=asked.turn,
                scenario=answer.scenario,
                rule=answer.rule,
                status=status,
                outcome=outcome,
                input_tokens=answer.usage.input,
                cache_read_tokens=answer.usage.cache_read,
                output_tokens=answer.usage.output,
                took_ms=round((self.clock() - started) * 1000, 1),
            )
        )

    async def _speak(
        self, speaker: _Speaker, asked: Asked, answer: Answer, receive: Receive, send: Send
    ) -> tuple[int, Outcome]:
        # uvicorn's send() is silent after a disconnect; only receive() tells.
        gone = asyncio.ensure_future(receive())
        try:
            return await self._say(speaker, asked, answer, gone, send)
        except _ClientGone:
            return 200, "client_gone"
        finally:
            gone.cancel()

    async def _say(
        self, speaker: _Speaker, asked: Asked, answer: Answer, gone: asyncio.Future[Message], send: Send
    ) -> tuple[int, Outcome]:
        due = await self._wait(answer.head_delay_s, self.clock(), gone)
        failed = next((part for part in answer.parts if isinstance(part, Failure)), None)
        cut = any(isinstance(part, Cut) for part in answer.parts)
        # Without a stream there is no "afterwards": an error is the whole answer.
        if failed is not None and (answer.refusal or not asked.wishes.stream):
            await _refuse(speaker, failed, asked.digest, send)
            return failed.status, "failed"
        request_id = identifier("req_", asked.digest).encode()
        headers = [(speaker.request_id_header, request_id)]
        if asked.wishes.stream:
            frames = speaker.frames(answer, asked)
            headers += [_EVENTS, (b"cache-control", b"no-cache")]
        else:
            whole = speaker.body(answer, asked)
            silence_s = sum(frame.wait_s for frame in speaker.frames(answer, asked))
            frames = [Frame(silence_s, whole[: len(whole) // 2] if cut else whole)]
            headers += [_JSON, (b"content-length", str(len(whole)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for frame in frames:
            due = await self._wait(frame.wait_s, due, gone)
            await send({"type": "http.response.body", "body": frame.data, "more_body": True})
        if cut:
            # Returning without an end makes the server drop the connection.
            return 200, "cut"
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return 200, "completed" if failed is None else "failed"

    async def _wait(self, seconds: float, since: float, gone: asyncio.Future[Message]) -> float:
        """Wait until `seconds` after `since`, so that delays do not add up; return that moment."""
        due = since + seconds * self.wait_factor
        left_s = due - self.clock()
        if left_s > 0:
            await asyncio.wait({gone}, timeout=left_s)
        else:
            await asyncio.sleep(0)
        if gone.done():
            raise _ClientGone
        return due


def _like(scope: Scope) -> _Speaker:
    """The speaker whose service a request without a wire seems to mean."""
    anthropic = any(name == b"anthropic-version" for name, _ in scope["headers"])
    return _SPEAKERS["/v1/messages" if anthropic else "/v1/chat/completions"]


def _read(speaker: _Speaker, raw: bytes, digest: str) -> Asked:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("model: a name is required")
    return speaker.read(body, model, digest)


async def _whole_body(receive: Receive) -> bytes | None:
    """The request's body, or None when the client left or sent too much."""
    chunks: list[bytes] = []
    left = MAX_BODY_BYTES
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        left -= len(chunks[-1])
        if left < 0:
            return None
        if not message.get("more_body"):
            return b"".join(chunks)


async def _refuse(speaker: _Speaker, failed: Failure, digest: str, send: Send) -> None:
    headers = [(speaker.request_id_header, identifier("req_", digest).encode())]
    if failed.retry_after_s is not None:
        headers.append((b"retry-after", str(failed.retry_after_s).encode()))
    await _send_whole(failed.status, speaker.failure(failed, digest), headers, send)


async def _reply(status: int, answer: dict[str, Any], send: Send, *, silent: bool = False) -> None:
    await _send_whole(status, b"" if silent else msgspec.json.encode(answer), [], send)


async def _send_whole(status: int, body: bytes, headers: list[tuple[bytes, bytes]], send: Send) -> None:
    head = [_JSON, (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
