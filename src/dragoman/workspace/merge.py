"""Three-way merge of trees, without a work tree: what `git merge` would make of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from .conflicts import Conflict, ConflictKind, Hunk, Side, read_hunks
from .keep import Keep
from .names import printable

_HUNK_LIMIT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Merge:
    """The outcome of a merge.

    Attributes:
        tree: the merged tree; with conflict markers in it when there are conflicts.
        conflicts: one for each path that could not be merged.
    """

    tree: str
    conflicts: tuple[Conflict, ...]


def merge_trees(keep: Keep, base: str, base_tree: str, ours: str, theirs: str) -> Merge:
    """Merge two trees that come from the same base.

    Args:
        keep: where objects are read and the merged tree is written.
        base: the commit both come from.
        base_tree: its tree.
        ours: the user's tree now.
        theirs: the worker's tree.
    """
    if ours in (base_tree, theirs):
        return Merge(theirs, ())
    if theirs == base_tree:
        return Merge(ours, ())
    # merge-tree takes commits (trees only since 2.45): two that know nothing but their common parent.
    mine = keep.commit(ours, [base], "the user's files")
    worker = keep.commit(theirs, [base], "the worker's files")
    said = keep.run("merge-tree", "--write-tree", "-z", "--messages", mine, worker, ok=(0, 1))
    tree, _, rest = said.out.partition(b"\0")
    if said.status == 0:
        return Merge(tree.decode(), ())
    return Merge(tree.decode(), _read_conflicts(keep, rest))


def _read_conflicts(keep: Keep, raw: bytes) -> tuple[Conflict, ...]:
    files, _, told = raw.partition(b"\0\0")
    stages: dict[bytes, dict[int, Side]] = {}
    for entry in files.split(b"\0"):
        if entry:
            what, _, name = entry.partition(b"\t")
            mode, content, stage = what.decode().split(" ")
            stages.setdefault(name, {})[int(stage)] = Side(mode, content)
    types = _read_messages(told)
    conflicts: list[Conflict] = []
    for name, sides in sorted(stages.items()):
        base, ours, theirs = sides.get(1), sides.get(2), sides.get(3)
        kind = _kind(base, ours, theirs, types.get(name, ""))
        hunks: tuple[Hunk, ...] = ()
        if kind in ("content", "added_on_both_sides") and ours and theirs:
            hunks = _hunks(keep, ours, theirs, base)
        conflicts.append(Conflict(name, kind, _sentence(name, kind), base, ours, theirs, hunks))
    return tuple(conflicts)


def _read_messages(raw: bytes) -> dict[bytes, str]:
    """Map each path to the type of the first conflict told about it."""
    types: dict[bytes, str] = {}
    parts = iter(raw.split(b"\0"))
    for count in parts:
        if not count.strip().isdigit():
            break
        names = [next(parts) for _ in range(int(count))]
        kind = next(parts).decode("utf-8", "replace")
        next(parts, None)
        if kind.startswith("CONFLICT"):
            for name in names:
                types.setdefault(name, kind)
    return types


def _kind(base: Side | None, ours: Side | None, theirs: Side | None, told: str) -> ConflictKind:
    if "file/directory" in told or "directory/file" in told or "distinct" in told:
        return "file_and_folder"
    if "rename" in told and "delete" not in told:
        return "rename"
    if "submodule" in told:
        return "submodule"
    if ours and theirs:
        return "content" if base else "added_on_both_sides"
    if theirs:
        return "deleted_in_main" if base else "rename"
    return "deleted_by_worker" if base else "rename"


def _sentence(name: bytes, kind: ConflictKind) -> str:
    text = printable(name)
    match kind:
        case "content":
            return f"{text}: the worker and you changed the same lines"
        case "added_on_both_sides":
            return f"{text}: the worker and you each added it, with different content"
        case "deleted_in_main":
            return f"{text}: the worker changed it, you deleted it since"
        case "deleted_by_worker":
            return f"{text}: the worker deleted it, you changed it since"
        case "file_and_folder":
            return f"{text}: a file on one side and a folder on the other"
        case "submodule":
            return f"{text}: a submodule pointer changed on both sides"
        case _:
            return f"{text}: the worker and you moved it, or its folder, to different places"


def _hunks(keep: Keep, ours: Side, theirs: Side, base: Side | None) -> tuple[Hunk, ...]:
    """Merge one file again, for its markers; the merged tree may hold it under a changed name."""
    if not all(side is None or side.mode.startswith("100") for side in (ours, theirs, base)):
        return ()
    ids = [side.id for side in (ours, base, theirs) if side]
    sizes = keep.run("cat-file", "--batch-check=%(objectsize)", stdin="\n".join(ids).encode() + b"\n").text
    if any(int(size) > _HUNK_LIMIT_BYTES for size in sizes.split("\n")):
        return ()
    with tempfile.TemporaryDirectory(dir=keep.dir, prefix="hunks-") as name_of_folder:
        folder = Path(name_of_folder)
        files: list[str] = []
        for label, side in (("ours", ours), ("base", base), ("theirs", theirs)):
            file = folder / label
            file.write_bytes(keep.run("cat-file", "blob", side.id).out if side else b"")
            files.append(str(file))
        said = _merge_file(keep, folder, files)
    return read_hunks(said, "ours", "theirs")


def _merge_file(keep: Keep, folder: Path, files: list[str]) -> bytes:
    return keep.run(
        *("merge-file", "-p", "-L", "ours", "-L", "base", "-L", "theirs", *files),
        ok=tuple(range(129)),
        work_tree=folder,
    ).out
