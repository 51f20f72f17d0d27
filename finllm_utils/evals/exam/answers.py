"""Reads the letters out of a written exam answer: rules, no model.

In this order: the last statement of the answer (答案：B, 故选 ABD, the answer is B);
what the text begins with (B. …, （A、C）); what it calls right (A、B 项正确); a verdict
on a judgement; a first line that is word for word one of the choices. Only what stands
before the next question counts, since small models go on to invent one. Not read: an
answer given by describing an option, or by ruling out all others.
"""

import re
from unicodedata import normalize

from finllm_utils.evals.exam.items import LETTERS, TRUE_FALSE
from finllm_utils.records import ExamItem

_WORD = r"[A-H]+(?![A-Z股])"
_SET = rf"(?>{_WORD}(?:(?:[\s、,;/]|和|与|及|以及)+{_WORD})*)"  # all of it or nothing
_NOT_WRONG = r"(?!(?:选?项)?(?:都|均|是|为)*(?:错|不正确|不对|不符|有误|×))"
_OPEN = r"[\s\"'“‘(\[【《*:]*"
_STATED = re.compile(
    rf"(?:(?:答案|ANSWER)\s*(?:选项|IS|应?[为是选])?|(?<![不别备候供可])选(?:择|项)?)"
    rf"{_OPEN}({_SET}){_NOT_WRONG}"
)
_FIRST = re.compile(
    rf"^{_OPEN}({_SET})(?=[.。、,;:)\]】\"'”’*\n]|\s*$|\s+[\u4e00-\u9fff])"
)
_RIGHT = re.compile(rf"({_SET})\s*(?:选?项)?(?:都|均|是)*(?:正确|对的|符合题意)")
_VERDICT = re.compile(r"(不正确|不对|不准确|错误|错|×|正确|对|√|FALSE|TRUE)")
_WRONG = {"不正确", "不对", "不准确", "错误", "错", "×", "FALSE"}
_JUDGED = re.compile(
    rf"(?:答案|判断|结论|说法|表述|观点|题干?|这|该句话|ANSWER)\s*(?:应?[为是]|IS)?{_OPEN}"
    rf"{_VERDICT.pattern}"
)
_OPENING = re.compile(rf"^{_OPEN}{_VERDICT.pattern}")
_NEXT_QUESTION = re.compile(r"\n\s*(?:题目|以下是)")


def read_answer(text: str, item: ExamItem) -> str:
    """The letters a text answers with, sorted, each once; empty when none are found.

    They need not be legal: a single item may be answered with two letters.
    Example: "故选A、D。" gives "AD".
    """
    text = normalize("NFKC", text).strip().upper()
    text = _NEXT_QUESTION.split(text)[0]
    stated = _STATED.findall(text)
    if stated:
        return _letters(stated[-1])
    if first := _FIRST.search(text):
        return _letters(first[1])
    if item.type == "true_false" and (verdict := _verdict(text)):
        return LETTERS[item.choices.index(verdict)]
    if item.type != "true_false" and (right := _RIGHT.findall(text)):
        return _letters("".join(right))
    return _quoted(text, item)


def _letters(found: str) -> str:
    return "".join(sorted(set(found) & set(LETTERS)))


def _verdict(text: str) -> str:
    """One of ``TRUE_FALSE``: the last one stated, else what the text opens with."""
    stated = _JUDGED.findall(text)
    opening = _OPENING.search(text)
    if not stated and not opening:
        return ""
    word = stated[-1] if stated else opening[1]
    return TRUE_FALSE[word in _WRONG]


def _quoted(text: str, item: ExamItem) -> str:
    """The letter of the choice that is the whole first line."""
    line = text.split("\n")[0].strip(" .。\"'“”*")
    same = [
        letter
        for letter, choice in zip(LETTERS, item.choices, strict=False)
        if normalize("NFKC", choice).strip(" .。").upper() == line
    ]
    return same[0] if len(same) == 1 else ""
