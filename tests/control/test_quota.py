"""Windows of a plan are asked for seldom, read as they come, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from dragoman.config.load import parse_config
from dragoman.control.app import control_app
from dragoman.control.bodies import BadRequest
from dragoman.control.quota import QuotaDesk, quota_routes
from dragoman.gateway.incoming import read_head
from dragoman.gateway.quota_headers import QuotaHeaders

NOW = 1_700_000_000.0
CONFIG = """
[gateway]
default_provider = "zai"
[providers.zai]
[providers.deepseek]
"""
# The shape several clients of the account page have recorded in 2026; figures invented.
ANSWER = {
    "code": 200,
    "msg": "Operation successful",
    "success": True,
    "data": {
        "level": "pro",
        "limits": [
            {
                "type": "TIME_LIMIT",
                "unit": 5,
                "number": 1,
                "usage": 1000,
                "currentValue": 250,
                "remaining": 750,
                "percentage": 25,
                "nextResetTime": 1_702_000_000_000,
                "usageDetails": [{"modelCode": "search-prime", "usage": 250}],
            },
            {"type": "TOKENS_LIMIT", "unit": 6, "number": 1, "percentage": 7},
            {
                "type": "TOKENS_LIMIT",
                "unit": 3,
                "number": 5,
                "percentage": 42.5,
                "nextResetTime": 1_700_003_600_000,
            },
        ],
    },
}


class Provider:
    """Answers as told and keeps the questions."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.answer = httpx.Response(200, json=ANSWER)
        self.wrong: Exception | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.wrong is not None:
            raise self.wrong
        return httpx.Response(self.answer.status_code, content=self.answer.content)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def desk(home, provider, clock) -> QuotaDesk:
    return QuotaDesk(
        home,
        lambda: parse_config(CONFIG, {}),
        env={"ZAI_API_KEY": "sk-very-secret"},
        transport=httpx.MockTransport(provider),
        wall=lambda: NOW,
        clock=lambda: clock[0],
    )


def zai(desk: QuotaDesk, **options):
    (found,) = asyncio.run(desk.show("zai", **options))
    return found


def test_windows_are_read_with_their_length_use_and_end(desk, provider):
    found = zai(desk)
    assert (found.status, found.plan, found.at) == ("ok", "pro", NOW)
    assert [(w.name, w.counts, w.used_percent, w.window_minutes, w.resets_at) for w in found.windows] == [
        ("5h", "tokens", 42.5, 300, 1_700_003_600.0),
        ("1w", "tokens", 7.0, 10_080, None),
        ("tools, month", "tools", 25.0, None, 1_702_000_000.0),
    ]
    assert (found.windows[2].used, found.windows[2].limit) == (250, 1000)
    (request,) = provider.asked
    assert str(request.url) == "https://api.z.ai/api/monitor/usage/quota/limit"
    assert request.headers["authorization"] == "Bearer sk-very-secret"


@pytest.mark.parametrize(
    ("usage", "remaining", "percentage", "expected"),
    [
        (200, 600, 25, (200, 800)),  # usage is what was used
        (800, 600, 25, (200, 800)),  # usage is the limit
        (800, 600, 90, (None, None)),  # neither: no numbers are better than wrong ones
    ],
)
def test_what_usage_means_is_decided_by_the_percentage(
    desk, provider, usage, remaining, percentage, expected
):
    limit = {"type": "TOKENS_LIMIT", "usage": usage, "remaining": remaining, "percentage": percentage}
    provider.answer = httpx.Response(200, json={"code": 200, "data": {"limits": [limit]}})
    (window,) = zai(desk).windows
    assert (window.used, window.limit) == expected


def test_a_provider_is_asked_once_a_minute_however_many_ask(desk, provider, clock):
    async def many() -> None:
        await asyncio.gather(*(desk.show("zai") for _ in range(10)))

    asyncio.run(many())
    assert len(provider.asked) == 1
    zai(desk, fresh=True)
    assert len(provider.asked) == 1  # just now
    clock[0] = 10.0
    zai(desk, fresh=True)
    assert len(provider.asked) == 2
    clock[0] = 60.0
    zai(desk)
    assert len(provider.asked) == 2
    clock[0] = 71.0
    zai(desk)
    assert len(provider.asked) == 3


