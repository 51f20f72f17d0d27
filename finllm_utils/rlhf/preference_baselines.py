"""What a preference test measures without understanding: three rules that never read.

A reward model's accuracy means something only beside them: the shorter answer wins,
logistic regression that never sees the question, and words shared with the question.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from finllm_utils.intervals import wilson_interval
from finllm_utils.records import PreferencePair


def accuracy(margins: Sequence[float]) -> float:
    """Share of pairs with a positive margin; a tie counts one half."""
    margins = np.asarray(margins, dtype=np.float64)
    return float((margins > 0).mean() + 0.5 * (margins == 0).mean())


def wilson_bounds(share: float, count: int) -> tuple[float, float]:
    """The 95% Wilson interval of a share seen in ``count`` trials."""
    return wilson_interval(share * count, count)


def shorter_margins(pairs: Sequence[PreferencePair]) -> list[int]:
    """Characters that the preferred answer is shorter by."""
    return [len(p.rejected) - len(p.chosen) for p in pairs]


def overlap_margins(pairs: Sequence[PreferencePair]) -> list[float]:
    """How much more of the question's character bigrams the preferred answer holds."""
    return [
        _overlap(p.prompt, p.chosen) - _overlap(p.prompt, p.rejected) for p in pairs
    ]


def _bigrams(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}


def _overlap(question: str, answer: str) -> float:
    wanted = _bigrams(question)
    return len(wanted & _bigrams(answer)) / max(1, len(wanted))


class QuestionBlind:
    """Logistic regression on the character bigrams of the answers alone."""

    def __init__(self, pairs: Sequence[PreferencePair], strength: float = 1.0) -> None:
        """Fits on ``pairs``; ``strength`` is the inverse of the ridge penalty."""
        self._count = HashingVectorizer(
            analyzer="char", ngram_range=(2, 2), n_features=2**16, alternate_sign=False
        )
        signs = np.where(np.arange(len(pairs)) % 2 == 0, 1.0, -1.0)  # both classes
        difference = self._difference(pairs).multiply(signs[:, None]).tocsr()
        self._model = LogisticRegression(
            C=strength, max_iter=500, fit_intercept=False
        ).fit(difference, signs)

    def margins(self, pairs: Sequence[PreferencePair]) -> list[float]:
        """Log-odds that the preferred answer is the preferred one."""
        return (self._difference(pairs) @ self._model.coef_[0]).tolist()

    def _difference(self, pairs: Sequence[PreferencePair]):
        chosen = self._count.transform(p.chosen for p in pairs)
        return chosen - self._count.transform(p.rejected for p in pairs)
