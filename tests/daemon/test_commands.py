"""`logs`, `restart` and `reload` as typed: what they print, what they change, how they end."""

from __future__ import annotations

import json
import signal
import time


def test_logs_show_the_last_lines_for_people_and_for_programs(homestead):
    daemon = homestead.serve().wait_up()
    told = homestead.dragoman("logs", "--json", "-n", "100")
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert (told.returncode, told.stderr) == (0, "")
    assert rows == homestead.log()
    assert {"child_started"} <= {row["event"] for row in rows}
    shown = homestead.dragoman("logs", "-n", "1").stdout.splitlines()
    assert len(shown) == 1
    assert rows[-1]["event"] in shown[0]
    assert not shown[0].startswith("{")
    assert daemon.stop() == 0


def test_an_unknown_model_is_found_in_the_logs_with_the_provider_it_went_to(homestead):
    homestead.home.config_file.write_text(
        "[gateway]\ndefault_provider = 'rehearsal'\n[providers.rehearsal]\n"
        "wires.messages = 'http://127.0.0.1:9'\n"
    )
    daemon = homestead.serve().wait_up()
    token = homestead.dragoman("token").stdout.strip()
    body = {"model": "never-heard-of", "max_tokens": 5, "messages": [{"role": "user", "content": "s3cret"}]}
    daemon.call("/v1/messages", method="POST", body=body, x_api_key=token)
    shown = homestead.dragoman("logs").stdout
    assert "unknown_model" in shown
    assert "model=never-heard-of provider=rehearsal" in shown
    assert "s3cret" not in shown
    assert daemon.stop() == 0


def test_logs_with_nothing_written_are_empty_and_fine(homestead):
    told = homestead.dragoman("logs")
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_following_logs_shows_what_is_added_until_it_is_interrupted(homestead):
    homestead.home.ensure()
    file = homestead.home.logs / "daemon.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    first = {"at": time.time(), "level": "info", "role": "parent", "pid": 1, "event": "first"}
    file.write_text(json.dumps(first) + "\n")
    following = homestead.popen([*homestead.program, "logs", "-f", "--json"], PYTHONUNBUFFERED="1")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["event"] == "first"
    with file.open("a") as log:
        log.write(json.dumps(first | {"event": "second"}) + "\n")
    assert json.loads(following.stdout.readline())["event"] == "second"
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=30)
    assert following.returncode == 130


def test_restart_replaces_the_gateways_and_says_where_it_serves(homestead):
    daemon = homestead.serve().wait_up()
    before = daemon.pids("gateway")
    done = homestead.dragoman("restart", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"url": daemon.url, "pid": daemon.process.pid, "version": "0.1.0"}
    assert not set(before) & {daemon.pids("gateway")[-1]}
    assert daemon.call("/health").status == 200
    said = homestead.dragoman("restart").stdout
    assert said == f"dragoman 0.1.0 serves at {daemon.url} (pid {daemon.process.pid})\n"
    assert daemon.stop() == 0


def test_restart_starts_what_does_not_run_and_refuses_a_wrong_configuration(homestead):
    done = homestead.dragoman("restart", "--json", DRAGOMAN_PORT="0")
    assert done.returncode == 0
    assert "starting the dragoman daemon" in done.stderr
    pid = json.loads(done.stdout)["pid"]
    homestead.home.config_file.write_text("[gateway]\nprot = 1\n")
    for command in ("restart", "reload"):
        refused = homestead.dragoman(command)
        assert refused.returncode == 1
        assert "dragoman.toml:2: gateway.prot" in refused.stderr
        assert "next:" in refused.stderr
    assert json.loads(homestead.dragoman("status", "--json").stdout)["pid"] == pid
    assert homestead.dragoman("stop").returncode == 0
    assert homestead.processes() == []
