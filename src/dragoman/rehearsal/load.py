"""Reading scenario files: every mistake is one sentence with the file, the line and the nearest key."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dragoman.config.reading import KeyPath, Problem, dotted, nearest, read_table
from dragoman.config.toml_lines import key_lines
from dragoman.errors import DragomanError, ExitCode
from dragoman.rehearsal.placeholders import GROUPED, NAMES, placeholder_names
from dragoman.rehearsal.scenario import SCENARIO_VERSION, Fail, Pace, Rule, Scenario, Step, ToolUse, When

FORMAT_HINT = "docs/scenarios.md describes the format"
DEFAULT_SIDE_ANSWER = "A rehearsal session"

_CLIENTS = ("claude", "codex")
# Conditions of which a file may give one or several.
_ONE_OR_SEVERAL = ("wire", "turn", "offers")
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class ScenarioInvalid(DragomanError):
    """A scenario that cannot be played; the message names the file and the line."""

    code = "scenario_invalid"
    exit_code = ExitCode.USAGE


class _StepTable(msgspec.Struct):
    think: str | None = None
    say: str | None = None
    call: dict[str, Any] | None = None
    fail: Fail | None = None
    delay_s: float | None = None
    cut: bool | None = None


class _RuleTable(msgspec.Struct):
    do: tuple[_StepTable, ...]
    name: str | None = None
    when: When = When()
    pace: Pace | None = None


class _File(msgspec.Struct):
    version: int
    rule: tuple[_RuleTable, ...]
    name: str | None = None
    about: str = ""
    models: tuple[str, ...] = ("*",)
    pace: Pace = Pace()
    side: str = DEFAULT_SIDE_ANSWER


def shipped_names() -> list[str]:
    """List the scenarios that come with dragoman."""
    folder = resources.files("dragoman.rehearsal") / "scenarios"
    names = [entry.name for entry in folder.iterdir()]
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_scenario(name_or_path: str) -> Scenario:
    """Read a shipped scenario by name, or a file by path.

    Raises:
        ScenarioInvalid: there is no such scenario, or the file has a mistake.
    """
    shipped = shipped_names()
    if name_or_path in shipped:
        entry = resources.files("dragoman.rehearsal") / "scenarios" / f"{name_or_path}.toml"
        return parse_scenario(entry.read_bytes(), f"{name_or_path}.toml")
    try:
        raw = Path(name_or_path).read_bytes()
    except OSError as error:
        close = nearest(name_or_path, shipped)
        raise ScenarioInvalid(
            f"cannot read the scenario {name_or_path}: {error.strerror}"
            + (f" (nearest: {close})" if close else ""),
            hint=f"give the path of a file, or one of: {', '.join(shipped)}",
        ) from None
    return parse_scenario(raw, name_or_path)


def parse_scenario(raw: bytes, source: str) -> Scenario:
    """Parse the bytes of a scenario file.

    Args:
        raw: the file.
        source: how the file is called in errors; its stem is the scenario's name unless the file gives one.

    Raises:
        ScenarioInvalid: the first mistake found.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ScenarioInvalid(f"{source}:{line}: this line is not UTF-8 text", hint=FORMAT_HINT) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioInvalid(_syntax_message(source, text, str(error)), hint=FORMAT_HINT) from None
    return _Reader(text, source).scenario(document)


def _syntax_message(source: str, text: str, said: str) -> str:
    place = re.search(r" \(at line (\d+), column \d+\)$", said)
    line = place[1] if place else text.rstrip("\n").count("\n") + 1
    reason = said[: place.start()] if place else said.removesuffix(" (at end of document)")
    return f"{source}:{line}: not valid TOML: {reason}"


