"""What a model and its provider can take."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dragoman.wire.adapt import adapt
from dragoman.wire.dialect import Dialect, Limits
from dragoman.wire.turns import (
    Assistant,
    Call,
    Carrier,
    File,
    Hosted,
    Image,
    Reasoning,
    Request,
    Result,
    Text,
    User,
    Wire,
)

HOME = Dialect(realm="home", reasoning_replay="always")


def thought(realm: str | None, kind: str = "signature") -> Reasoning:
    return Reasoning(b"T", carriers=(Carrier(kind=kind, data="S", realm=realm),))  # type: ignore[arg-type]


def fitted(
    *parts: object, client: Wire = "responses", upstream: Wire = "messages", dialect: Dialect = HOME
) -> tuple[object, ...]:
    turns = (User(parts=(Text(b"hi"),)), Assistant((*parts, Text(b"a"))))  # type: ignore[arg-type]
    request = Request(wire=client, model="m", turns=turns)
    found, _ = adapt(request, wire=upstream, dialect=dialect, limits=Limits(), recall=None)
    turn = found.turns[1]
    assert isinstance(turn, Assistant)
    return turn.parts[:-1]


def test_a_providers_own_reasoning_goes_home_complete() -> None:
    assert fitted(thought("home")) == (thought("home"),)


def test_foreign_reasoning_is_dropped() -> None:
    assert fitted(thought("elsewhere")) == ()


def test_foreign_reasoning_becomes_plain_text_where_the_profile_says_so() -> None:
    dialect = Dialect(realm="home", reasoning_replay="always", foreign_reasoning="text")
    assert fitted(thought("elsewhere"), dialect=dialect) == (Reasoning(b"T"),)


def test_a_profile_without_a_realm_owns_nothing() -> None:
    assert fitted(thought(""), dialect=Dialect(reasoning_replay="always")) == ()


def test_a_bare_value_stays_on_its_own_wire_and_never_leaves_it() -> None:
    assert fitted(thought(None), client="messages") == (thought(None),)
    assert fitted(thought(None), client="messages", upstream="chat") == (Reasoning(b"T"),)


def test_an_opaque_value_without_text_never_reaches_another_wire() -> None:
    sealed = Reasoning(carriers=(Carrier(kind="encrypted", data="blob"),))
    assert fitted(sealed) == ()


@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_hosted_work_stays_on_its_own_wire(upstream: Wire) -> None:
    work = Hosted("messages", "server_tool_use", b"{}")
    assert fitted(work, client="messages") == (work,)
    assert fitted(work, client="messages", upstream=upstream) == ()


class Memory:
    """A memory that holds one thought for every call."""

    def __init__(self, reasoning: Reasoning) -> None:
        self._reasoning = reasoning

    def find(self, call_id: str) -> Reasoning | None:
        return self._reasoning

    def keep(self, call_ids: Sequence[str], reasoning: Reasoning) -> None:
        raise AssertionError("nothing is kept while a request goes out")


def recalled(*parts: object, realm: str) -> tuple[object, ...]:
    request = Request(wire="messages", model="m", turns=(Assistant((*parts, Call("c", "f"))),))  # type: ignore[arg-type]
    found, _ = adapt(request, wire="chat", dialect=HOME, limits=Limits(), recall=Memory(thought(realm)))
    turn = found.turns[0]
    assert isinstance(turn, Assistant)
    return turn.parts[:-1]


def test_reasoning_a_client_lost_is_recalled_before_the_call_it_led_to() -> None:
    assert recalled(realm="home") == (thought("home"),)


def test_reasoning_a_client_kept_is_not_recalled() -> None:
    kept = Reasoning(b"kept", carriers=(Carrier(kind="reasoning_content", realm="home"),))
    assert recalled(kept, realm="home") == (kept,)


def test_foreign_reasoning_is_not_recalled_either() -> None:
    assert recalled(realm="elsewhere") == ()


def readable(user: User, *modalities: str) -> User:
    limits = Limits(input_modalities=frozenset(modalities))
    request = Request(wire="chat", model="m", turns=(user,))
    found, shims = adapt(request, wire="chat", dialect=HOME, limits=limits, recall=None)
    assert bool(shims) == (found != request)
    turn = found.turns[0]
    assert isinstance(turn, User)
    return turn


def test_a_text_model_gets_a_note_in_place_of_a_picture() -> None:
    picture = Image(media_type="image/png", data=b"AAAA")
    turn = readable(User((Result("c", (picture,)),), (Text(b"look"), picture)), "text")
    assert b"image omitted" in turn.parts[1].text  # type: ignore[union-attr]
    assert b"image omitted" in turn.results[0].parts[0].text  # type: ignore[union-attr]


def test_a_model_without_documents_gets_their_name() -> None:
    turn = readable(User(parts=(File(data=b"BB", filename=b"a.pdf"),)), "text", "image")
    assert turn.parts == (Text(b"[document omitted: a.pdf cannot be read by this model]"),)


def test_a_model_that_sees_gets_the_picture() -> None:
    picture = User(parts=(Image(url=b"https://example.test/x.png"),))
    assert readable(picture, "text", "image", "pdf") == picture
