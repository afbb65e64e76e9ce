"""What `mode: "auto"` becomes: read, review or write, with the reason and the words it was taken from.

Wrong in one direction costs a question, wrong in the other costs a change nobody asked for: without a clear
word for writing the answer is read, and where somebody asks to judge and to change at once, judging comes
first. The reasons' names and their order are those of `codex-claude` 0.1.18.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Mode = Literal["read", "review", "write"]
Requested = Literal["auto", "read", "review", "write"]
Reason = Literal[
    "explicit",
    "diff",
    "constraints",
    "query_prefix_override",
    "mixed_intent_review_first",
    "write_hints",
    "review_hints",
    "read_hints",
    "files_fallback",
    "default_read",
]
Confidence = Literal["high", "medium", "low"]

# Whole words, any inflection; Chinese and Japanese have no word ends to look for.
_WRITE = re.compile(
    r"\b(?:implement|add|creat|writ|fix|chang|modif|updat|refactor|renam|remov|delet|replac|mov|migrat|"
    r"convert|rewrit|edit|extend|upgrad|bump|introduc|insert|apply|make)(?:e|es|ed|ing|s|y|ies|ied)?\b"
    r"|实现|添加|新增|创建|编写|修复|修改|更改|更新|重构|重命名|删除|替换|迁移"
    r"|実装|追加|作成|修正|変更|更新|削除|置き換え|移行|リファクタ",
    re.IGNORECASE,
)
_REVIEW = re.compile(
    r"\b(?:review|audit|critiqu|inspect|assess|evaluat|vet)(?:e|es|ed|ing|s)?\b|\bcode review\b"
    r"|\b(?:find|look for|check for) (?:\w+ ){0,2}(?:bugs?|issues?|problems?|vulnerabilit(?:y|ies)|flaws?)\b"
    r"|审查|审核|评审|检查代码|代码检查|レビュー|監査|点検",
    re.IGNORECASE,
)
_READ = re.compile(
    r"\b(?:explain|describ|summari[sz]|list|show|find|locat|search|tell|outlin|understand|trac|compar|count)"
    r"(?:e|es|ed|ing|s)?\b"
    r"|^\s*(?:what|where|why|how|which|who|when|does|is|are|can|could|do (?:you|we|they|i))\b"
    r"|解释|说明|描述|总结|列出|查找|哪里|什么|为什么|怎么|説明|要約|一覧|どこ|なぜ|何",
    re.IGNORECASE | re.MULTILINE,
)
# "为什么修改…" asks about a change; it does not ask for one.
_QUERY_PREFIX = re.compile(
    r"^\s*(?:请问|为什么|什么是|怎么|如何|哪里|哪个|解释|说明|なぜ|どうして|どこ|説明)"
)
# The same in English: a question about changing is a question.
_QUESTION = re.compile(
    r"^\s*(?:what|where|why|how|which|who|when|does|is|are|do (?:you|we|they|i)|explain|describe)\b",
    re.IGNORECASE,
)

_MOST_HINTS = 5


class ModeInference(NamedTuple):
    """How the mode came about; the field names are the seed's.

    Attributes:
        requested_mode: what the caller said.
        delegated_mode: what the worker is started as.
        reason: the rule that decided.
        confidence: how sure the rule is.
        matched_hints: the words it was taken from, as they stand in the task.
    """

    requested_mode: Requested
    delegated_mode: Mode
    reason: Reason
    confidence: Confidence
    matched_hints: tuple[str, ...] = ()


def infer_mode(
    requested: Requested,
    task: str,
    *,
    has_diff: bool = False,
    has_constraints: bool = False,
    has_files: bool = False,
) -> ModeInference:
    """Decide what a task is.

    Args:
        requested: `auto`, or a mode that is then simply taken.
        task: the task's text.
        has_diff: a diff came with it: something to look at.
        has_constraints: limits for a change came with it.
        has_files: files were named.
    """

    def decided(
        mode: Mode, reason: Reason, confidence: Confidence, hints: tuple[str, ...] = ()
    ) -> ModeInference:
        return ModeInference(requested, mode, reason, confidence, hints)

    if requested != "auto":
        return decided(requested, "explicit", "high")
    if has_diff:
        return decided("review", "diff", "high")
    if has_constraints:
        return decided("write", "constraints", "high")
    if found := _QUERY_PREFIX.search(task):
        return decided("read", "query_prefix_override", "high", (found.group().strip(),))
    write, review, read = _hints(_WRITE, task), _hints(_REVIEW, task), _hints(_READ, task)
    if write and review:
        return decided("review", "mixed_intent_review_first", "medium", (*review, *write)[:_MOST_HINTS])
    if write and not _QUESTION.search(task):
        return decided("write", "write_hints", "medium" if read else "high", write)
    if review:
        return decided("review", "review_hints", "high", review)
    if read:
        return decided("read", "read_hints", "high", read)
    if has_files:
        return decided("review", "files_fallback", "low")
    return decided("read", "default_read", "low")


def _hints(pattern: re.Pattern[str], task: str) -> tuple[str, ...]:
    """The distinct words found, in the order they stand."""
    return tuple(dict.fromkeys(found.group().strip().lower() for found in pattern.finditer(task)))[
        :_MOST_HINTS
    ]
