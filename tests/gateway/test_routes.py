from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.config.load import ConfigError, parse_config
from dragoman.gateway.routes import RouteTable, UnknownModel

SEED = {"ZAI_API_KEY": "s"}

MOCK = """
[providers.mock]
key_env = "MOCK_KEY"
wires.chat = "http://127.0.0.1:9901/v1/"
wires.responses = "http://127.0.0.1:9901/v1"
wires.messages = "http://127.0.0.1:9902"

[providers.chatty]
profile = "deepseek"
wires.chat = "http://127.0.0.1:9903"
first_byte_timeout_s = 7

[models."m"]
provider = "mock"
upstream = "m-up"
context_window = 1000
max_output_tokens = 20000
input_modalities = ["text", "image"]
fallback = ["n", "n-alias[1m]"]

[models."n"]
provider = "chatty"
price = { input = 1, output = 2 }

[models."forced"]
provider = "mock"
wire = "chat"

[aliases]
"n-alias" = "n"
"twice[1m]" = "n-alias"
"""


def table(text: str = "", env: dict[str, str] | None = None) -> RouteTable:
    return RouteTable(parse_config(text, env or {}, file=Path("/x/d.toml")))


def mistake(text: str) -> str:
    with pytest.raises(ConfigError) as failure:
        table(text)
    return str(failure.value)


def test_the_clients_own_wire_is_taken_where_it_is_offered() -> None:
    routes = table(MOCK)
    found = {wire: routes.resolve("m", wire) for wire in ("responses", "chat", "messages")}
    assert {wire: (route.wire, route.native, route.url) for wire, route in found.items()} == {
        "responses": ("responses", True, "http://127.0.0.1:9901/v1/responses"),
        "chat": ("chat", True, "http://127.0.0.1:9901/v1/chat/completions"),
        "messages": ("messages", True, "http://127.0.0.1:9902/v1/messages"),
    }


def test_otherwise_the_first_listed_wire_or_the_forced_one_is_taken() -> None:
    routes = table(MOCK)
    assert routes.resolve("n", "messages").wire == "chat"
    assert routes.resolve("forced", "messages").url == "http://127.0.0.1:9901/v1/chat/completions"
    assert table("", SEED).resolve("glm-5.2", "responses").wire == "messages"


def test_a_route_carries_what_was_said_about_provider_and_model() -> None:
    routes = table(MOCK)
    route = routes.resolve("m", "chat")
    assert (route.provider, route.upstream_model, route.model) == ("mock", "m-up", "m")
    assert (route.context_window, route.limits.max_output_tokens) == (1000, 20000)
    assert route.limits.input_modalities == {"text", "image"}
    assert [(source.env, source.stored) for source in route.keys] == [("MOCK_KEY", None), (None, "mock")]
    assert route.key_required
    assert route.first_byte_timeout_s == 600
    other = routes.resolve("n", "chat")
    assert other.first_byte_timeout_s == 7
    assert not other.key_required
    assert other.price
    assert other.dialect.reasoning_required


def test_messages_upstreams_always_get_a_number_for_the_output() -> None:
    routes = table(MOCK)
    assert routes.resolve("forced", "chat").limits.default_output_tokens is None
    assert routes.resolve("m", "messages").limits.default_output_tokens == 20_000
    text = "[gateway]\ndefault_provider = 'p'\n[providers.p]\nwires.messages = 'http://h'"
    assert table(text).resolve("x", "chat").limits.default_output_tokens == 32_000


@pytest.mark.parametrize(
    "name", ["n-alias", "n-alias[1m]", "twice", "twice[1m]", "n[1m]", "claude-n", "claude-n-alias"]
)
def test_aliases_labels_and_claude_names_lead_to_the_model_and_keep_the_asked_name(name: str) -> None:
    route = table(MOCK).resolve(name, "chat")
    assert (route.provider, route.upstream_model, route.model) == ("chatty", "n", name)


def test_fallbacks_are_routes_of_their_own_for_the_same_client() -> None:
    route = table(MOCK).resolve("m", "messages")
    assert [(f.provider, f.upstream_model, f.wire, f.model) for f in route.fallbacks] == [
        ("chatty", "n", "chat", "m"),
        ("chatty", "n", "chat", "m"),
    ]
    assert all(not fallback.fallbacks for fallback in route.fallbacks)


def test_an_unknown_model_without_a_default_provider_names_itself_and_the_nearest() -> None:
    with pytest.raises(
        UnknownModel, match=r"no route for the model forcd; the nearest known one is forced"
    ) as failure:
        table(MOCK).resolve("forcd", "chat")
    assert failure.value.http_status == 404
    assert failure.value.hint == "dragoman models list"
    with pytest.raises(UnknownModel) as failure:
        table(MOCK).resolve("x" * 5000, "chat")
    assert len(str(failure.value)) < 300


