"""The verdict on a run of Claude Code, from its last result, its exit and nothing it claims.

`subtype` is "success" for API errors too, and a refused, cut or empty answer can come with `is_error`
false and exit code 0 (2.1.197, 2.1.329), so a run is finished only when nothing speaks against it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dragoman.workers.base import ErrorCode, ModelUsage, PermissionDenial, WorkerOutcome, WorkerStatus
from dragoman.workers.child import ChildEnd
from dragoman.workers.loose import Json, count_of, number_of, object_of, one_sentence, text_of, texts_of

# How an answer may end and still be whole. A run that must fit a schema ends inside a tool call.
_WHOLE = frozenset({"end_turn", "stop_sequence"})

# Statuses after which the same task may succeed later.
_RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})

# What the client itself says on standard error when it refuses to start; anything else there stays unsaid,
# because 2.1.197 prints its own source code when it crashes.
_STARTUP_ERROR = re.compile(r"^(?:Error|error|Claude Code could not start): .{1,300}", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ClaudeRun:
    """What is left of a run when the process is gone.

    Attributes:
        result: the last `result` message, or None.
        api_error: the client's own message about an API error, or None.
        last_said: the worker's last words.
        session_id: as last told.
        denials: refused tool calls.
        client_version: as told by the client, else as asked before.
        schema_asked: whether the answer had to fit a schema.
        token: taken out of every sentence.
    """

    result: Json | None
    api_error: Json | None
    last_said: str
    session_id: str | None
    denials: tuple[PermissionDenial, ...]
    client_version: str
    schema_asked: bool = False
    token: str = ""


@dataclass(frozen=True, slots=True)
class _Verdict:
    status: WorkerStatus
    error_code: ErrorCode | None = None
    message: str = ""
    provider_status: int | None = None
    retryable: bool = False


def judge(run: ClaudeRun, end: ChildEnd) -> WorkerOutcome:
    """Decide how a run ended."""
    result = run.result or {}
    verdict = _verdict(run, end)
    text = result.get("result")
    # The text of an error result is the client's sentence about it, not the worker's words.
    words = text if isinstance(text, str) and result.get("is_error") is False else run.last_said
    return WorkerOutcome(
        status=verdict.status,
        text=words,
        error_code=verdict.error_code,
        message=one_sentence(verdict.message, secret=run.token),
        provider_status=verdict.provider_status,
        retryable=verdict.retryable,
        session_id=run.session_id,
        turns=count_of(result, "num_turns"),
        usage=_usage(result),
        permission_denials=run.denials,
        structured_output=result.get("structured_output"),
        duration_ms=end.duration_ms,
        exit_code=end.exit_code,
        client="claude",
        client_version=run.client_version,
        survivors=end.survivors,
    )


def _verdict(run: ClaudeRun, end: ChildEnd) -> _Verdict:
    match end.ending:
        case "stopped":
            return _Verdict("stopped", "worker_cancelled", "stopped on request")
        case "timed_out":
            seconds = end.duration_ms / 1000
            return _Verdict("timed_out", "worker_timeout", f"stopped after {seconds:.0f} s: its time was up")
        case "own":
            pass
    if run.result is None:
        return _without_result(run, end)
    if run.result.get("is_error") is not False:
        return _failed(run, run.result)
    if end.exit_code != 0 and not end.ended_by_us:
        return _Verdict(
            "failed", "worker_crashed", f"Claude Code reported success but ended {_exit(end.exit_code)}"
        )
    return _answered(run, run.result)


def _without_result(run: ClaudeRun, end: ChildEnd) -> _Verdict:
    if "No conversation found with session ID" in end.stderr:
        return _Verdict("failed", "session_not_found", "the session to resume does not exist")
    if run.session_id is None and (said := _STARTUP_ERROR.search(end.stderr)):
        return _Verdict("failed", "worker_start_failed", said.group())
    if end.exit_code == 0:
        return _Verdict("failed", "worker_no_output", "Claude Code ended without giving a result")
    return _Verdict(
        "failed",
        "worker_crashed",
        f"Claude Code ended {_exit(end.exit_code)} before it gave a result",
        retryable=True,
    )


def _failed(run: ClaudeRun, result: Json) -> _Verdict:
    told = texts_of(result, "errors")
    message = text_of(result, "result") or "; ".join(told) or "Claude Code reported an error without a reason"
    if any("No conversation found with session ID" in error for error in told):
        return _Verdict("failed", "session_not_found", "the session to resume does not exist")
    match result.get("subtype"):
        case "error_max_turns":
            return _Verdict("failed", "worker_max_turns", message)
        case "error_max_budget_usd":
            return _Verdict("failed", "worker_budget", message)
        case _:
            pass
    match result.get("terminal_reason"):
        case "prompt_too_long":
            return _Verdict("failed", "worker_context_exceeded", message, 400)
        case "aborted_streaming" | "aborted_tools":
            return _Verdict("failed", "worker_truncated", "the turn was interrupted", retryable=True)
        case _:
            pass
    if result.get("stop_reason") == "refusal":
        return _Verdict("failed", "worker_refused", message)
    status = _provider_status(run, result)
    if status in (401, 403):
        return _Verdict("failed", "worker_auth", message, status)
    error = (run.api_error or {}).get("error")
    # Without a status the connection was lost on the way, which is worth another try.
    retryable = status in _RETRYABLE if status is not None else error in ("server_error", "unknown", None)
    return _Verdict("failed", "provider_error", message, status, retryable)


def _answered(run: ClaudeRun, result: Json) -> _Verdict:
    stop_reason, terminal_reason = result.get("stop_reason"), result.get("terminal_reason")
    structured = result.get("structured_output") is not None
    if stop_reason == "refusal":
        return _Verdict("failed", "worker_refused", "the model refused the task")
    if terminal_reason not in (None, "completed"):
        return _Verdict("failed", "worker_truncated", f"the run was ended early: {terminal_reason}")
    whole = stop_reason in _WHOLE or (structured and stop_reason == "tool_use")
    if not whole:
        why = stop_reason if isinstance(stop_reason, str) else "the stream was cut"
        return _Verdict("failed", "worker_truncated", f"the answer is not complete: {why}", retryable=True)
    if not structured and not text_of(result, "result").strip():
        return _Verdict("failed", "worker_no_output", "the worker gave an empty answer", retryable=True)
    if run.schema_asked and not structured:
        return _Verdict("finished", message="the answer does not have the form that was asked for")
    return _Verdict("finished")


def _provider_status(run: ClaudeRun, result: Json) -> int | None:
    for message in (result, run.api_error or {}):
        if (status := number_of(message, "api_error_status")) is not None:
            return status
    return None


def _exit(code: int | None) -> str:
    match code:
        case None:
            return "in no way we could see"
        case _ if code < 0:
            return f"by signal {-code}"
        case _ if code in (143, 137, 130):
            return f"with exit code {code} (signal {code - 128})"
        case _:
            return f"with exit code {code}"


def _usage(result: Json) -> dict[str, ModelUsage]:
    models = object_of(result, "modelUsage")
    return {
        model: ModelUsage(
            input_tokens=count_of(counts, "inputTokens"),
            output_tokens=count_of(counts, "outputTokens"),
            cache_read_tokens=count_of(counts, "cacheReadInputTokens"),
            cache_write_tokens=count_of(counts, "cacheCreationInputTokens"),
            context_window=number_of(counts, "contextWindow"),
        )
        for model in models
        if (counts := object_of(models, model))
    }
