"""The `[bridge]` section of `dragoman.toml`, taken out without touching a byte of the rest."""

from __future__ import annotations

import re
import tomllib

from dragoman.errors import DragomanError, ExitCode

_HEADER = re.compile(r"^\s*\[+\s*([^\]]*?)\s*\]+\s*(#.*)?$")


class SectionUnremovable(DragomanError):
    """The section cannot be told from the rest."""

    code = "config_invalid"
    exit_code = ExitCode.USAGE


def without_bridge_section(content: bytes) -> bytes:
    """The file without `[bridge]`.

    Args:
        content: of `dragoman.toml`.

    Raises:
        SectionUnremovable: it is no TOML, or the section is written in a way that lines do not show.
    """
    try:
        text = content.decode()
        before = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SectionUnremovable(f"the configuration is no TOML: {error}", hint="dragoman doctor") from None
    if "bridge" not in before:
        return content
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        found = _HEADER.match(line)
        if found is not None:
            inside = found[1].strip().strip("\"'").split(".")[0].strip() == "bridge"
        if not inside:
            kept.append(line)
    after = "".join(kept)
    expected = {key: value for key, value in before.items() if key != "bridge"}
    try:
        right = tomllib.loads(after) == expected
    except tomllib.TOMLDecodeError:
        right = False
    if not right:
        raise SectionUnremovable(
            "the [bridge] settings cannot be taken out safely", hint="edit the file by hand"
        )
    return after.encode()
