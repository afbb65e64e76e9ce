"""A confinement as a bubblewrap command line. Pure, but for a look at which denied things are there.

Learned from bubblewrap 0.8: a socket behind a read-only mount can be connected to; `/dev/null` over a file
makes reading it EACCES, since the mount allows no devices; inherited descriptors stay open in the program;
mounts are made in the order given, so what is said later wins. `--remount-ro /` comes last: else writing
anywhere outside would succeed, into nothing.

The kernel lets the machine's root write to `/proc/sys` without any capability, and bubblewrap leaves it open
(it asks whether the folder can be written; the files in it can): a `core_pattern` written there is a program
started as root outside. So for root `/proc` is read-only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dragoman.process import forwarder
from dragoman.sandbox.confinement import SOCKET_FOLDER, Confinement, topmost

_NOTHING = Path("/dev/null")
_FORWARDER = SOCKET_FOLDER.parent / "forwarder.py"
_TEMP = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - the ones inside


def plan_bubblewrap(
    confinement: Confinement,
    argv: Sequence[str],
    *,
    bwrap: Path,
    cwd: Path,
    new_session: bool = True,
    as_root: bool | None = None,
) -> tuple[str, ...]:
    """The command line that runs `argv` confined.

    The environment is not part of it: bubblewrap hands on the one it was started with, which has to be a
    chosen one already. On the command line, every user of the machine could read the token in it.

    Args:
        confinement: what is visible.
        argv: the program and its arguments.
        bwrap: the program that confines.
        cwd: the working folder inside.
        new_session: give it a session of its own, so that no terminal can be typed into.
        as_root: whether it is started by the machine's root; None looks.
    """
    words = [str(bwrap), "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
    if new_session:
        words.append("--new-session")
    if confinement.network:
        words.append("--share-net")
    steps = _Steps()
    steps.add(Path("/proc"), "--proc", "/proc")
    steps.add(Path("/dev"), "--dev", "/dev")
    for path in _TEMP:
        steps.bind(path, "--bind", confinement.scratch)
    for path in confinement.base.readable:
        steps.bind(path, "--ro-bind", path)
    if confinement.network:
        steps.bind(Path("/etc/resolv.conf"), "--ro-bind-try", Path("/etc/resolv.conf"))
    readable = topmost(confinement.readable)
    for path in readable:
        steps.bind(path, "--ro-bind-try", path)
    hidden = list(_visible_denials(confinement, readable))
    for path in hidden:
        if path.is_dir():
            steps.add(path, "--tmpfs", str(path))
        else:
            steps.bind(path, "--ro-bind", _NOTHING)
    for path in confinement.writable:
        steps.bind(path, "--bind", path)
    for mount in confinement.mounts:
        steps.bind(mount.target, "--ro-bind", mount.source)
    for path in confinement.masked:
        steps.bind(path, "--ro-bind", _NOTHING)
    for path, said in (*confinement.base.links, *_free_links(confinement)):
        steps.add(path, "--symlink", said, str(path))
    program = list(argv)
    if (gateway := confinement.gateway) is not None:
        steps.bind(SOCKET_FOLDER, "--ro-bind", gateway.socket.parent)
        steps.bind(_FORWARDER, "--ro-bind", Path(forwarder.__file__))
        relay = [str(confinement.interpreter), "-I", "-S", str(_FORWARDER)]
        program = [*relay, str(SOCKET_FOLDER / gateway.socket.name), str(gateway.port), "--", *argv]
    words += steps.in_order()
    for path in hidden:
        if path.is_dir():
            words += ["--remount-ro", str(path)]
    if os.geteuid() == 0 if as_root is None else as_root:
        words += ["--remount-ro", "/proc"]
    words += ["--remount-ro", "/", "--chdir", str(cwd), "--", *program]
    return tuple(words)


class _Steps:
    """What is mounted where; told outermost first, so that an inner one lies on top of an outer one."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, list[str]]] = []

    def add(self, target: Path, *words: str) -> None:
        self._steps.append((len(target.parts), list(words)))

    def bind(self, target: Path, kind: str, source: Path) -> None:
        self.add(target, kind, str(source), str(target))

    def in_order(self) -> list[str]:
        ordered = sorted(self._steps, key=lambda step: step[0])  # stable: of equals the later one is on top
        return [word for _, words in ordered for word in words]


def _visible_denials(confinement: Confinement, readable: Sequence[Path]) -> Iterator[Path]:
    """What is denied, is there, and would be seen through something readable; outermost only."""
    there = tuple(path for path in confinement.denied if path.exists() and not path.is_symlink())
    for path in topmost(there):
        if any(path.is_relative_to(folder) for folder in readable):
            yield path


def _free_links(confinement: Confinement) -> Iterator[tuple[Path, str]]:
    """Links that do not come along with, or would have to be made inside, something that is shown."""
    shown = (*confinement.readable, *confinement.writable, *(mount.target for mount in confinement.mounts))
    for path, said in confinement.links:
        if not any(path.is_relative_to(folder) for folder in shown):
            yield path, said
