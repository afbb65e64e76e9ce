"""What a worker does, as events of its run."""

from __future__ import annotations

from typing import Protocol

from dragoman.workers.base import (
    Alive,
    Denied,
    Notice,
    Retrying,
    Said,
    Spawned,
    Started,
    Thought,
    ToolAnswered,
    ToolCalled,
    WorkerEvent,
)

CLIENT_NAMES = {"claude": "Claude Code", "codex": "Codex"}


class Emit(Protocol):
    """Appends an event; `EventLog.emit`."""

    def __call__(self, kind: str, **fields: object) -> None: ...


def tell(event: WorkerEvent, emit: Emit, *, client: str) -> None:
    """Append what a worker did to its run's events.

    Parameters:
        event: what it did.
        emit: appends.
        client: which client works, `claude` or `codex`.
    """
    match event:
        case Alive():
            pass
        case Spawned():
            emit("worker_spawned", pid=event.pid, started_at=event.started_at)
        case Started():
            emit(
                "worker_started",
                client=CLIENT_NAMES.get(client, client),
                version=event.client_version,
                model=event.model,
                session=event.session_id,
            )
        case Said():
            emit("said", text=event.text, subagent=event.subagent)
        case Thought():
            emit("thought", text=event.text, subagent=event.subagent)
        case ToolCalled():
            emit("tool", id=event.id, name=event.tool, summary=event.target)
        case ToolAnswered():
            emit("tool_result", id=event.id, name=event.tool, ok=event.ok)
        case Retrying():
            emit("retry", summary=f"{event.attempt} of {event.of}: {event.reason or event.status}")
        case Denied():
            emit("denied", name=event.tool, summary=event.target, reason=event.reason)
        case Notice():
            emit("notice", code=event.code, text=event.text)