class _Reader:
    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source

    def scenario(self, document: dict[str, Any]) -> Scenario:
        # Before anything else: another version may hold keys that this one does not know.
        if (version := document.get("version")) != SCENARIO_VERSION:
            said = "is missing" if version is None else f"is {version}"
            raise self.wrong(("version",), f"the version {said}; it must be `version = {SCENARIO_VERSION}`")
        _make_lists(document)
        table = self.read(_File, document, ())
        self.check_pace(table.pace, ("pace",))
        if not table.rule:
            raise self.wrong(("rule",), "there is no [[rule]]")
        rules = tuple(self.rule(rule, ("rule", number)) for number, rule in enumerate(table.rule))
        for number, rule in enumerate(rules[:-1], start=1):
            if rule.when == When(tools="any"):
                said = f"never reached: the rule before it, '{rule.name}', always holds"
                raise self.wrong(("rule", number), said)
        return Scenario(
            name=table.name or Path(self.source).stem,
            about=table.about,
            models=table.models,
            pace=table.pace,
            side=table.side,
            rules=rules,
        )

    def rule(self, table: _RuleTable, at: KeyPath) -> Rule:
        self.check_patterns(table.when, (*at, "when"))
        if table.pace is not None:
            self.check_pace(table.pace, (*at, "pace"))
        if not table.do:
            raise self.wrong((*at, "do"), "the rule does nothing")
        steps: list[Step] = []
        for number, step in enumerate(table.do):
            step_at = (*at, "do", number)
            if steps and (steps[-1].cut or steps[-1].fail):
                raise self.wrong(step_at, "never reached: the step before it ends the answer")
            steps.append(self.step(step, step_at))
            self.check_placeholders(step, table.when, step_at)
        return Rule(name=table.name or f"rule {at[-1]}", when=table.when, do=tuple(steps), pace=table.pace)

    def step(self, table: _StepTable, at: KeyPath) -> Step:
        given = [key for key in table.__struct_fields__ if getattr(table, key) is not None]
        if len(given) != 1:
            here = f"; here are {' and '.join(given)}" if given else ""
            raise self.wrong(at, f"a step is exactly one of {', '.join(table.__struct_fields__)}{here}")
        if table.delay_s is not None and table.delay_s < 0:
            raise self.wrong((*at, "delay_s"), "cannot be negative")
        if table.cut is False:
            raise self.wrong((*at, "cut"), "can only be true")
        if table.fail is not None and not 400 <= table.fail.status <= 599:
            raise self.wrong((*at, "fail", "status"), "must be between 400 and 599")
        return Step(
            think=table.think,
            say=table.say,
            call=None if table.call is None else self.call(table.call, (*at, "call")),
            fail=table.fail,
            delay_s=table.delay_s,
            cut=table.cut,
        )

    def call(self, raw: dict[str, Any], at: KeyPath) -> tuple[ToolUse, ...]:
        if not any(key in _CLIENTS for key in raw):
            return (self.tool_use(raw, at),)
        for key, value in raw.items():
            if key not in _CLIENTS:
                raise self.wrong((*at, key), f"no such client (known: {', '.join(_CLIENTS)})")
            if not isinstance(value, dict):
                raise self.wrong((*at, key), "expected a table with `tool`")
        return tuple(self.tool_use(use, (*at, client)) for client, use in raw.items())

    def tool_use(self, raw: dict[str, Any], at: KeyPath) -> ToolUse:
        use = self.read(ToolUse, raw, at)
        if use.args is not None and use.input is not None:
            raise self.wrong(at, "a call has `args` or `input`, not both")
        return use

    def check_patterns(self, when: When, at: KeyPath) -> None:
        for key in ("user_matches", "result_matches", "earlier_matches"):
            try:
                re.compile(getattr(when, key) or "")
            except re.error as error:
                raise self.wrong((*at, key), f"not a regular expression: {error}") from None
        if when.tools == "none" and when.offers:
            raise self.wrong((*at, "offers"), 'contradicts `tools = "none"`')

    def check_pace(self, pace: Pace, at: KeyPath) -> None:
        for key in ("tokens_per_s", "first_byte_s"):
            if getattr(pace, key) < 0:
                raise self.wrong((*at, key), "cannot be negative")
        if pace.chunk_tokens < 1:
            raise self.wrong((*at, "chunk_tokens"), "must be at least 1")

    def check_placeholders(self, step: _StepTable, when: When, at: KeyPath) -> None:
        for name in placeholder_names(msgspec.to_builtins(step)):
            root, _, group = name.partition(".")
            if root not in (GROUPED if group else NAMES):
                close = nearest(name, NAMES)
                said = f" (nearest: ${{{close}}})" if close else f" (known: {', '.join(NAMES)})"
                raise self.wrong(at, f"unknown placeholder ${{{name}}}{said}")
            if not group:
                continue
            pattern: str | None = getattr(when, f"{root}_matches")
            if pattern is None:
                raise self.wrong(at, f"${{{name}}} needs `{root}_matches` in the rule's `when`")
            compiled = re.compile(pattern)
            if group not in compiled.groupindex and not (group.isdigit() and int(group) <= compiled.groups):
                raise self.wrong(at, f"${{{name}}}: `{root}_matches` has no group {group}")

    def read(self, kind: type[_Struct], raw: dict[str, Any], at: KeyPath) -> _Struct:
        problems: list[Problem] = []
        table = read_table(kind, raw, at, problems)
        if table is None:
            raise self.wrong(*problems[0])
        return table

    def wrong(self, at: KeyPath, said: str) -> ScenarioInvalid:
        lines = key_lines(self.text)
        known = at
        while known and known not in lines:
            known = known[:-1]
        place = f"{self.source}:{lines.get(known, 1)}"
        if said.startswith("unknown key") and len(at) == 3 and at[-1] in _StepTable.__struct_fields__:
            said = f"a step stands in `do`: do = [{{ {at[-1]} = ... }}]"
        key = f"{dotted(at)}: " if at else ""
        return ScenarioInvalid(f"{place}: {key}{said}", hint=FORMAT_HINT)


def _make_lists(document: dict[str, Any]) -> None:
    """Put conditions of which one is given into lists; anything misshapen is left to be reported."""
    rules = document.get("rule")
    for rule in rules if isinstance(rules, list) else []:
        when = rule.get("when") if isinstance(rule, dict) else None
        for key in _ONE_OR_SEVERAL:
            if isinstance(when, dict) and key in when and not isinstance(when[key], list):
                when[key] = [when[key]]
