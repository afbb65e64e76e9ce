"""`cc-send`, `cc-input`, `cc-status`: what the lead runs inside a session. Standard library only.

They start in the time of an empty interpreter, talk to the bridge through files alone, and print the clean
text and then the footer; the footer is always the last output.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dragoman.bridge.footer import rendered, without_footers
from dragoman.bridge.mailbox import SESSION_VARIABLE, Mailbox, Request, new_request_id

KEY_NAMES = (*"123456789", "enter", "escape", "ctrl-c")
_OUTSIDE = (
    "works only inside a session started by `dragoman lead` (no DRAGOMAN_BRIDGE_SESSION in the environment)"
)


def send(argv: Sequence[str] | None = None) -> int:
    """`cc-send`: give Claude Code a prompt, wait for the end of its turn."""
    parser = _parser("cc-send", "Give Claude Code a prompt and wait for the end of its turn.")
    parser.add_argument(
        "prompt", nargs="?", help="the prompt; without it, and without --file, standard input"
    )
    parser.add_argument("--file", metavar="F", help="read the prompt from this file")
    parser.add_argument(
        "--allow-command", action="store_true", help="let a prompt that begins with / be the command it is"
    )
    _add_waiting(parser)
    words = parser.parse_args(argv)
    if words.prompt is not None and words.file:
        parser.error("give either a prompt or --file")
    mailbox = _mailbox("cc-send")
    if mailbox is None:
        return 2
    try:
        prompt = _prompt(words)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"
        _print({"status": "not_submitted", "error": f"cannot read {words.file}: {why}"})
        return 1
    request = Request(
        _new_id(),
        "send",
        prompt=prompt,
        timeout_s=words.timeout_sec,
        stream=words.stream,
        allow_command=words.allow_command,
    )
    return _ask(mailbox, request, as_json=words.json)


def press(argv: Sequence[str] | None = None) -> int:
    """`cc-input`: press one key, wait for what follows."""
    parser = _parser("cc-input", "Press one key in Claude Code and wait for what follows.")
    parser.add_argument("--key", required=True, choices=KEY_NAMES, metavar="1-9|enter|escape|ctrl-c")
    _add_waiting(parser)
    words = parser.parse_args(argv)
    mailbox = _mailbox("cc-input")
    if mailbox is None:
        return 2
    request = Request(_new_id(), "input", key=words.key, timeout_s=words.timeout_sec, stream=words.stream)
    return _ask(mailbox, request, as_json=words.json)


def status(argv: Sequence[str] | None = None) -> int:
    """`cc-status`: say how things stand; it reads a file and drives nothing."""
    parser = _parser("cc-status", "Say how the bridge stands. It reads a file and drives nothing.")
    parser.add_argument("--json", action="store_true", help="the same: it always prints JSON")
    parser.parse_args(argv)
    mailbox = _mailbox("cc-status")
    if mailbox is None:
        return 2
    state = mailbox.read_state() or {"status": "exited", "error": "the bridge has not started yet"}
    state["bridge_lives"] = mailbox.bridge_lives()
    _write(without_footers(json.dumps(state, ensure_ascii=False, indent=2)) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m dragoman.bridge.client cc-send …`, which the session's own scripts run."""
    words = list(sys.argv[1:] if argv is None else argv)
    commands = {"cc-send": send, "cc-input": press, "cc-status": status}
    if not words or words[0] not in commands:
        sys.stderr.write(f"usage: {'|'.join(commands)} …\n")
        return 2
    return commands[words[0]](words[1:])


def session_folder(env: Mapping[str, str]) -> Path | None:
    """The session this process was started in, or None."""
    value = env.get(SESSION_VARIABLE)
    return Path(value) if value else None


def _parser(name: str, what: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=name, description=what, allow_abbrev=False)


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout-sec",
        type=_seconds,
        default=120.0,
        metavar="N",
        help="answer after N seconds at the latest",
    )
    parser.add_argument("--stream", action="store_true", help="also print what the screen shows meanwhile")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object in place of text and footer"
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError("between 1 and 86400 seconds")
    return value


def _prompt(words: argparse.Namespace) -> str:
    if words.file:
        return Path(words.file).read_text(encoding="utf-8")
    if words.prompt is not None:
        return str(words.prompt)
    return sys.stdin.read()


def _mailbox(command: str) -> Mailbox | None:
    folder = session_folder(os.environ)
    if folder is None:
        sys.stderr.write(f"{command} {_OUTSIDE}\n")
        return None
    return Mailbox(folder / "bridge")


def _new_id() -> str:
    return new_request_id(time.time_ns(), secrets.token_hex(4))


def _ask(mailbox: Mailbox, request: Request, *, as_json: bool) -> int:
    def show(text: str) -> None:
        _write(without_footers(text))

    try:
        result = mailbox.ask(request, on_stream=show if request.stream else None)
    except KeyboardInterrupt:
        _print({"status": "timeout", "error": "the command was interrupted; the turn goes on", "busy": True})
        return 130
    except OSError as error:
        _print({"status": "exited", "error": f"the session's mailbox cannot be used: {error.strerror}"})
        return 1
    if as_json:
        _write(json.dumps(result, indent=2) + "\n")
    else:
        _print(result)
    return 0


def _print(result: Mapping[str, Any]) -> None:
    _write(rendered(result))


def _write(text: str) -> None:
    # One write: a reader sees the footer whole or not at all. Lone surrogates must not end us.
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def _end(command: int) -> None:
    sys.exit(command)


def cc_send() -> None:
    """Entry point of the console script."""
    _end(send())


def cc_input() -> None:
    """Entry point of the console script."""
    _end(press())


def cc_status() -> None:
    """Entry point of the console script."""
    _end(status())


if __name__ == "__main__":
    sys.exit(main())
