"""The canonical conversation: what a request says, whichever of the three wires it came on.

A conversation is a list of turns. One `Assistant` turn is everything a model said between two groups of
results or user words: only this shape survives parallel calls, the place of reasoning and the merging of
text and calls in all three protocols at once.

Text is carried the way it stands in JSON: a `RawText` is the UTF-8 content of a JSON string, still escaped,
without its quotes. It goes from decoder to encoder without being unescaped and escaped again; `plain` turns
it into a `str` where something must look inside, `raw` goes the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

Wire = Literal["responses", "chat", "messages"]

RawText: TypeAlias = bytes
"""Content of a JSON string, escaped, without the quotes around it."""

RawJson: TypeAlias = bytes
"""One whole JSON value as it was spelled."""


_string = msgspec.json.Decoder(str)


def raw(text: str) -> RawText:
    """Escape `text` the way it stands inside a JSON string."""
    return msgspec.json.encode(text)[1:-1]


def plain(text: RawText) -> str:
    """Unescape the content of a JSON string."""
    if b"\\" not in text:
        return text.decode("utf-8", "replace")
    return _string.decode(b"".join((b'"', text, b'"')))


def quoted(text: RawText) -> msgspec.Raw:
    """`text` as a JSON string value, ready to be placed in something `msgspec.json.encode` writes."""
    return msgspec.Raw(b"".join((b'"', text, b'"')))


class _Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Attributes:
    cache_control: a Messages cache mark on this block, as it was spelled.
    """

    cache_control: RawJson | None = None


class Text(_Block, frozen=True):
    text: RawText


class Image(_Block, frozen=True):
    """A picture: either `data` (base64) with its `media_type`, or a `url`, or a provider's `file_id`."""

    media_type: str | None = None
    data: RawText | None = None
    url: RawText | None = None
    file_id: str | None = None
    detail: str | None = None


class File(_Block, frozen=True):
    """A document: `data` (base64), or `text` (a plain-text source), or a `url`, or a provider's `file_id`."""

    media_type: str | None = None
    data: RawText | None = None
    text: RawText | None = None
    url: RawText | None = None
    file_id: str | None = None
    filename: RawText | None = None


Part: TypeAlias = Text | Image | File

CallKind = Literal["function", "freeform", "local_shell", "tool_search"]
"""How a call is shaped for the client that runs it.

`function`: a JSON object of arguments. `freeform`: one text, such as a patch. `local_shell` and
`tool_search`: built-in tools of Responses clients; their arguments are the JSON of `action` or `arguments`.
"""

CarrierKind = Literal["signature", "redacted", "encrypted", "reasoning_content"]
"""What a provider wants back: a Messages thinking signature or redacted block, a Responses encrypted
content, or just the reasoning text itself."""


