from __future__ import annotations

import asyncio

import httpx
import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dragoman.config.tokens import find, list_tokens
from dragoman.control.activity import Activity
from dragoman.control.app import control_app
from dragoman.gateway.spool import UsageRow


def test_status_is_what_the_daemon_knows_and_since_when_control_is_up(ask, home):
    assert ask("GET", "/api/v1/status").json() == {
        "url": "http://127.0.0.1:4891",
        "children": [],
        "home": str(home.state),
        "control_since": 1_700_000_000.0,
        "control_version": "1.2.3",
    }


def test_what_is_not_there_is_one_json_error(ask):
    missing = ask("GET", "/api/v1/nothing")
    assert (missing.status_code, missing.json()["error_code"]) == (404, "not_found")
    wrong = ask("DELETE", "/api/v1/status")
    assert (wrong.status_code, wrong.json()["error_code"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]


def test_a_mistake_of_ours_is_a_plain_500_that_tells_nothing(control, secret):
    async def broken(request: Request) -> Response:
        raise ValueError("a prompt nobody else may read")

    app = control_app(control, [Route("/api/v1/broken", broken)])

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/api/v1/broken", headers={"x-api-key": secret})

    answer = asyncio.run(run())
    assert (answer.status_code, answer.json()["error_code"]) == (500, "internal")
    assert "prompt" not in answer.text


def test_a_minted_token_is_known_at_once_and_its_secret_is_shown_once(ask, home):
    body = {
        "scope": "run",
        "run": "r1",
        "models": ["m"],
        "limits": {"requests": 5, "usd": 1.5},
        "expires_in_s": 60,
        "label": "worker",
    }
    answer = ask("POST", "/api/v1/tokens", body)
    assert answer.status_code == 201
    secret, token = answer.json()["secret"], answer.json()["token"]
    assert token | {"id": ""} == {
        "id": "",
        "scope": "run",
        "label": "worker",
        "models": ["m"],
        "limits": {"requests": 5, "tokens": None, "usd": 1.5},
        "created_at": 1_700_000_000.0,
        "expires_at": 1_700_000_060.0,
        "expired": False,
        "run": "r1",
    }
    record = find(home, secret, now=1_700_000_001.0)
    assert record is not None
    assert (record.id, record.allows_model("other")) == (token["id"], False)
    listed = ask("GET", "/api/v1/tokens")
    assert token in listed.json()["tokens"]
    assert secret not in listed.text


def test_a_token_is_revoked_by_the_start_of_its_id(ask, home):
    token = ask("POST", "/api/v1/tokens", {}).json()["token"]
    assert token["scope"] == "data"
    assert ask("DELETE", f"/api/v1/tokens/{token['id'][:10]}").json()["revoked"] == token
    assert token["id"] not in {record.id for record in list_tokens(home)}
    again = ask("DELETE", f"/api/v1/tokens/{token['id'][:10]}")
    assert (again.status_code, again.json()["error_code"]) == (404, "unknown_token")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"scope": "root"}, "scope"),
        ({"scoop": "data"}, "scoop"),
        ({"limits": {"request": 1}}, "request"),
        ({"scope": "run"}, "names its run"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"limits": {"usd": -1}}, "limit"),
        ([], "object"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_what_is_wrong(body, words: str, ask, home, secret):
    before = list_tokens(home)
    answer = ask("POST", "/api/v1/tokens", body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "bad_request")
    assert words in answer.json()["error"]
    assert list_tokens(home) == before


@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b"\xff\xfe", 400), (b" " * (1 << 21), 413)])
def test_a_body_that_is_not_json_or_too_large_is_refused(content: bytes, status: int, ask):
    assert ask("POST", "/api/v1/tokens", content=content).status_code == status


def test_usage_adds_up_what_a_run_cost(ask, home):
    rows = [("a", "r1", 10), ("b", "r1", 20), ("c", "r2", 40)]
    lines = [
        msgspec.json.encode(
            UsageRow(
                id=row_id,
                at=1.0,
                client="claude-cli/2",
                client_wire="messages",
                model="m",
                provider="p",
                run=run,
                input_tokens=tokens,
                usage_source="reported",
                outcome="ok",
                status=200,
            )
        )
        for row_id, run, tokens in rows
    ]
    (home.spool / "1-1-x.jsonl").write_bytes(b"\n".join(lines) + b"\n{torn")
    assert ask("GET", "/api/v1/usage?run=r1").json()["total"]["input_tokens"] == 30
    everything = ask("GET", "/api/v1/usage").json()
    assert (everything["total"]["requests"], everything["by_model"][0]["model"]) == (3, "m")


def test_idle_time_counts_from_the_end_of_the_last_request_and_never_during_one():
    now = 100.0
    activity = Activity(clock=lambda: now)

    async def run() -> None:
        nonlocal now
        answering = asyncio.Event()

        async def app(scope, receive, send) -> None:
            await answering.wait()

        now = 105.0
        assert activity.idle_s() == 5.0
        request = asyncio.ensure_future(activity.watch(app)({}, None, None))
        await asyncio.sleep(0)
        now = 200.0
        assert activity.idle_s() == 0.0
        answering.set()
        await request
        now = 203.0
        assert activity.idle_s() == 3.0

    asyncio.run(run())


def test_a_room_with_work_in_progress_keeps_control_awake():
    now, working = 100.0, True
    activity = Activity(clock=lambda: now)
    activity.stay_while(lambda: working)
    now = 150.0
    assert activity.idle_s() == 0.0
    working = False
    now = 151.0
    assert activity.idle_s() == 1.0
