"""`python -m dragoman.rehearsal`: the embedded model as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from dragoman.errors import DragomanError, ExitCode
from dragoman.rehearsal.app import Rehearsal
from dragoman.rehearsal.journal import Journal
from dragoman.rehearsal.load import load_scenario
from dragoman.rehearsal.server import RehearsalServer, listen


def main(argv: list[str] | None = None) -> int:
    """Run the embedded model until it is ended; return an exit code."""
    options = _parser().parse_args(argv)
    try:
        scenarios = [load_scenario(name) for name in options.scenario or ["greeting"]]
        if options.check:
            for one in scenarios:
                sys.stdout.write(f"{one.name}: {len(one.rules)} rules\n")
            return ExitCode.OK
        journal = Journal(options.journal)
        listener, url = listen(options.host, options.port)
    except DragomanError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code

    def announce() -> None:
        sys.stdout.write(f"listening on {url}\n")
        sys.stdout.flush()

    app = Rehearsal(scenarios, wait_factor=options.pace, journal=journal)
    server = RehearsalServer(app, on_ready=announce, parent_fd=options.parent_fd)
    try:
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listener]))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dragoman.rehearsal",
        description="The embedded model: plays scenario files as a provider on loopback.",
    )
    add = parser.add_argument
    add("--scenario", action="append", metavar="FILE|NAME", help="may be repeated; default: greeting")
    add("--host", default="127.0.0.1", help="a loopback address")
    add("--port", type=int, default=0, help="0 picks a free one")
    add("--pace", type=_factor, default=1.0, metavar="X", help="factor on every silence; 0 never waits")
    add("--journal", type=Path, metavar="FILE", help="append one JSON line a request")
    add("--parent-fd", type=int, metavar="N", help="inherited pipe; the process ends when it closes")
    add("--check", action="store_true", help="only check the scenario files")
    return parser


def _factor(text: str) -> float:
    factor = float(text)
    if not 0 <= factor < float("inf"):
        raise argparse.ArgumentTypeError("give a number that is not negative")
    return factor


if __name__ == "__main__":
    sys.exit(main())
