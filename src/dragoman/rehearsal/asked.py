"""What a request asks, the same for all three wires: the only thing a rule may look at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from dragoman.rehearsal.scenario import Wire

# Estimates only: four characters of English or code are about one token.
CHARACTERS_PER_TOKEN = 4

# Texts that clients put among the user's words. Claude Code 2.1.x sends reminders, Codex 0.16x its
# surroundings and AGENTS.md; a translator may have joined them to the prompt.
_WRAPPERS = re.compile(
    r"<(system-reminder|environment_context|user_instructions|INSTRUCTIONS|turn_aborted|"
    r"skills_instructions|permissions_instructions|local-command-caveat)\b[^>]*>.*?</\1>",
    re.DOTALL,
)
_AGENTS_HEADING = re.compile(r"^# AGENTS\.md instructions[^\n]*$", re.MULTILINE)
# Claude Code and Codex say where they run; a packet may name the repository, which is another folder when
# the work is done in a clone, so it counts only where the client is silent.
_CLIENT_FOLDER = re.compile(r"[Ww]orking directory: *(/[^\n]*)|<cwd>\s*(/[^<]*?)\s*</cwd>")
_PACKET_FOLDER = re.compile(r"^\W*(?:Repo/CWD|CWD|Cwd|Repository)\W*: *`?(/[^\n`]*)", re.MULTILINE)


class BadRequest(Exception):
    """A request that an ordinary provider refuses with status 400."""


class OfferedTool(msgspec.Struct, frozen=True):
    """A tool of the request.

    Attributes:
        name: the name a call must use.
        kind: `function` takes JSON arguments, `custom` one text.
        namespace: the namespace a call must name (responses only).
        properties: the argument names of a function.
    """

    name: str
    kind: Literal["function", "custom"] = "function"
    namespace: str | None = None
    properties: tuple[str, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """One piece of the conversation, in order.

    Attributes:
        kind: `context` is what client and system say, `user` the user's words, `assistant` the model's own
            turn (adjacent ones are one turn), `result` a tool's answer.
        text: its text; empty for `assistant`.
        tokens: estimated size.
        call_id: the call that an `assistant` entry makes or a `result` answers.
        tool: the tool's name, where an `assistant` entry makes a call.
    """

    kind: Literal["context", "user", "assistant", "result"]
    text: str = ""
    tokens: int = 0
    call_id: str | None = None
    tool: str | None = None


class ToolResult(msgspec.Struct, frozen=True):
    """A tool's answer and the tool it came from (empty when the call is not in the history)."""

    tool: str
    text: str


class Wishes(msgspec.Struct, frozen=True):
    """What else the request says about its answer.

    Attributes:
        stream: server-sent events, or one JSON body.
        thinking: whether reasoning may be shown.
        thinking_as_summary: reasoning goes into summaries (responses).
        sealed_thinking: reasoning also comes encrypted (responses).
        usage_in_stream: the stream ends with a usage chunk (chat).
        caching: the provider would have cached the prompt's prefix.
        max_output_tokens: the answer's limit, or None.
        output_schema: the JSON schema the answer must fit, or None.
    """

    stream: bool = False
    thinking: bool = False
    thinking_as_summary: bool = False
    sealed_thinking: bool = False
    usage_in_stream: bool = False
    caching: bool = False
    max_output_tokens: int | None = None
    output_schema: dict[str, Any] | None = None


class Asked(msgspec.Struct, frozen=True):
    """One request.

    Attributes:
        digest: hash of the request's bytes; every id of the answer is made from it.
        turn: assistant turns since the last user text.
        user_text: the user's last words, without what clients add.
        results: answers to the newest assistant turn's calls, in order.
        earlier: tool results before those, back to the last user text, in order.
        cwd: the client's working directory, where any text of the request tells it.
        prompt_tokens: estimated size of the whole request.
        prefix_tokens: how much of it the previous request of this conversation already held.
    """

    wire: Wire
    model: str
    digest: str
    turn: int
    user_text: str
    results: tuple[ToolResult, ...]
    earlier: tuple[ToolResult, ...]
    tools: tuple[OfferedTool, ...]
    cwd: str | None
    prompt_tokens: int
    prefix_tokens: int
    wishes: Wishes = Wishes()


def tokens_in(characters: int) -> int:
    """Estimate the tokens of that many characters; rounded up, so that no text is free."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def fold(
    entries: Sequence[Entry],
    *,
    wire: Wire,
    model: str,
    digest: str,
    tools: tuple[OfferedTool, ...],
    standing_tokens: int,
    wishes: Wishes,
) -> Asked:
    """Fold a conversation into what rules look at.

    Args:
        entries: the conversation in order.
        standing_tokens: size of what stands before it (tools, a system field).
    """
    turn = 0
    user_texts: list[str] = []
    results: list[ToolResult] = []
    earlier: list[ToolResult] = []
    names: dict[str, str] = {}
    client_folder: str | None = None
    packet_folder: str | None = None
    tokens = standing_tokens
    prefix = 0
    previous: Entry | None = None
    for entry in entries:
        if entry.kind in ("context", "user"):
            client_folder = _folder(_CLIENT_FOLDER, entry.text) or client_folder
            packet_folder = _folder(_PACKET_FOLDER, entry.text) or packet_folder
        match entry.kind:
            case "assistant":
                if previous is None or previous.kind != "assistant":
                    turn += 1
                    earlier += results
                    results = []
                    prefix = tokens
                if entry.call_id is not None:
                    names[entry.call_id] = entry.tool or ""
            case "result":
                results.append(ToolResult(names.get(entry.call_id or "", ""), entry.text))
            case "user" if words := _own_words(entry.text):
                user_texts = [words] if turn else [*user_texts, words]
                turn = 0
                results, earlier = [], []
            case _:
                pass
        tokens += entry.tokens
        previous = entry
    return Asked(
        wire=wire,
        model=model,
        digest=digest,
        turn=turn,
        user_text="\n\n".join(user_texts),
        results=tuple(results),
        earlier=tuple(earlier),
        tools=tools,
        cwd=client_folder or packet_folder,
        prompt_tokens=tokens,
        prefix_tokens=prefix,
        wishes=wishes,
    )


def _own_words(text: str) -> str:
    return _AGENTS_HEADING.sub("", _WRAPPERS.sub("", text)).strip()


def _folder(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    if found is None:
        return None
    return next(group for group in found.groups() if group).strip().rstrip("`")
