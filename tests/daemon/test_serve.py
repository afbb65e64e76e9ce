"""`dragoman serve` and everything behind it, real from end to end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import time

from dragoman.config.tokens import mint
from dragoman.daemon.health import split_url


def secret(homestead, kind: str) -> str:
    """A token of each kind."""
    match kind:
        case "data" | "control":
            return (homestead.home.state / f"{kind}.token").read_text().strip()
        case "run":
            return mint(homestead.home, "run", run="r1").secret
        case "revoked":
            minted = mint(homestead.home, "control")
            (homestead.home.tokens / f"{minted.record.id}.json").unlink()
            return minted.secret
        case _:
            return "dgm_unknown"


def shown(homestead, kind: str | None) -> dict[str, str]:
    return {} if kind is None else {"Authorization": f"Bearer {secret(homestead, kind)}"}


def test_who_may_do_what_through_the_port(standing):
    """The matrix of tokens and planes on one daemon; `/` is open to all."""
    homestead, daemon = standing
    expected = {
        #            /health  /v1/models  /api/v1/status  /mcp  /metrics  /
        None: (200, 401, 401, 401, 401, 200),
        "unknown": (200, 401, 401, 401, 401, 200),
        "revoked": (200, 401, 401, 401, 401, 200),
        "data": (200, 200, 403, 403, 403, 200),
        "run": (200, 200, 403, 403, 403, 200),
        "control": (200, 200, 200, 406, 200, 200),
    }
    paths = ("/health", "/v1/models", "/api/v1/status", "/mcp", "/metrics", "/")
    found = {
        kind: tuple(daemon.call(path, **shown(homestead, kind)).status for path in paths) for kind in expected
    }
    assert found == expected


def test_a_foreign_page_is_refused_on_both_planes_whatever_its_token(standing):
    homestead, daemon = standing
    foreign = [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Host": "127.0.0.1.evil.example:4891"},
    ]
    for headers in foreign:
        for path in ("/v1/models", "/api/v1/status", "/"):
            assert daemon.call(path, **shown(homestead, "control"), **headers).status == 403


def test_a_control_token_mints_lists_and_revokes_through_the_port(standing, until):
    homestead, daemon = standing
    control = shown(homestead, "control")
    made = daemon.call("/api/v1/tokens", method="POST", body={"label": "a friend's"}, **control)
    assert made.status == 201
    bearer = {"Authorization": f"Bearer {made.json['secret']}"}
    assert daemon.call("/v1/models", **bearer).status == 200
    token_id = made.json["token"]["id"]
    listed = daemon.call("/api/v1/tokens", **control).json["tokens"]
    assert token_id in {token["id"] for token in listed}
    assert daemon.call(f"/api/v1/tokens/{token_id}", method="DELETE", **control).status == 200
    began = time.monotonic()
    until(lambda: daemon.call("/v1/models", **bearer).status == 401)
    assert time.monotonic() - began < 2


def test_with_auth_none_the_data_plane_is_free_and_control_is_not(homestead):
    homestead.home.config_file.write_text('[gateway]\nauth = "none"\n')
    daemon = homestead.serve().wait_up()
    assert daemon.call("/v1/models").status == 200
    assert daemon.call("/api/v1/status").status == 401


def test_the_socket_for_sandboxed_workers_serves_model_calls_alone(homestead):
    daemon = homestead.serve().wait_up()

    def call(path: str, token: str) -> int:
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(daemon.home.gateway_socket))
        connection.request("GET", path, headers={"x-api-key": token})
        status = connection.getresponse().status
        connection.close()
        return status

    assert call("/v1/models", secret(homestead, "run")) == 200
    for path in ("/", "/api/v1/status", "/mcp", "/metrics"):
        assert call(path, secret(homestead, "control")) == 403
    assert daemon.pids("control") == []


def test_the_embedded_model_answers_with_no_configuration_at_all(homestead):
    daemon = homestead.serve().wait_up()
    assert daemon.pids("rehearsal") == []
    body = {"model": "rehearsal", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    answer = daemon.call("/v1/messages", method="POST", body=body, **shown(homestead, "data"))
    assert answer.status == 200
    assert "rehearsal model" in answer.json["content"][0]["text"]
    assert len(daemon.pids("rehearsal")) == 1


def test_a_killed_gateway_is_replaced_and_a_killed_control_process_comes_back(homestead):
    daemon = homestead.serve().wait_up()
    control = shown(homestead, "control")
    assert daemon.call("/api/v1/status", **control).status == 200
    os.kill(daemon.pids("gateway")[0], signal.SIGKILL)
    assert daemon.call("/health").status == 200
    os.kill(daemon.pids("control")[0], signal.SIGKILL)
    assert daemon.call("/api/v1/status", **control).status == 200


def test_control_leaves_when_idle_and_is_there_when_wanted_again(homestead, until):
    daemon = homestead.serve("--control-idle", "0.3").wait_up()
    control = shown(homestead, "control")
    for _ in range(3):
        assert daemon.call("/api/v1/status", **control).status == 200
        until(lambda: daemon.pids("control") == [])
    assert len(homestead.processes()) == 2


def test_after_kill_nine_the_next_start_takes_everything_over(homestead):
    daemon = homestead.serve().wait_up()
    port = split_url(daemon.url)[1]
    daemon.process.kill()
    daemon.process.wait()
    assert homestead.dragoman("status", "--json").returncode == 1
    again = homestead.serve("--port", str(port)).wait_up()
    assert again.url == daemon.url
    assert again.call("/v1/models", **shown(homestead, "data")).status == 200
    assert again.stop() == 0
    assert homestead.processes() == []


def test_a_second_serve_names_the_first(standing):
    homestead, daemon = standing
    second = homestead.dragoman("serve", "--port", "0")
    assert (second.returncode, second.stdout) == (1, "")
    assert daemon.url in second.stderr
    assert f"pid {daemon.process.pid}" in second.stderr
    assert second.stderr.count("\n") == 2
    as_json = json.loads(homestead.dragoman("serve", "--port", "0", "--json").stdout)
    assert as_json["error_code"] == "already_serving"


def test_a_taken_port_is_one_sentence_and_the_next_command(homestead):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = homestead.dragoman("serve", "--port", port)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == f"dragoman: port {port} on 127.0.0.1 is taken by another program"
    assert second.startswith("  next: dragoman serve --port 0")


def test_an_unwritable_home_is_one_sentence_and_a_hint(homestead):
    (homestead.folder / "state").write_text("a file where a folder should be")
    done = homestead.dragoman("serve", "--port", "0")
    assert done.returncode == 1
    assert str(homestead.folder / "state") in done.stderr
    assert "next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_only_the_gateway_finds_is_told_in_the_terminal(homestead):
    homestead.home.config_file.write_text('[providers.x]\npreset = "no-such-preset"\nkey_env = "K"\n')
    done = homestead.dragoman("serve", "--port", "0")
    assert done.returncode == 1
    assert "no-such-preset" in done.stderr
    assert "Traceback" not in done.stderr
    assert homestead.processes() == []


def test_status_tells_what_runs_without_waking_control(homestead):
    daemon = homestead.serve().wait_up()
    told = json.loads(homestead.dragoman("status", "--json").stdout)
    assert (told["running"], told["answers"], told["url"], told["pid"]) == (
        True,
        True,
        daemon.url,
        daemon.process.pid,
    )
    assert [child["role"] for child in told["children"]] == ["gateway"]
    words = homestead.dragoman("status")
    assert (words.returncode, daemon.url in words.stdout, "asleep" in words.stdout) == (0, True, True)
    assert daemon.pids("control") == []


def test_stop_ends_it_and_a_second_stop_is_fine(homestead):
    daemon = homestead.serve().wait_up()
    done = homestead.dragoman("stop")
    assert (done.returncode, done.stdout) == (0, f"stopped (pid {daemon.process.pid})\n")
    assert daemon.process.wait(30) == 0
    again = homestead.dragoman("stop", "--json")
    assert (again.returncode, json.loads(again.stdout)) == (0, {"stopped": False, "pid": None})
    assert homestead.dragoman("status").returncode == 1


def test_token_ensure_starts_the_daemon_and_prints_the_token_alone(homestead):
    homestead.home.config_file.write_text("[gateway]\nport = 0\n")
    done = homestead.dragoman("token", "--ensure")
    assert done.returncode == 0, done.stderr
    assert done.stdout == homestead.home.data_token_file.read_text()
    assert done.stderr == "dragoman: starting the dragoman daemon\n"
    note = json.loads(homestead.home.daemon_json.read_text())
    connection = http.client.HTTPConnection(*split_url(note["url"]), timeout=30)
    connection.request("GET", "/v1/models", headers={"x-api-key": done.stdout.strip()})
    assert connection.getresponse().status == 200
    connection.close()
    again = homestead.dragoman("token", "--ensure")
    assert (again.stdout, again.stderr) == (done.stdout, "")
    assert homestead.dragoman("stop").returncode == 0


def test_two_gateways_share_a_port(homestead):
    daemon = homestead.serve("--workers", "2").wait_up()
    assert len(daemon.pids("gateway")) == 2
    assert daemon.call("/v1/models", **shown(homestead, "data")).status == 200
    assert daemon.stop() == 0


def test_everything_the_daemon_keeps_is_private(standing):
    homestead, daemon = standing
    daemon.call("/api/v1/status", **shown(homestead, "control"))
    for path in homestead.folder.rglob("*"):
        if path == homestead.home.config_file or path.is_symlink():
            continue
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_no_secret_reaches_the_log(homestead):
    daemon = homestead.serve(ZAI_API_KEY="zai-secret-key").wait_up()
    body = {"model": "glm-5.2", "max_tokens": 5, "messages": [{"role": "user", "content": "my secret plan"}]}
    for kind in ("data", "unknown"):
        daemon.call("/v1/nothing", method="POST", body=body, **shown(homestead, kind))
        daemon.call("/api/v1/status", **shown(homestead, kind))
    assert daemon.stop() == 0
    text = "".join(path.read_text() for path in homestead.home.logs.iterdir())
    assert "serving" in text
    for word in ("zai-secret-key", "my secret plan", secret(homestead, "data"), "dgm_"):
        assert word not in text
