"""`/api/v1/openapi.json`: every route of the control API, read from the routes themselves.

A route's text is its handler's docstring. What a body must look like is the struct it is read into, where
`BODIES` names one; what an answer looks like, where `ANSWERS` does. A room that adds routes adds them there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dragoman.control.answers import JsonResponse
from dragoman.control.captures import CaptureBody
from dragoman.control.jobs import CleanupBody
from dragoman.control.quota import Quota
from dragoman.control.retention import Sweep
from dragoman.control.terminal import InputBody, SizeBody
from dragoman.control.tokens import TokenBody
from dragoman.gateway.capture_file import Capture, Summary
from dragoman.gateway.capture_order import OrderState
from dragoman.jobs.polling import PollAdvice
from dragoman.jobs.request import JobRequest
from dragoman.jobs.run_logs import RunBrief
from dragoman.jobs.service import Removed
from dragoman.jobs.view import JobView
from dragoman.ledger.summary import UsageSummary

PREFIX = "/api/v1"
_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


class Failure(msgspec.Struct, frozen=True):
    """Every error's shape."""

    error: str
    error_code: str
    next: str | None


class _Jobs(msgspec.Struct, frozen=True):
    jobs: list[JobView]


class _Job(msgspec.Struct, frozen=True):
    job: JobView


class _Submitted(msgspec.Struct, frozen=True):
    job: JobView
    reuse_decision: str
    deduped: bool
    queued_behind: str | None


class _Polled(msgspec.Struct, frozen=True):
    job: JobView
    poll: PollAdvice


class _Events(msgspec.Struct, frozen=True):
    events: list[dict[str, Any]]
    last: int
    ended: bool


class _Cleaned(msgspec.Struct, frozen=True):
    executed: bool
    jobs: list[Removed]


class _Result(msgspec.Struct, frozen=True):
    result: dict[str, Any]


class _Runs(msgspec.Struct, frozen=True):
    runs: list[RunBrief]


class _Workspaces(msgspec.Struct, frozen=True):
    workspaces: list[dict[str, Any]]


class _Captures(msgspec.Struct, frozen=True):
    capture: OrderState
    captures: list[Summary]


class _Capturing(msgspec.Struct, frozen=True):
    capture: OrderState


class _CapturingEnded(msgspec.Struct, frozen=True):
    was_on: bool
    capture: OrderState


class _Tokens(msgspec.Struct, frozen=True):
    tokens: list[dict[str, Any]]


class _Minted(msgspec.Struct, frozen=True):
    secret: str
    token: dict[str, Any]


class _Revoked(msgspec.Struct, frozen=True):
    revoked: dict[str, Any]


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    url: str | None
    pid: int | None = None
    version: str | None = None
    since: float | None = None
    children: list[dict[str, Any]]
    config_error: str | None = None
    home: str
    control_since: float
    control_version: str


class _Workspace(msgspec.Struct, frozen=True):
    workspace: dict[str, Any]
    delta: dict[str, Any]


class _Quotas(msgspec.Struct, frozen=True):
    providers: list[Quota]


class _Sweeps(msgspec.Struct, frozen=True):
    dry_run: bool
    bytes: int
    sweeps: list[Sweep]


class _Sessions(msgspec.Struct, frozen=True):
    sessions: list[dict[str, Any]]


class _Session(msgspec.Struct, frozen=True):
    session: dict[str, Any]


class _Size(msgspec.Struct, frozen=True):
    cols: int
    rows: int
    resized: bool


BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/api/v1/captures"): CaptureBody,
    ("POST", "/api/v1/jobs"): JobRequest,
    ("POST", "/api/v1/jobs/cleanup"): CleanupBody,
    ("POST", "/api/v1/sessions/{session_id}/input"): InputBody,
    ("POST", "/api/v1/sessions/{session_id}/resize"): SizeBody,
    ("POST", "/api/v1/tokens"): TokenBody,
}
ANSWERS: dict[tuple[str, str], Any] = {
    ("GET", "/api/v1/captures"): _Captures,
    ("POST", "/api/v1/captures"): _Capturing,
    ("DELETE", "/api/v1/captures"): _CapturingEnded,
    ("GET", "/api/v1/captures/{id}"): Capture,
    ("GET", "/api/v1/gc"): _Sweeps,
    ("POST", "/api/v1/gc"): _Sweeps,
    ("GET", "/api/v1/jobs"): _Jobs,
    ("POST", "/api/v1/jobs"): _Submitted,
    ("POST", "/api/v1/jobs/cleanup"): _Cleaned,
    ("GET", "/api/v1/jobs/{id}"): _Job,
    ("POST", "/api/v1/jobs/{id}/poll"): _Polled,
    ("POST", "/api/v1/jobs/{id}/cancel"): _Job,
    ("GET", "/api/v1/jobs/{id}/events"): _Events,
    ("GET", "/api/v1/jobs/{id}/result"): _Result,
    ("GET", "/api/v1/runs"): _Runs,
    ("GET", "/api/v1/quota"): _Quotas,
    ("GET", "/api/v1/sessions"): _Sessions,
    ("GET", "/api/v1/sessions/{session_id}"): _Session,
    ("POST", "/api/v1/sessions/{session_id}/resize"): _Size,
    ("GET", "/api/v1/status"): _Status,
    ("GET", "/api/v1/workspaces"): _Workspaces,
    ("GET", "/api/v1/workspaces/{id}"): _Workspace,
    ("GET", "/api/v1/tokens"): _Tokens,
    ("POST", "/api/v1/tokens"): _Minted,
    ("DELETE", "/api/v1/tokens/{id}"): _Revoked,
    ("GET", "/api/v1/usage"): UsageSummary,
}
# Query parameters by route: name, and what it is for.
QUERIES: dict[tuple[str, str], Mapping[str, str]] = {
    ("GET", "/api/v1/jobs"): {
        "status": "only these",
        "type": "query, review or implement",
        "cwd": "only those of the repository this folder belongs to",
        "limit": "how many at most, 20 when left out",
    },
    ("GET", "/api/v1/jobs/{id}"): {"wait_s": "answer when it is over, or after so many seconds (0 to 60)"},
    ("GET", "/api/v1/jobs/{id}/events"): {"after": "number of the last event known", "limit": "at most"},
    ("GET", "/api/v1/jobs/{id}/result"): {"form": "summary for the part a lead reads"},
    ("GET", "/api/v1/runs"): {"status": "only these", "limit": "how many at most"},
    ("GET", "/api/v1/workspaces"): {"trash": "1 for those that were discarded"},
    ("GET", "/api/v1/quota"): {"provider": "only this one", "fresh": "1 to ask it again"},
    ("GET", "/api/v1/usage"): {
        "by": "what is summed up together, model when left out",
        "since": "`2026-01-31`, a moment, or a time ago such as `12h`",
        "until": "as `since`",
        "run": "only these; may be given more than once",
        **dict.fromkeys(("session", "token", "client", "model", "provider", "key"), "only these"),
    },
    ("GET", "/api/v1/events"): {"after": "id of the last event known", "topics": "comma-separated"},
}
# What is no JSON, by path.
MEDIA: dict[str, str] = {
    "/api/v1/events": "text/event-stream",
    "/api/v1/sessions/{session_id}/terminal": "text/event-stream",
}


def openapi_route(routes: Iterable[BaseRoute], version: str) -> Route:
    """The route that describes the others and itself.

    Args:
        routes: all of the control API's.
        version: ours.
    """
    known = [route for route in routes if isinstance(route, Route)]

    async def describe(request: Request) -> Response:
        """This document."""
        return JsonResponse(openapi([*known, own], version))

    own = Route(f"{PREFIX}/openapi.json", describe)
    return own


def openapi(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Describe routes as OpenAPI 3.1.

    Args:
        routes: those below `/api/v1` are described.
        version: ours.
    """
    types = list({id(kind): kind for kind in (*BODIES.values(), *ANSWERS.values(), Failure)}.values())
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if not route.path.startswith(PREFIX):
            continue
        path = _PARAMETER.sub(r"{\1}", route.path)
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(route, path, method, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dragoman control API", "version": version},
        "security": [{"control_token": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {"control_token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, path: str, method: str, schema_of: Mapping[int, Any]) -> dict[str, Any]:
    key = (method, path)
    text = inspect.getdoc(route.endpoint) or ""
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": about, "schema": {"type": "string"}}
        for name, about in QUERIES.get(key, {}).items()
    ]
    failure = {"application/json": {"schema": schema_of[id(Failure)]}}
    answer: Any = schema_of[id(ANSWERS[key])] if key in ANSWERS else {"type": "object"}
    media = MEDIA.get(path, "application/json")
    content = {media: {"schema": answer if media == "application/json" else {"type": "string"}}}
    operation: dict[str, Any] = {
        "summary": text.split("\n")[0] or f"{method} {path.removeprefix(PREFIX)}",
        "parameters": parameters,
        "responses": {
            "2XX": {"description": "done", "content": content},
            "default": {"description": "an error", "content": failure},
        },
    }
    if key in BODIES:
        schema = schema_of[id(BODIES[key])]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation
