"""`workspace`, `apply`, `export`, `discard`, `cleanup`: a worker's changes on their way to the user."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal, cast

import click

from dragoman.cli.render import show_json
from dragoman.config.paths import resolve_home
from dragoman.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from dragoman.workspace import ApplyResult, Change, Conflict, Preview, Workspace

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_LETTERS = {
    "added": "A",
    "modified": "M",
    "deleted": "D",
    "renamed": "R",
    "copied": "C",
    "type_changed": "T",
}


def _store() -> Path:
    """The state folder, after dealing with applies that were interrupted."""
    from dragoman.workspace import printable, recover, unshown

    store = resolve_home(os.environ).state
    for recovered in recover(store):
        click.echo(
            f"an interrupted apply in {recovered.repository} was {recovered.outcome.replace('_', ' ')}",
            err=True,
        )
        for name, place in recovered.saved:
            click.echo(f"  {printable(unshown(name))} had changed since; its file is {place}", err=True)
    return store


@click.group(invoke_without_command=True)
@AS_JSON
@click.pass_context
def workspace(context: click.Context, as_json: bool) -> None:
    """The clones workers write in."""
    if context.invoked_subcommand is None:
        context.invoke(list_workspaces, as_json=as_json)


@workspace.command("list")
@click.option("--trash", is_flag=True, help="List what was discarded instead.")
@AS_JSON
def list_workspaces(trash: bool, as_json: bool) -> None:
    """List the workspaces, oldest first."""
    from dragoman.workspace import all_trash, all_workspaces
    from dragoman.workspace.describe import describe_workspace

    store = _store()
    found = all_trash(store) if trash else all_workspaces(store)
    if as_json:
        show_json({"workspaces": [describe_workspace(item) for item in found]})
        return
    for item in found:
        since = (item.discarded_at or item.created_at)[:16].replace("T", " ")
        state = "applied" if item.applied else item.dirty
        click.echo(f"{item.id}  {since}  {state:<9}  {item.repository}")
    if not found:
        click.echo("none", err=True)


@workspace.command("show")
@click.argument("id")
@click.option("--patch", "with_patch", is_flag=True, help="Print the delta as a patch and nothing else.")
@AS_JSON
def show(id: str, with_patch: bool, as_json: bool) -> None:
    """Show what the worker changed in a workspace."""
    from dragoman.workspace import delta, open_workspace, patch
    from dragoman.workspace.describe import describe_delta, describe_workspace

    opened = open_workspace(_store(), id)
    found = delta(opened)
    if with_patch and not as_json:
        sys.stdout.buffer.write(patch(opened, tree=found.tree))
        return
    if as_json:
        answer = {**describe_workspace(opened), **describe_delta(found)}
        if with_patch:
            answer["patch"] = patch(opened, tree=found.tree).decode("utf-8", "replace")
        show_json(answer)
        return
    click.echo(f"{opened.id}  {opened.path}")
    _print_changes(found.changes)
    for item in found.skipped:
        click.echo(f"  !  {os.fsdecode(item.name)!r}: {item.reason.replace('_', ' ')}")
    if found.ignored_total:
        click.echo(
            f"  {found.ignored_total} ignored (not applied): {', '.join(i.path for i in found.ignored[:5])}"
        )


@workspace.command("restore")
@click.argument("id")
@AS_JSON
def restore_workspace(id: str, as_json: bool) -> None:
    """Bring a discarded workspace back."""
    from dragoman.workspace import restore
    from dragoman.workspace.describe import describe_workspace

    back = restore(_store(), id)
    if as_json:
        show_json(describe_workspace(back))
    else:
        click.echo(f"restored {back.id}  {back.path}")


@click.command()
@click.argument("id")
@click.option(
    "--preview", "only_preview", is_flag=True, help="Say what would happen, with a token; write nothing."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--token", help="Apply exactly the preview of this token.")
@click.argument("more_paths", nargs=-1, metavar="")
@click.option("--paths", metavar="P...", multiple=True, help="Only these files or folders.")
@click.option("--include-ignored", multiple=True, help="Count this ignored file or folder as a change.")
@click.option(
    "--on-dirty",
    type=click.Choice(["refuse", "merge"]),
    default="refuse",
    show_default=True,
    help="Where you have uncommitted edits in a file that would be written.",
)
@click.option(
    "--cleanup", "clean_up", is_flag=True, help="Discard the workspace if nothing of it is left out."
)
@click.option("--patch", "with_patch", is_flag=True, help="Show the change as a patch.")
@AS_JSON
def apply(
    id: str,
    only_preview: bool,
    yes: bool,
    token: str | None,
    paths: tuple[str, ...],
    more_paths: tuple[str, ...],
    include_ignored: tuple[str, ...],
    on_dirty: str,
    clean_up: bool,
    with_patch: bool,
    as_json: bool,
) -> int:
    """Merge a worker's changes into your files: all of them, or nothing."""
    from dragoman.jobs.consent import check_applicable
    from dragoman.jobs.folder import RunFolder
    from dragoman.workspace import apply as carry_out
    from dragoman.workspace import open_workspace, preview
    from dragoman.workspace.describe import describe_preview, describe_result

    if only_preview and (yes or token or clean_up):
        raise click.UsageError("--preview writes nothing, so it goes with none of --yes, --token, --cleanup")
    if more_paths and not paths:
        raise click.UsageError(f"unexpected word {more_paths[0]!r}; paths go after --paths")
    paths += more_paths
    policy = cast("Literal['refuse', 'merge']", on_dirty)
    opened = open_workspace(_store(), id)
    check_applicable(RunFolder(resolve_home(os.environ).runs / opened.id), paths)
    if token is None:
        seen = preview(
            opened, paths=paths, on_dirty=policy, include_ignored=include_ignored, with_patch=with_patch
        )
        stuck = bool(seen.conflicts)
        if only_preview or stuck:
            if as_json:
                show_json(describe_preview(seen))
            else:
                _print_preview(opened, seen)
            return ExitCode.CONFLICT if stuck else ExitCode.OK
        if not yes and not seen.already_applied:
            if as_json or not sys.stdin.isatty():
                if as_json:
                    show_json({**describe_preview(seen), "error_code": "confirmation_required"})
                else:
                    _print_preview(opened, seen)
                    click.echo("nothing was written: confirm with --yes", err=True)
                return ExitCode.NEEDS_USER
            _print_preview(opened, seen)
            if not click.confirm(f"Write this into {opened.repository}?"):
                return ExitCode.NEEDS_USER
        token = seen.token
    done = carry_out(
        opened, token=token, paths=paths, on_dirty=policy, include_ignored=include_ignored, cleanup=clean_up
    )
    if as_json:
        show_json(describe_result(done))
    else:
        _print_result(done)
    return ExitCode.OK


