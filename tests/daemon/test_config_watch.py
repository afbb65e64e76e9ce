from __future__ import annotations

import stat
from pathlib import Path

from dragoman.config.load import load_config
from dragoman.config.paths import resolve_home
from dragoman.daemon.config_in_force import ConfigReader
from dragoman.daemon.config_watch import LOOK_EVERY_S, SETTLE_S, ConfigWatch


def test_a_change_counts_once_it_has_settled_and_only_once(tmp_path: Path):
    file = tmp_path / "f"
    file.write_text("a")
    watch = ConfigWatch(str(file), "", now=0.0)
    assert watch.next_look == LOOK_EVERY_S
    assert not watch.changed(1.0)
    file.write_text("ab")
    assert not watch.changed(1.5)  # nobody looks before it is time
    assert not watch.changed(2.0)
    assert watch.next_look == 2.0 + SETTLE_S
    file.write_text("abc")  # still being written
    assert not watch.changed(2.25)
    assert watch.changed(2.5)
    watch.taken()
    assert not watch.changed(3.5)


def test_a_file_that_is_gone_is_no_change_and_one_that_comes_is(tmp_path: Path):
    file = tmp_path / "f"
    watch = ConfigWatch(str(file), "", now=0.0)
    file.write_text("a")
    assert not watch.changed(1.0)
    assert watch.changed(1.25)
    watch.taken()
    file.unlink()
    assert not watch.changed(2.25)
    assert not watch.changed(3.25)


def test_without_a_file_nobody_looks():
    assert ConfigWatch("", "", now=0.0).next_look == float("inf")


def test_what_is_in_force_is_kept_privately_and_a_disk_that_refuses_keeps_the_one_before(tmp_path: Path):
    file, copy = tmp_path / "f", tmp_path / "kept"
    watch = ConfigWatch(str(file), str(copy), now=0.0)
    watch.keep()
    assert copy.read_bytes() == b""
    file.write_text("a = 1")
    watch.keep()
    assert (copy.read_text(), stat.S_IMODE(copy.stat().st_mode)) == ("a = 1", 0o600)
    (tmp_path / "kept~").mkdir()
    file.write_text("a = 2")
    watch.keep()
    assert copy.read_text() == "a = 1"


def test_a_wrong_configuration_is_told_once_and_the_one_before_is_read_on(tmp_path: Path):
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path)})
    home.config_file.write_text("[gateway]\nworkers = 2\n")
    told: list[str] = []
    read = ConfigReader(home, {}, {}, load_config(home, {}, {}), warn=told.append)
    assert read().gateway.workers == 2
    home.config_file.write_text("[gateway]\nworkers = 33\nprot = 1\n")
    assert (read().gateway.workers, read().gateway.workers) == (2, 2)
    assert len(told) == 1
    assert "prot" in told[0]
    home.config_file.write_text("[gateway]\nworkers = 4\n")
    assert (read().gateway.workers, len(told)) == (4, 1)
