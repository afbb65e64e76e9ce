"""The tool table: one per request, shared by the request that goes out and the answer that comes back.

Clients name tools by (namespace, name) and may have freeform ones; most upstreams know flat functions with
short safe names. The table holds both names of every tool, so that a call always comes back to the client
exactly as declared, whichever name the upstream was offered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache

import msgspec

from dragoman.wire.dialect import Dialect
from dragoman.wire.turns import Call, CallKind, RawJson, RawText, Tool, Wire, plain, raw

_value = msgspec.json.Decoder(msgspec.Raw)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")

FREEFORM_KEY = "input"
"""The one argument of a freeform tool where it has to be offered as a function."""


class ToolName(msgspec.Struct, frozen=True, gc=False):
    """A tool as the client knows it."""

    name: str
    namespace: str | None = None
    kind: CallKind = "function"


class ToolEntry(msgspec.Struct, frozen=True):
    """A tool and the name it has upstream.

    `wrapped`: freeform for the client, offered as a function upstream.
    """

    tool: Tool
    upstream_name: str
    wrapped: bool = False


class ToolTable:
    """Both names of every tool of one request.

    Attributes:
        entries: what the upstream is to be offered, in the client's order, first declaration of a name only.
        refused: hosted tools that nobody can run on this route.
    """

    def __init__(
        self, tools: Iterable[Tool] = (), *, dialect: Dialect | None = None, wire: Wire = "chat"
    ) -> None:
        dialect = dialect or Dialect()
        self.entries: list[ToolEntry] = []
        self.refused: list[Tool] = []
        self._by_client: dict[tuple[str | None, str], ToolEntry] = {}
        self._by_upstream: dict[str, ToolName] = {}
        self._wrapped: set[str] = set()
        self._limit = dialect.tool_name_limit
        self._loads_later = wire == "messages" and any(
            pattern.startswith(("*", "tool_search")) for pattern in dialect.hosted_tools
        )
        native_freeform = wire == "responses" and dialect.freeform_tools
        for tool in tools:
            self._add(tool, dialect, native_freeform)

    def _add(self, tool: Tool, dialect: Dialect, native_freeform: bool) -> None:
        key = (tool.namespace, tool.name)
        if key in self._by_client:
            return
        if tool.kind == "hosted":
            if not any(fnmatchcase(tool.type or tool.name, pattern) for pattern in dialect.hosted_tools):
                self.refused.append(tool)
                return
            entry = ToolEntry(tool, tool.name)
            self._by_client[key] = entry
            self.entries.append(entry)
            return
        wrapped = tool.kind == "freeform" and not native_freeform
        upstream_name = self._free_name(flat_name(tool.namespace, tool.name), self._limit)
        entry = ToolEntry(tool, upstream_name, wrapped)
        self._by_client[key] = entry
        self._by_upstream[upstream_name] = ToolName(tool.name, tool.namespace, tool.kind)
        if wrapped:
            self._wrapped.add(upstream_name)
        if not tool.deferred or self._loads_later:
            self.entries.append(entry)

    def _free_name(self, wanted: str, limit: int) -> str:
        name = safe_name(wanted, limit)
        salt = 0
        while name in self._by_upstream:
            salt += 1
            name = _hashed(wanted, f"{wanted}#{salt}", limit)
        return name

    def __bool__(self) -> bool:
        return bool(self.entries)

    def upstream_name(self, name: str, namespace: str | None = None) -> str:
        """The flat name of a tool, for declarations, choices and history; also for undeclared ones.

        Deterministic, so that a tool that was declared once keeps its name in history.
        """
        entry = self._by_client.get((namespace, name))
        if entry is None and namespace is None:
            entry = self._only_namespaced(name)
        if entry is not None:
            return entry.upstream_name
        return safe_name(flat_name(namespace, name), self._limit)

    def _only_namespaced(self, name: str) -> ToolEntry | None:
        found = [entry for (_, own), entry in self._by_client.items() if own == name]
        return found[0] if len(found) == 1 else None

    def entry(self, name: str, namespace: str | None = None) -> ToolEntry | None:
        """The entry of a declared tool."""
        return self._by_client.get((namespace, name))

    def restore(self, upstream_name: str) -> ToolName:
        """The client's name and kind for what the upstream called.

        A name nobody declared comes back as a plain function of that name: the client then tells the model.
        """
        found = self._by_upstream.get(upstream_name)
        return found if found is not None else ToolName(upstream_name)

    def is_wrapped(self, upstream_name: str) -> bool:
        """Whether calls of this name carry a freeform text inside a JSON object."""
        return upstream_name in self._wrapped


def flat_name(namespace: str | None, name: str) -> str:
    """One name for a namespaced tool, before it is made safe and short."""
    if not namespace:
        return name
    joint = "" if namespace.endswith("_") else "__"
    return f"{namespace}{joint}{name}"


def safe_name(name: str, limit: int = 64) -> str:
    """`name` with letters, digits, `_` and `-` only, at most `limit` characters long.

    A name that had to change ends with a short hash of the original, so two originals never meet.
    """
    safe = _UNSAFE.sub("_", name)
    if safe == name and len(name) <= limit:
        return name
    return _hashed(safe, name, limit)


def _hashed(stem: str, original: str, limit: int) -> str:
    digest = hashlib.sha256(original.encode()).hexdigest()[:8]
    return f"{_UNSAFE.sub('_', stem)[: limit - 9]}_{digest}"


def arguments_text(call: Call) -> RawText:
    """A call's arguments as the content of a JSON string."""
    if call.arguments_json is not None:
        return raw(call.arguments_json.decode("utf-8", "replace"))
    return call.arguments


