"""What a scenario file may say, and what it is told when it says something else."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from dragoman.rehearsal.load import ScenarioInvalid, load_scenario, parse_scenario, shipped_names
from dragoman.rehearsal.scenario import Fail, Step, ToolUse, When

HELLO = 'do = [{ say = "Hello." }]'


def parse(text: str):
    return parse_scenario(textwrap.dedent(text).lstrip("\n").encode(), "play.toml")


def mistake(text: str) -> str:
    with pytest.raises(ScenarioInvalid) as caught:
        parse(text)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value.message


def test_every_shipped_scenario_is_valid():
    assert {"demo", "greeting"} <= set(shipped_names())
    for name in shipped_names():
        assert load_scenario(name).name == name


def test_a_whole_file_is_read():
    read = parse(
        """
        version = 1
        name = "whole"
        about = "Everything once."
        models = ["one", "two-*"]
        side = "Title"
        pace = { tokens_per_s = 20, chunk_tokens = 2, first_byte_s = 0.5 }

        [[rule]]
        name = "first"
        when = { wire = "chat", turn = [0, 1], offers = "Read", user_matches = 'in (\\S+)' }
        pace = { tokens_per_s = 5 }
        do = [
          { think = "Hm." },
          { delay_s = 2 },
          { call = { tool = "Read", args = { path = "${user.1}" } } },
        ]

        [[rule]]
        [rule.when]
        wire = ["messages", "responses"]
        [[rule.do]]
        call.claude = { tool = "Edit", args = { a = 1 } }
        call.codex = { tool = "apply_patch", input = "*** Begin" }
        [[rule.do]]
        fail = { status = 529, message = "busy" }

        [[rule]]
        do = [{ say = "cut" }, { cut = true }]
        """
    )
    first, second, third = read.rules
    assert (read.name, read.models, read.side) == ("whole", ("one", "two-*"), "Title")
    assert read.pace.chunk_tokens == 2
    assert first.when == When(wire=("chat",), turn=(0, 1), offers=("Read",), user_matches=r"in (\S+)")
    assert first.pace is not None
    assert first.do[1] == Step(delay_s=2.0)
    assert second.name == "rule 1"
    assert second.do[0].call == (
        ToolUse(tool="Edit", args={"a": 1}),
        ToolUse(tool="apply_patch", input="*** Begin"),
    )
    assert second.do[1].fail == Fail(status=529, message="busy")
    assert third.do[1] == Step(cut=True)


def test_a_scenario_without_a_name_is_called_like_its_file():
    assert parse_scenario(f"version = 1\n[[rule]]\n{HELLO}".encode(), "some/where.toml").name == "where"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[[rule]]\n{HELLO}", "play.toml:1: version: the version is missing; it must be `version = 1`"),
        (f"# x\nversion = 2\n[[rule]]\n{HELLO}", "play.toml:2: version: the version is 2"),
        ("version = 1", "play.toml:1: the key rule is missing"),
        ("version = 1\nrule = []", "play.toml:2: rule: there is no [[rule]]"),
        (
            f"version = 1\nmodles = ['x']\n[[rule]]\n{HELLO}",
            "play.toml:2: modles: unknown key (nearest: models)",
        ),
        (
            f"version = 1\n\n[[rule]]\nwen = {{ turn = 0 }}\n{HELLO}",
            "play.toml:4: rule[0].wen: unknown key (nearest: rule[0].when)",
        ),
        (
            f"version = 1\n[[rule]]\n{HELLO}\nwhen = {{ turn = 0,  user_contain = 'x' }}",
            "play.toml:4: rule[0].when.user_contain: unknown key (nearest: rule[0].when.user_contains)",
        ),
        (
            f"version = 1\n[[rule]]\n{HELLO}\nwhen.turn = 1\n[[rule]]\n[rule.when]\nwire = 'caht'\n",
            "play.toml:7: rule[1].when.wire[0]: expected one of messages, chat, responses (nearest: chat)",
        ),
        (
            f"version = 1\n[[rule]]\nwhen.turn = 'first'\n{HELLO}",
            "play.toml:3: rule[0].when.turn[0]: expected int, got str",
        ),
        (
            f"version = 1\n[[rule]]\n{HELLO}\nwhen.tools = 'nun'",
            "play.toml:4: rule[0].when.tools: expected one of offered, none, any (nearest: none)",
        ),
        (
            f"version = 1\n[[rule]]\nwhen.user_matches = '('\n{HELLO}",
            "play.toml:3: rule[0].when.user_matches: not a regular expression: missing ), unterminated "
            "subpattern at position 0",
        ),
        ("version = 1\n[[rule]]\ndo = []", "play.toml:3: rule[0].do: the rule does nothing"),
        (
            "version = 1\n[[rule]]\nsay = 'x'",
            "play.toml:3: rule[0].say: a step stands in `do`: do = [{ say = ... }]",
        ),
        (
            "version = 1\n[[rule]]\ndo = [\n  { say = 'a' },\n  { sai = 'b' },\n]",
            "play.toml:5: rule[0].do[1].sai: unknown key (nearest: rule[0].do[1].say)",
        ),
        (
            "version = 1\n[[rule]]\ndo = [\n  { say = 'a', think = 'b' }]",
            "play.toml:4: rule[0].do[0]: a step is exactly one of think, say, call, fail, delay_s, cut; "
            "here are think and say",
        ),
        (
            "version = 1\n[[rule]]\n[[rule.do]]\ncall = { tool = 'Read', arg = { } }",
            "play.toml:4: rule[0].do[0].call.arg: unknown key (nearest: rule[0].do[0].call.args)",
        ),
        (
            "version = 1\n[[rule]]\n[[rule.do]]\ncall.codex = { tool = 'x' }\ncall.codecs = { tool = 'x' }",
            "play.toml:5: rule[0].do[0].call.codecs: no such client (known: claude, codex)",
        ),
        (
            "version = 1\n[[rule]]\ndo = [{ call = { args = {} } }]",
            "play.toml:3: rule[0].do[0].call: the key tool is missing",
        ),
        (
            "version = 1\n[[rule]]\ndo = [{ fail = { status = 200 } }]",
            "play.toml:3: rule[0].do[0].fail.status: must be between 400 and 599",
        ),
        (
            "version = 1\n[[rule]]\ndo = [{ cut = true },\n{ say = 'x' }]",
            "play.toml:4: rule[0].do[1]: never reached: the step before it ends the answer",
        ),
        (
            f"version = 1\n[[rule]]\nwhen.tools = 'any'\n{HELLO}\n[[rule]]\n{HELLO}",
            "play.toml:5: rule[1]: never reached: the rule before it, 'rule 0', always holds",
        ),
        (
            "version = 1\n[[rule]]\ndo = [{ say = '${cdw}' }]",
            "play.toml:3: rule[0].do[0]: unknown placeholder ${cdw} (nearest: ${cwd})",
        ),
        (
            "version = 1\n[[rule]]\ndo = [{ say = '${result.1}' }]",
            "play.toml:3: rule[0].do[0]: ${result.1} needs `result_matches` in the rule's `when`",
        ),
        (
            "version = 1\n[[rule]]\nwhen.user_matches = '(x)'\ndo = [{ say = '${user.2}' }]",
            "play.toml:4: rule[0].do[0]: ${user.2}: `user_matches` has no group 2",
        ),
        (
            f"version = 1\n[pace]\nchunk_tokens = 0\n[[rule]]\n{HELLO}",
            "play.toml:3: pace.chunk_tokens: must be at least 1",
        ),
        ("version = 1\n[[rule]\n", "play.toml:2: not valid TOML: "),
        ("version = 1\nname = ", "play.toml:2: not valid TOML: Invalid value"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_nearest_key(text: str, said: str):
    message = mistake(text)
    assert message.startswith(said), message
    assert "\n" not in message


def test_a_file_that_is_not_utf_8_is_refused_with_its_line():
    with pytest.raises(ScenarioInvalid, match=r"play\.toml:2: this line is not UTF-8 text"):
        parse_scenario(b"version = 1\n# \xff", "play.toml")


def test_a_missing_file_names_the_nearest_shipped_scenario(tmp_path: Path):
    with pytest.raises(ScenarioInvalid, match=r"cannot read the scenario dmo: .* \(nearest: demo\)"):
        load_scenario("dmo")
    with pytest.raises(ScenarioInvalid, match="cannot read the scenario"):
        load_scenario(str(tmp_path))
