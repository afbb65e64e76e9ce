"""The real Codex takes a provider's windows for its own rate limits."""

from __future__ import annotations

import json
import time

import pytest

pytestmark = pytest.mark.real_client


def test_what_is_left_of_a_plan_is_in_codexs_own_notes(codex, upstream, bench, benches):
    provider = model = bench.spare_model()
    _, home = benches._kept[bench.wire]
    folder = home / "state" / "quota"
    folder.mkdir(exist_ok=True)
    now = time.time()
    windows = [
        {"name": "5h", "used_percent": 42.5, "window_minutes": 300, "resets_at": now + 3600},
        {"name": "1w", "used_percent": 7, "window_minutes": 10_080, "resets_at": now + 86_400},
    ]
    (folder / f"{provider}.json").write_text(json.dumps({"at": now, "plan": "pro", "windows": windows}))
    upstream.play([{"say": "Hello."}])
    codex.run("Hi.", model=model).assert_fine()
    (rollout,) = (codex.home / "sessions").rglob("rollout-*.jsonl")
    notes = [json.loads(line).get("payload", {}) for line in rollout.read_text().splitlines()]
    limits = [note["rate_limits"] for note in notes if note.get("type") == "token_count"][-1]
    assert (limits["primary"]["used_percent"], limits["primary"]["window_minutes"]) == (42.5, 300)
    assert limits["primary"]["resets_at"] == int(now + 3600)
    assert (limits["secondary"]["used_percent"], limits["secondary"]["window_minutes"]) == (7.0, 10_080)
