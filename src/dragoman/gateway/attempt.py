"""One attempt: one request to one upstream with one key, its answer carried to the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dragoman.wire import translate
from dragoman.wire.decode_error import MAX_ERROR_BYTES, decode_error
from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import Failure, FailureCode, failure
from dragoman.wire.events import Event, Fail, Usage
from dragoman.wire.meter import UsageMeter
from dragoman.wire.splice import ModelRewriter, splice_model
from dragoman.wire.tools import ToolEntry
from dragoman.wire.translate import EncodedRequest, StreamEncoder

from .asgi import Headers
from .conversation import Conversation
from .legs import Leg, PassThrough, Translation
from .outgoing import outgoing_request, shown_headers
from .pump import AttemptFailed, Pump
from .replies import send_head, send_whole
from .routes import Route
from .transport import Answer, Timeouts, Transport, TransportError

MAX_ANSWER_BYTES = 256 << 20
"""Largest answer taken in one piece, a picture-laden one included."""

_LONG_BYTES = 100_000
"""From here on the loop is let go between the steps of a translation; each takes some 2 ms a megabyte."""

_STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_JSON_HEADERS: Headers = [(b"content-type", b"application/json")]


class Attempt:
    """Asks one upstream.

    Args:
        conversation: what is asked, and by whom.
        route: who is asked.
        secret: the key to show.
        transport: what carries it.
        wall: Unix seconds.
        base: where the embedded model runs, for routes to it.
        dialect: the route's dialect, or one that has learned something since.
    """

    def __init__(
        self,
        conversation: Conversation,
        route: Route,
        *,
        secret: str | None,
        transport: Transport,
        wall: Callable[[], float],
        base: str = "",
        dialect: Dialect | None = None,
    ) -> None:
        self._talk = conversation
        self._to = route
        self._base = base
        self._secret = secret
        self._transport = transport
        self._wall = wall
        self._dialect = dialect or route.dialect
        self._through = False
        self._tools = translate.ToolTable()
        self._timeouts = Timeouts(route.connect_timeout_s, route.first_byte_timeout_s, route.idle_timeout_s)

    async def run(self) -> None:
        """Ask, and carry the answer to its end.

        Raises:
            AttemptFailed: nothing of an answer was said to the client.
            BadRequest: the client's body cannot be read, or cannot be said to this upstream.
        """
        talk = self._talk
        begun = talk.clock()
        body = (await self._encode()).body
        request = outgoing_request(
            self._to, talk.incoming, body, secret=self._secret, base=self._base, stream=talk.stream
        )
        talk.own_s += talk.clock() - begun
        try:
            answer = await self._transport.send(request, self._timeouts)
        except TransportError as error:
            raise AttemptFailed(self._failure_of(error)) from None
        try:
            await self._take(answer)
        except TransportError as error:
            raise AttemptFailed(self._failure_of(error)) from None
        finally:
            answer.close()

    async def _encode(self) -> EncodedRequest:
        """The request in the upstream's words; decides whether the answer's bytes may pass as they are."""
        talk, route = self._talk, self._to
        await self._breathe()
        if route.native:
            encoded = await self._forwarded()
            # Tools under other names come back under other names, so their calls have to be translated.
            self._through = not (
                encoded.foreign_answer or any(_renamed(entry) for entry in encoded.tools.entries)
            )
        else:
            request = talk.decoded()
            await self._breathe()
            encoded = translate.encode_request(
                route.wire,
                request,
                model=route.upstream_model,
                dialect=self._dialect,
                stream=talk.stream,
                limits=route.limits,
                recall=talk.recall,
            )
        talk.shims = encoded.shims
        self._tools = encoded.tools
        await self._breathe()
        return encoded

    async def _forwarded(self) -> EncodedRequest:
        talk, route = self._talk, self._to
        steps = translate.forward_steps(
            route.wire,
            talk.body,
            model=route.upstream_model,
            dialect=self._dialect,
            limits=route.limits,
            recall=talk.recall,
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            await self._breathe()

    async def _breathe(self) -> None:
        """Give the streams that share the loop their turn between two readings of a long conversation."""
        talk = self._talk
        if len(talk.body) >= _LONG_BYTES:
            begun = talk.clock()
            await asyncio.sleep(0)
            talk.own_s -= talk.clock() - begun

    async def _take(self, answer: Answer) -> None:
        if not 200 <= answer.status < 300:
            raise AttemptFailed(await self._refusal(answer), answered=True)
        kind = (answer.header(b"content-type") or b"").lower()
        if b"html" in kind:
            raise AttemptFailed(await self._refusal(answer), answered=True)
        streamed = b"event-stream" in kind or (b"json" not in kind and self._talk.stream)
        if self._talk.stream:
            if streamed:
                await self._stream(answer)
            else:
                await self._replay(answer)
        elif streamed:
            await self._fold(answer)
        else:
            await self._whole(answer)

    async def _refusal(self, answer: Answer) -> Failure:
        try:
            body = await answer.read_all(MAX_ERROR_BYTES)
        except TransportError:
            body = b""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
        status = answer.status if answer.status >= 300 else 502
        found = decode_error(
            status,
            headers,
            body,
            codes=self._dialect.error_codes,
            reset_utc_offset_h=self._dialect.reset_utc_offset_h,
            now=self._wall(),
        )
        if found.code in ("auth", "permission"):
            # Not to be taken for our own refusal of the client's token.
            return failure(
                found.code,
                f"{found.message} (said by the provider {self._to.provider!r} about its key)",
                http_status=status,
                upstream_code=found.upstream_code,
            )
        return found

    # --- a stream for the client

    async def _stream(self, answer: Answer) -> None:
        leg = self._leg()
        pump = Pump(
            self._talk,
            leg,
            answer,
            flow=self._talk.flow,
            commit=lambda: self._commit(answer),
            failure_of=self._failure_of,
        )
        self._talk.leg = leg
        try:
            await pump.run()
        except asyncio.CancelledError:
            leg.leave()
            raise
        finally:
            self._note(leg)

    def _leg(self) -> Leg:
        if not self._through:
            return Translation(self._decoder(), self._client_encoder())
        asked = self._talk.model
        rewriter = ModelRewriter(self._to.wire, asked) if asked != self._to.upstream_model else None
        return PassThrough(self._to.wire, UsageMeter(self._to.wire, dialect=self._dialect), rewriter)

    def _decoder(self) -> translate.StreamDecoder:
        return translate.stream_decoder(
            self._to.wire,
            dialect=self._dialect,
            tools=self._tools,
            id_seed=self._talk.response_id,
            recall=self._talk.recall,
        )

    def _client_encoder(self) -> StreamEncoder:
        talk = self._talk
        if talk.encoder is None or not talk.committed:
            talk.encoder = translate.stream_encoder(
                talk.wire,
                request=talk.decoded(),
                tools=self._tools,
                response_id=talk.response_id,
                created_at=talk.created_at,
            )
        return talk.encoder

    async def _commit(self, answer: Answer) -> None:
        talk = self._talk
        talk.committed = True
        shown = shown_headers(answer.headers) if self._through else []
        await send_head(talk.send, talk.incoming, 200, [*_STREAM_HEADERS, *shown])

    async def _replay(self, answer: Answer) -> None:
        """A JSON answer to a client that wants a stream."""
        events = self._events_of(await answer.read_all(MAX_ANSWER_BYTES))
        leg = Translation(self._decoder(), self._client_encoder())
        out = leg.replay(events)
        self._note(leg)
        if leg.failure is not None and not leg.content:
            raise AttemptFailed(leg.failure, answered=True)
        self._talk.failure = leg.failure
        self._talk.first_byte_at = self._talk.clock()
        if not self._talk.committed:
            await self._commit(answer)
        self._talk.departure.settle()
        await self._talk.send({"type": "http.response.body", "body": out})

    # --- one body for the client

    async def _whole(self, answer: Answer) -> None:
        body = await answer.read_all(MAX_ANSWER_BYTES)
        at = self._talk.clock()
        events = self._events_of(body)
        if self._through and not _is_stream(body):
            self._check(events)
            asked = self._talk.model
            out = body if asked == self._to.upstream_model else splice_model(body, asked)
        else:
            out = self._folded(events)
        headers = [*_JSON_HEADERS, *(shown_headers(answer.headers) if self._through else [])]
        await self._reply(headers, out, at)

    async def _fold(self, answer: Answer) -> None:
        """A stream to a client that wants one body."""
        decoder = self._decoder()
        events: list[Event] = []
        while piece := await answer.read():
            events += decoder.feed(piece)
            if decoder.finished:
                break
        else:
            events += decoder.eof()
        at = self._talk.clock()
        if not answer.complete:
            answer.drain()
        await self._reply(_JSON_HEADERS, self._folded(events), at)

    def _events_of(self, body: bytes) -> list[Event]:
        if _is_stream(body):
            decoder = self._decoder()
            return decoder.feed(body) + decoder.eof()
        return translate.decode_body(
            self._to.wire,
            body,
            dialect=self._dialect,
            tools=self._tools,
            id_seed=self._talk.response_id,
            recall=self._talk.recall,
        )

    def _folded(self, events: list[Event]) -> bytes:
        self._check(events)
        return translate.encode_body(
            self._talk.wire,
            events,
            request=self._talk.decoded(),
            tools=self._tools,
            response_id=self._talk.response_id,
            created_at=self._talk.created_at,
        )

    def _check(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Fail):
                raise AttemptFailed(event.failure, answered=True)
            if isinstance(event, Usage):
                self._talk.usage = event

    async def _reply(self, headers: Headers, out: bytes, at: float) -> None:
        talk = self._talk
        talk.committed = True
        talk.first_byte_at = talk.clock()
        talk.departure.settle()
        await send_whole(talk.send, talk.incoming, 200, headers, out)
        talk.own_s += talk.clock() - at

    def _note(self, leg: Leg) -> None:
        self._talk.leg = None
        self._talk.usage = leg.usage or self._talk.usage
        self._talk.said += leg.said

    def _failure_of(self, error: TransportError) -> Failure:
        code: FailureCode = "upstream"
        if error.code in ("timeout", "truncated"):
            code = error.code  # pyright: ignore[reportAssignmentType]
        return failure(code, f"{self._to.provider}: {error.message}")


def _is_stream(body: bytes) -> bool:
    """Whether a body that was not labelled as a stream is one all the same, as small proxies send them."""
    return body[:64].lstrip(b"\xef\xbb\xbf\r\n ").startswith((b"data:", b"event:", b":"))


def _renamed(entry: ToolEntry) -> bool:
    tool = entry.tool
    return entry.wrapped or tool.namespace is not None or entry.upstream_name != tool.name
