"""A session of the bridge on disk: its folders, `session.json`, and what its bridge starts with."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dragoman.bridge.timing import ScreenTiming
from dragoman.config.files import ensure_private_folder, read_small_file, write_private_file
from dragoman.config.paths import MAX_SOCKET_PATH_BYTES, Home
from dragoman.config.schema import Bridge as BridgeSettings
from dragoman.errors import DragomanError

VERSION = 2
# Made by `dragoman lead`: a time and a little chance.
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")


class SessionUnknown(DragomanError):
    """There is no such session."""

    code = "session_unknown"
    http_status = 404


class SessionFile(msgspec.Struct, kw_only=True):
    """`session.json`, version 2: the keys of earlier bridges, and ours.

    Attributes:
        session_id: names the session and its folder.
        project_path: the real project, which Claude Code alone enters.
        supervisor_home: where the lead works.
        session_dir: this session's folder, which the lead may write to.
        artifact_root: a folder inside it for the lead's own files.
        bridge_dir: the mailbox.
        bridge_state_file: how things stand.
        claude_env_file: names of the variables Claude Code runs with, no values.
        bridge_pid: process id of the bridge.
        cc_pid: process id of Claude Code.
        created_at: ISO 8601, UTC.
        claude_session_id: Claude Code's own id, for `claude --resume`.
        private_dir: hooks and the attach socket; out of the lead's reach.
        ended_at: ISO 8601, UTC, once it is over.
    """

    version: int = VERSION
    session_id: str
    project_path: str
    supervisor_home: str
    session_dir: str
    artifact_root: str
    bridge_dir: str
    bridge_state_file: str
    claude_env_file: str
    bridge_pid: int | None = None
    cc_pid: int | None = None
    created_at: str
    claude_session_id: str = ""
    private_dir: str = ""
    ended_at: str | None = None


class BridgePlan(msgspec.Struct, kw_only=True):
    """What a bridge process is started with, in its private folder.

    Attributes:
        claude: the program.
        arguments: its further arguments.
        variables: what its settings put into its environment: the gateway, where that is wanted.
        cols: width of the terminal.
        rows: height of the terminal.
        min_run_ms, quiet_ms, spinner_stable_ms, submit_grace_ms, check_interval_ms: the screen's times.
        record: whether to keep a recording of the terminal.
    """

    claude: str
    arguments: list[str] = []
    variables: dict[str, str] = {}
    cols: int = 140
    rows: int = 50
    min_run_ms: int = 1500
    quiet_ms: int = 2500
    spinner_stable_ms: int = 1000
    submit_grace_ms: int = 5000
    check_interval_ms: int = 100
    record: bool = True

    @property
    def screen(self) -> ScreenTiming:
        """The screen's times in seconds."""
        return ScreenTiming(
            self.min_run_ms / 1000,
            self.quiet_ms / 1000,
            self.spinner_stable_ms / 1000,
            self.submit_grace_ms / 1000,
            self.check_interval_ms / 1000,
        )


@dataclass(frozen=True, slots=True)
class SessionFolder:
    """Where one session keeps its things.

    Attributes:
        path: what the lead sees and may write to.
        private: hooks, plan and socket.
    """

    path: Path
    private: Path

    @property
    def session_file(self) -> Path:
        """`session.json`."""
        return self.path / "session.json"

    @property
    def bridge(self) -> Path:
        """The mailbox."""
        return self.path / "bridge"

    @property
    def recording(self) -> Path:
        """The terminal as an asciicast."""
        return self.private / "terminal.cast"

    @property
    def plan_file(self) -> Path:
        """What the bridge process reads at its start."""
        return self.private / "bridge.json"

    @property
    def settings_file(self) -> Path:
        """What Claude Code is given by `--settings`."""
        return self.private / "settings.json"

    @property
    def attach_socket(self) -> Path:
        """Where people join the terminal."""
        return self.private / "attach.sock"

    def read(self) -> SessionFile:
        """`session.json`.

        Raises:
            SessionUnknown: it is not there or cannot be read.
        """
        content = read_small_file(self.session_file)
        try:
            return msgspec.json.decode(content or b"", type=SessionFile)
        except msgspec.MsgspecError as error:
            raise SessionUnknown(f"{self.session_file} is no session") from error

    def write(self, session: SessionFile) -> None:
        """Replace `session.json` in one step."""
        write_private_file(
            self.session_file, msgspec.json.format(msgspec.json.encode(session), indent=2) + b"\n"
        )


