from __future__ import annotations

import pytest

from dragoman.catalog.presets import shipped_presets
from dragoman.catalog.profiles import BadDialect, load_profile, make_dialect, profile_names
from dragoman.wire.dialect import Dialect
from dragoman.wire.same_wire import is_checked
from dragoman.wire.turns import Wire

WIRES: tuple[Wire, ...] = ("responses", "chat", "messages")


def dialect(profile: str, wire: Wire, model: str = "m") -> Dialect:
    return make_dialect(load_profile(profile), wire, model, realm="provider:p")


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_gives_a_dialect_on_every_wire_for_every_family(name: str) -> None:
    profile = load_profile(name)
    models = ["m", *(pattern.replace("*", "x") for family in profile.families for pattern in family.models)]
    for wire in WIRES:
        for model in models:
            assert dialect(name, wire, model).realm


def test_the_profiles_the_documentation_names_are_shipped() -> None:
    wanted = {
        "generic",
        "openai",
        "anthropic",
        "zai",
        "deepseek",
        "kimi",
        "qwen",
        "openrouter",
        "ollama",
        "vllm",
    }
    assert wanted | {"lmstudio"} <= set(profile_names())


def test_an_unknown_profile_is_a_key_error() -> None:
    for name in ("zia", "../presets", ""):
        with pytest.raises(KeyError):
            load_profile(name)


def test_a_provider_without_a_realm_of_its_vendor_has_its_own() -> None:
    assert dialect("generic", "chat").realm == "provider:p"
    assert dialect("zai", "chat").realm == dialect("zai", "messages").realm == "zai"


def test_glm_words_for_effort_depend_on_the_model() -> None:
    glm = dialect("zai", "chat")
    assert [glm.effort_word("glm-5.2", e) for e in ("minimal", "low", "medium", "xhigh")] == [
        "off",
        "high",
        "high",
        "max",
    ]
    assert glm.effort_word("glm-5.3", "low") == "low"
    assert glm.effort_word("glm-5.1", "high") is None
    assert glm.effort_word("glm-5.1", "none") == "off"


def test_glm_codes_are_read_as_what_they_mean() -> None:
    codes = dialect("zai", "messages").error_codes
    meant = {
        "1261": "context",
        "1302": "rate",
        "1305": "overloaded",
        "1308": "quota_window",
        "1211": "not_found",
    }
    assert {code: codes[code] for code in meant} == meant


def test_deepseek_demands_reasoning_back_and_takes_no_forced_tool_while_thinking() -> None:
    for wire in WIRES:
        found = dialect("deepseek", wire)
        assert found.reasoning_required
        assert not found.freeform_tools
        assert found.tool_choices_thinking is not None
        assert "named" not in found.tool_choices_thinking


def test_older_claude_models_get_a_budget_and_newer_ones_adaptive_thinking() -> None:
    for model in (
        "claude-sonnet-4-5",
        "claude-haiku-4-5-20251001",
        "claude-opus-4-5",
        "claude-3-7-sonnet-latest",
    ):
        found = dialect("anthropic", "messages", model)
        assert (found.thinking_key, found.budget_tokens, found.late_system) == ("thinking", True, False)
    for model in ("claude-opus-4-6", "claude-opus-4-8", "claude-sonnet-5", "claude-haiku-5-5", "m-up"):
        found = dialect("anthropic", "messages", model)
        assert (found.thinking_key, found.budget_tokens, found.late_system) == ("adaptive", False, True)
    anthropic = dialect("anthropic", "messages")
    assert anthropic.effort_word("claude-opus-4-6", "xhigh") == "max"
    assert anthropic.effort_word("claude-sonnet-5-5", "xhigh") == "xhigh"
    assert not anthropic.unsigned_thinking


def test_openai_reasoning_models_take_no_temperature() -> None:
    assert not dialect("openai", "chat", "gpt-5.5").sampling_with_thinking
    assert dialect("openai", "chat", "gpt-4.1").sampling_with_thinking
    assert dialect("openai", "chat").max_tokens_key == "max_completion_tokens"
    assert dialect("openai", "responses").freeform_tools


