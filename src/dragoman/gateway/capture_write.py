"""Turn a tape into a recording: redact everything, then lay it out as the file has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from dragoman import __version__

from .capture_file import Asked, Capture, Fault, Given, Sent, header_list, text_of
from .capture_redact import Redactor
from .capture_tape import Staged, Tape, TapedAnswer, TapedRequest
from .keys import Key
from .routes import Route


def known_secrets(keys: Mapping[str, Iterable[Key]]) -> list[bytes]:
    """The secrets of all keys."""
    return [key.secret.encode() for each in keys.values() for key in each if key.secret]


def develop(tape: Tape, *, breathe: Callable[[], None] = lambda: None) -> Capture:
    """The recording of an exchange.

    Args:
        tape: what was noted.
        breathe: called between short pieces of work.
    """
    incoming = tape.talk.incoming
    known = known_secrets(tape.means.keys)
    if shown := incoming.shown_token:
        known.append(shown.encode("latin-1"))
    redactor = Redactor(known, breathe=breathe)
    headers = list(incoming.headers.items())
    redactor.read_headers(headers)
    redactor.note_query(incoming.query)
    redactor.read(tape.talk.body)
    for request in tape.requests:
        redactor.read_headers(list(request.sent.headers))
        redactor.read(request.sent.body)
        if request.answer is not None:
            redactor.read_headers(request.answer.headers)
            redactor.read(_body(request.answer))
    if tape.answer is not None:
        redactor.read(_body(tape.answer))
    if tape.staged.route is not None:
        redactor.read_headers(_route_headers(tape.staged.route))

    started = incoming.started
    row = tape.row
    asked = Asked(
        method=incoming.method,
        path=incoming.path,
        query=redactor.redacted(incoming.query).decode("latin-1"),
        headers=header_list(redactor.redacted_headers(headers)),
        repeated=[name.decode("latin-1") for name in sorted(incoming.repeated)],
        body=text_of(redactor.redacted(tape.talk.body)),
    )
    stage = _stage(tape, redactor)
    return Capture(
        dragoman=__version__,
        id=incoming.id,
        at=round(incoming.at, 3),
        client=incoming.client_agent,
        client_wire=tape.talk.wire,
        model=tape.talk.model[:200],
        provider=row.provider if row else "",
        upstream_model=row.upstream_model if row else "",
        upstream_wire=row.upstream_wire if row else None,
        stream=tape.talk.stream,
        status=incoming.status,
        outcome=row.outcome if row else "failed",
        failure=row.failure if row else None,
        total_ms=row.total_ms if row else 0.0,
        incomplete=tape.cut,
        ended=tape.ended,
        request=asked,
        upstream=[_sent(request, redactor, started) for request in tape.requests],
        answer=None if tape.answer is None else _given(tape.answer, redactor, started),
        stage=stage,
        redacted=redactor.count,
    )


def _sent(request: TapedRequest, redactor: Redactor, started: float) -> Sent:
    sent, fault = request.sent, request.fault
    url = f"{sent.origin}{sent.target}".encode("latin-1", "replace")
    return Sent(
        at_ms=_ms(request.at - started),
        method=sent.method,
        url=redactor.redacted(url).decode("latin-1"),
        headers=header_list(redactor.redacted_headers(list(sent.headers))),
        body=text_of(redactor.redacted(sent.body)),
        answer=None if request.answer is None else _given(request.answer, redactor, started),
        end=request.end,
        fault=None
        if fault is None
        else Fault(fault.code, redactor.redacted(fault.message.encode()).decode("utf-8", "replace")),
    )


def _given(answer: TapedAnswer, redactor: Redactor, started: float) -> Given:
    return Given(
        at_ms=_ms(answer.at - started),
        status=answer.status,
        headers=header_list(redactor.redacted_headers(answer.headers)),
        body=text_of(redactor.redacted(_body(answer))),
        pieces=[(_ms(at - started), len(piece)) for at, piece in answer.pieces],
    )


def _stage(tape: Tape, redactor: Redactor) -> dict[str, Any]:
    """Everything else the exchange was given, redacted as a whole."""
    staged, talk = tape.staged, tape.talk
    token = talk.incoming.token
    route = staged.route
    places = {(each.provider, each.upstream_model) for each in (route, *route.fallbacks)} if route else set()
    stage: dict[str, Any] = {
        "response_id": talk.response_id,
        "created_at": talk.created_at,
        "silence_s": talk.silence_s,
        "embedded_url": tape.means.embedded_url,
        "token": None if token is None else {"models": token.models, "limited": not token.limits.unlimited},
        "route": None if route is None else _plain_route(route, redactor),
        "nearest": staged.nearest,
        "learned": [
            [*place, msgspec.to_builtins(dialect)]
            for place, dialect in staged.learned.items()
            if place in places
        ],
        "keys": {name: [_plain_key(key, redactor) for key in keys] for name, keys in staged.keys.items()},
        "leases": [_lease(each, staged) for each in staged.leases],
        "added": {name: header_list(list(headers)) for name, headers in staged.added.items()},
        "refused": None if staged.refused is None else msgspec.to_builtins(staged.refused),
        "walls": staged.walls,
        "recalled": {
            call: msgspec.structs.replace(
                reasoning,
                text=redactor.redacted(reasoning.text),
            )
            for call, reasoning in staged.recalled.items()
        },
    }
    return msgspec.json.decode(redactor.redacted(msgspec.json.encode(stage)))


def _plain_route(route: Route, redactor: Redactor) -> dict[str, Any]:
    """A route without what belongs to this machine or says nothing to a replay."""
    plain = msgspec.to_builtins(
        msgspec.structs.replace(route, ca_file=None, price=None, fallbacks=(), steps=())
    )
    headers = header_list(redactor.redacted_headers(_route_headers(route)))
    plain["headers"] = [[name, value] for (name, _), (_, value) in zip(route.headers, headers, strict=True)]
    plain["fallbacks"] = [_plain_route(each, redactor) for each in route.fallbacks]
    return plain


def _plain_key(key: Key, redactor: Redactor) -> dict[str, Any]:
    secret = None if key.secret is None else redactor.mask(key.secret.encode()).decode()
    return {"label": key.label, "secret": secret}


def _lease(lent: Any, staged: Staged) -> Any:
    if lent is None:
        return None
    if isinstance(lent, Key):
        return {"key": staged.keys[lent.provider].index(lent)}
    return {"failure": msgspec.to_builtins(lent)}


def _route_headers(route: Route) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in route.headers]


def _body(answer: TapedAnswer) -> bytes:
    return b"".join(piece for _, piece in answer.pieces)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
