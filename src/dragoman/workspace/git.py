"""Running the `git` program with nothing but what we chose: arguments, environment and configuration.

Every command is a list, never a shell line. The environment is built from an allow-list, so a caller's
`GIT_DIR` or a key in the environment never reaches git or a filter. Which configuration git sees is decided
in `settings`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import GitFailed, GitMissing, GitTooOld

MINIMUM: tuple[int, int] = (2, 38)
"""`merge-tree --write-tree` and `cat-file -z` came with 2.38."""

_KEPT = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    # Where the user keeps the configuration of the account; these name files, they hold no settings.
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH",
)
_FIXED = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",  # 2.45; for older ones the next line stops the fetch of a partial clone
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "false",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_FLUSH": "0",
    "GIT_AUTHOR_NAME": "dragoman",
    "GIT_AUTHOR_EMAIL": "dragoman@localhost",
    "GIT_COMMITTER_NAME": "dragoman",
    "GIT_COMMITTER_EMAIL": "dragoman@localhost",
    # A filter of the account that is spelled `python3 -m name` must not find that name in a worker's tree.
    "PYTHONSAFEPATH": "1",
}
_ERROR_TEXT_BYTES = 600
_DEFAULT_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Output:
    """What a git command gave: its exit status, and both streams whole."""

    status: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """The first stream without its last newline; for ids and other plain answers."""
        return self.out.decode("utf-8", "surrogateescape").removesuffix("\n")


@dataclass(frozen=True)
class Git:
    """A usable git program: where it is, what version, and the environment its commands get."""

    program: str
    version: tuple[int, int]
    env: Mapping[str, str] = field(repr=False)

    @staticmethod
    def find(environ: Mapping[str, str] | None = None) -> Git:
        """Find git on PATH and check its version.

        Args:
            environ: the caller's environment; the process's own by default.

        Raises:
            GitMissing: no `git` on PATH.
            GitTooOld: older than `MINIMUM`.
        """
        given = os.environ if environ is None else environ
        program = shutil.which("git", path=given.get("PATH", os.defpath))
        if program is None:
            raise GitMissing("git was not found on PATH", hint="install git 2.38 or newer")
        env = {name: given[name] for name in _KEPT if name in given} | _FIXED
        # Filters are looked up from inside the worker's tree, where `.` would be the worker's.
        folders = env.get("PATH", os.defpath).split(os.pathsep)
        env["PATH"] = os.pathsep.join(folder for folder in folders if Path(folder).is_absolute())
        said = Git(program, (0, 0), env).run(["version"]).out.decode("utf-8", "replace")
        found = re.search(r"(\d+)\.(\d+)", said)
        version: tuple[int, int] = (int(found[1]), int(found[2])) if found else (0, 0)
        if version < MINIMUM:
            raise GitTooOld(
                f"{program} is {said.strip() or 'of an unknown version'}; 2.38 or newer is needed",
                hint="install a newer git, or put one first on PATH",
            )
        return Git(program, version, env)

    def run(
        self,
        args: Sequence[str | bytes],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        ok: Sequence[int] = (0,),
        pass_fds: Sequence[int] = (),
        timeout_s: float = _DEFAULT_TIMEOUT_S,
    ) -> Output:
        """Run one command to its end.

        Args:
            args: words after `git`.
            cwd: where to run; the root folder by default, so that no repository is found by accident.
            env: additions to the environment.
            stdin: bytes for its standard input.
            ok: exit statuses that are answers; any other is an error.
            pass_fds: descriptors the command inherits, so that a lock outlives us as long as it runs.
            timeout_s: seconds after which its whole process group is ended.

        Raises:
            GitFailed: another exit status, or the time ran out.
        """
        with subprocess.Popen(
            [self.program, *args],
            cwd=cwd if cwd is not None else "/",
            env={**self.env, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout=timeout_s)
            except BaseException as reason:
                # A filter may hang below git; its group is ours alone (a new session), so all of it goes.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if isinstance(reason, subprocess.TimeoutExpired):
                    raise GitFailed(f"git {_name(args)} took longer than {timeout_s:.0f} s") from None
                raise
        done = Output(process.returncode, out, err)
        if done.status not in ok:
            raise GitFailed(f"git {_name(args)} failed ({done.status}): {_short(err or out)}")
        return done


def _name(args: Sequence[str | bytes]) -> str:
    """Name a command by its first word that is not an option or an option's value."""
    words = iter(args)
    for word in words:
        text = os.fsdecode(word)
        if text in ("-c", "-C", "--git-dir"):
            next(words, None)
        elif not text.startswith("-"):
            return text
    return "?"


def _short(text: bytes) -> str:
    lines = text[:_ERROR_TEXT_BYTES].decode("utf-8", "replace").strip().splitlines()
    return "; ".join(line for line in lines if not line.startswith("hint:")) or "no message"
