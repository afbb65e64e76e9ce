from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from dragoman.catalog.presets import shipped_presets
from dragoman.catalog.profiles import profile_names
from dragoman.config.load import parse_config
from dragoman.gateway.routes import RouteTable

DOCUMENT = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")


def preset_table() -> str:
    lines = ["| preset | | wires, the preferred one first | key in |", "| --- | --- | --- | --- |"]
    for name, preset in shipped_presets().items():
        key = f"`{preset.key_env}`" if preset.key_env else "none needed"
        lines.append(f"| `{name}` | {preset.title} | {', '.join(preset.wires)} | {key} |")
    return "\n".join(lines)


def test_the_documentation_lists_every_preset_and_profile() -> None:
    assert preset_table() in DOCUMENT
    assert ", ".join(profile_names()) in DOCUMENT


EXAMPLES = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_of_the_documentation_is_a_configuration_that_loads(number: int) -> None:
    text = EXAMPLES[number]
    tree = tomllib.loads(text)
    providers = tree.get("providers", {})
    if not any("preset" in table or "wires" in table for table in providers.values()):
        wires = "" if "mine" in providers else "[providers.zai]\n[providers.deepseek]\n"
        text += wires or "\n[providers.mine.wires]\nchat = 'http://127.0.0.1:1/v1'\n"
    RouteTable(parse_config(text, {}))
