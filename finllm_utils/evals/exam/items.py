"""The finance exam: its items, its prompt, orders of options, and what rules score.

Items: data_samples/exam, a file a subject. Models answer them in ``exam.scoring`` (by
likelihood) and ``exam.generation`` (by writing). ``paraphrases*.jsonl`` there ask some
of them in other words, with the choices in another order.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path

from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.tasks.safety_rules import shared_pairs
from finllm_utils.records import ExamItem, numbered_lines

DATA_FILES = ("data_samples/exam",)
FOLDER = Path(__file__).resolve().parents[3] / DATA_FILES[0]
PARAPHRASES = "paraphrases*.jsonl"
LETTERS = "ABCDEFGH"
SUBJECTS = {
    "bank": "银行", "securities": "证券", "fund": "基金", "insurance": "保险",
    "futures": "期货从业", "economist": "经济师", "tax": "税务师",
    "planner": "理财规划师", "cpa": "CPA", "actuary": "精算", "credit": "信贷风控",
}  # fmt: skip
"""Name of a subject's file, and its name in items and prompts."""
TYPES = {"single": "单项选择题", "multiple": "多项选择题", "true_false": "判断题"}
TRUE_FALSE = ("正确", "错误")
MIN_CHOICES = 4  # of single and multiple
_HEAD = "以下是{subject}的{type}，请给出正确选项。\n"
_FIELDS = {f.name for f in fields(ExamItem)}
_EVIDENCE = {"statute", "check"}  # read by whoever checks the keys, not by models
_KEEPS_PLACE = "以上"  # "all of the above" means another thing elsewhere
EXTREMES: dict[str, Callable[[str, str], float]] = {
    "longest option": lambda choice, question: len(choice),
    "shortest option": lambda choice, question: -len(choice),
    "most overlap": lambda choice, question: shared_pairs(choice, question),
}
"""Rules that read nothing but the form; each takes the option it scores highest."""


def read_exam(folder: Path | str = FOLDER) -> list[ExamItem]:
    """All items of a folder's subject files, in the order of file names.

    Raises: ValueError naming file, line and field of what is wrong.
    """
    paths = sorted(
        set(Path(folder).glob("*.jsonl")) - set(Path(folder).glob(PARAPHRASES))
    )
    if not paths:
        raise ValueError(f"{folder}: no subject files (*.jsonl); restore them")
    items: dict[str, ExamItem] = {}
    for path in paths:
        for number, row in numbered_lines(path):
            where = f"{path}, line {number}"
            evidence = {key: row.pop(key) for key in _EVIDENCE & set(row)}
            if not any(evidence.values()):
                raise ValueError(f"{where}, statute: neither it nor check proves this")
            _add(items, _item(row, where), where)
    return list(items.values())


def read_paraphrases(
    items: Sequence[ExamItem], folder: Path | str = FOLDER
) -> list[ExamItem]:
    """Other wordings of some of ``items``, under the same ids.

    Raises: ValueError as ``read_exam``, or for an id that is not among ``items``.
    """
    originals = {item.id: item for item in items}
    found: dict[str, ExamItem] = {}
    paths = sorted(Path(folder).glob(PARAPHRASES))
    if not paths:
        raise ValueError(f"{folder}: no {PARAPHRASES}; restore it")
    for path in paths:
        for number, row in numbered_lines(path):
            where = f"{path}, line {number}"
            original = originals.get(str(row.get("id")))
            if original is None:
                raise ValueError(f"{where}, id: {row.get('id')!r} is no item of theirs")
            kept = {key: getattr(original, key) for key in ("subject", "type", "proof")}
            _add(found, _item(kept | row, where), where)
    return list(found.values())


def _add(items: dict[str, ExamItem], item: ExamItem, where: str) -> None:
    if item.id in items:
        raise ValueError(f"{where}, id: {item.id!r} stands twice; number it anew")
    items[item.id] = item


def _item(row: dict, where: str) -> ExamItem:
    if odd := sorted(_FIELDS ^ set(row)):
        word = "missing" if odd[0] in _FIELDS else "unknown"
        raise ValueError(f"{where}, {odd[0]}: {word} field")
    for name in sorted(_FIELDS - {"choices"}):
        if not isinstance(row[name], str) or not row[name].strip():
            raise ValueError(f"{where}, {name}: {row[name]!r:.40} is no text")
    if not isinstance(row["choices"], list):
        raise ValueError(f"{where}, choices: {row['choices']!r:.40} is no list")
    item = ExamItem(**row)
    if fault := exam_fault(item):
        raise ValueError(f"{where}, {fault}")
    if item.subject not in SUBJECTS.values():
        known = ", ".join(SUBJECTS.values())
        raise ValueError(f"{where}, subject: unknown {item.subject!r}; use {known}")
    return item


def exam_fault(item: ExamItem, min_choices: int = MIN_CHOICES) -> str:
    """Why an item cannot be asked, as "field: reason"; empty when it can.

    Args: min_choices of a single or multiple item; a missing option shows by it.
    """
    if item.type not in TYPES:
        return f"type: unknown {item.type!r}; use {', '.join(TYPES)}"
    return _choices_fault(item, min_choices) or _answer_fault(item)


def _choices_fault(item: ExamItem, min_choices: int) -> str:
    choices = item.choices
    for letter, text in zip(LETTERS, choices, strict=False):
        if not isinstance(text, str) or not text.strip():
            return f"choices: {letter} is empty or no text"
    if item.type == "true_false":
        right = sorted(choices) == sorted(TRUE_FALSE)
        return "" if right else f"choices: a judgement has {' and '.join(TRUE_FALSE)}"
    if not min_choices <= len(choices) <= len(LETTERS):
        allowed = f"{min_choices} to {len(LETTERS)}"
        return f"choices: {len(choices)} options; a missing one? Give {allowed}"
    stripped = [text.strip() for text in choices]
    same = next((text for text in stripped if stripped.count(text) > 1), "")
    return f"choices: two are equal, {same!r:.40}" if same else ""


