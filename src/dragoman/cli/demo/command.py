"""The command `dragoman demo` and its summary."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from dragoman.cli.demo.play import PlayOutcome


@click.command("demo", short_help="Delegate a task to the real Claude Code, with no key and no network")
@click.option("--scenario", default="demo", show_default=True, help="A shipped scenario or a file.")
@click.option(
    "--over",
    "wires",
    type=click.Choice(["messages", "chat"]),
    multiple=True,
    help="Play over an upstream of this wire only (default: both, one after the other).",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end; progress to stderr.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Also save what the terminal showed as an SVG.",
)
def demo(scenario: str, wires: Sequence[str], as_json: bool, picture: Path | None) -> None:
    """Show the main job on this machine: no key, no network, nothing left behind.

    A task packet is delegated to the real Claude Code through the gateway on the embedded model, in an
    isolated workspace; the result is proved by running the packet's own validation command before and
    after, previewed, and applied to a scratch repository.
    """
    from dragoman.cli.demo.play import play
    from dragoman.cli.demo.stage import set_stage
    from dragoman.cli.interruptions import Interruptions
    from dragoman.cli.progress import make_console, save_picture
    from dragoman.cli.render import show_json

    console = make_console(stderr=as_json, picture=picture is not None)
    started = time.monotonic()
    chosen = tuple(dict.fromkeys(wires)) or ("messages", "chat")
    outcomes: list[PlayOutcome] = []
    with ExitStack() as stack:
        interruptions = stack.enter_context(Interruptions().handled())
        worker = _check_surroundings()
        console.print(f"[bold]dragoman demo[/]  [dim]{worker}, the embedded model, no key, no network[/]")
        stage = stack.enter_context(set_stage(os.environ, interruptions, scenario=scenario))
        for number, wire in enumerate(chosen, start=1):
            console.print()
            console.print(f"[bold]Play {number} of {len(chosen)}[/]: a provider that speaks [bold]{wire}[/]")
            outcomes.append(play(stage, wire, console))
        console.print()
        console.print(_ledger(outcomes))
    wall_s = time.monotonic() - started
    console.print(f"[green]✓[/] the test failed before and passes now: {wall_s:.1f} s, nothing left behind")
    if picture is not None:
        save_picture(console, picture, title="dragoman demo")
    if as_json:
        plays = [_as_json(outcome) for outcome in outcomes]
        show_json({"ok": True, "wall_s": round(wall_s, 2), "plays": plays})


def _check_surroundings() -> str:
    """Look for git and Claude Code before anything is made; the worker's name and version.

    Raises:
        GitMissing, GitTooOld, ClaudeCodeMissing: with the next command.
    """
    from dragoman.clients.claude_code import find_claude_code
    from dragoman.workspace.git import Git

    Git.find(os.environ)
    client = find_claude_code(None, os.environ)
    return f"Claude Code {client.version_text} from {client.source}"


def _ledger(outcomes: Sequence[PlayOutcome]) -> Table:
    """What it cost: requests and tokens by model, wall time, and how much of it was the gateway's own."""
    from rich.table import Table

    table = Table(title="Ledger", title_justify="left", title_style="bold", header_style="dim", box=None)
    for heading in ("model", "upstream", "requests", "tokens in", "from cache", "out", "wall", "gateway"):
        table.add_column(heading, justify="left" if heading in ("model", "upstream") else "right")
    for outcome in outcomes:
        for row in outcome.usage["by_model"]:
            table.add_row(
                row["model"],
                ", ".join(row["upstream_wires"]),
                f"{row['requests']}",
                f"{row['input_tokens']:,}",
                f"{row['cache_read_tokens']:,}",
                f"{row['output_tokens']:,}",
                f"{outcome.wall_s:.1f} s",
                f"{row['gateway_ms']:.1f} ms",
            )
    return table


def _as_json(outcome: PlayOutcome) -> dict[str, Any]:
    import msgspec

    return {
        "wire": outcome.wire,
        "result": outcome.result,
        "patch": outcome.patch,
        "applied": outcome.applied,
        "proof": msgspec.to_builtins(outcome.proof),
        "usage": outcome.usage,
        "wall_s": round(outcome.wall_s, 2),
    }
