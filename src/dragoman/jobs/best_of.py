"""The best of several attempts at one task: what was proved counts first, what was said not at all.

The order is, from the most to the least important: a status nearer to success; validation commands that
passed, then none that could prove anything, then one that failed; fewer claims that were wrong; fewer
warnings; less changed; less money; less time. Two attempts that are equal in all of it keep the order they
were asked in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

_STATUS = {"success": 0, "partial": 1, "needs_user": 2, "failed": 3}
_VERDICT = {"proved": 0, "unproved": 1, "failed": 2}


class Standing(NamedTuple):
    """Where an attempt stands among the others.

    Attributes:
        rank: 1 is the best.
        attempt: its place among the results as they were given.
        usable: whether there is something of it to apply.
        reason: what speaks for or against it, as a phrase.
    """

    rank: int
    attempt: int
    usable: bool
    reason: str


def rank(results: Sequence[Mapping[str, Any]]) -> list[Standing]:
    """Order attempts, the best first.

    Args:
        results: `result.json` of each, in the order they were asked for.
    """
    order = sorted(range(len(results)), key=lambda index: (_key(results[index]), index))
    return [
        Standing(place, index, _is_usable(results[index]), _reason(results[index]))
        for place, index in enumerate(order, start=1)
    ]


def _key(result: Mapping[str, Any]) -> tuple[float, ...]:
    evidence, usage = _object(result, "evidence"), _object(result, "gateway_usage")
    total = _object(usage, "total") or usage
    return (
        _STATUS.get(str(result.get("status")), len(_STATUS)),
        # A change beats none: "nothing to do" is the cheapest lie of all.
        0 if _files(result) else 1,
        _VERDICT.get(str(evidence.get("verdict")), 1),
        -_passed(result),
        len(_list(evidence, "differences")),
        len(_list(result, "warnings")),
        sum(int(file.get("added") or 0) + int(file.get("removed") or 0) for file in _files(result)),
        float(total.get("cost_usd") or 0.0),
        float(result.get("wall_s") or 0.0),
    )


def _is_usable(result: Mapping[str, Any]) -> bool:
    return result.get("status") == "success" and bool(_files(result))


def _reason(result: Mapping[str, Any]) -> str:
    if error := result.get("error"):
        return str(error)[:120]
    parts = [str(result.get("status", "unknown"))]
    seen = _list(_object(result, "evidence"), "after")
    if seen:
        parts.append(f"{_passed(result)} of {len(seen)} validation commands passed")
    count = len(_files(result))
    parts.append(f"{count} changed file{'s' if count != 1 else ''}" if count else "nothing changed")
    return ", ".join(parts)


def _passed(result: Mapping[str, Any]) -> int:
    return sum(one.get("status") == "passed" for one in _list(_object(result, "evidence"), "after"))


def _files(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return _list(_object(result, "delta"), "files")


def _object(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = source.get(name)
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}


def _list(source: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = source.get(name)
    return cast("list[dict[str, Any]]", found) if isinstance(found, list) else []