def test_a_profile_starts_from_the_one_it_is_like() -> None:
    local, ollama = dialect("local", "chat"), dialect("ollama", "chat")
    assert ollama.params == local.params
    assert ollama.reasoning_field == "reasoning"
    assert local.reasoning_field == "reasoning_content"


def test_single_quirks_can_be_overridden_and_mistakes_are_named() -> None:
    profile = load_profile("generic")
    found = make_dialect(profile, "chat", "m", realm="r", overrides={"think_tags": True, "stop_limit": 1})
    assert (found.think_tags, found.stop_limit) == (True, 1)
    with pytest.raises(BadDialect, match="unknown quirk think_tag") as failure:
        make_dialect(profile, "chat", "m", realm="r", overrides={"think_tag": True})
    assert failure.value.field == "think_tag"
    with pytest.raises(BadDialect) as failure:
        make_dialect(profile, "chat", "m", realm="r", overrides={"stop_limit": "one"})
    assert failure.value.field == "stop_limit"


def test_every_preset_names_a_shipped_profile_and_a_safe_address() -> None:
    presets = shipped_presets()
    wanted = {
        "zai",
        "deepseek",
        "openai",
        "anthropic",
        "kimi",
        "qwen",
        "openrouter",
        "ollama",
        "vllm",
        "lmstudio",
    }
    assert wanted <= set(presets)
    for preset in presets.values():
        assert preset.profile in profile_names()
        for base in preset.wires.values():
            assert base.startswith(("https://", "http://127.0.0.1:"))
            assert not base.endswith("/")
    assert list(presets["zai"].wires) == ["messages", "chat"]
    assert presets["zai"].wires["chat"] == "https://api.z.ai/api/coding/paas/v4"
    assert set(presets["deepseek"].wires) == {"chat", "messages", "responses"}


def test_codexs_private_fields_and_its_own_items_are_for_its_vendor_alone() -> None:
    told = {name for name in profile_names() if dialect(name, "responses").keeps_client_metadata}
    assert told == {"openai"}
    assert {name for name in profile_names() if dialect(name, "responses").compaction_items} == {"openai"}


CHECKED: dict[str, set[Wire]] = {
    "anthropic": {"messages"},
    "deepseek": {"chat", "messages", "responses"},
    "kimi": {"chat", "messages"},
    "lmstudio": {"messages"},
    "local": {"messages"},
    "ollama": {"messages"},
    "openrouter": {"messages"},
    "qwen": {"messages"},
    "vllm": {"messages"},
    "zai": {"messages"},
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", profile_names())
def test_each_profile_says_itself_whether_requests_on_its_own_wire_are_checked(name: str, wire: Wire) -> None:
    found = dialect(name, wire)
    if wire in CHECKED.get(name, ()):
        assert found.checked
    elif (name, wire) in {("rehearsal", "messages")}:
        assert found.checked is False
    elif any(wire in preset.wires for preset in shipped_presets().values() if preset.profile == name):
        assert not is_checked(wire, found)  # a quirk told in dragoman.toml may still ask for it
    families = [pattern for family in load_profile(name).families for pattern in family.models]
    for pattern in families:
        assert dialect(name, wire, pattern).checked == found.checked


def test_a_quirk_of_ones_own_asks_for_the_check_where_the_profile_is_silent() -> None:
    told = make_dialect(
        load_profile("generic"), "messages", "m", realm="r", overrides={"strip_fields": ["x"]}
    )
    assert not is_checked("messages", dialect("generic", "messages"))
    assert is_checked("messages", told)


def test_glm_tells_its_times_in_the_zone_of_its_home() -> None:
    assert {wire: dialect("zai", wire).reset_utc_offset_h for wire in WIRES} == dict.fromkeys(WIRES, 8.0)
