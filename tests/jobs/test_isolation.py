"""A run's commands see the user's toolchain, the clone and nothing else; and what they prove is the work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dragoman.config.paths import Home, resolve_home
from dragoman.jobs.isolation import Isolation, SandboxMisconfigured, plan_isolation
from dragoman.jobs.links import find_links, place_symlinks
from dragoman.process.locks import FileLock, is_locked
from dragoman.process.spawn import SpawnPlan
from dragoman.sandbox.level import Means, find_means
from dragoman.workers.base import WorkerTask
from dragoman.workspace import open_workspace

FIXED = "def double(x):\n    return 2 * x\n"
bubblewrap = pytest.mark.skipif(find_means().bubblewrap is None, reason=f"NOT RUN: {find_means().why_not}")
landlock = pytest.mark.skipif(find_means().landlock_abi == 0, reason="NOT RUN: no Landlock")
LEVELS = [
    pytest.param("bubblewrap", marks=bubblewrap),
    pytest.param("landlock", marks=landlock),
    "none",
]


def mend(tree: Path) -> None:
    (tree / "code_under_test.py").write_text(FIXED)


class Place:
    """A user's home with a repository in it, and how runs of it are confined."""

    def __init__(self, folder: Path, bench: Any) -> None:
        self.user = folder / "user"
        self.user.mkdir()
        bench.repository = bench.repository.rename(self.user / "repo")
        self.bench = bench
        self.repository: Path = bench.repository
        self.home: Home = resolve_home({"DRAGOMAN_HOME": str(folder), "HOME": str(self.user)})
        self.env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.user)}
        (self.user / ".ssh").mkdir()
        (self.user / ".ssh" / "key").write_text("SECRET")

    def isolation(self, level: Any = "best", **options: Any) -> Isolation:
        options = {"link_dirs": ("node_modules", ".venv"), **options}
        return plan_isolation(self.home, self.env, level=level, **options)

    def run(self, *commands: str, level: Any = "best", act: Any = mend, **options: Any) -> dict[str, Any]:
        """Carry out a run with these validation commands; the fake worker mends the code."""
        lines = "".join(f"- `{command}`\n" for command in commands)
        options = {"report": "Done.", "isolation": self.isolation(level), **options}
        packet = f"Goal: x\nValidation commands:\n{lines}"
        return self.bench.carry_out(act, packet=packet, env=self.env, **options)

    def after(self, *commands: str, **options: Any) -> list[tuple[str, str | None]]:
        return [
            (seen["status"], seen["reason"]) for seen in self.run(*commands, **options)["evidence"]["after"]
        ]

    def virtual_environment(self, folder: Path, *, packages: dict[str, str]) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (site,) = folder.glob("lib/python3*/site-packages")
        for name, text in packages.items():
            (site / name).write_text(text)


@pytest.fixture
def place(tmp_path: Path, bench: Any) -> Place:
    return Place(tmp_path, bench)


NEEDS_PACKAGE = """import unittest, needed, code_under_test as c
class T(unittest.TestCase):
    def test_it(self): self.assertEqual(c.double(needed.TWO), 4)
"""


@pytest.mark.parametrize("level", LEVELS)
def test_a_project_whose_tests_need_an_environment_under_the_home_passes_after(
    place: Place, level: str
) -> None:
    env = place.user / ".virtualenvs" / "app"
    place.virtual_environment(env, packages={"needed.py": "TWO = 2\n"})
    place.env["PATH"] = f"{env}/bin:{place.env['PATH']}"
    (place.repository / "test_it.py").write_text(NEEDS_PACKAGE)
    result = place.run("python3 -m unittest -q", level=level)
    evidence = result["evidence"]
    assert [seen["status"] for seen in evidence["before"]] == ["failed"]
    assert "2 != 4" in evidence["before"][0]["tail"], "it fails for the right reason"
    assert [seen["status"] for seen in evidence["after"]] == ["passed"], evidence
    assert result["isolation"]["level"] == level


