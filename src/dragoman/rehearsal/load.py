"""Reading scenario files: every mistake is one sentence with the file, the line and the nearest key."""

from __future__ import annotations

import difflib
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from dragoman.errors import DragomanError, ExitCode
from dragoman.rehearsal.placeholders import GROUPED, NAMES, placeholder_names
from dragoman.rehearsal.scenario import (
    SCENARIO_VERSION,
    Fail,
    Pace,
    Rule,
    Scenario,
    Step,
    ToolUse,
    When,
    Wire,
)
from dragoman.rehearsal.toml_lines import Path as KeyPath
from dragoman.rehearsal.toml_lines import key_lines

DEFAULT_SIDE_ANSWER = "A rehearsal session"

_CLIENTS = ("claude", "codex")
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
_CHOICES = {"wire": get_args(Wire), "tools": ("offered", "none", "any")}
_NESTED: dict[str, type[msgspec.Struct]] = {"pace": Pace, "fail": Fail}
_Shape = TypeVar("_Shape", bound=msgspec.Struct)


class ScenarioInvalid(DragomanError):
    """A scenario file that cannot be played; the message names the file and the line."""

    code = "scenario_invalid"
    exit_code = ExitCode.USAGE


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    rule: list[dict[str, Any]]
    name: str | None = None
    about: str = ""
    models: tuple[str, ...] = ("*",)
    pace: Pace = Pace()
    side: str = DEFAULT_SIDE_ANSWER


class _RuleTable(msgspec.Struct, forbid_unknown_fields=True):
    do: list[dict[str, Any]]
    name: str | None = None
    when: dict[str, Any] = {}
    pace: Pace | None = None


class _StepTable(msgspec.Struct, forbid_unknown_fields=True):
    think: str | None = None
    say: str | None = None
    call: dict[str, Any] | None = None
    fail: Fail | None = None
    delay_s: float | None = None
    cut: bool | None = None


def shipped_names() -> list[str]:
    """List the scenarios that come with dragoman."""
    folder = resources.files("dragoman.rehearsal") / "scenarios"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if _is_toml(entry.name))