class Carrier(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What proves a piece of reasoning to the provider that made it.

    Attributes:
        kind: which field of which wire it came from.
        data: the opaque value (empty for `reasoning_content`, where the text itself is what counts).
        realm: who made it (`Dialect.realm`); None when a client handed over a value not wrapped by us.
        model: the upstream model that made it, None when unknown.
        item_id: the id of the Responses reasoning item, when the maker wants it back.
    """

    kind: CarrierKind
    data: str = ""
    realm: str | None = None
    model: str | None = None
    item_id: str | None = None


class Reasoning(_Block, frozen=True):
    """What a model thought, complete and unshortened, with everything its maker needs to take it back."""

    text: RawText = b""
    carriers: tuple[Carrier, ...] = ()


class Call(_Block, frozen=True):
    """A tool call.

    `arguments` is authoritative and is what a JSON string would hold: the escaped JSON text of the arguments,
    or of the one text of a freeform call. It may be malformed JSON. When the source wire carried an object,
    `arguments_json` is that object as it was spelled and `arguments` may be empty; read both through
    `dragoman.wire.tools.arguments_text` and `arguments_object`.
    """

    id: str
    name: str
    namespace: str | None = None
    kind: CallKind = "function"
    arguments: RawText = b""
    arguments_json: RawJson | None = None
    item_id: str | None = None


class Hosted(_Block, frozen=True):
    """Something a provider's own tool did (a web search), or an item nobody here knows. Only the wire it
    came from can take it back."""

    wire: Wire
    type: str
    json: RawJson


class Result(_Block, frozen=True):
    """What a tool answered."""

    call_id: str
    parts: tuple[Part, ...] = ()
    is_error: bool = False
    kind: CallKind = "function"
    name: str | None = None
    json: RawJson | None = None
    """For `tool_search`: the whole item as it was spelled."""


class User(msgspec.Struct, frozen=True, gc=False):
    """Results first, then what the user said."""

    results: tuple[Result, ...] = ()
    parts: tuple[Part, ...] = ()


AssistantPart: TypeAlias = Text | Reasoning | Call | Hosted


class Assistant(msgspec.Struct, frozen=True, gc=False):
    parts: tuple[AssistantPart, ...] = ()


class Note(msgspec.Struct, frozen=True, gc=False):
    """A system or developer message in the middle of a conversation; its place is kept."""

    parts: tuple[Text, ...] = ()


Turn: TypeAlias = User | Assistant | Note

ToolKind = Literal["function", "freeform", "local_shell", "tool_search", "hosted"]


class Grammar(msgspec.Struct, frozen=True, kw_only=True):
    """What a freeform tool's text must look like."""

    syntax: str
    definition: RawText


class Tool(_Block, frozen=True, kw_only=True):
    """A tool as the client declared it.

    Attributes:
        kind: `hosted` means that the provider itself would run it (web search and the like).
        name: the client's own name for it; for a hosted tool its type.
        namespace: the namespace it was declared in, None at top level.
        description: what it does; None when the client gave none.
        schema: JSON schema of the arguments as it was spelled; None when absent or null.
        strict: whether the client asked for strict schema following; None when it did not say.
        grammar: the grammar of a freeform tool.
        type: the protocol's `type` word, where it matters (hosted tools, Messages' typed tools).
        deferred: declared but not to be loaded yet.
        json: the whole declaration as it was spelled.
    """

    kind: ToolKind = "function"
    name: str
    namespace: str | None = None
    description: RawText | None = None
    schema: RawJson | None = None
    strict: bool | None = None
    grammar: Grammar | None = None
    type: str | None = None
    deferred: bool = False
    json: RawJson = b""


ChoiceMode = Literal["auto", "none", "required", "named"]


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which tool the model may or must use. `named` carries `name` (and `namespace`)."""

    mode: ChoiceMode
    name: str | None = None
    namespace: str | None = None


ThinkingMode = Literal["default", "off", "on", "adaptive"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """How much the model should think.

    Attributes:
        mode: `default` leaves it to the provider; `off` must be said aloud to providers that think by
            default.
        effort: how hard, None when the client did not say.
        budget_tokens: a ceiling in tokens (Messages `enabled` thinking).
        summary: what the client wants to see of it (Responses `reasoning.summary`).
    """

    mode: ThinkingMode = "default"
    effort: Effort | None = None
    budget_tokens: int | None = None
    summary: str | None = None


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """A demand on the answer's shape: a JSON object, or JSON that follows `schema`."""

    kind: Literal["json_object", "json_schema"]
    name: str = "answer"
    schema: RawJson | None = None
    strict: bool | None = None
    description: RawText | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, decoded.

    Attributes:
        wire: the wire the client speaks.
        model: the model name as the client wrote it.
        stream: whether the client wants a stream.
        system: the leading system text, in order.
        turns: the conversation.
        tools: declared tools in order, namespaces flattened (see `Tool.namespace`).
        tool_choice: None when the client did not say.
        parallel_calls: None when the client did not say.
        thinking: how much to think.
        max_output_tokens: None when the client did not say.
        sampling: `temperature`, `top_p`, `top_k`, `presence_penalty`, `frequency_penalty`, `seed` as they
            were spelled.
        stop: stop words.
        format: the demanded shape of the answer.
        verbosity: Responses `text.verbosity` and its Chat twin.
        include_usage: whether a Chat stream must end with a usage chunk.
        cache_key: a stable key of the conversation for prompt caches (`prompt_cache_key`).
        user: who asks, for the provider's abuse controls.
        service_tier: as the client wrote it.
        body: the body as it came, for fields only an upstream of the same wire understands.
    """

    wire: Wire
    model: str
    stream: bool = False
    system: tuple[Text, ...] = ()
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_calls: bool | None = None
    thinking: Thinking = Thinking()
    max_output_tokens: int | None = None
    sampling: dict[str, RawJson] = {}
    stop: tuple[str, ...] = ()
    format: Format | None = None
    verbosity: str | None = None
    include_usage: bool = False
    cache_key: str | None = None
    user: str | None = None
    service_tier: str | None = None
    body: RawJson = b""


class Recall(Protocol):
    """A session's memory of reasoning, keyed by the calls it led to, for clients that lose it."""

    def find(self, call_id: str) -> Reasoning | None:
        """The reasoning that preceded this call, or None."""
        ...

    def keep(self, call_ids: Sequence[str], reasoning: Reasoning) -> None:
        """Remember that `reasoning` led to these calls."""
        ...
