from __future__ import annotations

import pytest

from dragoman.gateway.transport import BadAddress, Proxy, ProxyRules, parse_base


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("https://api.z.ai/api/anthropic", "api.z.ai", "/api/anthropic/v1/messages"),
        ("https://api.z.ai:443/api/anthropic/", "api.z.ai", "/api/anthropic/v1/messages"),
        ("http://127.0.0.1:9901", "127.0.0.1:9901", "/v1/messages"),
        ("http://[::1]:8080/v1", "[::1]:8080", "/v1/v1/messages"),
        ("https://bücher.example", "xn--bcher-kva.example", "/v1/messages"),
    ],
)
def test_a_base_address_gives_host_and_target(url: str, authority: str, target: str) -> None:
    base = parse_base(url)
    assert base.origin.authority == authority
    assert base.target("/v1/messages") == target
    assert base.target("/v1/messages", b"beta=true") == f"{target}?beta=true"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "api.z.ai",
        "http://",
        "http://user:pw@x/v1",
        "http://x/v1?a=b",
        "http://x:99999",
        "http://x/a b",
    ],
)
def test_what_is_no_base_address_is_refused(url: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse_base(url)
    assert "pw" not in str(caught.value)


PROXY = "http://user:p%40ss@proxy.example:3128"


def test_proxies_come_from_the_environment_by_scheme() -> None:
    rules = ProxyRules.from_environment({"HTTPS_PROXY": PROXY, "HTTP_PROXY": "other.example:8080"})
    assert rules.choose(parse_base("https://api.z.ai").origin) == Proxy(
        "http", "proxy.example", 3128, "Basic dXNlcjpwQHNz"
    )
    assert rules.choose(parse_base("http://api.z.ai").origin) == Proxy("http", "other.example", 8080)


def test_lower_case_wins_and_all_proxy_fills_in() -> None:
    rules = ProxyRules.from_environment(
        {"https_proxy": "http://a", "HTTPS_PROXY": "http://b", "ALL_PROXY": "http://c"}
    )
    assert rules.https == Proxy("http", "a", 80)
    assert rules.http == Proxy("http", "c", 80)


@pytest.mark.parametrize(
    ("exceptions", "host", "direct"),
    [
        ("z.ai", "https://api.z.ai", True),
        (".z.ai", "https://api.z.ai", True),
        ("*.z.ai", "https://api.z.ai", True),
        ("z.ai", "https://fuzz.ai", False),
        ("api.z.ai:443", "https://api.z.ai", True),
        ("api.z.ai:8443", "https://api.z.ai", False),
        ("10.0.0.0/8, localhost", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("127.0.0.1", "http://127.0.0.1:99", True),
        ("[::1]:99", "http://[::1]:99", True),
        ("::1", "http://[::1]:99", True),
        ("*", "https://anything", True),
        ("", "http://127.0.0.1", False),
    ],
)
def test_exceptions_name_hosts_domains_ports_and_networks(exceptions: str, host: str, direct: bool) -> None:
    rules = ProxyRules.from_environment({"ALL_PROXY": "http://p:1", "NO_PROXY": exceptions})
    assert (rules.choose(parse_base(host).origin) is None) is direct


def test_a_direct_origin_never_meets_a_proxy() -> None:
    rules = ProxyRules.from_environment({"ALL_PROXY": "http://p:1"})
    assert rules.choose(parse_base("http://127.0.0.1:5", direct=True).origin) is None


@pytest.mark.parametrize("value", ["socks5://u:secret@p:1", "http://u:secret@p:99999", "http://"])
def test_a_proxy_we_do_not_speak_to_is_an_error_only_for_what_must_go_through_it(value: str) -> None:
    rules = ProxyRules.from_environment({"ALL_PROXY": value, "NO_PROXY": "localhost"})
    assert rules.choose(parse_base("http://localhost:9").origin) is None
    assert rules.choose(parse_base("http://127.0.0.1:9", direct=True).origin) is None
    with pytest.raises(BadAddress, match="ALL_PROXY") as caught:
        rules.choose(parse_base("https://api.z.ai").origin)
    assert "secret" not in str(caught.value)
