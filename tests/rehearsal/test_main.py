"""The embedded model as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from dragoman.rehearsal.__main__ import main
from dragoman.rehearsal.server import NotLoopback, PortTaken, listen

StartModel = Callable[..., str]

PLAY = "[[rule]]\nwhen.tools = 'any'\ndo = [{ say = 'Hello.' }]"


def test_it_says_where_it_listens_and_answers(start_model: StartModel, tmp_path: Path):
    url = start_model(PLAY, "--journal", str(tmp_path / "journal"), "--pace", "0")
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "Hello."
    assert json.loads((tmp_path / "journal").read_text())["scenario"] == "play"


def test_it_ends_when_its_owners_pipe_closes(tmp_path: Path):
    tied, ours = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman.rehearsal", "--parent-fd", str(tied)],
        stdout=subprocess.PIPE,
        pass_fds=(tied,),
    )
    os.close(tied)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith(b"listening on ")
        assert process.poll() is None
        os.close(ours)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_several_scenarios_answer_for_their_own_models(tmp_path: Path, start_model: StartModel):
    url = start_model("models = ['mine']\n" + PLAY, "--scenario", "greeting", "--pace", "0")

    def say(model: str) -> httpx.Response:
        body = {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": "hi"}]}
        return httpx.post(f"{url}/v1/messages", json=body)

    assert say("mine").json()["content"][0]["text"] == "Hello."
    assert "embedded rehearsal model" in say("rehearsal").json()["content"][0]["text"]
    assert say("glm-5.2").status_code == 404


def test_a_mistake_in_the_file_is_one_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "mine.toml"
    file.write_text("version = 1\n[[rule]]\ndoo = []\n")
    assert main(["--scenario", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"error: {file}:3: rule[0].doo: unknown key (nearest: rule[0].do)",
        "hint: docs/scenarios.md describes the format",
    ]


def test_files_can_be_checked_without_serving(capsys: pytest.CaptureFixture[str]):
    assert main(["--check", "--scenario", "demo"]) == 0
    assert capsys.readouterr().out == "demo: 7 rules\n"


def test_only_loopback_is_listened_on():
    for host in ("0.0.0.0", "192.0.2.1", "example.org"):
        with pytest.raises(NotLoopback, match="is not a loopback address"):
            listen(host, 0)
    listener, url = listen("localhost", 0)
    with listener:
        assert url.startswith("http://127.0.0.1:")
        with pytest.raises(PortTaken, match="cannot listen on port"):
            listen("127.0.0.1", listener.getsockname()[1])
