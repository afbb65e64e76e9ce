"""The real Codex and the real Claude Code, set up in an empty home by our commands alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.clients.claude_code import bundled_binary

pytestmark = pytest.mark.real_client

PROGRAM = Path(sys.executable).with_name("dragoman")


class Place:
    """An empty home with a gateway of its own on a port nobody else has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.env = {
            "HOME": str(root),
            "PATH": os.environ["PATH"],
            "DRAGOMAN_HOME": str(root / "d"),
            "TMPDIR": str(root / "tmp"),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        for folder in ("d", "tmp", "work"):
            (root / folder).mkdir()
        (root / "d" / "dragoman.toml").write_text(f"[gateway]\nport = {port}\n")

    def run(self, *command: str | Path) -> str:
        done = subprocess.run(
            [str(word) for word in command],
            env=self.env,
            cwd=self.root / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout


@pytest.fixture
def place() -> Iterator[Place]:
    # Codex refuses to make its helper programs below TMPDIR, so its home must not be there.
    with tempfile.TemporaryDirectory(prefix="dragoman-setup-") as root:
        found = Place(Path(root))
        yield found
        found.run(PROGRAM, "stop", "--now")


def test_codex_set_up_by_one_command_starts_the_gateway_and_talks_through_it(place: Place) -> None:
    package = pytest.importorskip("codex_cli_bin")
    codex = Path(package.__file__).parent / "bin" / "codex"
    place.run(PROGRAM, "set-model", "rehearsal")
    said = place.run(codex, "exec", "--skip-git-repo-check", "--json", "hello")
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    texts = [event["item"].get("text", "") for event in events if event["type"] == "item.completed"]
    assert any("rehearsal" in text for text in texts)
    assert not any("metadata" in text for text in texts), "the catalogue describes the model"
    assert events[-1]["type"] == "turn.completed"


def test_claude_code_set_up_by_one_command_gets_its_token_from_ours(place: Place) -> None:
    binary = bundled_binary()
    if binary is None:
        pytest.skip("the clients extra is not installed")
    place.run(PROGRAM, "set-model", "rehearsal", "--client", "claude")
    settings = json.loads((place.root / ".claude" / "settings.json").read_text())
    assert "TOKEN" not in str(settings)
    said = place.run(binary, "-p", "hello")
    assert "rehearsal" in said


@pytest.mark.parametrize("client", ["codex", "claude"])
def test_a_launch_through_the_gateway_touches_no_configuration_of_the_client(
    place: Place, client: str
) -> None:
    words = {"codex": ["exec", "--skip-git-repo-check", "hello"], "claude": ["-p", "hello"]}[client]
    if client == "codex":
        pytest.importorskip("codex_cli_bin")
    elif bundled_binary() is None:
        pytest.skip("the clients extra is not installed")
    assert "rehearsal" in place.run(PROGRAM, client, *words)
    assert not (place.root / ".codex" / "config.toml").exists()
    assert not (place.root / ".claude" / "settings.json").exists()
