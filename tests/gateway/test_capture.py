"""An exchange recorded on order plays again byte for byte; recording never stands in the way."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dragoman.gateway import capture as recording
from dragoman.gateway.capture_file import (
    Capture,
    Given,
    NoCapture,
    bytes_of,
    decode_capture,
    encode_capture,
    find_capture,
    list_captures,
    sweep_captures,
    text_of,
)
from dragoman.gateway.capture_order import (
    Order,
    captures_folder,
    order_file,
    order_state,
    read_order,
    remove_order,
    write_order,
)
from dragoman.gateway.capture_replay import replay

PATHS = {"messages": "/v1/messages", "chat": "/v1/chat/completions", "responses": "/v1/responses"}
WIRES = tuple(PATHS)
USER = [{"role": "user", "content": "hi"}]
ASK: dict[str, dict[str, Any]] = {
    "messages": {"model": "m", "max_tokens": 100, "messages": USER},
    "chat": {"model": "m", "messages": USER},
    "responses": {"model": "m", "input": "hi"},
}


def config(base: str, *wires: str, more: str = "") -> str:
    bases = {"chat": f"{base}/v1", "responses": f"{base}/v1", "messages": base}
    lines = "\n".join(f'wires.{wire} = "{bases[wire]}"' for wire in wires)
    return f"""
