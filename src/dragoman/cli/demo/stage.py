"""The demo's stage: a home of its own, a daemon, the embedded model and scratch repositories.

Whatever stands on it is taken down with it, also after Ctrl-C; what a killed demo left behind is taken down
by the next one.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from dragoman.cli.control_client import ControlClient
from dragoman.cli.interruptions import Interruptions
from dragoman.config.files import ensure_private_folder
from dragoman.config.paths import HOME_VARIABLE, Home, resolve_home, unwritable
from dragoman.daemon.connect import DaemonHandle, ensure_daemon, find_daemon
from dragoman.daemon.stopping import stop_daemon
from dragoman.errors import DragomanError
from dragoman.jobs.folder import RunFolder
from dragoman.process.locks import FileLock, is_locked
from dragoman.process.tree import end_tree, run_marker

_MODEL_READY_S = 15.0
# A cancelled run has everything dead within ten seconds of grace and one more.
_RUN_END_S = 12.0
# A folder bears a draft's name until it is locked, which takes milliseconds.
_DRAFT = "."
_DRAFT_S = 60.0
_CONFIG = """\
[gateway]
port = {port}

[delegation]
allow_roots = ["{folder}"]
cli_roots = true

[providers.stage-messages]
profile = "generic"
wires.messages = "{model}"

[providers.stage-chat]
profile = "generic"
wires.chat = "{model}/v1"

[models.rehearsal-messages]
provider = "stage-messages"
upstream = "rehearsal"
context_window = 200000
max_output_tokens = 32000

[models.rehearsal-chat]
provider = "stage-chat"
upstream = "rehearsal"
context_window = 200000
max_output_tokens = 32000
"""


class DemoFailed(DragomanError):
    """The demo could not do what it promises."""

    code = "demo_failed"


@dataclass
class Stage:
    """Where one demo plays.

    Attributes:
        folder: everything of this demo, removed at its end.
        home: the demo's own dragoman home.
        env: the environment its processes get; `DRAGOMAN_HOME` points at `home`.
        provider_url: base address of the embedded model.
        daemon: the running daemon; replaced when it had to be started again.
        interruptions: keeps Ctrl-C back while a process is started.
        model: the embedded model's process.
        jobs: ids of the jobs asked for here, ended when the stage is struck.
    """

    folder: Path
    home: Home
    env: dict[str, str]
    provider_url: str
    daemon: DaemonHandle
    interruptions: Interruptions
    model: subprocess.Popen[bytes]
    jobs: list[str] = field(default_factory=list[str])

    def control(self) -> ControlClient:
        """The control API of the daemon; one client does for all of the daemons that follow each other."""
        return ControlClient(self.home, self.daemon.url)

    def keep_daemon(self) -> bool:
        """Start the daemon again if it died; True when it was, here or by the runner that missed it."""
        found, before = find_daemon(self.home), self.daemon
        if found is None:
            with self.interruptions.held():
                found = ensure_daemon(self.home, self.env, say=_silent)
        self.daemon = found
        return found.pid != before.pid

    def check_model(self) -> None:
        """See that the embedded model still plays; without it a worker would try again for minutes.

        Raises:
            DemoFailed: it has ended.
        """
        if self.model.poll() is not None:
            raise DemoFailed("the embedded model ended in the middle of the play", hint="run the demo again")

    def start_job(self, control: ControlClient, request: dict[str, Any]) -> dict[str, Any]:
        """Ask for a job that ends with the stage, at the latest."""
        with self.interruptions.held():
            job: dict[str, Any] = control.post("/jobs", request)["job"]
            self.jobs.append(job["job_id"])
        return job

    def lay_scratch(self, name: str) -> Path:
        """Make a fresh scratch repository with one commit.

        Parameters:
            name: of its folder inside the stage.
        """
        path = self.folder / name
        path.mkdir()
        _copy_tree(_scratch_source() / "repository", path)
        for words in (
            ("init", "--quiet", "--initial-branch=main"),
            ("add", "--all"),
            ("-c", "user.name=Demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false",
             "commit", "--quiet", "--no-verify", "--message=A shop with a rounding bug"),
        ):  # fmt: skip
            subprocess.run(("git", "-C", str(path), *words), check=True, capture_output=True)
        return path


def scratch_packet() -> str:
    """The task packet that belongs to the scratch repository."""
    return (_scratch_source() / "packet.md").read_text(encoding="utf-8")


@contextlib.contextmanager
def set_stage(env: Mapping[str, str], interruptions: Interruptions, *, scenario: str) -> Iterator[Stage]:
    """Build the stage, and strike it whatever happens.

    Parameters:
        env: the user's environment.
        interruptions: how Ctrl-C is handled meanwhile.
        scenario: name of a shipped scenario or path of a file.

    Raises:
        HomeUnwritable: there is no place for it.
        ScenarioInvalid: the scenario has a mistake.
        DemoFailed: the embedded model or the daemon does not come up.
    """
    base = resolve_home(env).state / "demo"
    missing = [folder for folder in (base, *base.parents) if _is_missing(folder)]
    undo = contextlib.ExitStack()
    try:
        with interruptions.held():
            undo.callback(_remove_empty, missing or [base])
            folder, lock = _open_folder(base)
            undo.callback(_clear, folder)
            undo.callback(lock.release)
        sweep(base)
        own_env = {**env, HOME_VARIABLE: str(folder / "home")}
        home = resolve_home(own_env)
        home.ensure()
        log_file = home.logs / "rehearsal.log"
        with interruptions.held():
            model, provider_url = undo.enter_context(_embedded_model(scenario, log_file))
        home.config_file.write_text(
            _CONFIG.format(port=0, model=provider_url, folder=folder), encoding="utf-8"
        )
        undo.callback(_take_down, home)
        with interruptions.held():
            daemon = ensure_daemon(home, own_env, say=_silent)
        # From here on the daemon keeps its port, so that one that died comes back where the worker looks.
        port = daemon.url.rpartition(":")[2]
        home.config_file.write_text(
            _CONFIG.format(port=port, model=provider_url, folder=folder), encoding="utf-8"
        )
        stage = Stage(folder, home, own_env, provider_url, daemon, interruptions, model)
        undo.callback(_cancel_jobs, stage)
        yield stage
    finally:
        # Held: a key pressed while a finished demo is taken down must not leave half of it standing.
        with interruptions.held():
            undo.close()


def sweep(base: Path) -> None:
    """Take down what demos that were killed left behind: their daemon, their runs, their folder."""
    for folder in base.iterdir():
        if not folder.is_dir() or is_locked(folder / "lock") or _is_being_made(folder):
            continue
        _take_down(_home_in(folder))
        _clear(folder)


def _open_folder(base: Path) -> tuple[Path, FileLock]:
    """Make this demo's folder; it is locked before another demo can take it for left behind."""
    name = uuid.uuid4().hex[:8]
    draft = base / f"{_DRAFT}{name}"
    try:
        while True:
            ensure_private_folder(base)
            with contextlib.suppress(FileNotFoundError):  # another demo ended and took the empty base along
                draft.mkdir(mode=0o700)
                break
    except OSError as error:
        raise unwritable(base, error) from None
    lock = FileLock(draft / "lock", note="demo")
    lock.acquire()
    return draft.rename(base / name), lock


