"""Sessions as plain values, the same in the control API and on the command line."""

from __future__ import annotations

from typing import Any

from dragoman.bridge.mailbox import Mailbox
from dragoman.bridge.session import SessionFolder, SessionUnknown, open_sessions
from dragoman.config.paths import Home

# What of a bridge's state says how things stand; the last answer's text is the lead's, not a list's.
_STATE = ("status", "busy", "hooks", "watchers", "question", "options", "error", "exit_code")


def describe_session(folder: SessionFolder) -> dict[str, Any]:
    """One session as plain values.

    Raises:
        SessionUnknown: it is not there or cannot be read.
    """
    session = folder.read()
    mailbox = Mailbox(folder.bridge)
    state = mailbox.read_state() or {}
    return {
        "session_id": session.session_id,
        "runs": mailbox.bridge_lives(),
        "project_path": session.project_path,
        "claude_session_id": session.claude_session_id,
        "created_at": session.created_at,
        "ended_at": session.ended_at,
        "has_recording": folder.recording.is_file(),
        "status": None,
        **{name: state[name] for name in _STATE if name in state},
    }


def describe_sessions(home: Home) -> list[dict[str, Any]]:
    """All sessions, the newest first; a folder that is none is left out."""
    rows: list[dict[str, Any]] = []
    for folder in open_sessions(home):
        try:
            rows.append(describe_session(folder))
        except SessionUnknown:
            continue
    return rows
