"""Wilson's interval against scipy's, and by hand."""

import math

import pytest
from scipy.stats import binomtest

from finllm_utils.intervals import wilson_interval


@pytest.mark.parametrize(
    ("right", "count"), [(0, 1), (1, 1), (0, 20), (5, 10), (81, 263), (59, 60)]
)
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_equals_scipy(right, count, level):
    reference = binomtest(right, count).proportion_ci(level, method="wilson")
    assert wilson_interval(right, count, level) == pytest.approx(
        (reference.low, reference.high), abs=1e-12
    )


def test_by_hand():
    low, high = wilson_interval(2, 2)
    assert (low, high) == (pytest.approx(1 / (1 + 1.959964**2 / 2), abs=1e-6), 1.0)
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_the_bounds_solve_the_score_equation():
    low, high = wilson_interval(7, 31)
    for bound in (low, high):
        z = (7 / 31 - bound) / math.sqrt(bound * (1 - bound) / 31)
        assert abs(z) == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize(("right", "count"), [(0, 0), (3, 2), (-1, 5)])
def test_no_share_no_interval(right, count):
    with pytest.raises(ValueError, match="not a share: an empty set"):
        wilson_interval(right, count)