def sessions_root(home: Home) -> Path:
    """Where all sessions are."""
    return home.state / "sessions"


def session_folder(home: Home, session_id: str) -> SessionFolder:
    """The folders of a session, which need not exist.

    The private folder lies in the run folder; where that makes a socket's path too long, in the short one.
    """
    private = home.run / "bridge" / session_id
    if len(os.fsencode(private / "attach.sock")) > MAX_SOCKET_PATH_BYTES:
        private = home.short_sockets / "bridge" / session_id
    return SessionFolder(sessions_root(home) / session_id, private)


def is_session_id(name: str) -> bool:
    """Whether it is a name that `dragoman lead` gives."""
    return _ID.fullmatch(name) is not None


def find_session(home: Home, session_id: str) -> SessionFolder:
    """The session of exactly that id.

    Raises:
        SessionUnknown: there is none, or it is no id.
    """
    if is_session_id(session_id):
        folder = session_folder(home, session_id)
        if folder.session_file.is_file():
            return folder
    raise SessionUnknown("there is no session of that id", hint="dragoman bridge sessions")


def open_sessions(home: Home) -> list[SessionFolder]:
    """Sessions, the newest first."""
    try:
        names = sorted((path.name for path in sessions_root(home).iterdir() if path.is_dir()), reverse=True)
    except OSError:
        return []
    return [session_folder(home, name) for name in names]


def create_session(
    home: Home,
    *,
    session_id: str,
    claude_session_id: str,
    project: Path,
    supervisor_home: Path,
    created_at: str,
    env: Mapping[str, str],
) -> SessionFolder:
    """Make a session's folders and its `session.json`.

    Args:
        home: whose.
        session_id: sorts by time.
        claude_session_id: a UUID.
        project: the real project.
        supervisor_home: where the lead works.
        created_at: ISO 8601, UTC.
        env: what Claude Code runs with; only names are written.
    """
    folder = session_folder(home, session_id)
    ensure_private_folder(folder.path)
    ensure_private_folder(folder.private)
    ensure_private_folder(folder.bridge)
    artifacts = folder.path / "artifacts"
    ensure_private_folder(artifacts)
    env_file = folder.path / "claude_env.json"
    write_private_file(env_file, msgspec.json.format(msgspec.json.encode({"names": sorted(env)}), indent=2))
    folder.write(
        SessionFile(
            session_id=session_id,
            project_path=os.path.realpath(project),
            supervisor_home=str(supervisor_home),
            session_dir=str(folder.path),
            artifact_root=str(artifacts),
            bridge_dir=str(folder.bridge),
            bridge_state_file=str(folder.bridge / "state.json"),
            claude_env_file=str(env_file),
            created_at=created_at,
            claude_session_id=claude_session_id,
            private_dir=str(folder.private),
        )
    )
    return folder


def bridge_plan(
    claude: Path,
    arguments: list[str],
    settings: BridgeSettings,
    *,
    variables: Mapping[str, str] | None = None,
) -> BridgePlan:
    """What a bridge is started with, from the configuration."""
    return BridgePlan(
        claude=str(claude),
        arguments=arguments,
        variables=dict(variables or {}),
        min_run_ms=settings.min_run_ms,
        quiet_ms=settings.quiet_ms,
        spinner_stable_ms=settings.spinner_stable_ms,
        submit_grace_ms=settings.submit_grace_ms,
        check_interval_ms=settings.check_interval_ms,
    )


def write_plan(folder: SessionFolder, plan: BridgePlan) -> None:
    """Put the plan where the bridge process looks for it."""
    write_private_file(folder.plan_file, msgspec.json.encode(plan))


def read_plan(folder: SessionFolder) -> BridgePlan:
    """The plan of a session's bridge.

    Raises:
        SessionUnknown: there is none.
    """
    try:
        return msgspec.json.decode(read_small_file(folder.plan_file) or b"", type=BridgePlan)
    except msgspec.MsgspecError as error:
        raise SessionUnknown(f"{folder.plan_file} is no plan of a bridge") from error
