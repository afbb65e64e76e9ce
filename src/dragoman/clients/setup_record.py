"""Sets our keys in a client's configuration and takes them out again, remembering what stood there before.

The record is made before the file is touched: after a crash there is nothing to undo, or a record of it.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from dragoman.clients.config_file import ChangedMeanwhile, ClientFile, read_client_file, replace_client_file
from dragoman.clients.editing import Path as KeyPath
from dragoman.clients.editing import Tree, has, leaves, lookup, with_leaf
from dragoman.clients.json_edit import JsonText
from dragoman.clients.toml_edit import TomlText
from dragoman.config.files import ensure_private_folder, read_small_file, write_private_file
from dragoman.config.paths import Home, unwritable

WishKind = Literal["key", "seed", "table", "absent"]
"""`key` is set whatever stands there; `seed` only when nothing does; `table` is ours as a whole; `absent` is
taken out while we are set up."""

Document = TomlText | JsonText
_TRIES = 3

# The names under which clients keep what must not be read over a shoulder, or in a log of this command.
_SECRET_NAME = re.compile(r"(key|token|secret|password|authorization)$", re.IGNORECASE)


class Wish(msgspec.Struct, frozen=True):
    """One thing that shall stand in a file.

    Attributes:
        path: the key.
        value: what it shall say.
        kind: how it is wished.
        shared: of a table: other keys in it are the user's and stay while we are set up.
    """

    path: KeyPath
    value: Any = None
    kind: WishKind = "key"
    shared: bool = False


class Owned(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing we wrote.

    Attributes:
        path: the key.
        kind: how it was wished.
        written: the value; of a table what is ours in it.
        before: how the earlier value was spelled, None when there was none.
        made: how many tables around it were made for it.
    """

    path: KeyPath
    kind: WishKind
    written: Any = None
    before: str | None = None
    made: int = 0


class SetupRecord(msgspec.Struct, frozen=True):
    """What was done to one file.

    Attributes:
        file: the file.
        before: its bytes without anything of ours; None when there was no file.
        after: sha256 of the bytes we wrote.
        owned: what we wrote, in order.
        at: seconds since the epoch.
    """

    file: str
    before: bytes | None
    after: str
    owned: tuple[Owned, ...]
    at: float


@dataclass(frozen=True, slots=True)
class ClientEdit:
    """What was, or would be, done to a file.

    Attributes:
        path: the file.
        diff: the lines that change, `-` before and `+` after; empty when nothing does.
        removed: whether the whole file goes.
        backup: where the earlier content was kept.
        lost: keys the user added to our tables, which go with them.
    """

    path: Path
    diff: tuple[str, ...]
    removed: bool = False
    backup: Path | None = None
    lost: tuple[KeyPath, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.diff) or self.removed


def open_document(file: ClientFile) -> Document:
    """The document in a client's file, by its name.

    Raises:
        EditRefused: it cannot be read as what it is.
    """
    name = str(file.path)
    return JsonText(file.text, name) if file.path.suffix == ".json" else TomlText(file.text, name)


def plan_setup(
    document: Document, wishes: Sequence[Wish], earlier: Sequence[Owned] = ()
) -> tuple[Document, list[Owned]]:
    """The document with every wish fulfilled, and what is ours in it then.

    Args:
        document: as it is.
        wishes: what shall stand in it.
        earlier: what we own already; its `before` is kept.

    Raises:
        EditRefused: a wish cannot be fulfilled without changing something else.
    """
    known = {owned.path: owned for owned in earlier}
    owned: dict[KeyPath, Owned] = dict(known)
    for wish in wishes:
        present = has(document.tree, wish.path)
        if wish.kind == "seed" and present:
            continue
        if wish.kind == "absent" and not present:
            continue
        made, ours = 0 if present else _missing_tables(document, wish.path), wish.value
        before = document.literal(wish.path) if present and wish.kind in ("key", "absent") else None
        match wish.kind:
            case "key" | "seed":
                document = document.with_value(wish.path, wish.value)
            case "table":
                ours, whole = _table(wish, lookup(document.tree, wish.path), known.get(wish.path))
                document = document.with_table(wish.path, whole)
            case "absent":
                document = document.without(wish.path)
        entry = Owned(wish.path, wish.kind, ours, before, made)
        if (old := known.get(wish.path)) is not None:
            entry = msgspec.structs.replace(entry, before=old.before, made=old.made)
        owned[wish.path] = entry
    return document, list(owned.values())


