"""What the bridge keeps on disk: the supervisor's folder, the session, the recording, its settings."""

from __future__ import annotations

import json
import stat
import time
import tomllib
from pathlib import Path

import pytest

from dragoman.bridge.asciicast import Recorder
from dragoman.bridge.retention import plan_session_retention, run_session_retention
from dragoman.bridge.session import (
    SessionFolder,
    SessionUnknown,
    bridge_plan,
    create_session,
    open_sessions,
    read_plan,
    session_folder,
    sessions_root,
    write_plan,
)
from dragoman.bridge.settings import SectionUnremovable, without_bridge_section
from dragoman.bridge.supervisor import (
    ensure_supervisor,
    is_stale,
    migrate_supervisor,
    update_supervisor,
)
from dragoman.cli import main
from dragoman.config.paths import Home, resolve_home
from dragoman.config.schema import Bridge
from dragoman.process.locks import FileLock

# ---- the supervisor's folder


def test_a_new_folder_gets_its_three_files_and_is_not_stale(tmp_path: Path) -> None:
    folder = tmp_path / "supervisor"
    assert sorted(ensure_supervisor(folder)) == ["AGENTS.md", "CLAUDE.md", "MEMORY.md"]
    assert not is_stale(folder)
    assert ensure_supervisor(folder) == []
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())


def test_the_rules_say_everything_the_lead_must_keep_to(tmp_path: Path) -> None:
    ensure_supervisor(tmp_path / "s")
    rules = " ".join((tmp_path / "s" / "AGENTS.md").read_text().split())
    for rule in (
        "Wait for the footer before you think on.",
        "Do not narrate",
        "Never call it in a loop.",
        "`--stream` is only for finding a fault",
        "you grant one shot",
        "only when the human asks for exactly that",
        "never rely on numbers",
        "`MEMORY.md`",
        "<<<CODEX_LEAD_CC_STATUS_END>>>",
    ):
        assert rule in rules, rule


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "supervisor"
    folder.mkdir()
    (folder / "AGENTS.md").write_text("mine")
    (folder / "MEMORY.md").write_text("granted: tests")
    assert ensure_supervisor(folder) == ["CLAUDE.md"]
    assert (folder / "AGENTS.md").read_text() == "mine"
    assert is_stale(folder)


def test_a_migration_renews_only_the_marked_block_and_keeps_the_file_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "supervisor"
    ensure_supervisor(folder)
    path = folder / "AGENTS.md"
    old = "before\n" + path.read_text().replace("one shot", "everything") + "after\n"
    path.write_text(old)
    (folder / "MEMORY.md").write_text("granted: tests")
    assert is_stale(folder)
    done = {one.name: one for one in migrate_supervisor(folder)}
    new = path.read_text()
    assert new.startswith("before\n")
    assert new.endswith("after\n")
    assert "everything" not in new
    backup = done["AGENTS.md"].backup
    assert (done["AGENTS.md"].what, done["CLAUDE.md"].what) == ("renewed", "current")
    assert backup is not None
    assert backup.read_text() == old
    assert (folder / "MEMORY.md").read_text() == "granted: tests"
    assert not is_stale(folder)
    assert {one.what for one in migrate_supervisor(folder)} == {"current"}


def test_a_file_of_somebody_elses_gets_the_block_in_front_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "supervisor"
    folder.mkdir()
    (folder / "AGENTS.md").write_bytes(b"mine \xff bytes\n")
    migrate_supervisor(folder)
    assert (folder / "AGENTS.md").read_bytes().endswith(b"mine \xff bytes\n")
    assert not is_stale(folder)


def test_an_update_renews_rules_where_there_are_some_and_makes_none_where_there_are_none(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "supervisor"
    assert update_supervisor(folder) == []
    assert not folder.exists()
    folder.mkdir()
    (folder / "AGENTS.md").write_text("mine\n")
    assert {one.name: one.what for one in update_supervisor(folder)} == {
        "AGENTS.md": "renewed",
        "CLAUDE.md": "created",
    }
    assert (folder / "AGENTS.md").read_text().endswith("mine\n")
    assert {one.what for one in update_supervisor(folder)} == {"current"}


# ---- the session


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path / "h"), "HOME": str(tmp_path)})
    home.ensure()
    return home


def make(home: Home, tmp_path: Path, name: str = "20260101-000000-abcdef"):
    return create_session(
        home,
        session_id=name,
        claude_session_id="0b1c",
        project=tmp_path,
        supervisor_home=tmp_path / "s",
        created_at="2026-01-01T00:00:00+00:00",
        env={"B_KEY": "secret-value", "A": "1"},
    )


