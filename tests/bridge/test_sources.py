"""What is read: hooks, transcript lines, screens that try to deceive."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.bridge.hooks import EVENTS, HookInbox, install_hooks, read_hook
from dragoman.bridge.outcome import Option
from dragoman.bridge.reading import box_text, find_dialog, is_busy, is_ready
from dragoman.bridge.screen import Screen, View
from dragoman.bridge.transcript import Record, Transcript, read_line, transcript_file

RULE = "─" * 60
BOX = (RULE, "❯", RULE, "  ? for shortcuts")


def drop(settings: dict, event: dict) -> None:
    (entry,) = settings["hooks"][event["hook_event_name"]]
    (hook,) = entry["hooks"]
    subprocess.run(hook["command"], shell=True, input=json.dumps(event).encode(), check=True, timeout=10)


def test_a_hook_s_event_arrives_whole_once_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "it's private"
    folder.mkdir()
    settings = install_hooks(folder)
    inbox = HookInbox(folder)
    assert not inbox.seen_any
    drop(settings, {"hook_event_name": "UserPromptSubmit", "prompt": "x" * 300_000, "prompt_id": "1"})
    drop(settings, {"hook_event_name": "Stop", "last_assistant_message": "漢字", "background_tasks": []})
    first, second = inbox.take()
    assert (first.hook_event_name, len(first.prompt or ""), second.last_assistant_message) == (
        "UserPromptSubmit", 300_000, "漢字",
    )  # fmt: skip
    assert inbox.take() == []
    assert list((folder / "events").iterdir()) == []
    assert inbox.seen_any


def test_the_settings_keep_the_classifier_from_allowing_tools(tmp_path: Path) -> None:
    settings = install_hooks(tmp_path)
    assert settings["permissions"] == {"disableAutoMode": "disable"}
    assert set(settings["hooks"]) == set(EVENTS)


def test_a_hook_of_another_shape_still_tells_its_name() -> None:
    hook = read_hook(
        b'{"hook_event_name": "Stop", "background_tasks": {"new": "shape"}, "prompt_id": "7"}', 1.0
    )
    assert hook is not None
    assert (hook.hook_event_name, hook.prompt_id) == ("Stop", "7")
    assert read_hook(b"[]", 1.0) is None
    assert read_hook(b"\xff", 1.0) is None


def test_a_link_among_the_events_is_not_followed(tmp_path: Path) -> None:
    install_hooks(tmp_path)
    (tmp_path / "secret").write_text('{"hook_event_name": "Stop"}')
    (tmp_path / "events" / "1.json").symlink_to(tmp_path / "secret")
    assert HookInbox(tmp_path).take() == []


def test_a_transcript_is_read_along_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    transcript = Transcript(path)
    assert transcript.take() == []
    line = json.dumps({"type": "user", "message": {"content": "do it"}}).encode()
    path.write_bytes(line[:10])
    assert transcript.take() == []
    with path.open("ab") as file:
        file.write(line[10:] + b"\nnot json\n")
    assert transcript.take() == [Record("prompt", "do it")]
    assert transcript.take() == []


def test_the_transcript_lies_where_claude_code_writes_it(tmp_path: Path) -> None:
    project = tmp_path / "my_project.x"
    project.mkdir()
    slug = "".join(c if c.isalnum() else "-" for c in os.path.realpath(project))
    assert transcript_file({"CLAUDE_CONFIG_DIR": "/c"}, project, "s") == Path("/c/projects", slug, "s.jsonl")
    assert transcript_file({"HOME": "/h"}, project, "s") == Path("/h/.claude/projects", slug, "s.jsonl")


def user(text: str, **more: object) -> dict:
    return {"type": "user", "message": {"content": text}, **more}


def blocks(kind: str, *found: dict, **more: object) -> dict:
    return {"type": kind, "message": {"content": list(found)}, **more}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        (blocks("user", text("[Request interrupted by user]")), ["interrupted"]),
        (user("[Request interrupted by user] is what I read"), ["prompt"]),
        (user("<task-notification>\n…"), ["self_prompt"]),
        (user("x", isMeta=True), []),
        (blocks("user", {"type": "tool_result", "content": "[Request interrupted by user]"}), []),
        ({"type": "system", "subtype": "turn_duration"}, ["turn_end"]),
        (blocks("assistant", text("x"), isSidechain=True), []),
        (blocks("assistant", isApiErrorMessage=True), ["api_error"]),
        ({"type": "user", "message": None}, []),
        ({"type": "attachment"}, []),
    ],
)
def test_a_line_stands_for_what_happened(line: dict, kinds: list[str]) -> None:
    assert [record.kind for record in read_line(json.dumps(line).encode())] == kinds


@given(st.binary(max_size=400))
def test_no_bytes_at_all_break_a_reader(data: bytes) -> None:
    read_line(data)
    read_hook(data, 0.0)
    screen = Screen(40, 10)
    screen.feed(data)
    screen.feed(b"\x1b[2J\x1b[H\x1b[0mstill alive")
    view = screen.view()
    assert find_dialog(view) is None or box_text(view) is None or not is_busy(view)


SEQUENCES = [
    "\x1b[>1u",
    "\x1b[?2004h",
    "\x1b[1m",
    "\x1b[0m",
    "\x1b[<u",
    "\x1b]0;title\x07",
    "ab",
    "漢",
    "\r\n",
    "\x1b[3C",
]


@given(st.lists(st.sampled_from(SEQUENCES), max_size=30))
def test_where_a_sequence_is_cut_does_not_matter(parts: list[str]) -> None:
    data = "".join(parts).encode()
    whole, pieces = Screen(40, 40), Screen(40, 40)
    whole.feed(data)
    for at in range(len(data)):
        pieces.feed(data[at : at + 1])
    assert whole.view() == pieces.view()


def test_half_a_wide_character_does_not_end_the_bridge() -> None:
    screen = Screen(10, 2)
    screen.feed("漢字 ok\x1b[Hx\x1b[1;4Hy".encode())
    # The left half of the first one, and the right half of the second, were painted over.
    assert screen.view().lines == ("x 字y ok",)


def test_an_unfinished_paste_mark_leaves_nothing_on_the_screen() -> None:
    screen = Screen(20, 3)
    for byte in b"\x1b[<1u\x1b[>4;2m\x1b[=5uok":
        screen.feed(bytes([byte]))
    assert screen.view().lines == ("ok",)


def test_a_menu_inside_an_answer_is_no_question() -> None:
    view = View(
        ("● Look:", "", "  ❯ 1. Yes", "    2. No", "", "  Do you want to proceed?", "  Esc to cancel", *BOX)
    )
    assert find_dialog(view) is None
    assert is_ready(view)


def test_a_whole_dialog_inside_an_answer_is_no_question() -> None:
    view = View((RULE, " Bash command", " ❯ 1. Yes", "   2. No", " Esc to cancel · Tab to amend", *BOX))
    assert find_dialog(view) is None


def test_a_spinner_inside_an_answer_is_not_busy_where_the_title_is_idle() -> None:
    view = View(
        ("● ✻ Working… (esc to interrupt)", "", "✻ Working… (esc to interrupt)", *BOX), "✳ Claude Code"
    )
    assert not is_busy(view)


def test_rows_without_numbers_get_numbers_and_say_so() -> None:
    view = View(
        (RULE, " Trust?", " ❯ No, exit", "   Yes, I trust this folder", " Enter to confirm · Esc to cancel")
    )
    dialog = find_dialog(view)
    assert dialog is not None
    assert dialog.options == (Option("1", "No, exit"), Option("2", "Yes, I trust this folder"))
    assert (dialog.selected, dialog.numbered) == (0, False)


def test_a_label_that_wraps_is_put_together_and_a_description_is_left_out() -> None:
    wide = "x" * 40
    wrapped = View(
        (
            f" {wide}",
            " Go?",
            " ❯ 1. Yes",
            f"   2. Yes, always {'y' * 18}",
            "      to-the-project",
            "   3. No",
            " Esc to cancel",
        )
    )
    dialog = find_dialog(wrapped)
    assert dialog is not None
    assert [option.label for option in dialog.options] == [
        "Yes",
        f"Yes, always {'y' * 18} to-the-project",
        "No",
    ]
    described = View((RULE, " Color?", "❯ 1. Red", "     warm", "  2. Blue", "     cold", " Enter to select"))
    dialog = find_dialog(described)
    assert dialog is not None
    assert [option.label for option in dialog.options] == ["Red", "Blue"]


def test_grey_words_in_an_empty_box_are_no_text() -> None:
    assert box_text(View((RULE, '❯ Try "fix the tests"', RULE))) == ""
    assert box_text(View((RULE, "❯ real words", "  of two lines", RULE))) == "real words\nof two lines"
    assert box_text(View(("nothing here",))) is None


def test_a_picture_keeps_colours_marks_title_and_cursor() -> None:
    screen = Screen(30, 4)
    screen.feed(
        "\x1b]0;◐ work\x07\x1b[1;31mred\x1b[0m \x1b[48;2;1;2;3m漢\x1b[0m\r\n\x1b[7mx\x1b[0m\x1b[?25l".encode()
    )
    drawn = screen.picture()
    for part in (
        "\x1b]0;◐ work\x07",
        "\x1b[?25l",
        "\x1b[0;1;31mred",
        "\x1b[0;48;2;1;2;3m漢",
        "\x1b[0;7mx",
        "\x1b[2;2H",
    ):
        assert part.encode() in drawn, part
