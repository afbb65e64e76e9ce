"""Where workspaces live, and the record each one keeps.

<store>/workspaces/<id>/record.json   what is below, written once and after each apply
<store>/workspaces/<id>/tree/         the worker's clone: the only part a worker may write to
<store>/workspaces/<id>/keep.git/     our git folder (see `keep`)
<store>/trash/<id>/                   the same, discarded
<store>/trash/.saved/                 files an interrupted apply could not put back
<store>/journal/, <store>/locks/      applies under way
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

from .errors import InvalidRequest, WorkspaceDamaged, WorkspaceNotFound
from .git import Git
from .keep import Keep

DirtyPolicy = Literal["ask", "committed", "snapshot"]
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RECORD_VERSION = 1


@dataclass(frozen=True)
class Applied:
    """One apply that was carried out.

    Attributes:
        at: UTC time, ISO 8601.
        token: of the preview that was confirmed.
        result_tree: the worker's result at that time.
        names: what was applied, as names for display; None means the whole delta.
    """

    at: str
    token: str
    result_tree: str
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Workspace:
    """A clone a worker writes in, and what it started from.

    Attributes:
        id: stable name, chosen by the caller.
        folder: everything of this workspace.
        repository: top of the user's work tree.
        git_dir: the user's git folder the workspace was made from.
        user_objects: the user's object store and those behind it.
        prefix: folder relative to the top the user was in; the worker starts there.
        head: the user's HEAD commit at the start.
        branch: the user's branch at the start, None when detached.
        base: commit the worker started from: `head`, or a snapshot on top of it.
        base_tree: its tree; every delta is measured against it.
        dirty: the policy it was made with.
        sparse: folders the tree was limited to; empty means all.
        submodules: submodules of the base, which are not checked out: name and commit.
        included: ignored files that were copied in on request, with a hash of their content.
        refused_filters: filters that were not run because only the repository configures them.
        created_at: UTC time, ISO 8601.
        applied: applies so far, oldest first.
        discarded_at: when it went to the trash.
    """

    id: str
    folder: Path
    repository: Path
    git_dir: Path
    user_objects: tuple[Path, ...]
    prefix: str
    head: str
    branch: str | None
    base: str
    base_tree: str
    dirty: DirtyPolicy
    sparse: tuple[str, ...]
    submodules: tuple[tuple[str, str], ...]
    included: tuple[tuple[str, str], ...]
    refused_filters: tuple[str, ...]
    created_at: str
    applied: tuple[Applied, ...] = ()
    discarded_at: str | None = None

    @property
    def store(self) -> Path:
        """The state folder it lives in."""
        return self.folder.parent.parent

    @property
    def path(self) -> Path:
        """Top of the worker's tree."""
        return self.folder / "tree"

    @property
    def cwd(self) -> Path:
        """Where the worker starts: the folder the user was in, inside the worker's tree."""
        return self.path / self.prefix if self.prefix else self.path

    @property
    def object_stores(self) -> tuple[Path, ...]:
        """Folders the worker's git needs to read, and may only read."""
        return (self.keep_dir / "objects", *self.user_objects)

    @property
    def keep_dir(self) -> Path:
        """Our git folder, which no worker may write to."""
        return self.folder / "keep.git"

    def keep(self, git: Git) -> Keep:
        """Our git folder of this workspace."""
        return Keep(git, self.keep_dir)


@contextlib.contextmanager
def scratch_folder(workspace: Workspace) -> Generator[Path]:
    """A folder for the temporary files of one operation, so that two at a time do not meet."""
    with tempfile.TemporaryDirectory(dir=workspace.keep_dir, prefix="scratch-") as folder:
        yield Path(folder)


def check_id(name: str) -> str:
    """Return the id if it can name a folder.

    Raises:
        InvalidRequest: it cannot.
    """
    if not _ID.fullmatch(name) or name.endswith(".lock"):
        raise InvalidRequest(
            f"{name!r} cannot be a workspace id", hint="use letters, digits, '.', '_' and '-', at most 64"
        )
    return name


def workspace_folder(store: Path, name: str) -> Path:
    """Where a workspace of this id lives."""
    return store / "workspaces" / check_id(name)


def trash_folder(store: Path, name: str) -> Path:
    """Where a discarded workspace of this id lies."""
    return store / "trash" / check_id(name)


def saved_folder(store: Path, name: str) -> Path:
    """Where an apply puts files that cannot go back; no id starts with a dot."""
    return store / "trash" / ".saved" / name


