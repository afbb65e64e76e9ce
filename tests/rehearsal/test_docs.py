"""The description of the format says all there is, and its examples are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dragoman.rehearsal.load import parse_scenario
from dragoman.rehearsal.placeholders import GROUPED, NAMES
from dragoman.rehearsal.scenario import Fail, Pace, Step, ToolUse, When

PAGE = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_valid(example: str):
    text = example if "version" in example else "version = 1\n" + example
    if "[[rule]]" not in text:
        text += "\n[[rule]]\ndo = [{ say = 'x' }]"
    parse_scenario(text.encode(), "example.toml")


def test_every_key_and_placeholder_is_described():
    for kind in (When, Step, Fail, Pace, ToolUse):
        for field in kind.__struct_fields__:
            assert re.search(rf"\b{field}\b", PAGE), f"{kind.__name__}.{field}"
    for name in NAMES:
        assert f"${{{name}}}" in PAGE
    for name in GROUPED:
        assert f"${{{name}.1}}" in PAGE
