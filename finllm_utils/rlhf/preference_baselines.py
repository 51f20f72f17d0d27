"""What a preference test measures without understanding: three rules that never read.

A reward model's accuracy means something only beside them: the shorter answer wins,
logistic regression that never sees the question, and words shared with the question.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
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
    """Logistic regression on the characters of the answers, without their question.

    For thousands of long answers it hashes pairs of characters, of unit length a text.
    With ``named``, for few and short ones, it counts single characters too, and each
    keeps its name, so that ``telling`` can say what gives answers away.
    """

    def __init__(
        self,
        pairs: Sequence[PreferencePair],
        strength: float = 1.0,
        *,
        named: bool = False,
    ) -> None:
        """Fits on ``pairs``; ``strength`` is the inverse of the ridge penalty.

        Raises: ValueError for fewer than two pairs.
        """
        if len(pairs) < 2:
            raise ValueError(
                f"{len(pairs)} training pairs: the regression needs at least two"
            )
        self._count = (
            CountVectorizer(analyzer="char", ngram_range=(1, 2), dtype=np.float64)
            if named
            else HashingVectorizer(
                analyzer="char",
                ngram_range=(2, 2),
                n_features=2**16,
                alternate_sign=False,
            )
        )
        self._count.fit(chain.from_iterable((p.chosen, p.rejected) for p in pairs))
        # Without an intercept a pair and its mirror image are one observation; every
        # second pair is mirrored because the solver asks for both classes.
        signs = np.where(np.arange(len(pairs)) % 2 == 0, 1.0, -1.0)
        difference = self._difference(pairs).multiply(signs[:, None]).tocsr()
        self._model = LogisticRegression(
            C=strength, max_iter=1000, fit_intercept=False
        ).fit(difference, signs)

    def margins(self, pairs: Sequence[PreferencePair]) -> list[float]:
        """Log-odds that the preferred answer is the preferred one; unknown grams: 0."""
        return (self._difference(pairs) @ self._model.coef_[0]).tolist()

    def telling(self, count: int) -> list[tuple[str, float]]:
        """The ``count`` grams of largest weight; a positive one speaks for chosen.

        Raises: ValueError unless the grams are ``named``: a hash has no name.
        """
        if isinstance(self._count, HashingVectorizer):
            raise ValueError("hashed grams have no names; fit with named=True")
        weights = self._model.coef_[0]
        order = np.argsort(-np.abs(weights), kind="stable")[:count]
        names = self._count.get_feature_names_out()
        return [(str(names[i]), float(weights[i])) for i in order]

    def _difference(self, pairs: Sequence[PreferencePair]):
        chosen = self._count.transform(p.chosen for p in pairs)
        return chosen - self._count.transform(p.rejected for p in pairs)
