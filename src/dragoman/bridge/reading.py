"""What a screen of Claude Code says: busy or idle, the input box, a question and its options.

Learned from recordings of 2.1.329 (fullscreen and classic renderer) and 2.1.197 (classic).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dragoman.bridge.outcome import Option
from dragoman.bridge.screen import View

# The window title begins with one of these while a turn runs: 2.1.329 half circles, 2.1.197 braille dots.
_BUSY_TITLE = frozenset("◐◑◒◓⠂⠐⠁⠄⠠⠈⡀⢀")
_SPINNER = re.compile(r"^\s*[·✢✳✶✻✽✺∗*] \S.*…")
_BUSY_FOOTER = "esc to interrupt"
_RULE = re.compile(r"^\s*[─▔━]{10,}")
_HINT = re.compile(r"Esc to cancel|Enter to confirm|Enter to select|Esc to exit|Enter to continue")
_NUMBERED = re.compile(r"^(?P<indent>\s*)(?P<cursor>❯)?\s*(?P<key>[1-9])\.\s*(?P<label>\S.*)$")
_POINTED = re.compile(r"^(?P<indent>\s*)❯\s+(?P<label>\S.*)$")
# Questions with neither numbers nor a line that names keys: of a first start, and of 2.1.329.
_WITHOUT_KEYS = ("Choose the text style", "Make auto mode your default permission mode?")
# Grey words in an empty box.
_PLACEHOLDERS = ("Try ", "Press up to edit", "Resend your message")

# A question never is higher than this; what is above is the conversation.
_DEPTH = 36


@dataclass(frozen=True, slots=True)
class Dialog:
    """A question that stands in the place of the input box.

    Attributes:
        text: the question as on the screen, its options included.
        options: its rows, in order.
        selected: index of the row the cursor is on.
        numbered: whether its digits can be pressed; else rows are reached by arrows.
    """

    text: str
    options: tuple[Option, ...]
    selected: int
    numbered: bool


@lru_cache(maxsize=8)
def find_dialog(view: View) -> Dialog | None:
    """The question on the screen, or None.

    A menu inside an answer is no question: a real one *replaces* the input box, and stands at the very end.
    """
    lines = [line for line in view.lines if line.strip()][-_DEPTH:]
    if not lines or _box_rows(lines) is not None:
        return None
    hint = max((i for i, line in enumerate(lines) if _HINT.search(line)), default=None)
    if hint is not None and len(lines) - hint > 3:
        return None
    end = hint if hint is not None else len(lines)
    rows = _numbered_rows(lines, end)
    if rows is not None:
        # "Exit plan mode?" has no line that names keys; then the options must be the very last rows.
        if hint is None and end - rows[-1].last > 2:
            return None
        numbered = True
    else:
        rows = _plain_rows(lines, end) or _only_row(lines, hint)
        numbered = False
        # Without a line that names keys a prompt just sent looks the same for a moment (2.1.197).
        if hint is None and not any(words in line for line in lines for words in _WITHOUT_KEYS):
            return None
    if rows is None:
        return None
    top = max(
        (i for i in range(rows[0].first) if _RULE.match(lines[i])), default=max(0, rows[0].first - 12) - 1
    )
    options = tuple(Option(row.key, row.label) for row in rows)
    selected = next(i for i, row in enumerate(rows) if row.pointed)
    return Dialog("\n".join(lines[top + 1 : end]), options, selected, numbered)


@dataclass(frozen=True, slots=True)
class _Row:
    key: str
    label: str
    pointed: bool
    first: int
    last: int


def _numbered_rows(lines: list[str], end: int) -> list[_Row] | None:
    starts: list[tuple[int, re.Match[str]]] = []
    for i in range(end - 1, -1, -1):
        found = _NUMBERED.match(lines[i])
        if found and (not starts or int(found["key"]) == int(starts[-1][1]["key"]) - 1):
            starts.append((i, found))
            if found["key"] == "1":
                break
    starts.reverse()
    if len(starts) < 2 or starts[0][1]["key"] != "1" or not any(found["cursor"] for _, found in starts):
        return None
    width = max(len(line) for line in lines)
    rows: list[_Row] = []
    for place, (i, found) in enumerate(starts):
        stop = starts[place + 1][0] if place + 1 < len(starts) else end
        label, last = found["label"].strip(), i
        column = lines[i].index(found["key"] + ".") + 3
        for j in range(i + 1, stop):
            indent = len(lines[j]) - len(lines[j].lstrip())
            # A wrapped label goes on under itself (one column to the left in 2.1.197); a description of a
            # choice stands there too, but its first word would have fitted on the row before.
            full = len(lines[j - 1]) + 1 + len(lines[j].split()[0]) > width - 2
            if _RULE.match(lines[j]) or indent not in (column - 1, column) or not full:
                break
            label, last = f"{label} {lines[j].strip()}", j
        rows.append(_Row(found["key"], label, bool(found["cursor"]), i, last))
    return rows


def _plain_rows(lines: list[str], end: int) -> list[_Row] | None:
    pointed = max((i for i in range(end) if _POINTED.match(lines[i])), default=None)
    if pointed is None:
        return None
    found = _POINTED.match(lines[pointed])
    assert found is not None
    # The theme in force has a mark before its name (2.1.329).
    column = len(found["indent"]) + (4 if found["label"].startswith("✔ ") else 2)
    first = last = pointed

    def is_row(line: str) -> bool:
        return len(line) - len(line.lstrip()) == column and not _RULE.match(line)

    while first > 0 and is_row(lines[first - 1]):
        first -= 1
    while last + 1 < end and is_row(lines[last + 1]):
        last += 1
    if first == last:
        return None
    return [
        _Row(str(n), lines[i].replace("❯", " ", 1).strip(), i == pointed, i, i)
        for n, i in enumerate(range(first, last + 1), start=1)
    ]


def _only_row(lines: list[str], hint: int | None) -> list[_Row] | None:
    """A page that only wants to be read, such as the security notes of a first start."""
    if hint is None or not lines[hint].strip().startswith("Press Enter"):
        return None
    return [_Row("enter", lines[hint].strip(), True, hint, hint)]


def _box_rows(lines: list[str] | tuple[str, ...]) -> tuple[int, int] | None:
    """First and last row inside the input box: a `❯` between two rules."""
    for top in range(len(lines) - 2, -1, -1):
        if not _is_wide_rule(lines[top]) or not lines[top + 1].startswith(("❯", "!")):
            continue
        for bottom in range(top + 2, len(lines)):
            if _is_wide_rule(lines[bottom]):
                return top + 1, bottom - 1
            if lines[bottom][:1].strip():
                break
        return None
    return None


def _is_wide_rule(line: str) -> bool:
    # The last rule may carry words at its right end, such as a file name or the effort.
    return line.startswith("──────────")


@lru_cache(maxsize=8)
def box_text(view: View) -> str | None:
    """What the input box holds ("" when empty, grey hints left out), or None when there is no box."""
    text = _in_box(view)
    return "" if text is not None and text.startswith(_PLACEHOLDERS) else text


def box_holds(view: View, typed: str, hint: str = "") -> bool:
    """Whether what was typed stands in the input box, also where it begins like a grey hint.

    Args:
        view: the screen.
        typed: the prompt.
        hint: what the box showed when it was empty, where that is no hint we know.
    """
    text = _in_box(view) or ""
    begin = "".join(typed.split())[:20]
    if begin and "".join(text.split()).startswith(begin):
        return True
    # Of a long prompt only the end may be seen.
    return bool(box_text(view)) and (not hint or (text != hint and typed.count("\n") > 2))


def in_shell_mode(view: View) -> bool:
    """Whether the box would run what is typed: somebody's `!` stands at its beginning."""
    lines = [line for line in view.lines if line.strip()]
    rows = _box_rows(lines)
    return rows is not None and lines[rows[0]].startswith("!")


