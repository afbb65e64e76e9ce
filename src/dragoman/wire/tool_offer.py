"""What every wire has to decide before it declares tools: whether at all, which choices may be demanded, and
how a freeform tool is described where it has to be a function."""

from __future__ import annotations

from dragoman.wire.dialect import Dialect
from dragoman.wire.errors import BadRequest
from dragoman.wire.thinking import ThinkingPlan
from dragoman.wire.tools import ToolEntry, ToolTable
from dragoman.wire.turns import ChoiceMode, RawText, Request, raw

_GAP = b"\\n\\n"


def accepted_choices(
    request: Request, tools: ToolTable, dialect: Dialect, plan: ThinkingPlan, shims: dict[str, None]
) -> frozenset[ChoiceMode] | None:
    """The tool choices this upstream takes; None when no tools are to be declared.

    Args:
        request: what the client wants.
        tools: what can be offered.
        dialect: the upstream's quirks.
        plan: whether the model is to think; some take fewer choices then.
        shims: collects short names of what was changed.

    Raises:
        BadRequest: the client demands a tool that nobody runs here.
    """
    mode = request.tool_choice.mode if request.tool_choice is not None else None
    if tools.refused:
        shims["hosted tools left out"] = None
    if not tools:
        if mode in ("required", "named") and tools.refused:
            names = ", ".join(tool.name for tool in tools.refused)
            raise BadRequest(
                f"This provider does not run the tool {names}",
                path="$.tool_choice",
                hint="choose a provider that runs it, or leave the tool out",
            )
        return None
    accepted = dialect.tool_choices
    if plan.active and dialect.tool_choices_thinking is not None:
        accepted = dialect.tool_choices_thinking
    if mode == "none" and "none" not in accepted:
        shims["tools left out for tool choice none"] = None
        return None
    return accepted


def description_of(entry: ToolEntry) -> RawText:
    """A tool's description; a wrapped one's grammar is told in words."""
    tool = entry.tool
    description = tool.description or b""
    if not entry.wrapped or tool.grammar is None:
        return description
    head = b"The input must follow this " + raw(tool.grammar.syntax) + b" grammar:\\n"
    return description + (_GAP if description else b"") + head + tool.grammar.definition
