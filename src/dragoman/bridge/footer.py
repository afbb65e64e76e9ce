"""What a command of the bridge prints: clean text, and the footer as its last lines. Stdlib only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

BEGIN = "<<<CODEX_LEAD_CC_STATUS>>>"
END = "<<<CODEX_LEAD_CC_STATUS_END>>>"

# In this order; what is empty is left out.
_FIELDS = (
    "status", "suggested_keys", "options", "tool", "tool_input", "error", "exit_code", "busy",
    "background_tasks", "notes", "resumed", "prompt_id", "session",
)  # fmt: skip
# A file that is written or a long command would drown the footer; the question above shows it.
_MAX_INPUT_CHARACTERS = 4000


def footer(result: Mapping[str, Any]) -> str:
    """The three lines that end every command."""
    kept = {name: result[name] for name in _FIELDS if result.get(name) not in (None, "", [], (), False)}
    if len(json.dumps(kept.get("tool_input"))) > _MAX_INPUT_CHARACTERS:
        kept["tool_input"] = {
            name: value if len(str(value)) < 400 else f"{str(value)[:400]}… ({len(str(value))} characters)"
            for name, value in dict(kept["tool_input"]).items()
        }
    return f"{BEGIN}\n{json.dumps(kept, ensure_ascii=False)}\n{END}"


def without_footers(text: str) -> str:
    """A text in which nothing looks like a footer: an answer cannot speak for the bridge."""
    return text.replace("<<<CODEX_LEAD_CC", "<< <CODEX_LEAD_CC")


def rendered(result: Mapping[str, Any]) -> str:
    """Everything a command prints for a result: text, question, footer."""
    parts = [str(result.get("output") or ""), str(result.get("question") or "")]
    body = "\n\n".join(without_footers(part).strip("\n") for part in parts if part.strip())
    end = footer({name: _clean(value) for name, value in result.items()})
    return f"{body}\n\n{end}\n" if body else f"{end}\n"


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return without_footers(value)
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [_clean(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    return value
