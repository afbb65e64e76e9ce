"""The table of commands, and the group that imports a command's module only when it is called."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import click


class Command(NamedTuple):
    """One row of `dragoman --help`.

    Attributes:
        name: the word a user types.
        target: `module:attribute` of the click command.
        summary: one line; the command's own docstring says the rest.
    """

    name: str
    target: str
    summary: str


SECTIONS: dict[str, tuple[Command, ...]] = {
    "See it work": (
        Command(
            "demo",
            "dragoman.cli.demo:demo",
            "Delegate a task to the real Claude Code, with no key and no network",
        ),
    ),
    "The gateway": (
        Command("serve", "dragoman.cli.serving:serve", "Run the gateway in the foreground"),
        Command("status", "dragoman.cli.serving:status", "Say what is running, where, and since when"),
        Command("stop", "dragoman.cli.serving:stop", "Drain the streams and stop"),
        Command("token", "dragoman.cli.serving:token", "Print or manage the tokens clients show"),
    ),
}


def overview() -> str:
    """The text of `dragoman --help`: every command by section, one line each."""
    width = max(len(command.name) for commands in SECTIONS.values() for command in commands)
    lines = [
        "Usage: dragoman COMMAND [ARGS]...",
        "",
        "One coding agent leads, another works, on any model; dragoman stands between them.",
    ]
    for title, commands in SECTIONS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {command.name:<{width}}  {command.summary}" for command in commands]
    lines += ["", "dragoman COMMAND --help tells more. Every command takes --json. dragoman --version."]
    return "\n".join(lines)


def program() -> click.Group:
    """The click group behind `dragoman`: commands are imported when they are called."""
    import click

    table = {command.name: command for commands in SECTIONS.values() for command in commands}

    class Program(click.Group):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return list(table)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            if cmd_name not in table:
                return None
            module, attribute = table[cmd_name].target.split(":")
            return getattr(importlib.import_module(module), attribute)

        def resolve_command(
            self, ctx: click.Context, args: list[str]
        ) -> tuple[str | None, click.Command | None, list[str]]:
            if args and args[0] not in table and not args[0].startswith("-"):
                raise click.UsageError(_unknown(args[0], list(table)), ctx)
            return super().resolve_command(ctx, args)

        def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            formatter.write(overview() + "\n")

    return Program("dragoman")


def _unknown(word: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, names, n=1)
    return f"There is no command '{word}'." + (f" Did you mean 'dragoman {near[0]}'?" if near else "")
