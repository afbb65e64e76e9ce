"""What a run's `result.json` says, and how it is judged: by what was observed, never by what is claimed.

`status` is `success`, `partial` (something is there, and something is wrong with it), `failed` or
`needs_user`; `error_code` says what is wrong, `retryable` whether the same task may well succeed later.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from dragoman.jobs.claims import Difference
from dragoman.jobs.evidence import Verdict
from dragoman.jobs.report import Report
from dragoman.jobs.result_summary import summarize_result as summarize_result
from dragoman.jobs.watch import EndReason
from dragoman.workers.base import PermissionDenial, WorkerOutcome
from dragoman.workspace import Change, Delta
from dragoman.workspace.fingerprint import Part

Status = Literal["success", "partial", "failed", "needs_user"]

# What may pass by itself. Of a worker's own failures the worker says it (`WorkerOutcome.retryable`).
_RETRYABLE = frozenset({"busy", "lock_busy", "runner_crashed", "worker_no_output", "worker_truncated"})

# How much of the final words stands in the result itself, in characters; the rest is in the report's file.
REPORT_LIMIT = 4096

# Ends of a worker that leave its work worth looking at.
_CUT_SHORT = frozenset({"worker_max_turns", "worker_budget"})

# Tools whose refusal may be why nothing was changed.
_WRITERS = frozenset({"Edit", "MultiEdit", "Write", "NotebookEdit", "Bash", "command", "file_change"})

# A user commits, stages and switches branches while a worker works; nobody edits these by accident.
_NEVER_BY_A_USER_MEANWHILE: tuple[Part, ...] = ("config", "hooks")


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a run ended.

    Attributes:
        status: see the module.
        error_code: what is wrong, None for nothing.
        error: the same as a sentence.
        next: what to do about it.
        retryable: whether the same task may well succeed later.
    """

    status: Status
    error_code: str | None = None
    error: str | None = None
    next: str | None = None
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What a judgement rests on.

    Attributes:
        writes: whether the worker was to change anything.
        outcome: how the worker ended.
        ended_for: why it was ended by the watch, None when it was not.
        report: what it says.
        changes: what it changed.
        proof: what the validation commands prove.
        differences: where its claims and what we saw part ways.
        moved: parts of the user's repository that changed meanwhile.
        max_changed_files: more than these are too many; None for no limit.
        out_of_scope: what it changed and was not allowed to.
        trespassed: files of the user's checkout that changed while nothing but rules kept the worker out.
    """

    writes: bool
    outcome: WorkerOutcome
    ended_for: EndReason | None
    report: Report
    changes: Delta
    proof: Verdict
    differences: list[Difference]
    moved: tuple[Part, ...]
    max_changed_files: int | None = None
    out_of_scope: tuple[str, ...] = ()
    trespassed: tuple[str, ...] = ()


def judge(seen: Observed) -> Judgement:
    """Decide how a run ended."""
    if broken := [part for part in seen.moved if part in _NEVER_BY_A_USER_MEANWHILE]:
        return Judgement(
            "partial" if seen.outcome.status == "finished" else "failed",
            "isolation_violation",
            f"the repository's {' and '.join(broken)} changed while the worker worked",
            "look at .git/config and .git/hooks before you use the repository again",
        )
    if seen.trespassed:
        return Judgement(
            "partial" if seen.outcome.status == "finished" else "failed",
            "isolation_violation",
            f"files of your checkout changed while an unconfined worker worked: {_some(seen.trespassed)}",
            "look at them: git diff; install bubblewrap to keep workers out",
        )
    if seen.outcome.status != "finished":
        return _unfinished(seen)
    if (needs := _needs_user(seen)) is not None:
        return needs
    if seen.out_of_scope:
        return Judgement(
            "partial",
            "scope_exceeded",
            f"the worker changed what the task does not allow: {_some(seen.out_of_scope)}",
            "apply only the paths you want, or ask again",
        )
    if seen.proof == "failed":
        return Judgement("partial", "verification_failed", "a validation command fails after the work")
    count, limit = len(seen.changes.changes), seen.max_changed_files
    if limit is not None and count > limit:
        return Judgement("partial", "limit_exceeded", f"{count} files were changed, {limit} are allowed")
    kinds = ("file_not_changed", "command_claimed_passed")
    if lies := [item.text for item in seen.differences if item.kind in kinds]:
        return Judgement("partial", "claims_disproved", f"the worker's report is wrong: {lies[0]}")
    return Judgement("success")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _unfinished(seen: Observed) -> Judgement:
    outcome = seen.outcome
    match seen.ended_for:
        case "permission":
            return _refused_for_good(outcome.permission_denials)
        case "stalled":
            return Judgement(
                "failed", "worker_timeout", "the worker fell silent and was ended", retryable=True
            )
        case None:
            pass
    code = outcome.error_code or "worker_crashed"
    status: Status = "partial" if code in _CUT_SHORT and seen.changes.changes else "failed"
    retryable = outcome.retryable or code in _RETRYABLE
    return Judgement(status, code, outcome.message, _NEXT.get(code), retryable)


def _needs_user(seen: Observed) -> Judgement | None:
    refused = tuple(one for one in seen.outcome.permission_denials if one.tool in _WRITERS)
    if seen.writes and refused and not seen.changes.changes:
        return _refused_for_good(refused)
    fields = seen.report.fields
    if seen.report.source == "structured" and fields is not None and fields.get("status") == "needs_user":
        return Judgement(
            "needs_user", "confirmation_required", "the worker says it needs a decision", "read its report"
        )
    return None


def _refused_for_good(refused: tuple[PermissionDenial, ...]) -> Judgement:
    what = ", ".join(dict.fromkeys(f"{one.tool} {one.target}".strip() for one in refused[:50]))
    return Judgement(
        "needs_user",
        "permission_required",
        f"the worker may not do what it tries: {what[:300] or 'see the denied calls'}",
        "allow it in the task (allowed files, validation commands), or tell the worker another way",
    )


_NEXT = {
    "worker_auth": "dragoman doctor, then dragoman keys list",
    "worker_budget": "ask again with a higher limit",
    "worker_context_exceeded": "ask for less at once, or choose a model with a larger window",
    "worker_max_turns": "ask again with more turns, or go on: dragoman delegate --resume JOB",
    "worker_start_failed": "dragoman doctor",
    "worker_timeout": "what was done is kept: preview it, or ask again with more time",
    "provider_error": "dragoman status, to see how the provider does",
}


def warnings_of(seen: Observed, *, asked_for_form: bool) -> list[str]:
    """What a reader of the result should still know, however it ended."""
    found = [item.text for item in seen.differences]
    if seen.moved:
        parts = ", ".join(seen.moved)
        found.append(f"the repository moved on while the worker worked ({parts}); apply will merge")
    if seen.writes and not seen.changes.changes:
        found.append("nothing was changed")
    if seen.writes and seen.proof == "unproved":
        found.append("no validation command proves the result; see evidence for what was skipped and why")
    if asked_for_form and seen.report.source != "structured" and seen.outcome.status == "finished":
        found.append("the report does not have the form asked for; its words were read instead")
    if denials := seen.outcome.permission_denials:
        names = list(dict.fromkeys(one.tool for one in denials))[:5]
        found.append(f"{len(denials)} calls were refused by the permission rules: {', '.join(names)}")
    if seen.outcome.survivors:
        found.append(f"{seen.outcome.survivors} processes of the worker could not be ended")
    return found


def describe_worker(outcome: WorkerOutcome, model: str) -> dict[str, Any]:
    """How the worker ended, without its words, which stand in the report."""
    told: dict[str, Any] = msgspec.to_builtins(outcome)
    for name in ("text", "structured_output"):
        told.pop(name)
    return told | {"model": model}


def describe_report(report: Report, text: str, file: str) -> dict[str, Any]:
    """The final words, cut, with the way to the rest.

    Parameters:
        report: what was read from them.
        text: all of them.
        file: where they are kept whole.
    """
    data = text.encode("utf-8", "replace")
    return {
        "text": text[:REPORT_LIMIT],
        "truncated": len(text) > REPORT_LIMIT,
        "file": file,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "source": report.source,
        "fields": report.fields,
    }


def describe_change(change: Change) -> dict[str, Any]:
    """One changed file."""
    return {
        "path": change.path,
        "status": change.status,
        "old_path": change.old_path,
        "added": change.added_lines,
        "removed": change.deleted_lines,
    }


def describe_usage(outcome: WorkerOutcome, gateway: dict[str, Any] | None) -> dict[str, Any]:
    """Tokens of the run: as the gateway counted them, else as the client says, else nobody knows."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    if gateway is not None and gateway.get("total", {}).get("requests"):
        total = gateway["total"]
        return {"source": "gateway_ledger", "requests": total["requests"]} | {n: total[n] for n in names}
    if outcome.usage:
        # The client counts what came from a cache apart, the ledger within.
        counts = {name: sum(getattr(one, name) for one in outcome.usage.values()) for name in names}
        counts["input_tokens"] += counts["cache_read_tokens"] + counts["cache_write_tokens"]
        return {"source": "client", "requests": None} | counts
    return {"source": "none", "requests": None} | dict.fromkeys(names, 0)
