from __future__ import annotations

from typing import Any

import pytest

from dragoman.config.load import parse_config
from dragoman.config.paths import resolve_home
from dragoman.gateway.counting import count_tokens
from dragoman.gateway.incoming import Incoming, read_head
from dragoman.gateway.outgoing import outgoing_request, shown_headers
from dragoman.gateway.recall import RecallStore
from dragoman.gateway.routes import RouteTable
from dragoman.gateway.runtime import make_runtime
from dragoman.wire.translate import decode_request
from dragoman.wire.turns import Reasoning

CONFIG = """
[providers.up]
key_env = "K"
wires.messages = "https://up.example/base"
wires.chat = "https://up.example/v1"
headers = { "X-Title" = "dragoman", "User-Agent" = "mine" }
[models."m"]
provider = "up"
"""


def head(path: str = "/v1/messages", query: bytes = b"", **headers: Any) -> Incoming:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"headers": pairs, "path": path, "method": "POST", "query_string": query}
    return read_head(scope, request_id="r1", at=1.0, started=2.0)


def sent(incoming: Incoming, toml: str = CONFIG, secret: str | None = "sk-1") -> Any:
    route = RouteTable(parse_config(toml, {})).resolve("m", incoming.wire)
    return outgoing_request(route, incoming, b"{}", secret=secret, stream=True)


def test_no_header_that_says_who_asks_goes_upstream() -> None:
    secrets = {
        "x_codex_turn_metadata": '{"cwd":"/home/me"}',
        "session_id": "s",
        "thread_id": "t",
        "originator": "codex_exec",
        "x_codex_window_id": "w",
        "x_openai_subagent": "guardian",
        "x_claude_code_session_id": "c",
        "x_stainless_os": "Linux",
        "authorization": "Bearer dgm_client",
        "cookie": "a=b",
        "origin": "http://127.0.0.1",
        "referer": "r",
        "x_forwarded_for": "1.2.3.4",
    }
    for path in ("/v1/messages", "/v1/chat/completions", "/v1/responses"):
        names = {name for name, _ in sent(head(path, b"", **secrets)).headers}
        assert names <= {
            b"content-type",
            b"accept",
            b"user-agent",
            b"authorization",
            b"x-api-key",
            b"anthropic-version",
            b"x-title",
        }
        assert b"dgm_client" not in str(sent(head(path, b"", **secrets)).headers).encode()


def test_the_users_constant_headers_win_over_ours() -> None:
    headers = dict(sent(head()).headers)
    assert headers[b"user-agent"] == b"mine"
    assert headers[b"x-title"] == b"dragoman"


def test_a_translated_request_keeps_neither_query_nor_protocol_headers() -> None:
    request = sent(head("/v1/responses", b"a=b", openai_beta="x", anthropic_beta="y"))
    assert request.target == "/base/v1/messages"
    names = {name for name, _ in request.headers}
    assert b"openai-beta" not in names
    assert b"anthropic-beta" not in names


def test_of_an_upstreams_headers_a_client_sees_what_it_acts_on() -> None:
    given = [
        (b"request-id", b"1"),
        (b"retry-after", b"2"),
        (b"anthropic-ratelimit-tokens-remaining", b"3"),
        (b"x-codex-primary-used-percent", b"4"),
        (b"openai-model", b"other"),
        (b"set-cookie", b"a"),
        (b"server", b"x"),
        (b"content-length", b"5"),
        (b"transfer-encoding", b"chunked"),
    ]
    assert [value for _, value in shown_headers(given)] == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    ("headers", "client", "session", "turn"),
    [
        (
            {
                "originator": "codex_exec",
                "session_id": "root",
                "x_codex_turn_metadata": '{"turn_id":"t1","workspaces":{"/home/me":{}}}',
            },
            "codex",
            "root",
            "t1",
        ),
        ({"user_agent": "claude-cli/2.1.197 (x)", "x_claude_code_session_id": "u"}, "claude", "u", ""),
        ({"user_agent": "claude-code/2.1.329"}, "claude", "", ""),
        ({"user_agent": "OpenAI/Python 1.0", "session_id": "a\x07b"}, "other", "", ""),
        ({"x_codex_turn_metadata": "not json"}, "other", "", ""),
    ],
)
def test_clients_are_known_by_what_they_send(
    headers: dict[str, str], client: str, session: str, turn: str
) -> None:
    incoming = head("/v1/messages", b"", **headers)
    assert (incoming.client, incoming.session, incoming.turn) == (client, session, turn)


