"""Remote compaction, done by any model.

A Codex that believes it talks to its vendor (0.169, provider name `OpenAI`) ends a request with an item
`compaction_trigger` and wants exactly one `compaction` item back, whose `encrypted_content` it returns at the
head of the next conversation. Other upstreams are asked for a summary in words; the summary travels in an
envelope.
"""

from __future__ import annotations

from dragoman.wire import envelope
from dragoman.wire.turns import RawText, Request, Text, User

TRIGGER = (
    b"The conversation is about to be shortened. Write a handover for whoever continues this work with "
    b"nothing but your words: the goal, what was decided and why, what is done, what is open, and every "
    b"path, name, command and number that is still needed. Do not call any tool."
)
HEADING = b"Summary of the conversation up to here, written when it was shortened:\\n\\n"


def trigger() -> User:
    """The words that stand for a `compaction_trigger`."""
    return User(parts=(Text(TRIGGER),))


def is_compaction(request: Request) -> bool:
    """Whether the client waits for a `compaction` item instead of a message."""
    last = request.turns[-1] if request.turns else None
    return isinstance(last, User) and any(isinstance(p, Text) and p.text == TRIGGER for p in last.parts[-1:])


def wrap(summary: RawText) -> str:
    """A summary as the `encrypted_content` of a `compaction` item."""
    return envelope.wrap(summary, ())


def unwrap(encrypted_content: str) -> User | None:
    """The summary as user words; None when another gateway or vendor made the item."""
    found = envelope.unwrap(encrypted_content)
    return User(parts=(Text(HEADING + found.text),)) if found is not None and found.text else None
