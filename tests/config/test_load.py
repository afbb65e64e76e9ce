from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.config.load import ConfigError, ConfigMissing, is_loopback, load_config, parse_config
from dragoman.config.paths import Home, resolve_home
from dragoman.config.schema import Config, KeySource, Price

FULL = """
[gateway]
host = "127.0.0.1"
port = 4891
auth = "token"
default_provider = "zai"
connect_timeout_s = 10
max_body_mb = 64

[providers.zai]
preset = "zai"
key_env = "ZAI_API_KEY"

[providers.mock]
profile = "generic"
keys = [{ env = "A", max_concurrency = 2 }, { keyring = "B" }, { file = "~/k" }, { stored = "mock" }]
wires.chat      = "http://127.0.0.1:9901/v1"
wires.responses = "http://127.0.0.1:9901/v1"
wires.messages  = "http://127.0.0.1:9901"
idle_timeout_s = 3

[models."m"]
provider = "mock"
upstream = "m-up"
wire = "chat"
context_window = 200000
max_output_tokens = 8000
input_modalities = ["text", "image"]
reasoning = true
price = { input = 1, output = 2.5 }
fallback = ["other-model"]

[aliases]
"claude-opus-4-6" = "glm-5.2"

[delegation]
allow_roots = ["~/projects"]
worker = "claude"
model = "glm-5.2"
max_writes_per_repo = 1
setup_command = "npm ci"
worker_login = "gateway"

[delegation.sandbox]
level = "best"
read = ["/opt/tools"]
link_dirs = ["node_modules"]

[bridge]
quiet_ms = 10
command = ["claude", "--flag"]

[rehearsal]
scenario = "mine.toml"
"""


def parse(text: str, **env: str) -> Config:
    return parse_config(text, env, file=Path("/x/dragoman.toml"))


def mistakes(text: str, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as failure:
        parse(text, **env)
    return str(failure.value).splitlines()


def test_every_key_of_the_documented_file_is_read() -> None:
    config = parse(FULL)
    mock, model = config.providers["mock"], config.models["m"]
    assert list(mock.wires) == ["chat", "responses", "messages"]
    assert mock.keys[0] == KeySource(env="A", max_concurrency=2)
    assert (mock.idle_timeout_s, config.gateway.connect_timeout_s) == (3.0, 10.0)
    assert model.price == Price(input=1.0, output=2.5)
    assert (model.upstream, model.wire, model.fallback) == ("m-up", "chat", ("other-model",))
    assert config.aliases == {"claude-opus-4-6": "glm-5.2"}
    assert config.delegation.sandbox.read == ("/opt/tools",)
    assert config.bridge.command == ("claude", "--flag")
    assert config.rehearsal.scenario == "mine.toml"


def test_no_file_at_all_means_defaults(home: Home) -> None:
    config = load_config(home, {})
    assert (config.gateway.port, config.gateway.auth, config.providers) == (4891, "token", {})
    assert config.source.file is None


def test_a_file_named_on_the_command_line_must_be_there(home: Home) -> None:
    with pytest.raises(ConfigMissing, match=r"dragoman\.toml"):
        load_config(home, {}, must_exist=True)


def test_the_file_of_the_home_is_read_even_with_a_byte_order_mark(home: Home) -> None:
    home.ensure()
    home.config_file.write_bytes(b"\xef\xbb\xbf[gateway]\r\nport = 5\r\n")
    assert load_config(home, {}).gateway.port == 5


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[gateway]\nprot = 3", "2: gateway.prot: unknown key (nearest: gateway.port)"),
        ("\n[gatewya]\n", "2: gatewya: unknown key (nearest: gateway)"),
        ("[gateway]\n\nport = 'x'", "3: gateway.port: expected int, got str"),
        ("[gateway]\nport = 70000", "2: gateway.port: expected int <= 65535"),
        ("[gateway]\nport = true", "2: gateway.port: expected int, got bool"),
        ("[gateway]\nauth = 'tokn'", "2: gateway.auth: expected one of token, none (nearest: token)"),
        ("gateway = 3", "1: gateway: expected a table, got a number"),
        ("[providers.p]\nkey = 'sk-1'", "2: providers.p.key: unknown key (nearest: providers.p.keys)"),
        ("[providers.p]\nwires.caht = 'http://h'", "2: providers.p.wires.caht: unknown key (nearest: "),
        ("[providers.p]\nkeys = [{ envv = 'A' }]", "2: providers.p.keys[0].envv: unknown key (nearest: "),
        (
            "[providers.p]\nkeys = [{ env = 'A', keyring = 'B' }]",
            "2: providers.p.keys[0]: a key names exactly",
        ),
        ("[providers.p]\nkey_env = 'A'\nkeys = [{ env = 'A' }]", "3: providers.p.keys: give either"),
        ("[providers.p.headers]\n'a b' = 'c'", "1: providers.p: headers are single lines"),
        ("[models.'a.b']\nprice = { input = 1 }", '2: models."a.b".price: the key output is missing'),
        ("[models.m]\nfallback = 'x'", "2: models.m.fallback: expected a list, got text"),
        ("[aliases]\na = 1", "2: aliases.a: expected str, got int"),
        (
            "[delegation.sandbox]\nlevel = 'bwrap'",
            "2: delegation.sandbox.level: expected one of best, bubble",
        ),
        ("[gateway]\ndefault_provider = 'zia'", "2: gateway.default_provider: no such provider (known: none"),
        (
            "[gateway]\nhost = '0.0.0.0'\nauth = 'none'",
            '3: gateway.auth: "none" is for loopback only; 0.0.0.0',
        ),
        ("[gateway]\nport = 1\nport = 2", "3: not valid TOML: Cannot overwrite a value"),
        ("[gateway\nport = 1", "1: not valid TOML: "),
        ("a = '''\n\n", "3: not valid TOML: "),
    ],
)
def test_a_mistake_names_file_line_key_and_the_nearest_known_key(text: str, mistake: str) -> None:
    found = mistakes(text)
    assert len(found) == 1
    assert found[0].startswith(f"/x/dragoman.toml:{mistake}")


