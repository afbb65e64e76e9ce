"""`/api/v1/tokens`: mint, list, revoke. Files do the work, so revoking works with us asleep too."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from dragoman.config.paths import Home
from dragoman.config.tokens import Scope, TokenLimits, list_tokens, mint, revoke
from dragoman.control.answers import JsonResponse
from dragoman.control.bodies import BadRequest, read_body
from dragoman.control.describe import describe_token


class LimitsBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a token may use in all; null is no limit.

    Attributes:
        requests: model calls.
        tokens: input plus output tokens.
        usd: money.
    """

    requests: int | None = None
    tokens: int | None = None
    usd: float | None = None


class TokenBody(msgspec.Struct, forbid_unknown_fields=True):
    """A token to mint.

    Attributes:
        scope: `data` (the default), `run` or `control`.
        models: the only models it may ask for; null is all.
        limits: what it may use in all.
        expires_in_s: seconds until it ends; null is never.
        run: the run it is made for; needed for scope `run`.
        label: a name for people.
    """

    scope: Scope = "data"
    models: list[str] | None = None
    limits: LimitsBody = msgspec.field(default_factory=LimitsBody)
    expires_in_s: float | None = None
    run: str | None = None
    label: str | None = None


def token_routes(home: Home, *, wall: Callable[[], float] = time.time) -> list[Route]:
    """The routes of tokens.

    Args:
        home: where tokens are kept.
        wall: seconds since the epoch.
    """

    async def create(request: Request) -> JsonResponse:
        """Make a token; its secret is told this once."""
        body = await read_body(request, TokenBody)
        _check(body)
        now = wall()
        minted = mint(
            home,
            body.scope,
            models=None if body.models is None else tuple(body.models),
            limits=TokenLimits(body.limits.requests, body.limits.tokens, body.limits.usd),
            expires_at=None if body.expires_in_s is None else now + body.expires_in_s,
            run=body.run,
            label=body.label,
            now=now,
        )
        return JsonResponse(
            {"secret": minted.secret, "token": describe_token(minted.record, now)}, status_code=201
        )

    async def show_all(request: Request) -> JsonResponse:
        """Tokens, without their secrets."""
        now = wall()
        return JsonResponse({"tokens": [describe_token(record, now) for record in list_tokens(home)]})

    async def end(request: Request) -> JsonResponse:
        """End a token; gateways refuse it within half a second."""
        return JsonResponse({"revoked": describe_token(revoke(home, request.path_params["id"]), wall())})

    return [
        Route("/api/v1/tokens", create, methods=["POST"]),
        Route("/api/v1/tokens", show_all, methods=["GET"]),
        Route("/api/v1/tokens/{id}", end, methods=["DELETE"]),
    ]


def _check(body: TokenBody) -> None:
    if body.scope == "run" and not body.run:
        raise BadRequest("a token of scope run names its run")
    if body.expires_in_s is not None and not 0 < body.expires_in_s < 1e10:
        raise BadRequest("expires_in_s is a number of seconds over 0")
    limits = (body.limits.requests, body.limits.tokens, body.limits.usd)
    if any(limit is not None and limit < 0 for limit in limits):
        raise BadRequest("a limit is 0 or more")
