"""How one run is confined: what its worker and its validation commands see, write and reach.

The worker's clone is shown a second time, read-only, where the user's checkout lies: what was installed
there with absolute names (an editable package, a compiled path) finds the worker's files and not the
user's, so what passes passes because of the work. The checkout itself is not visible, but for its object
store, which the clone borrows from, and the folders named in `link_dirs`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dragoman.config.paths import Home
from dragoman.errors import DragomanError
from dragoman.jobs.links import find_links, make_mount_points, place_symlinks
from dragoman.process.spawn import SpawnPlan
from dragoman.sandbox.bubblewrap import plan_bubblewrap
from dragoman.sandbox.confinement import Confinement, Gateway, Mount, topmost
from dragoman.sandbox.landlock_plan import plan_landlock
from dragoman.sandbox.level import Asked, Means, Protection, choose, find_means
from dragoman.sandbox.secrets import denied_paths, secret_files
from dragoman.sandbox.toolchain import find_program, find_toolchain, interpreter, look_at_system
from dragoman.workers.base import Confine, WorkerTask
from dragoman.workspace import Workspace, open_workspace

# What a result says where nothing was planned.
UNCONFINED: Mapping[str, Any] = {"mode": "worktree", "level": "none", "permission_rules": True}

_RULES = ("settings.json", "schema.json")
_STEERING = (
    *("settings.json", "settings.local.json", "CLAUDE.md", "hooks", "commands", "agents", "skills"),
    *("plugins", "local"),
)
# The system's own folders are what a toolchain is looked for in, not what a user opens.
_TOO_WIDE = (Path("/"), Path("/proc"), Path("/dev"), Path("/sys"), Path("/run"))


class SandboxMisconfigured(DragomanError):
    """`[delegation.sandbox]` asks for something that cannot be."""

    code = "config_invalid"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class CommandSandbox:
    """Confines validation commands.

    Attributes:
        confine: wraps a process.
        any_command: whether what runs inside can do no harm, so that it need not be a known test runner.
    """

    confine: Callable[[SpawnPlan], SpawnPlan]
    any_command: bool


@dataclass(frozen=True, slots=True)
class Isolation:
    """The confinement of one installation's runs; see `plan_isolation`.

    Attributes:
        protection: by what means, and what those cannot do.
        home: whose state folder, gateway and configuration.
        user_home: where the user's toolchains and secrets lie.
        env: the surroundings the user's programs are found in.
        read: configured paths that are readable.
        link_dirs: folders of the checkout that are shown in the clone.
        own_login: the worker uses the user's own login: its folder is open, and so is the network.
    """

    protection: Protection
    home: Home
    user_home: Path
    env: Mapping[str, str]
    read: tuple[str, ...] = ()
    link_dirs: tuple[str, ...] = ()
    own_login: bool = False

    @property
    def any_command(self) -> bool:
        """Whether validation commands may be anything that needs no shell."""
        return self.protection.level == "bubblewrap"

    @property
    def network_is_open(self) -> bool:
        """Whether a worker reaches more than the gateway."""
        means = self.protection.means
        closed = self.protection.level == "bubblewrap" or (
            self.protection.level == "landlock" and means.landlock_abi >= 4
        )
        return self.own_login or not closed

    def told(self) -> dict[str, Any]:
        """What a result says about it."""
        limits = list(self.protection.limits)
        if self.own_login:
            limits.append("the network and the user's own Claude folder are open (worker_login = own)")
            limits.append("what it adds to ~/.claude* (settings, MCP servers) the user's own Claude obeys")
        return {
            "mode": "worktree",
            "level": self.protection.level,
            "asked": self.protection.asked,
            "permission_rules": True,
            "network": "open" if self.network_is_open else "gateway",
            "login": "own" if self.own_login else "gateway",
            "limits": limits,
            "warning": self.protection.warning,
        }

    def prepare(self, workspace: Workspace) -> None:
        """Show the linked folders in the worker's clone where no mount will do it."""
        if self.protection.level != "bubblewrap":
            links = find_links(workspace.repository, workspace.path, self.link_dirs, workspace.prefix)
            place_symlinks(workspace.path, links, git_dirs=(workspace.path / ".git", workspace.keep_dir))

    def confine_worker(self, open_it: Callable[[str], Workspace] | None = None) -> Confine | None:
        """What wraps a worker's process, or None where nothing does.

        Args:
            open_it: finds the workspace of a run id; in the home's state folder when None.
        """
        if self.protection.level == "none":
            return None

        def find(run_id: str) -> Workspace:
            return open_it(run_id) if open_it else open_workspace(self.home.state.resolve(), run_id)

        def confine(plan: SpawnPlan, task: WorkerTask) -> SpawnPlan:
            workspace = find(task.run_id)
            scratch = _private(task.config_folder / "scratch")
            view = self._view(
                workspace,
                workspace.path,
                scratch,
                writable=(*(() if task.read_only else (workspace.path,)), task.config_folder.resolve()),
                program=Path(plan.argv[0]),
                also_read=tuple(folder.resolve() for folder in task.readable_dirs),
            )
            # What tells the client its rules is not the worker's to rewrite.
            rules = [path for name in _RULES if (path := task.config_folder.resolve() / name).is_file()]
            view = replace(view, mounts=(*view.mounts, *(Mount(path, path) for path in rules)))
            if not self.own_login:
                view = replace(view, gateway=_gateway(self.home, task.gateway_url))
            return self._wrap(plan, view, plan.cwd or workspace.cwd)

        return confine

    @contextlib.contextmanager
    def commands(self, workspace: Workspace, tree: Path, scratch: Path) -> Generator[CommandSandbox | None]:
        """What wraps validation commands, for as long as the block runs; nothing inside reaches a gateway.

        Args:
            workspace: whose packet they are of.
            tree: the clone they run in: the workspace's own, or one at its base.
            scratch: a folder to be made for their temporary files; removed afterwards.
        """
        if self.protection.level != "bubblewrap":
            links = find_links(workspace.repository, tree, self.link_dirs, workspace.prefix)
            place_symlinks(tree, links, git_dirs=(tree / ".git",))
        if self.protection.level == "none":
            yield None
            return
        _private(scratch)
        try:
            view = replace(self._view(workspace, tree, scratch, writable=(tree,)), network=False)
            inside = scratch if self.protection.level == "landlock" else Path("/tmp")  # noqa: S108
            _private(scratch / "home")

            def confine(plan: SpawnPlan) -> SpawnPlan:
                private = replace(plan, env={**plan.env, "HOME": str(inside / "home")})
                return self._wrap(private, view, plan.cwd or tree)

            yield CommandSandbox(confine, any_command=self.any_command)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _view(
        self,
        workspace: Workspace,
        tree: Path,
        scratch: Path,
        *,
        writable: tuple[Path, ...],
        program: Path | None = None,
        also_read: tuple[Path, ...] = (),
    ) -> Confinement:
        base = look_at_system()
        denied = denied_paths(self.user_home, _own_folders(self.home))
        links = find_links(workspace.repository, tree, self.link_dirs, workspace.prefix)
        toolchain = find_toolchain(
            self.env,
            self.user_home,
            base=base,
            programs=(interpreter(),),
            read=(*self.read, *(str(link.source) for link in links), *map(str, also_read)),
        )
        readable = [path for path in toolchain.readable if not _under(path, denied)]
        mounts: list[Mount] = []
        if self.protection.level == "bubblewrap":
            # Of the checkout nothing is opened where it lies but what is shown in the clone as well.
            checkout = workspace.repository
            within = [path for path in readable if path != checkout and path.is_relative_to(checkout)]
            named = [link.name for link in links]
            more = [str(path.relative_to(checkout)) for path in within]
            links = find_links(checkout, tree, (*named, *more), "")
            make_mount_points(tree, links)
            readable = [path for path in readable if not path.is_relative_to(checkout)]
            mounts.append(Mount(tree, checkout))
            for link in links:
                mounts += [Mount(link.source, tree / link.name), Mount(link.source, checkout / link.name)]
        if not _under(tree, writable):
            mounts.insert(0, Mount(tree, tree))
        mounts += [Mount(store, store) for store in _stores(workspace, tree) if store.is_dir()]
        links_seen = toolchain.links
        if program is not None:
            # Even where it lies in a folder that is closed, such as ~/.claude/local.
            own = find_program(program, self.user_home, base=base)
            mounts += [Mount(path, path) for path in own.readable]
            links_seen += own.links
        if self.own_login and program is not None:
            # The client renews its login there; what it would run the next time is not the worker's to write.
            folders = self._login_folders()
            writable = (*writable, *folders)
            mounts += [Mount(path, path) for path in _steering(folders)]
        secrets = secret_files(tree, spared=(name for name, _ in workspace.included))
        twice = [workspace.repository / path.relative_to(tree) for path in secrets]
        return Confinement(
            base=base,
            writable=topmost(writable),
            scratch=scratch,
            interpreter=interpreter(),
            readable=tuple(readable),
            links=links_seen,
            denied=denied,
            mounts=tuple(mounts),
            masked=(*secrets, *twice),
            network=self.own_login,
            environment=toolchain.environment,
        )

    def _login_folders(self) -> tuple[Path, ...]:
        """Where the user's own Claude Code keeps its login."""
        chosen = self.env.get("CLAUDE_CONFIG_DIR", "")
        found = sorted(self.user_home.glob(".claude*"))
        found += [Path(chosen)] if chosen.startswith("/") and Path(chosen).is_dir() else []
        return tuple(dict.fromkeys(path.resolve() for path in found))

    def _wrap(self, plan: SpawnPlan, view: Confinement, cwd: Path) -> SpawnPlan:
        env = {**view.environment, **plan.env}
        match self.protection.level:
            case "bubblewrap":
                assert self.protection.means.bubblewrap is not None
                argv = plan_bubblewrap(view, plan.argv, bwrap=self.protection.means.bubblewrap, cwd=cwd)
                # It dies with its runner, so it need not hold the run's lock, which it could let go of.
                plan = replace(plan, pass_fds=())
                # What names the host's temporary folder names nothing inside.
                if not _under(Path(env.get("TMPDIR", "/tmp")), view.writable):  # noqa: S108
                    env.pop("TMPDIR", None)
            case "landlock":
                argv = plan_landlock(view, plan.argv)
                env["TMPDIR"] = str(view.scratch)
                # What is closed is not missing there but refused, and git ends at a refused configuration.
                env["GIT_CONFIG_NOSYSTEM"] = "1"
            case "none":
                argv = plan.argv
        return replace(plan, argv=argv, env=env)


