"""A user of the Z.ai proxy: three variables, no file, a Codex that sends the provider's key as its token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

KEY = "zk-0123456789abcdef"


@pytest.fixture
def gateway(empty_home: Any, provider_url: str) -> Iterator[httpx.Client]:
    del empty_home.env["DRAGOMAN_PORT"]
    empty_home.env |= {
        "ZAI_API_KEY": KEY,
        "ZAI_BASE_URL": f"{provider_url}/v1",
        "PROXY_PORT": str(empty_home.port),
    }
    done = empty_home.dragoman("token", "--ensure")
    assert done.returncode == 0, done.stderr
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{empty_home.port}", headers=headers, trust_env=False, timeout=30
    ) as client:
        yield client


def test_three_variables_are_enough_and_their_key_is_taken_as_the_token(
    gateway: httpx.Client, empty_home: Any
) -> None:
    asked = {"model": "some-model-nobody-listed", "input": "hello"}
    answer = gateway.post("/v1/responses", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "completed"
    wrong = gateway.post("/v1/responses", json=asked, headers={"Authorization": "Bearer zk-other"})
    assert wrong.status_code == 401
    assert KEY not in wrong.text
    assert not empty_home.config.exists()
    logged = "".join(path.read_text() for path in (empty_home.root / "d").rglob("*.log"))
    assert KEY not in logged


def test_every_list_of_models_is_told_in_its_clients_shape_within_50_ms(gateway: httpx.Client) -> None:
    shapes = {
        "models": ({"client_version": "0.169.0"}, {"originator": "codex_exec"}),
        "data": ({}, {}),
        "has_more": ({}, {"anthropic-version": "2023-06-01"}),
    }
    for key, (params, headers) in shapes.items():
        took: list[float] = []
        for _ in range(8):
            began = time.perf_counter()
            answer = gateway.get("/v1/models", params=params, headers=headers)
            took.append(time.perf_counter() - began)
            assert key in answer.json(), answer.text[:200]
        assert min(took) < 0.05, took
    glm = next(m for m in gateway.get("/v1/models", params={"client_version": "1"}).json()["models"])
    assert (glm["slug"], glm["apply_patch_tool_type"], glm["supports_search_tool"]) == (
        "glm-5.2",
        "freeform",
        False,
    )
