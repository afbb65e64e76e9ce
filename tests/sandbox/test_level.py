"""The strongest means there is, and never a weaker one in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman.sandbox.level import Means, SandboxUnavailable, choose, look_for_means

BWRAP = Path("/usr/bin/bwrap")
ALL = Means(BWRAP, "", 7)
NO_BWRAP = Means(None, "bubblewrap is not installed", 7)
NOTHING = Means(None, "bubblewrap is not installed", 0)


def test_best_is_the_strongest_there_is_and_anything_less_is_told() -> None:
    best = choose("best", ALL)
    assert (best.level, best.limits, best.warning) == ("bubblewrap", (), None)
    second = choose("best", NO_BWRAP)
    assert second.level == "landlock"
    assert "UDP is open" in second.limits
    assert second.warning is not None
    assert "not installed" in second.warning
    last = choose("best", NOTHING)
    assert last.level == "none"
    assert last.limits
    assert last.warning is not None


def test_what_is_asked_for_and_missing_is_an_error_that_names_the_package() -> None:
    with pytest.raises(SandboxUnavailable) as caught:
        choose("bubblewrap", NO_BWRAP)
    assert "bubblewrap" in (caught.value.hint or "")
    assert "apt-get install" in (caught.value.hint or "")
    with pytest.raises(SandboxUnavailable, match="no Landlock"):
        choose("landlock", NOTHING)


def test_a_weaker_level_by_wish_is_taken_and_still_told() -> None:
    for level in ("landlock", "none"):
        found = choose(level, ALL)
        assert found.level == level
        assert found.warning is not None
        assert found.limits


def test_an_old_kernel_has_further_limits() -> None:
    limits = choose("landlock", Means(None, "x", 3)).limits
    assert any("network is open" in limit for limit in limits)
    assert any("signalled" in limit for limit in limits)


def test_a_bubblewrap_that_does_not_work_does_not_count() -> None:
    found = look_for_means(
        platform="linux",
        which=lambda name: "/usr/bin/bwrap",
        try_out=lambda path: "No permissions to create a new namespace",
        landlock=lambda: 5,
    )
    assert found.bubblewrap is None
    assert "No permissions" in found.why_not
    with pytest.raises(SandboxUnavailable) as caught:
        choose("bubblewrap", found)
    assert "user namespaces" in (caught.value.hint or "")


def test_other_platforms_have_no_sandbox_and_say_so() -> None:
    found = look_for_means(platform="darwin", which=lambda name: "/opt/bin/bwrap", landlock=lambda: 9)
    assert (found.bubblewrap, found.landlock_abi) == (None, 0)
    best = choose("best", found)
    assert best.level == "none"
    assert "darwin" in (best.warning or "")
    with pytest.raises(SandboxUnavailable, match="darwin"):
        choose("bubblewrap", found)


def test_a_program_that_cannot_be_started_is_no_bubblewrap(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    found = look_for_means(platform="linux", which=lambda name: str(broken), landlock=lambda: 0)
    assert found.bubblewrap is None
    assert "setting up uid map" in found.why_not
