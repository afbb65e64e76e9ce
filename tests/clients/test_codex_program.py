"""Finding Codex."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman.clients.codex_program import CodexMissing, bundled_codex, find_codex


def program(folder: Path, version: str = "codex-cli 0.163.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "codex"
    path.write_text(version)
    path.chmod(0o755)
    return path


def ask(path: Path, argument: str) -> str:
    return path.read_text()


def test_the_order_is_configuration_environment_path_extra(tmp_path: Path) -> None:
    places = {name: program(tmp_path / name) for name in ("config", "ours", "theirs", "path", "extra")}
    env = {"PATH": str(places["path"].parent)}

    def found(configured: Path | None, **more: str) -> Path:
        name = str(configured) if configured else None
        return find_codex(name, env | more, ask=ask, bundled=lambda: places["extra"]).path

    theirs, ours = str(places["theirs"]), str(places["ours"])
    assert found(places["config"], CODEX_BIN=theirs) == places["config"]
    assert found(None, CODEX_BIN=theirs, DRAGOMAN_CODEX_BIN=ours) == places["ours"]
    assert found(None, CODEX_BIN=theirs) == places["theirs"]
    assert found(None) == places["path"]
    env["PATH"] = ""
    assert found(None) == places["extra"]


@pytest.mark.parametrize(
    ("version", "code"), [("codex-cli 0.12.0", "worker_too_old"), ("codex: not found", "worker_not_found")]
)
def test_an_old_or_broken_one_is_refused_with_the_next_command(
    tmp_path: Path, version: str, code: str
) -> None:
    with pytest.raises(CodexMissing) as caught:
        find_codex(str(program(tmp_path, version)), {}, ask=ask)
    assert caught.value.code == code
    assert "npm install" in (caught.value.hint or "")


def test_a_bad_one_on_path_is_passed_over_with_its_reason(tmp_path: Path) -> None:
    old, extra = program(tmp_path / "old", "codex-cli 0.1.0"), program(tmp_path / "extra")
    found = find_codex(None, {"PATH": str(old.parent)}, ask=ask, bundled=lambda: extra)
    assert (found.source, found.version_text) == ("clients extra", "0.163.0")
    assert str(old) in found.passed_over[0]


def test_none_at_all_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CodexMissing, match="no Codex found"):
        find_codex(None, {"PATH": str(tmp_path)}, ask=ask, bundled=lambda: None)


@pytest.mark.real_client
def test_the_one_of_the_clients_extra_answers() -> None:
    if bundled_codex() is None:
        pytest.skip("no Codex: install the `clients` extra")
    found = find_codex(None, {})
    assert (found.source, found.passed_over) == ("clients extra", ())
    assert found.version >= (0, 160, 0)
