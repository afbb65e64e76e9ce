from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from dragoman.config.paths import resolve_home
from dragoman.daemon.plan import ServePlan
from dragoman.daemon.starting import AlreadyServing, CannotListen, ServeOptions, prepare
from dragoman.errors import DragomanError


@pytest.fixture
def env(homestead) -> dict[str, str]:
    return homestead.env


def close(plan: ServePlan) -> None:
    for fd in plan.inherited_fds:
        os.close(fd)


def test_a_first_start_makes_private_tokens_and_listening_sockets(env):
    plan = prepare(ServeOptions(port=0), env)
    home = resolve_home(env)
    for file in (home.data_token_file, home.control_token_file, home.gateway_socket, home.control_socket):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.gateway_socket.parent.stat().st_mode) == 0o700
    host, port = plan.url.removeprefix("http://").split(":")
    with socket.socket() as sock:
        assert sock.connect_ex((host, int(port))) == 0
    close(plan)


def test_a_plan_survives_its_way_through_an_argument(env):
    plan = prepare(ServeOptions(port=0, workers=3, control_idle_s=1.5), env)
    assert ServePlan.from_json(plan.to_json()) == plan
    assert (plan.workers, plan.on_demand[0].role, plan.on_demand[0].idle_s) == (3, "control", 1.5)
    close(plan)


def test_a_plan_holds_no_secret(env):
    plan = prepare(ServeOptions(port=0), env | {"ZAI_API_KEY": "zai-secret"})
    assert "zai-secret" not in plan.to_json()
    assert resolve_home(env).data_token_file.read_text().strip() not in plan.to_json()
    close(plan)


def test_options_survive_their_way_through_an_argument(tmp_path: Path):
    options = ServeOptions("::1", 0, tmp_path / "dragoman.toml", 2, 1.0, 2.0, 7)
    assert ServeOptions.from_argv(options.to_argv()) == options
    assert ServeOptions.from_argv(ServeOptions().to_argv()) == ServeOptions()


def test_a_home_takes_one_daemon(env):
    plan = prepare(ServeOptions(port=0), env)
    with pytest.raises(AlreadyServing, match=f"pid {os.getpid()}.* just starting") as caught:
        prepare(ServeOptions(port=0), env)
    assert caught.value.exit_code == 1
    close(plan)


def test_a_taken_port_is_said_with_the_next_command(env):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"port {port} on 127.0.0.1 is taken") as caught:
            prepare(ServeOptions(port=port), env)
    assert (caught.value.code, caught.value.exit_code) == ("port_taken", 1)
    assert "--port 0" in str(caught.value.hint)


@pytest.mark.parametrize("host", ["203.0.113.77", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_refused(host: str, env):
    with pytest.raises(CannotListen, match=host):
        prepare(ServeOptions(host=host, port=0), env)


def test_listening_beyond_this_machine_is_said_aloud(env):
    warnings: list[str] = []
    plan = prepare(ServeOptions(host="0.0.0.0", port=0), env, warn=warnings.append)
    assert plan.url.startswith("http://127.0.0.1:")
    assert ["0.0.0.0" in warning for warning in warnings] == [True]
    close(plan)


def test_what_a_killed_daemon_left_is_replaced(env):
    home = resolve_home(env)
    home.ensure()
    home.daemon_json.write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 1, "version": "0"}))
    home.control_socket.write_text("not even a socket")
    home.control_socket.with_name("control.sock~").touch()
    plan = prepare(ServeOptions(port=0), env)
    assert not home.daemon_json.exists()
    assert stat.S_ISSOCK(home.control_socket.stat().st_mode)
    close(plan)


def test_a_config_file_that_was_named_must_exist(env, tmp_path: Path):
    with pytest.raises(DragomanError, match="no configuration file"):
        prepare(ServeOptions(port=0, config_file=tmp_path / "none.toml"), env)


def test_nothing_is_touched_when_the_configuration_is_wrong(env):
    home = resolve_home(env)
    home.config_file.write_text("[gateway]\nprot = 1\n")
    with pytest.raises(DragomanError, match="prot"):
        prepare(ServeOptions(port=0), env)
    assert not home.state.exists()


def test_an_ipv6_loopback_works_where_there_is_one(env):
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no ::1")
    plan = prepare(ServeOptions(host="::1", port=0), env)
    assert plan.url.startswith("http://[::1]:")
    close(plan)