def test_all_mistakes_are_told_at_once_and_there_is_a_next_step() -> None:
    with pytest.raises(ConfigError) as failure:
        parse("[gateway]\nprot = 3\nauth = 3\n[models.m]\nwire = 'chats'")
    assert len(failure.value.places) == 3
    assert failure.value.hint
    assert "doctor" in failure.value.hint


@pytest.mark.parametrize(
    "base", ["", "h", "ftp://h", "http://", "http://u:hunter2@h", "http://h?q=1", "http://h#f", "http://[::1"]
)
def test_a_base_address_that_cannot_be_one_is_refused_without_repeating_it(base: str) -> None:
    (found,) = mistakes(f"[providers.p]\nwires.chat = '{base}'")
    assert found.startswith("/x/dragoman.toml:1: providers.p: wires.chat: ")
    assert "hunter2" not in found


def test_text_that_is_not_utf_8_is_named_by_its_line(home: Home) -> None:
    home.ensure()
    home.config_file.write_bytes(b"[gateway]\nport = 1\n# \xff\n")
    with pytest.raises(ConfigError, match=r"dragoman\.toml:3: this line is not UTF-8"):
        load_config(home, {})


def test_an_unreadable_or_enormous_file_is_a_clear_error(home: Home) -> None:
    home.ensure()
    home.config_file.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(home, {})
    home.config_file.rmdir()
    with home.config_file.open("wb") as file:
        os.truncate(file.fileno(), 5 << 20)
    with pytest.raises(ConfigError, match="larger than 4 MiB"):
        load_config(home, {})


def test_flag_beats_environment_beats_file_beats_default() -> None:
    text = "[gateway]\nport = 1\n[bridge]\nquiet_ms = 7"
    env = {"DRAGOMAN_PORT": "2", "PROXY_PORT": "4", "DRAGOMAN_BRIDGE_MIN_RUN_MS": "5"}
    config = parse_config(text, env, {"gateway.port": 3, "gateway.host": None})
    assert (config.gateway.port, config.bridge.quiet_ms, config.bridge.min_run_ms) == (3, 7, 5)
    origin = config.source.origin
    assert origin("gateway.port") == "flag"
    assert origin("bridge.quiet_ms") == "file"
    assert origin("bridge.min_run_ms") == "environment DRAGOMAN_BRIDGE_MIN_RUN_MS"
    assert origin("gateway.host") == "default"
    assert parse_config(text, env).gateway.port == 2
    assert parse_config(text, {"PROXY_PORT": "4"}).gateway.port == 4
    assert parse_config(text, {"PROXY_PORT": " "}).gateway.port == 1


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    assert mistakes("", PROXY_PORT="many", LOG_LEVEL="loud") == [
        "PROXY_PORT: expected int, got str",
        "LOG_LEVEL: expected one of debug, info, warning, error, critical",
    ]
    (found,) = mistakes("", DRAGOMAN_DEFAULT_PROVIDER="zia")
    assert found.startswith("DRAGOMAN_DEFAULT_PROVIDER: gateway.default_provider: no such provider")


