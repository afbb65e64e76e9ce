"""Finished Responses output items as JSON bytes, shared by the stream and the whole answer.

What Codex (0.163, 0.169) needs of them: `summary` on every reasoning item, `arguments` a string, the
namespace apart from the name, a freeform call as `custom_tool_call`. What it cannot read it drops silently.
"""

from __future__ import annotations

import msgspec

from dragoman.wire import envelope
from dragoman.wire.events import CallBlock
from dragoman.wire.tools import arguments_object
from dragoman.wire.turns import Call, Carrier, RawText, raw

_encode = msgspec.json.Encoder().encode

ITEM_PREFIX = {"function": "fc_", "freeform": "ctc_", "local_shell": "lsh_", "tool_search": "tsc_"}


def message_item(item_id: bytes, status: bytes, content: bytes) -> bytes:
    """An assistant message; `content` is the JSON list of its parts."""
    return b'{"id":"%b","type":"message","status":"%b","role":"assistant","content":%b}' % (
        item_id,
        status,
        content,
    )


def text_part(text: RawText) -> bytes:
    """One `output_text` part."""
    return b'{"type":"output_text","text":"%b","annotations":[],"logprobs":[]}' % text


def summary_part(text: RawText) -> bytes:
    """One `summary_text` part."""
    return b'{"type":"summary_text","text":"%b"}' % text


def reasoning_item(item_id: bytes, text: RawText, carriers: tuple[Carrier, ...], status: bytes) -> bytes:
    """A reasoning item: the text to be shown as summary, the whole thought with its carriers wrapped."""
    summary = summary_part(text) if text else b""
    sealed = b',"encrypted_content":"%b"' % envelope.wrap(text, carriers).encode() if carriers else b""
    return b'{"id":"%b","type":"reasoning","status":"%b","summary":[%b]%b}' % (
        item_id,
        status,
        summary,
        sealed,
    )


def call_item(item_id: bytes, block: CallBlock, arguments: RawText, status: bytes) -> bytes:
    """A call in the client's own kind.

    Args:
        item_id: the item's id.
        block: the call under the client's name.
        arguments: all its deltas: JSON text, or the text itself for a freeform call; escaped.
        status: `in_progress`, `completed` or `incomplete`.
    """
    call_id = raw(block.id)
    name = raw(block.name)
    space = b',"namespace":"%b"' % raw(block.namespace) if block.namespace is not None else b""
    match block.kind:
        case "freeform":
            return (
                b'{"id":"%b","type":"custom_tool_call","status":"%b","call_id":"%b"%b,"name":"%b","input":"%b"}'
                % (item_id, status, call_id, space, name, arguments)
            )
        case "local_shell":
            return b'{"id":"%b","type":"local_shell_call","status":"%b","call_id":"%b","action":%b}' % (
                item_id,
                status,
                call_id,
                _shell_action(arguments),
            )
        case "tool_search":
            return (
                b'{"id":"%b","type":"tool_search_call","status":"%b","call_id":"%b","execution":"client",'
                b'"arguments":%b}' % (item_id, status, call_id, _object(arguments))
            )
        case "function":
            return (
                b'{"id":"%b","type":"function_call","status":"%b","call_id":"%b"%b,"name":"%b","arguments":"%b"}'
                % (item_id, status, call_id, space, name, arguments)
            )


def compaction_item(item_id: bytes, encrypted_content: str) -> bytes:
    """The one item a remote compaction is answered with."""
    return b'{"id":"%b","type":"compaction","encrypted_content":"%b"}' % (item_id, encrypted_content.encode())


def _object(arguments: RawText) -> bytes:
    """Arguments as a JSON object; what is none is kept under a key of its own, nothing is invented."""
    found = arguments_object(Call(id="", name="", arguments=arguments))
    return found if found is not None else b'{"_raw":"%b"}' % arguments


class _Action(msgspec.Struct, omit_defaults=True):
    command: list[str] | str = []
    timeout_ms: int | None = None
    working_directory: str | None = None
    env: dict[str, str] | None = None
    user: str | None = None


_action = msgspec.json.Decoder(_Action)


def _shell_action(arguments: RawText) -> bytes:
    """The `action` of a local shell call; a command given as one string is run by a shell."""
    try:
        found = _action.decode(_object(arguments))
    except msgspec.MsgspecError:
        found = _Action()
    if isinstance(found.command, str):
        found.command = ["bash", "-lc", found.command]
    fields: dict[str, object] = {"type": "exec", "command": found.command, "env": found.env or {}}
    for name in ("timeout_ms", "working_directory", "user"):
        if (value := getattr(found, name)) is not None:
            fields[name] = value
    return _encode(fields)
