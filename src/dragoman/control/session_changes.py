"""Tells the feed when a session of the bridge changes: bridges are processes that know no daemon."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from dragoman.bridge.listing import describe_sessions
from dragoman.config.paths import Home
from dragoman.control.feed import Feed

# A bridge writes its state at most once a second, but for what somebody waits for.
_LOOK_EVERY_S = 0.5

_log = logging.getLogger("dragoman.control")


class SessionChanges:
    """Looks at the sessions' files while somebody listens, and publishes each that is not as it was.

    A session that is gone is published once more with `deleted`. One that was over before the first look is
    no news.

    Args:
        home: whose sessions.
        feed: told of every change.
    """

    def __init__(self, home: Home, feed: Feed) -> None:
        self._home, self._feed = home, feed
        self._known: dict[str, dict[str, Any]] | None = None

    def look(self) -> None:
        """Compare with the last look."""
        rows = {str(row["session_id"]): row for row in describe_sessions(self._home)}
        first, known = self._known is None, self._known or {}
        self._known = rows
        for session_id in reversed(rows):
            row = rows[session_id]
            if row != known.get(session_id) and (row["runs"] or not first):
                self._feed.publish("session", row)
        for session_id in known.keys() - rows.keys():
            self._feed.publish("session", {"session_id": session_id, "runs": False, "deleted": True})

    async def keep(self) -> None:
        """Look for as long as this process serves."""
        while True:
            if self._feed.is_heard:
                try:
                    await asyncio.to_thread(self.look)
                except OSError as error:
                    _log.warning("sessions cannot be read: %s", error.strerror)
            await asyncio.sleep(_LOOK_EVERY_S)
