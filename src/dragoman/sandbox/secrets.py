"""What is never visible inside a sandbox: keys, logins, other agents' folders, `.env` files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

# Relative to the user's home. A star is for names that grow (`.claude.json`, `.claude-worker`).
_IN_HOME = (
    ".ssh", ".aws", ".gnupg", ".netrc", ".git-credentials", ".npmrc", ".codex", ".claude*",
    ".azure", ".kube", ".docker", ".config/gcloud", ".config/gh", ".config/hub", ".config/git/credentials",
    ".config/rclone", ".config/op", ".config/anthropic", ".config/claude", ".config/dragoman",
    ".pypirc", ".yarnrc.yml", ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials",
    ".m2/settings.xml", ".m2/settings-security.xml", ".gradle/gradle.properties", ".nuget/NuGet/NuGet.Config",
    ".terraformrc", ".terraform.d", ".vault-token", ".s3cfg", ".boto", ".pgpass", ".my.cnf",
    ".databrickscfg", ".password-store", ".local/share/keyrings",
    ".bash_history", ".zsh_history", ".python_history", ".node_repl_history", ".psql_history",
    ".mozilla", ".config/google-chrome", ".config/chromium", ".thunderbird",
    "Library/Keychains", "Library/Cookies",
)  # fmt: skip

# What a checkout may hold; samples are for everybody.
_IN_TREE = (
    ".env", ".env.*", ".envrc", ".netrc", ".git-credentials", ".pypirc", "id_rsa", "id_dsa", "id_ecdsa",
    "id_ed25519",
)  # fmt: skip
# What every name in question begins with: a work tree may have a hundred thousand others.
_MAYBE = (".env", ".netrc", ".git-credentials", ".pypirc", "id_")
_HARMLESS = (
    ".env.example", ".env.*.example", ".env.sample", ".env.template", ".env.dist", ".env.defaults",
    ".env.test", ".env.d.ts", ".env.*.ts", ".env.*.js", ".env.*.py", ".env.*.md",
)  # fmt: skip
_NOT_LOOKED_INTO = frozenset({".git", "node_modules", ".venv", "venv", "__pycache__", ".tox", ".nox"})


def denied_paths(user_home: Path, own: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Everything that stays closed whatever is configured, by its real and its given name.

    Args:
        user_home: the user's home.
        own: folders of ours, such as the state folder; what a run needs of them is opened again by name.
    """
    found: dict[Path, None] = {}
    for pattern in _IN_HOME:
        matches = sorted(user_home.glob(pattern)) if "*" in pattern else [user_home / pattern]
        for path in matches:
            found[path] = None
            if path.exists():
                found[path.resolve()] = None
    for path in own:
        found[path] = None
        found[path.resolve()] = None
    return tuple(found)


def secret_files(tree: Path, *, spared: Iterable[str] = ()) -> tuple[Path, ...]:
    """Files of a work tree that hold secrets by their name.

    Args:
        tree: top of the work tree; dependencies and git's own folder are not looked into.
        spared: names relative to `tree` the user has chosen to bring along.
    """
    chosen = {tree / name for name in spared}
    return tuple(sorted(path for path in _walk(tree) if path not in chosen))


def _walk(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError:
        return
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _NOT_LOOKED_INTO:
                yield from _walk(Path(entry.path))
        elif (
            entry.name.startswith(_MAYBE)
            and is_secret_name(entry.name)
            and entry.is_file(follow_symlinks=False)
        ):
            yield Path(entry.path)


def is_secret_name(name: str) -> bool:
    """Whether a file of this name usually holds secrets."""
    if not name.startswith(_MAYBE):
        return False
    return any(fnmatchcase(name, sign) for sign in _IN_TREE) and not any(
        fnmatchcase(name, sign) for sign in _HARMLESS
    )
