"""A small world to be confined in: a work tree, a home with secrets, a socket that answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dragoman.sandbox.bubblewrap import plan_bubblewrap
from dragoman.sandbox.confinement import Confinement, Gateway
from dragoman.sandbox.landlock_plan import plan_landlock
from dragoman.sandbox.level import find_means
from dragoman.sandbox.secrets import denied_paths, secret_files
from dragoman.sandbox.toolchain import find_toolchain, interpreter, look_at_system


@dataclass
class World:
    """A place to run confined programs in."""

    folder: Path
    home: Path
    tree: Path
    socket: Path
    port: int

    def confinement(self, *, read: Sequence[str] = (), **changes: Any) -> Confinement:
        base = look_at_system()
        env = {"PATH": os.environ["PATH"]}
        toolchain = find_toolchain(env, self.home, base=base, programs=(interpreter(),), read=read)
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        plan = Confinement(
            base=base,
            writable=(self.tree,),
            scratch=scratch,
            interpreter=interpreter(),
            readable=toolchain.readable,
            links=toolchain.links,
            denied=denied_paths(self.home),
            masked=secret_files(self.tree),
            gateway=Gateway(self.socket, self.port),
        )
        return replace(plan, **changes)

    def run(
        self,
        *argv: str,
        by: str = "bubblewrap",
        plan: Confinement | None = None,
        pass_fds: Sequence[int] = (),
        timeout_s: float = 30,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program confined, to its end."""
        return subprocess.run(
            self.command(*argv, by=by, plan=plan),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=self.tree,
            env={"PATH": os.environ["PATH"], "HOME": str(self.tree)},
            pass_fds=tuple(pass_fds),
            stdin=subprocess.DEVNULL,
        )

    def command(self, *argv: str, by: str = "bubblewrap", plan: Confinement | None = None) -> tuple[str, ...]:
        confinement = plan or self.confinement()
        if by == "landlock":
            return plan_landlock(confinement, argv)
        bwrap = find_means().bubblewrap
        assert bwrap is not None
        return plan_bubblewrap(confinement, argv, bwrap=bwrap, cwd=self.tree)

    def python(self, code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run Python code confined."""
        return self.run(str(interpreter()), "-IS", "-c", code, *arguments, **options)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    home = (tmp_path / "home").resolve()
    for name in (".ssh", ".codex", ".claude", "tree/sub", "tree/node_modules"):
        (home / name).mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text("SECRET")
    (home / ".netrc").write_text("SECRET")
    (home / ".claude.json").write_text("SECRET")
    (home / "notes.txt").write_text("private")
    tree = home / "tree"
    for name in (".env", "sub/.env.production", ".env.example"):
        (tree / name).write_text(f"SECRET={name}\n")
    # Not below tmp_path: a socket's path has to be short.
    with socket.socket(socket.AF_UNIX) as server:
        folder = Path("/tmp") / f"dgm-{os.getpid()}-{tmp_path.name[-8:]}"
        folder.mkdir(exist_ok=True)
        path = folder / "gateway.sock"
        path.unlink(missing_ok=True)
        server.bind(str(path))
        server.listen()
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        yield World(tmp_path.resolve(), home, tree, path, port)
        server.shutdown(socket.SHUT_RDWR)
    path.unlink(missing_ok=True)
    folder.rmdir()


def answer(server: socket.socket) -> None:
    """Send back what comes, upper case."""
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(client,), daemon=True).start()


def _echo(client: socket.socket) -> None:
    with client:
        while chunk := client.recv(65_536):
            client.sendall(chunk.upper())


needs_bubblewrap = pytest.mark.skipif(
    find_means().bubblewrap is None, reason=f"NOT RUN: {find_means().why_not}"
)
needs_landlock = pytest.mark.skipif(
    find_means().landlock_abi < 4, reason="NOT RUN: this kernel has no Landlock with network rules"
)
ON_LINUX = sys.platform == "linux"