def test_errors_take_the_shape_of_the_path_then_of_the_client() -> None:
    assert head("/v1/messages/count_tokens").wire == "messages"
    assert head("/v1/responses").wire == "responses"
    assert head("/v1/models").wire == "chat"
    assert head("/v1/models", anthropic_version="x").wire == "messages"


def test_reasoning_is_remembered_by_session_and_the_oldest_forgotten_first() -> None:
    store = RecallStore(max_entries=2)
    a, b = store.session("a"), store.session("b")
    a.keep(["c1"], Reasoning(text=b"one"))
    assert a.find("c1") == Reasoning(text=b"one")
    assert b.find("c1") is None
    a.keep(["c2"], Reasoning(text=b"two"))
    assert a.find("c1") is not None
    a.keep(["c3"], Reasoning(text=b"three"))
    assert a.find("c2") is None
    assert a.find("c1") is not None
    assert len(store) == 2


def test_remembered_reasoning_is_bounded_in_bytes() -> None:
    store = RecallStore(max_bytes=10_000)
    session = store.session("a")
    for number in range(20):
        session.keep([f"c{number}"], Reasoning(text=b"x" * 1000))
    assert len(store) < 10
    session.keep(["big"], Reasoning(text=b"x" * 20_000))
    assert len(store) == 0


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("hi", 1, 12), ("word " * 1000, 1000, 1700), ("汉字" * 500, 900, 1500), ("привет " * 300, 500, 1500)],
)
def test_an_estimate_of_tokens_is_near_what_tokenisers_say(text: str, low: int, high: int) -> None:
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": text}]}
    import msgspec

    assert low <= count_tokens(decode_request("messages", msgspec.json.encode(body))) <= high


def test_keys_are_found_in_order_and_once_each(tmp_path: Any) -> None:
    toml = """
[providers.up]
keys = [{ env = "A" }, { env = "MISSING" }, { env = "SAME_AS_A" }, { env = "B", max_concurrency = 1 }]
max_concurrency = 3
wires.chat = "http://127.0.0.1:9/v1"
[providers.free]
wires.chat = "http://127.0.0.1:9/v1"
"""
    environment = {"A": "ka", "SAME_AS_A": "ka", "B": "kb"}
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path)})
    runtime = make_runtime(parse_config(toml, environment), home, environment)
    assert [(key.label, key.max_concurrency) for key in runtime.keys["up"]] == [
        ("environment A", 3),
        ("environment B", 1),
    ]
    assert [key.secret for key in runtime.keys["free"]] == [None]
    assert "ka" not in repr(runtime.keys)


@pytest.mark.parametrize(
    ("host", "asked", "known"),
    [
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "192.168.1.5", False),
        ("0.0.0.0", "192.168.1.5:4891", True),
        ("0.0.0.0", "[fe80::1]:4891", True),
        ("0.0.0.0", "evil.example", False),
        ("gateway.lan", "gateway.lan:4891", True),
        ("gateway.lan", "GATEWAY.lan", True),
        ("gateway.lan", "other.lan", False),
    ],
)
def test_hosts_are_those_we_are_bound_to(tmp_path: Any, host: str, asked: str, known: bool) -> None:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path)})
    guard = make_runtime(parse_config(f'[gateway]\nhost = "{host}"\n', {}), home, {}).guard
    assert (guard.check_place(head(host=asked)) is None) is known
