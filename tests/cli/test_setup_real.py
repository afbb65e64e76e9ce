"""The real Codex and the real Claude Code, set up in an empty home by the `setup` command alone, at work."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from dragoman.clients.claude_code import bundled_binary

pytestmark = pytest.mark.real_client

SCRATCH = resources.files("dragoman.rehearsal") / "scratch"
PACKET = (SCRATCH / "packet.md").read_text(encoding="utf-8")
TEST_COMMAND = ("python3", "-m", "unittest", "-q")
PLAYED = ["read", "see it fail", "repair", "see it pass", "report"]

# A model that edits with Codex's own freeform tool, which only a model the catalogue describes is given.
PATCHING = r"""
version = 1
side = "A title"
[[rule]]
name = "patch"
when = { turn = 0, offers = "apply_patch" }
[[rule.do]]
call.codex = { tool = "apply_patch", args = { input = '''
*** Begin Patch
*** Add File: proof.txt
+patched
*** End Patch
''' } }
[[rule]]
name = "report"
when = { turn = 1, result_contains = "proof.txt" }
do = [{ say = "Patched." }]
"""


class Desk:
    """A user's empty home, a provider, and a repository with a task in it."""

    def __init__(self, home: Any, url: str, journal: Path) -> None:
        self.home, self.journal = home, journal
        self.repository = home.root / "repository"
        self.repository.mkdir()
        for entry in (SCRATCH / "repository").iterdir():
            (self.repository / entry.name.removesuffix(".txt")).write_bytes(entry.read_bytes())
        self.run("git", "init", "--quiet")
        self.run("git", "add", "--all")
        self.run(
            "git", "-c", "user.name=T", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "base"
        )
        self.env = {**home.env, "PYTHONDONTWRITEBYTECODE": "1"}
        home.config.parent.mkdir()
        home.config.write_text(
            "[gateway]\ndefault_provider = 'zai'\n"
            f"[providers.zai]\npreset = 'zai'\nwires.messages = '{url}'\nwires.chat = '{url}/v1'\n"
        )
        assert home.dragoman("keys", "set", "zai", text="zk-1\n").returncode == 0

    def run(self, *argv: str | Path, text: str = "") -> str:
        done = subprocess.run(
            [str(word) for word in argv],
            cwd=self.repository,
            env=self.home.env,
            input=text,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def tests_pass(self) -> bool:
        done = subprocess.run(TEST_COMMAND, cwd=self.repository, env=self.env, capture_output=True)
        return done.returncode == 0

    def played(self) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [row for row in rows if row["rule"] != "side call"]


@pytest.fixture(params=["demo"])
def desk(request: pytest.FixtureRequest, empty_home: Any, a_provider: Any, tmp_path: Path) -> Iterator[Desk]:
    scenario = request.param
    if scenario != "demo":
        (tmp_path / "patching.toml").write_text(scenario)
        scenario = str(tmp_path / "patching.toml")
    with a_provider(scenario, tmp_path / "journal") as url:
        yield Desk(empty_home, url, tmp_path / "journal")


def codex() -> Path:
    package = pytest.importorskip("codex_cli_bin")
    return Path(package.__file__).parent / "bin" / "codex"


def run_codex(desk: Desk, task: str) -> list[dict[str, Any]]:
    words = ("exec", "--json", "--dangerously-bypass-approvals-and-sandbox", "-")
    events = [json.loads(line) for line in desk.run(codex(), *words, text=task).splitlines()]
    assert events[-1]["type"] == "turn.completed"
    said = [event["item"] for event in events if event["type"] == "item.completed"]
    assert not any("metadata" in str(item) for item in said), "the catalogue describes the model"
    return said


def test_codex_set_up_by_one_command_reads_edits_and_runs_through_a_gateway_it_starts_itself(
    desk: Desk,
) -> None:
    done = desk.home.dragoman("setup", "--write", "--client", "codex")
    assert done.returncode == 0, done.stderr
    assert desk.home.dragoman("status").returncode == 1, "nothing runs before Codex starts it"
    assert not desk.tests_pass()
    said = run_codex(desk, PACKET)
    assert desk.tests_pass()
    assert [row["rule"] for row in desk.played()] == PLAYED
    assert {(row["wire"], row["model"]) for row in desk.played()} == {("messages", "glm-5.2")}
    assert "15 % off 9.99 costs 8.49" in said[-1]["text"]
    assert {item["type"] for item in said} >= {"command_execution", "agent_message"}


@pytest.mark.parametrize("desk", [PATCHING], indirect=True, ids=["patching"])
def test_the_catalogue_gives_glm_the_patch_tool(desk: Desk) -> None:
    assert desk.home.dragoman("setup", "--write", "--client", "codex").returncode == 0
    said = run_codex(desk, "Prove it.")
    assert (desk.repository / "proof.txt").read_text() == "patched\n"
    assert [row["rule"] for row in desk.played()] == ["patch", "report"]
    (change,) = [item for item in said if item["type"] == "file_change"]
    assert change["status"] == "completed"


def test_claude_code_set_up_by_one_command_reads_edits_and_runs_through_a_gateway_it_starts_itself(
    desk: Desk,
) -> None:
    binary = bundled_binary()
    if binary is None:
        pytest.skip("the clients extra is not installed")
    done = desk.home.dragoman("setup", "--write", "--client", "claude")
    assert done.returncode == 0, done.stderr
    assert "zk-1" not in desk.home.claude.read_text()
    assert not desk.tests_pass()
    edits = [f"Edit(/{desk.repository}/{name})" for name in ("pricing.py", "CHANGES.md")]
    printed = desk.run(
        binary,
        "-p",
        "--output-format",
        "json",
        "--tools",
        "Read,Edit,Bash",
        "--permission-mode",
        "dontAsk",
        "--allowedTools",
        *edits,
        f"Bash({' '.join(TEST_COMMAND)})",
        text=PACKET,
    )
    result = json.loads(printed)
    assert not result["is_error"]
    assert result["permission_denials"] == []
    assert desk.tests_pass()
    assert [row["rule"] for row in desk.played()] == PLAYED
    assert {(row["wire"], row["model"]) for row in desk.played()} == {("messages", "glm-5.2")}


def test_codex_reads_what_setup_wrote_for_a_project_only_once_the_project_is_trusted(desk: Desk) -> None:
    assert desk.home.dragoman("setup", "--write", "--client", "codex").returncode == 0
    words = (desk.home.program, "setup", "--project", "--client", "codex", "--json")

    def told(word: str) -> dict[str, Any]:
        return json.loads(desk.run(*words, word))["clients"][0]

    written = told("--write")
    assert not written["project_trusted"]
    marker = desk.home.root / "started"
    with Path(written["path"]).open("a") as file:  # a server that leaves a mark where Codex reads the file
        file.write(f"[mcp_servers.mark]\ncommand = '/bin/sh'\nargs = ['-c', 'touch {marker}; cat']\n")
    # with all approvals bypassed Codex 0.163 reads the file in any case
    desk.run(codex(), "exec", "-m", "rehearsal", "hello")
    assert not marker.exists()

    (note,) = [note for note in written["notes"] if "trust" in note]
    table, _, rest = note.partition("or write ")[2].partition(" with ")
    with desk.home.codex.open("a") as file:
        file.write(f"{table}\n{rest.partition(' into ')[0]}\n")
    assert told("--print")["project_trusted"]
    desk.run(codex(), "exec", "-m", "rehearsal", "hello")
    assert marker.exists()
    assert desk.home.dragoman("uninstall", "--yes", "--client", "codex").returncode == 0
    assert "trust_level" in desk.home.codex.read_text(), "what was written since stays"
