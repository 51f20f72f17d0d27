"""Exam items of a line each, which the tests of the exam share."""

from dataclasses import replace

from finllm_utils.records import ExamItem

FOUR = ("甲", "乙", "丙", "丁")
JUDGED = ("正确", "错误")


def exam_item(key: str, answer: str, *choices: str, question: str = "问") -> ExamItem:
    """An item of one right letter or of several."""
    kind = "single" if len(answer) == 1 else "multiple"
    return ExamItem(
        id=key, subject="银行", type=kind, question=question, choices=choices,
        answer=answer, proof="-",
    )  # fmt: skip


def three_kinds(
    question: str = "按什么计息？",
    choices: tuple[str, ...] = ("季", "按活期", "日", "十年"),
) -> tuple[ExamItem, ExamItem, ExamItem]:
    """A single, a multiple and a judgement that ask the same: B, ABD and A."""
    single = exam_item("exam/bank/001", "B", *choices, question=question)
    several = replace(single, id="exam/bank/002", type="multiple", answer="ABD")
    judged = replace(
        single, id="exam/bank/003", type="true_false", choices=JUDGED, answer="A"
    )
    return single, several, judged


def turning(number: int) -> list[ExamItem]:
    """Singles whose right letter is A, B, C, D and A again."""
    return [exam_item(f"x{i}", "ABCD"[i % 4], *FOUR) for i in range(number)]
