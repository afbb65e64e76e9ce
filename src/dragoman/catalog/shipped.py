"""Opens the TOML files that are shipped beside this module; `importlib.resources` would cost a gateway half a
megabyte for what it imports."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def shipped_table(*path: str) -> dict[str, Any]:
    """The content of a shipped TOML file.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    return tomllib.loads(shipped_text(*path))


def shipped_text(*path: str) -> str:
    """The text of a shipped file.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    return Path(__file__).parent.joinpath(*path).read_text(encoding="utf-8")


def shipped_names(folder: str, suffix: str) -> list[str]:
    """The names, without suffix, of the files shipped in a folder."""
    files = Path(__file__).parent.joinpath(folder).iterdir()
    return sorted(file.name.removesuffix(suffix) for file in files if file.name.endswith(suffix))
