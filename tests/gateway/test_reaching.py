"""How a whole gateway reaches its providers: trust, proxies, connections at the ready, redirects."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dragoman.config.load import ConfigError, parse_config
from dragoman.gateway.routes import RouteTable
from dragoman.gateway.runtime import make_runtime

ASK = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
CLOSING = (("Connection", "close"), ("Content-Type", "application/json"))


def config(base: str, *, gateway: str = "", provider: str = "", model: str = "") -> str:
    return f"""
[gateway]
default_provider = "up"
{gateway}
[providers.up]
key_env = "UP_KEY"
wires.messages = "{base}"
{provider}
[models."m"]
provider = "up"
{model}
"""


def whole(kit: Any, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "well"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return kit.json_answer(body, headers=headers)


# --- trust


@pytest.mark.parametrize("where", ["gateway", "provider"])
def test_a_provider_behind_a_companys_own_authority_is_reached(
    kit: Any, tmp_path: Path, authority: Any, where: str
) -> None:
    async def run() -> None:
        async with (
            kit.scripted([whole(kit)], tls=authority.tls) as up,
            kit.served(tmp_path, config(up.base, **{where: f'ca_file = "{authority.ca_file}"'})) as served,
        ):
            status, _, answer = await served.ask("/v1/messages", ASK)
            assert (status, json.loads(answer)["content"][0]["text"]) == (200, "well")

    kit.run(run)


def test_a_chain_nobody_vouches_for_is_refused_before_anything_is_sent_and_names_the_key(
    kit: Any, tmp_path: Path, authority: Any, ca_file: str
) -> None:
    async def run() -> None:
        others = f'ca_file = "{ca_file}"'  # an authority, but not this server's
        async with kit.scripted([whole(kit)], tls=authority.tls) as up:
            for part in ({}, {"provider": others}):
                async with kit.served(tmp_path, config(up.base, **part)) as served:
                    status, _, answer = await served.ask("/v1/messages", ASK)
                    assert status == 502
                    message = json.loads(answer)["error"]["message"]
                    assert "certificate is not trusted" in message
                    assert "ca_file" in message
            assert up.requests == []

    kit.run(run)


def test_two_providers_of_one_address_share_no_trust(kit: Any, tmp_path: Path, authority: Any) -> None:
    async def run() -> None:
        async with kit.scripted([whole(kit)], tls=authority.tls) as up:
            toml = config(up.base, provider=f'ca_file = "{authority.ca_file}"')
            toml += f'[providers.strict]\nwires.messages = "{up.base}"\n'
            async with kit.served(tmp_path, toml) as served:
                assert (await served.ask("/v1/messages", ASK))[0] == 200
                status, _, _ = await served.ask("/v1/messages", {**ASK, "model": "strict/m"})
                assert status == 502
                assert len(up.requests) == 1

    kit.run(run)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read: no such file"), ("no certificate", "holds no certificates")]
)
@pytest.mark.parametrize("table", ["gateway", "provider"])
def test_a_file_of_authorities_that_is_none_is_found_at_start_by_line(
    tmp_path: Path, content: str | None, said: str, table: str
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    file = tmp_path / "dragoman.toml"
    text = config("https://up.invalid", **{table: 'ca_file = "ca.pem"'})
    key = "gateway.ca_file" if table == "gateway" else "providers.up.ca_file"
    with pytest.raises(ConfigError) as caught:
        RouteTable(parse_config(text, {}, file=file))
    line = text.splitlines().index('ca_file = "ca.pem"') + 1
    assert f"{file}:{line}: {key}: {tmp_path / 'ca.pem'} {said}" in str(caught.value)


# --- proxies


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_gateway_behind_a_proxy_serves_all_the_same(
    kit: Any, tmp_path: Path, authority: Any, scheme: str
) -> None:
    async def run() -> None:
        tls = authority.tls if scheme == "https" else None
        async with (
            kit.TunnelProxy() as proxy,
            kit.scripted([kit.streamed(kit.messages_stream("thr", "ough"))], tls=tls) as up,
            kit.served(
                tmp_path,
                config(up.base, provider=f'ca_file = "{authority.ca_file}"'),
                proxies=proxy.rules(),
            ) as served,
        ):
            for _ in range(2):
                status, _, answer = await served.ask("/v1/messages", {**ASK, "stream": True})
                assert status == 200
                assert b"ough" in answer
                assert b"message_stop" in answer
            way = "CONNECT " if scheme == "https" else "POST http://"
            assert [head.startswith(f"{way}127.0.0.1:{up.port}") for head in proxy.heads] == [True]
            assert "sk-upstream-secret" not in proxy.heads[0] or scheme == "http"
            assert {r.headers.get("proxy-authorization") for r in up.requests} <= {None, "Basic dTpw"}

    kit.run(run)


def test_a_proxy_that_refuses_is_told_to_the_client_without_its_password(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.TunnelProxy("407 Proxy Authentication Required") as proxy,
            kit.served(tmp_path, config("https://up.invalid"), proxies=proxy.rules()) as served,
        ):
            status, _, answer = await served.ask("/v1/messages", ASK)
            assert status == 502
            assert b"refused a tunnel" in answer
            assert b"407" in answer
            assert b"dTpw" not in answer

    kit.run(run)


# --- connections at the ready


@pytest.mark.parametrize("path", ["/v1/models", "/v1/messages/count_tokens"])
def test_a_client_that_is_about_to_ask_finds_a_connection_made(
    kit: Any, tmp_path: Path, authority: Any, path: str
) -> None:
    async def run() -> None:
        async with (
            kit.scripted([whole(kit, CLOSING), "close"], tls=authority.tls) as up,
            kit.served(tmp_path, config(up.base, provider=f'ca_file = "{authority.ca_file}"')) as served,
        ):
            pool = served.gateway._transport
            await asyncio.sleep(0.05)
            assert up.connections == 0  # nobody has shown up
            await served.ask(path, ASK if "count" in path else None)
            await kit.until(lambda: pool.idle == 1)
            assert up.requests == []
            await served.ask("/v1/messages", ASK)
            assert up.requests[0].connection == 1
            # The upstream closes after each answer: the next request finds another one ready.
            await kit.until(lambda: pool.idle == 1)
            await served.ask("/v1/messages", ASK)
            assert up.requests[1].connection == 2

    kit.run(run)


def test_no_connection_is_made_ahead_to_a_provider_without_its_key(
    kit: Any, tmp_path: Path, authority: Any
) -> None:
    async def run() -> None:
        async with (
            kit.scripted([whole(kit)], tls=authority.tls) as up,
            kit.served(
                tmp_path,
                config(up.base, provider=f'ca_file = "{authority.ca_file}"').replace("UP_KEY", "NO_KEY"),
            ) as served,
        ):
            await served.ask("/v1/models")
            await asyncio.sleep(0.05)
            assert up.connections == 0

    kit.run(run)


# --- what is never followed


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_never_followed_and_the_key_never_handed_on(
    kit: Any, tmp_path: Path, status: str
) -> None:
    async def run() -> None:
        async with kit.scripted([whole(kit)]) as elsewhere:
            away = (("Location", f"{elsewhere.base}/v1/messages"),)
            async with (
                kit.scripted([kit.answer(b"", status=status, headers=away)]) as up,
                kit.served(tmp_path, config(up.base)) as served,
            ):
                got, headers, answer = await served.ask("/v1/messages", ASK)
                assert got >= 400
                assert "location" not in headers
                assert elsewhere.base.encode() not in answer
                assert len(up.requests) >= 1
                assert elsewhere.connections == 0

    kit.run(run)


def test_image_addresses_are_never_fetched(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer(b"GIF")]) as pictures:
            url = f"{pictures.base}/secret.png"
            bodies = {
                "/v1/messages": [{"type": "image", "source": {"type": "url", "url": url}}],
                "/v1/chat/completions": [{"type": "image_url", "image_url": {"url": url}}],
                "/v1/responses": [{"type": "input_image", "image_url": url}],
            }
            sees = 'input_modalities = ["text", "image"]'
            for wire in ("messages", "chat", "responses"):
                async with kit.scripted([kit.answer(b"{}", status="400 Bad")]) as up:
                    toml = config(up.base, model=sees).replace("wires.messages", f"wires.{wire}")
                    async with kit.served(tmp_path, toml) as served:
                        for path, content in bodies.items():
                            field = "input" if path.endswith("responses") else "messages"
                            turn = {"role": "user", "content": content}
                            body = {"model": "m", "max_tokens": 9, field: [turn]}
                            await served.ask(path, body)
                    assert up.requests
            assert pictures.connections == 0

    kit.run(run)


IDENTIFYING = {
    "x-codex-turn-metadata": '{"workspaces":{"/home/LEAK":{"latest_git_commit_hash":"LEAK"}}}',
    "session-id": "LEAK",
    "thread-id": "LEAK",
    "x-client-request-id": "LEAK",
    "x-codex-window-id": "LEAK:0",
    "x-codex-parent-thread-id": "LEAK",
    "x-openai-subagent": "LEAK",
    "x-claude-code-session-id": "LEAK",
    "x-stainless-os": "LEAK",
    "user-agent": "codex_exec/0.169.0 (LEAK)",
    "originator": "LEAK",
    "cookie": "LEAK",
    "forwarded": "for=LEAK",
    "x-forwarded-for": "LEAK",
    "referer": "http://LEAK",
    "proxy-authorization": "Basic LEAK",
}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("wire", ["messages", "chat", "responses"])
def test_who_and_where_a_client_is_reaches_no_provider(
    kit: Any, tmp_path: Path, path: str, wire: str
) -> None:
    async def run() -> None:
        async with kit.scripted([kit.answer(b"{}", status="400 Bad")]) as up:
            toml = config(up.base).replace("wires.messages", f"wires.{wire}")
            async with kit.served(tmp_path, toml) as served:
                turn = [{"role": "user", "content": "hi"}]
                body = {"model": "m", "max_tokens": 9, "messages": turn}
                if path.endswith("responses"):
                    body = {"model": "m", "input": "hi", "client_metadata": {"cwd": "LEAK"}}
                await served.ask(path, body, headers=IDENTIFYING)
                assert up.requests
                for seen in up.requests:
                    assert "LEAK" not in f"{seen.line} {seen.headers} {seen.body.decode()}"
                    assert served.token not in str(seen.headers)

    kit.run(run)


# --- what a log and a reload must keep


def test_a_model_nobody_knows_is_noted_in_the_log_once_for_each_request(kit: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            kit.scripted([whole(kit)]) as up,
            kit.served(tmp_path, config(up.base)) as served,
        ):
            await served.ask("/v1/messages", ASK)
            assert [event for event, _ in served.logged if event == "unknown_model"] == []
            await served.ask("/v1/messages", {**ASK, "model": "never-heard-of"})
            assert ("unknown_model", {"model": "never-heard-of", "provider": "up"}) in served.logged
            assert json.loads(up.requests[-1].body)["model"] == "never-heard-of"

    kit.run(run)


def test_a_reload_forgets_neither_who_rests_nor_who_serves_which_session(kit: Any, tmp_path: Path) -> None:
    environment = {"KEY_A": "sk-a", "KEY_B": "sk-b"}
    keys = 'keys = [{ env = "KEY_A" }, { env = "KEY_B" }]'

    def answers(request: Any) -> list[Any]:
        if request.headers["x-api-key"] == "sk-a":
            return [kit.json_answer({"error": {"message": "slow"}}, "429 X", (("Retry-After", "60"),))]
        return [whole(kit)]

    async def run() -> None:
        async with kit.scripted(answers) as up:
            toml = config(up.base, provider=keys).replace('key_env = "UP_KEY"\n', "")
            async with kit.served(tmp_path, toml, environment=environment) as served:
                session = {"x-claude-code-session-id": "s1", "user-agent": "claude-cli/2.1.329 (external)"}
                await served.ask("/v1/messages", ASK, headers=session)
                assert [r.headers["x-api-key"] for r in up.requests] == ["sk-a", "sk-b"]
                changed = parse_config(toml + "\n[aliases]\nx = 'm'\n", environment)
                served.gateway.runtime = make_runtime(changed, served.home, environment)
                # Another client is not sent to the key that rests, and the session stays with its own.
                await served.ask("/v1/messages", {**ASK, "model": "x"})
                await served.ask("/v1/messages", ASK, headers=session)
                assert [r.headers["x-api-key"] for r in up.requests[2:]] == ["sk-b", "sk-b"]

    kit.run(run)
