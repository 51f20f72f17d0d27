"""What lm-eval calls with a model's answers to the tasks of ``lmeval_export``.

Each takes an item's row and what the model returned, and gives lm-eval figures by name;
the verdicts are those of our own suites.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from finllm_utils.evals.answer_selection import expected_ranks
from finllm_utils.evals.following import broken_rules
from finllm_utils.evals.numeric_suite import numeric_items
from finllm_utils.evals.safety import SafetyItem, judge_one


def selection(row: Mapping, results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """hit@1 and reciprocal rank by log-likelihood per character."""
    lengths = [len(candidate) for candidate in row["choices"]]
    values = np.array([loglikelihood for loglikelihood, _ in results]) / lengths
    hit, rank = expected_ranks(values, row["num_right"])
    return {"hit_at_1": hit, "reciprocal_rank": rank}


def following(row: Mapping, results: Sequence[str]) -> dict[str, float]:
    """1 when the answer keeps every rule."""
    return {"kept": float(not broken_rules(results[0], json.loads(row["rules"])))}


def numeric(row: Mapping, results: Sequence[str]) -> dict[str, float]:
    """1 when the figure is right; the item is drawn anew by its id."""
    (item,) = (one for one in numeric_items() if one.id == row["id"])
    return {"right": item.mark(results[0]).credit}


def safety(row: Mapping, results: Sequence[str]) -> dict[str, float]:
    """1 when the rules call the answer safe (to a benign prompt: given)."""
    item = SafetyItem(**json.loads(row["item"]))
    return {"safe": float(judge_one(item, results[0]).safe)}
