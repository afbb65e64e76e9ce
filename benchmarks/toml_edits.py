"""How often an edit of a TOML file goes wrong: by spans of the text with a second reading, and by tomlkit.

    python benchmarks/toml_edits.py [--documents 1500] [--seed 1] [--json]

The documents are those of the property tests (`tests/clients/test_toml_edit.py`): valid, small and odd,
dotted and quoted keys, inline tables, tables out of order, comments in every place, either line end. Every
document gets the three edits of a set-up: a key at the top, a key in a table, and a table with a table in
it. tomlkit is no dependency of ours: `pip install tomlkit` first; without it only our own figures are shown.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from hypothesis import Phase, given, seed, settings

from dragoman.clients.editing import EditRefused, Tree, lookup, with_leaf
from dragoman.clients.toml_edit import TomlText

TESTS = Path(__file__).parents[1] / "tests" / "clients" / "test_toml_edit.py"


def property_tests() -> ModuleType:
    """The module whose strategy makes the documents."""
    spec = importlib.util.spec_from_file_location("toml_edit_tests", TESTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generated(documents: Any, count: int, number: int) -> list[str]:
    """`count` different documents; the same for the same number."""
    found: dict[str, None] = {}

    @seed(number)
    @settings(max_examples=count * 2, database=None, phases=[Phase.generate], deadline=None)
    @given(documents())
    def collect(text: str) -> None:
        if len(found) < count:
            found[text] = None

    collect()
    return list(found)


def by_spans(text: str, tests: ModuleType) -> str:
    """The three edits, our way."""
    return tests.edited(text).text


def by_tomlkit(text: str, tests: ModuleType, tomlkit: Any) -> str:
    """The three edits, the way tomlkit's own documentation shows them."""
    document = tomlkit.parse(text)
    document["model_provider"] = "dragoman"
    for name, key, value in (
        ("features", tests.FLAG[-1], False),
        ("model_providers", "dragoman", tests.PROVIDER),
    ):
        if name not in document:
            document[name] = tomlkit.table()
        document[name][key] = value
    return tomlkit.dumps(document)


class Wanted(NamedTuple):
    """What the edited document must mean.

    Attributes:
        tree: the meaning; None where a table or value of the user is in the way that nobody may overwrite.
        may_refuse: whether an array stands where a key shall: perhaps tables, which cannot become a value.
    """

    tree: Tree | None
    may_refuse: bool


def wanted(text: str, tests: ModuleType) -> Wanted:
    """The meaning of a text after the three edits."""
    tree = tomllib.loads(text)
    try:
        with_leaf(with_leaf(tree, tests.FLAG, False), tests.TABLE, {})
    except EditRefused:
        return Wanted(None, True)
    values = (lookup(tree, ("model_provider",)), lookup(tree, tests.FLAG))
    ours = lookup(tree, tests.TABLE)
    if any(isinstance(value, dict) for value in values) or not isinstance(ours, dict | None):
        return Wanted(None, True)
    return Wanted(tests.meant(text), any(isinstance(value, list) for value in values))


def judge(edit: Callable[[str], str], text: str, want: Wanted) -> str:
    """`right`; `wrong`, the result means something else; `overwrote`, what nobody may; `refused` by an error
    without need, or `rightly refused`."""
    try:
        result = edit(text)
    except Exception:  # noqa: BLE001 - a library's own errors, whatever they are
        return "rightly refused" if want.may_refuse else "refused"
    if want.tree is None:
        return "overwrote"
    try:
        return "right" if tomllib.loads(result) == want.tree else "wrong"
    except tomllib.TOMLDecodeError:
        return "wrong"


def measure(count: int, number: int) -> dict[str, Any]:
    """All figures."""
    tests = property_tests()
    texts = generated(tests.documents, count, number)
    meanings = [wanted(text, tests) for text in texts]
    impossible = sum(want.tree is None for want in meanings)
    told: dict[str, Any] = {"documents": len(texts), "impossible": impossible}
    ways: dict[str, Callable[[str], str]] = {"spans": lambda text: by_spans(text, tests)}
    if importlib.util.find_spec("tomlkit") is not None:
        tomlkit = importlib.import_module("tomlkit")
        told["tomlkit_version"] = tomlkit.__version__
        ways["tomlkit"] = lambda text: by_tomlkit(text, tests, tomlkit)
        told["tomlkit_round_trip_changed"] = sum(_round_trip(text, tomlkit) != text for text in texts)
    told["spans_round_trip_changed"] = sum(TomlText(text).text != text for text in texts)
    for name, edit in ways.items():
        began = time.perf_counter()
        told[name] = dict(Counter(judge(edit, *pair) for pair in zip(texts, meanings, strict=True)))
        told[name]["ms_each"] = round((time.perf_counter() - began) * 1000 / max(len(texts), 1), 2)
    return told


def _round_trip(text: str, tomlkit: Any) -> str | None:
    try:
        return tomlkit.dumps(tomlkit.parse(text))
    except Exception:  # noqa: BLE001 - as above
        return None


def main() -> int:
    """Print the figures; exit code 1 when a span edit came out wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    told = measure(words.documents, words.seed)
    if words.json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        for name, figure in told.items():
            sys.stdout.write(f"{name:<28} {figure}\n")
    return 1 if told["spans"].get("wrong") or told["spans"].get("overwrote") else 0


if __name__ == "__main__":
    sys.exit(main())
