"""What makes a row of a published exam an item, and what is wrong with one that is not.

Types: CFLUE states them; elsewhere several letters make a multi-select item and two
options such as 对 and 错 a true/false one, whose choices become 正确 and 错误.
"""

import unicodedata
from dataclasses import dataclass

from finllm_utils.evals.exam.items import LETTERS, TRUE_FALSE, exam_fault
from finllm_utils.evals.exam.published_files import BrokenChoices, Row
from finllm_utils.records import ExamItem

_TASKS = {
    "": "", "单项选择题": "single", "单选题": "single", "多项选择题": "multiple",
    "多选题": "multiple", "不定项选择题": "multiple", "判断题": "true_false",
}  # fmt: skip
_TRUE = {"对", "正确", "是", "√", "true", "t", "yes"}
_FALSE = {"错", "错误", "否", "不正确", "不对", "×", "false", "f", "no"}
_SEPARATORS = " ,.;、；/\t"
MIN_CHOICES = 2  # published exams have items of two and three options
_BROKEN = "\ufffd"  # what stands where bytes could not be read


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that became no item: where it stands and why.

    ``faulty`` is False where nothing is wrong: no answer is published, or no exam is in
    the file.
    """

    file: str
    place: str
    reason: str
    faulty: bool = True

    def __str__(self) -> str:
        return f"{self.file}, {self.place}: {self.reason}"


class _Fault(Exception):
    """Why a row is no item."""


def problem(row: Row, reason: str, *, faulty: bool = True) -> Problem:
    """The problem ``reason`` of ``row``."""
    return Problem(row.file, row.place, reason, faulty)


def item_of(row: Row, prefix: str, subject: str) -> ExamItem | Problem:
    """The item of ``row``, its id prefix/row id, or what is wrong with the row.

    Args: subject is used where the row names none.
    """
    try:
        options = _options(row)
        if not row.answer:
            return problem(row, "no answer is published", faulty=False)
        kind, choices, answer = _solved(row, options)
    except _Fault as fault:
        return problem(row, str(fault))
    item = ExamItem(
        id=f"{prefix}/{row.id}", subject=row.subject or subject, type=kind,
        question=row.question, choices=choices, answer=answer, proof=row.proof,
    )  # fmt: skip
    fault = exam_fault(item, MIN_CHOICES)
    return problem(row, fault) if fault else item


def _options(row: Row) -> tuple[str, ...]:
    """The options, of a true/false row just the two."""
    if isinstance(row.options, BrokenChoices):
        raise _Fault(row.options.why)
    if not row.question:
        raise _Fault("the question is empty")
    if _BROKEN in row.question + "".join(row.options):
        raise _Fault("broken characters; save the file again from its source as UTF-8")
    options = row.options
    if not any(options[2:]) and _is_truth(options[:2]):
        return options[:2]
    if "" in options:
        raise _Fault(f"option {LETTERS[options.index('')]} is missing")
    return options


def _is_truth(options: tuple[str, ...]) -> bool:
    words = [_plain(option) for option in options]
    return len(words) == 2 and (
        (words[0] in _TRUE and words[1] in _FALSE)
        or (words[0] in _FALSE and words[1] in _TRUE)
    )


def _solved(row: Row, options: tuple[str, ...]) -> tuple[str, tuple[str, ...], str]:
    """(type, choices, answer), the answer as sorted letters."""
    if row.task not in _TASKS:
        raise _Fault(f"unknown task {row.task!r}; known are {', '.join(_TASKS)[2:]}")
    answer = _letters(row.answer, options)
    truth = _is_truth(options)
    kind = _TASKS[row.task] or (
        "true_false" if truth else "multiple" if len(answer) > 1 else "single"
    )
    if kind != "true_false" or not truth or len(answer) != 1:
        return kind, options, answer  # exam_fault tells what does not fit
    says_true = _plain(options[LETTERS.index(answer)]) in _TRUE
    return kind, TRUE_FALSE, "A" if says_true else "B"


def _letters(answer: str, options: tuple[str, ...]) -> str:
    """Sorted letters of an answer such as "B", "A,C" or "ＡＢ", or of a truth word."""
    plain = _plain(answer)
    if _is_truth(options) and plain in _TRUE | _FALSE:
        same = [(_plain(o) in _TRUE) == (plain in _TRUE) for o in options]
        return LETTERS[same.index(True)]
    found = "".join(c for c in plain.upper() if c not in _SEPARATORS)
    if not found or not set(found) <= set(LETTERS[: len(options)]):
        raise _Fault(f"answer: {answer!r:.40} is outside the {len(options)} options")
    return "".join(sorted(found))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip().strip("。.").lower()