@click.command()
@click.argument("id")
@click.option("--branch", required=True, help="Name of the branch to make.")
@click.option("--message", help="Message of the commit.")
@click.option("--force", is_flag=True, help="Move the branch if it exists.")
@AS_JSON
def export(id: str, branch: str, message: str | None, force: bool, as_json: bool) -> None:
    """Make a branch of a worker's changes; your files stay as they are."""
    from dragoman.jobs.consent import check_applicable
    from dragoman.jobs.folder import RunFolder
    from dragoman.workspace import export as carry_out
    from dragoman.workspace import open_workspace
    from dragoman.workspace.describe import describe_export

    opened = open_workspace(_store(), id)
    check_applicable(RunFolder(resolve_home(os.environ).runs / opened.id))
    made = carry_out(opened, branch, message=message, force=force)
    if as_json:
        show_json(describe_export(made))
    else:
        click.echo(f"{made.branch}  {made.commit[:12]}  {made.file_count} files")


@click.command()
@click.argument("id")
@AS_JSON
def discard(id: str, as_json: bool) -> None:
    """Put a workspace into the trash, from where it can be brought back."""
    from dragoman.workspace import discard as carry_out
    from dragoman.workspace.describe import describe_workspace
    from dragoman.workspace.errors import WorkspaceNotFound
    from dragoman.workspace.store import read_record, workspace_folder

    store = _store()
    folder = workspace_folder(store, id)
    if not folder.is_dir():
        raise WorkspaceNotFound(f"there is no workspace {id}", hint="dragoman workspace list")
    gone = carry_out(read_record(folder))
    if as_json:
        show_json(describe_workspace(gone))
    else:
        click.echo(f"discarded {gone.id}; dragoman workspace restore {gone.id} brings it back")


