from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.config import tokens
from dragoman.config.paths import Home, HomeUnwritable, resolve_home
from dragoman.config.tokens import TokenCache, TokenLimits, UnknownToken


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_minted_token_is_found_with_all_that_was_said_about_it(home: Home) -> None:
    limits = TokenLimits(requests=3, tokens=4, usd=0.5)
    minted = tokens.mint(
        home, "run", models=("m",), limits=limits, expires_at=99.0, run="r1", label="x", now=1.0
    )
    found = tokens.find(home, minted.secret, now=98.9)
    assert found == minted.record
    assert found is not None
    assert (found.scope, found.limits, found.run, found.label) == ("run", limits, "r1", "x")
    assert found.allows_model("m")
    assert not found.allows_model("n")


def test_an_unknown_or_expired_secret_finds_nothing(home: Home) -> None:
    minted = tokens.mint(home, "data", expires_at=99.0, now=1.0)
    assert tokens.find(home, minted.secret, now=99.0) is None
    for secret in ("", "x", minted.secret + "x", minted.record.id, "../../etc/passwd", "\udcff", "ü"):
        assert tokens.find(home, secret, now=2.0) is None


def test_the_secret_is_nowhere_on_disk_nor_in_a_repr(home: Home) -> None:
    minted = tokens.mint(home, "data")
    assert minted.secret not in repr(minted)
    for file in home.state.rglob("*"):
        assert file.is_dir() or minted.secret.encode() not in file.read_bytes()


def test_token_files_are_private_under_any_umask_and_no_draft_is_left(home: Home) -> None:
    for umask in (0o000, 0o777):
        old = os.umask(umask)
        try:
            tokens.mint(home, "data")
            tokens.ensure_data_token(home)
        finally:
            os.umask(old)
    files = [file for file in home.state.rglob("*") if file.is_file()]
    assert len(files) == 4
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_token_file_that_is_a_link_garbage_or_renamed_opens_nothing(home: Home, tmp_path: Path) -> None:
    minted = tokens.mint(home, "control")
    file = home.tokens / f"{minted.record.id}.json"
    forged = home.tokens / f"{tokens.token_id('guess')}.json"
    forged.write_bytes(file.read_bytes())
    assert tokens.find(home, "guess") is None
    file.rename(tmp_path / "moved")
    file.symlink_to(tmp_path / "moved")
    assert tokens.find(home, minted.secret) is None
    file.unlink()
    file.write_bytes(b'{"id": 1')
    assert tokens.find(home, minted.secret) is None
    assert tokens.list_tokens(home) == []


def test_revoking_by_id_prefix_ends_that_token_alone(home: Home) -> None:
    one, two = (tokens.mint(home, "data", now=float(n)) for n in range(2))
    assert tokens.revoke(home, one.record.id[:8]) == one.record
    assert tokens.find(home, one.secret) is None
    assert tokens.list_tokens(home) == [two.record]


def test_revoking_an_unknown_or_too_short_id_says_so_and_ends_nothing(home: Home) -> None:
    minted = tokens.mint(home, "data")
    for prefix in ("", minted.record.id[:7], "f" * 64 if minted.record.id[0] != "f" else "0" * 64):
        with pytest.raises(UnknownToken):
            tokens.revoke(home, prefix)
    assert tokens.find(home, minted.secret)


def test_ending_a_run_ends_its_tokens_and_no_others(home: Home) -> None:
    mine = [tokens.mint(home, "run", run="r1") for _ in range(2)]
    other = tokens.mint(home, "run", run="r2")
    assert tokens.revoke_run(home, "r1") == 2
    assert [tokens.find(home, t.secret) for t in mine] == [None, None]
    assert tokens.find(home, other.secret)
    tokens.revoke_secret(home, other.secret)
    tokens.revoke_secret(home, other.secret)
    assert tokens.list_tokens(home) == []


