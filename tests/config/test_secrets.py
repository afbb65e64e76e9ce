from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from dragoman.config.paths import Home
from dragoman.config.schema import KeySource
from dragoman.config.secrets import (
    BadKey,
    KeyFileUnreadable,
    KeyOutOfReach,
    KeyringMissing,
    describe_key,
    find_key,
    find_keys,
    remove_from_keyring,
    remove_key,
    store_in_keyring,
    store_key,
    stored_key_names,
)


def test_a_key_is_found_where_its_source_says(home: Home) -> None:
    home.ensure()
    env = {"A": " from-env\n", "HOME": str(home.state)}
    (home.state / "k").write_text("from-file\n")
    store_key(home, "p/1", " from-store ")
    found = [
        find_key(source, env, home, ask_keyring={"B": "from-ring"}.get)
        for source in (
            KeySource(env="A"),
            KeySource(keyring="B"),
            KeySource(file="~/k"),
            KeySource(file="state/k"),
            KeySource(stored="p/1"),
        )
    ]
    assert found == ["from-env", "from-ring", "from-file", "from-file", "from-store"]


def test_all_keys_found_have_an_id_and_a_place_and_show_no_secret(home: Home) -> None:
    store_key(home, "zai", "same")
    sources = [
        KeySource(env="A", max_concurrency=2),
        KeySource(env="NONE"),
        KeySource(stored="zai"),
        KeySource(env="B"),
    ]
    keys = find_keys(sources, {"A": "same", "B": "other"}, home)
    assert [(key.secret, key.place, key.max_concurrency) for key in keys] == [
        ("same", "environment A", 2),
        ("other", "environment B", None),
    ]
    assert len({key.id for key in keys}) == 2
    assert "same" not in repr(keys)


def test_a_key_that_is_absent_or_empty_is_none(home: Home) -> None:
    sources = [KeySource(env="A"), KeySource(env="E"), KeySource(file="nowhere"), KeySource(stored="x")]
    assert [find_key(source, {"E": " "}, home) for source in sources] == [None] * 4


def test_stored_keys_are_private_listed_by_name_and_can_be_forgotten(home: Home) -> None:
    names = ["zai", "../../etc", "ü b", ".."]
    for name in names:
        file = store_key(home, name, "k-" + "x" * 20)
        assert file.parent == home.provider_keys
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stored_key_names(home) == sorted(names)
    assert remove_key(home, "zai")
    assert not remove_key(home, "zai")
    assert "zai" not in stored_key_names(home)


@pytest.mark.parametrize("secret", ["", "  ", "two words", "a\nb", "ключ", "a\x00b"])
def test_what_cannot_be_a_key_is_refused_without_repeating_it(home: Home, secret: str) -> None:
    with pytest.raises(BadKey) as failure:
        store_key(home, "zai", secret)
    assert not secret.strip() or secret not in str(failure.value)


def test_a_keyring_that_cannot_be_asked_is_told_with_the_way_out(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    with pytest.raises(KeyringMissing) as failure:
        find_key(KeySource(keyring="B"), {}, home)
    assert failure.value.hint
    assert "dragoman[keyring]" in failure.value.hint


@pytest.fixture(params=["package", "stand-in"])
def keyring(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[tuple[str, str], str]]:
    """What a keyring holds: the real package with a backend of ours, and the three functions we use of it."""
    held: dict[tuple[str, str], str] = {}
    if request.param == "package":
        package = pytest.importorskip("keyring")
        backend = pytest.importorskip("keyring.backend")

        class Backend(backend.KeyringBackend):
            priority = 1

            def get_password(self, service: str, username: str) -> str | None:
                return held.get((service, username))

            def set_password(self, service: str, username: str, password: str) -> None:
                held[service, username] = password

            def delete_password(self, service: str, username: str) -> None:
                del held[service, username]

        before = package.get_keyring()
        package.set_keyring(Backend())
        yield held
        package.set_keyring(before)
        return
    module: Any = ModuleType("keyring")
    module.get_password = lambda service, username: held.get((service, username))
    module.set_password = lambda service, username, password: held.update({(service, username): password})
    module.delete_password = lambda service, username: held.pop((service, username))
    monkeypatch.setitem(__import__("sys").modules, "keyring", module)
    yield held


def test_a_key_is_kept_found_and_forgotten_in_the_systems_keyring(
    home: Home, keyring: dict[tuple[str, str], str]
) -> None:
    store_in_keyring("zai-work", " k-1 \n")
    assert keyring == {("dragoman", "zai-work"): "k-1"}
    assert find_key(KeySource(keyring="zai-work"), {}, home) == "k-1"
    assert find_key(KeySource(keyring="other"), {}, home) is None
    assert remove_from_keyring("zai-work")
    assert not remove_from_keyring("zai-work")
    with pytest.raises(BadKey):
        store_in_keyring("zai-work", "two words")


def test_a_keyring_that_fails_is_told_without_its_words(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("keyring")

    def fails(*_: str) -> None:
        raise RuntimeError("locked: s3cret")

    module.get_password = module.set_password = fails
    monkeypatch.setitem(__import__("sys").modules, "keyring", module)
    for ask in (
        lambda: find_key(KeySource(keyring="B"), {}, home),
        lambda: store_in_keyring("B", "k"),
        lambda: remove_from_keyring("B"),
    ):
        with pytest.raises(KeyringMissing, match=r"keyring did not .* the key B \(RuntimeError\)") as failure:
            ask()
        assert "s3cret" not in str(failure.value)


def test_a_key_file_that_cannot_be_read_is_named_with_the_way_out(home: Home) -> None:
    home.ensure()
    (home.state / "folder").mkdir()
    (home.state / "huge").write_bytes(b"k" * 70_000)
    for name, reason in (("folder", "is a directory"), ("huge", "larger than 64 KiB")):
        with pytest.raises(KeyFileUnreadable, match=f"{home.state / name} .*{reason}") as failure:
            find_key(KeySource(file=f"state/{name}"), {}, home)
        assert failure.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_key_file_of_somebody_else_is_told_with_the_command_that_mends_it(home: Home) -> None:
    home.ensure()
    file = home.state / "k"
    file.write_text("k")
    file.chmod(0)
    with pytest.raises(KeyFileUnreadable, match="permission denied") as failure:
        find_key(KeySource(file="state/k"), {}, home)
    assert f"chmod 600 {file}" in (failure.value.hint or "")


def test_a_key_file_may_be_a_link_as_mounted_secrets_are(home: Home) -> None:
    home.ensure()
    (home.state / "real").write_text("k-1\n")
    (home.state / "link").symlink_to("real")
    assert find_key(KeySource(file="state/link"), {}, home) == "k-1"


def test_one_key_out_of_reach_hides_no_other(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    missed: list[KeyOutOfReach] = []
    sources = [KeySource(keyring="B"), KeySource(env="A")]
    found = find_keys(sources, {"A": "k"}, home, missed=missed.append)
    assert [key.secret for key in found] == ["k"]
    assert [error.code for error in missed] == ["keyring_missing"]
    with pytest.raises(KeyringMissing):
        find_keys(sources, {"A": "k"}, home)


def test_a_source_is_described_without_its_secret() -> None:
    assert describe_key(KeySource(env="A")) == "environment A"
    assert describe_key(KeySource(stored="zai")) == "stored key zai"
