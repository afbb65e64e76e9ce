"""The vendors' own SDKs name the types of what is sent to their servers; every request we write fits them."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types import MessageParam, ToolUnionParam
from hypothesis import given, settings
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter
from strategies import conversations

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect
from dragoman.wire.turns import Assistant, Call, File, Image, Request, Result, Text, User, Wire, raw

REALM = "somewhere"
NATIVE = Dialect(realm=REALM, reasoning_replay="always", freeform_tools=True)
SHOWN = (
    Image(media_type="image/png", data=b"AAAA"),
    File(media_type="application/pdf", data=b"JVBE", filename=raw('a "b".pdf')),
    File(media_type="text/plain", text=raw("words"), filename=b"a.txt"),
    File(url=b"https://example.com/a.pdf"),
    Text(b"look"),
)

_MESSAGES: TypeAdapter[Any] = TypeAdapter(list[MessageParam])
_TOOLS: TypeAdapter[Any] = TypeAdapter(list[ToolUnionParam])
_CHAT: TypeAdapter[Any] = TypeAdapter(list[ChatCompletionMessageParam])
_ITEMS: TypeAdapter[Any] = TypeAdapter(list[ResponseInputItemParam])


def sent(wire: Wire, request: Request) -> dict[str, Any]:
    return json.loads(translate.encode_request(wire, request, model="up", dialect=NATIVE, stream=True).body)


def typed_items(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items as the SDK's types want them: they demand an image's `detail`, which servers do not, and ids of
    past answers and thoughts, which they make themselves."""
    out: list[dict[str, Any]] = []
    for item in json.loads(json.dumps(items)):
        for part in [*item.get("content", ()), *item.get("output", ())]:
            if isinstance(part, dict) and part["type"] == "input_image":
                part.setdefault("detail", "auto")
        if item["type"] != "reasoning" and item.get("role") != "assistant":
            out.append(item)
    return out


def fits(adapter: TypeAdapter[Any], value: object) -> None:
    """Raises what does not fit; lists inside are generators until they are written out."""
    adapter.dump_json(adapter.validate_python(value), warnings="error")


@given(request=conversations())
@settings(max_examples=20, deadline=None)
def test_every_request_fits_the_types_of_the_vendors_sdks(request: Request) -> None:
    messages = sent("messages", request)
    fits(_MESSAGES, messages["messages"])
    fits(_TOOLS, messages.get("tools", []))
    fits(_CHAT, sent("chat", request)["messages"])
    fits(_ITEMS, typed_items(sent("responses", request)["input"]))


def test_pictures_and_documents_are_of_the_types_the_sdks_know() -> None:
    request = Request(
        wire="messages",
        model="m",
        turns=(
            User(parts=SHOWN),
            Assistant((Call("c", "Read"),)),
            User((Result("c", SHOWN),), (Text(b"and?"),)),
        ),
    )
    messages = sent("messages", request)["messages"]
    fits(_MESSAGES, messages)
    kinds = [block["type"] for block in messages[0]["content"]]
    assert kinds == ["image", "document", "document", "document", "text"]
    assert [block["type"] for block in messages[2]["content"][0]["content"]] == kinds
    chat = sent("chat", request)["messages"]
    fits(_CHAT, chat)
    assert [part["type"] for part in chat[0]["content"]] == ["image_url", "file", "text", "text", "text"]
    items = sent("responses", request)["input"]
    fits(_ITEMS, typed_items(items))
    parts = ["input_image", "input_file", "input_text", "input_file", "input_text"]
    assert [part["type"] for part in items[0]["content"]] == parts
    assert [part["type"] for part in items[2]["output"]] == parts
