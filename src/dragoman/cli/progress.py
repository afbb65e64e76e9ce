"""A run's events as lines a person can follow: styled at a terminal, plain text elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_LABEL_WIDTH = 10
_SYMBOLS = {
    "passed": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "skipped": "[yellow]–[/]",
    "timed_out": "[red]⏱[/]",
}
_TEXT_LIMIT = 400
_DIFF_STYLES = (("+++ ", "bold"), ("@@", "magenta"), ("+", "green"), ("-", "red"))


_PICTURE_COLUMNS = 112

# Rich's own frame loads a font from a delivery network; a picture in the documentation loads nothing.
_PICTURE_FRAME = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ white-space: pre;
 font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
 font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" \
height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def make_console(*, stderr: bool = False, picture: bool = False) -> Console:
    """The console every command writes with; a pipe gets plain lines that are never folded.

    Parameters:
        stderr: write there instead of to stdout.
        picture: remember everything for `save_picture`, in colour and at a fixed width.
    """
    if picture:
        return Console(
            stderr=stderr, highlight=False, record=True, force_terminal=True, width=_PICTURE_COLUMNS
        )
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PICTURE_COLUMNS
    return console


def save_picture(console: Console, path: Path, *, title: str) -> None:
    """Write everything a recording console has shown as an SVG that loads nothing from elsewhere."""
    path.write_text(console.export_svg(title=title, code_format=_PICTURE_FRAME), encoding="utf-8")


class RunProgress:
    """Prints a run's events as they come.

    Parameters:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, label: str, text: str) -> None:
        """One labelled line; `text` is rich markup. At a terminal, what is too long goes on below itself."""
        if not self._console.is_terminal:
            self._console.print(f"  {label:<{_LABEL_WIDTH}} {text}")
            return
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=_LABEL_WIDTH + 2)
        grid.add_column(overflow="fold")
        grid.add_row(f"  [bold]{label}[/]", text)
        self._console.print(grid)

    def show(self, event: dict[str, Any]) -> None:
        """Print one event of `events.jsonl`; kinds a person does not need are left out."""
        match event["kind"]:
            case "workspace":
                self.line(
                    "workspace",
                    f"shared clone at {event['base'][:10]}; [dim]your files and .git stay untouched[/]",
                )
            case "lint":
                for remark in event["remarks"]:
                    self.line("packet", f"[yellow]note[/] {escape(remark['text'])}")
            case "evidence":
                self.line(event["moment"], self._observation(event["observation"]))
            case "worker_started":
                version = event.get("version") or ""
                self.line(
                    "worker", f"{escape(event['client'])} {escape(version)}, model {escape(event['model'])}"
                )
            case "thought":
                self._quote("thinks", event["text"], "dim italic")
            case "said":
                self._quote("says", event["text"], "cyan")
            case "tool":
                self.line("", f"[magenta]{escape(event['name']):<6}[/] {escape(event['summary'])}")
            case "denied":
                self.line("", f"[red]denied[/] {escape(event['name'])}: {escape(event['summary'])}")
            case "retry":
                self.line("worker", f"[yellow]retrying[/] {escape(event['summary'])}")
            case "claims":
                self._claims(event)
            case "delta":
                self.line("delta", _files(event["files"]))
            case _:
                pass

    def diff(self, patch: str) -> None:
        """A patch for reading: file names, hunks and lines, coloured at a terminal."""
        for line in patch.splitlines():
            if line.startswith(("diff --git ", "index ", "--- ")):
                continue
            style = next((style for start, style in _DIFF_STYLES if line.startswith(start)), "dim")
            self.line("", f"[{style}]{escape(line.removeprefix('+++ b/'))}[/]")

    def _observation(self, seen: dict[str, Any]) -> str:
        text = (
            f"{_SYMBOLS[seen['status']]} {escape(seen['command'])}  [dim]{seen['status'].replace('_', ' ')}"
        )
        if seen.get("exit_code") is not None:
            text += f" (exit {seen['exit_code']}), {seen['duration_s']:.1f} s"
        if seen.get("reason"):
            text += f": {escape(seen['reason'])}"
        return text + ", run by us[/]"

    def _quote(self, verb: str, text: str, style: str) -> None:
        lines = [_cut(line) for line in text.strip().splitlines() if line.strip()]
        if len(lines) == 1:
            self.line("", f"[{style}]{verb} “{escape(lines[0])}”[/]")
            return
        for line in lines:
            self.line("", f"[{style}]{escape(line)}[/]")

    def _claims(self, event: dict[str, Any]) -> None:
        differences = event["differences"]
        if not differences:
            self.line("claims", "[green]✓[/] what the worker reports is what we saw")
        for difference in differences:
            self.line("claims", f"[red]✗[/] {escape(difference['text'])}")


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"


def _files(files: list[dict[str, Any]]) -> str:
    if not files:
        return "nothing changed"
    parts = []
    for file in files:
        counts = ""
        if file.get("added") is not None:
            counts = f" [green]+{file['added']}[/] [red]-{file['removed']}[/]"
        parts.append(f"{escape(file['path'])}{counts}")
    return ", ".join(parts)
