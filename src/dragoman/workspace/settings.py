"""Which of a repository's settings our own git commands obey.

A repository's `.git/config` can name programs: hooks, fsmonitor, filters, drivers, pagers, credential
helpers. It may have come with an archive, and a worker owns the one in its clone. So commands that touch
files never run on either folder. They run on a git folder of our own whose configuration is written here:
settings that only say how bytes are to be read are carried over from the repository, settings that name
programs are not.

Filters are the exception a user depends on (see docs/adr/0010): those of the account (system and global
configuration) are carried over, the repository's own only where they are git-lfs word for word or the user
named them as trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PLAIN = frozenset(
    {
        "core.autocrlf",
        "core.bigfilethreshold",
        "core.checkroundtripencoding",
        "core.eol",
        "core.filemode",
        "core.ignorecase",
        "core.precomposeunicode",
        "core.protecthfs",
        "core.protectntfs",
        "core.symlinks",
        "diff.renamelimit",
        "diff.renames",
        "merge.directoryrenames",
        "merge.renamelimit",
        "merge.renames",
        "merge.renormalize",
    }
)
"""Settings of the repository that change how bytes are read or merged, and can start nothing.

`core.excludesFile` and `core.attributesFile` are not among them: the account's are read by git itself, and a
repository's could name a device that never ends."""

OURS: tuple[tuple[str, str], ...] = (
    ("core.bare", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.splitIndex", "false"),
    ("core.safecrlf", "false"),
    ("core.trustctime", "true"),
    ("core.checkStat", "default"),
    ("core.preloadIndex", "true"),
    ("core.quotePath", "true"),
    # What is written here is also in the user's or the worker's files, and 2000 of them take 2 s to sync.
    ("core.fsync", "none"),
    ("core.logAllRefUpdates", "false"),
    ("index.sparse", "false"),
    ("checkout.workers", "0"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("protocol.allow", "never"),
    ("submodule.recurse", "false"),
    ("commit.gpgSign", "false"),
    ("credential.helper", ""),
)
"""What our own git folder always says; it stands above the account's settings there."""

GUARD: tuple[str, ...] = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.alternateRefsCommand=false",
    "-c",
    "protocol.allow=never",
    "-c",
    "credential.helper=",
)
"""For the few commands that run on the user's own git folder (all of them read, but for `export`)."""

_LFS = frozenset(
    {
        "git-lfs clean -- %f",
        "git-lfs smudge -- %f",
        "git-lfs smudge --skip -- %f",
        "git-lfs filter-process",
        "git-lfs filter-process --skip",
    }
)
_FILTER = re.compile(r"filter\.(?P<name>.+)\.(?P<part>clean|smudge|process|required)", re.DOTALL)
_OF_ACCOUNT = frozenset({"system", "global", "command"})


@dataclass(frozen=True)
class Setting:
    """One configured value: its scope, its key (section and variable in lower case), the value."""

    scope: str
    key: str
    value: str


@dataclass(frozen=True)
class Settings:
    """What is carried over from a repository.

    Attributes:
        plain: settings that start nothing, last one wins.
        filters: settings of the filters that may run.
        refused_filters: names of filters the repository itself configures and nobody trusted.
        sparse: whether the user's work tree is a sparse checkout.
        sparse_cone: whether its patterns are folders only.
        partial: whether objects may be missing because the user's clone fetches them when needed.
    """

    plain: tuple[tuple[str, str], ...]
    filters: tuple[tuple[str, str], ...]
    refused_filters: frozenset[str]
    sparse: bool
    sparse_cone: bool
    partial: bool


def parse_list(raw: bytes) -> Iterator[Setting]:
    """Read `git config --list -z --show-scope`."""
    parts = raw.split(b"\0")
    for scope, entry in zip(parts[::2], parts[1::2], strict=False):
        key, has_value, value = entry.decode("utf-8", "surrogateescape").partition("\n")
        yield Setting(scope.decode(), key, value if has_value else "true")


def plan_settings(given: Iterable[Setting], trusted_filters: frozenset[str] = frozenset()) -> Settings:
    """Decide what of a repository's configuration our git folder repeats.

    Args:
        given: the effective configuration, in git's order.
        trusted_filters: names of filters the user allowed although the repository itself configures them.
    """
    plain: dict[str, str] = {}
    account: dict[str, dict[str, str]] = {}
    local: dict[str, dict[str, str]] = {}
    sparse = {"core.sparsecheckout": False, "core.sparsecheckoutcone": False}
    partial = False
    for setting in given:
        if setting.key in PLAIN:
            plain[setting.key] = setting.value
        elif setting.key in sparse:
            sparse[setting.key] = is_true(setting.value)
        elif setting.key == "extensions.partialclone" or setting.key.endswith(".promisor"):
            partial = True
        elif match := _FILTER.fullmatch(setting.key):
            owner = account if setting.scope in _OF_ACCOUNT else local
            owner.setdefault(match["name"], {})[match["part"]] = setting.value
    refused: set[str] = set()
    for name, parts in local.items():
        if name in trusted_filters or all(v in _LFS for part, v in parts.items() if part != "required"):
            account.setdefault(name, {}).update(parts)
        elif name not in account:
            refused.add(name)
    return Settings(
        plain=tuple(plain.items()),
        filters=tuple(
            (f"filter.{name}.{part}", value)
            for name, parts in account.items()
            for part, value in parts.items()
        ),
        refused_filters=frozenset(refused),
        sparse=sparse["core.sparsecheckout"],
        sparse_cone=sparse["core.sparsecheckoutcone"],
        partial=partial,
    )


def is_true(value: str) -> bool:
    """Read a git boolean."""
    return value.lower() in ("true", "yes", "on", "1")


def render(values: Iterable[tuple[str, str]]) -> str:
    """Write settings in git's configuration syntax; names git could not read back are left out."""
    lines: list[str] = []
    for key, value in values:
        section, _, rest = key.partition(".")
        subsection, _, variable = rest.rpartition(".")
        if "\n" in subsection or "\0" in key + value:
            continue
        escaped = subsection.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'[{section} "{escaped}"]' if subsection else f"[{section}]")
        lines.append(f"\t{variable} = {_quote(value)}")
    return "\n".join(lines) + "\n"


def _quote(value: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t")):
        value = value.replace(plain, escaped)
    return f'"{value}"'
