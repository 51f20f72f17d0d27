"""Agreement of three seeds, counted by hand."""

import pytest

from finllm_utils.rlhf.seed_agreement import seed_agreement

MARGINS = {
    2: [0.5, -1.0, 2.0, 0.0],  # right, wrong, right, tie
    0: [1.0, -0.1, -3.0, 0.0],
    1: [0.2, 0.3, -1.0, 4.0],
}


def test_shares_by_hand():
    found = seed_agreement(MARGINS)
    # 0 and 1 agree on pairs 1 and 3; 0 and 2 on 1, 2 and 4; 1 and 2 on 1 alone.
    assert found.same_side == {(0, 1): 0.5, (0, 2): 0.75, (1, 2): 0.25}
    assert found.mean_same_side == 0.5
    assert found.accuracy == {0: 1.5 / 4, 1: 3 / 4, 2: 2.5 / 4}
    assert list(found.accuracy) == [0, 1, 2]


@pytest.mark.parametrize(
    "margins",
    [{}, {0: [1.0]}, {0: [1.0], 1: []}, {0: [], 1: []}, {0: [1.0], 1: [1, 2]}],
)
def test_margins_that_cannot_be_compared(margins):
    with pytest.raises(ValueError, match="two seeds or more, each with the margins of"):
        seed_agreement(margins)