def plan_isolation(
    home: Home,
    env: Mapping[str, str],
    *,
    level: Asked = "best",
    read: tuple[str, ...] = (),
    link_dirs: tuple[str, ...] = (),
    own_login: bool = False,
    means: Means | None = None,
) -> Isolation:
    """Choose how runs are confined.

    Args:
        home: whose state, gateway and configuration.
        env: where the user's programs are found; its HOME is the user's home.
        level: `[delegation.sandbox] level`.
        read, link_dirs: as configured there.
        own_login: `[delegation] worker_login = "own"`.
        means: what the system has; looked for when None.

    Raises:
        SandboxUnavailable: the asked-for level is not there.
        SandboxMisconfigured: `read` opens too much.
    """
    for text in read:
        if Path(text) in _TOO_WIDE:
            raise SandboxMisconfigured(
                f"[delegation.sandbox] read cannot open {text}", hint="name the folders that are needed"
            )
    user_home = Path(env.get("HOME") or Path.home())
    protection = choose(level, means or find_means())
    return Isolation(protection, home, user_home, env, read, link_dirs, own_login)


def _own_folders(home: Home) -> tuple[Path, ...]:
    """Everything of ours; what a run needs of it is opened by name."""
    return (home.state, home.run, home.short_sockets, home.config_file)


