from __future__ import annotations

import re
from pathlib import Path

from dragoman.config.environment import environment_markdown, environment_table, variables

DOCUMENT = Path(__file__).parents[2] / "docs" / "setup.md"


def test_every_plain_key_has_a_variable_of_its_own() -> None:
    names = {variable.key: variable.ours for variable in variables()}
    assert names["gateway.port"] == "DRAGOMAN_PORT"
    assert names["log.level"] == "DRAGOMAN_LOG_LEVEL"
    assert names["delegation.sandbox.level"] == "DRAGOMAN_DELEGATION_SANDBOX_LEVEL"
    assert len(set(names.values())) == len(names)
    assert not {"DRAGOMAN_HOME", "DRAGOMAN_RUN", "DRAGOMAN_DATABASE"} & set(names.values())


def test_the_table_maps_each_variable_of_other_tools_once() -> None:
    rows = environment_table()
    seeds = [row.seed for row in rows]
    assert len(set(seeds)) == len(seeds)
    assert {"ZAI_API_KEY", "ZAI_BASE_URL", "PROXY_PORT", "LOG_LEVEL", "CLAUDE_BIN"} <= set(seeds)
    keys = {variable.key for variable in variables()} | {"clients.claude"}
    assert {row.key for row in rows if row.key and not row.key.startswith("providers.")} <= keys


def test_the_documentation_holds_the_generated_table() -> None:
    assert environment_markdown() in DOCUMENT.read_text(encoding="utf-8")


def test_every_variable_of_ours_the_documentation_names_exists() -> None:
    ours = {variable.ours for variable in variables()} | {row.ours for row in environment_table()}
    named = set(re.findall(r"DRAGOMAN_[A-Z_]*[A-Z]", DOCUMENT.read_text(encoding="utf-8")))
    assert named <= ours | {"DRAGOMAN_HOME"}
