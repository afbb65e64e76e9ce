"""Turns, written for a Chat Completions upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dragoman.wire import translate
from dragoman.wire.dialect import Dialect, EffortRule, Limits
from dragoman.wire.errors import BadRequest
from dragoman.wire.turns import (
    Assistant,
    Call,
    Carrier,
    File,
    Format,
    Grammar,
    Image,
    Reasoning,
    Request,
    Result,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    Turn,
    User,
    raw,
)

HI = User(parts=(Text(b"hi"),))
PICTURE = Image(media_type="image/png", data=b"AAAA")


def sent(
    *turns: Turn,
    dialect: Dialect | None = None,
    limits: Limits | None = None,
    stream: bool = True,
    **fields: Any,
) -> dict[str, Any]:
    request = Request(wire="responses", model="m", turns=turns or (HI,), **fields)
    encoded = translate.encode_request(
        "chat", request, model="up", dialect=dialect or Dialect(), stream=stream, limits=limits
    )
    return json.loads(encoded.body)


def messages(*turns: Turn, **options: Any) -> list[dict[str, Any]]:
    return sent(*turns, **options)["messages"]


def test_the_smallest_request() -> None:
    assert sent() == {
        "model": "up",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "hi"}],
    }


def test_usage_is_not_asked_for_where_the_option_is_refused_or_nothing_streams() -> None:
    assert "stream_options" not in sent(stream=False)
    assert "stream_options" not in sent(dialect=Dialect(params=frozenset()))


def test_messages_come_last_so_that_a_request_is_a_prefix_of_the_next() -> None:
    body = sent(tools=(Tool(name="f"),), max_output_tokens=5, sampling={"temperature": b"1.0"})
    assert list(body)[-1] == "messages"


def test_texts_of_one_message_are_one_string() -> None:
    assert messages(User(parts=(Text(b"a"), Text(b"b")))) == [{"role": "user", "content": "a\n\nb"}]


def test_a_picture_makes_a_list_of_parts() -> None:
    content = messages(User(parts=(Text(b"look"), PICTURE)))[0]["content"]
    assert content == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]


def test_a_tools_picture_follows_its_tool_message_as_user_words() -> None:
    turns = (HI, Assistant((Call("c", "view"),)), User((Result("c", (PICTURE,)),)))
    tool, moved = messages(*turns)[-2:]
    assert (tool["role"], tool["tool_call_id"]) == ("tool", "c")
    assert tool["content"]
    assert moved["role"] == "user"
    assert moved["content"][-1]["type"] == "image_url"


def test_a_tools_picture_stays_where_tool_messages_may_hold_one() -> None:
    turns = (HI, Assistant((Call("c", "view"),)), User((Result("c", (PICTURE,)),)))
    tool = messages(*turns, dialect=Dialect(tool_images=True))[-1]
    assert tool["content"][0]["type"] == "image_url"


def test_an_error_is_told_in_words() -> None:
    turns = (HI, Assistant((Call("c", "f"),)), User((Result("c", (Text(b"boom"),), is_error=True),)))
    assert messages(*turns)[-1]["content"] == "[tool error] boom"


def test_a_tool_that_said_nothing_says_so() -> None:
    turns = (HI, Assistant((Call("c", "f"),)), User((Result("c"),)))
    assert messages(*turns)[-1]["content"]


def test_a_call_keeps_its_id_its_name_and_its_arguments() -> None:
    turns = (HI, Assistant((Text(b"t"), Call("functions.Bash:0", "Bash", arguments=rb"{\"n\":1.0}"))))
    said = messages(*turns)[1]
    assert said["content"] == "t"
    assert said["tool_calls"] == [
        {
            "id": "functions.Bash:0",
            "type": "function",
            "function": {"name": "Bash", "arguments": '{"n":1.0}'},
        }
    ]


@pytest.mark.parametrize(("null_content", "content"), [(False, ""), (True, None)])
def test_calls_without_words_have_the_content_the_provider_takes(null_content: bool, content: object) -> None:
    turns = (HI, Assistant((Call("c", "f"),)))
    assert messages(*turns, dialect=Dialect(null_content=null_content))[1]["content"] == content


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", "plain"])
def test_broken_arguments_are_wrapped_where_they_are_parsed(arguments: str) -> None:
    turns = (HI, Assistant((Call("c", "f", arguments=raw(arguments)),)))
    said = messages(*turns)[1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(said) == {"_raw": arguments}
    said = messages(*turns, dialect=Dialect(valid_arguments=False))[1]["tool_calls"][0]["function"][
        "arguments"
    ]
    assert said == arguments


def test_empty_arguments_become_an_empty_object() -> None:
    said = messages(HI, Assistant((Call("c", "f"),)))[1]["tool_calls"][0]["function"]["arguments"]
    assert said == "{}"


def test_a_freeform_call_carries_its_whole_text() -> None:
    patch = '*** Begin Patch\n+é"x"\n'
    turns = (HI, Assistant((Call("c", "apply_patch", kind="freeform", arguments=raw(patch)),)))
    said = messages(*turns)[1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(said) == {"input": patch}


def test_a_freeform_tool_is_a_function_with_one_text_and_its_grammar_in_words() -> None:
    tool = Tool(
        kind="freeform", name="p", description=b"D", grammar=Grammar(syntax="lark", definition=b"start: x")
    )
    function = sent(tools=(tool,))["tools"][0]["function"]
    assert function["parameters"]["required"] == ["input"]
    assert "start: x" in function["description"]


def test_a_tool_without_parameters_gets_an_empty_object() -> None:
    function = sent(tools=(Tool(name="f"),))["tools"][0]["function"]
    assert function["parameters"] == {"type": "object", "properties": {}}
    assert "description" not in function


def test_strict_goes_only_where_it_is_taken() -> None:
    tools = (Tool(name="f", strict=True),)
    assert "strict" not in sent(tools=tools)["tools"][0]["function"]
    taken = Dialect(params=frozenset({"strict"}))
    assert sent(tools=tools, dialect=taken)["tools"][0]["function"]["strict"] is True


def test_without_tools_nothing_is_said_about_them() -> None:
    hosted = Tool(kind="hosted", name="web_search", type="web_search")
    body = sent(tools=(hosted,), tool_choice=ToolChoice(mode="auto"), parallel_calls=True)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


def test_a_demand_for_a_tool_nobody_runs_is_refused_clearly() -> None:
    hosted = Tool(kind="hosted", name="web_search", type="web_search")
    with pytest.raises(BadRequest, match="web_search"):
        sent(tools=(hosted,), tool_choice=ToolChoice(mode="named", name="web_search"))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (ToolChoice(mode="required"), "required"),
        (ToolChoice(mode="named", name="f"), {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_a_choice_is_written_in_chats_words(choice: ToolChoice, said: object) -> None:
    assert sent(tools=(Tool(name="f"),), tool_choice=choice)["tool_choice"] == said


def test_a_choice_the_provider_refuses_is_lowered() -> None:
    shy = Dialect(tool_choices=frozenset({"auto"}))
    body = sent(tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="required"), dialect=shy)
    assert body["tool_choice"] == "auto"


def test_none_takes_the_tools_away_where_it_cannot_be_said() -> None:
    shy = Dialect(tool_choices=frozenset({"auto"}))
    assert "tools" not in sent(tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="none"), dialect=shy)


def test_a_thinking_model_may_take_fewer_choices() -> None:
    dialect = Dialect(thinks_by_default=True, tool_choices_thinking=frozenset({"auto", "none"}))
    options: dict[str, Any] = {"tools": (Tool(name="f"),), "tool_choice": ToolChoice(mode="required")}
    assert sent(**options, dialect=dialect)["tool_choice"] == "auto"
    calm = Thinking(mode="off")
    thinking_off = Dialect(thinking_key="thinking", tool_choices_thinking=frozenset({"auto"}))
    assert sent(**options, thinking=calm, dialect=thinking_off)["tool_choice"] == "required"


THINKER = Dialect(
    realm="home",
    thinks_by_default=True,
    thinking_key="thinking",
    effort_key="reasoning_effort",
    efforts=(EffortRule(words={"low": "high", "high": "high", "max": "max"}),),
    thinking_extra={"clear_thinking": False},
    reasoning_replay="tool_turns",
    reasoning_required=True,
)


def test_effort_and_switch_go_together() -> None:
    body = sent(thinking=Thinking(effort="max"), dialect=THINKER)
    assert body["thinking"] == {"type": "enabled", "clear_thinking": False}
    assert body["reasoning_effort"] == "max"


def test_off_is_said_alone() -> None:
    body = sent(thinking=Thinking(mode="off", effort="max"), dialect=THINKER)
    assert body["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in body


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [("enable_thinking", "enable_thinking", True), ("reasoning", "reasoning", {"effort": "high"})],
)
def test_other_ways_to_switch_thinking(key: Any, field: str, value: object) -> None:
    dialect = Dialect(thinking_key=key, efforts=(EffortRule(words={"high": "high"}),))
    assert sent(thinking=Thinking(mode="on", effort="high"), dialect=dialect)[field] == value


def thinking_turn(*, realm: str) -> Assistant:
    carrier = Carrier(kind="reasoning_content", realm=realm)
    return Assistant((Reasoning(b"RC", carriers=(carrier,)), Call("c", "f")))


def test_reasoning_goes_back_unchanged_with_the_calls_it_led_to() -> None:
    assert messages(HI, thinking_turn(realm="home"), dialect=THINKER)[1]["reasoning_content"] == "RC"


def test_the_field_is_there_even_when_nothing_is_known() -> None:
    assert messages(HI, thinking_turn(realm="other"), dialect=THINKER)[1]["reasoning_content"] == ""


def test_reasoning_of_turns_without_calls_stays_behind_where_only_tool_turns_want_it() -> None:
    own = Carrier(kind="reasoning_content", realm="home")
    said = messages(HI, Assistant((Reasoning(b"RC", carriers=(own,)), Text(b"t"))), HI, dialect=THINKER)[1]
    assert "reasoning_content" not in said


def test_reasoning_never_reaches_a_provider_that_does_not_want_it() -> None:
    assert "RC" not in json.dumps(messages(HI, thinking_turn(realm=""), dialect=Dialect()))


def test_the_output_ceiling_is_the_models() -> None:
    limits = Limits(max_output_tokens=100, default_output_tokens=50)
    assert sent(max_output_tokens=500, limits=limits)["max_tokens"] == 100
    assert sent(limits=limits)["max_tokens"] == 50
    assert "max_tokens" not in sent()
    other = Dialect(max_tokens_key="max_completion_tokens")
    assert sent(max_output_tokens=5, dialect=other)["max_completion_tokens"] == 5


def test_sampling_keeps_its_spelling_and_goes_only_where_it_is_taken() -> None:
    request = Request(wire="chat", model="m", turns=(HI,), sampling={"temperature": b"1.0", "top_k": b"4"})
    body = translate.encode_request("chat", request, model="u", dialect=Dialect(), stream=False).body
    assert b'"temperature":1.0' in body
    assert b"top_k" not in body


def test_stop_words_are_cut_to_what_is_taken() -> None:
    assert sent(stop=("a", "b"), dialect=Dialect(stop_limit=1))["stop"] == ["a"]
    assert "stop" not in sent(stop=("a",), dialect=Dialect(stop_limit=0))


SHAPE = Format(kind="json_schema", name="out", schema=b'{"type":"object","x":1.0}', strict=True)


def test_a_schema_is_sent_as_it_was_spelled() -> None:
    shape = sent(format=SHAPE)["response_format"]
    assert shape["json_schema"] == {"name": "out", "strict": True, "schema": {"type": "object", "x": 1.0}}


def test_a_schema_is_told_in_words_to_a_provider_that_knows_none() -> None:
    body = sent(format=SHAPE, dialect=Dialect(json_schema="object"))
    assert body["response_format"] == {"type": "json_object"}
    assert '"x":1.0' in body["messages"][0]["content"]


def test_documents_become_files_or_words() -> None:
    parts = messages(
        User(parts=(File(text=b"T", filename=b"a.txt"), File(data=b"BB", filename=b"b.pdf"), PICTURE))
    )[0]
    text, file, _ = parts["content"]
    assert text["text"] == "[document a.txt]\n\nT"
    assert file["file"] == {"filename": "b.pdf", "file_data": "data:application/pdf;base64,BB"}


def test_the_developer_role_is_used_where_it_exists() -> None:
    system = (Text(b"S"),)
    assert messages(system=system)[0]["role"] == "system"
    assert messages(system=system, dialect=Dialect(developer_role=True))[0]["role"] == "developer"
