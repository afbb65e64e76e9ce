"""The jobs of the control API: asked for, followed, ended, read; by many at once and by strangers' hands."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dragoman.config.paths import Home
from dragoman.config.schema import Config, Delegation
from dragoman.control.app import Control, control_app
from dragoman.control.bookkeeping import Books
from dragoman.control.events import event_routes
from dragoman.control.feed import Feed
from dragoman.control.jobs import job_routes
from dragoman.control.openapi import ANSWERS, BODIES, MEDIA, QUERIES
from dragoman.control.quota import QuotaDesk, quota_routes
from dragoman.control.retention import Retainer, retention_routes, room_sweepers
from dragoman.control.runs import run_routes
from dragoman.control.streaming import server_sent
from dragoman.control.workspaces import workspace_routes
from dragoman.jobs.service import JobService
from dragoman.jobs.testing import ScriptedLaunch, ThreadEngine
from dragoman.store.address import database_address
from dragoman.store.database import Database


def until(true: Callable[[], Any], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


class Office:
    """The control application with jobs, in memory."""

    def __init__(self, home: Home, control: Control, secret: str, folder: Path) -> None:
        self.home = home
        self.control = control
        self.feed = Feed()
        self.repository = folder / "work" / "repo"
        subprocess.run(("git", "init", "-q", str(self.repository)), check=True)
        self.service = JobService(home, Database(database_address(home, {})), "here", ScriptedLaunch(home))
        self.service.open()
        self.engine = ThreadEngine(self.service.carry)
        self.service.engine = self.engine
        self.service.on_change.append(lambda job: self.feed.publish("job", job))
        books = Books(home, self.service.database)
        settings = Delegation(allow_roots=(str(folder / "work"),))
        routes = [
            *job_routes(self.service, control.closing, settings=lambda: settings, user_home=lambda: folder),
            *run_routes(home),
            *workspace_routes(home),
            *event_routes(self.feed, control.closing),
            *quota_routes(QuotaDesk(home, Config)),
            *retention_routes(Retainer(Config, room_sweepers(home, books))),
        ]
        self.app = control_app(control, routes)
        self._headers = {"authorization": f"Bearer {secret}"}

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app),
            base_url="http://localhost",
            headers=self._headers,
            timeout=30.0,
        )

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        async def run() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, f"/api/v1{path}", json=body, headers=headers)

        return asyncio.run(run())

    def get(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self, task: str = "do: success", **fields: Any) -> httpx.Response:
        return self.call("POST", "/jobs", {"task": task, "cwd": str(self.repository), **fields})


@pytest.fixture
def office(home: Home, control: Control, secret: str, tmp_path: Path) -> Iterator[Office]:
    office = Office(home, control, secret, tmp_path)
    yield office
    for job in office.service.under_way():
        office.service.cancel(job.id)
    until(lambda: (office.service.settle(), not office.service.under_way())[1])
    office.engine.close()
    office.service.database.close()


def test_a_job_is_asked_for_waited_for_and_read(office: Office) -> None:
    asked = office.ask()
    assert asked.status_code == 201
    job = asked.json()["job"]
    assert (asked.json()["reuse_decision"], job["status"], job["type"]) == ("created", "running", "implement")
    waited = office.get(f"/jobs/{job['job_id']}?wait_s=20")
    assert (waited["job"]["status"], waited["timed_out"]) == ("succeeded", False)
    result = office.get(f"/jobs/{job['job_id']}/result")["result"]
    assert (result["status"], result["job_id"]) == ("success", job["job_id"])
    assert [one["job_id"] for one in office.get("/jobs?status=succeeded")["jobs"]] == [job["job_id"]]
    assert office.get("/jobs?status=failed")["jobs"] == []


def test_a_look_at_the_jobs_gets_ready_what_sees_them_through(office: Office) -> None:
    assert not office.engine.warmed
    office.call("GET", "/jobs")
    assert office.engine.warmed


def test_c01_an_equal_request_joins_the_job_that_is_under_way(office: Office) -> None:
    first = office.ask("do: hang").json()["job"]
    second = office.ask("do: hang")
    assert (second.status_code, second.json()["deduped"]) == (200, True)
    assert second.json()["job"]["job_id"] == first["job_id"]


def test_a_cancel_ends_it_and_a_wait_that_is_running_hears_of_it_at_once(office: Office) -> None:
    job_id = office.ask("do: hang").json()["job"]["job_id"]

    async def wait_and_cancel() -> tuple[Any, float]:
        async with office.client() as client:
            waiting = asyncio.create_task(client.get(f"/api/v1/jobs/{job_id}?wait_s=60"))
            await asyncio.sleep(0.2)
            cancelled = await client.post(f"/api/v1/jobs/{job_id}/cancel")
            assert cancelled.status_code == 202
            asked_at = time.monotonic()
            return (await waiting).json(), time.monotonic() - asked_at

    waited, took_s = asyncio.run(wait_and_cancel())
    assert waited["job"]["status"] == "cancelled"
    assert took_s < 10


def test_c14_polling_in_haste_is_told(office: Office) -> None:
    job_id = office.ask("do: hang").json()["job"]["job_id"]
    first = office.call("POST", f"/jobs/{job_id}/poll").json()["poll"]
    second = office.call("POST", f"/jobs/{job_id}/poll").json()["poll"]
    assert (first["poll_too_soon"], second["poll_too_soon"]) == (False, True)
    assert second["next_allowed_poll_at"] == first["next_allowed_poll_at"]


def test_c16_progress_is_a_stream_of_events_that_ends_with_the_job(office: Office) -> None:
    job_id = office.ask("do: success 0.3").json()["job"]["job_id"]
    answer = office.call("GET", f"/jobs/{job_id}/events", accept="text/event-stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line for line in answer.text.splitlines() if line.startswith(("event: ", "id: "))]
    assert events == ["id: 1", "event: phase", "id: 2", "event: phase", "id: 3", "event: phase", "event: end"]
    assert '"status":"succeeded"' in answer.text


def test_events_can_be_read_from_where_one_stopped(office: Office) -> None:
    job_id = office.ask().json()["job"]["job_id"]
    office.get(f"/jobs/{job_id}?wait_s=20")
    first = office.get(f"/jobs/{job_id}/events?limit=2")
    assert ([event["n"] for event in first["events"]], first["last"], first["ended"]) == ([1, 2], 2, False)
    rest = office.get(f"/jobs/{job_id}/events?after={first['last']}")
    assert ([event["n"] for event in rest["events"]], rest["ended"]) == ([3], True)


def test_d09_a_summary_stays_small_whatever_the_run_told(office: Office) -> None:
    view = office.ask().json()["job"]
    office.get(f"/jobs/{view['job_id']}?wait_s=20")
    folder = office.service.folder(view["run_id"])
    result = folder.result()
    assert result is not None
    folder.finish(result | {"error": "x" * 100_000, "warnings": ["y" * 1000] * 500})
    whole = office.call("GET", f"/jobs/{view['job_id']}/result")
    summary = office.call("GET", f"/jobs/{view['job_id']}/result?form=summary")
    assert len(whole.content) > 500_000
    assert len(summary.content) <= 8 * 1024 + 20
    assert summary.json()["result"]["status"] == "success"


def test_old_jobs_are_removed_only_when_told_to(office: Office) -> None:
    view = office.ask().json()["job"]
    office.get(f"/jobs/{view['job_id']}?wait_s=20")
    dry = office.call("POST", "/jobs/cleanup", {"older_than_hours": 0}).json()
    assert [entry["job_id"] for entry in dry["jobs"]] == [view["job_id"]]
    assert office.get(f"/jobs/{view['job_id']}")["job"]["status"] == "succeeded"
    office.call("POST", "/jobs/cleanup", {"older_than_hours": 0, "execute": True})
    assert office.call("GET", f"/jobs/{view['job_id']}").status_code == 404
    assert not (office.home.runs / view["run_id"]).exists()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/jobs/job-none", "job_not_found"),
        ("/jobs/job-none/events", "job_not_found"),
        ("/jobs/job-none/result", "job_not_found"),
        ("/runs/run-none", "run_not_found"),
        ("/runs/..%2f..%2fetc", "not_found"),
        ("/runs/.hidden", "run_not_found"),
        ("/jobs?status=lost", "bad_request"),
        ("/jobs?limit=0", "bad_request"),
        ("/jobs?type=apply", "bad_request"),
        ("/jobs/job-none?wait_s=forever", "bad_request"),
        ("/events?topics=weather", "bad_request"),
        ("/events?after=x", "bad_request"),
    ],
)
def test_what_is_not_there_or_makes_no_sense_is_one_clear_sentence(
    office: Office, path: str, code: str
) -> None:
    answer = office.call("GET", path)
    assert answer.status_code in (400, 404)
    assert answer.json()["error_code"] == code
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"task": "x"}, 400),
        ({"task": "x", "cwd": "/nowhere/at/all"}, 400),
        ({"task": "x", "cwd": "/etc"}, 403),
        ({"task": "x", "cwd": "relative"}, 400),
        ({"task": "", "cwd": "REPO"}, 400),
        ({"task": "x", "cwd": "REPO", "unknown": 1}, 400),
        ({"task": "x", "cwd": "REPO", "priority": 11}, 400),
        ({"task": "x", "cwd": "REPO", "timeout_s": -1}, 400),
        ({"task": "x", "cwd": "REPO", "resume_job": "job-none"}, 404),
    ],
)
def test_a_request_that_cannot_be_carried_out_starts_nothing(
    office: Office, body: dict[str, Any], status: int
) -> None:
    if body.get("cwd") == "REPO":
        body = {**body, "cwd": str(office.repository)}
    answer = office.call("POST", "/jobs", body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]
    assert office.get("/jobs")["jobs"] == []


def test_a_packet_of_five_megabytes_is_taken_and_nine_are_not(office: Office) -> None:
    assert office.ask("do: success\n" + "x" * (5 << 20)).status_code == 201
    assert office.ask("do: success\n" + "x" * (9 << 20)).status_code == 413


def test_no_list_or_view_of_jobs_and_runs_holds_a_prompt(office: Office) -> None:
    view = office.ask("do: success\nSECRET-PROMPT").json()["job"]
    office.get(f"/jobs/{view['job_id']}?wait_s=20")
    for path in ("/jobs", f"/jobs/{view['job_id']}", "/runs", f"/runs/{view['run_id']}"):
        assert "SECRET-PROMPT" not in office.call("GET", path).text
    inspected = office.get(f"/runs/{view['run_id']}")
    assert inspected["request"]["packet_bytes"] > 0
    assert inspected["run"]["status"] == "success"


def test_whoever_listens_hears_of_every_change_and_of_what_was_missed(office: Office) -> None:
    async def listen() -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []

        async def collect() -> None:
            async for happening in office.feed.listen(topics=frozenset({"job"})):
                heard.append({"id": happening.id, "status": happening.resource.status})
                if happening.resource.ended:
                    return

        collecting = asyncio.create_task(collect())
        await asyncio.sleep(0)
        await asyncio.to_thread(office.ask)
        await asyncio.wait_for(collecting, 20)
        again = [
            happening.id
            async for happening in _some(office.feed.listen(after=heard[0]["id"]), len(heard) - 1)
        ]
        assert again == [one["id"] for one in heard[1:]]
        return heard

    heard = asyncio.run(listen())
    assert heard[0]["status"] == "running"
    assert heard[-1]["status"] == "succeeded"
    assert [one["id"] for one in heard] == sorted({one["id"] for one in heard})


async def _some(source: Any, count: int) -> AsyncIterator[Any]:
    for _ in range(count):
        yield await anext(source)
    await source.aclose()


def test_a_stream_says_that_it_is_there_and_ends_when_the_process_leaves() -> None:
    async def watch() -> bytes:
        closing = asyncio.Event()

        async def frames() -> AsyncIterator[bytes]:
            yield b"event: a\n\n"
            await asyncio.Event().wait()

        response = server_sent(frames(), closing, still_here_s=0.02)
        told = b""
        async for part in response.body_iterator:
            told += bytes(part) if not isinstance(part, str) else part.encode()
            if told.count(b"still here") == 2:
                closing.set()
        return told

    told = asyncio.run(watch())
    assert told.startswith(b": here\n\nevent: a\n\n: still here")


def test_a_listener_that_does_not_read_is_let_go_and_costs_no_memory() -> None:
    async def fall_behind() -> tuple[int, int]:
        feed = Feed()
        listening = feed.listen()
        first = asyncio.ensure_future(anext(listening))
        await asyncio.sleep(0)
        for number in range(5000):
            feed.publish("usage", {"rows": number})
            if number % 500 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        await first
        rest = [one async for one in listening]
        return len(rest), len(feed._listeners)

    read, listeners = asyncio.run(fall_behind())
    assert read <= 2001
    assert listeners == 0


def test_every_route_is_described_and_every_get_answers_as_described(office: Office) -> None:
    import jsonschema

    view = office.ask().json()["job"]
    office.get(f"/jobs/{view['job_id']}?wait_s=20")
    document = office.get("/openapi.json")
    served = {
        (method.lower(), route.path)
        for route in _routes(office.app)
        if route.path.startswith("/api/v1")
        for method in route.methods - {"HEAD"}
    }
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert described == served
    checked = 0
    for method, path in sorted(described):
        operation = document["paths"][path][method]
        assert operation["summary"]
        if method != "get":
            continue
        content = operation["responses"]["2XX"]["content"]
        if "application/json" not in content:
            continue
        filled = path.replace("/jobs/{id}", f"/jobs/{view['job_id']}").replace(
            "/runs/{id}", f"/runs/{view['run_id']}"
        )
        answer = office.call("GET", filled.removeprefix("/api/v1"))
        if answer.status_code != 200:
            assert "{" in filled, (path, answer.text)
            schema = operation["responses"]["default"]["content"]["application/json"]["schema"]
        else:
            schema = content["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
        checked += 1
    assert checked >= 10
    json.dumps(document)


# What needs no body, and what answers with no fixed shape.
_BODILESS = {"/jobs/{id}/poll", "/jobs/{id}/cancel", "/gc", "/captures/{id}/replay"}
_FREE = {
    ("get", "/runs/{id}"),
    ("get", "/openapi.json"),
    ("post", "/captures/{id}/replay"),
    ("post", "/sessions/{session_id}/input"),
}


def test_every_description_says_what_goes_in_and_what_comes_out(office: Office) -> None:
    document = office.get("/openapi.json")
    described = {
        (method, path.removeprefix("/api/v1")): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    for (method, path), operation in described.items():
        assert not operation["summary"].startswith(method.upper()), f"{method} {path} has no text"
        if method == "post":
            assert ("requestBody" in operation) != (path in _BODILESS), path
        ((media, content),) = operation["responses"]["2XX"]["content"].items()
        if media == "application/json":
            typed = content["schema"] != {"type": "object"}
            assert typed != ((method, path) in _FREE), (method, path)
    named = {(method.lower(), path.removeprefix("/api/v1")) for method, path in (*BODIES, *ANSWERS, *QUERIES)}
    assert named <= set(described)
    assert set(MEDIA) <= set(document["paths"])


def _routes(app: Any) -> Any:
    """The routes behind counting and gate."""
    inner = app.__closure__
    for cell in inner:
        gate = cell.cell_contents
        if hasattr(gate, "_app"):
            return gate._app.routes
    raise AssertionError("no application found")
