"""Where the user's programs lie, and what has to be readable for them to run; found by looking.

A program on PATH is often a link into some folder of its own (`~/.local/bin/x` into `~/.local/share/…`), a
virtual environment runs the interpreter it was made from, and a shim starts what lies beside it. So each
PATH folder opens its prefix, and every link in it opens the prefix it leads to. Folders that hold more than
one thing (the home, `~/.local`, `~/.config`) are never opened whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dragoman.sandbox.confinement import Base, topmost

_SYSTEM_FOLDERS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store", "gnu/store")
# Of /etc only what programs need to find libraries, certificates, names and the time; nothing with a secret.
_ETC = (
    "alternatives", "bash.bashrc", "ca-certificates", "crypto-policies", "fonts", "group", "host.conf",
    "hosts", "inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf",
    "localtime", "login.defs", "magic", "magic.mime", "mailcap", "mime.types", "networks", "nsswitch.conf",
    "os-release", "passwd", "perl", "pki/ca-trust", "pki/java", "pki/tls/cert.pem", "pki/tls/certs",
    "profile", "profile.d", "protocols", "python3", "services", "shells", "ssl/cert.pem", "ssl/certs",
    "ssl/openssl.cnf", "terminfo", "timezone", "xdg",
)  # fmt: skip
_ETC_FAMILIES = ("java-*", "python3.*", "maven", "php*")

# A toolchain that is found through HOME needs its variable, since the HOME inside is a private one.
TOOL_HOMES = {
    "CARGO_HOME": ".cargo",
    "RUSTUP_HOME": ".rustup",
    "PYENV_ROOT": ".pyenv",
    "NVM_DIR": ".nvm",
    "VOLTA_HOME": ".volta",
    "SDKMAN_DIR": ".sdkman",
    "RBENV_ROOT": ".rbenv",
    "ASDF_DATA_DIR": ".asdf",
    "GOPATH": "go",
    "DENO_DIR": ".cache/deno",
    "PLAYWRIGHT_BROWSERS_PATH": ".cache/ms-playwright",
}
_TOOL_VARIABLES = (
    *TOOL_HOMES, "VIRTUAL_ENV", "CONDA_PREFIX", "JAVA_HOME", "GOROOT", "GEM_HOME", "NODE_PATH",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE",
)  # fmt: skip
_PROGRAM_FOLDERS = frozenset({"bin", "sbin", "shims", "libexec", "Scripts"})
_SHARED_IN_HOME = (
    ".local", ".local/share", ".local/state", ".local/lib", ".config", ".cache", "Library",
    "Library/Application Support", "Library/Caches", "projects", "work", "src", "code", "Documents",
    "Downloads", "Desktop",
)  # fmt: skip
_MAX_HOPS = 40


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What the user's programs need.

    Attributes:
        readable: real files and folders, none inside another.
        links: symbolic links on the way to them, with what they say.
        environment: variables that lead to what HOME would have led to.
    """

    readable: tuple[Path, ...]
    links: tuple[tuple[Path, str], ...]
    environment: dict[str, str]


def look_at_system(root: Path = Path("/")) -> Base:
    """What every program needs of this system, as it is laid out here."""
    readable: list[Path] = []
    links: list[tuple[Path, str]] = []
    for name in _SYSTEM_FOLDERS:
        path = root / name
        if path.is_symlink():
            links.append((path, os.readlink(path)))  # noqa: PTH115 - as it is written
        elif path.is_dir():
            readable.append(path)
    etc = root / "etc"
    names = [etc / name for name in _ETC]
    names += [path for family in _ETC_FAMILIES for path in sorted(etc.glob(family))]
    readable += [path for path in names if path.exists()]
    return Base(tuple(readable), tuple(links))


def find_toolchain(
    env: Mapping[str, str],
    user_home: Path,
    *,
    base: Base,
    programs: Iterable[Path] = (),
    read: Iterable[str] = (),
) -> Toolchain:
    """Find what must be readable for the programs of an environment to run.

    Args:
        env: PATH and the variables of toolchains.
        user_home: the user's home.
        base: what is readable anyway.
        programs: further programs by path, each with all it needs.
        read: configured paths, opened whole; `~` is the user's home.
    """
    search = _Search(user_home, base)
    for folder in env.get("PATH", "").split(os.pathsep):
        if folder.startswith("/"):
            search.add_program_folder(Path(folder))
    for variable in _TOOL_VARIABLES:
        value = env.get(variable, "")
        if value.startswith("/"):
            search.add(Path(value))
    environment: dict[str, str] = {}
    for variable, name in TOOL_HOMES.items():
        if not env.get(variable) and (user_home / name).is_dir():
            environment[variable] = str(user_home / name)
            search.add(user_home / name)
    user_site = user_home / ".local" / "lib"
    for folder in sorted(user_site.glob("python3*")):
        environment["PYTHONUSERBASE"] = str(user_home / ".local")
        search.add(folder)
    for program in programs:
        search.add_program(program)
        search.add_program_folder(program.parent)
    for text in read:
        path = user_home / text[2:] if text.startswith("~/") else user_home if text == "~" else Path(text)
        if path.is_absolute():
            search.add(path, whole=True)
    return search.found(environment)