def plan_uninstall(document: Document, owned: Sequence[Owned]) -> Document:
    """The document without what is ours: earlier values come back, what the user changed since stays.

    Raises:
        EditRefused: something cannot be taken out without changing something else.
    """
    for entry in reversed(owned):
        present = has(document.tree, entry.path)
        match entry.kind:
            case "table":
                document = document.without(entry.path, prune=entry.made)
            case "absent":
                if not present and entry.before is not None:
                    document = document.with_value(entry.path, "").with_literal(entry.path, entry.before)
            case "key" | "seed":
                if not present or lookup(document.tree, entry.path) != entry.written:
                    continue
                if entry.before is not None:
                    document = document.with_literal(entry.path, entry.before)
                else:
                    document = document.without(entry.path, prune=entry.made)
    return document


def preview_setup(home: Home, path: Path, wishes: Sequence[Wish]) -> ClientEdit:
    """What `run_setup` would change; touches nothing.

    Raises:
        EditRefused: see `plan_setup`.
    """
    file = read_client_file(path)
    record = read_record(home, file.real)
    document, _ = plan_setup(open_document(file), wishes, record.owned if record else ())
    return ClientEdit(path, _shown(open_document(file), document))


def run_setup(
    home: Home,
    path: Path,
    wishes: Sequence[Wish],
    *,
    now: Callable[[], float] = time.time,
    write: Callable[[ClientFile, bytes | None], None] = replace_client_file,
) -> ClientEdit:
    """Fulfil wishes in a client's file; twice is once.

    Args:
        home: where records and backups are kept.
        path: the client's file; made when missing.
        wishes: what shall stand in it.
        now: seconds since the epoch.
        write: replaces the file.

    Raises:
        EditRefused: the file was left as it is.
        HomeUnwritable: the record cannot be kept; the file was left as it is.
    """
    for remaining in reversed(range(_TRIES)):
        file = read_client_file(path)
        record = read_record(home, file.real)
        document, owned = plan_setup(open_document(file), wishes, record.owned if record else ())
        content = file.encoded(document.text)
        if content == (file.content or b""):  # nothing to say is no reason to make a file
            return ClientEdit(path, ())
        before = _pristine(file, record)
        _write_record(home, file.real, SetupRecord(str(path), before, _sha(content), tuple(owned), now()))
        backup = _back_up(home, file, now())
        try:
            write(file, content)
        except ChangedMeanwhile:
            if not remaining:
                raise
            continue
        return ClientEdit(path, _shown(open_document(file), document), backup=backup)
    raise AssertionError("unreachable")


def run_uninstall(
    home: Home,
    path: Path,
    known: Sequence[Owned] = (),
    *,
    dry_run: bool = False,
    now: Callable[[], float] = time.time,
    write: Callable[[ClientFile, bytes | None], None] = replace_client_file,
) -> ClientEdit:
    """Take everything of ours out of a client's file.

    The bytes from before come back when the file is still as we wrote it; otherwise only our keys go.

    Args:
        home: where records and backups are kept.
        path: the client's file.
        known: what to look for when there is no record.
        dry_run: only say what would change.
        now: seconds since the epoch.
        write: replaces the file.

    Raises:
        EditRefused: the file was left as it is.
    """
    file = read_client_file(path)
    record = read_record(home, file.real)
    if file.content is None:
        _forget(home, file.real, dry_run=dry_run)
        return ClientEdit(path, ())
    owned, document = record.owned if record else known, open_document(file)
    if record is not None and _sha(file.content) == record.after:
        content = record.before
    else:
        content = file.encoded(plan_uninstall(document, owned).text)
    left = ClientFile(path, file.real, content)
    remains = open_document(left)
    diff = _shown(document, remains) if content != file.content else ()
    edit = ClientEdit(path, diff, removed=content is None, lost=_lost(document.tree, remains.tree, owned))
    if dry_run:
        return edit
    if edit.changed:
        backup = _back_up(home, file, now())
        write(file, content)
        edit = replace(edit, backup=backup)
    _forget(home, file.real, dry_run=False)
    return edit


