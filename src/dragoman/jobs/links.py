"""Folders of the user's checkout that git ignores and tests need: `node_modules`, `.venv`.

They are shown in the worker's clone instead of copied or installed again: by a read-only mount where there
is a sandbox of mounts, by a symbolic link elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Link:
    """One folder to show.

    Attributes:
        source: the real folder of the user.
        name: where it is shown, relative to the top of the tree.
    """

    source: Path
    name: str


def find_links(checkout: Path, tree: Path, names: Iterable[str], prefix: str) -> tuple[Link, ...]:
    """Find the folders that are there and can be shown; what the tree has of its own is left as it is.

    Args:
        checkout: top of the user's work tree.
        tree: top of the clone.
        names: relative folders, each looked for at the top and in `prefix`.
        prefix: folder the user was in, relative to the top.
    """
    found: dict[str, Link] = {}
    for name in names:
        for place in dict.fromkeys(("", prefix)):
            relative = PurePosixPath(place, name)
            if relative.is_absolute() or ".." in relative.parts or not relative.parts:
                continue
            wanted = str(relative)
            if any(relative.is_relative_to(other) for other in found) or not (checkout / wanted).is_dir():
                continue
            source = (checkout / wanted).resolve()
            if _is_free(tree, wanted, source):
                found[wanted] = Link(source, wanted)
    return tuple(found.values())


def _is_free(tree: Path, name: str, source: Path) -> bool:
    """Whether nothing is there, or what we put there before, and no link on the way leads out."""
    place = tree / name
    if not place.parent.resolve().is_relative_to(tree.resolve()):
        return False
    if place.is_symlink():
        return place.resolve() == source
    if not place.exists():
        return True
    return place.is_dir() and not any(place.iterdir())


def make_mount_points(tree: Path, links: Sequence[Link]) -> None:
    """Make the empty folders that are mounted over; git does not see them."""
    for link in links:
        place = tree / link.name
        if place.is_symlink():
            place.unlink()
        place.mkdir(mode=0o755, parents=True, exist_ok=True)


def place_symlinks(tree: Path, links: Sequence[Link], *, git_dirs: Sequence[Path]) -> None:
    """Show the folders by symbolic links, and keep git from seeing those.

    Args:
        tree: top of the clone.
        links: from `find_links`.
        git_dirs: git folders whose `info/exclude` gets the names.
    """
    made: list[str] = []
    for link in links:
        place = tree / link.name
        with contextlib.suppress(OSError):
            if place.is_dir() and not place.is_symlink():
                place.rmdir()
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(link.source)
            made.append(f"/{link.name}\n")
    for git_dir in git_dirs if made else ():
        with contextlib.suppress(OSError):
            _exclude(git_dir, made)


def _exclude(git_dir: Path, lines: Sequence[str]) -> None:
    """Add lines to `info/exclude`; a git folder that a worker bent to lead elsewhere is left alone.

    Raises:
        OSError: it is gone, or no plain file any more.
    """
    info = git_dir / "info"
    if git_dir.is_symlink() or info.is_symlink():
        return
    info.mkdir(exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(info / "exclude", flags, 0o644)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        before = file.readall().decode("utf-8", "surrogateescape")
        news = [line for line in lines if line not in before.splitlines(keepends=True)]
        ending = "\n" if before and not before.endswith("\n") else ""
        file.write((ending + "".join(news)).encode("utf-8", "surrogateescape") if news else b"")