[providers.up]
profile = "generic"
key_env = "UP_KEY"
{lines}
[models."m"]
provider = "up"
upstream = "m-up"
{more}
"""


def an_order(**changes: Any) -> Order:
    order = Order(id="a1", since=0.0, until=4e9, exchanges=100)
    return msgspec.structs.replace(order, **changes)


def begin(tmp_path: Path, **changes: Any) -> Path:
    """Order recording for the home that `served` makes; its state folder."""
    state = tmp_path / "home" / "state"
    write_order(state, an_order(**changes))
    return state


def recorded(state: Path) -> list[Capture]:
    """Every recording, the oldest first."""
    folder = captures_folder(state)
    return [find_capture(folder, each.id) for each in reversed(list_captures(folder))]


def stream_of(kit: Any, wire: str) -> bytes:
    match wire:
        case "messages":
            return kit.messages_stream("Hel", "lo ✓")
        case "chat":
            return kit.chat_stream("Hel", "lo ✓")
        case _:
            answer = {"id": "resp_u", "object": "response", "model": "m-up", "output": []}
            item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
            text = {"type": "output_text", "text": "Hello ✓", "annotations": []}
            whole = {**item, "status": "completed", "content": [text]}
            usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
            events = [
                {"type": "response.created", "response": {**answer, "status": "in_progress"}},
                {"type": "response.output_item.added", "output_index": 0, "item": item},
                {"type": "response.output_text.delta", "output_index": 0, "content_index": 0,
                 "item_id": "msg_1", "delta": "Hel"},
                {"type": "response.output_text.delta", "output_index": 0, "content_index": 0,
                 "item_id": "msg_1", "delta": "lo ✓"},
                {"type": "response.output_item.done", "output_index": 0, "item": whole},
                {"type": "response.completed",
                 "response": {**answer, "status": "completed", "output": [whole], "usage": usage}},
            ]  # fmt: skip
            return kit.sse(*(event | {"sequence_number": n} for n, event in enumerate(events)))


def body_of(wire: str) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 2}
    match wire:
        case "messages":
            text = [{"type": "text", "text": "Hello"}]
            head = {"id": "msg_u", "type": "message", "role": "assistant", "model": "m-up"}
            return {**head, "content": text, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
        case "chat":
            message = {"role": "assistant", "content": "Hello"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            told = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m-up"}
            return {**head, "choices": [choice], "usage": told}
        case _:
            text = {"type": "output_text", "text": "Hello", "annotations": []}
            item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
            head = {"id": "resp_u", "object": "response", "model": "m-up", "status": "completed"}
            told = {**usage, "total_tokens": 5}
            return {**head, "output": [{**item, "content": [text]}], "usage": told}


def paced(body: bytes, size: int) -> list[Any]:
    """A chunked stream in pieces that end anywhere, in the middle of a character too."""
    steps: list[Any] = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    ]
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        steps += [b"%x\r\n%b\r\n" % (len(piece), piece), 0.002]
    return [*steps, b"0\r\n\r\n"]


def check(capture: Capture) -> None:
    played = replay(decode_capture(encode_capture(capture, readable=True), "exported"))
    assert [part.diff for part in played.parts if not part.same] == []
    assert played.same


@pytest.mark.parametrize("upstream", WIRES)
@pytest.mark.parametrize("client", WIRES)
def test_every_pair_of_wires_plays_again_byte_for_byte(
    kit: Any, tmp_path: Path, client: str, upstream: str
) -> None:
    async def run() -> tuple[list[bytes], Path]:
        answers = [paced(stream_of(kit, upstream), 37), [kit.json_answer(body_of(upstream))]]
        answers += [paced(stream_of(kit, upstream), 50_000), paced(stream_of(kit, upstream), 11)]
        left = iter(answers)
        state = begin(tmp_path)
        told: list[bytes] = []
        async with (
            kit.scripted(lambda _: next(left)) as up,
            kit.served(tmp_path, config(up.base, upstream)) as served,
        ):
            for stream in (True, False, True, False):  # a JSON client of a stream last
                status, _, body = await served.ask(PATHS[client], {**ASK[client], "stream": stream})
                assert status == 200
                told.append(body)
        return told, state

    told, state = asyncio.run(run())
    captures = recorded(state)
    assert sorted(bytes_of(c.answer.body) for c in captures if c.answer) == sorted(told)
    for capture in captures:
        assert (capture.client_wire, capture.upstream_wire) == (client, upstream)
        assert (capture.outcome, capture.ended, capture.incomplete) == ("ok", "whole", False)
        check(capture)
    pieces = [c.upstream[0].answer.pieces for c in captures if c.upstream[0].answer]
    assert max(len(each) for each in pieces) > 5, "chunk boundaries are kept"
    assert all(each == sorted(each, key=lambda piece: piece[0]) for each in pieces)


TROUBLES: dict[str, Any] = {
    "refused": lambda kit: [kit.json_answer({"error": {"message": "no", "code": "x"}}, "400 Bad Request")],
    "unavailable": lambda kit: [kit.json_answer({"error": {"message": "later"}}, "503 Service Unavailable")],
    "rate": lambda kit: [
        kit.json_answer({"error": {"message": "slow"}}, "429 Too Many", (("retry-after", "7"),))
    ],
    "key": lambda kit: [
        kit.json_answer({"error": {"message": "bad key sk-upstream-secret"}}, "401 Unauthorized")
    ],
    "cut": lambda kit: [kit.SSE_HEAD, kit.chunk(stream_of(kit, "chat")[:300]), "reset"],
    "cut at once": lambda kit: [kit.SSE_HEAD, "close"],
    "nothing": lambda kit: ["close"],
    "half": lambda kit: [kit.SSE_HEAD, kit.chunk(stream_of(kit, "chat")[:280]), b"0\r\n\r\n"],
    "error inside": lambda kit: [kit.streamed(kit.sse({"error": {"message": "x", "code": 1}}, named=False))],
    "page": lambda kit: [kit.answer(b"<html>no</html>", headers=(("Content-Type", "text/html"),))],
    "no json": lambda kit: [kit.answer(b"{]", headers=(("Content-Type", "application/json"),))],
}


@pytest.mark.parametrize("client", WIRES)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_errors_and_cuts_play_again_too(kit: Any, tmp_path: Path, trouble: str, client: str) -> None:
    async def run() -> Path:
        state = begin(tmp_path)
        async with (
            kit.scripted(TROUBLES[trouble](kit)) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            await served.ask(PATHS[client], {**ASK[client], "stream": True})
        return state

    (capture,) = recorded(asyncio.run(run()))
    assert capture.outcome == "failed"
    assert capture.upstream
    check(capture)


def test_two_keys_and_a_silence_and_an_unknown_name_play_again(kit: Any, tmp_path: Path) -> None:
    stream = stream_of(kit, "chat")

    async def run() -> Path:
        slow = [kit.SSE_HEAD, 0.3, kit.chunk(stream[:250]), 0.3, kit.chunk(stream[250:]), b"0\r\n\r\n"]
        refusal = [kit.json_answer({"error": {"message": "slow down"}}, "429 Too Many Requests")]
        answers = iter([refusal, slow])
        state = begin(tmp_path)
        async with (
            kit.scripted(lambda _: next(answers)) as up,
            kit.served(
                tmp_path,
                config(up.base, "chat").replace(
                    'key_env = "UP_KEY"', 'keys = [{ env = "UP_KEY" }, { env = "UP_TWO" }]'
                ),
                environment={"UP_TWO": "sk-another-secret-22"},
                silence_s=0.1,
            ) as served,
        ):
            status, _, body = await served.ask("/v1/messages", {**ASK["messages"], "stream": True})
            assert status == 200
            assert b"ping" in body
            assert (await served.ask("/v1/messages", {**ASK["messages"], "model": "who"}))[0] == 404
        return state

    first, second = recorded(asyncio.run(run()))
    two = first if len(first.upstream) == 2 else second
    assert [len(each.upstream) for each in (first, second)] == ([2, 0] if two is first else [0, 2])
    answer = two.upstream[1].answer
    assert answer is not None
    assert any(length == 0 for _, length in answer.pieces), "silences are noted"
    check(first)
    check(second)


@pytest.mark.parametrize("before_the_first_byte", [True, False])
def test_a_client_that_leaves_is_played_as_one_that_leaves(
    kit: Any, tmp_path: Path, before_the_first_byte: bool
) -> None:
    async def run() -> Path:
        begun = [] if before_the_first_byte else [kit.SSE_HEAD, kit.chunk(kit.messages_stream("Hello")[:600])]
        state = begin(tmp_path)
        async with (
            kit.scripted([*begun, "wait"]) as up,
            kit.served(tmp_path, config(up.base, "messages")) as served,
        ):
            asking = asyncio.create_task(served.open("/v1/chat/completions", {**ASK["chat"], "stream": True}))
            await kit.until(lambda: up.requests)
            if before_the_first_byte:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            else:
                answer = await asking
                await answer.read()
                answer.abort()
            await kit.until(lambda: served.gateway.open_requests == 0)
        return state

    (capture,) = recorded(asyncio.run(run()))
    assert (capture.outcome, capture.ended) == ("client_left", "left")
    check(capture)


def test_a_difference_is_found_and_shown(kit: Any, tmp_path: Path) -> None:
    async def run() -> Path:
        state = begin(tmp_path)
        async with (
            kit.scripted([kit.streamed(kit.chat_stream("Hello"))]) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            await served.ask("/v1/messages", {**ASK["messages"], "stream": True})
        return state

    (capture,) = recorded(asyncio.run(run()))
    assert capture.answer is not None
    old = bytes_of(capture.answer.body)
    changed = msgspec.structs.replace(capture.answer, body=text_of(old.replace(b"Hello", b"Hallo")))
    played = replay(msgspec.structs.replace(capture, answer=changed))
    (part,) = [part for part in played.parts if not part.same]
    assert not played.same
    assert (part.what, part.at) == ("answer body", old.index(b"Hello") + 1)
    assert any(line.startswith("-") and "Hallo" in line for line in part.diff)
    assert any(line.startswith("+") and "Hello" in line for line in part.diff)
    asked = msgspec.structs.replace(capture.request, body=text_of(bytes_of(capture.request.body) + b" "))
    assert replay(msgspec.structs.replace(capture, request=asked)).same, "what means the same is the same"
    other = bytes_of(capture.request.body).replace(b'"hi"', b'"ho"')
    asked = msgspec.structs.replace(capture.request, body=text_of(other))
    wrong = [p.what for p in replay(msgspec.structs.replace(capture, request=asked)).parts if not p.same]
    assert wrong == ["upstream request 1 body"]


def test_secrets_are_nowhere_in_the_file(kit: Any, tmp_path: Path) -> None:
    planted = "sk-proj-" + "aB3dE5gH7" * 5
    words = [planted[start : start + 7] for start in range(0, len(planted), 7)]

    async def run() -> tuple[Path, str]:
        state = begin(tmp_path)
        async with (
            kit.scripted(paced(kit.chat_stream("it is ", *words, " and sk-upstream-secret"), 53)) as up,
            kit.served(tmp_path, config(up.base, "chat")) as served,
        ):
            said = f"OPENAI_API_KEY={planted}\npassword = hunter2hunter2, {served.token}"
            body = {**ASK["messages"], "stream": True, "messages": [{"role": "user", "content": said}]}
            headers = {"cookie": "a=chocolate-chip-77; b=2", "x-session-token": "made-up-12345678"}
            status, _, answer = await served.ask("/v1/messages", body, headers=headers)
            assert status == 200
            assert words[0].encode() in answer
        return state, served.token

    state, token = asyncio.run(run())
    (file,) = captures_folder(state).glob("*.json")
    content = file.read_text()
    for secret in (planted, token, "sk-upstream-secret", "hunter2", "chocolate", "made-up-12345678"):
        assert secret not in content
    (capture,) = recorded(state)
    text = "".join(
        event["choices"][0]["delta"].get("content") or ""
        for line in bytes_of(capture.upstream[0].answer.body).split(b"\n")  # pyright: ignore[reportOptionalMemberAccess]
        if line.startswith(b"data: {") and (event := json.loads(line[6:]))["choices"]
    )
    assert planted not in text
    assert text.startswith("it is sk-proj-redacted-")
    assert capture.redacted > 5
    check(capture)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_without_an_order_nothing_is_wrapped_or_written(
    kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was recorded")

    monkeypatch.setattr(recording, "Tape", never)

    async def run() -> Path:
        async with (
            kit.scripted([kit.streamed(kit.messages_stream("a"))]) as up,
            kit.served(tmp_path, config(up.base, "messages")) as served,
        ):
            assert (await served.ask("/v1/messages", {**ASK["messages"], "stream": True}))[0] == 200
            assert served.gateway._captures._thread is None
            return served.home.state

    assert not captures_folder(asyncio.run(run())).exists()


def test_a_running_gateway_takes_an_order_up_and_drops_it(kit: Any, tmp_path: Path) -> None:
    async def run() -> list[int]:
        counts = []
        async with (
            kit.scripted([kit.streamed(kit.messages_stream("a"))]) as up,
            kit.served(tmp_path, config(up.base, "messages")) as served,
        ):
            state, folder = served.home.state, captures_folder(served.home.state)

            async def ask_until(count: int) -> None:
                async with asyncio.timeout(5):
                    while len(list_captures(folder)) != count:
                        await served.ask("/v1/messages", {**ASK["messages"], "stream": True})
                        await asyncio.sleep(0.02)

            await served.ask("/v1/messages", ASK["messages"])
            write_order(state, an_order(exchanges=3))
            await ask_until(3)
            counts.append(len(list_captures(folder)))
            await kit.until(lambda: read_order(state) is None)
            for _ in range(5):
                await served.ask("/v1/messages", {**ASK["messages"], "stream": True})
            await asyncio.sleep(0.05)
            counts.append(len(list_captures(folder)))
            write_order(state, an_order(id="b2", until=1.0))
            served.gateway._captures._watch._look_at = 0.0
            await served.ask("/v1/messages", ASK["messages"])
            remove_order(state)
        counts.append(len(list_captures(folder)))
        return counts

    assert asyncio.run(run()) == [3, 3, 3]


def test_two_gateways_count_together(kit: Any, tmp_path: Path) -> None:
    async def run() -> Path:
        state = begin(tmp_path, exchanges=7)
        async with (
            kit.scripted([kit.streamed(kit.messages_stream("a"))]) as up,
            kit.served(tmp_path, config(up.base, "messages")) as one,
            kit.served(tmp_path, config(up.base, "messages")) as two,
        ):
            body = {**ASK["messages"], "stream": True}
            await asyncio.gather(*(each.ask("/v1/messages", body) for each in (one, two) * 8))
        return state

    state = asyncio.run(run())
    assert len(list_captures(captures_folder(state))) == 7
    assert read_order(state) is None


def test_failed_only_keeps_what_failed(kit: Any, tmp_path: Path) -> None:
    async def run() -> Path:
        answers = iter([[kit.streamed(kit.messages_stream("a"))], TROUBLES["refused"](kit)])
        state = begin(tmp_path, failed_only=True)
        async with (
            kit.scripted(lambda _: next(answers)) as up,
            kit.served(tmp_path, config(up.base, "messages")) as served,
        ):
            for _ in range(2):
                await served.ask("/v1/messages", {**ASK["messages"], "stream": True})
        return state

    (capture,) = recorded(asyncio.run(run()))
    assert capture.outcome == "failed"


def test_a_full_disk_ends_recording_and_nothing_else(
    kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def full(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if "/captures/" in str(path) and not Path(path).name.startswith(".count-"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", full)

    async def run() -> None:
        state = begin(tmp_path)
        async with (
            kit.scripted([kit.streamed(kit.messages_stream("a"))]) as up,
            kit.served(tmp_path, config(up.base, "messages")) as served,
        ):
            stream = {**ASK["messages"], "stream": True}
            bodies = [(await served.ask("/v1/messages", stream))[2] for _ in range(3)]
            assert bodies == [kit.messages_stream("a", model="m")] * 3
            await kit.until(lambda: any(event == "capture_stopped" for event, _ in served.logged))
            found = order_state(state, 1_700_000_000.0)
            assert (found.on, found.stopped) == (False, "No space left on device")
            await kit.until(lambda: served.gateway._captures._room.left == recording.MAX_HELD_BYTES)
        assert list_captures(captures_folder(state)) == []

    asyncio.run(run())


def test_an_exchange_too_large_to_keep_is_told_and_served(kit: Any, tmp_path: Path) -> None:
    text = "x" * 200_000

    async def run() -> Path:
        state = begin(tmp_path, exchange_bytes=100_000)
        async with (
            kit.scripted([kit.streamed(kit.messages_stream(text))]) as up,
            kit.served(tmp_path, config(up.base, "messages")) as served,
        ):
            _, _, body = await served.ask("/v1/messages", {**ASK["messages"], "stream": True})
            assert body == kit.messages_stream(text, model="m")
        return state

    (capture,) = recorded(asyncio.run(run()))
    assert capture.incomplete
    assert len(encode_capture(capture)) < 110_000
    with pytest.raises(NoCapture, match="too large"):
        replay(capture)


def test_the_folder_is_bounded_by_number_and_bytes_and_age(kit: Any, tmp_path: Path) -> None:
    async def run() -> Path:
        state = begin(tmp_path, folder_files=4)
        async with (
            kit.scripted([kit.streamed(kit.messages_stream("a"))]) as up,
            kit.served(tmp_path, config(up.base, "messages")) as served,
        ):
            for _ in range(6):
                await served.ask("/v1/messages", {**ASK["messages"], "stream": True})
        return state

    folder = captures_folder(asyncio.run(run()))
    kept = list_captures(folder)
    assert len(kept) == 4
    size = max(file.stat().st_size for file in folder.glob("*.json"))
    for number, file in enumerate(sorted(folder.glob("*.json"))):
        os.utime(file, (1000.0 + number * 86_400, 1000.0 + number * 86_400))

    def swept(**rules: Any) -> dict[str, str]:
        gone = sweep_captures(folder, execute=False, wall=lambda: 1000.0 + 4 * 86_400, **rules)
        return {each.id: each.reason for each in gone}

    assert len(swept(days=0, max_bytes=1 << 30)) == 0
    assert list(swept(days=3, max_bytes=1 << 30).values()) == ["old"]
    assert list(swept(days=0, max_bytes=size).values()) == ["over the limit"] * 3
    assert len(list_captures(folder)) == 4, "nothing goes unless it is told to"
    sweep_captures(folder, days=2, max_bytes=1 << 30, execute=True, wall=lambda: 1000.0 + 4 * 86_400)
    assert len(list_captures(folder)) == 2


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    assert list_captures(folder) == []
    folder.mkdir()
    (folder / "abcdef01.json").write_text('{"format":"dragoman capture"')
    (folder / "abcdef02.json").symlink_to("/etc/passwd")
    assert list_captures(folder) == []
    for id in ("abcdef01", "abcdef02", "abc", "../abcdef01", "last", ""):
        with pytest.raises(NoCapture):
            find_capture(folder, id)
    order_file(tmp_path).write_text("[]")
    assert read_order(tmp_path) is None


def test_bytes_that_are_no_text_survive_the_file() -> None:
    odd = b'\xff\x00"\\\n' + "é".encode()[:1]
    given = Given(at_ms=0.0, status=200, headers=[("a", "\xe9")], body=text_of(odd), pieces=[(0.0, len(odd))])
    assert bytes_of(msgspec.json.decode(msgspec.json.encode(given), type=Given).body) == odd