def _in_box(view: View) -> str | None:
    lines = [line for line in view.lines if line.strip()]
    rows = _box_rows(lines)
    if rows is None:
        return None
    inside = [lines[rows[0]][1:], *lines[rows[0] + 1 : rows[1] + 1]]
    return "\n".join(line.replace("\xa0", " ").strip() for line in inside).strip()


@lru_cache(maxsize=8)
def is_busy(view: View) -> bool:
    """Whether a turn runs, as far as the screen shows: title, spinner or footer.

    The footer and the spinner count only near the bottom, so an answer that quotes them does not.
    """
    if view.title[:1] in _BUSY_TITLE and view.title:
        return True
    lines = [line for line in view.lines if line.strip()]
    rows = _box_rows(lines)
    if rows is None:
        return any(_SPINNER.match(line) for line in lines[-8:]) and find_dialog(view) is None
    if any(_BUSY_FOOTER in line for line in lines[rows[1] + 2 :]):
        return True
    # Between the spinner and the box there may be a list of tasks or a tip. Where the title is ours to read
    # and idle, a line that looks like a spinner is a part of an answer.
    above = lines[max(0, rows[0] - 3) : rows[0] - 1]
    return not view.title and any(_SPINNER.match(line) for line in above)


def is_ready(view: View) -> bool:
    """Whether a prompt may be typed: the box is there, no question, no turn."""
    return box_text(view) is not None and not is_busy(view) and find_dialog(view) is None


_MARK = re.compile(r"^\s*[●⏺⎿]\s?")
_NOT_AN_ANSWER = re.compile(r"^(❯|\s*[✢✳✶✻✽·] |[ ▝]▐?[▛▜▐▝]|\s*▘▘)")


def new_lines(before: View, after: View) -> str:
    """What a screen shows above its box that an earlier one did not: the answer, where nothing else tells."""
    lines = [line for line in after.lines if line.strip()]
    rows = _box_rows(lines)
    seen = {line.strip() for line in before.lines}
    shown = lines[: rows[0] - 1] if rows else lines
    return "\n".join(
        _MARK.sub("", line).replace("\xa0", " ")
        for line in shown
        if line.strip() not in seen and not _NOT_AN_ANSWER.match(line)
    )


def api_error_line(text: str) -> str | None:
    """The line with which Claude Code says that the provider failed for good, where it is the last word."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = next((i for i, line in enumerate(lines) if line.startswith("API Error: ")), None)
    return None if found is None else " ".join(lines[found:])
