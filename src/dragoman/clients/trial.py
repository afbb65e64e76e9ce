"""Asks a model one small question the way a client would, and says whether a whole answer came back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from dragoman.catalog.models import UNKNOWN_DEFAULT_OUTPUT_TOKENS
from dragoman.wire.sse import SseReader
from dragoman.wire.turns import Wire

QUESTION = "Answer with the single word: ready"
TIMEOUT_S = 120.0

# What a stream of each wire ends with; a chat stream ends with a word that is no JSON.
_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "message_stop"})
_FAILED_EVENTS = frozenset({"response.failed", "error"})
_CLIENTS: dict[Wire, str] = {"responses": "Codex", "messages": "Claude Code", "chat": "chat clients"}


@dataclass(frozen=True, slots=True)
class Trial:
    """How one question went.

    Attributes:
        model: the name asked for.
        wire: what we spoke.
        answer: the text that came back; None when no whole answer did.
        trouble: what went wrong, None when nothing did.
        hint: what to do about it.
        seconds: how long it took.
    """

    model: str
    wire: Wire
    answer: str | None
    trouble: str | None
    hint: str | None
    seconds: float

    @property
    def ok(self) -> bool:
        return self.trouble is None

    @property
    def client(self) -> str:
        """Who speaks this wire, for people."""
        return _CLIENTS[self.wire]


def trial_request(wire: Wire, model: str) -> tuple[str, dict[str, Any]]:
    """The path and body of the question, streamed as clients do."""
    turn = {"role": "user", "content": QUESTION}
    match wire:
        case "responses":
            content = [{"type": "input_text", "text": QUESTION}]
            item = {"type": "message", "role": "user", "content": content}
            return "/v1/responses", {"model": model, "input": [item], "stream": True, "store": False}
        case "chat":
            return "/v1/chat/completions", {"model": model, "messages": [turn], "stream": True}
        case "messages":
            body = {"model": model, "messages": [turn], "stream": True}
            return "/v1/messages", {**body, "max_tokens": UNKNOWN_DEFAULT_OUTPUT_TOKENS}


def run_trial(
    url: str,
    token: str,
    *,
    model: str,
    wire: Wire,
    timeout_s: float = TIMEOUT_S,
    transport: httpx.BaseTransport | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Trial:
    """Ask through the gateway; failures are results.

    Args:
        url: the gateway's address.
        token: a data token.
        model: the name to ask for.
        wire: what to speak.
        timeout_s: the longest wait for the next byte.
        transport: how requests are sent; over the network when None.
        now: seconds, from anywhere.
    """
    path, body = trial_request(wire, model)
    began = now()
    answer, trouble, hint = None, None, None
    try:
        with (
            httpx.Client(transport=transport, timeout=timeout_s, trust_env=False) as client,
            client.stream("POST", url + path, json=body, headers=_headers(token)) as response,
        ):
            if response.status_code == 200:
                answer, trouble = _read(response)
            else:
                trouble = _said(response.status_code, response.read())
                hint = _hint(response.status_code)
    except httpx.TimeoutException:
        trouble = f"no answer within {timeout_s:g} s"
    except httpx.HTTPError as error:
        trouble = f"the connection to the gateway broke ({type(error).__name__})"
    if trouble is not None and hint is None:
        hint = "dragoman logs"
    return Trial(model, wire, answer if trouble is None else None, trouble, hint, now() - began)


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}


def _read(response: httpx.Response) -> tuple[str | None, str | None]:
    """The text of a streamed answer, or what is wrong with it."""
    reader, text, ended = SseReader(), "", False
    for chunk in response.iter_bytes():
        for data in reader.feed(chunk):
            if data == b"[DONE]":
                ended = True
                continue
            try:
                event = json.loads(data)
            except ValueError:
                return None, "the answer holds an event that is no JSON"
            kind = event.get("type")
            if kind in _FAILED_EVENTS or ("error" in event and kind is None):
                return None, _message_of(event) or "the answer ended with an error"
            text += _text_of(event)
            ended = ended or kind in _LAST_EVENTS
    if not ended:
        return None, "the answer ended in the middle"
    return (text, None) if text.strip() else (None, "the answer holds no text")


def _text_of(event: Mapping[str, Any]) -> str:
    match event.get("type"):
        case "response.output_text.delta":
            return event.get("delta") or ""
        case "content_block_delta":
            return event["delta"].get("text") or ""
        case None:
            return "".join(
                choice.get("delta", {}).get("content") or "" for choice in event.get("choices", ())
            )
        case _:
            return ""


def _said(status: int, body: bytes) -> str:
    try:
        said = _message_of(json.loads(body))
    except ValueError:
        said = None
    return f"{status}: {said}" if said else f"status {status}"


def _message_of(event: Any) -> str | None:
    """What an error of any wire says; the gateway has taken secrets out of it."""
    for path in (("error", "message"), ("response", "error", "message"), ("message",)):
        at = event
        for key in path:
            at = at.get(key) if isinstance(at, dict) else None
        if isinstance(at, str) and at:
            return at
    return None


def _hint(status: int) -> str:
    match status:
        case 401 | 403:
            return "dragoman keys list: is the provider's key there and right?"
        case 404:
            return "dragoman models list"
        case 429:
            return "the provider's limit is reached: try again later, or add a key"
        case _:
            return "dragoman logs"