@bubblewrap
def test_an_environment_in_the_checkout_runs_the_workers_files_and_not_the_users(place: Place) -> None:
    # What `pip install -e .` leaves: a name of the checkout, absolute.
    (place.repository / ".gitignore").write_text(".venv/\n")
    place.virtual_environment(
        place.repository / ".venv", packages={"__editable__.pth": f"{place.repository}\n"}
    )
    (place.repository / "tests").mkdir()
    (place.repository / "test_it.py").rename(place.repository / "tests" / "test_it.py")
    result = place.run(".venv/bin/python3 -m unittest discover -q -s tests", "test -x .venv/bin/python3")
    assert [seen["status"] for seen in result["evidence"]["before"]] == ["failed", "passed"]
    assert [seen["status"] for seen in result["evidence"]["after"]] == ["passed", "passed"]
    assert [file["path"] for file in result["delta"]["files"]] == ["code_under_test.py"]


@pytest.mark.skipif(shutil.which("npm") is None, reason="NOT RUN: no npm")
@pytest.mark.parametrize("level", LEVELS)
def test_a_project_with_node_modules_passes_after(place: Place, level: str) -> None:
    module = place.repository / "node_modules" / "needed"
    module.mkdir(parents=True)
    (module / "index.js").write_text("module.exports = 2;\n")
    (place.repository / ".gitignore").write_text("node_modules/\n")
    (place.repository / "package.json").write_text('{"scripts": {"test": "node check.js"}}\n')
    check = "process.exit(require('./code.js')(require('needed')) === 4 ? 0 : 1);\n"
    (place.repository / "check.js").write_text(check)
    (place.repository / "code.js").write_text("module.exports = x => x;\n")

    def act(tree: Path) -> None:
        (tree / "code.js").write_text("module.exports = x => 2 * x;\n")

    result = place.run("npm test --silent", act=act, level=level)
    assert [seen["status"] for seen in result["evidence"]["before"]] == ["failed"]
    assert [seen["status"] for seen in result["evidence"]["after"]] == ["passed"], result["evidence"]
    assert [file["path"] for file in result["delta"]["files"]] == ["code.js"]
    assert sorted(path.name for path in (place.repository / "node_modules").iterdir()) == ["needed"]


@bubblewrap
def test_inside_the_sandbox_any_command_counts(place: Place) -> None:
    (place.repository / "check.sh").write_text("grep -q 2 code_under_test.py\n")
    result = place.run("sh check.sh", "git status --short", "no-such-program --x")
    before, after = (result["evidence"][moment] for moment in ("before", "after"))
    assert [seen["status"] for seen in before] == ["failed", "passed", "skipped"]
    assert [seen["status"] for seen in after] == ["passed", "passed", "skipped"]
    assert "not there inside the sandbox" in after[2]["reason"]
    assert result["evidence"]["verdict"] == "unproved"


@pytest.mark.parametrize("level", ["none", pytest.param("landlock", marks=landlock)])
def test_elsewhere_only_known_test_runners_run_and_the_rest_is_skipped(place: Place, level: str) -> None:
    seen = place.after("python3 -m unittest -q", "sh check.sh", level=level)
    assert seen[0][0] == "passed"
    assert seen[1][0] == "skipped"
    assert "test runners" in (seen[1][1] or "")


@bubblewrap
def test_a_command_sees_no_secret_no_network_and_not_the_checkout(place: Place) -> None:
    (place.repository / ".env").write_text("TOKEN=SECRET\n")
    (place.repository / ".gitignore").write_text("private.txt\n")
    (place.repository / "private.txt").write_text("SECRET")
    commands = [
        f"cat {place.user}/.ssh/key",
        "cat .env",
        f"cat {place.repository}/.env",
        f"cat {place.repository}/private.txt",
        f"touch {place.repository}/escaped",
        f"ls {place.home.state}/tokens",
        f"touch {place.repository}/.git/objects/x",
    ]
    result = place.run(*commands)
    after = result["evidence"]["after"]
    assert [seen["status"] for seen in after] == ["failed"] * len(commands)
    assert "SECRET" not in str(after)
    assert not (place.repository / "escaped").exists()
    assert result["integrity"]["changed"] == ()


@bubblewrap
def test_git_works_inside_as_it_does_outside(place: Place) -> None:
    commands = ("git log --oneline -1", "git diff --stat HEAD", "git commit -q -a -m x", "git tag mine")
    assert [status for status, _ in place.after(*commands)] == ["passed"] * 4
    tags = subprocess.run(["git", "-C", str(place.repository), "tag"], capture_output=True, check=True)
    assert tags.stdout == b""


