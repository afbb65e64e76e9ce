"""Why an answer ended, in the words of the Messages protocol and back."""

from __future__ import annotations

from collections.abc import Mapping

from dragoman.wire.events import FinishReason

TO_CLIENT: Mapping[FinishReason, str] = {
    "end": "end_turn",
    "tool_use": "tool_use",
    "length": "max_tokens",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
    "context": "model_context_window_exceeded",
    "pause": "pause_turn",
}

FROM_UPSTREAM: Mapping[str, FinishReason] = {word: reason for reason, word in TO_CLIENT.items()}