def arguments_object(call: Call) -> RawJson | None:
    """A call's arguments as a JSON object; None when they are not one. Empty arguments are `{}`."""
    if call.arguments_json is not None:
        return call.arguments_json
    if len(call.arguments) <= _SMALL_BYTES:
        return _small_object(call.arguments)
    return _object_of(call.arguments)


def _object_of(arguments: RawText) -> RawJson | None:
    if not arguments.strip():
        return b"{}"
    try:
        value = bytes(_value.decode(plain(arguments)))
    except (ValueError, RecursionError):
        return None
    return value if value.startswith(b"{") else None


_SMALL_BYTES = 1_000
_small_object = lru_cache(maxsize=2_048)(_object_of)
"""A session sends its whole history with every request; unescaping old arguments again would cost more than
anything else that is done with them."""

_MAX_KNOWN = 50_000
_known_objects: set[int] = set()


def holds_object(call: Call) -> bool:
    """Whether a call's arguments are a JSON object, or empty.

    A session sends its whole history with every request, so the answer for a text is remembered, by its
    hash: checking half a megabyte of old arguments again would cost more than all the rest of a translation.
    """
    if call.arguments_json is not None:
        return True
    key = hash(call.arguments)
    if key in _known_objects:
        return True
    if arguments_object(call) is None:
        return False
    if len(_known_objects) >= _MAX_KNOWN:
        _known_objects.clear()
    _known_objects.add(key)
    return True


def legal_arguments(call: Call, dialect: Dialect) -> RawText:
    """A call's arguments as the content of a JSON string for a server that parses them: a freeform text is
    wrapped, and so are malformed arguments where they would be refused."""
    if call.arguments_json is not None:
        return raw(call.arguments_json.decode("utf-8", "replace"))
    if call.kind == "freeform":
        return raw(wrap_freeform(call.arguments).decode("utf-8", "replace"))
    if not call.arguments or call.arguments.isspace():
        return b"{}"
    if dialect.valid_arguments and not holds_object(call):
        return raw((b'{"_raw":"' + call.arguments + b'"}').decode("utf-8", "replace"))
    return call.arguments


def wrap_freeform(text: RawText) -> RawJson:
    """A freeform text as the one argument of a function."""
    return b'{"' + FREEFORM_KEY.encode() + b'":"' + text + b'"}'


def unwrap_freeform(arguments: RawText) -> RawText:
    """The text inside a freeform call's arguments.

    A model that ignored the schema is met half-way: one string under any key is taken; anything else stays
    the text it was.
    """
    try:
        value = _fields.decode(plain(arguments))
    except (ValueError, RecursionError):
        return arguments
    wanted = value.get(FREEFORM_KEY)
    if wanted is None and len(value) == 1:
        wanted = next(iter(value.values()))
    found = bytes(wanted) if wanted is not None else b""
    return found[1:-1] if found.startswith(b'"') else arguments
