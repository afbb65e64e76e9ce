"""Find a client's program: named on purpose, on PATH, or inside an installed package."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dragoman.errors import DragomanError

Source = Literal["config", "environment", "path", "clients extra"]
Version = tuple[int, int, int]
Ask = Callable[[Path, str], str]

# The first start of a 380 MB binary from a cold disk took 3 to 6 s.
_ASK_TIMEOUT_S = 30.0


class ProgramUnusable(DragomanError):
    """A client's program is not there, not executable, or not what it should be."""

    code = "worker_not_found"


@dataclass(frozen=True, slots=True)
class FoundProgram:
    """A program that was found and accepted.

    Attributes:
        path: absolute path, as it will be started.
        source: which of the four places it came from.
        passed_over: sentences about a candidate on PATH that could not be used.
    """

    path: Path
    source: Source
    passed_over: tuple[str, ...] = ()


def find_program(
    name: str,
    configured: str | None,
    env: Mapping[str, str],
    *,
    variables: tuple[str, ...],
    bundled: Callable[[], Path | None],
    inspect: Callable[[Path], None],
    missing: Callable[[str, str | None], ProgramUnusable],
    what: str,
) -> FoundProgram:
    """Find a program: configuration, environment, PATH, then a package.

    What was named on purpose must work. What is on PATH and cannot be used is passed over for the one in
    the package, and the reason is kept.

    Args:
        name: its name on PATH.
        configured: path or command name from the configuration, or None.
        env: the environment to look in.
        variables: environment variables that may name it, the strongest first.
        bundled: finds it inside a package.
        inspect: accepts a candidate or raises a `ProgramUnusable`.
        missing: makes the error of this program from a sentence and an optional hint.
        what: what to call it in sentences.

    Raises:
        ProgramUnusable: what `missing` makes.
    """

    def accept(path: Path, source: Source, passed_over: tuple[str, ...] = ()) -> FoundProgram:
        if not os.access(path, os.X_OK):
            raise missing(f"{path} is not executable", f"chmod +x {path}")
        inspect(path)
        return FoundProgram(path, source, passed_over)

    def named(value: str, where: str) -> Path:
        if "/" in value or value.startswith("~"):
            path = Path(value).expanduser().absolute()
            if not path.is_file():
                raise missing(f"{where} names {value}, which is not a file", None)
            return path
        found = shutil.which(value, path=absolute_path(env.get("PATH", "")))
        if found is None:
            raise missing(f"{where} names {value}, which is not an executable on PATH", None)
        return Path(found)

    if configured:
        return accept(named(configured, "the configuration"), "config")
    for variable in variables:
        if env.get(variable):
            return accept(named(env[variable], variable), "environment")
    failure: ProgramUnusable | None = None
    on_path = shutil.which(name, path=absolute_path(env.get("PATH", "")))
    if on_path:
        try:
            return accept(Path(on_path), "path")
        except ProgramUnusable as error:
            failure = error
    inside = bundled()
    if inside is not None:
        return accept(inside, "clients extra", (failure.message,) if failure else ())
    raise failure or missing(
        f"no {what} found: not in the configuration, {variables[-1]}, PATH or the `clients` extra", None
    )


def absolute_path(path: str) -> str:
    """PATH without relative and empty entries, which would run programs of whatever folder we are in."""
    return os.pathsep.join(part for part in path.split(os.pathsep) if part.startswith("/"))


def file_inside_package(package: str, *parts: str) -> Path | None:
    """A file of an installed package, found without importing it; None when either is not there."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder, *parts)
        if file.is_file():
            return file
    return None


def version_text(version: Version) -> str:
    """`(2, 1, 329)` as `2.1.329`."""
    return ".".join(map(str, version))


def ask_program(path: Path, argument: str, *, add: Mapping[str, str] | None = None) -> str:
    """What a program prints for one argument, its standard error when there is nothing else.

    Args:
        path: the program.
        argument: such as `--version`.
        add: variables beyond PATH and HOME.

    Raises:
        OSError: it cannot be started or does not answer in time; the text says which.
    """
    surroundings = {
        "PATH": absolute_path(os.environ.get("PATH", os.defpath)),
        "HOME": os.environ.get("HOME", "/"),
    }
    try:
        done = subprocess.run(
            [str(path), argument],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_TIMEOUT_S,
            check=False,
            text=True,
            errors="replace",
            env=surroundings | dict(add or {}),
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"did not answer `{argument}` within {_ASK_TIMEOUT_S:.0f} s") from error
    except OSError as error:
        raise OSError(f"cannot be started: {error.strerror}") from error
    return done.stdout or done.stderr