def test_a_host_that_wants_the_bare_key_gets_it(desk, provider):
    def answer(request: httpx.Request) -> httpx.Response:
        provider.asked.append(request)
        known = not request.headers["authorization"].startswith("Bearer ")
        return httpx.Response(200, json=ANSWER if known else {"code": 401, "msg": "token expired"})

    desk._transport = httpx.MockTransport(answer)
    assert zai(desk).status == "ok"
    assert [request.headers["authorization"] for request in provider.asked] == [
        "Bearer sk-very-secret",
        "sk-very-secret",
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(200, json={"code": 401, "msg": "token expired"}), "does not know the key"),
        (httpx.Response(401), "does not know the key"),
        (httpx.Response(502, text="<html>"), "it answered 502"),
        (httpx.Response(200, text="<html>sk-very-secret"), "api.z.ai"),
        (httpx.Response(200, json={"code": 200, "data": {"limits": "many"}}), "another shape"),
        (httpx.Response(200, json={"code": 500, "msg": "no coding plan"}), "gave no limits"),
        (httpx.Response(200, content=b"x" * 300_000), "too large"),
        (httpx.ConnectTimeout("slow"), "no answer within"),
        (httpx.ConnectError("sk-very-secret"), "ConnectError"),
    ],
)
def test_whatever_goes_wrong_is_a_reason_without_a_secret(desk, provider, home, answer, reason):
    if isinstance(answer, Exception):
        provider.wrong = answer
    else:
        provider.answer = answer
    found = zai(desk)
    assert found.status == "unavailable"
    assert reason in (found.reason or "")
    assert "very-secret" not in str(found)
    assert not (home.state / "quota" / "zai.json").exists()


def test_a_provider_that_never_says_and_one_without_a_key_are_not_asked(home, provider):
    transport = httpx.MockTransport(provider)
    desk = QuotaDesk(home, lambda: parse_config(CONFIG, {}), env={}, transport=transport)
    found = {quota.provider: quota.reason for quota in asyncio.run(desk.show())}
    assert found == {
        "zai": "there is no key for it",
        "deepseek": "this provider does not say what is left",
    }
    assert provider.asked == []
    with pytest.raises(BadRequest):
        asyncio.run(desk.show("nobody"))


def test_the_control_api_shows_it(control, desk, secret):
    app = control_app(control, quota_routes(desk))

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/api/v1/quota?provider=zai", headers={"x-api-key": secret})

    (said,) = asyncio.run(run()).json()["providers"]
    assert (said["provider"], said["windows"][0]["used_percent"]) == ("zai", 42.5)


def incoming(path: str = "/v1/responses", agent: bytes = b"codex_exec/0.163"):
    scope = {
        "headers": [(b"user-agent", agent)],
        "method": "POST",
        "path": path,
        "query_string": b"",
    }
    return read_head(scope, request_id="x", at=NOW, started=0.0)


def test_codex_and_nobody_else_is_shown_the_windows_by_its_own_headers(desk, home):
    zai(desk)
    file = home.state / "quota" / "zai.json"
    assert file.stat().st_mode & 0o077 == 0
    headers = QuotaHeaders(home.state / "quota", wall=lambda: NOW + 60)
    assert dict(headers.headers_for(incoming(), "zai")) == {
        b"x-codex-primary-used-percent": b"42.5",
        b"x-codex-primary-window-minutes": b"300",
        b"x-codex-primary-reset-at": b"1700003600",
        b"x-codex-secondary-used-percent": b"7",
        b"x-codex-secondary-window-minutes": b"10080",
    }
    assert headers.headers_for(incoming(agent=b"claude-cli/2"), "zai") == ()
    assert headers.headers_for(incoming("/v1/messages"), "zai") == ()
    assert headers.headers_for(incoming(), "deepseek") == ()
    assert headers.headers_for(incoming(), "../zai") == ()


def test_old_figures_and_a_window_that_has_begun_anew_are_not_shown(desk, home):
    zai(desk)
    folder = home.state / "quota"
    assert QuotaHeaders(folder, wall=lambda: NOW + 3700).headers_for(incoming(), "zai") == ()
    file = folder / "zai.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps(said | {"at": NOW + 3500}))
    headers = QuotaHeaders(folder, wall=lambda: NOW + 3700).headers_for(incoming(), "zai")
    assert dict(headers)[b"x-codex-primary-used-percent"] == b"7"  # the five hours are over, the week is not
    file.write_text("{torn")
    assert QuotaHeaders(folder, wall=lambda: NOW).headers_for(incoming(), "zai") == ()
