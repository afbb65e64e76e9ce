from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dragoman.config.toml_lines import key_lines

TEXT = """\
# a comment with [brackets] and = signs
top = 1

[a.b]          # header
"quoted.key" = "# no comment"
multi = [
  { x = 1 },   # first
  { x = [2,
         3] },
]
text = '''
[not.a.header]
'''
[[list]]
k = 1
[[list]]
k = 2
  [list.sub]
  deep.er = 1979-05-27T07:32:00Z
"""


def test_every_key_is_found_on_its_line() -> None:
    lines = key_lines(TEXT)
    assert lines["top",] == 2
    assert lines["a", "b"] == 4
    assert lines["a", "b", "quoted.key"] == 5
    assert lines["a", "b", "multi", 0, "x"] == 7
    assert lines["a", "b", "multi", 1, "x", 1] == 9
    assert lines["a", "b", "text"] == 11
    assert lines["list", 1, "k"] == 17
    assert lines["list", 1, "sub", "deep", "er"] == 19


keys = st.from_regex(r"\A[A-Za-z0-9_-]{1,6}\Z")
values = st.sampled_from(["1", '"a # b"', "'[x]'", '"""\nq = 1\n"""', "[1, [2, 3]]", "{ i = 1 }", "true"])


@given(st.dictionaries(keys, st.dictionaries(keys, values, max_size=4), max_size=4), st.booleans())
def test_all_keys_of_a_text_are_found_and_in_order(tables: dict[str, dict[str, str]], crlf: bool) -> None:
    text = "".join(
        f"[{t}] # {t}\n" + "".join(f"{k} = {v}\n" for k, v in body.items()) for t, body in tables.items()
    )
    lines = key_lines(text.replace("\n", "\r\n") if crlf else text)
    parsed: dict[str, Any] = tomllib.loads(text)
    written = text.split("\n")
    for table, body in parsed.items():
        assert written[lines[table,] - 1] == f"[{table}] # {table}"
        for key in body:
            assert written[lines[table, key] - 1].startswith(f"{key} = ")
