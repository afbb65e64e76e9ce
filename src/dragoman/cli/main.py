"""The `dragoman` program: finds the command, runs it, and renders every error in one place.

Nothing heavy is imported here: `--version` and `--help` must stay within a few times the cost of an empty
interpreter, and a command pays only for its own room. Commands live one file a group; the table in
`commands.py` says which.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence

from dragoman import __version__
from dragoman.errors import DragomanError, ExitCode


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit the process with its exit code.

    Parameters:
        argv: the words after the program's name; `sys.argv[1:]` when None.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["--version"], ["-V"]):
        print(f"dragoman {__version__}")
        sys.exit(ExitCode.OK)
    if words in ([], ["--help"], ["-h"]):
        from dragoman.cli.commands import overview

        print(overview())
        sys.exit(ExitCode.OK)
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Run one command; return its exit code. Errors are printed, never raised."""
    _write_what_can_be_written()
    try:
        return _run(words)
    except KeyboardInterrupt:  # also while the modules a command needs are still being read
        return _interrupted()


def _run(words: list[str]) -> int:
    import click

    from dragoman.cli.commands import program

    try:
        answer = program().main(args=words, prog_name="dragoman", standalone_mode=False)
    except click.exceptions.Abort:
        return _interrupted()
    except click.ClickException as error:
        if "--json" in words:
            from dragoman.cli.render import show_error

            show_error(DragomanError(error.format_message(), code="usage"), as_json=True)
        else:
            error.show()
        return error.exit_code
    except DragomanError as error:
        from dragoman.cli.render import show_error

        show_error(error, as_json="--json" in words)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output left (`dragoman … | head`); there is nobody to tell.
        sys.stderr.close()
        return ExitCode.OK
    except OSError as error:
        # A file or folder of the user's surroundings that no room foresaw; where and why is enough.
        from dragoman.cli.render import show_error

        where = f"{error.filename}: " if error.filename is not None else ""
        told = DragomanError(f"{where}{error.strerror or error}", hint="dragoman doctor", code="system_error")
        show_error(told, as_json="--json" in words)
        return told.exit_code
    return answer if isinstance(answer, int) else ExitCode.OK


def _write_what_can_be_written() -> None:
    """A terminal whose encoding lacks a sign gets a question mark in its place, never an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _interrupted() -> int:
    with contextlib.suppress(OSError):  # a closed terminal interrupts too, and cannot be told
        print("interrupted", file=sys.stderr)
    return ExitCode.INTERRUPTED


if __name__ == "__main__":
    main()
