"""Which means of confinement the system has, and which one a run gets: never a weaker one in silence."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dragoman.errors import DragomanError, ExitCode
from dragoman.sandbox.landlock import abi_version

Level = Literal["bubblewrap", "landlock", "none"]
Asked = Literal["best", "bubblewrap", "landlock", "none"]

_PROBE_TIMEOUT_S = 10.0

_WITHOUT_LANDLOCK_NET = "the network is open (the kernel has no network rules for Landlock)"
_LANDLOCK_LIMITS = (
    "UDP is open",
    "the gateway's port is open on every address",
    "unix sockets of other programs can be reached",
    "other processes can be seen, and /dev/shm is shared with them",
    "the worker holds the lock of its run and can let go of it",
    "secrets inside the workspace can be read by programs",
)
_NONE_LIMITS = (
    "programs the worker starts can read and write whatever you can",
    "the network is open",
)


class SandboxUnavailable(DragomanError):
    """The asked-for confinement is not there."""

    code = "sandbox_unavailable"
    exit_code = ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class Means:
    """What a system has.

    Attributes:
        bubblewrap: path of a `bwrap` that was tried and works, or None.
        why_not: why it is None, as a half sentence.
        landlock_abi: version of the kernel's Landlock, 0 when there is none.
        platform: a `sys.platform` value.
    """

    bubblewrap: Path | None
    why_not: str = ""
    landlock_abi: int = 0
    platform: str = "linux"


@dataclass(frozen=True, slots=True)
class Protection:
    """The means a run uses.

    Attributes:
        level: what it is.
        asked: what the configuration says.
        means: what there is.
        limits: what it cannot do, each as half a sentence; for the result.
        warning: one sentence when it is less than the best there could be, else None.
    """

    level: Level
    asked: Asked
    means: Means
    limits: tuple[str, ...] = ()
    warning: str | None = None


@functools.cache
def find_means() -> Means:
    """Look once what this system has."""
    return look_for_means()


def look_for_means(
    *,
    platform: str = sys.platform,
    which: Callable[[str], str | None] = shutil.which,
    try_out: Callable[[Path], str] | None = None,
    landlock: Callable[[], int] = abi_version,
) -> Means:
    """Look what a system has; bubblewrap counts only when it really works here.

    Args:
        platform: a `sys.platform` value; anything but Linux has neither.
        which: finds a program.
        try_out: starts bubblewrap once and tells what is wrong, or nothing.
        landlock: asks the kernel.
    """
    if platform != "linux":
        return Means(None, f"there is no bubblewrap for {platform}", platform=platform)
    found = which("bwrap")
    if found is None:
        return Means(None, "bubblewrap is not installed", landlock(), platform)
    why_not = (try_out or _try_bubblewrap)(Path(found))
    if why_not:
        return Means(None, f"bubblewrap does not work here: {why_not}", landlock(), platform)
    return Means(Path(found), "", landlock(), platform)


def _try_bubblewrap(program: Path) -> str:
    """Start it with all we will ask of it: in a container, `/proc` is what usually fails."""
    argv = [str(program), "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
    argv += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", "/bin/true"]
    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=_PROBE_TIMEOUT_S, stdin=subprocess.DEVNULL, env={}, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    if done.returncode == 0:
        return ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[-1].removeprefix("bwrap: ")[:200] if said else f"it ends with {done.returncode}"


def choose(asked: Asked, means: Means) -> Protection:
    """Choose the means for a run.

    Args:
        asked: `best` takes the strongest there is and tells when that is not bubblewrap; anything else is
            taken at its word.
        means: from `find_means`.

    Raises:
        SandboxUnavailable: what was asked for is not there.
    """
    match asked:
        case "best":
            level: Level = "bubblewrap" if means.bubblewrap else "landlock" if means.landlock_abi else "none"
        case "bubblewrap" if means.bubblewrap is None:
            raise SandboxUnavailable(
                f'[delegation.sandbox] level is "bubblewrap" and {means.why_not}', hint=_remedy(means)
            )
        case "landlock" if not means.landlock_abi:
            raise SandboxUnavailable(
                '[delegation.sandbox] level is "landlock" and this system has no Landlock',
                hint='use Linux 5.13 or newer with Landlock switched on, or level = "best"',
            )
        case "bubblewrap" | "landlock" | "none":
            level = asked
    match level:
        case "bubblewrap":
            return Protection(level, asked, means)
        case "landlock":
            limits = _LANDLOCK_LIMITS
            if means.landlock_abi < 4:
                limits = (_WITHOUT_LANDLOCK_NET, *limits[2:])
            if means.landlock_abi < 6:
                limits = (*limits, "other processes can be signalled")
            text = f"the worker is confined by Landlock, which is weaker than bubblewrap ({means.why_not})"
        case "none":
            limits = _NONE_LIMITS
            text = (
                f"the worker is not confined by the system ({means.why_not}); only its permission rules hold"
            )
    if asked != "best":
        text = f'the worker is confined by "{level}" only, as [delegation.sandbox] level says'
    return Protection(level, asked, means, limits, text)


def _remedy(means: Means) -> str:
    if means.platform != "linux":
        return 'set level = "best" in [delegation.sandbox]: this platform has no sandbox'
    if "not installed" in means.why_not:
        return "install the package bubblewrap, for example: sudo apt-get install bubblewrap"
    return 'allow user namespaces for bwrap (on Ubuntu: an AppArmor profile), or set level = "best"'
