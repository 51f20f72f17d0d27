"""What an exam gives to those who know nothing: rules that never read the question.

A rule that likes several choices alike shares the credit among them, as a guess would.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from finllm_utils.evals.exam.items import LETTERS
from finllm_utils.records import ExamItem


def exam_baselines(items: Sequence[ExamItem], texts: Iterable[str]) -> dict[str, float]:
    """{rule: mean credit} over the items with one right choice.

    Rules: ``chance``; ``longest`` and ``shortest`` choice; ``majority``, the letter
    right most often; ``frequent``, the choice that stands most often in ``texts``.
    True or false items have choices of their own, so for them ``frequent`` and the
    rules of length say nothing: they get the credit of chance.
    Raises: ValueError when there is no item with one right choice.
    """
    items = [item for item in items if len(item.answer) == 1]
    if not items:
        raise ValueError(
            "no item with one right choice: pass single or true_false items"
        )
    whole = "\n".join(texts)
    counts = {c: whole.count(c) for item in items for c in item.choices}
    common = Counter(item.answer for item in items).most_common(1)[0][0]
    rules: dict[str, Callable[[str], float]] = {
        "longest": len,
        "shortest": lambda choice: -len(choice),
        "frequent": counts.__getitem__,
    }
    found = {
        "chance": float(np.mean([1 / len(item.choices) for item in items])),
        "majority": float(np.mean([item.answer == common for item in items])),
    }
    for name, rule in rules.items():
        found[name] = float(np.mean([top_credit(item, rule) for item in items]))
    return found


def top_credit(item: ExamItem, rule: Callable[[str], float]) -> float:
    """Credit of taking the choice that ``rule`` scores highest; a tie shares it."""
    if item.type == "true_false":
        return 1 / len(item.choices)
    scores = [rule(choice) for choice in item.choices]
    best = [i for i, score in enumerate(scores) if score == max(scores)]
    return sum(LETTERS[i] in item.answer for i in best) / len(best)
