"""Hypothesis strategies for what goes over a wire: texts, conversations, streams and ways to cut bytes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from dragoman.wire.events import (
    CallBlock,
    Close,
    Delta,
    Event,
    Finish,
    FinishReason,
    Open,
    ReasoningBlock,
    TextBlock,
    Usage,
)
from dragoman.wire.turns import (
    Assistant,
    AssistantPart,
    Call,
    CallKind,
    Carrier,
    File,
    Grammar,
    Image,
    Note,
    Part,
    Reasoning,
    Request,
    Result,
    Text,
    Tool,
    Turn,
    User,
    raw,
)

REALM = "somewhere"

NASTY = [
    '"',
    "\\",
    "\n",
    "\r\n",
    "\t",
    "\u2028",
    "\u2029",
    "\u0085",
    "\x0b",
    "é",
    "世",
    "😀",
    "</think>",
    "\x00",
]

NAMES = (
    "Read",
    "Bash",
    "apply",
    "mcp__fs__read",
    "a_very_long_tool_name_that_goes_on_and_on_and_on_for_ever_64",
)


_ALPHABET = st.sampled_from(
    [*"ab cd:{}[]<>/0", *NASTY, "data: x", "[DONE]", "\ud7ff", "\uffff", "\U0010ffff"]
)


def texts(*, min_size: int = 1) -> st.SearchStrategy[str]:
    """Texts with everything that is awkward in JSON and in event streams, never only white space."""
    joined = st.lists(_ALPHABET, min_size=min_size, max_size=8).map("".join)
    return joined.map(lambda text: text if text.strip() or not min_size else f"{text}x")


def arguments() -> st.SearchStrategy[str]:
    """The JSON text of a call's arguments."""
    leaf = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts(min_size=0))
    return _objects(leaf | st.lists(leaf, max_size=2) | _objects(leaf)).map(
        lambda found: json.dumps(found, ensure_ascii=False)
    )


def _objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text("abcdef_", min_size=1, max_size=4), values, max_size=3)


def images() -> st.SearchStrategy[Image]:
    return st.builds(
        Image,
        media_type=st.sampled_from(["image/png", "image/jpeg"]),
        data=st.sampled_from([b"AAAA", b"/9j/Bw=="]),
    )


def documents() -> st.SearchStrategy[File]:
    """Documents of the kinds clients send: base64, plain text, an address."""
    names = st.sampled_from(["a.pdf", 'odd \u2028 "name".pdf']).map(raw)
    return st.one_of(
        st.builds(File, media_type=st.just("application/pdf"), data=st.just(b"JVBE"), filename=names),
        st.builds(File, media_type=st.just("text/plain"), text=texts().map(raw), filename=st.none() | names),
        st.builds(File, url=st.just(b"https://example.com/a.pdf")),
    )


def parts() -> st.SearchStrategy[Part]:
    return st.one_of(texts().map(raw).map(Text), images(), documents())


SCHEMA = b'{"type":"object","properties":{"a":{"type":"string"}}}'
GRAMMAR = Grammar(syntax="lark", definition=raw('start: "*** Begin Patch" LF\n'))

TOOLS: tuple[Tool, ...] = (
    *(Tool(name=name, description=b"does", schema=SCHEMA) for name in NAMES),
    Tool(name="read", namespace="mcp__fs", schema=SCHEMA),  # flat, it meets `mcp__fs__read`
    Tool(name="close_agent", namespace="multi_agent_v1", schema=SCHEMA),
    Tool(name="say it: " + "aloud " * 12, namespace="mcp__a server.of_its.own", schema=SCHEMA),
    Tool(kind="freeform", name="apply_patch", description=b"patches", grammar=GRAMMAR),
    Tool(kind="freeform", name="exec", namespace="functions"),
    Tool(kind="local_shell", name="local_shell", type="local_shell", schema=SCHEMA),
)
"""Every kind of tool a client declares: functions, tools of servers in their namespaces, freeform ones with
and without a grammar, and the built-in shell."""


def tools() -> st.SearchStrategy[tuple[Tool, ...]]:
    return st.lists(st.sampled_from(TOOLS), max_size=4, unique_by=lambda found: found.name).map(tuple)


def arguments_of(tool: Tool) -> st.SearchStrategy[str]:
    """What a model calls this tool with: a JSON object, or the one text of a freeform tool."""
    match tool.kind:
        case "freeform":
            return texts()
        case "local_shell":
            words = st.lists(texts(), min_size=1, max_size=3)
            return words.map(lambda found: json.dumps({"command": found}, ensure_ascii=False))
        case _:
            return arguments()


def kind_of(tool: Tool) -> CallKind:
    assert tool.kind != "hosted"
    return tool.kind