def test_an_unknown_model_goes_to_the_default_provider_under_its_own_name_and_is_marked() -> None:
    route = table("", SEED).resolve("glm-9[1m]", "chat")
    assert (route.provider, route.upstream_model, route.known) == ("zai", "glm-9", False)
    assert table("", SEED).resolve("glm-5.2", "chat").known


def test_the_environment_of_the_zai_proxy_routes_as_promised() -> None:
    routes = table("", SEED)
    chat = routes.resolve("glm-5.1", "chat")
    assert chat.url == "https://api.z.ai/api/coding/paas/v4/chat/completions"
    assert routes.resolve("glm-5.1", "messages").url == "https://api.z.ai/api/anthropic/v1/messages"
    assert routes.resolve("claude-opus-4-6[1m]", "messages").upstream_model == "glm-5.2"
    only = table("", {**SEED, "ZAI_BASE_URL": "https://h/v4"})
    assert only.resolve("glm-5.2", "messages").url == "https://h/v4/chat/completions"


def test_a_claude_name_nobody_knows_becomes_the_default_providers_model() -> None:
    route = table("", SEED).resolve("claude-haiku-4-5-20251001", "messages")
    assert (route.provider, route.upstream_model, route.known) == ("zai", "glm-5.2", True)
    own = "[gateway]\ndefault_provider='p'\n[providers.p]\ndefault_model='d'\nwires.chat='http://h'"
    assert table(own).resolve("claude-sonnet-5", "chat").upstream_model == "d"


@pytest.mark.parametrize("default", ["default_provider='anthropic'", ""])
def test_with_anthropic_the_default_or_nobody_claude_names_are_its_own(default: str) -> None:
    text = f"[gateway]\n{default}\n[providers.zai]\n[providers.anthropic]\n"
    for name in ("claude-opus-4-6", "claude-haiku-4-5-20251001"):
        route = table(text).resolve(name, "messages")
        assert (route.provider, route.upstream_model) == ("anthropic", name)
        assert route.key_header == "x-api-key"


def test_beside_another_default_anthropic_gets_only_what_it_is_named_for() -> None:
    routes = table("[gateway]\ndefault_provider='zai'\n[providers.zai]\n[providers.anthropic]\n")
    assert routes.resolve("claude-haiku-4-5-20251001", "messages").provider == "zai"
    assert routes.resolve("anthropic/claude-haiku-4-5-20251001", "messages").provider == "anthropic"


def test_a_preset_needs_nothing_but_its_name() -> None:
    routes = table("[providers.deepseek]\n[providers.mine]\npreset='openai'\nmax_concurrency=3")
    assert routes.resolve("deepseek-v4-pro", "responses").url == "https://api.deepseek.com/responses"
    mine = routes.resolve("gpt-5.5", "responses")
    assert (mine.provider, mine.max_concurrency) == ("mine", 3)
    assert next(source.env for source in mine.keys) == "OPENAI_API_KEY"


def test_of_two_providers_of_the_same_models_the_default_then_the_first_one_serves() -> None:
    both = "[providers.a]\npreset='zai'\n[providers.b]\npreset='zai-api'\n"
    assert table(both).resolve("glm-5", "chat").provider == "a"
    assert table("[gateway]\ndefault_provider='b'\n" + both).resolve("glm-5", "chat").provider == "b"
    assert table(both).resolve("b/glm-5", "chat").provider == "b"


def test_a_configured_model_may_only_change_what_the_catalogue_says() -> None:
    routes = table("[models.'glm-5.2']\ncontext_window = 5\nefforts = ['low']", SEED)
    route = routes.resolve("glm-5.2", "messages")
    assert (route.provider, route.context_window, route.limits.max_output_tokens) == ("zai", 5, 131_072)
    assert next(m for m in routes.models if m.name == "glm-5.2").efforts == ("low",)


def test_a_model_renamed_by_the_user_keeps_the_facts_of_its_upstream() -> None:
    routes = table("[models.'big']\nprovider = 'zai'\nupstream = 'glm-5.2[1m]'", SEED)
    route = routes.resolve("big", "messages")
    assert (route.upstream_model, route.limits.max_output_tokens) == ("glm-5.2", 131_072)


def test_the_preset_custom_is_a_provider_of_ones_own_and_needs_an_address() -> None:
    said = table("""
[providers.mine]
preset = "custom"
wires.chat = "http://127.0.0.1:9/v1"
[models."m"]
provider = "mine"
""").resolve("m", "messages")
    unsaid = table("""
[providers.mine]
wires.chat = "http://127.0.0.1:9/v1"
[models."m"]
provider = "mine"
""").resolve("m", "messages")
    assert said == unsaid
    with pytest.raises(ConfigError, match=r"d.toml:3: providers.mine.preset: custom has no address"):
        table("""
[providers.mine]
preset = "custom"
key_env = "K"
""")