def _steering(folders: tuple[Path, ...]) -> list[Path]:
    """What in a client's folder tells it what to do the next time, as far as it is there."""
    return [path for folder in folders for name in _STEERING if (path := folder / name).exists()]


def _stores(workspace: Workspace, tree: Path) -> tuple[Path, ...]:
    """Object stores a clone reads beside its own: for a clone at the base, one more beside it."""
    beside = tree.parent / "keep.git" / "objects"
    return tuple(dict.fromkeys((*workspace.object_stores, beside)))


def _gateway(home: Home, url: str) -> Gateway:
    """The way out: the port of the address the worker is given, which is the same inside."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    loopback = host == "localhost"
    with contextlib.suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if not loopback or parts.scheme != "http":
        raise SandboxMisconfigured(
            f"a confined worker reaches a gateway on loopback only, not {host or 'nothing'}",
            hint='set [delegation.sandbox] level = "none" for a gateway elsewhere',
        )
    # Its folder is what is shown; the gateway itself may come later, or come back.
    _private(home.gateway_socket.parent)
    return Gateway(home.gateway_socket, parts.port or 80)


def _under(path: Path, folders: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _private(folder: Path) -> Path:
    if folder.is_symlink():
        folder.unlink()  # nothing of ours is one: what it leads to would be opened for writing
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.resolve()