def find_program(program: Path, user_home: Path, *, base: Base) -> Toolchain:
    """What one program needs, wherever it lies: the folder it is really in.

    Args:
        program: its path.
        user_home: the user's home.
        base: what is readable anyway.
    """
    search = _Search(user_home, base)
    search.add_program(program)
    return search.found({})


def interpreter() -> Path:
    """A Python that needs nothing but its own installation: the one a virtual environment was made from."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


class _Search:
    def __init__(self, user_home: Path, base: Base) -> None:
        self._home = user_home.resolve()
        self._shared = {self._home, *self._home.parents, *(self._home / name for name in _SHARED_IN_HOME)}
        self._base = base
        self._open: dict[Path, None] = {}
        self._links: dict[Path, str] = {}
        self._seen: set[Path] = set()

    def found(self, environment: dict[str, str]) -> Toolchain:
        # What we may not read ourselves cannot be shown to anybody.
        readable = topmost(tuple(path for path in self._open if os.access(path, os.R_OK)))
        visible = (*self._base.readable, *readable)
        known = dict(self._base.links)
        links = [
            (path, said)
            for path, said in sorted(self._links.items())
            if path not in known and not any(path.is_relative_to(folder) for folder in visible)
        ]
        return Toolchain(readable, tuple(links), environment)

    def add_program_folder(self, folder: Path) -> None:
        """Open a folder of PATH, with what its links lead to."""
        real = self._follow(folder)
        if real is None or real in self._seen or not real.is_dir():
            return
        self._seen.add(real)
        if not self._is_of_system(real):
            self._open_prefix(real)
        if real == Path("/usr/bin") or real in self._shared:
            return  # the system's own links lead into the system
        try:
            with os.scandir(real) as entries:
                links = [entry.path for entry in entries if entry.is_symlink()]
        except OSError:
            return
        for link in links:
            self.add_program(Path(link))

    def add_program(self, program: Path) -> None:
        """Open one program and what is beside it."""
        real = self._follow(program) if program.is_absolute() else None
        if real is not None and not self._is_of_system(real):
            self._open_prefix(real.parent, program=real)

    def add(self, path: Path, *, whole: bool = False) -> None:
        """Open a file or folder; `whole` even where it holds more than one thing."""
        real = self._follow(path)
        if real is None or len(real.parts) == 1 or self._is_of_system(real):
            return
        if real in self._shared and not whole:
            return
        self._open[real] = None
        if real.is_dir():
            self._add_interpreter_of(real)
            if (real / "bin").is_dir():
                self.add_program_folder(real / "bin")

    def _open_prefix(self, folder: Path, *, program: Path | None = None) -> None:
        prefix = folder.parent if folder.name in _PROGRAM_FOLDERS else folder
        if prefix in self._shared or len(prefix.parts) <= 2:
            prefix = folder
        if prefix in self._shared or len(prefix.parts) <= 2:
            if program is not None and program.is_file():
                self._open[program] = None
            return
        if prefix not in self._open:
            self._open[prefix] = None
            self._add_interpreter_of(prefix)

    def _add_interpreter_of(self, folder: Path) -> None:
        """A virtual environment names the folder of the Python it was made from."""
        try:
            lines = (folder / "pyvenv.cfg").read_text("utf-8", "replace").splitlines()
        except OSError:
            return
        for line in lines:
            name, _, value = line.partition("=")
            if name.strip() == "home" and value.strip().startswith("/"):
                self.add_program_folder(Path(value.strip()))

    def _is_of_system(self, real: Path) -> bool:
        return any(real.is_relative_to(folder) for folder in self._base.readable)

    def _follow(self, path: Path) -> Path | None:
        """The real path, or None; every link on the way is noted, so that the name works inside too."""
        current, rest, hops = Path("/"), list(path.parts[1:]), 0
        while rest:
            part = rest.pop(0)
            if part == "..":
                current = current.parent
                continue
            step = current / part
            try:
                said = os.readlink(step)  # noqa: PTH115 - as it is written
            except FileNotFoundError:
                return None
            except OSError:
                current = step
                continue
            hops += 1
            if hops > _MAX_HOPS:
                return None
            self._links[step] = said
            target = Path(said)
            if target.is_absolute():
                current = Path("/")
                rest = [*target.parts[1:], *rest]
            else:
                rest = [*target.parts, *rest]
        return current