def read_record(home: Home, real: Path) -> SetupRecord | None:
    """The record of a file, None when we never touched it."""
    content = read_small_file(_record_file(home, real), max_bytes=64 << 20)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=SetupRecord)
    except msgspec.MsgspecError:
        return None


def changed_lines(before: str, after: str) -> tuple[str, ...]:
    """The lines that differ and no others: the rest of a client's file may hold secrets."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return tuple(line for line in lines if not line.startswith(("---", "+++", "@@")))


def _shown(before: Document, after: Document) -> tuple[str, ...]:
    """The lines that change, with the user's keys and tokens left out."""
    lines = changed_lines(before.text, after.text)
    for document in (before, after) if lines else ():
        for path, value in leaves(document.tree):
            if isinstance(value, str) and value and _SECRET_NAME.search(path[-1]):
                spelling = document.literal(path) or value  # a value of an inline table has none of its own
                lines = tuple(line.replace(spelling, '"…"') for line in lines)
    return lines


def _pristine(file: ClientFile, record: SetupRecord | None) -> bytes | None:
    """The file without anything of ours, as bytes to come back to."""
    if record is None or file.content is None:
        return file.content
    if _sha(file.content) == record.after:
        return record.before
    return file.encoded(plan_uninstall(open_document(file), record.owned).text)


def _lost(before: Tree, after: Tree, owned: Sequence[Owned]) -> tuple[KeyPath, ...]:
    """What the user added to tables of ours: it makes no sense without them and goes with them."""
    found: list[KeyPath] = []
    for entry in owned:
        table = lookup(before, entry.path)
        if entry.kind != "table" or not isinstance(table, dict) or not isinstance(entry.written, dict):
            continue
        ours = {path for path, _ in leaves(entry.written, entry.path)}
        found += [path for path, _ in leaves(table, entry.path) if path not in ours and not has(after, path)]
    return tuple(found)


def _table(wish: Wish, present: object, earlier: Owned | None) -> tuple[Tree, Tree]:
    """What is ours in a wished table, and the whole table as it shall be."""
    ours: Tree = wish.value
    if not wish.shared or not isinstance(present, dict):
        return ours, ours
    if earlier is not None and isinstance(earlier.written, dict):
        # what an earlier set-up was asked for, such as roots to allow, is ours too while it stands
        standing = [
            (path, value) for path, value in leaves(earlier.written) if lookup(present, path) == value
        ]
        ours = _laid_over({}, standing)
        ours = _laid_over(ours, leaves(wish.value))
    return ours, _laid_over(present, leaves(ours))


def _laid_over(table: Tree, values: Sequence[tuple[KeyPath, Any]]) -> Tree:
    for path, value in values:
        table = with_leaf(table, path, value)
    return table


def _missing_tables(document: Document, path: KeyPath) -> int:
    return sum(not has(document.tree, path[:depth]) for depth in range(1, len(path)))


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _record_file(home: Home, real: Path) -> Path:
    return home.backups / f"{_sha(str(real).encode('utf-8', 'surrogateescape'))[:16]}.json"


def _write_record(home: Home, real: Path, record: SetupRecord) -> None:
    try:
        ensure_private_folder(home.backups)
        write_private_file(_record_file(home, real), msgspec.json.encode(record))
    except OSError as error:
        raise unwritable(home.backups, error) from None


def _forget(home: Home, real: Path, *, dry_run: bool) -> None:
    if not dry_run:
        _record_file(home, real).unlink(missing_ok=True)


def _back_up(home: Home, file: ClientFile, now: float) -> Path | None:
    if file.content is None:
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    backup = home.backups / f"{file.path.name}.{stamp}.{_sha(file.content)[:8]}.bak"
    try:
        ensure_private_folder(home.backups)
        write_private_file(backup, file.content)
    except OSError as error:
        raise unwritable(home.backups, error) from None
    return backup
