"""For tests of whoever uses workers: a program that speaks like Claude Code and behaves as it is told."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dragoman.clients.claude_code import ClaudeCode, find_claude_code

FAKE_SESSION = "11111111-2222-3333-4444-555555555555"
FAKE_FORKED_SESSION = "99999999-2222-3333-4444-555555555555"


@dataclass(frozen=True, slots=True)
class FakeClaude:
    """The fake Claude Code, ready to be started; `fake_claude.py` tells its behaviours and steps.

    Attributes:
        path: the program, good for `RunRequest.worker_command` and CLAUDE_BIN.
    """

    path: Path

    @property
    def client(self) -> ClaudeCode:
        """The program as the drivers want it."""
        return find_claude_code(str(self.path), {})

    @staticmethod
    def task(*steps: str, behaviour: str | None = None, goal: str = "do as the fake is told") -> str:
        """A task packet that makes it take these steps and then behave so.

        Args:
            steps: such as `write a.txt hello`; a word with blanks goes into quotes, as in a shell.
            behaviour: how it ends; `normal` when None.
            goal: the packet's goal.
        """
        lines = [*steps, *([behaviour] if behaviour else [])]
        return "\n".join([f"Goal: {goal}", "Notes:", *(f"fake: {line}" for line in lines)]) + "\n"


def write_fake_claude(folder: Path) -> FakeClaude:
    """Put the fake Claude Code into a folder, as `claude`."""
    source = (resources.files("dragoman.workers") / "fake_claude.py").read_text("utf-8")
    program = folder / "claude"
    program.write_text(f"#!{sys.executable} -IS\n{source}", "utf-8")
    program.chmod(0o755)
    return FakeClaude(program)
