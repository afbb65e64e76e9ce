"""A worker's change on its way to the user, through the tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def change(tree: Path) -> None:
    (tree / "a.txt").write_text("two\n")
    (tree / "new.txt").write_text("new\n")


def test_a_preview_writes_nothing_and_gives_a_token(lead: Any) -> None:
    name = lead.finished_write(change)
    seen = lead.ask("claude_apply", worktree_path=name, preview=True)
    assert [item["file"] for item in seen["planned_changes"]] == ["a.txt", "new.txt"]
    assert len(seen["preview_token"]) == 64
    assert lead.git("status", "--porcelain") == ""


def test_what_was_previewed_and_confirmed_is_applied(lead: Any) -> None:
    name = lead.finished_write(change)
    token = lead.ask("claude_apply", worktree_path=name, preview=True)["preview_token"]
    done = lead.ask(
        "claude_apply", worktree_path=name, preview_token=token, confirmed_by_user=True, cleanup=True
    )
    assert done["applied_files"] == ["a.txt", "new.txt"]
    assert done["cleanup_performed"] is True
    assert (lead.repository / "a.txt").read_text() == "two\n"


def test_the_seeds_name_of_a_worktree_is_understood(lead: Any) -> None:
    name = lead.finished_write(change)
    seen = lead.ask("claude_apply", worktree_path=f".claude/worktrees/{name}", preview=True)
    assert seen["worktree_path"] == name


def test_without_a_token_or_the_users_word_nothing_is_applied(lead: Any) -> None:
    name = lead.finished_write(change)
    refused = lead.call("claude_apply", worktree_path=name, confirmed_by_user=True)
    assert refused.is_error
    assert refused.structured_content["error_code"] == "preview_token_required"
    assert refused.structured_content["next_actions"][0]["args"] == {"worktree_path": name, "preview": True}
    token = lead.ask("claude_apply", worktree_path=name, preview=True)["preview_token"]
    refused = lead.call("claude_apply", worktree_path=name, preview_token=token)
    assert refused.structured_content["error_code"] == "confirmation_required"
    assert lead.git("status", "--porcelain") == ""


def test_a_token_of_an_older_state_is_refused(lead: Any) -> None:
    name = lead.finished_write(change)
    token = lead.ask("claude_apply", worktree_path=name, preview=True)["preview_token"]
    (lead.repository / "new.txt").write_text("mine\n")
    refused = lead.call("claude_apply", worktree_path=name, preview_token=token, confirmed_by_user=True)
    assert refused.is_error
    assert (lead.repository / "new.txt").read_text() == "mine\n"
    assert (lead.repository / "a.txt").read_text() == "one\n"


def test_conflicts_are_named_and_no_token_is_given(lead: Any) -> None:
    name = lead.finished_write(change)
    (lead.repository / "a.txt").write_text("mine\n")
    lead.git("-c", "user.name=u", "-c", "user.email=u@localhost", "commit", "-qam", "mine")
    seen = lead.ask("claude_apply", worktree_path=name, preview=True)
    assert seen["error_code"] == "conflict"
    assert "preview_token" not in seen
    assert "a.txt" in seen["conflicts"][0]


def test_a_worktree_of_another_repository_is_not_found(lead: Any) -> None:
    name = lead.finished_write(change)
    other = lead.root / "other"
    other.mkdir()
    import subprocess

    subprocess.run(["git", "init", "-q"], cwd=other, check=True)
    refused = lead.call("claude_apply", worktree_path=name, preview=True, cwd=str(other))
    assert refused.structured_content["error_code"] == "worktree_not_found"


def test_a_patch_comes_with_its_digest_and_its_file(lead: Any) -> None:
    name = lead.finished_write(change)
    seen = lead.ask("claude_apply", worktree_path=name, preview=True, include_patch=True)
    assert "+two" in seen["patch"]
    assert Path(seen["patch_path"]).stat().st_size == seen["patch_bytes"]
    assert Path(seen["patch_path"]).stat().st_mode & 0o077 == 0


def test_cleanup_keeps_unapplied_work_and_says_so(lead: Any) -> None:
    kept = lead.finished_write(change)
    gone = lead.finished_write(lambda tree: None)
    seen = lead.ask("claude_cleanup", older_than_hours=0)
    actions = {entry["worktree_name"]: entry["action"] for entry in seen["entries"]}
    assert actions[kept] == "keep"
    assert actions[gone] != "keep"
    assert seen["interaction"]["state"] == "cleanup_preview"
    done = lead.ask("claude_cleanup", older_than_hours=0, dry_run=False)
    assert [entry["worktree_name"] for entry in done["entries"] if entry.get("removed")] == [gone]
