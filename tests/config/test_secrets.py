from __future__ import annotations

import stat

import pytest

from dragoman.config.paths import Home
from dragoman.config.schema import KeySource
from dragoman.config.secrets import (
    BadKey,
    KeyringMissing,
    describe_key,
    find_key,
    find_keys,
    remove_key,
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


def test_a_source_is_described_without_its_secret() -> None:
    assert describe_key(KeySource(env="A")) == "environment A"
    assert describe_key(KeySource(stored="zai")) == "stored key zai"
