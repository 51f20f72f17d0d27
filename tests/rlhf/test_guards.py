import numpy as np
import pytest
import torch

from finllm_utils.rlhf.guards import (
    PPOFault,
    drifts,
    entropy_drift,
    length_drift,
    require_distinct_pad,
    require_finite,
    require_first_ratio,
    require_kl_not_negative,
    reward_hacking,
    value_drift,
)


def test_eos_as_padding_and_missing_pad():
    require_distinct_pad(2, 3)
    with pytest.raises(PPOFault, match="never learns to stop"):
        require_distinct_pad(2, 2)
    with pytest.raises(PPOFault, match="pad_token_id=None"):
        require_distinct_pad(2, None)


def test_first_ratio():
    require_first_ratio(1e-6, 1e-4)
    for bad in (0.5, float("nan")):
        with pytest.raises(PPOFault, match="temperature, position_ids, masks"):
            require_first_ratio(bad, 1e-4)


def test_negative_kl_needs_four_standard_errors():
    require_kl_not_negative(torch.tensor([-1.0, 1.2, -0.9, 0.8]))
    require_kl_not_negative(torch.zeros(4))
    with pytest.raises(PPOFault, match="negative"):
        require_kl_not_negative(torch.full((16,), -2.0) + 0.1 * torch.randn(16))


def test_not_finite_names_the_figure():
    with pytest.raises(PPOFault, match="kl_nats"):
        require_finite({"score": 1.0, "kl_nats": float("inf")})


def test_drifts_are_sentences():
    assert entropy_drift(1.0, 2.0) is None
    assert "entropy collapsed" in entropy_drift(0.1, 2.0)
    assert length_drift(20, 20) is None
    assert "grew from 20.0 to 40.0" in length_drift(40, 20)
    assert "shrank" in length_drift(5, 20)
    assert value_drift(3.0, 5.0) is None
    assert "critic explodes" in value_drift(100.0, 5.0)


def judged(scores, heldout, error=0.1):
    return [
        {
            "score": float(score),
            "score_error": error,
            "heldout_score": float(held),
            "heldout_score_error": error,
        }
        for score, held in zip(scores, heldout, strict=True)
    ]


UP, DOWN, FLAT = [0.0] * 5 + [1.0] * 5, [1.0] * 5 + [0.0] * 5, [0.5] * 10


def test_reward_hacking_needs_a_rise_and_a_fall():
    sentence = reward_hacking(judged(UP, DOWN))
    assert "since updates 0 to 4 the score rose from 0.00 to 1.00" in sentence
    assert "fell from 1.00 to 0.00" in sentence and "stop at update 5" in sentence
    for score, held in ((UP, UP), (DOWN, DOWN), (DOWN, UP), (UP, FLAT), (FLAT, DOWN)):
        assert reward_hacking(judged(score, held)) is None
    assert reward_hacking(judged(UP[1:], DOWN[1:])) is None, "nine updates are too few"


def test_reward_hacking_by_hand_at_five_standard_errors():
    """Errors of 0.5 a batch: sqrt(0.25 / 5) a window, sqrt(0.1) of a difference."""
    limit = 5 * 0.1**0.5
    for fall, speaks in ((limit * 0.999, False), (limit * 1.001, True)):
        held = [fall] * 5 + [0.0] * 5
        history = judged(np.array(UP) * 9, held, error=0.5)
        assert bool(reward_hacking(history)) == speaks
        history = judged(np.array(held[::-1]), np.array(DOWN) * 9, error=0.5)
        assert bool(reward_hacking(history)) == speaks


def test_one_wild_batch_is_no_evidence():
    """It moves the mean of its window by 2, which the others contradict."""
    held = [1.0] * 9 + [-9.0]
    assert reward_hacking(judged(UP, held, error=0.01)) is None
    assert reward_hacking(judged(UP, [1.0] * 5 + [-1.0] * 5, error=0.01))


def test_reward_hacking_is_seen_after_both_rose():
    """Overoptimisation: the best earlier window is the peak, not the start."""
    score = np.linspace(0, 3, 30)
    held = np.concatenate([np.linspace(0, 1, 15), np.linspace(1, 0.1, 15)])
    spoke = [
        n for n in range(1, 31) if reward_hacking(judged(score[:n], held[:n], 0.05))
    ]
    assert spoke and 20 <= spoke[0] < 30 and spoke == list(range(spoke[0], 31))
    assert held[-1] > held[0], "against the start alone it would look like a gain"


def test_noise_alone_does_not_look_like_hacking():
    """The score rises for sure, the held-out score only wavers: 20 runs of 40."""
    random = np.random.default_rng(0)
    for _ in range(20):
        history = judged(range(40), random.normal(0, 0.1, 40), error=0.1)
        assert not any(reward_hacking(history[:n]) for n in range(10, 41))


def test_drifts_by_kind():
    first = {"entropy": 2.0, "length": 20.0, "max_value": 1.0}
    last = {"entropy": 0.1, "length": 20.0, "max_value": 100.0}
    found = drifts([first, last], 5.0)
    assert list(found) == ["entropy", "length", "value"]
    assert found["length"] is None
    assert "collapsed" in found["entropy"] and "explodes" in found["value"]
    rows = [first | row for row in judged(UP, DOWN)]
    assert "reward hacking" in drifts(rows, 5.0)["hacking"]
