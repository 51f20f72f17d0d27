"""Intervals and paired changes on cases whose answer is known."""

import numpy as np
import pytest

from finllm_utils.evals.statistics.bootstrap import bootstrap_ratio, paired_change
from finllm_utils.intervals import wilson_interval

SETTINGS = {"num_bootstrap": 2000, "seed": 0}


def test_constant_values_have_no_spread():
    assert bootstrap_ratio([2.0] * 10, **SETTINGS) == pytest.approx((2.0, 2.0))
    low, high = bootstrap_ratio([2, 4, 6], [1, 2, 3], **SETTINGS)
    assert (low, high) == pytest.approx((2.0, 2.0))


def test_interval_of_a_mean_matches_the_normal_approximation():
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    low, high = bootstrap_ratio(values, **SETTINGS)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_same_seed_same_interval():
    values = np.arange(30.0)
    assert bootstrap_ratio(values, **SETTINGS) == bootstrap_ratio(values, **SETTINGS)


def test_pairing_sees_what_separate_intervals_hide():
    random = np.random.default_rng(0)
    before = random.normal(100, 50, 300)  # items differ far more than models do
    after = before - random.normal(0.5, 1.0, 300)
    change = paired_change(before, after, lower_is_better=True, **SETTINGS)
    assert change.word == "better"
    assert change.value == pytest.approx((after - before).mean())
    assert change.interval[0] < change.value < change.interval[1] < 0
    higher = paired_change(before, after, lower_is_better=False, **SETTINGS)
    assert higher.word == "worse"


def test_noise_is_no_clear_change():
    random = np.random.default_rng(0)
    before, after = random.normal(size=200), random.normal(size=200)
    change = paired_change(before, after, lower_is_better=True, **SETTINGS)
    assert change.word == "no clear change"


def test_weights_make_a_ratio():
    change = paired_change([2, 2], [1, 1], [4, 6], lower_is_better=True, **SETTINGS)
    assert change.value == pytest.approx(-0.2)


def test_wilson_textbook_values():
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    low, high = wilson_interval(0, 20)
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(0.1611, abs=1e-4)  # Newcombe 1998, table I


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="do not pair"):
        paired_change([1], [1, 2], lower_is_better=True, **SETTINGS)
    with pytest.raises(ValueError, match="0 items"):
        bootstrap_ratio([], **SETTINGS)
    with pytest.raises(ValueError, match="not a share"):
        wilson_interval(3, 2)