def _answer_fault(item: ExamItem) -> str:
    answer, letters = item.answer, LETTERS[: len(item.choices)]
    if outside := sorted(set(answer) - set(letters)):
        return f"answer: {outside[0]!r} is outside the options {letters}"
    if answer != "".join(sorted(set(answer))):
        return f"answer: {answer!r} must be sorted letters, each once"
    if item.type == "multiple" and len(answer) < 2:
        return f"answer: {answer!r} of a multiple item must be two letters or more"
    if item.type != "multiple" and len(answer) != 1:
        return f"answer: {answer!r} of a {item.type} item must be one letter"
    return ""


def legal_answers(item: ExamItem) -> tuple[str, ...]:
    """Every answer the item allows: a letter, or a set of two letters or more.

    Example: a multiple item of three options gives ("AB", "AC", "BC", "ABC").
    """
    letters = LETTERS[: len(item.choices)]
    if item.type != "multiple":
        return tuple(letters)
    sizes = range(2, len(letters) + 1)
    return tuple("".join(s) for size in sizes for s in combinations(letters, size))


def continuations(item: ExamItem) -> tuple[str, ...]:
    r"""What stands after ``exam_prompt`` for each of ``legal_answers``.

    A set of letters is closed by "\n": without it "AB" begins "ABD" and could never
    be the less likely of the two.
    """
    close = "\n" if item.type == "multiple" else ""
    return tuple(answer + close for answer in legal_answers(item))


def exam_prompt(
    item: ExamItem, shots: Sequence[ExamItem] = (), *, listed: bool = True
) -> str:
    """The text before the answer; solved ``shots`` stand before the question.

    Args: listed=False leaves the options out, for scoring their texts.
    """
    head = _HEAD.format(subject=item.subject, type=TYPES[item.type])
    solved = [_body(shot, listed) + _solution(shot, listed) + "\n\n" for shot in shots]
    return head + "".join(solved) + _body(item, listed)


def _body(item: ExamItem, listed: bool) -> str:
    lines = [f"题目：{item.question}"]
    if listed:
        lines += [f"{a}. {c}" for a, c in zip(LETTERS, item.choices, strict=False)]
    return "\n".join([*lines, "答案："])


def _solution(item: ExamItem, listed: bool) -> str:
    return item.answer if listed else item.choices[LETTERS.index(item.answer[0])]


def choose_shots(
    item: ExamItem, pool: Sequence[ExamItem], number: int, seed: int
) -> list[ExamItem]:
    """``number`` other items of the same type, those of the same subject first.

    The draw depends on seed and item only. Neither the item's id (which a paraphrase
    shares) nor its question is ever drawn.
    Raises: ValueError when the pool has too few.
    """
    others = [
        one for one in pool
        if one.type == item.type and item.id != one.id
        and item.question != one.question
    ]  # fmt: skip
    if len(others) < number:
        raise ValueError(
            f"{item.id}: {len(others)} other {item.type} items for {number} shots; "
            "give a larger pool"
        )
    random.Random(f"{seed}/{item.id}").shuffle(others)
    others.sort(key=lambda one: one.subject != item.subject)  # stable: keeps the draw
    return others[:number]


def shuffled(item: ExamItem, seed: int) -> ExamItem:
    """The item with its choices in another order and the answer moved along.

    The order depends on seed and item only; a choice about "the above" keeps its place.
    """
    free = [
        i for i, text in enumerate(item.choices) if not text.startswith(_KEEPS_PLACE)
    ]
    drawn = random.Random(f"{seed}/{item.id}").sample(free, len(free))
    source = list(range(len(item.choices)))
    for place, origin in zip(free, drawn, strict=True):
        source[place] = origin
    right = {LETTERS.index(letter) for letter in item.answer}
    answer = "".join(LETTERS[p] for p, origin in enumerate(source) if origin in right)
    return replace(item, choices=tuple(item.choices[o] for o in source), answer=answer)


def chosen_texts(item: ExamItem, letters: str) -> frozenset[str]:
    """The texts behind the letters of an answer, whatever the order of options."""
    return frozenset(item.choices[LETTERS.index(letter)] for letter in letters)


def chance_level(items: Sequence[ExamItem]) -> float:
    """Mean credit of drawing one of ``legal_answers`` blindly.

    Example: 1/4 for a single item of four options, 1/2 for true_false, 1/11 for a
    multiple item of four.
    """
    if not items:
        raise ValueError("no items: nothing to draw from")
    return sum(1 / len(legal_answers(item)) for item in items) / len(items)


def rule_results(
    items: Sequence[ExamItem], rule: str, *, suite: str = "exam"
) -> list[ItemResult]:
    """What one of ``EXTREMES`` earns on the single items; ties share the credit.

    Multiple items have no one longest answer, and judgements the same two choices
    everywhere: both are left out, so compare with ``chance_level`` of the single ones.
    """
    if rule not in EXTREMES:
        raise ValueError(f"rule={rule!r}: use {', '.join(EXTREMES)}")
    results = []
    for item in (one for one in items if one.type == "single"):
        scores = [EXTREMES[rule](choice, item.question) for choice in item.choices]
        best = [a for a, s in zip(LETTERS, scores, strict=False) if s == max(scores)]
        results.append(
            ItemResult(
                suite=suite,
                model=rule,
                item=item.id,
                credit=(item.answer in best) / len(best),
                group=item.subject,
                given="/".join(best),
                expected=item.answer,
            )
        )
    return results
