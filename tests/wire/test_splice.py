"""Only the model's name changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import chunks_of, cuts, texts

from dragoman.wire.splice import ModelRewriter, splice_model
from dragoman.wire.turns import Wire


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"a","x":1.0}', b'{"model":"new","x":1.0}'),
        (b'{ "z" : null ,\n\t"model" : "a" , "n":-0.0}', b'{ "z" : null ,\n\t"model" : "new" , "n":-0.0}'),
        (b'{"a":{"model":"keep"},"model":"a"}', b'{"a":{"model":"keep"},"model":"new"}'),
        (b'{"a":{"model":"a"},"model":"a"}', b'{"a":{"model":"a"},"model":"new"}'),
        (b'{"t":"\\"model\\":\\"a\\"","model":"a"}', b'{"t":"\\"model\\":\\"a\\"","model":"new"}'),
        (b'{"l":[{"model":"a"}],"mod\\u0065l":"a"}', b'{"l":[{"model":"a"}],"mod\\u0065l":"new"}'),
        (b'{"model":"a","model":"b"}', b'{"model":"new","model":"new"}'),
        (b'{"a":{"model":"x"},"mod\\u0065l":"a"}', b'{"a":{"model":"x"},"mod\\u0065l":"new"}'),
        (b'{"x":"model","model":"a"}', b'{"x":"model","model":"new"}'),
        (b'{"model":"caf\\u00e9 \\"q\\""}', b'{"model":"new"}'),
    ],
)
def test_every_other_byte_stays(before: bytes, after: bytes) -> None:
    assert splice_model(before, "new") == after


@given(
    st.dictionaries(
        texts(min_size=0),
        st.recursive(texts(min_size=0) | st.none() | st.floats(allow_nan=False), st.lists, max_leaves=4),
        max_size=4,
    ),
    texts(),
    texts(),
)
def test_any_body_reads_the_same_but_for_the_model(fields: dict[str, object], old: str, new: str) -> None:
    body = json.dumps({**fields, "model": old}).encode()
    assert json.loads(splice_model(body, new)) == {**fields, "model": new}


STREAMS: dict[Wire, tuple[bytes, bytes]] = {
    "messages": (
        b'event: message_start\ndata: {"type":"message_start","message":{"model": "up","x":1.50}}\n\n'
        b'event: ping\ndata: {"type":"content_block_delta","delta":{"text":"\\"model\\":\\"up\\""}}\n\n'
        b'data: {"type":"brand_new","model":"up"}\n\n',
        b'event: message_start\ndata: {"type":"message_start","message":{"model":"asked","x":1.50}}\n\n'
        b'event: ping\ndata: {"type":"content_block_delta","delta":{"text":"\\"model\\":\\"up\\""}}\n\n'
        b'data: {"type":"brand_new","model":"up"}\n\n',
    ),
    "responses": (
        b': c\r\ndata: {"type":"response.created","response":{"id":"r","model":"up-2026"}}\r\n\r\n'
        b'data: {"type":"response.output_text.delta","delta":"\\"model\\""}\r\n\r\n'
        b'data: {"type":"response.completed","response":{"model":"up-2026"}}\r\n\r\n',
        b': c\r\ndata: {"type":"response.created","response":{"id":"r","model":"asked"}}\r\n\r\n'
        b'data: {"type":"response.output_text.delta","delta":"\\"model\\""}\r\n\r\n'
        b'data: {"type":"response.completed","response":{"model":"asked"}}\r\n\r\n',
    ),
    "chat": (
        b'data:  {"id":"u","model":"up","choices":[]}\n\ndata: {"model":"up","x":1.0}\n\ndata: [DONE]\n\n',
        b'data:  {"id":"u","model":"asked","choices":[]}\n\n'
        b'data: {"model":"asked","x":1.0}\n\ndata: [DONE]\n\n',
    ),
}


@pytest.mark.parametrize("wire", ["chat", "messages", "responses"])
@given(data=st.data())
def test_a_stream_shows_the_asked_name_however_it_is_cut(wire: Wire, data: st.DataObject) -> None:
    before, after = STREAMS[wire]
    rewriter = ModelRewriter(wire, "asked")
    pieces = chunks_of(before, data.draw(cuts(len(before))))
    assert b"".join(rewriter.feed(piece) for piece in pieces) + rewriter.eof() == after


def test_after_message_start_nothing_is_held_back() -> None:
    rewriter = ModelRewriter("messages", "asked")
    rewriter.feed(STREAMS["messages"][0])
    assert rewriter.feed(b"data: {half") == b"data: {half"
