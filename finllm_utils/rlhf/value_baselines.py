"""What tells the better answer of a pair without understanding it, value by value.

Three rules to stand beside a reward model in one table: the length alone, logistic
regression on the characters of the answers without their question, and words shared
with the question. A value where a rule scores far above one half gives itself away,
and a reward model's accuracy there proves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.preference_baselines import (
    QuestionBlind,
    accuracy,
    overlap_margins,
    shorter_margins,
    wilson_bounds,
)
from finllm_utils.rlhf.value_pairs import by_value

LENGTH, GRAMS, OVERLAP = "length", "characters", "overlap"


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyRow:
    """How often one rule prefers the chosen answer, among the pairs of one value."""

    rule: str
    value: str  # or value_pairs.ALL
    num_pairs: int
    share: float  # a tie counts half
    low: float
    high: float


def accuracy_rows(
    rule: str, pairs: Sequence[PreferencePair], margins: Sequence[float]
) -> list[AccuracyRow]:
    """One row a value and one for all pairs, with 95% Wilson intervals.

    Args: margins says for each pair how much the rule prefers the chosen answer: of a
    reward model, give ``reward_model.pair_margins``.
    Raises: ValueError when there is no pair, or not one margin a pair.
    """
    if not pairs or len(pairs) != len(margins):
        raise ValueError(
            f"rule {rule!r}: {len(margins)} margins for {len(pairs)} pairs; give one "
            "margin a pair, and at least one pair"
        )
    margins = np.asarray(margins, dtype=np.float64)
    rows = []
    for value, places in by_value(pairs).items():
        share = accuracy(margins[places])
        low, high = wilson_bounds(share, len(places))
        rows.append(
            AccuracyRow(
                rule=rule,
                value=value,
                num_pairs=len(places),
                share=share,
                low=low,
                high=high,
            )
        )
    return rows


def baseline_rows(
    train: Sequence[PreferencePair], test: Sequence[PreferencePair]
) -> list[AccuracyRow]:
    """Rows of the three rules on ``test``; what they need to know is from ``train``."""
    blind = QuestionBlind(train, named=True)
    return [
        *accuracy_rows(LENGTH, test, length_margins(train, test)),
        *accuracy_rows(GRAMS, test, blind.margins(test)),
        *accuracy_rows(OVERLAP, test, overlap_margins(test)),
    ]


def length_margins(
    train: Sequence[PreferencePair], test: Sequence[PreferencePair]
) -> list[int]:
    """Characters by which the chosen answer is shorter; longer, if that wins in train.

    One direction for all values: a rule that may choose again for each would fit noise.
    """
    sign = 1 if accuracy(shorter_margins(train)) >= 0.5 else -1
    return [sign * margin for margin in shorter_margins(test)]
