"""Whatever is planted, no secret is left, and nothing has moved."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.gateway.capture_redact import Redactor, is_secret_header
from dragoman.wire.ids import safe_id

LETTERS = string.ascii_letters + string.digits
ISSUED = st.one_of(
    st.text(LETTERS + "-_", min_size=20, max_size=60).map("sk-".__add__),
    st.text(LETTERS, min_size=36, max_size=36).map("ghp_".__add__),
    st.text(string.ascii_uppercase + string.digits, min_size=16, max_size=16).map("AKIA".__add__),
    st.text(LETTERS + "-_", min_size=35, max_size=35).map("AIza".__add__),
    st.tuples(
        st.text("0123456789abcdef", min_size=32, max_size=32), st.text(LETTERS, min_size=16, max_size=16)
    ).map(".".join),
)
# A key the gateway was configured with may look like anything.
KNOWN = st.text(LETTERS + "-_.~+/", min_size=12, max_size=40).filter(
    lambda key: any(c.isdigit() for c in key) and not key.startswith("redacted")
)
TEXT = st.text(max_size=60)


def delta(text: str, index: int = 0) -> bytes:
    event = {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}
    return b"event: content_block_delta\ndata: " + json.dumps(event).encode() + b"\n\n"


def redact(part: bytes, *known: str) -> bytes:
    redactor = Redactor([each.encode() for each in known])
    redactor.read(part)
    out = redactor.redacted(part)
    assert len(out) == len(part)
    again = Redactor([each.encode() for each in known])
    again.read(out)
    assert again.redacted(out) == out, "what is redacted stays as it is"
    return out


@given(ISSUED, TEXT, TEXT)
def test_an_issued_key_is_found_in_any_json_body(secret: str, before: str, after: str) -> None:
    text = f"{before} {secret} {after}"
    out = redact(json.dumps({"messages": [{"role": "user", "content": text}]}).encode())
    assert secret not in out.decode()
    assert b"redacted" in out
    json.loads(out)


@given(ISSUED, st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_an_issued_key_is_found_in_the_fragments_of_a_stream(secret: str, sizes: list[int]) -> None:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(secret[at : at + size])
        at += size
    pieces.append(secret[at:])
    stream = b"".join(delta(piece) for piece in ["it is ", *filter(None, pieces), " indeed"])
    told = [json.loads(line[6:]) for line in redact(stream).split(b"\n") if line.startswith(b"data:")]
    text = "".join(event["delta"]["text"] for event in told)
    assert text.startswith("it is ")
    assert text.endswith(" indeed")
    assert secret[4:] not in text


@given(ISSUED, st.integers(1, 12))
def test_two_texts_that_grow_at_once_are_told_apart(secret: str, size: int) -> None:
    pieces = [secret[start : start + size] for start in range(0, len(secret), size)]
    stream = b"".join(delta(piece, 0) + delta("words and ", 1) for piece in [*pieces, " "])
    told = [json.loads(line[6:]) for line in redact(stream).split(b"\n") if line.startswith(b"data:")]
    texts = ["".join(e["delta"]["text"] for e in told if e["index"] == index) for index in (0, 1)]
    assert secret[4:] not in texts[0]
    assert texts[1] == "words and " * (len(pieces) + 1)


@given(KNOWN, TEXT)
def test_a_known_key_is_found_wherever_it_stands(secret: str, around: str) -> None:
    part = f"{around}{secret}{around} x{secret}".encode()
    assert secret.encode() not in redact(part, secret)


@given(KNOWN, st.integers(1, 10))
def test_a_known_key_is_found_in_fragments_too(secret: str, size: int) -> None:
    pieces = [secret[start : start + size] for start in range(0, len(secret), size)]
    stream = b"".join(map(delta, ["a ", *pieces, " b"]))
    out = redact(stream, secret)
    told = [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data:")]
    assert secret not in "".join(event["delta"]["text"] for event in told)


@given(st.integers(0, 40_000), ISSUED)
def test_a_slice_that_ends_inside_a_secret_hides_nothing_of_it(at: int, secret: str) -> None:
    part = b"- " * (at // 2) + secret.encode() + b" -" * 20_000 + b' "api_key": "' + secret.encode() + b'"'
    assert secret[4:].encode() not in redact(part)


@pytest.mark.parametrize(
    "text",
    [
        "password=tr0ub4dor",
        'DATABASE_PASSWORD: "tr0ub4dor&3"',
        'export MY_TOKEN="tr0ub4dor"',
        '{"client_secret": "tr0ub4dor"}',
        json.dumps(json.dumps({"api_key": "tr0ub4dor"})),
        "postgres://me:tr0ub4dor@db/x",
        "Authorization: Bearer tr0ub4dorTr0ub4dor",
        "-----BEGIN RSA PRIVATE KEY-----\\nMIItr0ub4dorMIItr0ub4dor\\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_stands_beside_a_telling_name_goes(text: str) -> None:
    assert b"tr0ub4dor" not in redact(json.dumps({"content": text}).encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"function","name":"f","parameters":{"password":{"type":"string"},"token":{"type":"string"}}}',
        '{"max_tokens":4096,"prompt_cache_key":"thread-123456","stream":true}',
        "if (token === nextToken(input)) return parse(token)",
        "the task-0123456789abcdefghijk of the desk-9876543210abcdefghij",
        "commit 0123456789abcdef0123456789abcdef01234567",
        f'{{"id":"{safe_id("functions.Bash:0/and a long name")}"}}',
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text.encode()).decode() == text


@pytest.mark.parametrize("secret", ['p"a\\ss/w0rd', "caf\xe9-9876+/=", "a&b=c 123456"])
def test_a_known_key_is_found_however_it_is_spelled(secret: str) -> None:
    from urllib.parse import quote

    redactor = Redactor([secret.encode("latin-1")])
    for part in (secret.encode("latin-1"), json.dumps({"a": secret}, ensure_ascii=False).encode()):
        out = redactor.redacted(part)
        assert len(out) == len(part)
        assert b"redacted" in out or "\xe9" in secret
    assert quote(secret, safe="").encode() not in redactor.redacted(f"/x?k={quote(secret, safe='')}".encode())


def test_a_key_in_a_query_goes() -> None:
    redactor = Redactor()
    redactor.note_query(b"beta=true&key=abc123def456&x-token=zzz999yyy888")
    out = redactor.redacted(b"POST /v1?beta=true&key=abc123def456&x-token=zzz999yyy888")
    assert b"beta=true" in out
    assert b"abc123" not in out
    assert b"zzz999" not in out


def test_headers_lose_their_values_and_keep_their_lengths() -> None:
    redactor = Redactor()
    headers = [
        (b"authorization", b"Bearer abc-123-def-456"),
        (b"x-api-key", b"short"),
        (b"cookie", b"session=0123456789; theme=dark"),
        (b"x-my-auth-token", b"a1b2c3d4e5f6"),
        (b"content-type", b"application/json"),
        (b"user-agent", b"codex_exec/0.163"),
    ]
    redactor.read_headers(headers)
    out = dict(redactor.redacted_headers(headers))
    assert [len(value) for value in out.values()] == [len(value) for _, value in headers]
    assert out[b"authorization"].startswith(b"Bearer redacted")
    for secret in (b"abc-123", b"short", b"0123456789", b"a1b2c3"):
        assert secret not in b"".join(out.values())
    assert out[b"content-type"] == b"application/json"
    assert out[b"user-agent"] == b"codex_exec/0.163"
    assert redactor.redacted(b"echoed: abc-123-def-456") == b"echoed: " + out[b"authorization"][7:]


def test_a_token_that_is_a_word_of_the_protocol_breaks_nothing() -> None:
    redactor = Redactor([b"messages", b"assistant"])
    body = b'{"messages":[{"role":"assistant","content":"x"}]}'
    redactor.read(body)
    assert redactor.redacted(body) == body
    assert redactor.redacted_headers([(b"x-api-key", b"messages")])[0][1] == b"redacted"


def test_names_of_headers_say_what_they_carry() -> None:
    secret = ["Authorization", "X-Api-Key", "Set-Cookie", "x-amz-security-token", "api-key", "x-goog-api-key"]
    assert all(is_secret_header(name.encode()) for name in secret)
    assert not any(is_secret_header(name) for name in (b"accept", b"host", b"session-id", b"openai-beta"))
