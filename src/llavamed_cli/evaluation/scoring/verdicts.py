"""What an answer decides, yes or no, in English and Chinese. "abnormal" is never a "no", nor is 不正常.

English: the first whole word that is "yes" or "no". Chinese: the first clause that begins with one of the phrases
below; a single character (是, 有, 不, 无) counts only where it is the whole clause, since 是否, 有可能 and 无法 decide
nothing. The phrases are those of SLAKE's Chinese answers with their usual variants. What decides nothing is
"unparsed", and right of no question: "It is not" and "cannot tell" alike. A rule this plain misreads an answer such as
"No abnormality" to "Is it normal?"; it can be checked by eye, and cannot be pleased by saying both.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

Verdict = Literal["yes", "no", "unparsed"]

HAN = "\u3400-\u4dbf\u4e00-\u9fff"
HAN_CHARACTER = re.compile(f"[{HAN}]")
ENGLISH = re.compile(r"(?<![^\W_])(yes|no)(?![^\W_]|['’][^\W_]|\.\d)")
BEGINS = re.compile(r"[\W_]*" + ENGLISH.pattern)
CLAUSE_END = re.compile(r"[,.;:!?、。\n\s]+")
CHINESE: dict[str, Verdict] = {
    **dict.fromkeys(("是的", "对的", "有的", "包含", "包括", "存在", "可以"), "yes"),
    **dict.fromkeys(("不是", "没有", "不包含", "不包括", "不存在", "不可以", "无异常"), "no"),
}
"""Decide wherever a clause begins with them."""
CHINESE_WHOLE: dict[str, Verdict] = {
    **dict.fromkeys(("是", "对", "有", "能", "会", "正确"), "yes"),
    **dict.fromkeys(("否", "不", "没", "无", "不对", "不能", "不会", "不正确"), "no"),
}
"""Decide where a clause is nothing else."""
TEXTS_KEPT = 8192


@lru_cache(maxsize=TEXTS_KEPT)
def yes_or_no(text: str) -> Verdict:
    """What an answer decides; "unparsed" if it has no such word."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    if not HAN_CHARACTER.search(plain):
        found = ENGLISH.search(plain)
        return "unparsed" if found is None else _english(found)
    for clause in CLAUSE_END.split(plain):
        verdict = _clause(clause)
        if verdict != "unparsed":
            return verdict
    return "unparsed"


def asks_yes_or_no(reference: str) -> Verdict:
    """The verdict a question's reference answer begins with; "unparsed" if it is another kind of answer."""
    plain = unicodedata.normalize("NFKC", reference).casefold().strip()
    first = next((clause for clause in CLAUSE_END.split(plain) if clause), "")
    english = BEGINS.match(first)
    return _english(english) if english is not None else _chinese(first)


def _clause(clause: str) -> Verdict:
    found = ENGLISH.search(clause)
    return _chinese(clause) if found is None else _english(found)


def _chinese(clause: str) -> Verdict:
    if clause in CHINESE_WHOLE:
        return CHINESE_WHOLE[clause]
    return next((verdict for phrase, verdict in CHINESE.items() if clause.startswith(phrase)), "unparsed")


def _english(found: re.Match[str]) -> Verdict:
    return "yes" if found[1] == "yes" else "no"
