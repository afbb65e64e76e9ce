"""Reload and restart under running streams."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dragoman.cli import serving
from dragoman.daemon.changing import ChangeRefused, NotRunning, reload_daemon, restart_daemon
from dragoman.daemon.children import OwnProcess
from dragoman.daemon.health import split_url
from dragoman.daemon.where import read_daemon_json


@pytest.fixture
def open_stream() -> Iterator[Callable[[Any], http.client.HTTPResponse]]:
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


def test_a_restart_replaces_every_process_but_keeps_pid_port_and_streams(homestead, open_stream, until):
    daemon = homestead.stub().wait_up()
    before = daemon.note
    old = daemon.pids("gateway")[0]
    stream = open_stream(daemon)
    note = restart_daemon(homestead.home)
    assert (note.pid, note.url, note.since) == (before["pid"], daemon.url, before["since"])
    new = int(daemon.call("/pid").body)
    assert new != old
    assert old in daemon.pids("gateway")  # still with its stream
    assert stream.read().endswith(str(old).encode())
    until(lambda: daemon.pids("gateway") == [new])
    assert daemon.stop() == 0
    assert homestead.processes() == []


def test_no_connection_is_refused_or_cut_while_gateways_change(homestead):
    daemon = homestead.stub().wait_up()
    stop = threading.Event()
    answers: list[int] = []
    failures: list[str] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(int(daemon.call("/pid").body))
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            restart_daemon(homestead.home)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(set(answers)) >= 3
    assert daemon.stop() == 0


def test_a_restarted_daemon_still_replaces_what_dies_and_restarts_again(homestead, until):
    daemon = homestead.stub().wait_up()
    restart_daemon(homestead.home)
    first = int(daemon.call("/pid").body)
    os.kill(first, signal.SIGKILL)
    second = int(daemon.call("/pid").body)
    assert second != first
    assert restart_daemon(homestead.home).restarts.count == 2
    until(lambda: second not in daemon.pids("gateway"))


def test_children_on_demand_are_replaced_by_the_next_knock(homestead, until):
    daemon = homestead.serve().wait_up()
    token = daemon.home.control_token_file.read_text().strip()
    bearer = {"Authorization": f"Bearer {token}"}
    assert daemon.call("/api/v1/status", **bearer).status == 200
    old = daemon.pids("control")[0]
    restart_daemon(homestead.home)
    until(lambda: old not in daemon.pids("control"))
    assert daemon.call("/api/v1/status", **bearer).status == 200
    assert daemon.stop() == 0
    assert homestead.processes() == []


def test_when_the_new_gateway_cannot_start_the_old_one_goes_on(homestead, until):
    daemon = homestead.stub("late").wait_up()
    old = daemon.pids("gateway")[0]
    with pytest.raises(ChangeRefused, match="no model is configured") as caught:
        restart_daemon(homestead.home)
    assert caught.value.hint == "dragoman setup"
    assert int(daemon.call("/pid").body) == old
    until(lambda: daemon.pids("gateway") == [old])


def test_a_wrong_configuration_refuses_a_restart_before_anything_is_started(homestead):
    daemon = homestead.stub().wait_up()
    old = daemon.pids("gateway")
    homestead.home.config_file.write_text("[gateway]\nprot = 1\n")
    with pytest.raises(ChangeRefused, match="prot"):
        restart_daemon(homestead.home)
    homestead.home.config_file.write_text("[gateway]\nport = 1\n")
    assert restart_daemon(homestead.home).restarts.message is None  # --port 0 was said, and still holds
    homestead.home.config_file.write_text('[gateway]\nhost = "127.0.0.2"\n')
    with pytest.raises(ChangeRefused, match=r"127\.0\.0\.2") as caught:
        restart_daemon(homestead.home)
    assert "dragoman stop" in str(caught.value.hint)
    assert daemon.call("/health").status == 200
    assert daemon.pids("gateway") != old


def test_a_restart_can_bring_more_gateways(homestead):
    daemon = homestead.serve().wait_up()
    homestead.home.config_file.write_text("[gateway]\nworkers = 2\n")
    new = {child.pid for child in restart_daemon(homestead.home).children if child.state == "ready"}
    assert len(new - {daemon.process.pid}) >= 2


def test_a_reload_changes_what_is_served_and_touches_no_process(homestead):
    daemon = homestead.serve().wait_up()
    bearer = {"Authorization": f"Bearer {daemon.home.data_token_file.read_text().strip()}"}
    pids = daemon.pids("gateway")
    assert daemon.call("/v1/models/mine", **bearer).status == 404
    config = '[providers.p]\nwires.chat = "http://127.0.0.1:9/v1"\n[models.mine]\nprovider = "p"\n'
    homestead.home.config_file.write_text(config)
    assert reload_daemon(homestead.home).reloads.count == 1
    assert daemon.call("/v1/models/mine", **bearer).status == 200
    homestead.home.config_file.write_text(config + "[gateway]\nprot = 1\n")
    with pytest.raises(ChangeRefused, match="prot"):
        reload_daemon(homestead.home)
    assert daemon.call("/v1/models/mine", **bearer).status == 200
    assert daemon.pids("gateway") == pids
    homestead.home.config_file.write_text("")
    assert reload_daemon(homestead.home).reloads.message is None
    assert daemon.call("/v1/models/mine", **bearer).status == 404


def test_sighup_reloads_every_gateway_of_several(homestead, until):
    daemon = homestead.serve("--workers", "2").wait_up()
    bearer = {"Authorization": f"Bearer {daemon.home.data_token_file.read_text().strip()}"}
    homestead.home.config_file.write_text(
        '[providers.p]\nwires.chat = "http://127.0.0.1:9/v1"\n[models.mine]\nprovider = "p"\n'
    )
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: (note := read_daemon_json(homestead.home)) and note.reloads.count == 1)
    assert {daemon.call("/v1/models/mine", **bearer).status for _ in range(20)} == {200}


MINE = '[providers.p]\nwires.chat = "http://127.0.0.1:9/v1"\n[models.mine]\nprovider = "p"\n'


def test_a_changed_file_is_taken_into_use_by_itself_and_a_wrong_one_is_told(homestead, until):
    daemon = homestead.serve("--workers", "2").wait_up()
    data, control = (
        {"Authorization": f"Bearer {file.read_text().strip()}"}
        for file in (daemon.home.data_token_file, daemon.home.control_token_file)
    )

    def statuses() -> set[int]:
        return {daemon.call("/v1/models/mine", **data).status for _ in range(10)}

    homestead.home.config_file.write_text(MINE)
    until(lambda: statuses() == {200})
    assert daemon.call("/api/v1/status", **control).json["config_error"] is None
    reloads = daemon.note["reloads"]["count"]
    homestead.home.config_file.write_text(MINE + '[providers.q]\npreset = "no-such-preset"\nkey_env = "K"\n')
    until(lambda: daemon.note["reloads"]["count"] > reloads)
    assert statuses() == {200}
    told = homestead.dragoman("status")
    assert (told.returncode, "REFUSED" in told.stdout, "no-such-preset" in told.stdout) == (0, True, True)
    assert "no-such-preset" in json.loads(homestead.dragoman("status", "--json").stdout)["config_error"]
    assert "no-such-preset" in daemon.call("/api/v1/status", **control).json["config_error"]
    assert any("no-such-preset" in str(row.get("failure")) for row in homestead.log())
    homestead.home.config_file.unlink()  # no change: an editor may be between two steps
    draft = homestead.folder / "draft"
    draft.write_text(MINE.replace("mine", "yours"))
    draft.replace(homestead.home.config_file)
    until(lambda: statuses() == {404})
    assert daemon.call("/v1/models/yours", **data).status == 200
    assert homestead.dragoman("status").stdout.count("REFUSED") == 0


def test_children_that_come_back_while_the_file_is_wrong_serve_what_was_in_force(homestead, until):
    homestead.home.config_file.write_text(MINE)
    daemon = homestead.serve("--workers", "2").wait_up()
    data, control = (
        {"Authorization": f"Bearer {file.read_text().strip()}"}
        for file in (daemon.home.data_token_file, daemon.home.control_token_file)
    )
    for wrong in ("nonsense", MINE + '[providers.q]\npreset = "no-such-preset"\n'):
        homestead.home.config_file.write_text(wrong)
        old = daemon.pids("gateway")
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        assert daemon.call("/v1/models/mine", **data).status == 200
        until(lambda old=old: len(set(daemon.pids("gateway")) - set(old)) == 2)
        for pid in daemon.pids("control"):
            os.kill(pid, signal.SIGKILL)
        assert daemon.call("/api/v1/status", **control).status == 200
        assert {daemon.call("/v1/models/mine", **data).status for _ in range(10)} == {200}
    assert daemon.stop() == 0
    assert [path.name for path in daemon.home.run.rglob("*") if not path.is_dir()] == ["lock"]


def test_nothing_that_does_not_run_can_be_changed(homestead):
    for change in (reload_daemon, restart_daemon):
        with pytest.raises(NotRunning) as caught:
            change(homestead.home)
        assert caught.value.hint == "dragoman serve"


def test_the_commands_say_how_it_went(homestead, monkeypatch):
    for name, value in homestead.env.items():
        monkeypatch.setenv(name, value)
    homestead.home.config_file.write_text("[gateway]\nport = 0\n")

    def run(command: click.Command, *words: str) -> str:
        result = CliRunner().invoke(command, list(words), catch_exceptions=False, standalone_mode=False)
        assert result.return_value == 0
        return result.stdout

    started = run(serving.restart)
    assert "serves at http://127.0.0.1:" in started
    assert run(serving.restart) == started
    assert json.loads(run(serving.restart, "--json"))["version"] == "0.1.0"
    assert run(serving.reload) == "reloaded\n"
    log = run(serving.logs, "-n", "500")
    assert " serving url=http://127.0.0.1:" in log
    assert " restarted " in log
    assert json.loads(run(serving.logs, "-n", "1", "--json"))["event"] == "reloaded"
    homestead.home.config_file.write_text("nonsense")
    with pytest.raises(ChangeRefused, match="nothing was changed"):
        run(serving.reload)
    assert run(serving.stop).startswith("stopped")


def test_a_process_known_by_its_pid_is_waited_for_once():
    pid = os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", "raise SystemExit(3)"], {})
    process = OwnProcess(pid)
    assert process.wait() == 3
    assert (process.poll(), process.wait(), process.returncode) == (3, 3, 3)
    assert OwnProcess(pid).poll() == -1
    assert not Path(f"/proc/{pid}").exists()
