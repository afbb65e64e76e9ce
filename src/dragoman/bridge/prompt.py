"""Turn a prompt into keystrokes that mean what it says, or refuse it with a reason. Nothing is typed here."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from dragoman.bridge.timing import PASTE_CHARACTERS, PASTE_LINES
from dragoman.errors import DragomanError

# Typed in small pastes this takes 13 s; ten times as much would be minutes, and a file says it better.
MAX_CHARACTERS = 50_000

_PASTE_BEGINS, _PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Removed by 2.1.329 as "invisible characters"; also the ones that turn text around.
_INVISIBLE = re.compile(
    "[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]|[\U000e0000-\U000e007f]"
)
_NAMES = {"\x1b": "an escape character", "\x03": "ctrl-c", "\x00": "a zero byte"}


class PromptRefused(DragomanError):
    """The prompt could not arrive as written; nothing was typed."""

    code = "prompt_refused"


@dataclass(frozen=True, slots=True)
class Typing:
    """A prompt ready to be typed.

    Attributes:
        text: what will stand in the box.
        pieces: the pastes that put it there, in order.
        is_command: whether it is a deliberate slash command.
        notes: what was changed and why.
    """

    text: str
    pieces: tuple[bytes, ...]
    is_command: bool
    notes: tuple[str, ...] = ()


def plan_typing(prompt: str, *, allow_command: bool = False) -> Typing:
    """Decide how a prompt is typed.

    Learned from 2.1.329 and 2.1.197: a leading `!` runs a shell command at once and unasked, one blank before
    it disarms it; a leading `/word` is a command of Claude Code and blanks do not disarm it; a `\\` before
    Enter is a line break; tabs become four blanks; more than a few lines in one paste are marked as somebody
    else's text.

    Args:
        prompt: what the lead wrote.
        allow_command: let a single line that begins with `/` be the command it is.

    Raises:
        PromptRefused: it is empty, too long, or holds characters a terminal would act on.
    """
    notes: list[str] = []
    text = prompt.replace("\r\n", "\n").replace("\r", "\n")
    text = text.strip("\n").rstrip()
    if not text.strip():
        raise PromptRefused("the prompt is empty", hint="give a prompt, or --file with one")
    if len(text) > MAX_CHARACTERS:
        raise PromptRefused(
            f"the prompt has {len(text):,} characters; {MAX_CHARACTERS:,} can be typed",
            hint="write it to a file that Claude Code may read, and send: Read PATH and do what it says",
        )
    if found := _CONTROL.search(text):
        what = _NAMES.get(found[0], f"the control character 0x{ord(found[0]):02x}")
        raise PromptRefused(
            f"the prompt holds {what} (character {found.start() + 1}), which a terminal would act on",
            hint="remove it, or write the text to a file and send its path",
        )
    if found := _INVISIBLE.search(text):
        raise PromptRefused(
            f"the prompt holds an invisible character U+{ord(found[0]):04X} (character {found.start() + 1})",
            hint="remove it: Claude Code would",
        )
    if any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise PromptRefused("the prompt is not valid text (bytes that are no UTF-8)", hint="send UTF-8")
    if "\t" in text:
        text = text.replace("\t", "    ")
        notes.append("tabs were typed as four blanks")
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
        notes.append("combining characters were composed (NFC)")
    begin = text.lstrip()
    is_command = False
    if begin.startswith("/") and re.match(r"/[^\s/]*(\s|$)", begin):
        if allow_command and "\n" not in text:
            text, is_command = begin, True
        else:
            text = f"> {begin}"
            notes.append("a leading '/' was put behind '> ', else it would be a command")
    elif begin.startswith("!"):
        text = f" {begin}"
        notes.append("a leading '!' was put behind a blank, else it would run in a shell")
    elif begin.startswith("#"):
        # Harmless in both versions, but older ones saved such a line to memory.
        text = f" {begin}"
    if text.endswith("\\"):
        text += "."
        notes.append("a '.' was put behind the last '\\', else Enter would be a line break")
    return Typing(text, tuple(pieces(text)), is_command, tuple(notes))


def pieces(text: str) -> list[bytes]:
    """Bracketed pastes of at most two lines and 600 characters: what Claude Code takes as typed."""
    lines = text.split("\n")
    out: list[bytes] = []
    for at in range(0, len(lines), PASTE_LINES):
        part = "\n".join(lines[at : at + PASTE_LINES])
        if at + PASTE_LINES < len(lines):
            part += "\n"
        for begin in range(0, len(part), PASTE_CHARACTERS):
            out.append(_PASTE_BEGINS + part[begin : begin + PASTE_CHARACTERS].encode() + _PASTE_ENDS)
    return out


def same_text(typed: str, arrived: str) -> bool:
    """Whether what arrived is what was typed, but for blanks at the ends of lines."""

    def plain(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

    return plain(typed) == plain(arrived)


KEYS: dict[str, bytes] = {
    **{str(n): str(n).encode() for n in range(1, 10)},
    "enter": b"\r",
    "escape": b"\x1b",
    "ctrl-c": b"\x03",
}
DOWN, UP = b"\x1b[B", b"\x1b[A"
# Pressed one after the other: all of a line before the cursor goes, then the break before it. In an empty box
# they do nothing, but that the second leaves the shell mode.
CLEAR_LINE = (b"\x15", b"\x7f")
LINE_END = b"\x05"