@bubblewrap
def test_a_command_of_time_and_output_without_end_is_bounded_inside_too(place: Place) -> None:
    (place.repository / "loop.sh").write_text("setsid sleep 602 & echo here; exit 3\n")
    ((status, _),) = place.after("sh loop.sh")
    assert status == "failed"
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "sleep 602" not in listing


def test_the_result_says_what_confined_and_what_that_cannot_do(place: Place) -> None:
    nothing = Means(None, "bubblewrap is not installed", 0)
    told = place.isolation(means=nothing).told()
    assert (told["level"], told["asked"], told["network"]) == ("none", "best", "open")
    assert told["limits"]
    assert "not installed" in told["warning"]
    result = place.run("python3 -m unittest -q", isolation=place.isolation(means=nothing))
    assert any("not installed" in warning for warning in result["warnings"])
    own = place.isolation("none", own_login=True).told()
    assert (own["login"], own["network"]) == ("own", "open")


@pytest.mark.parametrize("path", ["/", "/proc", "/run"])
def test_a_configuration_that_opens_everything_is_refused(place: Place, path: str) -> None:
    with pytest.raises(SandboxMisconfigured, match="cannot open"):
        place.isolation(read=(path,))


def worker_task(place: Place, **changes: Any) -> WorkerTask:
    task = WorkerTask(
        prompt="x",
        cwd=place.repository,
        model="m",
        gateway_url="http://127.0.0.1:4891",
        token="t",
        run_id=place.bench.name,
        config_folder=place.home.runs / "run-1" / "worker",
    )
    return replace(task, **changes)


@bubblewrap
def test_a_workers_rules_and_its_gateway_are_out_of_its_reach(place: Place) -> None:
    place.bench.carry_out(mend, packet="Goal: x\n", report="Done.")
    workspace = open_workspace(place.bench.state, place.bench.name)
    task = worker_task(place, cwd=workspace.path)
    (task.config_folder / "home").mkdir(parents=True)
    (task.config_folder / "settings.json").write_text("{}")
    place.home.gateway_socket.parent.mkdir(parents=True)
    confine = place.isolation().confine_worker(lambda run_id: workspace)
    assert confine is not None
    script = """
    cat settings.json; echo; echo x > settings.json; echo rules $?
    rm -f /.dragoman/gateway/x; touch /.dragoman/gateway/x; echo socket $?
    touch home/mine; echo own $?
    ls "$USER_HOME/.ssh"; ls ..; echo end
    """
    plan = SpawnPlan(
        argv=("/bin/sh", "-c", f"cd {task.config_folder}; {script}"),
        env={**place.env, "USER_HOME": str(place.user)},
        cwd=workspace.path,
    )
    confined = confine(plan, task)
    done = subprocess.run(
        confined.argv, env=dict(confined.env), cwd=confined.cwd, capture_output=True, text=True, check=False
    )
    words = done.stdout.split()
    assert words[:7] == ["{}", "rules", "2", "socket", "1", "own", "0"], (done.stdout, done.stderr)
    assert words[-2:] == ["worker", "end"], "the run's folder shows nothing else"
    with pytest.raises(SandboxMisconfigured, match="loopback"):
        confine(plan, replace(task, gateway_url="https://example.org"))


@bubblewrap
def test_a_worker_can_neither_free_nor_write_the_lock_of_its_run(place: Place) -> None:
    place.bench.carry_out(mend, packet="Goal: x\n", report="Done.")
    workspace = open_workspace(place.bench.state, place.bench.name)
    task = worker_task(place, cwd=workspace.path)
    confine = place.isolation().confine_worker(lambda run_id: workspace)
    assert confine is not None
    with FileLock(place.user / "lock") as lock:
        code = f"import fcntl; fcntl.flock({lock.fileno()}, fcntl.LOCK_UN)"
        plan = SpawnPlan(("python3", "-c", code), place.env, workspace.path, pass_fds=(lock.fileno(),))
        confined = confine(plan, task)
        done = subprocess.run(
            confined.argv,
            env=dict(confined.env),
            pass_fds=confined.pass_fds,
            capture_output=True,
            check=False,
        )
        assert b"Bad file descriptor" in done.stderr
        assert is_locked(lock.path)


