"""Trees edited as trees: a few files of a large repository change without an index of all of them."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .keep import Keep
from .names import parents

_TREE_MODE = b"40000"


@dataclass(frozen=True)
class Entry:
    """A file in a tree: git mode such as `100644`, and the id of its content."""

    mode: str
    id: str


@dataclass
class _Folder:
    """Edits of one folder: its own files, and folders below it."""

    files: dict[bytes, Entry | None] = field(default_factory=dict[bytes, Entry | None])
    folders: dict[bytes, _Folder] = field(default_factory=dict[bytes, "_Folder"])


def look_up(keep: Keep, tree: str, names: Iterable[bytes]) -> dict[bytes, Entry | None]:
    """Tell what a tree has at some names; None where it has no file (a folder is not one)."""
    wanted = list(names)
    known = _read_folders(keep, tree, wanted)
    found: dict[bytes, Entry | None] = {}
    for name in wanted:
        above, _, last = name.rpartition(b"/")
        entry = known.get(above, {}).get(last)
        found[name] = Entry(entry[0].decode(), entry[1].hex()) if entry and entry[0] != _TREE_MODE else None
    return found


def edit_tree(keep: Keep, tree: str, edits: Mapping[bytes, Entry | None]) -> str:
    """Make a tree that differs from another in the given files.

    A file takes the place of a folder of its name, and the other way round. Folders left empty disappear.

    Args:
        keep: where trees are read and written.
        tree: id of the tree to start from.
        edits: what each name becomes; None removes it.

    Returns:
        The new tree's id.
    """
    if not edits:
        return tree
    known = _read_folders(keep, tree, edits)
    root = _Folder()
    for name, entry in edits.items():
        *above, last = name.split(b"/")
        at = root
        for part in above:
            at = at.folders.setdefault(part, _Folder())
        at.files[last] = entry
    writer = _Writer(keep.objects, "sha256" if len(tree) == 64 else "sha1")
    made = _edit(b"", root, known, writer)
    return (made if made is not None else writer.write(b"")).hex()


_Entries = dict[bytes, tuple[bytes, bytes]]


def _edit(folder: bytes, edits: _Folder, known: Mapping[bytes, _Entries], writer: _Writer) -> bytes | None:
    """Make one folder's tree, those below it first; None when nothing is left in it."""
    entries = dict(known.get(folder, {}))
    for name, entry in edits.files.items():
        if entry is None and name in entries and entries[name][0] != _TREE_MODE:
            del entries[name]
    for name, below in edits.folders.items():
        path = folder + b"/" + name if folder else name
        made = _edit(path, below, known, writer)
        if made is not None:
            entries[name] = (_TREE_MODE, made)
        elif name in entries and entries[name][0] == _TREE_MODE:
            del entries[name]
    for name, entry in edits.files.items():
        if entry is not None:
            entries[name] = (entry.mode.encode(), bytes.fromhex(entry.id))
    if not entries:
        return None
    # git sorts folders as if their names ended with a slash
    ordered = sorted(entries.items(), key=lambda e: e[0] + b"/" if e[1][0] == _TREE_MODE else e[0])
    return writer.write(b"".join(mode + b" " + name + b"\0" + content for name, (mode, content) in ordered))


def _read_folders(keep: Keep, tree: str, names: Iterable[bytes]) -> dict[bytes, _Entries]:
    """Read the folders above some names."""
    folders = sorted({folder for name in names for folder in (b"", *parents(name))})
    asked = [f"{tree}:".encode() + folder for folder in folders]
    raw = keep.run("cat-file", "--batch", "-z", stdin=b"\0".join(asked) + b"\0").out
    width = len(tree) // 2
    found: dict[bytes, _Entries] = {}
    at = 0
    for folder, question in zip(folders, asked, strict=True):
        missing = question + b" missing\n"
        if raw.startswith(missing, at):
            at += len(missing)
            continue
        end = raw.index(b"\n", at)
        _, kind, size = raw[at:end].split(b" ")
        start, at = end + 1, end + 1 + int(size) + 1
        if kind == b"tree":
            found[folder] = _read_tree(raw[start : at - 1], width)
    return found


def _read_tree(raw: bytes, width: int) -> _Entries:
    entries: _Entries = {}
    at = 0
    while at < len(raw):
        space, end = raw.index(b" ", at), raw.index(b"\0", at)
        entries[raw[space + 1 : end]] = (raw[at:space], raw[end + 1 : end + 1 + width])
        at = end + 1 + width
    return entries


class _Writer:
    """Writes tree objects as loose objects; a process of git for each would cost more than the edit."""

    def __init__(self, objects: Path, algorithm: str) -> None:
        self._objects = objects
        self._algorithm = algorithm

    def write(self, raw: bytes) -> bytes:
        """Write a tree and give its id."""
        content = b"tree %d\0" % len(raw) + raw
        digest = hashlib.new(self._algorithm, content, usedforsecurity=False)
        name = digest.hexdigest()
        path = self._objects / name[:2] / name[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            descriptor, draft = tempfile.mkstemp(dir=self._objects, prefix="tree-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(zlib.compress(content, 1))
            Path(draft).chmod(0o444)
            Path(draft).replace(path)
        return digest.digest()
