"""The adaptive KL coefficient by hand, and in a run."""

import pytest

from finllm_utils.profiles import load_profile
from finllm_utils.rlhf.kl_control import MAX_ERROR, next_kl_coef
from tests.rlhf.small_ppo import settings, train

SIX = {"target": 6.0, "horizon": 10_000}


def test_adaptive_kl_by_hand():
    # 10% over the target: 0.1 x (1 + 0.1 x 500 / 10,000) = 0.1005
    assert next_kl_coef(0.1, 6.6, 500, **SIX) == pytest.approx(0.1005, rel=1e-12)
    # 10% under it: 0.1 x (1 - 0.005)
    assert next_kl_coef(0.1, 5.4, 500, **SIX) == pytest.approx(0.0995, rel=1e-12)
    assert next_kl_coef(0.1, 6.0, 500, **SIX) == 0.1


def test_the_error_is_clipped_at_a_fifth():
    assert MAX_ERROR == 0.2
    far, near = next_kl_coef(0.1, 60.0, 500, **SIX), next_kl_coef(0.1, 7.2, 500, **SIX)
    assert far == pytest.approx(near, rel=1e-12) == pytest.approx(0.101)
    # a negative KL, a sampling error, lowers it no more than 20% under the target does
    assert next_kl_coef(0.1, -9.0, 500, **SIX) == pytest.approx(0.099, rel=1e-12)


def test_without_a_target_the_coefficient_stays_to_the_bit():
    assert next_kl_coef(0.1, 60.0, 500, target=0.0, horizon=1) == 0.1
    _, history = train(num_updates=1)
    assert "kl_coef" not in history[0]


def test_a_run_follows_the_controller():
    options = {"kl_target": 0.5, "kl_horizon": 40, "num_updates": 4}
    nets, history = train(**options)
    expected = 0.02
    for figures in history:
        assert figures["kl_coef"] == expected
        expected = next_kl_coef(expected, figures["kl_nats"], 8, target=0.5, horizon=40)
    assert history[1]["kl_coef"] < 0.02, "the first rollout has a KL of 0"
    _, fixed = train(num_updates=4)
    assert fixed[0]["policy_loss"] == history[0]["policy_loss"]
    assert fixed[-1]["policy_loss"] != history[-1]["policy_loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kl_target": -1.0}, "ppo.kl_target=-1.0 .* 0 or more"),
        ({"kl_target": 6.0, "kl_coef": 0.0}, "ppo.kl_coef=0.0: start above 0"),
        ({"kl_target": 6.0, "kl_horizon": 7}, "ppo.kl_horizon=7 not below"),
        ({"early_stop_kl": -0.1}, "ppo.early_stop_kl=-0.1 must be 0 or more"),
        ({"dual_clip": 0.9}, "ppo.dual_clip=0.9 must be above 1, or 0"),
        ({"warmup_share": 1.0}, r"ppo.warmup_share=1.0 must be in \[0, 1\)"),
        ({"critic_warmup_updates": 4}, "leaves none of ppo.num_updates=4"),
        ({"ptx_coef": -1.0}, "ppo.ptx_coef=-1.0"),
        ({"ptx_batch_size": 0}, "ppo.ptx_batch_size=0 1 or more"),
        ({"ptx_seq_len": 1}, "ppo.ptx_seq_len=1: .* at least 2"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_the_horizon_counts_only_with_a_target():
    small = {"ppo.kl_horizon": 1}
    assert load_profile("toy", small).ppo.kl_horizon == 1
