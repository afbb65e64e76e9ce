"""The normaliser, on the ways real transcripts are broken."""

from __future__ import annotations

from dragoman.wire.repair import CONTINUE, NO_OUTPUT, repair
from dragoman.wire.turns import Assistant, Call, Note, Request, Result, Text, Turn, User


def mended(*turns: Turn, late_system: bool = False, **fields: object) -> Request:
    request = Request(wire="responses", model="m", turns=turns, **fields)  # type: ignore[arg-type]
    return repair(request, late_system=late_system)


def user(*texts: bytes) -> User:
    return User(parts=tuple(Text(text) for text in texts))


def results(*pairs: tuple[str, bytes]) -> User:
    return User(results=tuple(Result(call_id, (Text(text),)) for call_id, text in pairs))


def calls(*ids: str) -> Assistant:
    return Assistant(tuple(Call(call_id, "f") for call_id in ids))


def answered(request: Request) -> list[tuple[str, bytes]]:
    return [
        (result.call_id, result.parts[0].text)  # type: ignore[union-attr]
        for turn in request.turns
        if isinstance(turn, User)
        for result in turn.results
    ]


def test_a_sound_conversation_is_left_alone() -> None:
    turns = (
        user(b"hi"),
        calls("a", "b"),
        results(("a", b"1"), ("b", b"2")),
        Assistant((Text(b"done"),)),
        user(b"x"),
    )
    assert mended(*turns).turns == turns


def test_a_call_without_a_result_gets_one_that_says_so() -> None:
    assert answered(mended(user(b"hi"), calls("a", "b"), results(("a", b"1")))) == [
        ("a", b"1"),
        ("b", NO_OUTPUT),
    ]


def test_a_result_without_a_call_becomes_user_words() -> None:
    turns = mended(user(b"hi"), results(("gone", b"late"))).turns
    assert len(turns) == 1
    assert isinstance(turns[0], User)
    assert not turns[0].results
    assert turns[0].parts[-1] == Text(b"late")


def test_of_two_results_for_one_call_the_last_wins() -> None:
    assert answered(mended(user(b"hi"), calls("a"), results(("a", b"1"), ("a", b"2")))) == [("a", b"2")]


def test_a_call_id_used_twice_gets_a_new_one_and_its_own_result() -> None:
    request = mended(user(b"hi"), calls("a", "a"), results(("a", b"1"), ("a", b"2")))
    assert answered(request) == [("a", b"1"), ("a_2", b"2")]
    assert isinstance(request.turns[1], Assistant)
    assert [part.id for part in request.turns[1].parts] == ["a", "a_2"]  # type: ignore[union-attr]


def test_an_id_used_again_in_a_later_round_keeps_to_its_round() -> None:
    request = mended(user(b"hi"), calls("a"), results(("a", b"1")), calls("a"), results(("a", b"2")))
    assert answered(request) == [("a", b"1"), ("a_2", b"2")]


def test_a_result_that_comes_after_user_words_is_put_right_behind_its_call() -> None:
    turns = mended(user(b"hi"), calls("a"), user(b"next"), results(("a", b"1"))).turns
    assert turns[2:] == (User((Result("a", (Text(b"1"),)),), (Text(b"next"),)),)


def test_results_keep_the_order_they_came_in() -> None:
    assert answered(mended(user(b"hi"), calls("a", "b"), results(("b", b"2"), ("a", b"1")))) == [
        ("b", b"2"),
        ("a", b"1"),
    ]


def test_empty_turns_go_and_neighbours_merge() -> None:
    turns = mended(user(b"a"), Assistant((Text(b""),)), user(b""), user(b"b")).turns
    assert turns == (user(b"a", b"b"),)


def test_neighbouring_assistant_turns_merge() -> None:
    turns = mended(user(b"q"), Assistant((Text(b"a"),)), Assistant((Text(b"b"),)), user(b"r")).turns
    assert turns[1] == Assistant((Text(b"a"), Text(b"b")))


def test_sequential_rounds_stay_apart() -> None:
    turns = mended(user(b"q"), calls("a"), results(("a", b"1")), calls("b"), results(("b", b"2"))).turns
    assert len(turns) == 5


def test_a_leading_note_joins_the_system_text() -> None:
    request = mended(Note((Text(b"n"),)), user(b"hi"), system=(Text(b"s"),))
    assert [text.text for text in request.system] == [b"s", b"n"]
    assert request.turns == (user(b"hi"),)


def test_a_later_note_becomes_user_words_in_its_place() -> None:
    turns = mended(user(b"hi"), Note((Text(b"n"),)), Assistant((Text(b"a"),)), user(b"x")).turns
    assert isinstance(turns[0], User)
    assert b"<system-reminder>\\nn\\n</system-reminder>" in turns[0].parts[1].text  # type: ignore[union-attr]
    assert len(turns) == 3


def test_a_later_note_stays_where_the_upstream_takes_it() -> None:
    turns = mended(user(b"hi"), Note((Text(b"n"),)), user(b"x"), late_system=True).turns
    assert turns == (user(b"hi"), Note((Text(b"n"),)), user(b"x"))


def test_a_conversation_without_user_words_gets_some() -> None:
    assert mended(Note((Text(b"only system"),))).turns == (user(CONTINUE),)


def test_results_alone_are_no_user_words() -> None:
    turns = mended(calls("a"), results(("a", b"1"))).turns
    assert turns == (user(CONTINUE), calls("a"), results(("a", b"1")))


def test_the_billing_line_goes_unless_it_is_wanted() -> None:
    billing = Text(b"x-anthropic-billing-header: cc_version=1")
    request = Request(wire="messages", model="m", system=(billing, Text(b"s")), turns=(user(b"hi"),))
    assert repair(request, late_system=True).system == (Text(b"s"),)
    assert repair(request, late_system=True, billing_header=True).system[0] == billing