def test_a_session_file_has_the_keys_of_version_2(home: Home, tmp_path: Path) -> None:
    folder = make(home, tmp_path)
    told = json.loads(folder.session_file.read_text())
    assert told["version"] == 2
    assert set(told) >= {
        "session_id", "project_path", "supervisor_home", "session_dir", "artifact_root", "bridge_dir",
        "bridge_state_file", "claude_env_file", "bridge_pid", "cc_pid", "created_at",
    }  # fmt: skip
    assert told["bridge_dir"] == str(folder.path / "bridge")


def test_the_environment_file_holds_names_and_no_values(home: Home, tmp_path: Path) -> None:
    folder = make(home, tmp_path)
    text = Path(folder.read().claude_env_file).read_text()
    assert json.loads(text) == {"names": ["A", "B_KEY"]}
    assert "secret-value" not in text


def test_hooks_and_socket_are_out_of_the_leads_reach(home: Home, tmp_path: Path) -> None:
    folder = make(home, tmp_path)
    assert not folder.private.is_relative_to(folder.path)
    assert stat.S_IMODE(folder.private.stat().st_mode) == 0o700


def test_a_deep_home_still_has_a_socket_that_can_be_bound(tmp_path: Path) -> None:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path / ("d" * 120)), "HOME": str(tmp_path)})
    assert len(str(session_folder(home, "20260101-000000-abcdef").attach_socket)) <= 100


def test_a_plan_comes_back_as_it_was_written(home: Home, tmp_path: Path) -> None:
    folder = make(home, tmp_path)
    plan = bridge_plan(tmp_path / "claude", ["--model", "x"], Bridge(quiet_ms=900))
    write_plan(folder, plan)
    assert read_plan(folder) == plan
    assert plan.screen.quiet_s == 0.9


def test_sessions_are_found_newest_first_and_a_stranger_is_none(home: Home, tmp_path: Path) -> None:
    make(home, tmp_path)
    make(home, tmp_path, "20260202-000000-abcdef")
    assert [one.path.name[:8] for one in open_sessions(home)] == ["20260202", "20260101"]
    with pytest.raises(SessionUnknown):
        session_folder(home, "20250101-000000-abcdef").read()


# ---- which sessions are kept


def ended(home: Home, tmp_path: Path, number: int) -> SessionFolder:
    folder = make(home, tmp_path, f"2026010{number}-000000-abcdef")
    session = folder.read()
    session.ended_at = "2026-01-09T00:00:00+00:00"
    folder.write(session)
    (folder.private / "terminal.cast").write_bytes(b"x" * 1000)
    return folder


def test_the_newest_sessions_are_kept_and_the_others_go_with_all_they_have(
    home: Home, tmp_path: Path
) -> None:
    folders = [ended(home, tmp_path, number) for number in (1, 2, 3)]
    old = plan_session_retention(home, 2)
    assert [one.folder for one in old] == folders[:1]
    assert old[0].size_bytes > 1000
    assert folders[0].path.is_dir(), "a plan deletes nothing"
    assert run_session_retention(old) == old
    assert not folders[0].path.exists()
    assert not folders[0].private.exists()
    assert open_sessions(home) == [folders[2], folders[1]]


def test_a_session_that_runs_or_may_come_back_is_never_deleted(home: Home, tmp_path: Path) -> None:
    running, killed = ended(home, tmp_path, 1), make(home, tmp_path, "20260102-000000-abcdef")
    lock = FileLock(running.bridge / "lock")
    lock.acquire()
    assert plan_session_retention(home, 0) == []
    # Killed without a last word, it may come back for a while.
    later = time.time() + 7200
    assert [one.folder for one in plan_session_retention(home, 0, wall=lambda: later)] == [killed]
    lock.release()
    old = plan_session_retention(home, 0)
    assert [one.folder for one in old] == [running]
    lock.acquire()
    assert run_session_retention(old) == []
    assert running.path.is_dir()
    lock.release()


def test_only_what_a_lead_made_is_deleted(home: Home, tmp_path: Path) -> None:
    ended(home, tmp_path, 1)
    root = sessions_root(home)
    (root / "notes").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "20250101-000000-abcdef").symlink_to(tmp_path / "elsewhere")
    run_session_retention(plan_session_retention(home, 0, wall=lambda: time.time() + 7200))
    assert {path.name for path in root.iterdir()} == {"notes", "20250101-000000-abcdef"}
    assert (tmp_path / "elsewhere").is_dir()


# ---- the recording


