"""A client's request from its body to its usage row: who is asked, in which order, what is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from dragoman.catalog.tariffs import PerMillion, cost_usd
from dragoman.config.secrets import describe_key
from dragoman.wire.dialect import Dialect
from dragoman.wire.encode_error import encode_error
from dragoman.wire.errors import BadRequest, Failure, FailureCode, failure
from dragoman.wire.events import Usage
from dragoman.wire.translate import peek_request

from .attempt import Attempt
from .budgets import Budgets
from .conversation import Conversation
from .counting import count_text, count_tokens
from .keys import Key, KeysExhausted, KeyStates
from .legs import failure_frame
from .pump import AttemptFailed
from .quota_headers import QuotaHeaders
from .replies import Refusal, send_error_answer, send_refusal
from .routes import Route, RouteTable, UnknownModel
from .spool import Outcome, UsageRow, UsageSource
from .tariffs import PriceSource, Tariffs
from .transport import Transport

# What another provider may do better: the request is fine, this place is not.
_ELSEWHERE: frozenset[FailureCode] = frozenset(
    {
        "rate",
        "quota_window",
        "auth",
        "permission",
        "not_found",
        "overloaded",
        "upstream",
        "timeout",
        "truncated",
    }
)
# What the same place may do better at once: a connection that died before it said anything.
_SHORT_WAIT_S = 3.0
_CODEX_EVENTS: frozenset[FailureCode] = frozenset(
    {"context", "auth", "permission", "not_found", "upstream", "timeout", "truncated"}
)
_MAX_ASKED = 6
GATEWAY_DIED = "gateway_died"
"""The failure of a call whose gateway was killed; the ledger alone knows of it."""
# For a guess at what a request may use of its budget: on the safe side of what models count.
_BYTES_PER_TOKEN = 4
_LONG_ANSWER_TOKENS = 16_000

# The exact refusals of DeepSeek and Kimi when earlier reasoning is missing from a tool turn.
_WANTS_REASONING = re.compile(
    r"reasoning_content.{0,80}(must be passed back|is missing)", re.IGNORECASE | re.S
)


@dataclass(frozen=True, slots=True)
class Means:
    """What every exchange of a gateway works with.

    Attributes:
        routes: who knows which model.
        keys: each provider's keys.
        key_states: what is known about them.
        budgets: what limited tokens have used.
        tariffs: what tokens cost.
        quota: what providers say of their windows.
        transport: what carries requests.
        learned: quirks seen at a provider and model, kept beyond a reload.
        embedded_url: where the embedded model answers, "" when it cannot.
        clock: monotonic seconds.
        wall: Unix seconds.
        new_id: fresh letters and digits.
        silence_s: how long a client hears nothing before a sign of life.
        note: takes a log line (event and fields).
    """

    routes: RouteTable
    keys: Mapping[str, tuple[Key, ...]]
    key_states: KeyStates
    budgets: Budgets
    tariffs: Tariffs
    quota: QuotaHeaders
    transport: Transport
    learned: dict[tuple[str, str], Dialect]
    embedded_url: str
    clock: Callable[[], float]
    wall: Callable[[], float]
    new_id: Callable[[], str]
    silence_s: float
    note: Callable[..., None]


class Exchange:
    """Carries one request to whoever can answer it.

    Args:
        means: what it works with.
        talk: the request.
        record: takes the usage row.
    """

    def __init__(self, means: Means, talk: Conversation, record: Callable[[UsageRow], None]) -> None:
        self._means = means
        self._talk = talk
        self._record = record
        self._route: Route | None = None
        self._key = ""
        self._asked = 0
        self._inside_200 = False

    async def run(self) -> None:
        """Answer the client.

        Raises:
            ClientLeft: it hung up; the row is written all the same.
        """
        outcome: Outcome = "failed"
        self._talk.so_far = self._so_far
        try:
            outcome = await self._answer()
        except asyncio.CancelledError:
            outcome = "client_left"
            raise
        finally:
            self._write_row(outcome)

    async def _answer(self) -> Outcome:
        talk = self._talk
        try:
            peek = peek_request(talk.wire, talk.body)
            talk.stream = peek.stream
            talk.model = peek.model
            token = talk.incoming.token
            if token is not None and not token.allows_model(peek.model):
                return await self._refuse_model(peek.model)
            route = self._means.routes.resolve(peek.model, talk.wire)
            if len(talk.body) > route.max_body_bytes:
                limit_mb = route.max_body_bytes / (1 << 20)
                return await self._refuse(
                    Refusal(
                        413, "body_too_large", f"{route.provider!r} takes no request over {limit_mb:g} MiB."
                    )
                )
            if not route.known:
                self._means.note("unknown_model", model=peek.model[:100], provider=route.provider)
            if (over := await self._over_budget(route)) is not None:
                self._route = route  # for its row: control looks up prices that were missing
                return await self._refuse_budget(over)
            found = await self._ask_in_turn(route)
        except BadRequest as error:
            talk.failure = error.failure
            await self._tell(error.failure)
            return "refused"
        except UnknownModel as error:
            talk.failure = failure("not_found", f"{error.message} ({error.hint})")
            await self._tell(talk.failure)
            return "refused"
        if found is not None:
            talk.failure = found
            await self._tell(found)
            return "failed"
        return "ok" if talk.failure is None else "failed"

    async def _over_budget(self, route: Route) -> Failure | None:
        incoming, budgets = self._talk.incoming, self._means.budgets
        token = incoming.token
        if token is None or token.limits.unlimited:
            return None
        price, _ = self._means.tariffs.price_of(route, incoming.at)
        most = Usage(
            input_tokens=len(self._talk.body) // _BYTES_PER_TOKEN,
            output_tokens=route.limits.max_output_tokens or _LONG_ANSWER_TOKENS,
        )
        await budgets.room(token, incoming.id, most, price)
        return budgets.admit(token, price)

    async def _refuse_budget(self, over: Failure) -> Outcome:
        """Codex ends a turn at an exhausted quota with words of its own; these it shows."""
        self._talk.failure = over
        codex = self._talk.incoming.client == "codex"
        await self._tell(failure("permission", over.message) if codex else over)
        return "refused"

    async def _refuse_model(self, model: str) -> Outcome:
        message = f"This token may not ask for the model {model[:100]!r}."
        self._talk.failure = failure("permission", message)
        if self._talk.stream and self._better_inside(self._talk.failure):
            await self._tell(self._talk.failure)
            return "refused"
        return await self._refuse(Refusal(403, "model_not_allowed", message))

    async def _ask_in_turn(self, first: Route) -> Failure | None:
        """Ask the route and its fallbacks until one has answered; the first refusal that counts otherwise."""
        told: Failure | None = None
        for route in (first, *first.fallbacks):
            if told is not None and self._talk.committed and route.native != first.native:
                break  # the stream was begun in a way the other cannot go on with
            self._route = route
            self._talk.incoming.added = self._means.quota.headers_for(self._talk.incoming, route.provider)
            found = await self._ask(route)
            if found is None:
                return None
            told = told or found
            if found.code not in _ELSEWHERE:
                return found
            if route.fallbacks or route is not first:
                self._means.note("fallback", provider=route.provider, code=found.code)
        return told

    async def _ask(self, route: Route) -> Failure | None:
        """Ask one provider with as many keys as it takes; None when it has answered."""
        spare: set[str] = set()
        told: Failure | None = None
        patient = True
        while self._asked < _MAX_ASKED:
            keys = self._means.keys.get(route.provider, ())
            if not keys:
                return told or _no_key(route)
            try:
                lease = await self._means.key_states.lease(
                    keys, session=self._session(), spare=frozenset(spare)
                )
            except KeysExhausted as error:
                return told or error.failure
            self._key = lease.key.label
            try:
                await self._try(route, lease.key)
            except AttemptFailed as error:
                told = error.failure
                self._inside_200 = error.answered and told.http_status is None
                lease.failed(told)
                if self._learn(route, told):
                    continue
                if told.code in ("rate", "quota_window", "auth"):
                    spare.add(lease.key.id)
                    if len(spare) < len(keys):
                        continue
                if not (patient and await self._patience(told, answered=error.answered)):
                    return told
                patient = False
                spare.clear()
            else:
                lease.succeeded()
                return None
            finally:
                lease.release()
        return told

    async def _try(self, route: Route, key: Key) -> None:
        base = self._means.embedded_url if route.embedded else ""
        if route.embedded and not base:
            raise AttemptFailed(failure("upstream", "The embedded model is not at hand here."))
        self._asked += 1
        attempt = Attempt(
            self._talk,
            route,
            secret=key.secret,
            transport=self._means.transport,
            wall=self._means.wall,
            base=base,
            dialect=self._means.learned.get((route.provider, route.upstream_model)),
        )
        await attempt.run()

    def _learn(self, route: Route, told: Failure) -> bool:
        """Whether the refusal taught us a quirk that makes asking again worth while, once."""
        place = (route.provider, route.upstream_model)
        if (
            told.code != "invalid"
            or place in self._means.learned
            or not _WANTS_REASONING.search(told.message)
        ):
            return False
        self._means.learned[place] = msgspec.structs.replace(
            route.dialect, reasoning_required=True, reasoning_replay="tool_turns"
        )
        self._means.note("learned_reasoning_required", provider=route.provider, model=route.upstream_model)
        return True

    async def _patience(self, told: Failure, *, answered: bool) -> bool:
        """Wait out a short refusal where the client would not: Codex gives up at a 429, and nobody is served
        by an error for a connection that died before it said a word."""
        if not answered and told.code in ("upstream", "truncated") and told.retryable:
            await asyncio.sleep(0.1)
            return True
        wait_s = told.retry_after_s
        short = told.code == "rate" and wait_s is not None and wait_s <= _SHORT_WAIT_S
        if short and self._talk.incoming.client == "codex" and not self._talk.committed:
            await asyncio.sleep(wait_s or 0.0)
            return True
        return False

    def _session(self) -> str:
        session = self._talk.incoming.session
        return f"{self._talk.wire}:{session}" if session else ""

    # --- telling the client

    async def _tell(self, found: Failure) -> None:
        talk = self._talk
        if not talk.committed:
            answer = encode_error(
                talk.wire,
                found,
                talk.incoming.id,
                context_window=self._route.context_window if self._route is not None else None,
                now=self._means.wall(),
                in_stream=talk.stream and self._better_inside(found),
            )
            talk.departure.settle()
            await send_error_answer(talk.send, talk.incoming, answer)
            return
        encoder = talk.encoder
        out = encoder.fail(found) if encoder is not None else failure_frame(talk.wire, found)
        talk.departure.settle()
        await talk.send({"type": "http.response.body", "body": out})

    def _better_inside(self, found: Failure) -> bool:
        """Whether a Responses client is better told by a `response.failed` event than by a status.

        What an upstream said inside a 200 has no status of its own. Codex 0.169 multiplies its two kinds of
        retries for a 5xx, and repeats a 401, 403 and 404, but not their events. At a 429 it tells its user
        nothing but the number, so a wait that is too long to sit out is better said as an event as well; and
        it ends the turn at a 429 that names no wait, but repeats the event, while the key has its rest.
        """
        if self._inside_200:
            return True
        hopeless = found.code in ("rate", "overloaded") and not found.retryable
        unsaid = found.code == "rate" and found.retry_after_s is None
        return self._talk.incoming.client == "codex" and (hopeless or unsaid or found.code in _CODEX_EVENTS)

    async def _refuse(self, refusal: Refusal) -> Outcome:
        self._talk.departure.settle()
        await send_refusal(self._talk.send, self._talk.incoming, refusal)
        return "refused"

    # --- the row

    def _usage(self, outcome: Outcome) -> tuple[Usage | None, UsageSource]:
        """What it cost: as the provider says, else an estimate for a whole answer, else nothing."""
        talk = self._talk
        if talk.usage is not None:
            return talk.usage, "reported"
        if outcome != "ok" or talk.request is None or not talk.said:
            return None, "none"
        return Usage(
            input_tokens=count_tokens(talk.request), output_tokens=count_text(talk.said)
        ), "estimated"

    def _unsettled(self, outcome: Outcome) -> Usage | None:
        """A guess at what a client that left early has used of its budget: a limit that
        hanging up gets around would be none."""
        if outcome != "client_left" or not self._asked:
            return None
        talk = self._talk
        return Usage(input_tokens=len(talk.body) // _BYTES_PER_TOKEN, output_tokens=count_text(talk.said))

    def _price(self, usage: Usage | None) -> tuple[PerMillion | None, PriceSource]:
        """The tariff of the minute the request came in."""
        if usage is None or self._route is None:
            return None, ""
        return self._means.tariffs.price_of(self._route, self._talk.incoming.at, usage.input_tokens)

    def _write_row(self, outcome: Outcome) -> None:
        incoming = self._talk.incoming
        usage, source = self._usage(outcome)
        price, why = self._price(usage)
        if incoming.token is not None:
            spent = usage or self._unsettled(outcome)
            self._means.budgets.spend(incoming.token, spent, price, request=incoming.id)
        self._record(self._row(outcome, usage, source, price, why))

    def _so_far(self) -> UsageRow:
        """The row of a call whose gateway is killed now; see `open_calls`."""
        talk = self._talk
        usage = (talk.leg.usage_so_far() if talk.leg is not None else None) or talk.usage
        price, why = self._price(usage)
        row = self._row("failed", usage, "reported" if usage is not None else "none", price, why)
        return msgspec.structs.replace(row, failure=GATEWAY_DIED)

    def _row(
        self,
        outcome: Outcome,
        usage: Usage | None,
        source: UsageSource,
        price: PerMillion | None,
        why: PriceSource,
    ) -> UsageRow:
        talk, incoming, route = self._talk, self._talk.incoming, self._route
        now = talk.finished_at or talk.clock()
        token = incoming.token
        return UsageRow(
            id=incoming.id,
            at=round(incoming.at, 3),
            client=incoming.client_agent,
            session=incoming.session,
            turn=incoming.turn,
            token=token.id[:16] if token is not None else "",
            run=token.run if token is not None else None,
            client_wire=talk.wire,
            upstream_wire=route.wire if route is not None else None,
            model=talk.model[:200],
            provider=route.provider if route is not None else "",
            upstream_model=route.upstream_model if route is not None else "",
            key=self._key,
            stream=talk.stream,
            input_tokens=usage.input_tokens if usage is not None else 0,
            cache_read_tokens=usage.cache_read_tokens if usage is not None else 0,
            cache_write_tokens=usage.cache_write_tokens if usage is not None else 0,
            output_tokens=usage.output_tokens if usage is not None else 0,
            reasoning_tokens=usage.reasoning_tokens if usage is not None else 0,
            usage_source=source,
            cost_usd=None if usage is None or price is None else round(cost_usd(usage, price), 9),
            price_source=why,
            status=incoming.status,
            outcome=outcome,
            failure=talk.failure.code if talk.failure is not None else None,
            ttfb_ms=_ms(talk.first_byte_at - incoming.started) if talk.first_byte_at else None,
            total_ms=_ms(now - incoming.started),
            gateway_ms=_ms(talk.own_s),
            retries=max(self._asked - 1, 0),
            shims=talk.shims,
        )


def _no_key(route: Route) -> Failure:
    places = ", ".join(map(describe_key, route.keys))
    looked = f" (looked in: {places})" if places else ""
    message = (
        f"There is no usable key for the provider {route.provider!r}{looked}; `dragoman doctor` says why."
    )
    return failure("auth", message)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