def _is_being_made(folder: Path) -> bool:
    try:
        return folder.name.startswith(_DRAFT) and time.time() - folder.stat().st_mtime < _DRAFT_S
    except OSError:
        return True  # it has got its name meanwhile


def _home_in(folder: Path) -> Home:
    return resolve_home({HOME_VARIABLE: str(folder / "home")})


def _silent(text: str) -> None:
    """The demo tells its own story."""


def _cancel_jobs(stage: Stage) -> None:
    """End the jobs that still go on; with no daemon to ask, their runs are ended with the home."""
    with contextlib.suppress(DragomanError), stage.control() as control:
        for job_id in stage.jobs:
            if find_daemon(stage.home) is not None:
                control.post(f"/jobs/{job_id}/cancel", {})
                control.get(f"/jobs/{job_id}", wait_s=str(_RUN_END_S))


def _take_down(home: Home) -> None:
    """End everything of a home. Runs first: a runner whose daemon goes away would start another."""
    runs = [RunFolder(path) for path in home.runs.glob("*")]
    for run in runs:
        run.cancel()
    deadline = time.monotonic() + _RUN_END_S
    while any(is_locked(run.lock_file) for run in runs) and time.monotonic() < deadline:
        time.sleep(0.05)
    with contextlib.suppress(DragomanError):
        stop_daemon(home, now=True)
    for run in home.runs.glob("*"):
        end_tree(None, grace_s=1.0, marker=run_marker(run.name))


def _clear(folder: Path) -> None:
    """Remove a demo's folder, and its sockets where a long path had put them elsewhere."""
    _remove(_home_in(folder).short_sockets)
    _remove(folder)


def _is_missing(folder: Path) -> bool:
    try:
        return not folder.exists()
    except OSError:
        return False  # a folder we may not look into


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, as long as nothing else has come to live in them."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _remove(folder: Path) -> None:
    # Something may still be closing a file in it (a log, a socket): a second look is enough.
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


@contextlib.contextmanager
def _embedded_model(scenario: str, log_file: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the embedded model as an ordinary provider; its process and address."""
    # Checked here, where the error is ours to show, and not in a child whose words end in a log.
    from dragoman.rehearsal.load import load_scenario

    load_scenario(scenario)
    tied_to_us, ours = os.pipe()
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            (sys.executable, "-m", "dragoman.rehearsal", "--scenario", scenario, "--port", "0",
             "--parent-fd", str(tied_to_us)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, pass_fds=(tied_to_us,),
            start_new_session=True,
        )  # fmt: skip
    os.close(tied_to_us)
    try:
        yield process, _address(process)
    finally:
        os.close(ours)
        process.terminate()
        try:
            process.wait(3.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _address(process: subprocess.Popen[bytes]) -> str:
    """Wait for the line that says where it listens."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(_MODEL_READY_S)
    line = process.stdout.readline().decode() if ready else ""
    words = line.split()
    if not line.startswith("listening on ") or len(words) < 3:
        raise DemoFailed("the embedded model did not start", hint="python -m dragoman.rehearsal, to see why")
    return words[2]


def _scratch_source() -> Traversable:
    return resources.files("dragoman.rehearsal") / "scratch"


def _copy_tree(source: Traversable, target: Path) -> None:
    for entry in source.iterdir():
        if entry.is_dir():
            (target / entry.name).mkdir()
            _copy_tree(entry, target / entry.name)
        elif not entry.name.endswith(".pyc"):
            # Shipped under another name so that no tool takes the scratch repository's files for ours.
            (target / entry.name.removesuffix(".txt")).write_bytes(entry.read_bytes())