@click.command()
@click.option(
    "--older-than", "hours", type=float, default=24.0, show_default=True, help="Least age, in hours."
)
@click.option("--trash-older-than", "trash_hours", type=float, help="Also empty the trash of what is older.")
@click.option("--execute", is_flag=True, help="Do it; without this it is only said what would be done.")
@AS_JSON
def cleanup(hours: float, trash_hours: float | None, execute: bool, as_json: bool) -> None:
    """Discard workspaces whose work was applied; work that was not applied is always kept."""
    from datetime import timedelta

    from dragoman.jobs.folder import RunFolder
    from dragoman.process.locks import is_locked
    from dragoman.workspace import cleanup as carry_out
    from dragoman.workspace.describe import describe_cleanup

    store = _store()
    runs = resolve_home(os.environ).runs
    entries = carry_out(
        store,
        # A run and its workspace share one name; the runner holds the run's lock while anything of it lives.
        in_use=lambda id: is_locked(RunFolder(runs / id).lock_file),
        older_than=timedelta(hours=hours),
        trash_older_than=None if trash_hours is None else timedelta(hours=trash_hours),
        execute=execute,
    )
    if as_json:
        show_json({"dry_run": not execute, "entries": [describe_cleanup(entry) for entry in entries]})
        return
    for entry in entries:
        verb = entry.action if execute or entry.action == "keep" else f"would {entry.action}"
        click.echo(f"{entry.id}  {verb}: {'; '.join(entry.reasons)}")
    if not execute and any(entry.action != "keep" for entry in entries):
        click.echo("nothing was done: add --execute", err=True)


def _print_changes(changes: tuple[Change, ...]) -> None:
    from dragoman.workspace import printable

    for change in changes:
        lines = "binary" if change.added_lines is None else f"+{change.added_lines} -{change.deleted_lines}"
        old = f"{printable(change.old_name)} -> " if change.old_name is not None else ""
        mode = f"  {change.old_mode} -> {change.new_mode}" if _mode_changed(change) else ""
        click.echo(f"  {_LETTERS[change.status]}  {old}{printable(change.name)}  {lines}{mode}")


def _mode_changed(change: Change) -> bool:
    return "000000" not in (change.old_mode, change.new_mode) and change.old_mode != change.new_mode


def _print_preview(opened: Workspace, seen: Preview) -> None:
    if seen.already_applied:
        click.echo(f"{opened.id}: already applied")
        return
    click.echo(f"{opened.id} -> {opened.repository}")
    _print_changes(seen.changes)
    for name in seen.merged:
        click.echo(f"     {name}: merged with your own changes")
    for conflict in seen.conflicts:
        _print_conflict(conflict)
    if seen.left_out:
        click.echo(f"  left out: {', '.join(seen.left_out[:5])}")
    if seen.patch:
        sys.stdout.flush()
        sys.stdout.buffer.write(seen.patch)
        sys.stdout.buffer.flush()
    if not seen.conflicts:
        click.echo(f"  token {seen.token}")


def _print_conflict(conflict: Conflict) -> None:
    click.echo(f"  ✗  {conflict.message}")
    for hunk in conflict.hunks:
        click.echo(f"       line {hunk.line}")
        for mark, side in (("you   ", hunk.ours), ("worker", hunk.theirs)):
            for line in side.splitlines():
                click.echo(f"       {mark} | {line}")


def _print_result(done: ApplyResult) -> None:
    if done.already_applied:
        click.echo("already applied")
    _print_changes(done.changes)
    for reason in done.kept_because:
        click.echo(f"the workspace is kept: {reason}")
    if done.discarded:
        click.echo("the workspace was discarded")
