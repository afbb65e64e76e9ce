"""`usage`, `quota`, `gc`: what was used, what is left, what can go."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.render import show_json
from dragoman.config.paths import resolve_home
from dragoman.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from dragoman.cli.control_client import ControlClient

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

_BY = ("model", "client", "key", "session", "run", "job", "day", "provider")
_MOST_ROWS = 40
_CHART_DAYS = 14
_COLUMNS = (
    "name",
    "provider",
    "requests",
    "failed",
    "cancelled",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced",
    "plan",
    "unreported",
    "estimated",
    "total_ms",
    "gateway_ms",
)


def _control() -> ControlClient:
    from dragoman.cli.control_client import ControlClient
    from dragoman.daemon.connect import ensure_daemon

    home = resolve_home(os.environ)
    return ControlClient(home, ensure_daemon(home).url)


@click.command()
@click.option("--by", type=click.Choice(_BY), default="model", show_default=True, help="What to group by.")
@click.option("--since", metavar="WHEN", help="Only from then on: 12h, 7d, or 2026-01-31 (UTC).")
@click.option("--until", metavar="WHEN", help="Only before then.")
@click.option("--run", "runs", multiple=True, metavar="ID", help="Only this delegated run; may be repeated.")
@click.option("--session", metavar="ID", help="Only this session of a client.")
@click.option("--client", metavar="NAME", help="Only this client program, such as codex_exec.")
@click.option("--model", metavar="NAME", help="Only this model.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values with a heading.")
@AS_JSON
def usage(
    by: str,
    since: str | None,
    until: str | None,
    runs: tuple[str, ...],
    session: str | None,
    client: str | None,
    model: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Tokens and money: how much went where. Days are those of UTC."""
    if as_csv and as_json:
        raise click.UsageError("choose --csv or --json")
    asked: dict[str, Any] = {
        "since": since,
        "until": until,
        "run": list(runs),
        "session": session,
        "client": client,
        "model": model,
    }
    asked = {name: value for name, value in asked.items() if value}
    at_terminal = sys.stdout.isatty() and not (as_csv or as_json)
    with _control() as control:
        found = control.get("/usage", by=by, **asked)
        days = control.get("/usage", by="day", **asked) if at_terminal and by != "day" else found
    if as_json:
        show_json(found)
    elif as_csv:
        _print_csv(found["groups"])
    else:
        _print_usage(found, days["groups"] if at_terminal else [])


