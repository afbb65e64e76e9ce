"""Landlock: weaker, and exactly as weak as it says."""

from __future__ import annotations

import os
import pty
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dragoman.sandbox.landlock_plan import plan_landlock
from dragoman.sandbox.level import find_means

if TYPE_CHECKING:
    from tests.sandbox.conftest import World

pytestmark = pytest.mark.skipif(
    find_means().landlock_abi < 6, reason="NOT RUN: this kernel's Landlock is older than version 6"
)


def test_only_the_workspace_can_be_written_and_only_the_toolchain_be_read(world: World) -> None:
    assert world.run("sh", "-c", "echo x > new && cat new", by="landlock").stdout == "x\n"
    for path in (world.home / "x", Path("/tmp") / f"x-{os.getpid()}"):
        assert world.run("touch", str(path), by="landlock").returncode != 0
        assert not path.exists()
    for name in (".ssh/id_ed25519", ".netrc", "notes.txt"):
        done = world.run("cat", str(world.home / name), by="landlock")
        assert (done.returncode != 0, done.stdout) == (True, ""), name
    assert world.python("import json; print(json.dumps(1))", by="landlock").stdout == "1\n"


def test_the_deny_list_wins_over_what_is_configured(world: World) -> None:
    plan = world.confinement(read=("~",))
    assert world.run("cat", str(world.home / "notes.txt"), by="landlock", plan=plan).stdout == "private"
    for name in (".ssh/id_ed25519", ".netrc", ".claude.json"):
        assert world.run("cat", str(world.home / name), by="landlock", plan=plan).returncode != 0


def test_no_port_but_the_gateways_can_be_connected_to(world: World) -> None:
    with socket.create_server(("127.0.0.1", world.port)), socket.create_server(("127.0.0.1", 0)) as other:
        code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2)"
        assert world.python(code, str(world.port), by="landlock").returncode == 0
        done = world.python(code, str(other.getsockname()[1]), by="landlock")
    assert "PermissionError" in done.stderr


def test_processes_outside_cannot_be_signalled(world: World) -> None:
    assert world.run("kill", "-0", str(os.getpid()), by="landlock").returncode != 0


def test_the_users_terminals_can_neither_be_read_nor_written(world: World) -> None:
    ours, theirs = pty.openpty()
    try:
        code = "import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)"
        done = world.python(code, os.ttyname(theirs), by="landlock")
        assert "PermissionError" in done.stderr
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.skipif(os.getuid() != 0, reason="NOT RUN: only root has any")
def test_no_capability_is_left_and_no_device_can_be_made_even_by_root(world: World) -> None:
    seen = world.run(
        "grep", "-E", "Cap(Inh|Prm|Eff|Bnd|Amb)", "/proc/self/status", by="landlock"
    ).stdout.split()
    assert seen[1::2] == ["0" * 16] * 5
    code = "import os; os.mknod('disk', 0o60600, os.makedev(8, 0))"
    assert "PermissionError" in world.python(code, by="landlock").stderr
    assert not (world.tree / "disk").exists()


def test_a_program_that_is_not_there_is_told_on_one_line(world: World) -> None:
    done = world.run("no-such-program", by="landlock")
    assert (done.returncode, done.stderr) == (1, "landlock.py: no-such-program: not found\n")


def test_without_a_gateway_no_port_is_open(world: World) -> None:
    argv = plan_landlock(world.confinement(gateway=None), ["true"])
    assert "--connect" not in argv
    assert "--network" in plan_landlock(world.confinement(network=True), ["true"])
