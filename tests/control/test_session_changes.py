"""Sessions of the bridge on the feed of what changes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from dragoman.bridge.mailbox import Mailbox
from dragoman.bridge.session import SessionFolder, create_session
from dragoman.config.paths import Home
from dragoman.control.feed import Feed, Happening
from dragoman.control.session_changes import SessionChanges
from dragoman.process.locks import FileLock


class Session:
    """What a bridge leaves on disk while it runs."""

    def __init__(self, home: Home, session_id: str) -> None:
        self.folder: SessionFolder = create_session(
            home,
            session_id=session_id,
            claude_session_id="0b1c",
            project=home.state,
            supervisor_home=home.state / "supervisor",
            created_at="2026-01-01T00:00:00+00:00",
            env={},
        )
        self.mailbox = Mailbox(self.folder.bridge)
        self.mailbox.make()
        self.lock = FileLock(self.mailbox.lock_file)

    def stand(self, status: str, **more: Any) -> None:
        self.mailbox.write_state({"status": status, **more})


@pytest.fixture
def session(home: Home) -> Iterator[Session]:
    session = Session(home, "20260101-000000-abcdef")
    session.lock.acquire()
    session.stand("starting")
    yield session
    session.lock.release()


async def heard(feed: Feed, what: Any) -> list[Happening]:
    """All that is published while something is done."""
    told: list[Happening] = []

    async def listen() -> None:
        async for one in feed.listen():
            told.append(one)

    listener = asyncio.ensure_future(listen())
    while not feed.is_heard:
        await asyncio.sleep(0)
    what()
    await asyncio.sleep(0.01)
    listener.cancel()
    return told


def told_by(feed: Feed, *steps: Any) -> list[dict[str, Any]]:
    def all_steps() -> None:
        for step in steps:
            step()

    told = asyncio.run(heard(feed, all_steps))
    assert all(one.topic == "session" for one in told)
    return [one.resource for one in told]


def test_each_change_of_a_session_is_told_once_with_how_it_stands_and_without_what_was_said(
    home: Home, session: Session
) -> None:
    feed = Feed()
    changes = SessionChanges(home, feed)
    rows = told_by(
        feed,
        changes.look,
        changes.look,
        lambda: session.stand("needs_permission", question="May I?", output="a secret answer"),
        changes.look,
        changes.look,
        session.lock.release,
        changes.look,
    )
    assert [(row["status"], row["runs"]) for row in rows] == [
        ("starting", True),
        ("needs_permission", True),
        ("needs_permission", False),
    ]
    assert rows[1]["question"] == "May I?"
    assert "secret" not in str(rows)


def test_what_was_over_before_is_no_news_but_what_is_deleted_is(home: Home, session: Session) -> None:
    old = Session(home, "20250101-000000-abcdef")
    feed = Feed()
    changes = SessionChanges(home, feed)
    rows = told_by(feed, changes.look, lambda: shutil.rmtree(old.folder.path), changes.look)
    assert [row["session_id"] for row in rows] == [session.folder.path.name, old.folder.path.name]
    assert rows[1] == {"session_id": old.folder.path.name, "runs": False, "deleted": True}


def test_nothing_is_looked_at_while_nobody_listens(
    home: Home, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.control.session_changes._LOOK_EVERY_S", 0.01)
    looks: list[float] = []

    async def body() -> None:
        feed = Feed()
        changes = SessionChanges(home, feed)
        monkeypatch.setattr(changes, "look", lambda: looks.append(1.0))
        keeping = asyncio.ensure_future(changes.keep())
        await asyncio.sleep(0.1)
        assert looks == []
        listener = asyncio.ensure_future(anext(aiter(feed.listen())))
        async with asyncio.timeout(5):
            while len(looks) < 2:
                await asyncio.sleep(0.01)
        keeping.cancel()
        listener.cancel()

    asyncio.run(body())
