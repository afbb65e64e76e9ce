"""The canonical stream: what an upstream says, event by event.

The order is a contract between decoders and encoders:

    Start? (Open Delta* Close)* with Usage and Ping anywhere, then exactly one Finish or Fail, then nothing.

Blocks never overlap: a decoder that meets interleaved blocks holds the later ones back until the first is
closed (`dragoman.wire.blocks`). A block that is open when `Fail` comes stays open: its content is incomplete.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from dragoman.wire.errors import Failure
from dragoman.wire.turns import CallKind, Carrier, RawText


class Start(msgspec.Struct, frozen=True, gc=False):
    """The upstream began to answer. Its ids are for logs; the encoder makes the client's own."""

    response_id: str = ""
    model: str = ""


class TextBlock(msgspec.Struct, frozen=True, gc=False):
    """Words for the user."""


class ReasoningBlock(msgspec.Struct, frozen=True, gc=False):
    """Thoughts. Deltas may be absent (redacted or encrypted reasoning); carriers come with `Close`."""


class CallBlock(msgspec.Struct, frozen=True, gc=False):
    """A tool call under the client's own name and kind.

    Deltas are the escaped JSON text of the arguments, or, for a `freeform` call, the escaped text itself.
    A call without any delta has empty arguments.
    """

    id: str
    name: str
    namespace: str | None = None
    kind: CallKind = "function"


Block: TypeAlias = TextBlock | ReasoningBlock | CallBlock


class Open(msgspec.Struct, frozen=True, gc=False):
    """A block begins."""

    block: Block


class Delta(msgspec.Struct, frozen=True, gc=False):
    """More of the open block, escaped as inside a JSON string."""

    text: RawText


class Close(msgspec.Struct, frozen=True, gc=False):
    """The open block is finished.

    Attributes:
        carriers: for a reasoning block, what its maker wants back.
        complete: False when the answer ended (length, filter) in the middle of this block.
    """

    carriers: tuple[Carrier, ...] = ()
    complete: bool = True


class Usage(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Tokens so far; the last one counts and a later one replaces an earlier one whole.

    Attributes:
        input_tokens: everything the prompt cost, cache reads and writes included.
        output_tokens: everything generated, reasoning included.
        cache_read_tokens, cache_write_tokens: parts of `input_tokens`.
        reasoning_tokens: part of `output_tokens`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


FinishReason = Literal["end", "tool_use", "length", "stop_sequence", "refusal", "context", "pause"]
"""`length`: the output ceiling. `refusal`: a content filter or the model's own policy. `context`: the window
is full. `pause`: the provider wants to be asked to go on."""


class Finish(msgspec.Struct, frozen=True, gc=False):
    """The answer is complete as far as the upstream is concerned.

    Attributes:
        reason: why it ended; `tool_use` whenever a call was made and nothing worse happened.
        raw: the upstream's own word.
        stop_sequence: the stop word that was hit, if known.
    """

    reason: FinishReason
    raw: str = ""
    stop_sequence: str | None = None


class Fail(msgspec.Struct, frozen=True, gc=False):
    """The answer is not complete and will not be."""

    failure: Failure


class Ping(msgspec.Struct, frozen=True, gc=False):
    """A sign of life without content."""


Event: TypeAlias = Start | Open | Delta | Close | Usage | Finish | Fail | Ping
