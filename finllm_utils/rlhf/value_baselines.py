"""What tells the better answer of a pair without understanding it, value by value.

Three rules to stand beside a reward model in one table: the length alone, logistic
regression on the characters of the answers without their question, and words shared
with the question. A value where a rule scores far above one half gives itself away,
and a reward model's accuracy there proves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.preference_baselines import (
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
    return [
        *accuracy_rows(LENGTH, test, length_margins(train, test)),
        *accuracy_rows(GRAMS, test, GramBlind(train).margins(test)),
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


class GramBlind:
    """Logistic regression on single characters and character pairs of the answers.

    ``preference_baselines.QuestionBlind`` is for thousands of long answers, where it
    hashes pairs of characters; here answers are few and short, single characters count
    too, and each keeps its name, so that ``telling`` can say what gives answers away.
    """

    def __init__(self, pairs: Sequence[PreferencePair], strength: float = 1.0) -> None:
        """Fits on ``pairs``; ``strength`` is the inverse of the ridge penalty.

        Raises: ValueError for fewer than two pairs.
        """
        if len(pairs) < 2:
            raise ValueError(
                f"{len(pairs)} training pairs: the regression needs at least two"
            )
        self._count = CountVectorizer(analyzer="char", ngram_range=(1, 2))
        self._count.fit(chain.from_iterable((p.chosen, p.rejected) for p in pairs))
        # Without an intercept a pair and its mirror image are one observation; every
        # second pair is mirrored because the solver asks for both classes.
        signs = np.where(np.arange(len(pairs)) % 2 == 0, 1.0, -1.0)
        difference = self._difference(pairs).multiply(signs[:, None]).tocsr()
        self._model = LogisticRegression(
            C=strength, max_iter=1000, fit_intercept=False
        ).fit(difference, signs)

    def margins(self, pairs: Sequence[PreferencePair]) -> list[float]:
        """Log-odds that the chosen answer is the chosen one; 0 for unknown grams."""
        return (self._difference(pairs) @ self._model.coef_[0]).tolist()

    def telling(self, count: int) -> list[tuple[str, float]]:
        """The ``count`` grams of largest weight; a positive one speaks for chosen."""
        weights = self._model.coef_[0]
        order = np.argsort(-np.abs(weights), kind="stable")[:count]
        names = self._count.get_feature_names_out()
        return [(str(names[i]), float(weights[i])) for i in order]

    def _difference(self, pairs: Sequence[PreferencePair]):
        chosen = self._count.transform(p.chosen for p in pairs).astype(np.float64)
        return chosen - self._count.transform(p.rejected for p in pairs)
