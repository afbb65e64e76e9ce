"""What a packet lacks or gets wrong, told before anything is started; never a reason to refuse it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from dragoman.jobs.evidence import plan_command
from dragoman.jobs.packet import Packet

Code = Literal[
    "missing_goal",
    "missing_files",
    "missing_validation",
    "files_are_no_scope",
    "scope_matches_nothing",
    "scope_is_everything",
    "validation_not_run",
    "review_with_scope",
    "very_long",
]

_LONG_CHARACTERS = 40_000


class Lint(msgspec.Struct, frozen=True, kw_only=True):
    """One remark on a packet.

    Attributes:
        code: stable name.
        text: one sentence.
        fix: what to write instead, or empty.
    """

    code: Code
    text: str
    fix: str = ""


def lint_packet(
    packet: Packet, *, exists: Callable[[str], bool] | None = None, any_command: bool = False
) -> list[Lint]:
    """Look a packet over.

    Args:
        packet: from `parse_packet`.
        exists: whether a path relative to the repository's top is there; None does not look.
        any_command: whether validation commands may be anything that needs no shell (see `isolation`).
    """
    found: list[Lint] = []

    def remark(code: Code, text: str, fix: str = "") -> None:
        found.append(Lint(code=code, text=text, fix=fix))

    if "goal" not in packet.sections:
        remark("missing_goal", "there is no Goal section; the first paragraph is taken for it", "Goal: …")
    if packet.role == "review":
        if packet.allowed_files:
            remark("review_with_scope", "a reviewer writes nothing, so the allowed files have no effect")
    else:
        _look_at_scope(packet, exists, remark)
    if not packet.validation and packet.role != "review":
        remark(
            "missing_validation",
            "there is no validation command, so nothing proves the result",
            "Validation commands:\n- `pytest -q`",
        )
    for command in packet.validation:
        _, reason = plan_command(command, any_command=any_command)
        if reason is not None:
            remark("validation_not_run", f"`{_short(command)}` will be skipped: {reason}")
    if len(packet.text) > _LONG_CHARACTERS:
        remark("very_long", f"the packet has {len(packet.text):,} characters; name files instead of quoting")
    return found


def lint_run(
    packet: Packet, scope: Sequence[str], *, tree: Path, writes: bool, any_command: bool
) -> list[dict[str, str]]:
    """Look over what one run was asked, as data for its result.

    Args:
        packet: with all its validation commands.
        scope: patterns from the top, wherever they were given; empty for none.
        tree: top of the clone.
        writes: whether the worker may write at all.
        any_command: see `lint_packet`.
    """
    asked = replace(packet, allowed_files=tuple(scope), role="implement" if writes else "review")
    found = lint_packet(asked, exists=lambda name: (tree / name).exists(), any_command=any_command)
    return [msgspec.to_builtins(remark) for remark in found]


def _look_at_scope(
    packet: Packet, exists: Callable[[str], bool] | None, remark: Callable[[Code, str, str], None]
) -> None:
    if not packet.allowed_files:
        if packet.relevant:
            remark(
                "files_are_no_scope",
                "the files named as relevant are no limit: the worker may write any file of the repository",
                "Allowed files:\n" + "\n".join(f"- `{path}`" for path in packet.relevant[:5]),
            )
        else:
            remark(
                "missing_files",
                "no allowed files are named: the worker may write any file of the repository",
                "Allowed files:\n- `src/app.py`",
            )
    for pattern in packet.allowed_files:
        if pattern in ("*", "**", "**/*", ".", "./"):
            remark("scope_is_everything", f"`{pattern}` allows every file of the repository", "")
        elif exists is not None and not any(sign in pattern for sign in "*?["):
            parent = str(PurePosixPath(pattern).parent)
            if not exists(pattern.rstrip("/")) and not exists(parent):
                remark("scope_matches_nothing", f"neither `{pattern}` nor its folder is there", "")


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:119] + "…"
