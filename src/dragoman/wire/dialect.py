"""How one provider's endpoint differs from its protocol, as data. No code branches on a provider's name.

The catalogue loads these from TOML profiles (`msgspec.convert(table, Dialect)`); every field has the value of
a strict, unknown provider as its default, so that an empty profile is safe.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from dragoman.wire.errors import FailureCode
from dragoman.wire.events import FinishReason
from dragoman.wire.turns import ChoiceMode, Effort

ThinkingKey = Literal["none", "thinking", "enable_thinking", "reasoning", "adaptive"]
"""How thinking is switched. `thinking`: `{"thinking": {"type": "enabled" | "disabled"}}`. `enable_thinking`:
a top-level boolean. `reasoning`: `{"reasoning": {"effort": ..}}`, the Responses wire's own way and some Chat
upstreams'. `adaptive`: Messages' `{"thinking": {"type": "adaptive"}}` with `output_config.effort`."""

EffortKey = Literal["none", "reasoning_effort", "output_config"]

Param = Literal[
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "stream_options",
    "parallel_tool_calls",
    "strict",
    "verbosity",
    "prompt_cache_key",
    "user",
    "service_tier",
]


class EffortRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which word a model family wants for each effort.

    Attributes:
        models: glob patterns of upstream model names; the first rule that matches counts.
        words: effort asked for -> word sent. An effort that is not listed is not sent. The word `off`
            switches thinking off instead.
    """

    models: tuple[str, ...] = ("*",)
    words: dict[Effort, str] = {}


