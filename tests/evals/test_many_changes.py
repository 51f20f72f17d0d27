"""Several comparisons at once, against values worked out by hand."""

import numpy as np
import pytest

from finllm_utils.evals.statistics.many_changes import holm, sign_test


def test_the_sign_test_by_hand():
    assert sign_test(1, 7) == sign_test(7, 1) == pytest.approx(2 * (1 + 8) / 256)
    assert sign_test(0, 5) == pytest.approx(2 / 32)
    assert sign_test(0, 0) == sign_test(3, 3) == 1
    with pytest.raises(ValueError, match="no counts"):
        sign_test(-1, 3)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.005, 0.9, 0.6]) == pytest.approx([0.06, 0.02, 1.0, 1.0])
    assert holm([]) == []
    with pytest.raises(ValueError, match="1.5"):
        holm([0.1, 1.5])


def test_twenty_equal_models_are_rarely_called_different():
    """Any wrong word among 20 comparisons: at most 5%, where unadjusted ones exceed."""
    random = np.random.default_rng(0)
    wrong = alone = 0
    for _ in range(300):
        p_values = []
        for _ in range(20):
            before, after = random.random((2, 100)) < 0.5
            gained, lost = (after & ~before).sum(), (before & ~after).sum()
            p_values.append(sign_test(int(gained), int(lost)))
        wrong += min(holm(p_values)) <= 0.05
        alone += min(p_values) <= 0.05
    assert wrong / 300 <= 0.05
    assert alone / 300 > 0.3
