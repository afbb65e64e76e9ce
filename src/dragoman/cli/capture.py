"""`capture`, `replay`: record what passes through the gateway, and play it again without a network."""

from __future__ import annotations

import os
import secrets
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dragoman.cli.render import show_json
from dragoman.config.paths import Home, resolve_home
from dragoman.errors import DragomanError, ExitCode

if TYPE_CHECKING:
    from dragoman.gateway.capture_file import Capture, Given, Summary
    from dragoman.gateway.capture_order import OrderState
    from dragoman.gateway.capture_replay import Replayed

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_SIDES = ("request", "upstream-request", "upstream-answer", "answer")
_MOST_LISTED = 40


class CannotWrite(DragomanError):
    """The file for an exported recording cannot be written."""

    code = "cannot_write"


@click.group(invoke_without_command=True)
@AS_JSON
@click.pass_context
def capture(context: click.Context, as_json: bool) -> None:
    """Record exchanges: what the client asked, what the provider was sent and answered, what the client got.

    Off by default. Prompts and answers are written to the state folder, readable by you alone; keys and
    tokens are overwritten before anything reaches the disk. Without a subcommand: how it stands, and a list.
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@capture.command("on")
@click.option("--minutes", type=float, default=10.0, show_default=True, help="Stop by itself after so long.")
@click.option("--exchanges", type=int, default=20, show_default=True, help="Stop by itself after so many.")
@click.option("--failed-only", is_flag=True, help="Keep only exchanges that end badly.")
@AS_JSON
def on(minutes: float, exchanges: int, failed_only: bool, as_json: bool) -> None:
    """Record from now on, for a while; running gateways take it up within half a second."""
    from dragoman.config.load import load_config
    from dragoman.config.paths import unwritable
    from dragoman.gateway.capture_order import (
        captures_folder,
        order_file,
        order_state,
        plan_order,
        write_order,
    )

    home = resolve_home(os.environ)
    rules = load_config(home, os.environ).retention
    order = plan_order(
        minutes=minutes,
        exchanges=exchanges,
        failed_only=failed_only,
        days=rules.captures_days,
        megabytes=rules.captures_mb,
        now=time.time(),
        id=secrets.token_hex(8),
    )
    try:
        write_order(home.state, order)
    except OSError as error:
        raise unwritable(order_file(home.state), error) from None
    if as_json:
        show_json(_plain(order_state(home.state, time.time())))
        return
    click.echo(_order_line(order_state(home.state, time.time())))
    click.echo(f"prompts and answers go to {captures_folder(home.state)}; secrets are overwritten")
    click.echo("dragoman capture list shows them, dragoman capture off ends it")


@capture.command("off")
@AS_JSON
def off(as_json: bool) -> None:
    """Record no more; what was recorded stays."""
    from dragoman.gateway.capture_order import order_state, remove_order

    home = resolve_home(os.environ)
    was_on = remove_order(home.state) is not None
    if as_json:
        show_json({"was_on": was_on, **_plain(order_state(home.state, time.time()))})
    else:
        click.echo("recording has ended" if was_on else "nothing was being recorded")


@capture.command("list")
@AS_JSON
def list_(as_json: bool) -> None:
    """How recording stands, and the recordings, the newest first."""
    _list(as_json)


@capture.command("show")
@click.argument("id")
@click.option("--body", type=click.Choice(_SIDES), help="Print this body as it is, and nothing else.")
@click.option("--request", "number", type=int, default=1, help="Which of several upstream requests.")
@AS_JSON
def show(id: str, body: str | None, number: int, as_json: bool) -> None:
    """Show a recording; ID is a request's id, the beginning of one, or `last`."""
    found = _find(id)
    if body is not None:
        sys.stdout.buffer.write(_body(found, body, number))
        sys.stdout.buffer.flush()
    elif as_json:
        show_json(_plain(found))
    else:
        _print_capture(found)


@capture.command("export")
@click.argument("id")
@click.option(
    "--output", "-o", metavar="FILE", help="Where to; `-` is the terminal. Default: ID.capture.json."
)
@AS_JSON
def export(id: str, output: str | None, as_json: bool) -> int:
    """Write a recording as a test case of its own: one file that `dragoman replay` plays anywhere.

    It is played once before it is written. Look through it before you give it away: prompts and answers are
    in it as they were.
    """
    from dragoman.gateway.capture_file import encode_capture, write_export
    from dragoman.gateway.capture_replay import replay as play

    found = _find(id)
    content = encode_capture(found, readable=True)
    if output == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return ExitCode.OK
    played = None if found.incomplete else play(found)
    file = Path(output or f"{found.id}.capture.json")
    try:
        write_export(file, content)
    except OSError as error:
        raise CannotWrite(f"cannot write {file}: {error.strerror or error}") from None
    same = played is not None and played.same
    if as_json:
        show_json({"id": found.id, "file": str(file.absolute()), "bytes": len(content), "replays": same})
        return ExitCode.OK
    click.echo(str(file))
    if found.incomplete:
        click.echo("it was too large to be recorded whole and cannot be replayed", err=True)
    elif not same:
        click.echo("it does not replay byte for byte: dragoman replay says where", err=True)
    return ExitCode.OK


