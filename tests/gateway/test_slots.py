from __future__ import annotations

from pathlib import Path

from dragoman.gateway.slots import Slots


def test_places_are_shared_by_all_who_know_the_folder(tmp_path: Path) -> None:
    one, other = Slots(tmp_path / "s"), Slots(tmp_path / "s")
    first, second = one.take("k", 2), other.take("k", 2)
    assert first is not None
    assert second is not None
    assert one.take("k", 2) is other.take("k", 2) is None
    first.release()
    first.release()
    assert other.take("k", 2) is not None


def test_a_disk_that_takes_no_file_does_not_stop_calls_and_places_are_counted_here(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.write_text("no folder")
    slots = Slots(folder)
    first, second = slots.take("k", 2), slots.take("k", 2)
    assert first is not None
    assert second is not None
    assert slots.take("k", 2) is None
    folder.unlink()
    first.release()
    assert slots.take("k", 2) is not None  # by a file again, beside the one that is still counted
    assert slots.take("k", 2) is None
