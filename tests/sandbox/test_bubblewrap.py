"""Inside bubblewrap: the workspace can be written, the gateway can be reached, and that is all."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dragoman.sandbox.confinement import Mount
from dragoman.sandbox.level import find_means

if TYPE_CHECKING:
    from tests.sandbox.conftest import World

pytestmark = pytest.mark.skipif(find_means().bubblewrap is None, reason=f"NOT RUN: {find_means().why_not}")

TALK = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5) as s:
    s.sendall(b"hello " * 100_000); s.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: s.recv(65536), b""))
print(got == b"HELLO " * 100_000)
"""


def test_the_workspace_is_the_only_place_that_can_be_written(world: World) -> None:
    for path in map(Path, ("/x", "/usr/x", "/etc/x", "/run/x", "/home/x", "/root/x")):
        done = world.run("sh", "-c", 'echo x > "$0"', str(path))
        assert done.returncode != 0, path
        assert not path.exists()
    # Below /tmp a write succeeds, into the private one.
    world.run("sh", "-c", 'echo x > "$0/x"; echo x > "$1/x"', str(world.home), str(world.folder))
    assert not (world.home / "x").exists()
    assert not (world.folder / "x").exists()
    assert world.run("sh", "-c", "echo x > sub/new.txt && mkdir -p a/b").returncode == 0
    assert (world.tree / "sub" / "new.txt").read_text() == "x\n"


def test_the_temp_folder_is_private(world: World) -> None:
    assert world.run("sh", "-c", "echo x > /tmp/mine && cat /tmp/mine && echo y > /var/tmp/z").stdout == "x\n"
    assert (world.folder / "scratch" / "mine").exists()
    assert not Path("/tmp/mine").exists()


def test_keys_logins_other_agents_and_the_home_are_not_there(world: World) -> None:
    for name in (".ssh/id_ed25519", ".netrc", ".claude.json", ".codex", "notes.txt"):
        done = world.run("ls", str(world.home / name))
        assert done.returncode != 0, name
    assert world.run("ls", "-A", str(world.home)).stdout.split() == ["tree"]


def test_the_deny_list_wins_over_what_is_configured(world: World) -> None:
    plan = world.confinement(read=("~",))
    assert world.run("cat", str(world.home / "notes.txt"), plan=plan).stdout == "private"
    for name in (".ssh/id_ed25519", ".netrc", ".claude.json"):
        done = world.run("cat", str(world.home / name), plan=plan)
        assert (done.returncode != 0, "SECRET" in done.stdout) == (True, False), name
    assert world.run("ls", "-A", str(world.home / ".ssh"), plan=plan).stdout == ""
    assert world.run("touch", str(world.home / ".ssh" / "x"), plan=plan).returncode != 0
    assert world.run("touch", str(world.home / "x"), plan=plan).returncode != 0


@pytest.mark.parametrize("reader", [["cat"], ["grep", "-r", ""], ["dd", "status=none"]])
def test_env_files_of_the_workspace_cannot_be_read_by_any_program(world: World, reader: list[str]) -> None:
    for name in (".env", "sub/.env.production"):
        where = [f"if={name}"] if reader[0] == "dd" else [name]
        done = world.run(*reader, *where)
        assert (done.returncode != 0, "SECRET" in done.stdout) == (True, False)
    assert "SECRET" in world.run("cat", ".env.example").stdout
    assert world.python("print(open('.env').read())").returncode != 0
    assert (world.tree / ".env").read_text() == "SECRET=.env\n"


def test_the_system_secrets_are_not_there(world: World) -> None:
    for path in (
        "/etc/shadow",
        "/etc/ssh",
        "/etc/ssl/private",
        "/root/.bashrc",
        "/var/lib",
        "/sys",
        "/run/user",
    ):
        assert world.run("ls", path).returncode != 0, path


def test_the_gateway_is_reached_at_its_own_address_and_nothing_else_is(world: World) -> None:
    assert world.python(TALK, str(world.port)).stdout == "True\n"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        assert "ConnectionRefusedError" in world.python(code).stderr
    code = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x', ('192.0.2.1', 53))"
    assert "unreachable" in world.python(code).stderr