def test_keys_are_shown_as_each_wire_expects() -> None:
    text = "[providers.p]\nwires.chat='http://h'\nwires.messages='http://h'\n[models.m]\nprovider='p'"
    assert table(text).resolve("m", "chat").key_header == "bearer"
    assert table(text).resolve("m", "messages").key_header == "both"
    with_header = text.replace("[providers.p]", "[providers.p]\nkey_header='none'")
    assert table(with_header).resolve("m", "messages").key_header == "none"


def test_rehearsal_is_always_routable_and_never_stands_for_another_name() -> None:
    routes = table()
    route = routes.resolve("rehearsal", "responses")
    assert (route.embedded, route.url, route.native, route.key_header) == (
        True,
        "/v1/responses",
        True,
        "none",
    )
    assert routes.resolve("claude-rehearsal[1m]", "messages").embedded
    assert [model.name for model in routes.models] == ["rehearsal"]
    with pytest.raises(UnknownModel):
        routes.resolve("rehearsa", "chat")


def test_the_list_has_what_can_be_asked_for_and_nothing_else() -> None:
    routes = table(MOCK, SEED)
    names = [model.name for model in routes.models]
    assert names[:3] == ["m", "n", "forced"]
    assert names[-1] == "rehearsal"
    assert "glm-5.2" not in names, "a provider in the file: the environment adds none"
    assert {"n-alias", "twice"} <= set(names)
    for name in names:
        assert routes.resolve(name, "chat")
        assert routes.find_model(f"claude-{name}[1m]")
    assert routes.find_model("nope") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[providers.p]\npreset = 'zia'",
            "/x/d.toml:2: providers.p.preset: no such preset: zia (nearest: zai)",
        ),
        (
            "[providers.p]\nprofile='x'",
            "/x/d.toml:2: providers.p.profile: no such profile: x (known: anthropic, ",
        ),
        ("[providers.p]\nkey_env='K'", "/x/d.toml:1: providers.p: no address: give wires.chat"),
        (
            "[providers.p]\nwires.chat='http://h'\n[providers.p.dialect]\nstop_limits=1",
            "/x/d.toml:4: providers.p.dialect.stop_limits: unknown quirk stop_limits (nearest: stop_limit)",
        ),
        (MOCK + "\n[models.q]\nprovider='mokc'", "models.q.provider: no such provider: mokc (nearest: mock)"),
        (
            MOCK + "\n[models.q]\nprovider='chatty'\nwire='messages'",
            "models.q.wire: provider chatty does not offer messages (it offers chat)",
        ),
        ("[models.q]", "/x/d.toml:1: models.q: no provider: name one, or set gateway.default_provider"),
        ("[aliases]\na = 'b'\nb = 'c'\nc = 'b'", "/x/d.toml:2: aliases.a: this alias leads back to itself"),
        (MOCK + 'q = "mm"\n', "aliases.q: no route for mm (nearest: m)"),
        (
            MOCK + "[models.q]\nprovider='mock'\nfallback=['forcde']",
            "models.q.fallback[0]: no route for forcde",
        ),
    ],
)
def test_names_that_do_not_exist_are_found_at_start_by_line(text: str, message: str) -> None:
    assert message in mistake(text)


def test_explain_tells_the_way_and_is_json() -> None:
    explained = table("", SEED).explain("claude-opus-4-6[1m]")
    assert json.loads(json.dumps(explained)) == explained
    assert explained["steps"] == [
        "the label [1m] belongs to the client and is left out",
        "stands for glm-5.2",
        "in the catalogue of provider zai",
    ]
    by_wire = {route["client_wire"]: route for route in explained["routes"]}
    assert by_wire["responses"]["shims"][0] == "translated from responses to messages"
    assert by_wire["messages"]["native"]
    with pytest.raises(UnknownModel):
        table().explain("m")


def test_explain_names_no_change_that_is_not_made() -> None:
    text = '[providers.p]\nkey_env = "K"\nwires.%s = "http://127.0.0.1:1"\n[models."m"]\nprovider = "p"'
    for wire in ("responses", "chat", "messages"):
        (found,) = [r for r in table(text % wire).explain("m")["routes"] if r["native"]]
        private = {
            "responses": ["client_metadata (working directory, commit hash) is left out"],
            "messages": ["Claude Code's billing line is left out"],
        }
        assert found["shims"] == private.get(wire, [])


def test_a_second_lookup_is_the_same_object_and_unknown_names_do_not_pile_up() -> None:
    routes = table("", SEED)
    assert routes.resolve("glm-5.2", "chat") is routes.resolve("glm-5.2", "chat")
    for number in range(5000):
        routes.resolve(f"x-{number}", "chat")
    assert len(routes._routes) <= 4096


@given(st.text(max_size=40))
def test_any_name_gives_a_route_or_a_404(name: str) -> None:
    for routes in (TABLE, DEFAULTED):
        try:
            assert routes.resolve(name, "chat").model == name
        except UnknownModel as error:
            assert routes is TABLE
            assert error.http_status == 404  # noqa: PT017


TABLE = table(MOCK)
DEFAULTED = table("", SEED)
