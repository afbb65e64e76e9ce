"""Which rule answers, and with what."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from dragoman.rehearsal.answer import Answer, Call, Failure, Silence, Speech, Thought
from dragoman.rehearsal.asked import Asked, OfferedTool, ToolResult, Wishes
from dragoman.rehearsal.play import offered, play
from dragoman.rehearsal.scenario import Scenario

MakeScenario = Callable[..., Scenario]

READ = OfferedTool("Read", properties=("file_path",))
ASKED = Asked(
    wire="messages",
    model="worker",
    digest="d" * 64,
    turn=0,
    user_text="mend pricing.py",
    results=(),
    earlier=(),
    tools=(READ,),
    cwd="/srv/shop",
    prompt_tokens=4000,
    prefix_tokens=0,
    wishes=Wishes(thinking=True),
)


def said(answer: Answer) -> str:
    return "".join(part.text for part in answer.parts if isinstance(part, Speech))


def refusal(answer: Answer) -> Failure:
    assert answer.refusal is not None
    return answer.refusal


@pytest.mark.parametrize(
    ("when", "fits", "does_not"),
    [
        ("wire = 'messages'", {}, {"wire": "chat"}),
        ("wire = ['chat', 'messages']", {}, {"wire": "responses"}),
        ("model = 'work*'", {}, {"model": "other"}),
        ("turn = 0", {}, {"turn": 1}),
        ("turn = [1, 2]", {"turn": 2}, {"turn": 3}),
        ("turn_min = 2", {"turn": 2}, {"turn": 1}),
        ("user_contains = 'pricing'", {}, {"user_text": "mend receipt.py"}),
        ("user_matches = 'mend (\\w+)'", {}, {"user_text": "break it"}),
        ("offers = ['Read']", {}, {"tools": (OfferedTool("Write"),)}),
        ("result_tool = 'Read'", {"results": (ToolResult("Read", ""),)}, {}),
        (
            "result_tool = 'Read'\nresult_contains = 'x'",
            {"results": (ToolResult("Read", "x"), ToolResult("Bash", "y"))},
            {"results": (ToolResult("Read", "y"), ToolResult("Bash", "x"))},
        ),
        (
            "result_matches = 'Ran \\d+'",
            {"results": (ToolResult("", "Ran 4"), ToolResult("", ""))},
            {"results": (ToolResult("", "Ran"),)},
        ),
        (
            "earlier_matches = 'job'",
            {"earlier": (ToolResult("", "job 1"),)},
            {"results": (ToolResult("", "job 1"),)},
        ),
        ("tools = 'none'", {"tools": ()}, {}),
        ("tools = 'offered'", {}, {"tools": (), "user_text": "x"}),
    ],
)
def test_a_rule_answers_only_where_its_conditions_hold(
    scenario: MakeScenario, when: str, fits: dict[str, object], does_not: dict[str, object]
):
    play_book = scenario(
        f"""
