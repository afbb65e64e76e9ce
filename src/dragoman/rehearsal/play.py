"""Picking the rule and composing the answer: a pure function of scenarios and request."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from dragoman.rehearsal.answer import Answer, Call, Cut, Failure, Part, Silence, Speech, Thought, Usage
from dragoman.rehearsal.asked import CHARACTERS_PER_TOKEN, Asked, OfferedTool, ToolResult, tokens_in
from dragoman.rehearsal.instance import instance_of
from dragoman.rehearsal.placeholders import Unfilled, fill
from dragoman.rehearsal.scenario import Fail, Pace, Rule, Scenario, Step, ToolUse, When

# Below this a real cache does not keep a prefix.
SMALLEST_CACHED_TOKENS = 1024
_NAME_BOUNDARY = re.compile(r"(?:__|[.:/-])$")

# How the clients' requests for a summary begin (Codex 0.16x, Claude Code 2.1.x).
_SUMMARY_PROMPTS = (
    "You are performing a CONTEXT CHECKPOINT COMPACTION",
    "Your task is to create a detailed summary of the conversation",
)


class _Unplayable(Exception):
    """A rule that holds but cannot be played on this request."""


class _Match(msgspec.Struct, frozen=True):
    user: re.Match[str] | None = None
    result: re.Match[str] | None = None
    earlier: re.Match[str] | None = None
    result_text: str = ""


def answers_for(model: str, scenarios: Sequence[Scenario]) -> list[Scenario]:
    """List the scenarios that answer for a model name."""
    return [one for one in scenarios if any(fnmatchcase(model, pattern) for pattern in one.models)]


def play(asked: Asked, scenarios: Sequence[Scenario]) -> Answer:
    """Answer a request with the first rule that holds.

    Without one, a side call (no tools offered) gets the scenario's side answer. Anything else is refused, and
    the refusal says what was asked: a play that leaves its script must not look like success.
    """
    known = answers_for(asked.model, scenarios)
    if not known:
        message = f"the model '{asked.model}' does not exist" + _nearest_model(asked.model, scenarios)
        return _refuse(asked, "", "no such model", Failure(404, message))
    for scenario in known:
        for rule in scenario.rules:
            if (match := _matches(rule.when, asked)) is not None:
                try:
                    parts = tuple(_perform(rule, asked, match))
                except _Unplayable as error:
                    message = f"scenario '{scenario.name}', rule '{rule.name}': {error}"
                    return _refuse(asked, scenario.name, rule.name, Failure(400, message))
                return _compose(asked, scenario.name, rule.name, parts, rule.pace or scenario.pace)
    if not asked.tools:
        return _compose(asked, known[0].name, "side call", (Speech(_side_text(asked, known[0])),), Pace())
    names = ", ".join(f"'{scenario.name}'" for scenario in known)
    message = f"no rule of {names} holds for this request ({_describe(asked)})"
    return _refuse(asked, known[0].name, "no rule", Failure(400, message))


def offered(name: str, tools: Sequence[OfferedTool]) -> OfferedTool | None:
    """Find the offered tool of a logical name: that very name, or one that a client prefixed."""
    for tool in tools:
        if tool.name == name:
            return tool
    for tool in tools:
        if tool.name.endswith(name) and _NAME_BOUNDARY.search(tool.name[: -len(name)]):
            return tool
    return None


def _matches(when: When, asked: Asked) -> _Match | None:
    """None where a condition fails, else what the regular expressions found."""
    match when.tools:
        case "offered" if not asked.tools:
            return None
        case "none" if asked.tools:
            return None
        case "any" if _wants_title_or_summary(asked):
            return None
        case _:
            pass
    if when.wire is not None and asked.wire not in when.wire:
        return None
    if when.model is not None and not fnmatchcase(asked.model, when.model):
        return None
    if when.turn is not None and asked.turn not in when.turn:
        return None
    if when.turn_min is not None and asked.turn < when.turn_min:
        return None
    if when.offers is not None and not all(offered(name, asked.tools) for name in when.offers):
        return None
    if when.user_contains is not None and when.user_contains not in asked.user_text:
        return None
    user = re.search(when.user_matches, asked.user_text) if when.user_matches is not None else None
    if when.user_matches is not None and user is None:
        return None
    earlier = _newest(when.earlier_matches, asked.earlier)
    if when.earlier_matches is not None and earlier is None:
        return None
    if not when.about_results:
        return _Match(user, None, earlier, asked.results[-1].text if asked.results else "")
    for result in reversed(asked.results):
        holds, found = _result_matches(when, result)
        if holds:
            return _Match(user, found, earlier, result.text)
    return None


def _newest(pattern: str | None, results: Sequence[ToolResult]) -> re.Match[str] | None:
    if pattern is None:
        return None
    return next((found for one in reversed(results) if (found := re.search(pattern, one.text))), None)


def _result_matches(when: When, result: ToolResult) -> tuple[bool, re.Match[str] | None]:
    if when.result_tool is not None and offered(when.result_tool, [OfferedTool(result.tool)]) is None:
        return False, None
    if when.result_contains is not None and when.result_contains not in result.text:
        return False, None
    if when.result_matches is None:
        return True, None
    found = re.search(when.result_matches, result.text)
    return found is not None, found


def _perform(rule: Rule, asked: Asked, match: _Match) -> Iterator[Part]:
    def lookup(name: str) -> str | None:
        root, _, group = name.partition(".")
        if group:
            found = {"user": match.user, "result": match.result, "earlier": match.earlier}[root]
            return None if found is None else found[int(group) if group.isdigit() else group]
        values = {
            "cwd": asked.cwd,
            "model": asked.model,
            "wire": asked.wire,
            "turn": str(asked.turn),
            "user": asked.user_text,
            "result": match.result_text,
        }
        return values[root]

    def filled(value: Any) -> Any:
        try:
            return fill(value, lookup)
        except Unfilled as error:
            raise _Unplayable(f"the request has no value for `${{{error.name}}}`") from None

    for position, step in enumerate(rule.do):
        match step:
            case Step(think=str(text)):
                if asked.wishes.thinking:
                    yield Thought(filled(text))
            case Step(say=str(text)):
                yield Speech(filled(text))
            case Step(call=tuple(alternatives)):
                tool, use = _chosen(alternatives, asked.tools)
                yield Call(f"{asked.digest}{position}", tool, _payload(tool, use, filled))
            case Step(fail=Fail() as fail):
                message = filled(fail.message or "the scenario asks for this error")
                yield Failure(fail.status, message, fail.code, fail.retry_after_s)
            case Step(delay_s=float(seconds)):
                yield Silence(seconds)
            case _:
                yield Cut()


def _chosen(alternatives: Sequence[ToolUse], tools: Sequence[OfferedTool]) -> tuple[OfferedTool, ToolUse]:
    for use in alternatives:
        if (tool := offered(use.tool, tools)) is not None:
            return tool, use
    wanted = " or ".join(f"'{use.tool}'" for use in alternatives)
    names = ", ".join(tool.name for tool in tools) or "none"
    raise _Unplayable(f"it calls {wanted}; the request offers {names}")


def _payload(tool: OfferedTool, use: ToolUse, filled: Any) -> str:
    if tool.kind == "custom":
        if use.input is None:
            raise _Unplayable(f"the tool '{tool.name}' takes one text; the call needs `input`")
        return filled(use.input)
    arguments = use.args or {}
    if use.input is not None:
        # A freeform tool that came over another wire as a function of one argument.
        arguments = {"input" if "input" in tool.properties else (*tool.properties, "input")[0]: use.input}
    return msgspec.json.encode(filled(arguments)).decode()


def _compose(asked: Asked, scenario: str, rule: str, parts: tuple[Part, ...], pace: Pace) -> Answer:
    delay_s = pace.first_byte_s
    while parts and isinstance(parts[0], Silence):
        delay_s += parts[0].seconds
        parts = parts[1:]
    finish = "tools" if any(isinstance(part, Call) for part in parts) else "stop"
    limit = asked.wishes.max_output_tokens
    if limit is not None and sum(_tokens(part) for part in parts) > limit:
        parts, finish = tuple(_within(parts, limit)), "length"
    return Answer(
        scenario=scenario,
        rule=rule,
        parts=parts,
        finish=finish,
        pace=pace,
        usage=_usage(asked, parts),
        head_delay_s=delay_s,
    )


def _refuse(asked: Asked, scenario: str, rule: str, failure: Failure) -> Answer:
    return _compose(asked, scenario, rule, (failure,), Pace())


def _within(parts: Sequence[Part], limit: int) -> Iterator[Part]:
    """Cut an answer at its token limit; a call that does not fit is not made."""
    left = limit
    for part in parts:
        match part:
            case Thought(text) | Speech(text) if _tokens(part) > left:
                yield type(part)(text[: left * CHARACTERS_PER_TOKEN])
                return
            case Call() if _tokens(part) > left:
                return
            case _:
                yield part
                left -= _tokens(part)


def _tokens(part: Part) -> int:
    match part:
        case Thought(text) | Speech(text):
            return tokens_in(len(text))
        case Call(payload=payload):
            return tokens_in(len(payload))
        case _:
            return 0


def _usage(asked: Asked, parts: Sequence[Part]) -> Usage:
    cached = asked.wishes.caching and asked.prompt_tokens >= SMALLEST_CACHED_TOKENS
    read = asked.prefix_tokens if cached and asked.prefix_tokens >= SMALLEST_CACHED_TOKENS else 0
    return Usage(
        input=asked.prompt_tokens,
        cache_read=read,
        cache_write=asked.prompt_tokens - read if cached else 0,
        output=sum(_tokens(part) for part in parts),
        reasoning=sum(_tokens(part) for part in parts if isinstance(part, Thought)),
    )


def _wants_title_or_summary(asked: Asked) -> bool:
    if asked.tools:
        return False
    return asked.wishes.output_schema is not None or asked.user_text.startswith(_SUMMARY_PROMPTS)


def _side_text(asked: Asked, scenario: Scenario) -> str:
    if asked.wishes.output_schema is not None:
        return msgspec.json.encode(instance_of(asked.wishes.output_schema, scenario.side)).decode()
    if asked.user_text.startswith(_SUMMARY_PROMPTS):
        return (
            "A rehearsal is under way. Its script is in the scenario; nothing of it needs to be remembered."
        )
    return scenario.side


def _nearest_model(model: str, scenarios: Sequence[Scenario]) -> str:
    names = [name for scenario in scenarios for name in scenario.models]
    near = difflib.get_close_matches(model, names, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _describe(asked: Asked) -> str:
    newest = f", newest tool result from '{asked.results[-1].tool}'" if asked.results else ""
    return f"wire {asked.wire}, turn {asked.turn}{newest}"
