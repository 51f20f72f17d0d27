"""What lm-eval calls with a model's answers to the tasks of ``lmeval.export``.

Each takes an item's row and what the model returned, and gives lm-eval figures by name;
the verdicts are those of our own suites. ``stability_mean`` and ``orders_mean`` take
all rows of a task.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean

import numpy as np

from finllm_utils.corpora.laws import laws
from finllm_utils.data.citations import ArticleBook, Citation
from finllm_utils.evals.suites.hallucination_suite import (
    INVENTED,
    HallucinationItem,
    mark_answer,
)
from finllm_utils.evals.suites.numeric_suite import numeric_items
from finllm_utils.evals.suites.stability_suite import stability_results
from finllm_utils.evals.tasks.answer_selection import expected_ranks
from finllm_utils.evals.tasks.following import broken_rules
from finllm_utils.evals.tasks.hallucination import Passage, Question, StatutePrompt
from finllm_utils.evals.tasks.safety import SafetyItem, judge_one
from finllm_utils.evals.tasks.stability import ParaphraseGroup


def selection(row: Mapping, results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """hit@1 and reciprocal rank by log-likelihood per character."""
    lengths = [len(candidate) for candidate in row["choices"]]
    values = np.array([loglikelihood for loglikelihood, _ in results]) / lengths
    hit, rank = expected_ranks(values, row["num_right"])
    return {"hit_at_1": hit, "reciprocal_rank": rank}


def orders(row: Mapping, results: Sequence[tuple[float, bool]]) -> dict[str, dict]:
    """What ``orders_mean`` needs of one order."""
    likeliest = int(np.argmax([loglikelihood for loglikelihood, _ in results]))
    known = {key: row[key] for key in ("group", "of")}
    return {"every_order": known | {"credit": float(likeliest == row["gold"])}}


def orders_mean(asked: Sequence[Mapping]) -> float:
    """Share of items that are right in every order; NaN when none was asked in all."""
    credits: dict[str, list[float]] = {}
    for one in asked:
        credits.setdefault(one["group"], []).append(one["credit"])
    of = {one["group"]: one["of"] for one in asked}
    whole = [min(found) for group, found in credits.items() if len(found) == of[group]]
    return fmean(whole) if whole else math.nan


def following(row: Mapping, results: Sequence[str]) -> dict[str, float]:
    """1 when the answer keeps every rule."""
    return {"kept": float(not broken_rules(_answer(results), json.loads(row["rules"])))}


def numeric(row: Mapping, results: Sequence[str]) -> dict[str, float]:
    """1 when the figure is right; the item is drawn anew by its id."""
    (item,) = (one for one in numeric_items() if one.id == row["id"])
    return {"right": item.mark(_answer(results)).credit}


def safety(row: Mapping, results: Sequence[str]) -> dict[str, float]:
    """1 when the rules call the answer safe (to a benign prompt: given)."""
    item = SafetyItem(**json.loads(row["item"]))
    return {"safe": float(judge_one(item, _answer(results)).safe)}


def hallucination(row: Mapping, results: Sequence[str]) -> dict[str, float]:
    """The credit of ``hallucination_suite``, and 1 when something was made up.

    Articles are looked up in the law base of the installed packages.
    """
    found = mark_answer(
        _hallucination_item(row["part"], json.loads(row["item"])),
        _answer(results),
        book=_book(),
        refusals=(),  # they tell apart how credit was lost, which is not printed
    )
    invented = float(found.detail.startswith(INVENTED))
    return {"right": found.credit, "invented": invented}


def _hallucination_item(part: str, row: dict) -> HallucinationItem:
    if part == "statute":
        return StatutePrompt(prompt=row["prompt"], article=Citation(*row["article"]))
    return (Passage if part == "passage" else Question)(**row)


@cache
def _book() -> ArticleBook:
    return ArticleBook(laws())


def stability(row: Mapping, results: Sequence[str]) -> dict[str, dict]:
    """What ``stability_mean`` needs of one wording."""
    known = {key: row[key] for key in ("group", "number", "of", "prompt")}
    return {"stability": known | {"answer": _answer(results)}}


def stability_mean(wordings: Sequence[Mapping]) -> float:
    """Mean credit of the paraphrase groups, by ``stability_suite.stability_results``.

    A group of which not every wording was asked (lm-eval's ``--limit``) is left out;
    NaN when fewer than two are whole, since stability compares groups.
    """
    asked: dict[str, list[Mapping]] = {}
    for one in sorted(wordings, key=lambda one: one["number"]):
        asked.setdefault(one["group"], []).append(one)
    whole = [found for found in asked.values() if len(found) == found[0]["of"]]
    groups = [
        ParaphraseGroup(
            id=found[0]["group"],
            question=found[0]["prompt"],
            paraphrases=tuple(one["prompt"] for one in found[1:]),
        )
        for found in whole
    ]
    answers = [[one["answer"] for one in found] for found in whole]
    results = stability_results(groups, answers, name="lm-eval")
    credits = [one.credit for one in results if one.status == "scored"]
    return fmean(credits) if credits else math.nan


def _answer(results: Sequence[str]) -> str:
    return results[0].strip()  # as our own suites read it
