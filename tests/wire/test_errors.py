"""Failures carry no secret, and bad requests name the place."""

from __future__ import annotations

import msgspec
import pytest

from dragoman.wire.errors import MAX_MESSAGE_CHARS, bad_request, clean_message, failure


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: sk-proj-abcdefghijklmnop1234. Find it", "abcdefghijklmnop"),
        ("Authorization: Bearer abc.def.ghi refused", "abc.def"),
        ("header x-api-key=topsecretvalue wrong", "topsecretvalue"),
        ('{"api_key": "hush12345"}', "hush12345"),
        ("bearer 0123456789abcdef", "0123456789abcdef"),
        ("key 0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp is unknown", "AbCdEfGhIjKlMnOp"),
        ("connect to http://10.2.3.4:8080/v1/chat?x=1 failed", "10.2.3.4"),
        ("dial tcp 127.0.0.1:9901: refused", "127.0.0.1"),
        ("no host model-7.svc.cluster.local:80 today", "cluster"),
        ("at 172.20.0.3 and 192.168.1.1", "168"),
    ],
)
def test_keys_headers_and_private_addresses_are_cut_out(text: str, secret: str) -> None:
    cleaned = clean_message(text)
    assert secret not in cleaned
    assert cleaned


@pytest.mark.parametrize(
    "text",
    [
        "Model does not exist",
        "messages.0: Input should be 'user' <string>",
        "see https://docs.example.org/limits",
        "a > b",
    ],
)
def test_harmless_words_stay_as_they_are(text: str) -> None:
    assert clean_message(text) == text


def test_markup_is_dropped_lines_are_joined_and_length_is_bounded() -> None:
    assert clean_message("<!DOCTYPE html><p>x") == ""
    assert clean_message("a\n\tb\u2028c") == "a b c"
    assert len(clean_message("x" * 5000)) == MAX_MESSAGE_CHARS


def test_an_empty_message_is_replaced_by_our_own_words() -> None:
    assert failure("timeout", "").message == "The provider did not answer in time."


class _Inner(msgspec.Struct):
    role: str


class _Body(msgspec.Struct):
    input: list[_Inner]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"input":[{"role":"user"},{"role":5}]}', "$.input[1].role"),
        (b'{"input":[{}]}', "$.input[0]"),
        (b"{}", "$"),
        (b"{not json", "$"),
        (b"[]", "$"),
    ],
)
def test_a_bad_request_names_the_json_path(body: bytes, path: str) -> None:
    with pytest.raises(msgspec.MsgspecError) as caught:
        msgspec.json.decode(body, type=_Body)
    found = bad_request(caught.value)
    assert found.path == path
    assert found.http_status == 400
    assert path in found.failure.message
    assert found.failure.code == "invalid"
