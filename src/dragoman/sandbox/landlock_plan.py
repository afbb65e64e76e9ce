"""The same confinement by Landlock: only what is named is open, so what is denied is left out by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dragoman.sandbox import landlock
from dragoman.sandbox.confinement import Confinement

# No terminals: in `/dev/pts` the user's own are beside those a program makes, to be read and typed into.
_DEVICES = ("null", "zero", "full", "random", "urandom", "shm")


def plan_landlock(confinement: Confinement, argv: Sequence[str]) -> tuple[str, ...]:
    """The command line that runs `argv` confined by Landlock.

    Mounts elsewhere, masks and a private `/tmp` do not exist there; `TMPDIR` has to name the scratch folder.

    Args:
        confinement: what is visible.
        argv: the program and its arguments.
    """
    words = [str(confinement.interpreter), "-I", "-S", landlock.__file__]
    for path in _readable(confinement):
        words += ["--read", str(path)]
    for path in (*confinement.writable, confinement.scratch, *(Path("/dev") / name for name in _DEVICES)):
        words += ["--write", str(path)]
    if confinement.network:
        words += ["--network", "open"]
    elif confinement.gateway is not None:
        words += ["--connect", str(confinement.gateway.port)]
    return (*words, "--", *argv)


def _readable(confinement: Confinement) -> Iterator[Path]:
    yield Path("/proc")
    yield from confinement.base.readable
    for path in confinement.readable:
        yield from _without(path, confinement.denied)
    for mount in confinement.mounts:
        if mount.source == mount.target:
            yield mount.source


def _without(path: Path, denied: Sequence[Path]) -> Iterator[Path]:
    """`path`, or, where something below it is denied, everything beside that."""
    if any(path.is_relative_to(closed) for closed in denied):
        return
    inside = [closed for closed in denied if closed.is_relative_to(path) and closed.exists()]
    if not inside:
        yield path
        return
    try:
        children = sorted(path.iterdir())
    except OSError:
        return
    for child in children:
        if not child.is_symlink():
            yield from _without(child, inside)
