"""`dragoman mcp`: the tools for a lead, on standard input and output."""

from __future__ import annotations

import click

from dragoman import __version__


@click.command()
@click.option(
    "--tools",
    type=click.Choice(["default", "all"]),
    default="default",
    help="Which tools to offer; all that exist are in the default set today.",
)
@click.option("--home", metavar="FOLDER", help="The daemon's folder, instead of DRAGOMAN_HOME's.")
def mcp(tools: str, home: str | None) -> None:
    """Serve the delegation tools to an MCP client, over standard input and output.

    A client starts this itself; `dragoman setup` writes the lines that tell it how.
    """
    from dragoman.mcp.shim import run

    run(home=home, version=__version__)