def test_a_recording_is_an_asciicast_and_characters_are_never_cut(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.cast", 80, 24, 1_700_000_000.0)
    for at, byte in enumerate("漢é".encode()):
        recorder.output(at / 10, bytes([byte]))
    recorder.resized(1.0, 100, 30)
    recorder.close()
    header, *events = [json.loads(line) for line in (tmp_path / "a.cast").read_text().splitlines()]
    assert (header["version"], header["width"], header["height"]) == (2, 80, 24)
    assert "".join(event[2] for event in events if event[1] == "o") == "漢é"
    assert events[-1] == [1.0, "r", "100x30"]
    assert stat.S_IMODE((tmp_path / "a.cast").stat().st_mode) == 0o600


def test_a_recording_goes_on_when_the_bridge_was_killed_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.cast"
    first = Recorder(path, 80, 24, 1000.0)
    first.output(2.0, b"before")
    first.close()
    with path.open("ab") as file:
        file.write(b'[2.5, "o", "cut in the mid')  # killed while it wrote
    second = Recorder(path, 100, 30, 1060.0, max_bytes=1000)
    second.output(1.0, b"after")
    second.output(2.0, b"x" * 2000)
    header, *events = [json.loads(line) for line in path.read_text().splitlines()]
    assert (header["timestamp"], header["width"]) == (1000, 80)
    assert [event[:2] for event in events] == [[2.0, "o"], [60.0, "r"], [61.0, "o"], [61.0, "m"]]
    assert (events[0][2], events[1][2], events[2][2]) == ("before", "100x30", "after")
    # What is no recording of ours is replaced.
    path.write_text("nothing\n")
    Recorder(path, 80, 24, 0.0).close()
    assert json.loads(path.read_text())["version"] == 2


def test_a_recording_stops_at_its_limit(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.cast", 80, 24, 0.0, max_bytes=2000)
    for _ in range(100):
        recorder.output(0.0, b"x" * 100)
    assert (tmp_path / "a.cast").stat().st_size < 2200
    assert "limit" in (tmp_path / "a.cast").read_text().splitlines()[-1]


# ---- its settings


def test_the_section_goes_and_every_other_byte_stays() -> None:
    before, after = b"# mine\n[gateway]\nport = 1 # here\n\n", b"[log]\nlevel='info'\n"
    section = b"[bridge]\nquiet_ms = 9\n# about it\n[bridge.x]\ny=1\n\n"
    assert without_bridge_section(before + section + after) == before + after
    assert without_bridge_section(b"[log]\n") == b"[log]\n"


@pytest.mark.parametrize("text", [b"bridge.quiet_ms = 9\n", b"bridge = { quiet_ms = 9 }\n", b"not toml"])
def test_a_section_that_lines_do_not_show_is_left_alone(text: bytes) -> None:
    with pytest.raises(SectionUnremovable):
        without_bridge_section(text)


def test_a_header_inside_a_text_is_no_header() -> None:
    text = b'[log]\nlevel = "info"\n[x]\nt = """\n[bridge]\nno\n"""\n[bridge]\nquiet_ms = 1\n'
    try:
        after = without_bridge_section(text)
    except SectionUnremovable:
        return
    assert "bridge" not in tomllib.loads(after.decode())


# ---- the commands around them


def test_the_settings_can_be_shown_found_and_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRAGOMAN_HOME", str(tmp_path))
    file = tmp_path / "dragoman.toml"
    file.write_text("[bridge]\nquiet_ms = 777\n[log]\nlevel = 'info'\n")
    assert main.run(["bridge", "config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["quiet_ms"], shown["supervisor_home"]) == (777, str(tmp_path / "state" / "supervisor"))
    assert main.run(["bridge", "config", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    assert main.run(["bridge", "config", "reset"]) == 0
    assert file.read_text() == "[log]\nlevel = 'info'\n"


def test_sessions_are_listed_and_a_recording_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Home
) -> None:
    monkeypatch.setenv("DRAGOMAN_HOME", str(tmp_path / "h"))
    assert main.run(["bridge", "sessions"]) == 0
    assert "dragoman lead" in capsys.readouterr().out
    folder = make(home, tmp_path)
    Recorder(folder.recording, 80, 24, 0.0).close()
    assert main.run(["bridge", "sessions", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["sessions"]
    assert (row["session_id"], row["runs"]) == (folder.path.name, False)
    assert main.run(["bridge", "export", "-o", str(tmp_path / "out.cast"), "--json"]) == 0
    assert json.loads((tmp_path / "out.cast").read_text().splitlines()[0])["version"] == 2
    capsys.readouterr()
    assert main.run(["attach"]) == 1
    assert "dragoman lead" in capsys.readouterr().err


def test_migrating_is_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRAGOMAN_HOME", str(tmp_path))
    assert main.run(["migrate-supervisor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["what"] for one in told["files"]} == {"created"}
