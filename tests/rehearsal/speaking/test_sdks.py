"""The vendors' own SDKs read every answer, streamed and whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anthropic
import httpx
import openai
import pytest

MakeClient = Callable[..., httpx.AsyncClient]
Serve = Callable[..., AbstractAsyncContextManager[str]]

PLAY = """
pace = { chunk_tokens = 2 }
[[rule]]
name = "work"
when = { turn = 0 }
do = [
  { think = "First I read.\\nThen I act." },
  { say = "I read: näh 🦉 \\u2028 done." },
  { call = { tool = "Read", args = { file_path = "/srv/a.py", limit = 3 } } },
  { call = { tool = "Read", args = { file_path = "/srv/b.py" } } },
]
[[rule]]
when = { tools = "any" }
do = [{ say = "Done." }]
"""
TEXT = "I read: näh 🦉 \u2028 done."
THOUGHT = "First I read.\nThen I act."
FIRST = {"file_path": "/srv/a.py", "limit": 3}
SECOND = {"file_path": "/srv/b.py"}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"file_path": {"type": "string"}}}


def anthropic_sdk(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0)


def openai_sdk(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0)


@pytest.mark.parametrize("stream", [True, False])
def test_the_anthropic_sdk_reads_a_message(served: Serve, stream: bool):
    async def ask() -> anthropic.types.Message:
        async with served(PLAY) as url, anthropic_sdk(url) as sdk:
            request: dict[str, Any] = {
                "model": "m",
                "max_tokens": 1000,
                "thinking": {"type": "enabled", "budget_tokens": 1024},
                "tools": [{"name": "Read", "input_schema": SCHEMA}],
                "messages": [{"role": "user", "content": "go"}],
            }
            if not stream:
                return await sdk.messages.create(**request)
            async with sdk.messages.stream(**request) as streamed:
                return await streamed.get_final_message()

    message = asyncio.run(ask())
    thinking, text, first, second = message.content
    assert thinking.type == "thinking"
    assert thinking.thinking == THOUGHT
    assert thinking.signature
    assert text.type == "text"
    assert text.text == TEXT
    assert first.type == "tool_use"
    assert second.type == "tool_use"
    assert (first.input, second.input) == (FIRST, SECOND)
    assert first.id != second.id
    assert message.stop_reason == "tool_use"
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 20


@pytest.mark.parametrize("stream", [True, False])
def test_the_openai_sdk_reads_a_chat_completion(served: Serve, stream: bool):
    async def ask() -> Any:
        async with served(PLAY) as url, openai_sdk(url) as sdk:
            tool = {"type": "function", "function": {"name": "Read", "parameters": SCHEMA}}
            request: dict[str, Any] = {
                "model": "m",
                "messages": [{"role": "user", "content": "go"}],
                "tools": [tool],
            }
            chat = sdk.chat.completions
            if not stream:
                return await chat.create(**request)
            async with chat.stream(**request, stream_options={"include_usage": True}) as streamed:
                return await streamed.get_final_completion()

    completion = asyncio.run(ask())
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == TEXT
    assert choice.message.model_dump()["reasoning_content"] == THOUGHT
    first, second = choice.message.tool_calls
    assert json.loads(first.function.arguments) == FIRST
    assert json.loads(second.function.arguments) == SECOND
    assert first.id != second.id
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize("stream", [True, False])
def test_the_openai_sdk_reads_a_response(served: Serve, stream: bool):
    async def ask() -> Any:
        async with served(PLAY) as url, openai_sdk(url) as sdk:
            request: dict[str, Any] = {
                "model": "m",
                "input": "go",
                "reasoning": {"summary": "auto"},
                "include": ["reasoning.encrypted_content"],
                "tools": [{"type": "function", "name": "Read", "parameters": SCHEMA, "strict": False}],
            }
            if not stream:
                return await sdk.responses.create(**request)
            async with sdk.responses.stream(**request) as streamed:
                return await streamed.get_final_response()

    response = asyncio.run(ask())
    assert response.status == "completed"
    reasoning, message, first, second = response.output
    assert reasoning.summary[0].text == THOUGHT
    assert reasoning.encrypted_content
    assert message.content[0].text == TEXT
    assert response.output_text == TEXT
    assert (json.loads(first.arguments), json.loads(second.arguments)) == (FIRST, SECOND)
    assert first.call_id != second.call_id
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_the_stream_of_a_chat_has_usage_only_where_it_was_asked_for(in_memory: MakeClient):
    async def chunks(**more: Any) -> list[dict[str, Any] | str]:
        async with in_memory(PLAY) as client:
            body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}], **more}
            # Without tools this is a side call, which the last rule answers.
            text = (await client.post("/v1/chat/completions", json=body)).text
            lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
            return [line if line == "[DONE]" else json.loads(line) for line in lines]

    plain = asyncio.run(chunks())
    assert plain[-1] == "[DONE]"
    assert not any(isinstance(chunk, dict) and "usage" in chunk for chunk in plain)
    *_, last, done = asyncio.run(chunks(stream_options={"include_usage": True}))
    assert done == "[DONE]"
    assert isinstance(last, dict)
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] > 0


def test_the_sdks_count_tokens_and_list_models(served: Serve):
    play = "models = ['one', 'two', 'glob-*']\n[[rule]]\ndo = [{ say = 'x' }]"

    async def ask() -> None:
        async with served(play) as url, anthropic_sdk(url) as anthropics, openai_sdk(url) as openais:
            counted = await anthropics.messages.count_tokens(
                model="one", messages=[{"role": "user", "content": "x" * 400}]
            )
            assert 100 <= counted.input_tokens <= 120
            assert [model.id for model in (await anthropics.models.list()).data] == ["one", "two"]
            assert (await anthropics.models.retrieve("two")).id == "two"
            assert [model.id for model in (await openais.models.list()).data] == ["one", "two"]
            assert (await openais.models.retrieve("glob-7")).id == "glob-7"
            with pytest.raises(openai.NotFoundError):
                await openais.models.retrieve("three")

    asyncio.run(ask())


FAILURES = """
[[rule]]
when = { user_contains = "busy" }
do = [{ fail = { status = 429, message = "slow down", retry_after_s = 7 } }]
[[rule]]
when = { user_contains = "own word" }
do = [{ fail = { status = 400, code = "context_length_exceeded", message = "too long" } }]
[[rule]]
when = { user_contains = "half way" }
do = [{ say = "well," }, { fail = { status = 529, message = "overloaded" } }]
"""


def test_the_sdks_raise_their_own_errors(served: Serve):
    async def ask() -> None:
        async with served(FAILURES) as url, anthropic_sdk(url) as anthropics, openai_sdk(url) as openais:
            tool: Any = {"name": "Read", "input_schema": SCHEMA}
            create = anthropics.messages.create
            with pytest.raises(anthropic.RateLimitError) as limited:
                await create(
                    model="m", max_tokens=9, tools=[tool], messages=[{"role": "user", "content": "busy"}]
                )
            assert limited.value.response.headers["retry-after"] == "7"
            assert limited.value.body == {
                "type": "error",
                "error": {"type": "rate_limit_error", "message": "slow down"},
                "request_id": limited.value.request_id,
            }
            function: Any = {"type": "function", "function": {"name": "Read"}}
            with pytest.raises(openai.BadRequestError) as long:
                await openais.chat.completions.create(
                    model="m",
                    messages=[{"role": "user", "content": "own word"}],
                    tools=[function],
                )
            assert long.value.code == "context_length_exceeded"
            assert long.value.type == "invalid_request_error"

    asyncio.run(ask())


@pytest.mark.parametrize("wire", ["messages", "chat", "responses"])
def test_an_error_after_the_first_words_comes_inside_the_stream(in_memory: MakeClient, wire: str):
    user = {"role": "user", "content": "half way"}
    requests: dict[str, tuple[str, dict[str, Any]]] = {
        "messages": ("/v1/messages", {"messages": [user], "tools": [{"name": "Read"}]}),
        "chat": (
            "/v1/chat/completions",
            {"messages": [user], "tools": [{"type": "function", "function": {"name": "Read"}}]},
        ),
        "responses": ("/v1/responses", {"input": [user], "tools": [{"type": "function", "name": "Read"}]}),
    }

    async def ask(stream: bool) -> httpx.Response:
        path, body = requests[wire]
        async with in_memory(FAILURES) as client:
            return await client.post(path, json=body | {"model": "m", "stream": stream})

    streamed = asyncio.run(ask(stream=True))
    assert streamed.status_code == 200
    last = json.loads(streamed.text.strip().split("\n")[-1].removeprefix("data: "))
    match wire:
        case "messages":
            assert last == {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}
        case "chat":
            assert last["error"]["message"] == "overloaded"
        case _:
            assert last["type"] == "response.failed"
            assert last["response"]["error"] == {"code": "server_error", "message": "overloaded"}
    assert asyncio.run(ask(stream=False)).status_code == 529