@bubblewrap
def test_a_private_temp_folder_that_leads_elsewhere_is_made_anew(place: Place) -> None:
    place.bench.carry_out(mend, packet="Goal: x\n", report="Done.")
    workspace = open_workspace(place.bench.state, place.bench.name)
    task = worker_task(place, cwd=workspace.path)
    task.config_folder.mkdir(parents=True)
    (task.config_folder / "scratch").symlink_to(place.user)
    confine = place.isolation().confine_worker(lambda run_id: workspace)
    assert confine is not None
    confined = confine(SpawnPlan(("touch", "/tmp/through"), place.env, workspace.path), task)
    subprocess.run(confined.argv, env=dict(confined.env), check=True)
    assert not (place.user / "through").exists()
    assert (task.config_folder / "scratch" / "through").exists()


@pytest.mark.parametrize("bent", ["exclude", "info", "git", "pipe", "gone"])
def test_a_git_folder_a_worker_bent_is_not_written_through(tmp_path: Path, bent: str) -> None:
    tree, user = tmp_path / "tree", tmp_path / "user"
    info = tree / ".git" / "info"
    for folder in (info, user / "info", user / "node_modules"):
        folder.mkdir(parents=True)
    (user / "info" / "exclude").write_text("mine\n")
    match bent:
        case "exclude":
            (info / "exclude").symlink_to(user / "info" / "exclude")
        case "info":
            info.rmdir()
            info.symlink_to(user / "info")
        case "git":
            shutil.rmtree(tree / ".git")
            (tree / ".git").symlink_to(user)
        case "pipe":
            os.mkfifo(info / "exclude")
        case _:
            shutil.rmtree(tree / ".git")
    links = find_links(user, tree, ("node_modules",), "")
    place_symlinks(tree, links, git_dirs=(tree / ".git",))
    assert (tree / "node_modules").is_symlink()
    assert (user / "info" / "exclude").read_text() == "mine\n"


def test_what_is_linked_is_excluded_once(tmp_path: Path) -> None:
    tree, user = tmp_path / "tree", tmp_path / "user"
    (tree / ".git").mkdir(parents=True)
    (user / "node_modules").mkdir(parents=True)
    for _ in range(2):
        links = find_links(user, tree, ("node_modules",), "")
        place_symlinks(tree, links, git_dirs=(tree / ".git",))
    assert (tree / ".git" / "info" / "exclude").read_text() == "/node_modules\n"


def test_without_confinement_nothing_wraps_the_worker(place: Place) -> None:
    assert place.isolation("none").confine_worker() is None


@bubblewrap
def test_an_own_login_opens_its_folder_but_not_what_steers_the_client(place: Place) -> None:
    place.bench.carry_out(mend, packet="Goal: x\n", report="Done.")
    workspace = open_workspace(place.bench.state, place.bench.name)
    (place.user / ".claude").mkdir()
    (place.user / ".claude" / "settings.json").write_text("{}")
    task = worker_task(place, cwd=workspace.path)
    task.config_folder.mkdir(parents=True)
    confine = place.isolation(own_login=True).confine_worker(lambda run_id: workspace)
    assert confine is not None
    script = (
        "touch ~/.claude/renewed; echo login $?; echo x > ~/.claude/settings.json; echo rules $?; ls ~/.ssh"
    )
    plan = SpawnPlan(argv=("/bin/sh", "-c", script), env=place.env, cwd=workspace.path)
    confined = confine(plan, task)
    done = subprocess.run(
        confined.argv, env=dict(confined.env), cwd=confined.cwd, capture_output=True, text=True, check=False
    )
    assert done.stdout == "login 0\nrules 2\n", done.stderr
    assert (place.user / ".claude" / "renewed").exists()


@bubblewrap
def test_a_worker_that_may_only_read_finds_nothing_to_write_but_its_own_folder(place: Place) -> None:
    place.bench.carry_out(mend, packet="Goal: x\n", report="Done.")
    workspace = open_workspace(place.bench.state, place.bench.name)
    task = worker_task(place, cwd=workspace.path, read_only=True)
    task.config_folder.mkdir(parents=True)
    confine = place.isolation().confine_worker(lambda run_id: workspace)
    assert confine is not None
    script = (
        f"cat code_under_test.py; git status --short; touch x; echo tree $?; touch {task.config_folder}/x"
    )
    plan = SpawnPlan(argv=("/bin/sh", "-c", script), env=place.env, cwd=workspace.path)
    confined = confine(plan, task)
    done = subprocess.run(
        confined.argv, env=dict(confined.env), cwd=confined.cwd, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{FIXED} M code_under_test.py\ntree 1\n", done.stderr
    assert done.returncode == 0
