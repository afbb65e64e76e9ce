from __future__ import annotations

import pytest

from dragoman.config.tokens import mint, revoke
from dragoman.control.access import Refused, check_host, shown_token


def test_the_entrance_says_how_to_enter_and_needs_no_token(ask):
    answer = ask("GET", "/", token=None)
    assert answer.status_code == 200
    assert "dragoman console" in answer.text
    assert "1.2.3" in answer.text
    assert ask("HEAD", "/", token=None).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/tokens", "/api/v1/nothing", "/elsewhere"])
def test_everything_else_wants_a_control_token(path: str, ask, home):
    without = ask("GET", path, token=None)
    assert (without.status_code, without.json()["error_code"]) == (401, "unauthenticated")
    assert without.headers["www-authenticate"] == "Bearer"
    assert ask("GET", path, token="dgm_wrong").status_code == 401
    for scope in ("data", "run"):
        refused = ask("GET", path, token=mint(home, scope, run="r").secret)
        assert (refused.status_code, refused.json()["error_code"]) == (403, "forbidden")
        assert scope in refused.json()["error"]


def test_a_control_token_opens_as_bearer_and_as_api_key(ask, secret):
    assert ask("GET", "/api/v1/status").status_code == 200
    assert ask("GET", "/api/v1/status", token=None, x_api_key=secret).status_code == 200


def test_expired_and_revoked_tokens_open_nothing(ask, home):
    assert ask("GET", "/api/v1/status", token=mint(home, "control", expires_at=1.0).secret).status_code == 401
    minted = mint(home, "control")
    revoke(home, minted.record.id)
    assert ask("GET", "/api/v1/status", token=minted.secret).status_code == 401


@pytest.mark.parametrize(
    "host", ["http://evil.example", "http://127.0.0.1.evil.example", "http://192.168.1.5"]
)
def test_a_foreign_host_is_refused_even_with_the_token(host: str, ask):
    assert ask("GET", "/api/v1/status", base=host).status_code == 403
    assert ask("GET", "/", base=host, token=None).status_code == 403


@pytest.mark.parametrize("host", ["http://localhost:4891", "http://127.0.0.1:1", "http://[::1]:4891"])
def test_this_machine_goes_by_several_names(host: str, ask):
    assert ask("GET", "/api/v1/status", base=host).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:4891", 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("chrome-extension://localhost", 403),
    ],
)
def test_a_page_elsewhere_may_not_call(origin: str, status: int, ask):
    assert ask("GET", "/api/v1/status", origin=origin).status_code == status


def test_behind_the_gateway_the_origin_must_be_the_name_it_was_called_by():
    def headers(origin: str, *forwarded: str) -> list[tuple[bytes, bytes]]:
        relayed = [(b"x-forwarded-host", name.encode()) for name in forwarded]
        return [(b"host", b"localhost"), (b"origin", origin.encode()), *relayed]

    check_host(headers("http://desk.lan:4891", "desk.lan:4891"), ["localhost"])
    for origin, forwarded in [
        ("http://evil.example", ["desk.lan"]),
        ("http://evil.example", ["evil.example", "desk.lan"]),
        ("http://evil.example", []),
    ]:
        with pytest.raises(Refused):
            check_host(headers(origin, *forwarded), ["localhost"])


def test_two_hosts_or_none_are_refused():
    for hosts in ([], [(b"host", b"localhost"), (b"host", b"localhost")]):
        with pytest.raises(Refused):
            check_host(hosts, ["localhost"])


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ([(b"authorization", b"bearer  abc ")], "abc"),
        ([(b"authorization", b"Basic abc"), (b"x-api-key", b"def")], "def"),
        ([(b"authorization", b"Bearer "), (b"x-api-key", b" ")], None),
        ([], None),
    ],
)
def test_where_a_token_is_looked_for(headers, secret):
    assert shown_token(headers) == secret
