"""The data plane as an ASGI application: who may ask, what is asked, who answers it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from dragoman import __version__
from dragoman.catalog.listing import anthropic_model_body, openai_model_body
from dragoman.config.tokens import TokenRecord
from dragoman.wire.dialect import Dialect
from dragoman.wire.encode_error import encode_error
from dragoman.wire.errors import BadRequest
from dragoman.wire.translate import decode_request
from dragoman.wire.turns import Wire

from .asgi import App, Receive, Scope, Send
from .bodies import read_body
from .budgets import Budgets
from .capture import Captures
from .conversation import Conversation
from .counting import count_tokens
from .departure import ClientLeft, Departure
from .exchange import Exchange, Means
from .forward import ControlDoor, is_control_path
from .incoming import WIRE_PATHS, Incoming, read_head
from .keys import KeyStates
from .metrics import CONTENT_TYPE, Metrics
from .open_calls import OpenCalls
from .outgoing import upstream_origin
from .pulse import SILENCE_S
from .quota_headers import QuotaHeaders
from .recall import RecallStore
from .replies import Refusal, send_error_answer, send_json, send_refusal, send_whole
from .runtime import Runtime
from .spans import Spans
from .spool import Spool, UsageRow
from .tariffs import Tariffs
from .transport import Transport

COUNT_PATH = "/v1/messages/count_tokens"
MODELS_PATH = "/v1/models"
METRICS_PATH = "/metrics"

Level = Literal["debug", "info", "warning", "error"]


class Log(Protocol):
    """Where events go: a level, a name and short fields, never a prompt or a secret."""

    def __call__(self, level: Level, event: str, /, **fields: Any) -> None: ...


def _silent(level: Level, event: str, /, **fields: Any) -> None:
    pass


class Gateway:
    """One gateway process's data plane.

    Everything it keeps between requests lives here; what a configuration says is in `runtime` and is replaced
    by assignment: requests that have begun finish on the one they began with.

    Args:
        runtime: the configuration in force.
        transport: what carries requests to upstreams.
        spool: takes usage rows.
        slots: folder of the slot files.
        budgets: folder of what limited tokens have used; beside `slots` when None.
        find_token: looks a shown secret up.
        door: the way to the control process; None answers 404 for its paths.
        embedded_url: where the embedded model answers, "" when it cannot.
        log: takes events.
        clock: monotonic seconds.
        wall: Unix seconds.
        new_id: fresh letters and digits.
        silence_s: how long a streaming client hears nothing before a sign of life.
        spans: is told of requests that have ended.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        transport: Transport,
        spool: Spool,
        slots: Path,
        budgets: Path | None = None,
        find_token: Callable[[str], TokenRecord | None],
        door: ControlDoor | None = None,
        embedded_url: str = "",
        log: Log = _silent,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: secrets.token_hex(12),
        silence_s: float = SILENCE_S,
        spans: Spans | None = None,
    ) -> None:
        self.open_requests = 0
        self._spans = spans
        self._transport = transport
        self._spool = spool
        self._open_calls = OpenCalls(spool.folder, clock=clock, wall=wall)
        self._find_token = find_token
        self._door = door
        self._embedded_url = embedded_url
        self._log = log
        self._clock = clock
        self._wall = wall
        self._new_id = new_id
        self._silence_s = silence_s
        self._key_states = KeyStates(slots, clock=clock, wall=wall)
        self._recall = RecallStore()
        self._budgets = Budgets(slots.parent / "budgets" if budgets is None else budgets)
        self._tariffs = Tariffs(slots.parent / "tariffs.json", clock=clock)
        self._metrics = Metrics(slots.parent / "metrics", state=lambda: (self.open_requests, spool.lost))
        self._quota = QuotaHeaders(slots.parent / "quota", clock=clock, wall=wall)
        self._captures = Captures(
            slots.parent,
            clock=clock,
            wall=wall,
            warn=lambda event, **fields: self._log("warning", event, **fields),
        )
        self._learned: dict[tuple[str, str], Dialect] = {}
        self.runtime = runtime

    @property
    def runtime(self) -> Runtime:
        """The configuration in force."""
        return self._runtime

    @runtime.setter
    def runtime(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._learned.clear()
        self._means = Means(
            routes=runtime.routes,
            keys=runtime.keys,
            key_states=self._key_states,
            budgets=self._budgets,
            tariffs=self._tariffs,
            quota=self._quota,
            transport=self._transport,
            learned=self._learned,
            embedded_url=self._embedded_url,
            clock=self._clock,
            wall=self._wall,
            new_id=self._new_id,
            silence_s=self._silence_s,
            note=lambda event, **fields: self._log("info", event, **fields),
        )

    @property
    def app(self) -> App:
        """The application for the port: the data plane, and control's paths through its door."""
        return self._handle_port

    @property
    def data_plane_app(self) -> App:
        """The application for the socket that sandboxed workers see: model calls and nothing else."""
        return self._handle_data_plane

    async def aclose(self) -> None:
        """Write what waits and close idle connections."""
        self._metrics.close()
        if self._spans is not None:
            self._spans.close()
        self._spool.close()
        self._open_calls.close()
        await self._captures.aclose()
        await self._transport.aclose()

    async def _handle_port(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handle(scope, receive, send, self._door)

    async def _handle_data_plane(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handle(scope, receive, send, None)

    async def _handle(self, scope: Scope, receive: Receive, send: Send, door: ControlDoor | None) -> None:
        if scope["type"] != "http":
            return
        incoming = read_head(scope, request_id=self._new_id(), at=self._wall(), started=self._clock())
        self.open_requests += 1
        try:
            await self._dispatch(incoming, scope, receive, send, door)
        except ClientLeft:
            pass
        except Exception as error:  # noqa: BLE001 - the last stop: told as a kind and a place, never as a text
            self._log("error", "request_failed", id=incoming.id, kind=type(error).__name__, at=_place(error))
            if not incoming.status:
                await send_refusal(send, incoming, _OURS)
            # Else the answer stays without its end, and uvicorn closes the connection. To raise would make it
            # print the error with its text.
        finally:
            self.open_requests -= 1

    async def _dispatch(
        self, incoming: Incoming, scope: Scope, receive: Receive, send: Send, door: ControlDoor | None
    ) -> None:
        guard, path, method = self._runtime.guard, incoming.path, incoming.method
        if (refusal := guard.check_place(incoming)) is not None:
            await send_refusal(send, incoming, refusal)
            return
        control = is_control_path(path)
        if incoming.headers.get(b"upgrade", b"").lower() == b"websocket":
            # Codex tries websockets first where it thinks it may; any other status costs it seven attempts.
            await send_refusal(send, incoming, _NO_WEBSOCKETS)
        elif method == "HEAD":
            known = control or path.startswith("/v1/") or path == "/health"
            await send_whole(send, incoming, 200 if known else 404, [], b"")
        elif path == "/health" and method == "GET":
            await send_json(send, incoming, self._health())
        elif path.startswith("/v1/"):
            found = guard.check_token(incoming, self._find_token)
            if isinstance(found, Refusal):
                await send_refusal(send, incoming, found)
                return
            incoming.token = found
            await self._serve(incoming, receive, send)
        elif path == METRICS_PATH and method == "GET" and door is not None:
            await self._show_metrics(incoming, send)
        elif control and door is not None:
            await self._forward(incoming, scope, receive, send, door)
        elif control:
            await send_refusal(send, incoming, Refusal(403, "forbidden", "Only model calls are served here."))
        else:
            await send_refusal(send, incoming, _not_found(path))

    async def _serve(self, incoming: Incoming, receive: Receive, send: Send) -> None:
        path, method = incoming.path, incoming.method
        if path == MODELS_PATH or path.startswith(f"{MODELS_PATH}/"):
            if method == "GET":
                await self._list_models(incoming, send)
            else:
                await send_refusal(send, incoming, _wrong_method("GET"))
        elif path not in WIRE_PATHS and path != COUNT_PATH:
            await send_refusal(send, incoming, _not_found(path))
        elif method != "POST":
            await send_refusal(send, incoming, _wrong_method("POST"))
        else:
            body = await read_body(receive, incoming, self._runtime.body_limit_bytes)
            if isinstance(body, Refusal):
                await send_refusal(send, incoming, body)
            elif path == COUNT_PATH:
                await self._count(incoming, body, send)
            else:
                await self._exchange(incoming, body, receive, send)

    async def _exchange(self, incoming: Incoming, body: bytes, receive: Receive, send: Send) -> None:
        self._metrics.touch()
        scope = f"{incoming.token.id if incoming.token else ''}:{incoming.session}"
        with Departure(receive) as departure:
            talk = Conversation(
                incoming=incoming,
                body=body,
                send=send,
                departure=departure,
                response_id=self._new_id(),
                created_at=int(self._wall()),
                recall=self._recall.session(scope),
                flow=incoming.flow,
                silence_s=self._silence_s,
                clock=self._clock,
            )
            record = partial(self._record, incoming)
            recording = self._captures.begin(talk, self._means, record)
            with self._open_calls.held(talk):
                await (recording or Exchange(self._means, talk, record)).run()

    def _record(self, incoming: Incoming, row: UsageRow) -> None:
        self._spool.append(row)
        self._metrics.count(row)
        if self._spans is not None:
            self._spans.record(row, incoming.headers.get(b"traceparent", b"").decode("latin-1"))

    async def _show_metrics(self, incoming: Incoming, send: Send) -> None:
        """For control tokens alone, whatever the data plane asks for."""
        token = self._find_token(incoming.shown_token) if incoming.shown_token else None
        if token is None:
            refusal = Refusal(401, "invalid_token", "This needs a control token.")
            await send_refusal(send, incoming, refusal)
        elif token.scope != "control":
            await send_refusal(
                send, incoming, Refusal(403, "forbidden", "This token opens model calls only.")
            )
        else:
            await send_whole(send, incoming, 200, [(b"content-type", CONTENT_TYPE)], self._metrics.text())

    async def _count(self, incoming: Incoming, body: bytes, send: Send) -> None:
        try:
            request = decode_request("messages", body)
        except BadRequest as error:
            await send_error_answer(send, incoming, encode_error("messages", error.failure, incoming.id))
            return
        self._expect(request.model, "messages")
        await send_json(send, incoming, {"input_tokens": count_tokens(request)})

    async def _list_models(self, incoming: Incoming, send: Send) -> None:
        runtime = self._runtime
        kind = _listing_of(incoming)
        name = incoming.path.removeprefix(MODELS_PATH).strip("/")
        if not name:
            body = runtime.listings[kind]
            # Clients read the list when they start: the first question is near.
            self._expect(None, _LISTING_WIRES[kind])
        else:
            model = runtime.routes.find_model(name)
            if model is None:
                refusal = Refusal(404, "not_found", f"There is no model {name[:100]!r}.")
                await send_refusal(send, incoming, refusal)
                return
            body = anthropic_model_body(model, name) if kind == "anthropic" else openai_model_body(model)
        await send_whole(send, incoming, 200, [(b"content-type", b"application/json")], body)

    def _expect(self, model: str | None, wire: Wire) -> None:
        """A question to a model, or to the default provider, is near: have a connection ready."""
        runtime = self._runtime
        upstream = runtime.routes.upstream_for(model, wire)
        if upstream is not None and not upstream.embedded and runtime.keys.get(upstream.name):
            self._transport.warm(upstream_origin(upstream, wire))

    async def _forward(
        self, incoming: Incoming, scope: Scope, receive: Receive, send: Send, door: ControlDoor
    ) -> None:
        secret = incoming.shown_token
        if secret is not None:
            incoming.token = self._find_token(secret)
        target = scope["raw_path"].decode("latin-1")
        if incoming.query:
            target += "?" + incoming.query.decode("latin-1")
        await door.relay(incoming, target, receive, send)

    def _health(self) -> dict[str, Any]:
        return {"status": "ok", "version": __version__, "upstreams": self._runtime.health}


_LISTING_WIRES: dict[str, Wire] = {"codex": "responses", "anthropic": "messages", "openai": "chat"}


def _listing_of(incoming: Incoming) -> str:
    """Codex says `client_version`; it refuses any list but its own, and reads no other's."""
    if b"client_version=" in incoming.query or incoming.client == "codex":
        return "codex"
    return "anthropic" if b"anthropic-version" in incoming.headers else "openai"


def _not_found(path: str) -> Refusal:
    return Refusal(404, "not_found", f"There is nothing at {path[:100]!r}.")


def _wrong_method(allowed: str) -> Refusal:
    return Refusal(
        405,
        "method_not_allowed",
        f"Only {allowed} is understood here.",
        headers=((b"allow", allowed.encode()),),
    )


def _place(error: BaseException) -> str:
    """The innermost line of ours where it happened: enough to find it, nothing of what was said."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "dragoman" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


_NO_WEBSOCKETS = Refusal(426, "upgrade_required", "Websockets are not spoken here; use plain HTTP requests.")
_OURS = Refusal(500, "invalid", "The gateway made a mistake; its log says where.", hint="dragoman logs")
