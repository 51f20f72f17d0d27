import numpy as np
import pytest

from finllm_utils.evals.pairwise.elo import elo_curve, elo_spread
from tests.evals.test_bradley_terry import one


def test_elo_moves_half_of_k_between_equals_and_less_after():
    curve = elo_curve([one("p", 1), one("q", 1), one("r", 0.5)], ["ppo", "sft"])
    assert curve[:2].tolist() == [[1000, 1000], [1016, 984]]
    expected = 1 / (1 + 10 ** (-32 / 400))
    assert curve[2, 0] == pytest.approx(1016 + 32 * (1 - expected))
    assert curve[3, 0] < curve[2, 0]  # a tie costs the stronger
    assert curve.sum(1) == pytest.approx([2000] * 4)


def test_the_order_alone_moves_elo():
    verdicts = [one(str(i), i % 2) for i in range(40)]  # 20 all
    last = elo_spread(verdicts, ["ppo", "sft"], num_orders=50, seed=0)
    assert last.shape == (50, 2)
    assert last[:, 0].std() > 10
    calm = elo_spread(verdicts, ["ppo", "sft"], num_orders=50, seed=0, k_factor=2)
    assert calm[:, 0].std() < last[:, 0].std() / 5
    assert np.array_equal(
        last, elo_spread(verdicts, ["ppo", "sft"], num_orders=50, seed=0)
    )


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="k_factor is 0"):
        elo_curve([], ["a"], k_factor=0)
    with pytest.raises(ValueError, match="not among"):
        elo_curve([one("p", 1)], ["ppo"])