@st.composite
def conversations(draw: st.DrawFn, *, reasoning: bool = True, notes: bool = False) -> Request:
    """A sound conversation: turns alternate, calls are answered at once in their order, the user ends it."""
    turns: list[Turn] = [User(parts=(Text(raw(draw(texts()))),))]
    number = 0
    for _ in range(draw(st.integers(0, 4))):
        said: list[AssistantPart] = []
        if reasoning and draw(st.booleans()):
            carrier = Carrier(kind="signature", data=draw(st.sampled_from(["sig+/=", "s2"])), realm=REALM)
            said.append(Reasoning(raw(draw(texts())), carriers=(carrier,)))
        if draw(st.booleans()):
            said.append(Text(raw(draw(texts()))))
        results: list[Result] = []
        for _ in range(draw(st.integers(0, 3))):
            number += 1
            call_id = draw(st.sampled_from(["call_{}", "toolu_{}", "functions.Bash:{}"])).format(number)
            tool = draw(st.sampled_from(TOOLS))
            kind = kind_of(tool)
            meant = raw(draw(arguments_of(tool)))
            said.append(Call(call_id, tool.name, tool.namespace, kind, arguments=meant))
            answer = tuple(draw(st.lists(parts(), min_size=1, max_size=2)))
            # Chat clients answer every kind of call in one way.
            results.append(
                Result(
                    call_id,
                    answer,
                    is_error=draw(st.booleans()),
                    kind=draw(st.sampled_from([kind, "function"])),
                )
            )
        if not any(isinstance(part, Text | Call) for part in said):
            said.append(Text(raw(draw(texts()))))
        turns.append(Assistant(tuple(said)))
        words = draw(st.lists(parts(), min_size=0 if results else 1, max_size=2))
        turns.append(User(tuple(results), tuple(words)))
        if notes and draw(st.booleans()):
            turns.append(Note((Text(raw(draw(texts()))),)))
    system = draw(st.lists(texts().map(raw).map(Text), max_size=2))
    return Request(
        wire=draw(st.sampled_from(["responses", "chat", "messages"])),
        model="asked",
        stream=True,
        system=tuple(system),
        turns=tuple(turns),
        tools=draw(tools()),
    )


@st.composite
def broken_conversations(draw: st.DrawFn) -> Request:
    """A conversation with turns left out, repeated and moved, as real transcripts have them."""
    request = draw(conversations(notes=True))
    turns = list(request.turns)
    for _ in range(draw(st.integers(0, 4))):
        if not turns:
            break
        place = draw(st.integers(0, len(turns) - 1))
        match draw(st.sampled_from(["drop", "repeat", "swap", "empty"])):
            case "drop":
                turns.pop(place)
            case "repeat":
                turns.insert(place, turns[place])
            case "swap":
                turns.insert(draw(st.integers(0, len(turns) - 1)), turns.pop(place))
            case _:
                turns.insert(place, draw(st.sampled_from([User(), Assistant(), User(parts=(Text(b""),))])))
    return Request(**{**{f: getattr(request, f) for f in request.__struct_fields__}, "turns": tuple(turns)})


@st.composite
def streams(draw: st.DrawFn, *, signed: bool = True, tools: tuple[Tool, ...] = TOOLS[:5]) -> list[Event]:
    """The events of a sound answer.

    Args:
        signed: whether reasoning comes with a carrier.
        tools: what may be called; functions without a namespace unless told otherwise.
    """
    events: list[Event] = []
    calls = 0
    last = ""
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "reasoning", "call"]))
        if kind == last and kind != "call":
            continue
        last = kind
        match kind:
            case "text":
                events += _block(TextBlock(), draw(_pieces(texts())))
            case "reasoning":
                carrier = Carrier(kind="signature", data="sig+/=", realm=REALM, model="up")
                close = Close((carrier,)) if signed else Close()
                events += [*_block(ReasoningBlock(), draw(_pieces(texts())))[:-1], close]
            case _:
                calls += 1
                tool = draw(st.sampled_from(tools))
                block = CallBlock(f"call_{calls}", tool.name, tool.namespace, kind_of(tool))
                events += _block(block, draw(_pieces(arguments_of(tool))))
    read = draw(st.integers(0, 50))
    events.append(
        Usage(
            input_tokens=read + draw(st.integers(1, 50)),
            output_tokens=draw(st.integers(1, 50)),
            cache_read_tokens=read,
        )
    )
    reason: FinishReason = "tool_use" if calls else "end"
    events.append(Finish(draw(st.sampled_from([reason, reason, "length", "refusal"]))))
    return events


def _pieces(whole: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """A text in a few pieces."""

    @st.composite
    def cut(draw: st.DrawFn) -> list[str]:
        text = draw(whole)
        marks = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
        edges = [0, *marks, len(text)]
        return [text[a:b] for a, b in pairwise(edges) if text[a:b]]

    return cut()


def _block(block: TextBlock | ReasoningBlock | CallBlock, pieces: list[str]) -> list[Event]:
    return [Open(block), *(Delta(raw(piece)) for piece in pieces), Close()]


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Places to cut a stream of `size` bytes, anywhere."""
    return st.lists(st.integers(0, size), max_size=12).map(sorted)


def chunks_of(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *places, len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]