def private_folder(path: Path) -> Path:
    """Make a folder only the user can enter, with the missing ones above it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def open_workspace(store: Path, name: str) -> Workspace:
    """Read the record of a workspace.

    Raises:
        WorkspaceNotFound: none of this id; the hint says if it lies in the trash.
        WorkspaceDamaged: its record or its tree is gone.
    """
    folder = workspace_folder(store, name)
    if not folder.is_dir():
        trashed = trash_folder(store, name).is_dir()
        raise WorkspaceNotFound(
            f"there is no workspace {name}" + (" any more: it is in the trash" if trashed else ""),
            hint=f"dragoman workspace restore {name}" if trashed else "dragoman workspace list",
        )
    workspace = read_record(folder)
    check_tree(workspace)
    return workspace


def check_tree(workspace: Workspace) -> None:
    """Check that the worker's tree is still a clone of its own.

    Without its `.git` a command run inside would find whatever repository lies above, so this is an error.

    Raises:
        WorkspaceDamaged: the tree or its `.git` is missing, or is not a folder.
    """
    for path in (workspace.path, workspace.path / ".git"):
        if path.is_symlink() or not path.is_dir():
            raise WorkspaceDamaged(
                f"workspace {workspace.id} lost its {'.git folder' if path.name == '.git' else 'files'}",
                hint=f"dragoman discard {workspace.id}",
            )


def all_workspaces(store: Path) -> list[Workspace]:
    """Read every record in the store, oldest first; folders without a readable record are left out."""
    return sorted(_records(store / "workspaces"), key=lambda w: (w.created_at, w.id))


def all_trash(store: Path) -> list[Workspace]:
    """Read every record in the trash, oldest first."""
    return sorted(_records(store / "trash"), key=lambda w: (w.discarded_at or "", w.id))


def _records(parent: Path) -> Iterator[Workspace]:
    if parent.is_dir():
        for folder in parent.iterdir():
            if _ID.fullmatch(folder.name) and (folder / "record.json").is_file():
                yield read_record(folder)


def read_record(folder: Path) -> Workspace:
    """Read the record in a folder.

    Raises:
        WorkspaceDamaged: missing, or not what this version writes.
    """
    try:
        raw: dict[str, Any] = json.loads((folder / "record.json").read_bytes())
        known = {field.name for field in fields(Workspace)}
        values = {key: value for key, value in raw.items() if key in known}
        for key in ("repository", "git_dir"):
            values[key] = Path(values[key])
        values["user_objects"] = tuple(Path(str(store)) for store in values["user_objects"])
        values["folder"] = folder
        values["sparse"] = tuple(values["sparse"])
        values["refused_filters"] = tuple(values["refused_filters"])
        for key in ("included", "submodules"):
            values[key] = tuple((str(name), str(what)) for name, what in values[key])
        values["applied"] = tuple(read_applied(item) for item in values["applied"])
        return Workspace(**values)
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise WorkspaceDamaged(
            f"the record of workspace {folder.name} cannot be read ({type(problem).__name__})",
            hint=f"its files are in {folder}",
        ) from None


def read_applied(raw: object) -> Applied:
    """Read one apply out of a record or a journal."""
    item = cast("dict[str, Any]", raw)
    names = item["names"]
    return Applied(
        at=str(item["at"]),
        token=str(item["token"]),
        result_tree=str(item["result_tree"]),
        names=None if names is None else tuple(str(name) for name in names),
    )


def write_record(workspace: Workspace) -> None:
    """Write the record, whole or not at all."""
    values = asdict(workspace)
    del values["folder"]
    for key in ("repository", "git_dir"):
        values[key] = str(values[key])
    values["user_objects"] = [str(store) for store in workspace.user_objects]
    write_private(
        workspace.folder / "record.json",
        json.dumps({"version": _RECORD_VERSION, **values}, indent=1).encode(),
    )


def note_applied(workspace: Workspace, entry: Applied) -> Workspace:
    """Add an apply to the record, once."""
    if any(known.token == entry.token and known.at == entry.at for known in workspace.applied):
        return workspace
    noted = replace(workspace, applied=(*workspace.applied, entry))
    write_record(noted)
    return noted


def write_private(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace a file of ours by rename, readable by the user alone.

    Args:
        path: the file.
        content: its bytes.
        durable: wait until the disk has it.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Wait until the disk has a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