def load_scenario(name_or_path: str) -> Scenario:
    """Read a shipped scenario by name, or a file by path.

    Raises:
        ScenarioInvalid: there is no such scenario, or the file has a mistake.
    """
    shipped = shipped_names()
    if name_or_path in shipped:
        entry = resources.files("dragoman.rehearsal") / "scenarios" / f"{name_or_path}.toml"
        return parse_scenario(entry.read_bytes(), f"{name_or_path}.toml")
    path = Path(name_or_path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        near = _nearest(name_or_path, tuple(shipped))
        raise ScenarioInvalid(
            f"cannot read the scenario {name_or_path}: {error.strerror}{near}",
            hint=f"give the path of a file, or one of: {', '.join(shipped)}",
        ) from error
    return parse_scenario(raw, str(path))


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
        raise ScenarioInvalid(f"{source}, line {line}: the text is not UTF-8") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioInvalid(_syntax_message(source, str(error), text)) from error
    return _Reader(text, source).scenario(document)


def _is_toml(name: str) -> bool:
    return name.endswith(".toml")


def _syntax_message(source: str, said: str, text: str) -> str:
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", said)
    if place is None:
        return f"{source}: {said}"
    line = place[1] or str(text.rstrip("\n").count("\n") + 1)
    return f"{source}, line {line}: {said[: place.start()]}"


class _Reader:
    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source

    def scenario(self, document: dict[str, Any]) -> Scenario:
        if "version" not in document:
            raise self.wrong(
                (), f"`version = {SCENARIO_VERSION}` is missing", hint="begin the file with that line"
            )
        # Before anything else: a later version may hold keys that this one does not know.
        if document["version"] != SCENARIO_VERSION:
            raise self.wrong(
                ("version",), f"version {document['version']} is not known; it must be {SCENARIO_VERSION}"
            )
        table = self.shape(document, _File, ())
        for position, pattern in enumerate(table.models):
            if not pattern:
                raise self.wrong(("models", position), "a model name cannot be empty")
        self.check_pace(table.pace, ("pace",))
        if not table.rule:
            raise self.wrong(("rule",), "there is no [[rule]]")
        rules = tuple(self.rule(raw, ("rule", position)) for position, raw in enumerate(table.rule))
        for position, rule in enumerate(rules[:-1]):
            if rule.when == When(tools="any"):
                at: KeyPath = ("rule", position + 1)
                raise self.wrong(at, f"never reached: the rule before it, '{rule.name}', always holds")
        return Scenario(
            name=table.name or Path(self.source).stem,
            about=table.about,
            models=table.models,
            pace=table.pace,
            side=table.side,
            rules=rules,
        )

    def rule(self, raw: dict[str, Any], at: KeyPath) -> Rule:
        table = self.shape(raw, _RuleTable, at)
        when = self.when(table.when, (*at, "when"))
        if table.pace is not None:
            self.check_pace(table.pace, (*at, "pace"))
        if not table.do:
            raise self.wrong(
                (*at, "do"), "the rule does nothing", hint='for example: do = [{ say = "Hello." }]'
            )
        steps: list[Step] = []
        for position, step in enumerate(table.do):
            step_at = (*at, "do", position)
            if steps and (steps[-1].cut or steps[-1].fail):
                raise self.wrong(step_at, "never reached: the step before it ends the answer")
            steps.append(self.step(step, step_at))
            self.check_placeholders(step, when, step_at)
        return Rule(name=table.name or f"rule {at[-1]}", when=when, do=tuple(steps), pace=table.pace)

    def when(self, raw: dict[str, Any], at: KeyPath) -> When:
        when = self.shape(raw, When, at)
        for key in ("user_matches", "result_matches"):
            pattern = getattr(when, key)
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise self.wrong((*at, key), f"`{key}` is not a regular expression: {error}") from None
        if when.tools == "none" and when.offers:
            raise self.wrong((*at, "tools"), '`tools = "none"` and `offers` contradict each other')
        return when

    def step(self, raw: dict[str, Any], at: KeyPath) -> Step:
        table = self.shape(raw, _StepTable, at)
        given = [key for key in table.__struct_fields__ if getattr(table, key) is not None]
        if len(given) != 1:
            here = f"; here are {' and '.join(given)}" if given else ""
            raise self.wrong(at, f"a step is exactly one of: {', '.join(table.__struct_fields__)}{here}")
        if table.delay_s is not None and table.delay_s < 0:
            raise self.wrong((*at, "delay_s"), "`delay_s` cannot be negative")
        if table.cut is False:
            raise self.wrong((*at, "cut"), "`cut` can only be true")
        if table.fail is not None and not 400 <= table.fail.status <= 599:
            raise self.wrong((*at, "fail", "status"), "`status` must be between 400 and 599")
        call = None if table.call is None else self.call(table.call, (*at, "call"))
        return Step(
            think=table.think,
            say=table.say,
            call=call,
            fail=table.fail,
            delay_s=table.delay_s,
            cut=table.cut,
        )

    def call(self, raw: dict[str, Any], at: KeyPath) -> tuple[ToolUse, ...]:
        clients = [client for client in raw if client in _CLIENTS]
        if not clients:
            return (self.tool_use(raw, at, also=_CLIENTS),)
        for key in raw:
            if key not in _CLIENTS:
                raise self.unknown((*at, key), key, _CLIENTS)
            if not isinstance(raw[key], dict):
                raise self.wrong((*at, key), f"`{key}` must be a table")
        return tuple(self.tool_use(raw[client], (*at, client)) for client in clients)

    def tool_use(self, raw: dict[str, Any], at: KeyPath, *, also: tuple[str, ...] = ()) -> ToolUse:
        use = self.shape(raw, ToolUse, at, also=also)
        if use.args is not None and use.input is not None:
            raise self.wrong(at, "a call has `args` or `input`, not both")
        return use

    def check_pace(self, pace: Pace, at: KeyPath) -> None:
        if pace.tokens_per_s < 0 or pace.first_byte_s < 0:
            raise self.wrong(at, "a pace cannot be negative")
        if pace.chunk_tokens < 1:
            raise self.wrong((*at, "chunk_tokens"), "`chunk_tokens` must be at least 1")

    def check_placeholders(self, step: dict[str, Any], when: When, at: KeyPath) -> None:
        for name in placeholder_names(step):
            root, _, group = name.partition(".")
            if root not in NAMES or (group and root not in GROUPED):
                near = _nearest(name, NAMES)
                raise self.wrong(
                    at, f"unknown placeholder `${{{name}}}`{near}", hint=f"known: {', '.join(NAMES)}"
                )
            if not group:
                continue
            pattern = when.user_matches if root == "user" else when.result_matches
            if pattern is None:
                raise self.wrong(at, f"`${{{name}}}` needs `{root}_matches` in the rule's `when`")
            compiled = re.compile(pattern)
            if group not in compiled.groupindex and not (group.isdigit() and int(group) <= compiled.groups):
                raise self.wrong(at, f"`${{{name}}}`: `{root}_matches` has no group `{group}`")

    def shape(self, raw: Any, shape: type[_Shape], at: KeyPath, *, also: tuple[str, ...] = ()) -> _Shape:
        try:
            return msgspec.convert(raw, shape)
        except msgspec.ValidationError as error:
            raise self.misfit(str(error), shape, at, also) from None

    def misfit(
        self, said: str, shape: type[msgspec.Struct], at: KeyPath, also: tuple[str, ...]
    ) -> ScenarioInvalid:
        """Put msgspec's words for a wrong shape into those of the file."""
        if place := re.search(r" - at `\$([^`]*)`$", said):
            said = said[: place.start()]
            steps = re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", place[1])
            at = (*at, *(name or int(index) for name, index in steps))
        key = next((part for part in reversed(at) if isinstance(part, str)), "")
        if found := re.fullmatch(r"Object contains unknown field `(.*)`", said):
            inner = _NESTED.get(key, shape) if place else shape
            return self.unknown((*at, found[1]), found[1], (*inner.__struct_fields__, *also))
        if found := re.fullmatch(r"Object missing required field `(.*)`", said):
            return self.wrong(at, f"`{found[1]}` is missing")
        if found := re.fullmatch(r"Expected `(.*)`, got `(.*)`", said):
            wanted = [_KINDS.get(kind, kind) for kind in found[1].split(" | ") if kind != "null"]
            got = _KINDS.get(found[2], found[2])
            return self.wrong(at, f"`{key}` must be {' or '.join(wanted)}, not {got}")
        if found := re.fullmatch(r"Invalid enum value (.*)", said):
            choices = _CHOICES.get(key, ())
            near = _nearest(found[1].strip("'"), choices)
            return self.wrong(at, f"`{key}` cannot be {found[1]}{near}", hint=f"one of: {', '.join(choices)}")
        return self.wrong(at, said)

    def unknown(self, at: KeyPath, key: str, known: tuple[str, ...]) -> ScenarioInvalid:
        if "do" in known and key in _StepTable.__struct_fields__:
            return self.wrong(at, f"`{key}` is a step and stands in `do`: do = [{{ {key} = ... }}]")
        return self.wrong(
            at, f"unknown key `{key}`{_nearest(key, known)}", hint=f"known here: {', '.join(known)}"
        )

    def wrong(self, at: KeyPath, message: str, *, hint: str | None = None) -> ScenarioInvalid:
        lines = key_lines(self.text)
        while at and at not in lines:
            at = at[:-1]
        return ScenarioInvalid(
            f"{self.source}, line {lines.get(at, 1)}: {message}",
            hint=hint or "docs/scenarios.md describes the format",
        )


def _nearest(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean `{near[0]}`?" if near else ""
