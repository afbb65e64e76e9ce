"""A worker's report: the form, else JSON in its words, else the words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.jobs.report import SCHEMAS, read_report

DONE: dict[str, Any] = {"status": "success", "summary": "s", "changed_files": ["a.py"]}


def test_a_form_that_fits_is_taken() -> None:
    report = read_report("implement", "ignored", DONE)
    assert (report.source, report.fields, report.claims.files) == ("structured", DONE, ("a.py",))


@pytest.mark.parametrize(
    "form",
    [
        None,
        "text",
        [],
        {},
        {**DONE, "status": "great"},
        {**DONE, "changed_files": "a.py"},
        {**DONE, "changed_files": [1]},
        {**DONE, "tests": {}},
    ],
)
def test_a_form_that_does_not_fit_is_not(form: object) -> None:
    report = read_report("implement", "Changed files:\n- b.py\n", form)
    assert (report.source, report.claims.files) == ("text", ("b.py",))


@pytest.mark.parametrize("around", ["{}", "Here it is:\n```json\n{}\n```\nBye.", "```\n{}\n```"])
def test_json_in_the_words_counts_as_the_form(around: str) -> None:
    report = read_report("implement", around.replace("{}", json.dumps(DONE)), None)
    assert (report.source, report.claims.files) == ("json_in_text", ("a.py",))


def test_tests_in_the_form_are_claims_of_commands() -> None:
    form = {
        **DONE,
        "commands_run": ["ls", "pytest"],
        "tests": {"ran": True, "command": "pytest", "passed": True},
    }
    claims = read_report("implement", "", form).claims
    assert [(one.command, one.outcome) for one in claims.commands] == [
        ("ls", "unclear"),
        ("pytest", "passed"),
    ]


@pytest.mark.parametrize(
    ("kind", "form"),
    [("query", {"answer": "42"}), ("review", {"findings": ["f"], "severity": "low", "recommendations": []})],
)
def test_readers_have_forms_of_their_own(kind: Any, form: dict[str, Any]) -> None:
    assert read_report(kind, "", form).source == "structured"
    assert read_report(kind, "x", DONE).source == "text"


@given(
    text=st.text(max_size=200),
    form=st.recursive(
        st.none() | st.booleans() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*SCHEMAS["implement"]["properties"], "x"]), inner, max_size=6)
        ),
        max_leaves=12,
    ),
)
def test_whatever_comes_is_read_without_a_fault(text: str, form: object) -> None:
    for kind in SCHEMAS:
        report = read_report(kind, text, form)
        assert (report.fields is None) == (report.source == "text")
