"""Finding a daemon, starting one, ending it."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dragoman.daemon.connect import DaemonUnavailable, ensure_daemon, find_daemon
from dragoman.daemon.health import is_healthy, split_url, url_of
from dragoman.daemon.starting import ServeOptions
from dragoman.daemon.stopping import StillRunning, stop_daemon
from dragoman.daemon.where import read_daemon_json
from dragoman.process.identity import identify
from dragoman.process.spawn import SpawnPlan, spawn_detached

PORT_0 = ServeOptions(port=0)


def test_a_daemon_is_started_once_and_found_from_then_on(homestead, capsys):
    home = homestead.home
    assert find_daemon(home) is None
    started = ensure_daemon(home, homestead.env | homestead.stubs, options=PORT_0)
    assert (started.started, is_healthy(started.url)) == (True, True)
    assert capsys.readouterr().err == "dragoman: starting the dragoman daemon\n"
    again = ensure_daemon(home, homestead.env | homestead.stubs, options=PORT_0)
    assert (again.url, again.pid, again.started) == (started.url, started.pid, False)
    assert find_daemon(home) == again
    assert capsys.readouterr().err == ""
    assert stop_daemon(home) == started.pid
    assert find_daemon(home) is None


def test_a_daemon_in_the_background_has_no_terminal_and_its_own_session(homestead):
    handle = ensure_daemon(
        homestead.home, homestead.env | homestead.stubs, options=PORT_0, say=lambda _: None
    )
    assert os.getsid(handle.pid) == handle.pid
    assert Path(f"/proc/{handle.pid}/fd/0").readlink() == Path("/dev/null")
    assert Path(f"/proc/{handle.pid}/cwd").readlink() == homestead.home.state


def test_a_daemon_started_inside_a_run_does_not_carry_its_mark(homestead):
    env = homestead.env | homestead.stubs | {"DRAGOMAN_RUN": "r1"}
    handle = ensure_daemon(homestead.home, env, options=PORT_0, say=lambda _: None)
    for pid in homestead.processes():
        assert b"DRAGOMAN_RUN" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert handle.pid in homestead.processes()


def test_several_callers_at_once_get_the_same_daemon(homestead):
    found = []

    def call() -> None:
        found.append(
            ensure_daemon(homestead.home, homestead.env | homestead.stubs, options=PORT_0, say=lambda _: None)
        )

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({handle.pid for handle in found}) == 1
    assert len(found) == 3


def test_the_reason_why_a_daemon_cannot_start_reaches_the_caller(homestead):
    homestead.home.config_file.write_text("[gateway]\nprot = 1\n")
    with pytest.raises(DaemonUnavailable, match=r"could not be started: .*prot") as caught:
        ensure_daemon(homestead.home, homestead.env, say=lambda _: None)
    assert caught.value.exit_code == 1


def test_a_gateway_that_fails_is_named_to_the_caller_with_its_hint(homestead):
    env = homestead.env | homestead.stubs | {"STUB_GATEWAY": "fails"}
    with pytest.raises(DaemonUnavailable, match="no model is configured") as caught:
        ensure_daemon(homestead.home, env, options=PORT_0, say=lambda _: None)
    assert caught.value.hint == "dragoman setup"


def test_a_gateway_that_dies_without_a_word_is_told_with_where_its_last_words_are(homestead):
    env = homestead.env | homestead.stubs | {"STUB_GATEWAY": "dies"}
    with pytest.raises(DaemonUnavailable, match="ended while it was starting") as caught:
        ensure_daemon(homestead.home, env, options=PORT_0, say=lambda _: None)
    assert str(homestead.home.logs / "stderr.log") in str(caught.value.hint)


def test_a_folder_in_the_way_is_named_to_the_caller(homestead):
    homestead.home.ensure()
    homestead.home.lock_file.mkdir(parents=True)
    with pytest.raises(DaemonUnavailable, match=r"could not be started: .*Is a directory") as caught:
        ensure_daemon(homestead.home, homestead.env, options=PORT_0, say=lambda _: None)
    assert caught.value.hint == "dragoman doctor --offline"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[providers.x]\npreset = "custom"\n', r"dragoman.toml:2: providers.x.preset: custom has no address"),
        (
            '[gateway]\nca_file = "none.pem"\n[providers.zai]\n',
            r"dragoman.toml:2: gateway.ca_file: .*no such file",
        ),
        ('[aliases]\na = "b"\n', r"dragoman.toml:2: aliases.a: no route for b"),
    ],
)
def test_a_mistake_only_a_gateway_can_see_reaches_whoever_started_it(toml: str, said: str, homestead):
    homestead.home.config_file.write_text(toml)
    with pytest.raises(DaemonUnavailable, match=f"could not be started: .*{said}") as caught:
        ensure_daemon(homestead.home, homestead.env, options=PORT_0, say=lambda _: None)
    assert caught.value.hint


def test_a_taken_port_is_told_to_whoever_started_it(homestead):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ServeOptions(port=port)
        with pytest.raises(DaemonUnavailable) as caught:
            ensure_daemon(homestead.home, homestead.env, options=options, say=lambda _: None)
    assert f"port {port} on 127.0.0.1 is taken by another program" in str(caught.value)
    assert str(caught.value.hint).startswith("dragoman serve --port 0")


def test_a_starter_that_dies_without_a_word_is_an_error_with_a_next_step(homestead):
    def spawn(plan: SpawnPlan):
        return spawn_detached(replace(plan, argv=(sys.executable, "-c", "pass")))

    with pytest.raises(DaemonUnavailable, match="without a word") as caught:
        ensure_daemon(homestead.home, homestead.env, spawn=spawn, say=lambda _: None)
    assert "dragoman serve" in str(caught.value.hint)


def test_a_daemon_that_was_killed_is_not_found(homestead, until):
    daemon = homestead.stub().wait_up()
    assert find_daemon(homestead.home) is not None
    daemon.process.kill()
    daemon.process.wait()
    assert daemon.home.daemon_json.exists()
    assert find_daemon(homestead.home) is None
    assert stop_daemon(homestead.home) is None
    until(lambda: homestead.processes() == [])


def test_an_address_left_by_a_process_whose_pid_is_somebody_elses_now_is_not_believed(homestead):
    home = homestead.home
    home.ensure()
    me = {"url": "http://127.0.0.1:1", "pid": os.getpid(), "version": "0", "since": 1.0, "children": []}
    home.daemon_json.write_text(json.dumps(me | {"started_at": "an earlier life"}))
    assert read_daemon_json(home) is None
    mine = identify(os.getpid())
    assert mine is not None
    home.daemon_json.write_text(json.dumps(me | {"started_at": mine.started_at}))
    assert read_daemon_json(home) is not None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 1}', '{"url": "u", "pid": "x"}'])
def test_an_address_file_that_makes_no_sense_is_no_daemon(content: str, homestead):
    homestead.home.ensure()
    homestead.home.daemon_json.write_text(content)
    assert read_daemon_json(homestead.home) is None


def test_a_stop_waits_for_streams_and_now_does_not(homestead):
    daemon = homestead.stub().wait_up()
    stream = http.client.HTTPConnection(*split_url(daemon.url), timeout=30)
    stream.request("GET", "/stream")
    response = stream.getresponse()
    assert response.readline() == b"0\n"
    with pytest.raises(StillRunning, match="open streams") as caught:
        stop_daemon(homestead.home, timeout_s=0.2)
    assert (caught.value.exit_code, caught.value.hint) == (124, "dragoman stop --now")
    began = time.monotonic()
    assert stop_daemon(homestead.home, now=True) == daemon.process.pid
    assert time.monotonic() - began < 1.5
    stream.close()


def test_a_daemon_that_is_still_starting_is_stopped_too(homestead, until):
    daemon = homestead.stub("hangs")
    until(lambda: homestead.home.lock_file.exists() and homestead.home.lock_file.stat().st_size)
    assert stop_daemon(homestead.home, now=True) == daemon.process.pid
    assert daemon.process.wait(30) != 0 or daemon.rest()[0] == ""


def test_a_stop_of_nothing_is_nothing(homestead):
    assert stop_daemon(homestead.home) is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:4891"),
        ("0.0.0.0", "http://127.0.0.1:4891"),
        ("::", "http://[::1]:4891"),
        ("::1", "http://[::1]:4891"),
        ("localhost", "http://localhost:4891"),
    ],
)
def test_an_address_is_one_clients_can_use(host: str, url: str):
    assert url_of(host, 4891) == url
    assert split_url(url)[1] == 4891
    assert "[" not in split_url(url)[0]


def test_nobody_is_not_healthy():
    assert not is_healthy("http://127.0.0.1:1", timeout_s=1)
