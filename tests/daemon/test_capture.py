"""`dragoman capture` and `replay` beside a daemon that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dragoman.config.tokens import ensure_data_token

ASK: dict[str, dict[str, Any]] = {
    "/v1/messages": {"max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi"},
}


def said(done: Any, code: int = 0) -> Any:
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def test_an_exchange_of_a_running_gateway_becomes_a_test_case(homestead: Any, tmp_path: Path, until: Any):
    """Nothing is restarted; the exported file plays in a home that knows nothing, the daemon gone."""
    daemon = homestead.serve().wait_up()
    token = ensure_data_token(homestead.home)

    def ask(path: str, **fields: Any) -> Any:
        body = {"model": "rehearsal", **ASK[path], **fields}
        return daemon.call(path, method="POST", body=body, authorization=f"Bearer {token}")

    assert ask("/v1/messages").status == 200
    state = said(homestead.dragoman("capture", "on", "--minutes", "5", "--exchanges", "7", "--json"))
    assert (state["on"], state["exchanges"], state["recorded"]) == (True, 7, 0)

    def first() -> Any:
        ask("/v1/messages")
        return said(homestead.dragoman("capture", "--json"))["captures"]

    until(first, "the order to be taken up")
    answers = {}
    for path in ASK:
        for stream in (True, False):
            answer = ask(path, stream=stream)
            assert answer.status == 200
            answers[answer.headers["x-dragoman-request-id"]] = answer.body
    until(lambda: not said(homestead.dragoman("capture", "list", "--json"))["capture"]["on"], "the end")
    listed = said(homestead.dragoman("capture", "list", "--json"))["captures"]
    assert len(listed) == 7
    known = [each["id"] for each in listed if each["id"] in answers]
    assert len(known) >= 5
    assert daemon.stop() == 0

    elsewhere = tmp_path / "elsewhere"
    for id in known:
        file = tmp_path / f"{id}.json"
        exported = said(homestead.dragoman("capture", "export", id[:10], "-o", str(file), "--json"))
        assert (exported["id"], exported["replays"]) == (id, True)
        assert file.stat().st_mode & 0o777 == 0o600
        assert token not in file.read_text()
        out = tmp_path / "out"
        env = {"DRAGOMAN_HOME": str(elsewhere)}
        played = said(homestead.dragoman("replay", str(file), "-o", str(out), "--json", **env))
        assert played["same"]
        assert out.read_bytes() == answers[id]
    body = homestead.dragoman("capture", "show", known[0], "--body", "answer").stdout
    assert body.encode() == answers[known[0]]
    assert "byte for byte" in homestead.dragoman("replay", known[0]).stdout
    assert "rehearsal" in homestead.dragoman("capture", "list").stdout
    assert "pieces" in homestead.dragoman("capture", "show", "last").stdout

    file = tmp_path / f"{known[-1]}.json"
    content = json.loads(file.read_text())
    content["answer"]["body"] = content["answer"]["body"].replace("model", "mobel", 1)
    file.write_text(json.dumps(content))
    different = said(homestead.dragoman("replay", str(file), "--json"), 1)
    assert [part["what"] for part in different["parts"] if not part["same"]] == ["answer body"]
    shown = homestead.dragoman("replay", str(file))
    assert shown.returncode == 1
    assert "mobel" in shown.stdout
    file.write_text("{}")
    assert said(homestead.dragoman("replay", str(file), "--json"), 1)["error_code"] == "no_capture"


def test_an_order_is_given_and_taken_back_without_a_daemon(homestead: Any):
    assert said(homestead.dragoman("capture", "--json")) == {
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
    assert said(homestead.dragoman("capture", "on", "--failed-only", "--json"))["failed_only"]
    file = homestead.home.state / "capture.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert said(homestead.dragoman("capture", "off", "--json"))["was_on"]
    assert not file.exists()
    assert (
        said(homestead.dragoman("capture", "on", "--minutes", "99999", "--json"), 2)["error_code"]
        == "bad_order"
    )
    assert said(homestead.dragoman("capture", "show", "last", "--json"), 1)["error_code"] == "no_capture"
    assert homestead.processes() == []
