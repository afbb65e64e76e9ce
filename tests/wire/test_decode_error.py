"""Providers' errors, in every shape met in the field, become one Failure."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.wire.decode_error import decode_error, failure_from
from dragoman.wire.errors import Failure, FailureCode

GLM: dict[str, FailureCode] = {
    "1113": "quota_window",
    "1211": "not_found",
    "1214": "invalid",
    "1261": "context",
    "1301": "filtered",
    "1302": "rate",
    "1305": "overloaded",
    "1308": "quota_window",
}


def of(status: int, body: object, *, codes: dict[str, FailureCode] | None = None, **headers: str) -> Failure:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return decode_error(status, names, json.dumps(body).encode(), codes=codes or {})


def error(message: str, **fields: object) -> dict[str, object]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, error("Prompt exceeds max length", code="1261"), "context"),
        (400, error("x", code="1261"), "context"),
        (429, error("x", code="1308"), "quota_window"),
        (429, error("x", code="1302"), "rate"),
        (400, error("x", code=1211), "not_found"),
        (500, error("x", code="1301"), "filtered"),
        (429, error("x", code="1305"), "overloaded"),
    ],
)
def test_a_providers_own_codes_win_over_the_status(status: int, body: object, code: FailureCode) -> None:
    assert of(status, body, codes=GLM).code == code


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, error("Invalid token", code="1002"), "auth"),
        (402, error("Insufficient Balance", type="unknown_error"), "quota_window"),
        (403, error("no"), "permission"),
        (404, error("no"), "not_found"),
        (408, error("no"), "timeout"),
        (413, {"type": "error", "error": {"type": "request_too_large", "message": "x"}}, "too_large"),
        (422, error("no"), "invalid"),
        (429, error("slow", code="rate_limit_exceeded"), "rate"),
        (429, error("You exceeded your current quota", code="insufficient_quota"), "quota_window"),
        (429, error("x", type="usage_limit_reached", resets_at=1_700_000_000), "quota_window"),
        (
            429,
            error("Usage limit reached for 5 hour. Your limit will reset at 2026-11-21 05:00"),
            "quota_window",
        ),
        (500, error("boom"), "upstream"),
        (502, error("boom"), "upstream"),
        (503, error("busy"), "overloaded"),
        (504, error("late"), "timeout"),
        (529, error("busy"), "overloaded"),
        (200, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "overloaded"),
        (200, {"error": {"code": "1214", "message": "bad"}}, "invalid"),
        (200, {"error": {"code": 429, "message": "slow"}}, "rate"),
        (200, {"error": {"code": 503, "message": "later"}}, "overloaded"),
        (200, {"error": {"code": "9999", "message": "Model overloaded, later"}}, "overloaded"),
        (200, {"error": {"message": "High concurrency"}}, "rate"),
        (200, {"error": {"message": "broke"}}, "upstream"),
        (400, error("This model's maximum context length is 131072 tokens. However"), "context"),
        (400, error("Your input exceeds the context window of this model."), "context"),
        (400, error("x", code="context_length_exceeded"), "context"),
        (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long"}},
            "context",
        ),
        (400, error("Content Exists Risk", code="content_filter"), "filtered"),
    ],
)
def test_common_words_and_statuses_are_understood(status: int, body: object, code: FailureCode) -> None:
    assert of(status, body).code == code


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "just text"}, "just text"),
        ({"detail": "Not here"}, "Not here"),
        ({"detail": [{"loc": ["body", "input", 0], "msg": "bad"}]}, "body.input.0: bad"),
        ({"code": 500, "msg": "mm"}, "mm"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "login fail"),
        ({"errors": [{"message": "first"}, {"message": "second"}]}, "first"),
        ([{"error": {"code": 400, "message": "listed", "status": "INVALID_ARGUMENT"}}], "listed"),
        (
            error("Provider returned error", metadata={"raw": "inner words"}),
            "Provider returned error: inner words",
        ),
        ({"response": {"status": "failed", "error": {"code": "x", "message": "inside"}}}, "inside"),
    ],
)
def test_the_message_is_found_in_every_known_shape(body: object, message: str) -> None:
    assert of(400, body).message == message


def test_a_html_page_is_never_shown() -> None:
    for kind in ("text/html", "text/plain"):
        found = decode_error(502, {"content-type": kind}, b"<html><title>x</title>bad gateway</html>")
        assert found.code == "upstream"
        assert found.message == "The provider failed (HTTP 502)."


def test_a_plain_text_body_is_the_message() -> None:
    assert decode_error(500, {}, b"upstream connect error").message == "upstream connect error"
    assert decode_error(500, {}, b"").message == "The provider failed (HTTP 500)."


def test_an_error_sent_as_a_stream_is_read() -> None:
    found = decode_error(400, {}, b'event: error\ndata: {"error":{"message":"in a frame"}}\n\n')
    assert found.message == "in a frame"


def test_waiting_times_come_from_headers_dates_and_sentences() -> None:
    assert of(429, error("x"), retry_after="3").retry_after_s == 3
    assert of(429, error("x"), retry_after_ms="1500").retry_after_s == 1.5
    assert of(429, error("Please try again in 2.5s.")).retry_after_s == 2.5
    assert of(429, error("Please retry in 20ms")).retry_after_s == 0.02
    dated = {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert decode_error(429, dated, b"{}", now=1792567600.0).retry_after_s == 80
    assert decode_error(429, dated, b"{}").retry_after_s is None
    assert decode_error(429, {"retry-after": "soon"}, b"{}", now=0).retry_after_s is None


def test_a_long_wait_is_not_worth_retrying() -> None:
    assert of(429, error("x"), retry_after="3").retryable
    assert not of(429, error("x"), retry_after="3600").retryable
    assert not of(429, error("quota exceeded")).retryable


def test_the_reset_of_a_quota_window_is_counted_only_when_its_zone_is_known() -> None:
    body = error("Your limit will reset at 2026-11-21 05:00:00", code="1308")
    assert of(429, body, codes=GLM).resets_at is None
    data = json.dumps(body).encode()
    known = decode_error(429, {}, data, codes=GLM, reset_utc_offset_h=8)
    assert known.resets_at == 1795208400
    assert "05:00:00" in known.message
    zoned = error("Your limit will reset at 2026-11-20T21:00:00Z")
    assert of(429, zoned).resets_at == 1795208400
    assert (
        of(429, error("quota exceeded"), anthropic_ratelimit_unified_reset="1795208400").resets_at
        == 1795208400
    )
    assert of(429, error("x", type="usage_limit_reached", resets_at=5)).resets_at == 5


def test_token_counts_of_a_context_overflow_are_kept() -> None:
    native = of(400, error("prompt is too long: 210000 tokens > 200000 maximum"))
    assert (native.prompt_tokens, native.limit_tokens) == (210000, 200000)
    chat = of(
        400,
        error("This model's maximum context length is 131072 tokens. However, you requested 140000 tokens"),
    )
    assert (chat.prompt_tokens, chat.limit_tokens) == (140000, 131072)
    assert of(400, error("Prompt exceeds max length"), codes=GLM).prompt_tokens is None


def test_a_refused_system_role_is_told_in_the_words_the_client_acts_on() -> None:
    detail = {
        "detail": [{"loc": ["body", "messages", 1, "role"], "msg": "Input should be 'user' or 'assistant'"}]
    }
    assert 'role "system" is not supported' in of(422, detail).message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "error",
                        "message",
                        "code",
                        "detail",
                        "loc",
                        "msg",
                        "type",
                        "metadata",
                        "raw",
                        "resets_at",
                        "param",
                    ]
                ),
                inner,
            )
        ),
    )
)
def test_no_error_value_breaks_the_reader(value: object) -> None:
    assert failure_from(value).message


@given(body=st.binary(max_size=300), status=st.integers(100, 599))
def test_no_error_body_breaks_the_reader(body: bytes, status: int) -> None:
    assert decode_error(status, {}, body).message
