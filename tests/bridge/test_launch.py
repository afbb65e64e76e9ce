"""How a lead is started."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

from dragoman.bridge.launch import COMMANDS, plan_lead, write_commands
from dragoman.bridge.session import SessionFolder


def test_the_lead_works_in_its_own_folder_and_may_write_to_the_sessions(tmp_path: Path) -> None:
    folder = SessionFolder(tmp_path / "session", tmp_path / "private")
    plan = plan_lead(
        Path("/usr/bin/codex"), ["exec", "--", "-x"], folder, tmp_path / "s", {"PATH": "/usr/bin", "A": "1"}
    )
    assert plan.cwd == tmp_path / "s"
    assert plan.argv[0] == "/usr/bin/codex"
    assert plan.argv[-3:] == ("exec", "--", "-x")
    writable = [plan.argv[at + 1] for at, word in enumerate(plan.argv) if word == "--add-dir"]
    assert writable == [str(folder.path)]
    assert plan.env["PATH"] == f"{folder.path / 'bin'}:/usr/bin"
    assert plan.env["DRAGOMAN_BRIDGE_SESSION"] == str(folder.path)
    assert plan.env["A"] == "1"


def test_the_sessions_own_commands_need_no_path_and_are_its_owners_alone(tmp_path: Path) -> None:
    folder = SessionFolder(tmp_path, tmp_path / "private")
    write_commands(folder, sys.executable)
    for name in COMMANDS:
        program = tmp_path / "bin" / name
        assert stat.S_IMODE(program.stat().st_mode) == 0o700
        done = subprocess.run([program], env={}, capture_output=True, text=True, timeout=20)
        assert done.returncode == 2
        assert "required" in done.stderr or "only inside a session" in done.stderr