def test_a_gateway_that_comes_back_with_a_new_socket_is_reached_again(world: World) -> None:
    old = world.socket.rename(world.socket.with_name("old.sock"))
    process = subprocess.Popen(
        world.command("sh", "-c", 'read go; exec "$0" -IS -c "$1" "$2"', *_python(), TALK, str(world.port)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    with process:
        old.rename(world.socket)
        out, _ = process.communicate("go\n", timeout=30)
    assert out == "True\n"


def test_processes_outside_cannot_be_seen_or_signalled(world: World) -> None:
    assert world.run("kill", "-0", str(os.getpid())).returncode != 0
    seen = world.python("import os; print(sorted(int(n) for n in os.listdir('/proc') if n.isdigit())[-1])")
    assert int(seen.stdout) < 20


def test_nothing_outlives_the_program_and_no_pipe_is_held_open(world: World) -> None:
    code = (
        "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(600)\n os._exit(0)"
    )
    started = time.monotonic()
    done = world.python(code, timeout_s=20)
    assert done.returncode == 0
    assert time.monotonic() - started < 10


def test_everything_dies_with_its_starter(world: World) -> None:
    argv = world.command("sh", "-c", "echo up; exec sleep 601")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
        # The end of the pipe is the end of everything that held it.
        assert process.stdout.read() == b""


def test_an_inherited_descriptor_stays_with_the_program_and_not_with_the_forwarder(world: World) -> None:
    ours, theirs = os.pipe()
    code = "import os, sys, time; n = int(sys.argv[1]); os.write(n, b'held'); os.close(n); time.sleep(600)"
    argv = world.command(*_python(), "-IS", "-c", code, str(theirs))
    with subprocess.Popen(argv, pass_fds=(theirs,), env={"PATH": os.environ["PATH"]}) as process:
        os.close(theirs)
        # The end comes although the program and its forwarder live: nobody else holds it.
        with os.fdopen(ours) as reader:
            assert reader.read() == "held"
        assert process.poll() is None
        process.kill()


def test_exit_codes_and_arguments_pass_through_unchanged(world: World) -> None:
    assert world.run("sh", "-c", "exit 7").returncode == 7
    assert world.run("printf", "%s|", "a b", "", "--x", "ü").stdout == "a b||--x|ü|"


def test_the_token_is_on_no_command_line(world: World) -> None:
    argv = world.command("true")
    assert "--setenv" not in argv
    assert not any("PATH=" in word for word in argv)


def test_a_folder_can_be_shown_elsewhere_read_only(world: World) -> None:
    target = world.home / "elsewhere"
    plan = world.confinement(mounts=(Mount(world.tree, target),))
    assert world.run("ls", str(target / "sub"), plan=plan).returncode == 0
    assert world.run("touch", str(target / "x"), plan=plan).returncode != 0
    assert world.run("touch", "x", plan=plan).returncode == 0


def test_capabilities_are_gone_even_for_root(world: World) -> None:
    done = world.run("grep", "CapEff", "/proc/self/status")
    assert done.stdout.split() == ["CapEff:", "0" * 16]
    assert world.run("mount", "-t", "tmpfs", "none", "/usr").returncode != 0


@pytest.mark.skipif(os.getuid() != 0, reason="NOT RUN: the kernel refuses everybody but root anyway")
def test_root_changes_nothing_of_the_system_through_proc(world: World) -> None:
    code = "import os, sys; os.close(os.open(sys.argv[1], os.O_WRONLY))"
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches"):
        assert os.access(path, os.W_OK), "what is tried has to be possible outside"
        assert "Read-only file system" in world.python(code, path).stderr
    assert world.run("sh", "-c", "echo x > /dev/stdout; echo y > /proc/self/fd/1").stdout == "x\ny\n"


def test_sockets_of_other_programs_are_out_of_reach(world: World, tmp_path: Path) -> None:
    name = f"dgm-{uuid.uuid4().hex[:12]}"
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1].replace('@', chr(0)))"
    place = Path("/tmp") / f"{name}.sock"
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
        abstract.bind(f"\0{name}")
        named.bind(str(place))
        try:
            for server, address in ((abstract, f"@{name}"), (named, str(place))):
                server.listen()
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(address.replace("@", "\0"))
                done = world.python(code, address)
                assert done.stderr.splitlines()[-1].startswith(("ConnectionRefused", "FileNotFound"))
        finally:
            place.unlink()


@pytest.mark.skipif(os.getuid() != 0, reason="NOT RUN: only root can become nobody")
def test_an_ordinary_user_is_confined_as_well(world: World, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents, world.socket.parent):
        if folder.is_relative_to("/tmp/pytest-of-root") or folder == world.socket.parent:
            folder.chmod(0o755)
    for path in (world.tree, world.folder, world.home, *world.tree.rglob("*"), world.socket):
        os.chown(path, 65534, 65534)
    (world.folder / "scratch").mkdir(exist_ok=True)
    os.chown(world.folder / "scratch", 65534, 65534)
    plan = world.confinement(readable=(), links=(), gateway=None)
    argv = world.command("sh", "-c", "id -u; echo x > new; cat .env; echo x > /usr/x", plan=plan)
    done = subprocess.run(
        argv, user=65534, group=65534, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin"}
    )
    assert done.stdout == "65534\n", done.stderr
    assert done.returncode != 0
    assert (world.tree / "new").read_text() == "x\n"


def _python() -> list[str]:
    from dragoman.sandbox.toolchain import interpreter

    return [str(interpreter())]