def test_the_users_own_tokens_stay_the_same_and_open_their_own_scope(home: Home) -> None:
    data, control = tokens.ensure_data_token(home), tokens.ensure_control_token(home)
    assert (tokens.ensure_data_token(home), tokens.ensure_control_token(home)) == (data, control)
    assert data != control
    scopes = [record.scope for t in (data, control) if (record := tokens.find(home, t))]
    assert scopes == ["data", "control"]
    assert tokens.read_kept_token(home.data_token_file) == data


def test_reading_a_kept_token_makes_nothing(home: Home) -> None:
    assert tokens.read_kept_token(home.data_token_file) is None
    assert not home.state.exists()


def test_a_revoked_own_token_is_replaced_by_a_new_one(home: Home) -> None:
    old = tokens.ensure_data_token(home)
    tokens.revoke(home, tokens.token_id(old))
    new = tokens.ensure_data_token(home)
    assert new != old
    assert tokens.find(home, old) is None
    assert tokens.find(home, new)


def test_an_own_token_file_left_empty_or_without_its_record_is_healed(home: Home) -> None:
    home.ensure()
    home.data_token_file.write_bytes(b"")
    secret = tokens.ensure_data_token(home)
    assert tokens.find(home, secret)
    (home.tokens / f"{tokens.token_id(secret)}.json").unlink()
    assert tokens.ensure_data_token(home) == secret
    assert tokens.find(home, secret)


def test_an_unwritable_home_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path)})
    with pytest.raises(HomeUnwritable):
        tokens.ensure_data_token(home)
    with pytest.raises(HomeUnwritable):
        tokens.mint(home, "data")


MAKE_TOKENS = """
import sys
from dragoman.config import tokens
from dragoman.config.paths import resolve_home
home = resolve_home({"DRAGOMAN_HOME": sys.argv[1]})
sys.stdin.readline()
print(tokens.ensure_data_token(home), tokens.mint(home, "run", run="r").record.id)
"""


def test_several_processes_at_once_agree_on_one_own_token(home: Home) -> None:
    command = [sys.executable, "-c", MAKE_TOKENS, str(home.state.parent)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    secrets = {child.communicate(timeout=60)[0].split()[0] for child in children}
    assert len(secrets) == 1
    assert tokens.find(home, secrets.pop())
    assert len(tokens.list_tokens(home)) == 4


def test_a_cached_answer_is_used_for_half_a_second_and_no_longer(home: Home) -> None:
    clock = Clock()
    cache = TokenCache(home, monotonic=clock, wall=clock)
    minted = tokens.mint(home, "run")
    assert cache.find(minted.secret) == minted.record
    tokens.revoke(home, minted.record.id)
    clock.now += 0.5
    assert cache.find(minted.secret) == minted.record
    clock.now += 0.01
    assert cache.find(minted.secret) is None


def test_a_refusal_is_cached_no_longer_than_half_a_second_either(home: Home) -> None:
    clock = Clock()
    cache = TokenCache(home, monotonic=clock, wall=clock)
    assert cache.find("dgm_later") is None
    tokens.ensure_data_token(home)
    home.data_token_file.write_text("dgm_later")
    tokens.ensure_data_token(home)
    assert cache.find("dgm_later") is None
    clock.now += 0.51
    assert cache.find("dgm_later")


def test_a_cached_token_expires_on_time(home: Home) -> None:
    clock = Clock()
    cache = TokenCache(home, max_age_s=0.5, monotonic=clock, wall=clock)
    minted = tokens.mint(home, "run", expires_at=1000.2)
    assert cache.find(minted.secret)
    clock.now = 1000.2
    assert cache.find(minted.secret) is None


def test_a_flood_of_wrong_secrets_does_not_grow_the_cache_without_end(home: Home) -> None:
    cache = TokenCache(home)
    for number in range(5000):
        cache.find(str(number))
    assert len(cache._answers) <= 2048