@click.command()
@click.argument("file_or_id", metavar="FILE|ID")
@click.option("--output", "-o", metavar="FILE", help="Write there what the client would be told now.")
@AS_JSON
def replay(file_or_id: str, output: str | None, as_json: bool) -> int:
    """Play a recording through the real translator, without a network, and compare byte for byte.

    Exit code 0 when everything is the same, 1 when something is not; the difference is shown.
    """
    from dragoman.gateway.capture_file import open_capture
    from dragoman.gateway.capture_replay import describe_replay
    from dragoman.gateway.capture_replay import replay as play

    file = Path(file_or_id)
    played = play(open_capture(file) if file.is_file() else _find(file_or_id))
    if output is not None:
        try:
            Path(output).write_bytes(played.answer)
        except OSError as error:
            raise CannotWrite(f"cannot write {output}: {error.strerror or error}") from None
    if as_json:
        show_json(describe_replay(played))
    else:
        _print_replay(played)
    return ExitCode.OK if played.same else ExitCode.FAILED


def _home() -> Home:
    return resolve_home(os.environ)


def _find(id: str) -> Capture:
    from dragoman.gateway.capture_file import find_capture
    from dragoman.gateway.capture_order import captures_folder

    return find_capture(captures_folder(_home().state), id)


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def _list(as_json: bool) -> None:
    from dragoman.gateway.capture_file import list_captures
    from dragoman.gateway.capture_order import captures_folder, order_state

    home = _home()
    state = order_state(home.state, time.time())
    found = list_captures(captures_folder(home.state))
    if as_json:
        show_json({"capture": _plain(state), "captures": _plain(found)})
        return
    click.echo(_order_line(state))
    for each in found[:_MOST_LISTED]:
        click.echo(_summary_line(each))
    if len(found) > _MOST_LISTED:
        click.echo(f"and {len(found) - _MOST_LISTED} more")


def _order_line(state: OrderState) -> str:
    if state.stopped:
        return f"recording stopped: {state.stopped}"
    if not state.on or state.until is None:
        return "recording is off; dragoman capture on"
    until = datetime.fromtimestamp(state.until).astimezone().strftime("%H:%M:%S")
    kind = "failed exchanges" if state.failed_only else "exchanges"
    return f"recording until {until}, {state.recorded} of {state.exchanges} {kind}"


def _summary_line(each: Summary) -> str:
    at = datetime.fromtimestamp(each.at).astimezone().strftime("%m-%d %H:%M:%S")
    wires = f"{each.client_wire}→{each.upstream_wire or '?'}"
    end = each.failure or each.outcome
    mark = "  too large" if each.incomplete else ""
    where = f"{each.model} → {each.provider}/{each.upstream_model}" if each.provider else each.model
    return f"{each.id[:12]}  {at}  {wires:<19}  {each.status or '-':>3}  {end:<11}  {where}{mark}"


def _print_capture(found: Capture) -> None:
    from dragoman.gateway.capture_file import bytes_of

    at = datetime.fromtimestamp(found.at).astimezone().isoformat(timespec="seconds")
    click.echo(f"{found.id}  {at}  by dragoman {found.dragoman}; {found.redacted} places overwritten")
    asked = found.request
    size = len(bytes_of(asked.body))
    click.echo(f"client    {found.client or 'unknown'}: {asked.method} {asked.path}, {size} bytes")
    for number, sent in enumerate(found.upstream, 1):
        click.echo(f"upstream  {number}: {sent.method} {sent.url}, {len(bytes_of(sent.body))} bytes")
        if sent.answer is not None:
            click.echo(f"          {_given_line(sent.answer)}, {sent.end}")
        if sent.fault is not None:
            click.echo(f"          {sent.fault.code}: {sent.fault.message}")
    answer = "none" if found.answer is None else _given_line(found.answer)
    click.echo(f"answer    {answer}, {found.ended}")
    click.echo(f"outcome   {found.outcome}" + (f" ({found.failure})" if found.failure else ""))
    if found.incomplete:
        click.echo("it was too large to be recorded whole")
    click.echo(f"dragoman capture show {found.id[:12]} --body answer   prints a body")


def _given_line(given: Given) -> str:
    times = [at for at, _ in given.pieces]
    span = f" from {times[0] / 1000:.3f} to {times[-1] / 1000:.3f} s" if times else ""
    silences = sum(1 for _, length in given.pieces if not length)
    quiet = f", {silences} silences" if silences else ""
    size = sum(length for _, length in given.pieces)
    return f"{given.status}, {size} bytes in {len(given.pieces) - silences} pieces{span}{quiet}"


def _body(found: Capture, side: str, number: int) -> bytes:
    from dragoman.gateway.capture_file import NoCapture, bytes_of

    if side == "request":
        return bytes_of(found.request.body)
    if side == "answer":
        return b"" if found.answer is None else bytes_of(found.answer.body)
    if not 1 <= number <= len(found.upstream):
        raise NoCapture(f"{found.id} has {len(found.upstream)} upstream requests, not {number}")
    sent = found.upstream[number - 1]
    if side == "upstream-request":
        return bytes_of(sent.body)
    return b"" if sent.answer is None else bytes_of(sent.answer.body)


def _print_replay(played: Replayed) -> None:
    for part in played.parts:
        if part.same:
            click.echo(f"same       {part.what}  ({part.bytes} bytes)")
            continue
        where = "" if part.at is None else f" from byte {part.at} on"
        click.echo(f"different  {part.what}{where}")
        for line in part.diff:
            click.echo(f"  {line}")
    if played.same:
        click.echo(f"{played.id}: the same, byte for byte")
    else:
        by = "" if played.dragoman == played.recorded_by else f" (recorded by dragoman {played.recorded_by})"
        click.echo(f"{played.id}: not the same{by}")