def test_a_mistake_in_a_flag_names_the_flag() -> None:
    with pytest.raises(ConfigError, match=r"--port: gateway.port: expected int <= 65535"):
        parse_config("", {}, {"gateway.port": 99999})


def test_the_environment_of_the_zai_proxy_is_enough_to_start() -> None:
    config = parse_config(None, {"ZAI_API_KEY": "s3cret", "PROXY_PORT": "99", "LOG_LEVEL": "WARNING"})
    assert config.providers["zai"].preset == "zai"
    assert config.providers["zai"].key_env == "ZAI_API_KEY"
    assert config.providers["zai"].wires == {}
    assert (config.gateway.default_provider, config.gateway.port, config.log.level) == ("zai", 99, "warning")
    assert config.client_token_env == "ZAI_API_KEY"
    assert "s3cret" not in repr(config)


def test_zai_base_url_means_the_chat_wire_on_that_host_only() -> None:
    config = parse_config(None, {"ZAI_API_KEY": "s", "ZAI_BASE_URL": "https://h/v4"})
    assert config.providers["zai"].wires == {"chat": "https://h/v4"}
    assert mistakes("", ZAI_API_KEY="s", ZAI_BASE_URL="//h") == [
        "ZAI_BASE_URL: expected an address such as https://host/path"
    ]


def test_providers_in_the_file_are_not_changed_by_the_variables_of_the_proxy() -> None:
    text = "[providers.zai]\npreset = 'zai'\nwires.messages = 'https://mine'"
    config = parse(text, ZAI_API_KEY="s", ZAI_BASE_URL="https://h/v4")
    assert config.providers["zai"].wires == {"messages": "https://mine"}
    assert config.client_token_env is None
    assert config.gateway.default_provider is None
    other = parse("[providers.p]\nwires.chat = 'http://h'", ZAI_API_KEY="s")
    assert list(other.providers) == ["p"]


def test_lists_in_variables_are_split_at_colons_and_commas() -> None:
    assert parse("", CODEX_CLAUDE_ALLOW_ROOTS="/a:/b,/c").delegation.allow_roots == ("/a", "/b", "/c")


def test_loopback_is_recognised_in_every_spelling() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.evil"]))


@given(
    st.text(max_size=60) | st.from_regex(r"(\[[a-z.]{1,9}\]\n[a-z_]{1,9} = [a-z0-9'{}\[\]=, ]{1,20}\n){1,3}")
)
def test_any_text_gives_a_config_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_config(text, {}).gateway.port >= 0


def test_a_config_with_a_case_per_provider_loads(tmp_path: Path) -> None:
    lines = ["[gateway]", 'host = "127.0.0.1"', 'auth = "none"', ""]
    for number in range(60):
        lines += [f'[providers."case-{number}"]', 'profile = "zai"', 'key_env = "K"']
        lines += ['wires.chat = "http://127.0.0.1:1/c/1/v1"', f'[models."model-{number}"]']
        lines += [f'provider = "case-{number}"', 'upstream = "m-up"', 'input_modalities = ["text", "image"]']
    config_file = tmp_path / "d.toml"
    config_file.write_text("\n".join([*lines, "[aliases]", '"x" = "model-1"', ""]))
    config = load_config(resolve_home({"DRAGOMAN_HOME": str(tmp_path)}, config_file), {}, must_exist=True)
    assert len(config.models) == len(config.providers) == 60
    assert config.source.line("providers", "case-59", "profile") == 5 + 59 * 8 + 1
