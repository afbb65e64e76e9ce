"""Responses requests as Codex and the SDKs send them, read into turns."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.wire import envelope
from dragoman.wire.errors import BadRequest
from dragoman.wire.responses import compaction
from dragoman.wire.responses.decode_request import decode
from dragoman.wire.turns import (
    Assistant,
    Call,
    Carrier,
    File,
    Format,
    Hosted,
    Image,
    Note,
    Reasoning,
    Request,
    Result,
    Text,
    Thinking,
    ToolChoice,
    Turn,
    User,
    plain,
)

Recorded = Callable[[str], list[dict[str, Any]]]


def of(*items: Any, **fields: Any) -> Request:
    body = {"model": "m", "input": list(items), **fields}
    return decode(json.dumps(body).encode())


def turns(*items: Any) -> tuple[Turn, ...]:
    return of(*items).turns


def user(*parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": list(parts)}


def test_a_bare_string_is_one_user_turn() -> None:
    assert decode(b'{"model":"m","input":"hi \\u00e9"}').turns == (User(parts=(Text("hi é".encode()),)),)


def test_a_message_needs_no_type_and_may_be_a_string() -> None:
    assert turns({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}) == (
        User(parts=(Text(b"a"),)),
        Assistant((Text(b"b"),)),
    )


def test_one_round_of_calls_text_and_reasoning_is_one_turn() -> None:
    found = turns(
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "S"}],
            "encrypted_content": "blob",
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}', "id": "fc_1"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "p", "namespace": "n", "input": "P\n"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        user({"type": "input_text", "text": "next"}),
    )
    assert found == (
        Assistant(
            (
                Reasoning(b"S", carriers=(Carrier(kind="encrypted", data="blob"),)),
                Text(b"t"),
                Call(id="c1", name="f", arguments=rb"{\"a\":1}", item_id="fc_1"),
                Call(id="c2", name="p", namespace="n", kind="freeform", arguments=rb"P\n"),
            )
        ),
        User(
            results=(
                Result(call_id="c1", parts=(Text(b"1"),)),
                Result(call_id="c2", parts=(Text(b"2"),), kind="freeform"),
            ),
            parts=(Text(b"next"),),
        ),
    )


def test_sequential_rounds_stay_apart() -> None:
    rounds = [
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "a"},
        {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "2", "output": "b"},
    ]
    assert [type(turn) for turn in turns(*rounds)] == [Assistant, User, Assistant, User]


def test_developer_notes_keep_their_place() -> None:
    found = turns(
        {"type": "message", "role": "developer", "content": "D"},
        user({"type": "input_text", "text": "u"}),
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "S"}]},
    )
    assert found == (Note((Text(b"D"),)), User(parts=(Text(b"u"),)), Note((Text(b"S"),)))


def test_our_own_envelope_gives_the_whole_thought_back() -> None:
    carrier = Carrier(kind="signature", data="SIG", realm="anthropic", model="c")
    sealed = envelope.wrap(b"the whole thought", (carrier,))
    (turn,) = turns(
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "the"}],
            "encrypted_content": sealed,
        }
    )
    assert turn == Assistant((Reasoning(b"the whole thought", carriers=(carrier,)),))
    (cut,) = turns(
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "t"}],
            "encrypted_content": sealed[:-4],
        }
    )
    assert cut == Assistant((Reasoning(b"t"),))


def test_raw_reasoning_text_wins_over_its_summary() -> None:
    item = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "short"}],
        "content": [{"type": "reasoning_text", "text": "a"}, {"type": "reasoning_text", "text": "b"}],
    }
    assert turns(item) == (Assistant((Reasoning(rb"a\n\nb"),)),)
    assert turns({"type": "reasoning", "summary": [], "content": None, "encrypted_content": None}) == ()


@pytest.mark.parametrize(
    ("output", "text", "is_error"),
    [
        ("plain", b"plain", False),
        ({"content": "inner", "success": True}, b"inner", False),
        ({"content": [{"type": "input_text", "text": "x"}], "success": False}, b"x", True),
        ({"other": 1}, rb"{\"other\": 1}", False),
        (5, b"5", False),
    ],
)
def test_every_shape_of_output_becomes_parts(output: Any, text: bytes, is_error: bool) -> None:
    (turn,) = turns({"type": "function_call_output", "call_id": "c", "output": output})
    assert turn == User(results=(Result(call_id="c", parts=(Text(text),), is_error=is_error),))


def test_images_and_files_are_taken_apart() -> None:
    (turn,) = turns(
        user(
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "high"},
            {"type": "input_image", "image_url": {"url": "https://example.org/x.png"}},
            {"type": "input_image", "file_id": "f1"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,BB"},
            {"type": "input_file", "file_url": "https://example.org/a.pdf"},
        )
    )
    assert turn == User(
        parts=(
            Image(media_type="image/png", data=b"AAAA", detail="high"),
            Image(url=b"https://example.org/x.png"),
            Image(file_id="f1"),
            File(media_type="application/pdf", data=b"BB", filename=b"a.pdf"),
            File(url=b"https://example.org/a.pdf"),
        )
    )


def test_built_in_calls_keep_their_kind() -> None:
    (turn, answers) = turns(
        {"type": "local_shell_call", "call_id": "a", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "tool_search_call", "call_id": "b", "execution": "client", "arguments": {"query": "q"}},
        {"type": "local_shell_call_output", "call_id": "a", "output": "x"},
        {"type": "tool_search_output", "call_id": "b", "execution": "client", "tools": []},
    )
    assert isinstance(turn, Assistant)
    assert isinstance(answers, User)
    assert [(c.kind, c.name, c.arguments_json) for c in turn.parts if isinstance(c, Call)] == [
        ("local_shell", "local_shell", b'{"type": "exec", "command": ["ls"]}'),
        ("tool_search", "tool_search", b'{"query": "q"}'),
    ]
    assert [result.kind for result in answers.results] == ["local_shell", "tool_search"]


def test_unknown_and_hosted_items_stay_whole_inside_their_turn() -> None:
    hosted = {"type": "web_search_call", "id": "ws", "action": {"q": 1.0}}
    (turn,) = turns(
        hosted, {"type": "message", "role": "assistant", "content": "a"}, {"type": "brand_new", "x": 1}
    )
    assert turn == Assistant(
        (
            Hosted("responses", "web_search_call", json.dumps(hosted).encode()),
            Text(b"a"),
            Hosted("responses", "brand_new", b'{"type": "brand_new", "x": 1}'),
        )
    )


def test_a_summary_of_our_own_is_expanded_and_a_foreign_one_kept_sealed() -> None:
    ours = {"type": "compaction", "encrypted_content": compaction.wrap(b"what happened")}
    assert turns(ours) == (User(parts=(Text(compaction.HEADING + b"what happened"),)),)
    (foreign,) = turns({"type": "compaction", "encrypted_content": "gAAAA"})
    assert isinstance(foreign, Assistant)
    assert isinstance(foreign.parts[0], Hosted)


def test_a_compaction_trigger_asks_for_a_summary() -> None:
    request = of(user({"type": "input_text", "text": "a"}), {"type": "compaction_trigger"})
    assert compaction.is_compaction(request)
    assert not compaction.is_compaction(of(user({"type": "input_text", "text": "a"})))


# --- tools


def test_declarations_of_every_kind_are_read() -> None:
    request = of(
        tools=[
            {
                "type": "function",
                "name": "f",
                "description": "D",
                "strict": False,
                "parameters": {"type": "object"},
            },
            {
                "type": "custom",
                "name": "p",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
            },
            {
                "type": "namespace",
                "name": "ns",
                "tools": [{"type": "function", "name": "g"}, {"type": "custom", "name": "h"}],
            },
            {"type": "local_shell"},
            {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}},
            {"type": "web_search", "external_web_access": True},
        ]
    )
    assert [(t.kind, t.namespace, t.name) for t in request.tools] == [
        ("function", None, "f"),
        ("freeform", None, "p"),
        ("function", "ns", "g"),
        ("freeform", "ns", "h"),
        ("local_shell", None, "local_shell"),
        ("tool_search", None, "tool_search"),
        ("hosted", None, "web_search"),
    ]
    assert request.tools[0].schema == b'{"type": "object"}'
    grammar = request.tools[1].grammar
    assert grammar is not None
    assert (grammar.syntax, grammar.definition) == ("lark", b"start: x")


def test_tools_inside_the_conversation_count() -> None:
    late = {
        "type": "namespace",
        "name": "mcp__z",
        "tools": [{"type": "function", "name": "late", "defer_loading": True}],
    }
    request = of(
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "exec"}]},
        {"type": "tool_search_call", "call_id": "c", "execution": "client", "arguments": {}},
        {"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [late]},
        tools=[{"type": "function", "name": "f"}],
    )
    assert [(t.name, t.deferred) for t in request.tools] == [("f", False), ("exec", False), ("late", False)]
    answer = request.turns[-1]
    assert isinstance(answer, User)
    assert answer.results[0].parts == (Text(b"Tools found, they can be called now: mcp__z__late"),)


def test_a_deferred_tool_stays_hidden_only_while_something_can_find_it() -> None:
    hidden = {"type": "function", "name": "f", "defer_loading": True}
    search = {"type": "tool_search", "execution": "client"}
    assert [t.deferred for t in of(tools=[hidden]).tools] == [False]
    assert [t.deferred for t in of(tools=[hidden, search]).tools] == [True, False]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice(mode="auto")),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="required")),
        ({"type": "function", "name": "f"}, ToolChoice(mode="named", name="f")),
        ({"type": "custom", "name": "p"}, ToolChoice(mode="named", name="p")),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, ToolChoice(mode="required")),
        ({"type": "web_search"}, ToolChoice(mode="named", name="web_search")),
        (None, None),
    ],
)
def test_tool_choices_are_read(choice: Any, expected: ToolChoice | None) -> None:
    assert of(tool_choice=choice).tool_choice == expected


# --- parameters


def test_parameters_are_read() -> None:
    request = of(
        stream=True,
        instructions="I",
        temperature=0.5,
        top_p=None,
        max_output_tokens=7,
        parallel_tool_calls=False,
        reasoning={"effort": "xhigh", "summary": "auto", "context": "all_turns"},
        text={
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "out", "strict": True, "schema": {"a": 1}},
        },
        prompt_cache_key="k",
        service_tier="priority",
        safety_identifier="me",
        store=False,
        client_metadata={"x": "y"},
    )
    assert request.stream
    assert request.system == (Text(b"I"),)
    assert request.sampling == {"temperature": b"0.5"}
    assert request.max_output_tokens == 7
    assert request.parallel_calls is False
    assert request.thinking == Thinking(mode="on", effort="xhigh", summary="auto")
    assert request.format == Format(kind="json_schema", name="out", strict=True, schema=b'{"a": 1}')
    assert (request.verbosity, request.cache_key, request.service_tier, request.user) == (
        "low",
        "k",
        "priority",
        "me",
    )


@pytest.mark.parametrize(
    ("reasoning", "expected"),
    [
        (None, Thinking()),
        ({"summary": "auto"}, Thinking(summary="auto")),
        ({"effort": "none"}, Thinking(mode="off", effort="none")),
        ({"effort": "minimal"}, Thinking(mode="on", effort="minimal")),
        ({"effort": "ultra"}, Thinking()),
    ],
)
def test_efforts_are_read(reasoning: Any, expected: Thinking) -> None:
    assert of(reasoning=reasoning).thinking == expected


# --- refusals


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"input": "x"}, "$"),
        ({"model": 5, "input": "x"}, "$.model"),
        ({"model": "m"}, "$.input"),
        ({"model": "m", "input": 5}, "$.input"),
        ({"model": "m", "input": ["x"]}, "$.input[0]"),
        ({"model": "m", "input": [{"type": "message", "content": "x"}]}, "$.input[0].role"),
        ({"model": "m", "input": [{"role": "tool", "content": "x"}]}, "$.input[0].role"),
        ({"model": "m", "input": [{"role": "user", "content": 5}]}, "$.input[0].content"),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "$.input[0].content[0].text",
        ),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "$.input[0].content[0].image_url",
        ),
        ({"model": "m", "input": [{"type": "function_call", "name": "f"}]}, "$.input[0].call_id"),
        ({"model": "m", "input": [{"type": "function_call", "call_id": "c"}]}, "$.input[0].name"),
        ({"model": "m", "input": [{"type": "function_call_output", "output": "x"}]}, "$.input[0].call_id"),
        ({"model": "m", "input": [{"type": "item_reference", "id": "x"}]}, "$.input[0]"),
        ({"model": "m", "input": "x", "tools": [{"type": "function"}]}, "$.tools[0].name"),
        (
            {
                "model": "m",
                "input": "x",
                "tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom"}]}],
            },
            "$.tools[0].tools[0].name",
        ),
        ({"model": "m", "input": "x", "tool_choice": "sometimes"}, "$.tool_choice"),
        ({"model": "m", "input": "x", "tool_choice": {"type": "function"}}, "$.tool_choice.name"),
        ({"model": "m", "input": "x", "temperature": "hot"}, "$.temperature"),
        ({"model": "m", "input": "x", "stream": "yes"}, "$.stream"),
        ({"model": "m", "input": "x", "instructions": 5}, "$.instructions"),
        ({"model": "m", "input": "x", "previous_response_id": "resp_x"}, "$.previous_response_id"),
        ({"model": "m", "input": "x", "conversation": {"id": "c"}}, "$.conversation"),
        ({"model": "m", "input": "x", "prompt": {"id": "p"}}, "$.prompt"),
        ({"model": "m", "input": "x", "background": True}, "$.background"),
    ],
)
def test_a_malformed_request_is_refused_with_the_json_path(body: Any, path: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(json.dumps(body).encode())
    assert caught.value.path == path


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "role",
                    "content",
                    "text",
                    "call_id",
                    "name",
                    "output",
                    "tools",
                    "summary",
                    "arguments",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
kinds = st.sampled_from(
    [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "local_shell_call",
        "tool_search_output",
        "additional_tools",
        "compaction",
        "web_search_call",
    ]
)
items = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    kinds,
    st.dictionaries(
        st.sampled_from(
            [
                "role",
                "content",
                "id",
                "call_id",
                "name",
                "arguments",
                "input",
                "output",
                "summary",
                "encrypted_content",
                "action",
                "tools",
            ]
        ),
        json_values,
    ),
)


@given(
    body=st.fixed_dictionaries({"model": st.just("m"), "input": st.lists(items, max_size=3) | json_values})
)
def test_nothing_but_a_bad_request_is_raised(body: Any) -> None:
    with contextlib.suppress(BadRequest):
        decode(json.dumps(body).encode())


# --- recorded conversations


def outline(request: Request) -> list[str]:
    """One line a turn, short enough to be compared by eye."""
    lines: list[str] = []
    for turn in request.turns:
        match turn:
            case Note():
                lines.append(f"note {len(turn.parts)}")
            case Assistant():
                words = [
                    f"{p.kind} {p.namespace or ''}:{p.name}" if isinstance(p, Call) else type(p).__name__
                    for p in turn.parts
                ]
                lines.append("assistant " + ", ".join(words))
            case User():
                results = "".join(
                    f" {r.kind}<{','.join(type(p).__name__ for p in r.parts)}>" for r in turn.results
                )
                lines.append(f"user{results} +{len(turn.parts)}")
    return lines


ROUNDS = {
    "task": [
        "note 1",
        "note 2",
        "user +2",
        "assistant Reasoning, Text, function :exec_command",
        "user function<Text> +0",
        "assistant freeform :apply_patch",
        "user freeform<Text> +0",
        "assistant function :exec_command, function :exec_command",
        "user function<Text> function<Text> +0",
    ],
    "code_mode": [
        "note 1",
        "note 3",
        "note 1",
        "note 1",
        "user +2",
        "assistant freeform functions:exec",
        "user freeform<Text,Text> +0",
        "assistant freeform :exec",
        "user freeform<Text,Text> +0",
    ],
    "tool_search": [
        "note 1",
        "note 3",
        "user +2",
        "assistant tool_search :tool_search",
        "user tool_search<Text> +0",
    ],
    "view_image": [
        "note 1",
        "note 2",
        "user +2",
        "assistant function :view_image",
        "user function<Image> +0",
    ],
    "compaction": ["note 1", "note 3", "user +2", "assistant Hosted"],
    "image_input": ["note 1", "note 2", "user +5"],
}


@pytest.mark.parametrize("name", ROUNDS)
def test_a_recorded_conversation_keeps_its_rounds(recorded: Recorded, name: str) -> None:
    assert outline(decode(json.dumps(recorded(name)[-1]).encode())) == ROUNDS[name]


@pytest.mark.parametrize(
    "name", ["task", "mcp", "code_mode", "tool_search", "reasoning", "view_image", "compaction"]
)
def test_nothing_of_a_recorded_conversation_is_lost(recorded: Recorded, name: str) -> None:
    for body in recorded(name):
        request = decode(json.dumps(body).encode())
        parts = [part for turn in request.turns if isinstance(turn, Assistant) for part in turn.parts]
        results = [result for turn in request.turns if isinstance(turn, User) for result in turn.results]
        sent = body["input"]
        called = [item for item in sent if item["type"].endswith("_call")]
        calls = [part for part in parts if isinstance(part, Call)]
        assert [call.id for call in calls] == [item["call_id"] for item in called]
        assert [call.namespace for call in calls] == [item.get("namespace") for item in called]
        assert [plain(call.arguments) for call in calls if call.arguments_json is None] == [
            item.get("arguments", item.get("input")) for item in called if item["type"] != "tool_search_call"
        ]
        answered = [item["call_id"] for item in sent if item["type"].endswith("_output")]
        assert [result.call_id for result in results] == answered
        blobs = [carrier.data for part in parts if isinstance(part, Reasoning) for carrier in part.carriers]
        assert blobs == [item["encrypted_content"] for item in sent if item["type"] == "reasoning"]