class Dialect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider's quirks on one or all wires.

    Reasoning:
        realm: who takes back what it made; reasoning carriers are bound to it. Two profiles of one vendor may
            share a realm. Empty: nothing made elsewhere is ever given to it as its own.
        thinks_by_default: whether silence means that the model thinks.
        thinking_key, effort_key, efforts: how thinking is switched and measured.
        effort_when_off: may an effort word accompany switched-off thinking.
        thinking_extra: fields added to the thinking switch when it is on (`clear_thinking = false`).
        budget_tokens: whether the switch takes `budget_tokens`.
        loops_begin_thinking: Messages: thinking with a budget is refused in a tool loop that did not begin
            with a thinking block; such a loop goes on without thinking to its end.
        reasoning_replay: when earlier reasoning is sent back: `never`, `tool_turns` (assistant turns with
            calls), `always`.
        reasoning_field: Chat: the field that carries reasoning both ways.
        reasoning_required: a tool-call turn without the reasoning field is refused: send `reasoning_blank`.
        foreign_reasoning: reasoning another realm made: `drop` it or send it as plain reasoning `text`.
        unsigned_thinking: Messages: thinking blocks need no verifiable signature.
        sampling_with_thinking: may temperature and the like accompany thinking.
        think_tags: reasoning comes inside the text between `<think>` and `</think>`.
    Roles and text:
        developer_role: Chat: the role `developer` exists.
        late_system: Chat and Messages: system messages are accepted in the middle of a conversation. If not,
            they become user text in the same place, so that the prompt cache's prefix stays.
        null_content: Chat: an assistant message with calls and no words says `content: null`, else `""`.
        user_turn_required: a conversation without a user message is refused.
    Tools:
        tool_choices, tool_choices_thinking: accepted modes, without and with thinking.
        freeform_tools, namespace_tools, additional_tools: Responses: understood natively.
        hosted_tools: glob patterns of the types of hosted tools that the provider runs itself. One that
            begins with `tool_search` says that deferred tools are understood, too.
        tool_name_limit: longest tool name in characters.
        open_schemas: Chat and Responses: JSON schemas may have `anyOf`, `oneOf`, `allOf` at their root.
        valid_arguments: earlier arguments are parsed, so malformed ones must be wrapped.
        tool_images: Chat: a tool message may hold image parts.
        strict_ids: Chat and Responses: call ids must match `[A-Za-z0-9_-]{1,64}`, as they must on Messages.
        item_ids: Responses: ids of input items are accepted.
        compaction_items: Responses: Codex's remote compaction is understood; others are asked for a summary.
    Parameters:
        params: which optional parameters are sent at all.
        max_tokens_key: Chat: the name of the output ceiling.
        stop_limit: how many stop words are accepted.
        json_schema: Chat: `schema` natively, `object` with the schema in the system text, or `none`.
        stored: Responses: whether `store: false` is understood.
        checked: same-wire requests are read, and written anew when something in them must change; if not
            checked, only the model value is replaced. None: checked where the profile says what the provider
            refuses (fields, missing or unverifiable thinking).
        strip_fields: same-wire requests that had to be written anew: top-level fields removed.
        cache_marks: Messages: set cache marks for clients that set none.
        keeps_client_metadata: Responses: Codex's own vendor, which may see its `client_metadata` with the
            working directory and the commit hash. It is cut out for everybody else.
        billing_header: Messages: Claude Code's own vendor, who gets the billing line before its system text.
            It is cut out for everybody else.
        betas: Messages: `anthropic-beta` values let through; None = all.
        extra_body: constant fields added to every request.
    Answers:
        finish_reasons: the provider's own finish words, beyond the protocol's.
        error_codes: the provider's own error codes and types -> failure code.
        error_finish: finish words that are failures.
        reset_utc_offset_h: the zone of clock times in error messages that name none, in hours east of UTC;
            None: such a time is shown to the client and not counted with.
    """

    realm: str = ""
    thinks_by_default: bool = False
    thinking_key: ThinkingKey = "none"
    effort_key: EffortKey = "none"
    efforts: tuple[EffortRule, ...] = ()
    effort_when_off: bool = False
    thinking_extra: dict[str, Any] = {}
    budget_tokens: bool = False
    loops_begin_thinking: bool = True
    reasoning_replay: Literal["never", "tool_turns", "always"] = "never"
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    reasoning_required: bool = False
    reasoning_blank: str = ""
    foreign_reasoning: Literal["drop", "text"] = "drop"
    unsigned_thinking: bool = False
    sampling_with_thinking: bool = True
    think_tags: bool = False

    developer_role: bool = False
    late_system: bool = False
    null_content: bool = False
    user_turn_required: bool = True

    tool_choices: frozenset[ChoiceMode] = frozenset({"auto", "none", "required", "named"})
    tool_choices_thinking: frozenset[ChoiceMode] | None = None
    freeform_tools: bool = False
    namespace_tools: bool = False
    additional_tools: bool = False
    hosted_tools: frozenset[str] = frozenset()
    tool_name_limit: int = 64
    open_schemas: bool = True
    valid_arguments: bool = True
    tool_images: bool = False
    strict_ids: bool = False
    item_ids: bool = False
    compaction_items: bool = False

    params: frozenset[Param] = frozenset(
        {
            "temperature",
            "top_p",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "stop",
            "stream_options",
            "parallel_tool_calls",
        }
    )
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stop_limit: int = 4
    json_schema: Literal["schema", "object", "none"] = "schema"
    stored: bool = True
    checked: bool | None = None
    cache_marks: bool = False
    keeps_client_metadata: bool = False
    strip_fields: frozenset[str] = frozenset()
    billing_header: bool = False
    betas: frozenset[str] | None = None
    extra_body: dict[str, Any] = {}

    finish_reasons: dict[str, FinishReason] = {}
    error_codes: dict[str, FailureCode] = {}
    error_finish: dict[str, FailureCode] = {}
    reset_utc_offset_h: float | None = None

    def effort_word(self, model: str, effort: Effort) -> str | None:
        """The word `model` wants for `effort`; None when it should not be told."""
        for rule in self.efforts:
            if any(fnmatchcase(model, pattern) for pattern in rule.models):
                return rule.words.get(effort)
        return None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the routed model can take, from the catalogue.

    Attributes:
        max_output_tokens: the ceiling; a larger wish is lowered to it. None = unknown.
        default_output_tokens: sent where the protocol demands a number and the client gave none.
        input_modalities: what it reads; what it cannot read is replaced by a short note.
        thinks: False for a model without reasoning: no thinking fields are sent.
    """

    max_output_tokens: int | None = None
    default_output_tokens: int | None = None
    input_modalities: frozenset[str] = frozenset({"text", "image", "pdf"})
    thinks: bool = True
