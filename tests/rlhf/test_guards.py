import pytest
import torch

from finllm_utils.rlhf.guards import (
    PPOFault,
    entropy_drift,
    length_drift,
    require_distinct_pad,
    require_finite,
    require_first_ratio,
    require_kl_not_negative,
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
