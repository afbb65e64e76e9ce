from __future__ import annotations

import json
import logging
import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.daemon.channel import LineReader, ParentEnd, encode_message
from dragoman.daemon.child_log import JsonLogHandler, describe_exception
from dragoman.daemon.log import JsonLog

MESSAGES = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=5)


@given(MESSAGES, st.data())
def test_messages_come_out_as_they_went_in_however_the_bytes_are_cut(bodies, data):
    sent = [{"type": "note", "body": body} for body in bodies]
    stream = b"".join(encode_message("note", body=body) for body in bodies)
    reader, received = LineReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += reader.feed(stream[:size])
        stream = stream[size:]
    assert received == sent


def test_what_is_not_a_message_is_dropped_and_memory_is_bounded():
    reader = LineReader()
    assert reader.feed(b'nonsense\n[1]\n{"no": "type"}\n{"type": 3}\n' + encode_message("ready")) == [
        {"type": "ready"}
    ]
    assert reader.feed(b"x" * (2 << 20)) == []
    assert reader.feed(b"\n" + encode_message("ready")) == [{"type": "ready"}]


def test_the_parent_neither_blocks_on_a_child_that_does_not_read_nor_misses_its_end():
    ours, theirs = socket.socketpair()
    end = ParentEnd(ours)
    assert end.receive() == []
    while end.send("drain", filler="x" * 10_000):
        pass
    theirs.sendall(encode_message("failed", message="m"))
    theirs.close()
    assert end.receive() == [{"type": "failed", "message": "m"}]
    assert end.receive() is None
    end.close()


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_log_line_says_when_who_and_what_and_the_file_is_private(tmp_path: Path):
    path = tmp_path / "daemon.log"
    log = JsonLog(str(path), "parent", wall=lambda: 12.3456)
    log.write("info", "serving", url="http://x", long="y" * 2000, path=Path("/p"))
    log.close()
    (row,) = rows(path)
    assert row | {"long": ""} == {
        "at": 12.346,
        "level": "info",
        "role": "parent",
        "pid": os.getpid(),
        "event": "serving",
        "url": "http://x",
        "long": "",
        "path": "/p",
    }
    assert len(row["long"]) == 501
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_log_is_bounded_with_several_writers(tmp_path: Path):
    path = tmp_path / "daemon.log"
    logs = [JsonLog(str(path), role, max_bytes=20_000) for role in ("a", "b")]
    for number in range(1000):
        for log in logs:
            log.write("info", "event", number=number)
    for log in logs:
        log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["daemon.log", "daemon.log.1"]
    assert all(file.stat().st_size < 40_000 for file in tmp_path.iterdir())
    assert {row["number"] for row in rows(path)} | {
        row["number"] for row in rows(tmp_path / "daemon.log.1")
    } >= {
        998,
        999,
    }


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path):
    log = JsonLog(str(tmp_path / "missing" / "daemon.log"), "parent")
    log.write("error", "event")
    (tmp_path / "missing").mkdir()
    log.write("error", "event")
    assert [row["event"] for row in rows(tmp_path / "missing" / "daemon.log")] == ["event"]
    log.close()


@pytest.fixture
def logger(tmp_path: Path):
    log = JsonLog(str(tmp_path / "log"), "gateway")
    logger = logging.Logger("dragoman.gateway", logging.DEBUG)
    logger.addHandler(JsonLogHandler(log))
    yield logger
    log.close()


def test_logging_keeps_fields_but_of_an_exception_only_type_and_place(logger: logging.Logger, tmp_path: Path):
    try:
        raise ValueError("the prompt was: my secret plan")
    except ValueError:
        logger.exception("relay_failed", extra={"fields": {"request_id": "r1"}})
    (row,) = rows(tmp_path / "log")
    assert (row["event"], row["level"], row["request_id"]) == ("relay_failed", "error", "r1")
    assert row["exception"].startswith("ValueError at test_channel_and_log.py:")
    assert "secret plan" not in (tmp_path / "log").read_text()


def test_words_of_other_libraries_are_kept_without_their_values(tmp_path: Path):
    log = JsonLog(str(tmp_path / "log"), "gateway")
    other = logging.Logger("asyncio", logging.DEBUG)
    other.addHandler(JsonLogHandler(log))
    other.warning("Unknown child %s", "my secret plan")
    log.close()
    assert rows(tmp_path / "log")[0]["event"] == "Unknown child %s"


def test_an_exception_without_a_place_is_its_type():
    assert describe_exception(KeyError("x")) == "KeyError"
