"""The control application in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from dragoman.config.paths import Home, resolve_home
from dragoman.config.tokens import ensure_control_token
from dragoman.control.app import Control, control_app

NOW = 1_700_000_000.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = resolve_home({"DRAGOMAN_HOME": str(tmp_path), "HOME": str(tmp_path)})
    home.ensure()
    return home


@pytest.fixture
def control(home: Home) -> Control:
    return Control(home, "1.2.3", lambda: {"url": "http://127.0.0.1:4891", "children": []}, wall=lambda: NOW)


@pytest.fixture
def secret(home: Home) -> str:
    return ensure_control_token(home)


@pytest.fixture
def ask(control: Control, secret: str) -> Callable[..., httpx.Response]:
    """A request with the control token; `token=None` shows none, other headers as given."""
    app = control_app(control)

    def call(
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = secret,
        base: str = "http://localhost",
        content: bytes | None = None,
        **headers: str,
    ) -> httpx.Response:
        shown = {} if token is None else {"authorization": f"Bearer {token}"}
        shown |= {name.replace("_", "-"): value for name, value in headers.items()}

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                if content is not None:
                    return await client.request(method, path, content=content, headers=shown)
                return await client.request(method, path, json=body, headers=shown)

        return asyncio.run(run())

    return call