def _print_csv(groups: Iterable[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(_COLUMNS)
    for group in groups:
        writer.writerow(["" if group[name] is None else group[name] for name in _COLUMNS])


def _print_usage(found: dict[str, Any], days: list[dict[str, Any]]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    total = found["total"]
    if not total["requests"]:
        console.print("nothing was used in that time")
    else:
        console.print(_usage_table(found))
    for line in _remarks(found):
        console.print(line, style="dim")
    if days and total["requests"]:
        _print_chart(console, days[-_CHART_DAYS:])


def _usage_table(found: dict[str, Any]) -> Any:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(found["by"], overflow="fold", min_width=12)
    for title in ("requests", "failed", "input", "cached", "output", "cost"):
        table.add_column(title, justify="right", no_wrap=True)
    groups = found["groups"]
    shown = groups[-_MOST_ROWS:] if found["by"] == "day" else groups[:_MOST_ROWS]
    for group in shown:
        name = escape(group["name"]) or "[dim]none[/]"
        if found["by"] in ("model", "key") and group["provider"] not in ("*", ""):
            name += f" [dim]{escape(group['provider'])}[/]"
        table.add_row(name, *_cells(group))
    if len(groups) > len(shown):
        table.add_row(f"[dim]and {len(groups) - len(shown)} more[/]")
    if len(groups) > 1:
        table.add_section()
        table.add_row("[bold]total[/]", *_cells(found["total"]))
    return table


def _cells(group: dict[str, Any]) -> tuple[str, ...]:
    failed = group["failed"]
    return (
        str(group["requests"]),
        f"[red]{failed}[/]" if failed else "",
        _tokens(group["input_tokens"]),
        _tokens(group["cache_read_tokens"]),
        _tokens(group["output_tokens"]),
        _cost(group),
    )


def _cost(group: dict[str, Any]) -> str:
    """Money, and a sign where some of it is not known: never a zero for that."""
    cost = group["cost_usd"]
    if cost is not None:
        more = " +" if group["plan"] or group["unpriced"] else ""
        return (f"${cost:,.2f}" if cost >= 1 or cost == 0 else f"${cost:.4f}") + more
    return " +".join(word for word, there in (("plan", group["plan"]), ("?", group["unpriced"])) if there)


def _remarks(found: dict[str, Any]) -> list[str]:
    total, lines = found["total"], []
    silent = total["unreported"] - total["estimated"]
    if total["estimated"]:
        lines.append(f"{total['estimated']} requests: tokens estimated, the provider did not report them")
    if silent:
        lines.append(f"{silent} requests: nothing known of their tokens (refused, failed or cancelled)")
    if total["plan"]:
        lines.append(
            f"{total['plan']} requests: a plan pays for them; dragoman quota shows what is left of it"
        )
    if total["unpriced"]:
        lines.append(f"{total['unpriced']} requests: price not known; give one in \\[models.NAME] price")
    if found["lost_requests"]:
        lines.append(f"{found['lost_requests']} requests are missing here: the disk was full")
    return lines


def _print_chart(console: Console, days: list[dict[str, Any]]) -> None:
    """Bars of tokens by day, as wide as the terminal."""
    from rich.table import Table

    most = max((day["input_tokens"] + day["output_tokens"] for day in days), default=0)
    if not most:
        return
    width = max(10, min(60, console.width - 24))
    sign = "█" if (console.encoding or "").lower().startswith("utf") else "#"
    chart = Table.grid(padding=(0, 1))
    for day in days:
        tokens = day["input_tokens"] + day["output_tokens"]
        length = max(round(width * tokens / most), 1 if tokens else 0)
        chart.add_row(f"[dim]{day['name']}[/]", f"[cyan]{sign * length}[/]", _tokens(tokens))
    console.print(chart)


def _tokens(count: int) -> str:
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if count >= size:
            return f"{count / (1000 if unit == 'k' else size):.1f}{unit}"
    return str(count)


@click.command()
@click.argument("provider", required=False)
@click.option("--fresh", is_flag=True, help="Ask the provider again, however lately that was done.")
@AS_JSON
def quota(provider: str | None, fresh: bool, as_json: bool) -> int:
    """What is left of providers' plans, as they say it themselves. Exit code 1 when none says anything."""
    asked = {"provider": provider} if provider else {}
    if fresh:
        asked["fresh"] = "1"
    with _control() as control:
        found = control.get("/quota", **asked)
    answered = any(each["status"] == "ok" for each in found["providers"])
    if as_json:
        show_json(found)
    else:
        _print_quota(found["providers"])
    return ExitCode.OK if answered else ExitCode.FAILED


def _print_quota(providers: list[dict[str, Any]]) -> None:
    if not providers:
        click.echo("no provider is configured; dragoman providers add")
    for each in providers:
        plan = f"  plan {each['plan']}" if each["plan"] else ""
        click.echo(f"{each['provider']}{plan}" + (f"  {each['reason']}" if each["reason"] else ""))
        for window in each["windows"]:
            filled = round(window["used_percent"] / 5)
            bar = "#" * filled + "." * (20 - filled)
            counts = ""
            if window.get("limit") is not None and window.get("used") is not None:
                counts = f"  {_tokens(window['used'])} of {_tokens(window['limit'])}"
            resets = window.get("resets_at")
            until = f"  resets {_when(resets)}" if resets else ""
            click.echo(f"  {window['name']:<14} {bar} {window['used_percent']:5.1f} % used{counts}{until}")


def _when(at: float) -> str:
    """A time as people say it: the hour today, else the day too."""
    then, now = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(time.time()).astimezone()
    return then.strftime("%H:%M" if then.date() == now.date() else "%Y-%m-%d %H:%M")


@click.command()
@click.option("--execute", is_flag=True, help="Do it; without this it is only said what would go.")
@AS_JSON
def gc(execute: bool, as_json: bool) -> int:
    """What can go by `[retention]`, with sizes. Unapplied work and runs that live are always kept."""
    with _control() as control:
        found = control.post("/gc", {}) if execute else control.get("/gc")
    broken = [sweep for sweep in found["sweeps"] if sweep["error"]]
    if as_json:
        show_json(found)
    else:
        _print_sweeps(found)
    return ExitCode.FAILED if broken else ExitCode.OK


def _print_sweeps(found: dict[str, Any]) -> None:
    verb = "would go" if found["dry_run"] else "gone"
    for sweep in found["sweeps"]:
        gone = [item for item in sweep["items"] if not item["kept"]]
        said = sweep["error"] or f"{len(gone)} {verb}, {_bytes(sweep['bytes'])}"
        click.echo(f"{sweep['what']:<11} {said}" + (f"  (kept: {sweep['rule']})" if sweep["rule"] else ""))
        for item in sweep["items"]:
            mark = "keep " if item["kept"] else "     "
            click.echo(f"  {mark}{item['id']}  {_bytes(item['bytes'])}  {item['reason']}")
    click.echo(f"in all {_bytes(found['bytes'])}")
    if found["dry_run"] and any(not item["kept"] for sweep in found["sweeps"] for item in sweep["items"]):
        click.echo("nothing was done: add --execute", err=True)


def _bytes(size: int) -> str:
    for unit, least in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size} B"
