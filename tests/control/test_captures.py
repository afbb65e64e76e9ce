"""Recordings over the control API."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest

from dragoman.config.load import parse_config
from dragoman.control.bookkeeping import Books
from dragoman.control.retention import Retainer, room_sweepers
from dragoman.gateway.capture_file import Asked, Capture, Given, write_capture
from dragoman.gateway.capture_order import captures_folder, read_order
from dragoman.gateway.capture_replay import replay
from dragoman.store.address import database_address
from dragoman.store.database import Database

NOW = 1_700_000_000.0


def a_capture(id: str, **changes: Any) -> Capture:
    asked = Asked(
        method="POST", path="/v1/messages", query="", headers=[], repeated=[], body='{"model":"who"}'
    )
    capture = Capture(
        dragoman="1.2.3",
        id=id,
        at=NOW,
        client="x/1",
        client_wire="messages",
        model="who",
        provider="",
        upstream_model="",
        upstream_wire=None,
        stream=False,
        status=404,
        outcome="refused",
        failure="not_found",
        total_ms=1.0,
        redacted=0,
        incomplete=False,
        ended="whole",
        request=asked,
        upstream=[],
        answer=None,
        stage={},
    )
    return msgspec.structs.replace(capture, **changes)


@pytest.fixture
def folder(home):
    folder = captures_folder(home.state)
    folder.mkdir(mode=0o700)
    return folder


def test_recording_is_begun_and_ended(ask, home):
    assert ask("GET", "/api/v1/captures").json() == {
        "capture": {
            "on": False,
            "until": None,
            "exchanges": 0,
            "recorded": 0,
            "failed_only": False,
            "stopped": None,
        },
        "captures": [],
    }
    begun = ask("POST", "/api/v1/captures", {"minutes": 2, "exchanges": 3})
    assert begun.status_code == 201
    assert begun.json()["capture"]["until"] == NOW + 120
    order = read_order(home.state)
    assert order is not None
    assert (order.exchanges, order.days, order.folder_bytes) == (3, 7, 200 << 20)
    assert ask("POST", "/api/v1/captures", {"minutes": 0}).status_code == 400
    assert ask("POST", "/api/v1/captures", {"hours": 1}).status_code == 400
    assert ask("DELETE", "/api/v1/captures").json()["was_on"] is True
    assert ask("DELETE", "/api/v1/captures").json()["was_on"] is False
    assert read_order(home.state) is None


def test_recordings_are_listed_shown_and_played(ask, folder):
    write_capture(folder, a_capture("aaaa1111"))
    write_capture(folder, a_capture("bbbb2222", at=NOW + 1))
    write_capture(folder, a_capture("cccc3333", at=NOW + 2, incomplete=True))
    said = ask("GET", "/api/v1/captures").json()["captures"]
    assert [each["id"] for each in said] == ["cccc3333", "bbbb2222", "aaaa1111"]
    assert "request" not in said[0]
    assert ask("GET", "/api/v1/captures/aaaa").json()["request"]["body"] == '{"model":"who"}'
    assert ask("GET", "/api/v1/captures/zzzz").status_code == 404
    told = ask("POST", "/api/v1/captures/aaaa/replay")
    assert (told.status_code, told.json()["error_code"]) == (404, "no_capture"), "no stage in it"
    assert "too large" in ask("POST", "/api/v1/captures/cccc/replay").json()["error"]


def test_a_recording_that_is_whole_is_played(ask, folder):
    stage = {
        "response_id": "r",
        "created_at": 1,
        "silence_s": 5.0,
        "embedded_url": "",
        "token": None,
        "route": None,
        "nearest": "whose",
        "learned": [],
        "keys": {},
        "leases": [],
        "added": {},
        "refused": None,
        "walls": [NOW],
        "recalled": {},
    }
    asked = Asked(
        method="POST", path="/v1/messages", query="", headers=[], repeated=[], body='{"model":"who"}'
    )
    capture = a_capture("dddd4444", stage=stage, request=asked)
    body = replay(capture).answer
    told = Given(at_ms=1.0, status=404, headers=[], body=body.decode(), pieces=[(1.0, len(body))])
    write_capture(folder, msgspec.structs.replace(capture, answer=told))
    said = ask("POST", "/api/v1/captures/dddd/replay").json()
    assert {part["what"]: part["same"] for part in said["parts"]} == {
        "answer status": True,
        "answer headers": False,
        "answer body": True,
    }
    assert (said["same"], said["answer"]) == (False, len(body))
    assert b"whose" in body


def test_only_a_control_token_sees_recordings(ask, folder):
    write_capture(folder, a_capture("aaaa1111"))
    for method, path in (
        ("GET", "/api/v1/captures"),
        ("GET", "/api/v1/captures/aaaa"),
        ("POST", "/api/v1/captures"),
    ):
        assert ask(method, path, token=None).status_code == 401


def test_the_document_names_them(ask):
    paths = ask("GET", "/api/v1/openapi.json").json()["paths"]
    assert set(paths["/api/v1/captures"]) == {"get", "post", "delete"}
    assert all(operation["summary"] for operation in paths["/api/v1/captures/{id}"].values())


def test_gc_takes_them_by_age_and_size(home, folder):
    for number in range(3):
        file = write_capture(folder, a_capture(f"aaaa{number}"))
        os.utime(file, (NOW - number * 86_400, NOW - number * 86_400))
    books = Books(home, Database(database_address(home, {})))

    def sweep(rules: str, *, execute: bool) -> list[tuple[str, str]]:
        sweepers = {"captures": room_sweepers(home, books, wall=lambda: NOW + 60)["captures"]}
        retainer = Retainer(lambda: parse_config(f"[retention]\n{rules}\n", {}), sweepers)
        (found,) = retainer.sweep(execute=execute)
        assert found.bytes == sum(item.bytes for item in found.items)
        return [(item.id, item.reason) for item in found.items]

    try:
        assert sweep("captures_days = 0", execute=False) == []
        assert sweep("captures_days = 1", execute=False) == [("aaaa2", "old"), ("aaaa1", "old")]
        assert len(list(folder.glob("*.json"))) == 3
        assert len(sweep("captures_days = 2", execute=True)) == 1
        assert sorted(file.stem for file in folder.glob("*.json")) == ["aaaa0", "aaaa1"]
    finally:
        books.database.close()
