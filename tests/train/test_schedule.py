"""Learning-rate schedules against values worked out by hand."""

import pytest

from finllm_utils.train.schedule import cosine_rate, linear_rate, rate_at, wsd_rate


def test_all_warm_up_alike():
    for name in ("linear", "cosine", "wsd"):
        rates = [rate_at(name, s, 10, warmup_steps=4, floor=0.1) for s in range(4)]
        assert rates == [0.25, 0.5, 0.75, 1.0], name


def test_linear_by_hand():
    assert linear_rate(0, 10, 2, 0.1) == 0.5
    assert linear_rate(2, 10, 2, 0.1) == pytest.approx(1.0)
    assert linear_rate(6, 10, 2, 0.1) == pytest.approx(0.1 + 0.9 * 0.5)
    assert linear_rate(9, 10, 2, 0.1) == pytest.approx(0.1 + 0.9 / 8)


def test_cosine_by_hand():
    assert cosine_rate(2, 10, 2, 0.1) == pytest.approx(1.0)
    assert cosine_rate(4, 10, 2, 0.1) == pytest.approx(
        0.1 + 0.9 * 0.8535533905932737  # (1 + cos 45 degrees) / 2
    )
    assert cosine_rate(6, 10, 2, 0.1) == pytest.approx(0.55)
    assert cosine_rate(10, 10, 2, 0.1) == pytest.approx(0.1)


def test_wsd_is_flat_and_then_falls():
    rates = [wsd_rate(step, 10, 1, 0.0, 0.4) for step in range(10)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert wsd_rate(9, 10, 0, 0.2, 0.4) == pytest.approx(0.4)
    assert wsd_rate(9, 10, 0, 0.2, 0.0) == 1.0  # a decay of one step starts at its top


def test_no_warm_up_and_a_warm_up_as_long_as_the_pass():
    for name in ("linear", "cosine", "wsd"):
        assert rate_at(name, 0, 5, warmup_steps=0, floor=0.0) == pytest.approx(1.0)
        assert rate_at(name, 4, 5, warmup_steps=5, floor=0.0) == 1.0


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="linear, cosine or wsd"):
        rate_at("step", 0, 10, warmup_steps=0, floor=0.0)
