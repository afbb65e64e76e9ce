"""Which environment variables stand for which keys: ours, and those that other tools' users have set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from dragoman.config.reading import KeyPath, plain_reason
from dragoman.config.schema import Settings

ZAI_KEY = "ZAI_API_KEY"
ZAI_ADDRESS = "ZAI_BASE_URL"

SEED_NAMES: dict[str, tuple[str, ...]] = {
    "gateway.port": ("PROXY_PORT",),
    "log.level": ("LOG_LEVEL",),
    "delegation.allow_roots": ("CODEX_CLAUDE_ALLOW_ROOTS",),
    "delegation.env_passthrough": ("CODEX_CLAUDE_ENV_PASSTHROUGH",),
    "delegation.timeout_s": ("CLAUDE_GLM52_TIMEOUT_SECONDS",),
    "delegation.safety_ceiling_s": ("CLAUDE_GLM52_SAFETY_CEILING_SECONDS",),
    "delegation.max_budget_usd": ("CLAUDE_GLM52_MAX_BUDGET_USD",),
    "delegation.max_output_tokens": ("CLAUDE_GLM52_MAX_OUTPUT_TOKENS",),
}


class Variable(NamedTuple):
    """One key that the environment may set.

    Attributes:
        path: the key.
        ours: our name for it, which wins.
        seeds: names other tools used, in order.
        type: what the text is read as.
    """

    path: KeyPath
    ours: str
    seeds: tuple[str, ...]
    type: Any

    @property
    def key(self) -> str:
        return ".".join(map(str, self.path))


class Row(NamedTuple):
    """One line of the table in the documentation."""

    seed: str
    ours: str
    key: str
    note: str = ""


class BadVariable(NamedTuple):
    """A variable whose text cannot be used."""

    name: str
    reason: str


def variables() -> Iterator[Variable]:
    """Every key with a place of its own; tables with names chosen by the user have no variables."""
    for section in msgspec.structs.fields(Settings):
        if section.name == "clients":
            continue  # programs are looked for in an order of their own, by the clients room
        if isinstance(section.type, type) and issubclass(section.type, msgspec.Struct):
            prefix = "" if section.name == "gateway" else f"{section.name}_"
            yield from _of_struct(section.type, (section.name,), f"DRAGOMAN_{prefix}".upper())


def read_environment(env: Mapping[str, str]) -> tuple[dict[KeyPath, tuple[Any, str]], list[BadVariable]]:
    """Values set by the environment, each with the variable's name, and the variables that make no sense.

    An empty variable is one that is not set.
    """
    values: dict[KeyPath, tuple[Any, str]] = {}
    bad: list[BadVariable] = []
    for variable in variables():
        for name in (variable.ours, *variable.seeds):
            if text := env.get(name, "").strip():
                try:
                    values[variable.path] = (_parse(text, variable.type), name)
                except ValueError as error:
                    bad.append(BadVariable(name, str(error)))
                break
    return values, bad


def environment_table() -> list[Row]:
    """Seed variable, our variable, config key: the table the documentation shows."""
    rows = [Row(seed, v.ours, v.key) for v in variables() for seed in v.seeds]
    rows += [
        Row(
            ZAI_KEY,
            ZAI_KEY,
            "providers.zai.key_env",
            "alone it starts the gateway; also taken as client token",
        ),
        Row(ZAI_ADDRESS, "", "providers.zai.wires.chat", "then the chat wire on that host only"),
        Row("CLAUDE_BIN", "DRAGOMAN_CLAUDE_BIN", "clients.claude", "after the config, before PATH"),
        Row("CLAUDE_GLM52_WORKER_CONFIG_DIR", "", "", "every run has a private client folder"),
        Row("CODEX_CLAUDE_BACKGROUND_STATE_DIR", "DRAGOMAN_HOME", "", "all state lives in the home"),
        Row("CODEX_CLAUDE_RUN_LOG_DIR", "DRAGOMAN_HOME", "", "all state lives in the home"),
        Row("CODEX_LEAD_CC_ALLOW_PTY_FALLBACK", "", "", "no fallback is needed: the terminal is our own"),
    ]
    return sorted(rows)


def environment_markdown() -> str:
    """The table as the documentation holds it."""
    lines = ["| their variable | ours | key in `dragoman.toml` | |", "| --- | --- | --- | --- |"]
    for row in environment_table():
        cells = [f"`{cell}`" if cell else "" for cell in (row.seed, row.ours, row.key)]
        lines.append("| " + " | ".join([*cells, row.note]) + " |")
    return "\n".join(lines) + "\n"


def _of_struct(kind: type[msgspec.Struct], path: KeyPath, prefix: str) -> Iterator[Variable]:
    for field in msgspec.structs.fields(kind):
        here = (*path, field.name)
        name = prefix + field.name.upper()
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _of_struct(field.type, here, f"{name}_")
        else:
            key = ".".join(map(str, here))
            yield Variable(here, name, SEED_NAMES.get(key, ()), field.type)


def _parse(text: str, kind: Any) -> Any:
    """The value of a variable's text.

    Raises:
        ValueError: with the reason, without the text.
    """
    if _is_list(kind):
        return [part for part in re.split(f"[{re.escape(os.pathsep)},]", text) if part]
    words = _words(kind)
    if words:
        if text.lower() not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return text.lower()
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(plain_reason(error)) from None


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _words(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_args(kind) if get_origin(kind) is Literal else ()
