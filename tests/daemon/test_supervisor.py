"""The real parent over stub gateways and the real control process."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dragoman.daemon.health import split_url


def control_get(home, path: str, token: str | None = None) -> tuple[int, dict | str]:
    """A request to the control socket, not through a gateway."""
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(home.control_socket))
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, json.loads(body) if body.startswith("{") else body


@pytest.fixture
def open_stream() -> Iterator[Callable[[Any], http.client.HTTPResponse]]:
    """A stream of two seconds whose first line has come."""
    connections: list[http.client.HTTPConnection] = []

    def open_one(daemon: Any) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(*split_url(daemon.url), timeout=30)
        connections.append(connection)
        connection.request("GET", "/stream")
        response = connection.getresponse()
        assert response.readline() == b"0\n"
        return response

    yield open_one
    for connection in connections:
        connection.close()


def test_it_says_where_it_listens_and_writes_it_down_privately(homestead):
    daemon = homestead.stub().wait_up()
    note = daemon.note
    assert (note["url"], note["pid"], note["version"]) == (daemon.url, daemon.process.pid, "0.1.0")
    assert stat.S_IMODE(daemon.home.daemon_json.stat().st_mode) == 0o600
    assert daemon.call("/health").status == 200
    for path in (daemon.home.gateway_socket, daemon.home.control_socket):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_stop_leaves_no_process_no_address_and_no_socket(homestead):
    daemon = homestead.stub().wait_up()
    control_get(daemon.home, "/")
    assert len(homestead.processes()) == 3
    assert daemon.stop() == 0
    assert homestead.processes() == []
    assert [path.name for path in daemon.home.run.rglob("*") if not path.is_dir()] == ["lock"]


def test_ctrl_c_stops_like_sigterm(homestead):
    daemon = homestead.stub().wait_up()
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(30) == 0
    assert daemon.rest() == ("", "")


def test_streams_finish_before_it_ends_and_nobody_new_comes_in(homestead, until, open_stream):
    daemon = homestead.stub().wait_up()
    response = open_stream(daemon)
    daemon.process.send_signal(signal.SIGTERM)

    def refused() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(split_url(daemon.url)) != 0

    until(refused)
    assert daemon.process.poll() is None
    assert response.read().split(b"\n")[-2:] == [b"39", str(daemon.pids("gateway")[0]).encode()]
    assert daemon.process.wait(30) == 0


def test_a_second_signal_cuts_the_streams(homestead, open_stream):
    daemon = homestead.stub().wait_up()
    response = open_stream(daemon)
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(30) == 0
    assert time.monotonic() - began < 5
    with pytest.raises(http.client.IncompleteRead):
        response.read()


def test_streams_that_do_not_end_are_cut_when_the_drain_is_over(homestead, open_stream):
    daemon = homestead.stub(drain_s=0.3).wait_up()
    open_stream(daemon)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 5


def test_a_gateway_killed_is_replaced_on_the_same_port(homestead, until):
    daemon = homestead.stub().wait_up()
    first = int(daemon.call("/pid").body)
    os.kill(first, signal.SIGKILL)
    second = int(daemon.call("/pid").body)  # waits in the kernel's queue for the successor
    assert second != first
    until(lambda: daemon.pids("gateway") == [second])
    assert any(row["event"] == "child_ended" and row["exit"] == -9 for row in homestead.log())


def test_one_gateway_of_two_killed_leaves_the_streams_of_the_other(homestead, until, open_stream):
    daemon = homestead.stub(workers=2).wait_up()
    assert len(daemon.pids("gateway")) == 2
    response = open_stream(daemon)
    serving = int(response.headers["x-pid"])
    other = next(pid for pid in daemon.pids("gateway") if pid != serving)
    os.kill(other, signal.SIGKILL)
    until(lambda: other not in daemon.pids("gateway") and len(daemon.pids("gateway")) == 2)
    daemon.process.send_signal(signal.SIGTERM)
    assert response.read().endswith(str(serving).encode())


def test_a_gateway_that_cannot_come_back_is_tried_ever_more_slowly_and_named_in_the_log(homestead, until):
    daemon = homestead.stub("late").wait_up()
    os.kill(daemon.pids("gateway")[0], signal.SIGKILL)
    until(lambda: sum(row.get("failure") == "no model is configured" for row in homestead.log()) >= 3)
    rows = [row for row in homestead.log() if row["event"] in ("child_started", "child_ended")]
    pauses = [later["at"] - row["at"] for row, later in pairwise(rows) if row.get("failure")]
    assert pauses[0] >= 0.19
    assert pauses[1] >= 0.39
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("mode", "changes", "words"),
    [
        ("fails", {}, "dragoman: no model is configured\n  next: dragoman setup\n"),
        ("dies", {}, "dragoman: the gateway process ended while it was starting\n  next: tail STDERR\n"),
        ("hangs", {"start_s": 0.5}, "dragoman: the gateway process was not ready after 0 s\n"),
        ("mute", {}, "does not answer\n"),
    ],
)
def test_a_gateway_that_never_serves_ends_the_daemon_with_one_reason(homestead, mode, changes, words):
    daemon = homestead.stub(mode, changes=changes)
    out, err = daemon.rest()
    assert (daemon.process.returncode, out) == (1, "")
    assert err.endswith(words.replace("STDERR", str(homestead.home.logs / "stderr.log"))), err
    assert homestead.processes() == []
    assert not homestead.home.daemon_json.exists()


def test_children_of_a_killed_parent_end_by_themselves_and_the_port_is_free_again(homestead, until):
    daemon = homestead.stub().wait_up()
    control_get(daemon.home, "/")
    port = split_url(daemon.url)[1]
    daemon.process.kill()
    until(lambda: homestead.processes() == [])
    assert daemon.home.daemon_json.exists()
    again = homestead.stub(port=port).wait_up()
    assert again.url == daemon.url
    assert again.call("/health").status == 200
    assert again.stop() == 0


def test_a_new_daemon_takes_the_port_while_orphans_still_finish_their_streams(homestead, open_stream):
    daemon = homestead.stub().wait_up()
    response = open_stream(daemon)
    old = daemon.pids("gateway")[0]
    daemon.process.kill()
    again = homestead.stub(port=split_url(daemon.url)[1]).wait_up()
    assert int(again.call("/pid").body) != old
    assert response.read().endswith(str(old).encode())


def test_control_sleeps_until_somebody_knocks_and_goes_when_nobody_needs_it(homestead, until):
    daemon = homestead.stub(control_idle_s=0.2).wait_up()
    assert daemon.pids("control") == []
    status, page = control_get(daemon.home, "/")
    assert (status, "dragoman 0.1.0" in page) == (200, True)
    until(lambda: daemon.pids("control") == [])
    until(lambda: any(row.get("child") == "control" and row.get("exit") == 0 for row in homestead.log()))
    assert control_get(daemon.home, "/")[0] == 200


def test_control_comes_back_when_it_was_killed(homestead, until):
    daemon = homestead.stub().wait_up()
    assert control_get(daemon.home, "/")[0] == 200
    os.kill(daemon.pids("control")[0], signal.SIGKILL)
    until(lambda: daemon.pids("control") == [])
    assert control_get(daemon.home, "/")[0] == 200


def test_knocks_that_meet_a_leaving_control_process_are_answered_by_its_successor(homestead):
    daemon = homestead.stub(control_idle_s=0.0).wait_up()
    assert [control_get(daemon.home, "/")[0] for _ in range(5)] == [200] * 5


def test_a_control_process_that_cannot_start_is_a_503_with_the_reason(homestead):
    daemon = homestead.stub(changes={"control_argv": ["/no/such/program"]}).wait_up()
    status, body = control_get(daemon.home, "/")
    assert isinstance(body, dict)
    assert (status, body["error_code"]) == (503, "control_unavailable")
    assert "cannot start the control process" in body["error"]
    assert daemon.call("/health").status == 200


def test_the_embedded_model_is_started_by_a_knock_too(homestead):
    daemon = homestead.stub().wait_up()
    daemon.url = daemon.call("/rehearsal").body.decode()
    assert daemon.call("/health").status == 200
    assert len(daemon.pids("rehearsal")) == 1
    assert daemon.pids("control") == []


def test_a_scenario_with_a_mistake_is_told_to_whoever_asks_the_embedded_model(homestead):
    homestead.home.config_file.write_text('[rehearsal]\nscenario = "no-such-scenario"\n')
    daemon = homestead.stub().wait_up()
    daemon.url = daemon.call("/rehearsal").body.decode()
    answer = daemon.call("/health")
    assert (answer.status, answer.json["error"]["code"]) == (503, "rehearsal_unavailable")
    assert "no-such-scenario" in answer.json["error"]["message"]


def test_status_of_the_control_api_names_every_child(homestead):
    daemon = homestead.stub().wait_up()
    token = daemon.home.control_token_file.read_text().strip()
    status, body = control_get(daemon.home, "/api/v1/status", token)
    assert isinstance(body, dict)
    assert (status, body["url"], body["pid"]) == (200, daemon.url, daemon.process.pid)
    assert [child["role"] for child in body["children"]] == ["gateway", "control"]


def test_no_process_of_the_daemon_lets_others_read_its_environment_or_leaves_a_core(homestead):
    daemon = homestead.stub().wait_up()
    control_get(daemon.home, "/")
    for pid in (daemon.process.pid, *daemon.pids("control")):
        limits = Path(f"/proc/{pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        if os.geteuid() != 0:  # to root the kernel shows everything
            with pytest.raises(PermissionError):
                Path(f"/proc/{pid}/environ").read_bytes()