[[rule]]
do = [{{ say = "yes" }}]
[rule.when]
{when}
[[rule]]
when.tools = "any"
do = [{{ say = "no" }}]
"""
    )
    assert said(play(replace(ASKED, **fits), [play_book])) == "yes"
    assert said(play(replace(ASKED, **does_not), [play_book])) == "no"


def test_the_first_rule_that_holds_answers(scenario: MakeScenario):
    play_book = scenario(
        """
        [[rule]]
        when.turn = 1
        do = [{ say = "a" }]
        [[rule]]
        do = [{ say = "b" }]
        [[rule]]
        when.turn = 0
        do = [{ say = "c" }]
        """
    )
    assert said(play(ASKED, [play_book])) == "b"


def test_a_later_scenario_answers_what_an_earlier_one_does_not(scenario: MakeScenario):
    first = scenario("models = ['a']\n[[rule]]\ndo = [{ say = 'first' }]")
    narrow = scenario("[[rule]]\nwhen.turn = 5\ndo = [{ say = 'narrow' }]")
    last = scenario("[[rule]]\ndo = [{ say = 'last' }]")
    assert said(play(replace(ASKED, model="a"), [first, narrow, last])) == "first"
    assert said(play(ASKED, [first, narrow, last])) == "last"


def test_placeholders_are_filled_from_the_request(scenario: MakeScenario):
    play_book = scenario(
        r"""
        [[rule]]
        [rule.when]
        user_matches = 'mend (?P<file>\S+)'
        result_matches = 'Ran (\d+)'
        [[rule.do]]
        say = "${user.file} ${result.1} ${wire} ${model} ${turn} $${cwd}"
        [[rule.do]]
        call = { tool = "Read", args = { file_path = "${cwd}/${user.1}", deep = [{ all = "${result}" }] } }
        """
    )
    asked = replace(ASKED, turn=2, results=(ToolResult("Bash", "Ran 4 tests"),))
    answer = play(asked, [play_book])
    assert said(answer) == "pricing.py 4 messages worker 2 ${cwd}"
    call = answer.parts[1]
    assert isinstance(call, Call)
    assert json.loads(call.payload) == {
        "file_path": "/srv/shop/pricing.py",
        "deep": [{"all": "Ran 4 tests"}],
    }


def test_what_an_earlier_result_said_can_be_used_later(scenario: MakeScenario):
    play_book = scenario("[[rule]]\nwhen.earlier_matches = 'job (\\w+)'\ndo = [{ say = '${earlier.1}' }]")
    earlier = (ToolResult("", "job old"), ToolResult("", "job new"), ToolResult("", "waiting"))
    assert said(play(replace(ASKED, earlier=earlier), [play_book])) == "new"


def test_a_placeholder_without_a_value_is_an_error_that_names_it(scenario: MakeScenario):
    play_book = scenario("[[rule]]\nname = 'go'\ndo = [{ say = '${cwd}' }]")
    failed = refusal(play(replace(ASKED, cwd=None), [play_book]))
    assert failed.status == 400
    assert failed.message == "scenario 'play', rule 'go': the request has no value for `${cwd}`"


def test_a_call_takes_the_alternative_whose_tool_is_offered(scenario: MakeScenario):
    play_book = scenario(
        """
        [[rule]]
        [[rule.do]]
        call.claude = { tool = "Read", args = { file_path = "x" } }
        call.codex = { tool = "exec_command", args = { cmd = "cat x" } }
        """
    )
    codex = replace(ASKED, tools=(OfferedTool("exec_command"),))
    for asked, payload in ((ASKED, '{"file_path":"x"}'), (codex, '{"cmd":"cat x"}')):
        (call,) = play(asked, [play_book]).parts
        assert isinstance(call, Call)
        assert call.payload == payload
        assert call.tool is asked.tools[0]


def test_a_call_of_a_tool_that_is_not_offered_is_an_error_that_lists_what_is(scenario: MakeScenario):
    play_book = scenario("[[rule]]\ndo = [{ call = { tool = 'Edit' } }]")
    failed = refusal(play(ASKED, [play_book]))
    assert "it calls 'Edit'; the request offers Read" in failed.message


def test_a_freeform_call_becomes_an_argument_where_the_tool_is_a_function(scenario: MakeScenario):
    play_book = scenario("[[rule]]\ndo = [{ call = { tool = 'apply_patch', input = '*** Begin' } }]")

    def payload(tool: OfferedTool) -> str:
        (call,) = play(replace(ASKED, tools=(tool,)), [play_book]).parts
        assert isinstance(call, Call)
        return call.payload

    assert payload(OfferedTool("apply_patch", "custom")) == "*** Begin"
    assert payload(OfferedTool("apply_patch", properties=("why", "input"))) == '{"input":"*** Begin"}'
    assert payload(OfferedTool("apply_patch", properties=("patch",))) == '{"patch":"*** Begin"}'


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Read", "Read"),
        ("claude_task", "mcp__claude_delegate__claude_task"),
        ("task", None),
        ("search", "web.search"),
        ("ead", None),
    ],
)
def test_a_tool_is_found_by_its_name_or_behind_a_clients_prefix(name: str, found: str | None):
    tools = [OfferedTool(one) for one in ("mcp__claude_delegate__claude_task", "Read", "web.search")]
    tool = offered(name, tools)
    assert (tool.name if tool else None) == found


def test_thinking_is_left_out_where_the_request_forbids_it(scenario: MakeScenario):
    play_book = scenario("[[rule]]\ndo = [{ think = 'hm' }, { say = 'yes' }]")
    assert play(ASKED, [play_book]).parts == (Thought("hm"), Speech("yes"))
    assert play(replace(ASKED, wishes=Wishes()), [play_book]).parts == (Speech("yes"),)


def test_leading_silence_holds_back_the_head_and_later_silence_does_not(scenario: MakeScenario):
    play_book = scenario(
        """
        pace = { first_byte_s = 0.5 }
        [[rule]]
        do = [{ delay_s = 1 }, { say = 'a' }, { delay_s = 2 }, { say = 'b' }]
        """
    )
    answer = play(ASKED, [play_book])
    assert answer.head_delay_s == 1.5
    assert answer.parts[1] == Silence(2.0)


def test_a_request_that_no_rule_answers_is_refused_in_words(scenario: MakeScenario):
    play_book = scenario("[[rule]]\nwhen.turn = 7\ndo = [{ say = 'x' }]")
    asked = replace(ASKED, turn=3, results=(ToolResult("Bash", "secret"),))
    failed = refusal(play(asked, [play_book]))
    assert failed.status == 400
    assert failed.message == (
        "no rule of 'play' holds for this request (wire messages, turn 3, newest tool result from 'Bash')"
    )


def test_an_unknown_model_is_a_404_that_names_the_nearest(scenario: MakeScenario):
    play_book = scenario("models = ['rehearsal']\n[[rule]]\ndo = [{ say = 'x' }]")
    failed = refusal(play(replace(ASKED, model="rehersal"), [play_book]))
    assert failed.status == 404
    assert failed.message == "the model 'rehersal' does not exist; did you mean 'rehearsal'?"


def test_a_side_call_gets_the_side_answer_in_the_shape_it_wants(scenario: MakeScenario):
    play_book = scenario("side = 'Mend it'\n[[rule]]\ndo = [{ say = 'main' }]")
    side = replace(ASKED, tools=())
    assert said(play(side, [play_book])) == "Mend it"
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    titled = replace(side, wishes=Wishes(output_schema=schema))
    assert json.loads(said(play(titled, [play_book]))) == {"title": "Mend it"}
    summary = replace(side, user_text="You are performing a CONTEXT CHECKPOINT COMPACTION. Create...")
    assert "rehearsal is under way" in said(play(summary, [play_book]))


def test_a_rule_for_any_request_leaves_titles_to_the_side_answer(scenario: MakeScenario):
    play_book = scenario("side = 'Title'\n[[rule]]\nwhen.tools = 'any'\ndo = [{ say = 'main' }]")
    titled = Wishes(output_schema={"type": "string"})
    assert said(play(ASKED, [play_book])) == "main"
    assert said(play(replace(ASKED, wishes=titled), [play_book])) == "main"
    assert said(play(replace(ASKED, tools=()), [play_book])) == "main"
    assert said(play(replace(ASKED, tools=(), wishes=titled), [play_book])) == '"Title"'


def test_an_answer_over_the_token_limit_is_cut_and_says_so(scenario: MakeScenario):
    play_book = scenario(
        "[[rule]]\ndo = [{ say = 'eight letters' }, { call = { tool = 'Read', args = { a = 'long' } } }]"
    )
    answer = play(replace(ASKED, wishes=Wishes(max_output_tokens=2)), [play_book])
    assert answer.parts == (Speech("eight le"),)
    assert answer.finish == "length"
    assert answer.usage.output == 2
    roomy = play(replace(ASKED, wishes=Wishes(max_output_tokens=200)), [play_book])
    assert roomy.finish == "tools"


def test_usage_splits_the_prompt_into_what_a_cache_would_read_and_write(scenario: MakeScenario):
    play_book = scenario("[[rule]]\ndo = [{ think = 'abcd' }, { say = 'abcdefgh' }]")

    def usage(**changes: object):
        asked = replace(ASKED, **changes)
        return play(asked, [play_book]).usage

    uncached = usage()
    assert (uncached.input, uncached.cache_read, uncached.cache_write) == (4000, 0, 0)
    assert (uncached.output, uncached.reasoning) == (3, 1)
    caching = Wishes(caching=True)
    first = usage(wishes=caching)
    assert (first.cache_read, first.cache_write) == (0, 4000)
    later = usage(wishes=caching, prefix_tokens=3000)
    assert (later.cache_read, later.cache_write) == (3000, 1000)
    small = usage(wishes=caching, prompt_tokens=1000, prefix_tokens=900)
    assert (small.cache_read, small.cache_write) == (0, 0)
