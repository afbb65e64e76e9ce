"""Scratch repositories: what a shipped scenario works on, and the packet that asks for it, as data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class Scratch:
    """A small project with something to repair.

    Attributes:
        packet: the task packet, Markdown.
        files: text by path, relative to the repository's root.
    """

    packet: str
    files: Mapping[str, str]


def load_scratch(name: str) -> Scratch:
    """Read the scratch repository that belongs to the shipped scenario of that name.

    Raises:
        FileNotFoundError: no scratch repository belongs to it.
    """
    entry = resources.files("dragoman.rehearsal") / "repositories" / f"{name}.toml"
    table = tomllib.loads(entry.read_text(encoding="utf-8"))
    return Scratch(packet=table["packet"], files=table["files"])


def write_scratch(scratch: Scratch, folder: Path) -> None:
    """Write the files of a scratch repository; making it a git repository is the caller's.

    Args:
        folder: exists and is empty.
    """
    for name, text in scratch.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
