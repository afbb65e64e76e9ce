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
    "Set up": (
        Command(
            "setup", "dragoman.cli.setup:setup", "Connect Codex and Claude Code; every change is shown first"
        ),
        Command("uninstall", "dragoman.cli.setup:uninstall", "Give the clients' files back as they were"),
        Command("doctor", "dragoman.cli.doctor:doctor", "Check everything; each finding comes with its fix"),
        Command("smoke", "dragoman.cli.smoke:smoke", "Ask the provider one small question, all the way"),
        Command("providers", "dragoman.cli.catalogue:providers", "List, add and check providers"),
        Command("keys", "dragoman.cli.catalogue:keys", "List, store and remove providers' keys"),
        Command("models", "dragoman.cli.catalogue:models", "List the models clients can ask for"),
        Command(
            "explain", "dragoman.cli.catalogue:explain", "Say where a model name goes, and over which wire"
        ),
        Command(
            "set-model",
            "dragoman.cli.setup:set_model",
            "Change the model a client asks for, and nothing else",
        ),
        Command("print-config", "dragoman.cli.setup:print_config", "Print what setup would write"),
    ),
    "Work": (
        Command(
            "codex", "dragoman.cli.launch:codex", "Start Codex through the gateway, touching no configuration"
        ),
        Command("claude", "dragoman.cli.launch:claude", "Start Claude Code the same way"),
        Command("delegate", "dragoman.cli.delegate:delegate", "Hand a task to a worker, live, proved by us"),
        Command("review", "dragoman.cli.delegate:review", "Have a worker judge, read-only"),
        Command("mcp", "dragoman.cli.mcp:mcp", "Serve the delegation tools to a lead, on stdin and stdout"),
        Command("jobs", "dragoman.cli.jobs:jobs", "List, follow, end and clean up delegated work"),
        Command("workspace", "dragoman.cli.work:workspace", "List, show and restore workspaces"),
        Command("apply", "dragoman.cli.work:apply", "Preview and apply a workspace's change, all or nothing"),
        Command("export", "dragoman.cli.work:export", "Put a workspace's change on a branch"),
        Command("discard", "dragoman.cli.work:discard", "Move a workspace to the trash"),
        Command(
            "cleanup",
            "dragoman.cli.work:cleanup",
            "Discard what is no longer needed; says why it keeps the rest",
        ),
    ),
    "The gateway": (
        Command("serve", "dragoman.cli.serving:serve", "Run the gateway in the foreground"),
        Command("status", "dragoman.cli.serving:status", "Say what is running, where, and since when"),
        Command("stop", "dragoman.cli.serving:stop", "Drain the streams and stop"),
        Command(
            "restart", "dragoman.cli.serving:restart", "Start new gateways on the same port; no stream is cut"
        ),
        Command("reload", "dragoman.cli.serving:reload", "Take a changed configuration in; no stream is cut"),
        Command("logs", "dragoman.cli.serving:logs", "Show what the daemon wrote down"),
        Command("usage", "dragoman.cli.usage:usage", "Show tokens and money by model, client or day"),
        Command("quota", "dragoman.cli.usage:quota", "Show what is left of providers' plans"),
        Command("gc", "dragoman.cli.usage:gc", "Clear away what is old enough; says what, and how large"),
        Command(
            "capture", "dragoman.cli.capture:capture", "Record exchanges for a while, secrets overwritten"
        ),
        Command("replay", "dragoman.cli.capture:replay", "Play a recording without a network, byte for byte"),
        Command("token", "dragoman.cli.serving:token", "Print or manage the tokens clients show"),
    ),
    "The bridge": (
        Command(
            "lead", "dragoman.cli.lead:lead", "Let Codex lead one interactive Claude Code in this folder"
        ),
        Command("cc-send", "dragoman.cli.lead:cc_send", "Give Claude Code a prompt, wait for its turn's end"),
        Command(
            "cc-input", "dragoman.cli.lead:cc_input", "Press one key in Claude Code, wait for what follows"
        ),
        Command("cc-status", "dragoman.cli.lead:cc_status", "Say how the bridge stands"),
        Command("attach", "dragoman.cli.lead:attach", "Join the terminal of a session, to watch or to type"),
        Command("bridge", "dragoman.cli.lead:bridge", "The bridge's settings, sessions and recordings"),
        Command(
            "migrate-supervisor", "dragoman.cli.lead:migrate", "Renew the lead's rules, keep your own words"
        ),
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
    lines += ["", "dragoman COMMAND --help tells more; --json makes output for programs. dragoman --version."]
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
