"""A confinement as data: what is visible, what is writable, how the gateway is reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# Where the folder with the gateway's socket is seen inside: at the top, where nothing else is shown.
SOCKET_FOLDER = Path("/.dragoman/gateway")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file shown, read-only, where it does not lie."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Gateway:
    """How the gateway is reached from inside.

    Attributes:
        socket: its unix socket; the folder it is in is shown, so that a new socket of the same name is seen.
        port: of the address the program was given, on 127.0.0.1.
    """

    socket: Path
    port: int


@dataclass(frozen=True, slots=True)
class Base:
    """What every program needs of a system.

    Attributes:
        readable: folders and files, shown where they lie.
        links: symbolic links at the top, with what they say.
    """

    readable: tuple[Path, ...]
    links: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Confinement:
    """One process's view of the system. All paths are absolute; `readable` and `writable` are real ones.

    Where one lies in another, the inner one holds, so a folder can be opened inside a closed one.

    Attributes:
        base: the system.
        readable: shown read-only where they lie.
        links: symbolic links to show, with what they say.
        denied: never shown, even inside what is readable.
        writable: shown where they lie, the only ones that can be written to.
        mounts: shown elsewhere, read-only.
        masked: files that are there and cannot be read.
        scratch: becomes `/tmp`, private to this process.
        gateway: the one way out; None is no way out.
        network: leave the system's network open (the user's own login needs it).
        interpreter: a Python that runs with the standard library of `readable`, for what we run inside.
        environment: variables to add to the process's own.
    """

    base: Base
    writable: tuple[Path, ...]
    scratch: Path
    interpreter: Path
    readable: tuple[Path, ...] = ()
    links: tuple[tuple[Path, str], ...] = ()
    denied: tuple[Path, ...] = ()
    mounts: tuple[Mount, ...] = ()
    masked: tuple[Path, ...] = ()
    gateway: Gateway | None = None
    network: bool = False
    environment: dict[str, str] = field(default_factory=dict)


def topmost(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """Paths without those that lie in another one, shortest first."""
    kept: list[Path] = []
    for path in sorted(dict.fromkeys(paths), key=lambda path: (len(path.parts), str(path))):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return tuple(kept)
