"""What goes wrong in PPO, named in plain words with the remedy.

A broken invariant stops training (``PPOFault``); a drift is returned as a sentence that
the loop logs and keeps in its history, for the run may still be worth reading.
"""

import torch


class PPOFault(RuntimeError):
    """PPO cannot be right any more: the message names the fault and the remedy."""


def require_distinct_pad(eos_id: int | None, pad_id: int | None) -> None:
    """Raises PPOFault when EOS is missing or doubles as padding."""
    if eos_id is None or pad_id is None:
        raise PPOFault(
            f"the tokenizer has eos_token_id={eos_id} and pad_token_id={pad_id}: PPO "
            "needs both; use the tokenizer that notebook 02 wrote"
        )
    if eos_id == pad_id:
        raise PPOFault(
            f"EOS and PAD are the same token ({eos_id}): the end of a response is "
            "masked away as padding, so the model never learns to stop; give the "
            "tokenizer its own <pad>"
        )


def require_first_ratio(deviation: float, tolerance: float, which: str = "max") -> None:
    """Raises PPOFault when new and old log-probabilities differ before any step.

    Args: deviation is |ratio - 1| over the tokens, their ``which``: "max" or "mean".
    """
    if not deviation <= tolerance:
        raise PPOFault(
            f"the first mini-batch has {which} |ratio - 1| = {deviation:.3g} (allowed "
            f"{tolerance:.3g}): the log-probabilities that train are not those of the "
            "rollout; compare temperature, position_ids, masks, dtype and dropout"
        )


def require_kl_not_negative(kl_B: torch.Tensor) -> None:
    """Raises PPOFault when the mean KL is below 0 by four standard errors."""
    mean = float(kl_B.mean())
    error = float(kl_B.std(unbiased=False)) / max(1, len(kl_B)) ** 0.5
    if mean < -4 * error - 1e-3:
        raise PPOFault(
            f"the KL to the reference is negative ({mean:.3f} nats, standard error "
            f"{error:.3f}): on samples of the policy that cannot be; look for top_k, "
            "top_p or a temperature that sampling uses and the log-probabilities do not"
        )


def require_finite(values: dict[str, float]) -> None:
    """Raises PPOFault naming what is NaN or infinite."""
    bad = [k for k, v in values.items() if not torch.isfinite(torch.tensor(float(v)))]
    if bad:
        raise PPOFault(
            f"{', '.join(sorted(bad))} is not finite: lower ppo.learning_rate and "
            "ppo.critic_learning_rate, and check the reward model's statistics"
        )


def entropy_drift(
    entropy: float, first_entropy: float, floor: float = 0.2
) -> str | None:
    """A sentence when the entropy fell below ``floor`` of its start."""
    if entropy >= floor * first_entropy:
        return None
    return (
        f"entropy collapsed from {first_entropy:.2f} to {entropy:.2f} nats a token: "
        "the policy repeats a few answers; raise ppo.kl_coef or lower ppo.learning_rate"
    )


def length_drift(length: float, first_length: float, factor: float = 1.5) -> str | None:
    """A sentence when the mean response length left [1/factor, factor] of its start."""
    if first_length / factor <= length <= first_length * factor:
        return None
    way = "grew" if length > first_length else "shrank"
    return (
        f"mean response length {way} from {first_length:.1f} to {length:.1f} tokens: "
        "the reward may pay for length; read ppo.reward_gain_length_adjusted and raise "
        "ppo.kl_coef"
    )


def value_drift(
    max_value: float, reward_clip: float, factor: float = 4.0
) -> str | None:
    """A sentence when a predicted value is far beyond any possible reward."""
    if max_value <= factor * reward_clip:
        return None
    return (
        f"a value of {max_value:.1f} stands against rewards of at most "
        f"{reward_clip:.1f}: the critic explodes; lower ppo.critic_learning_rate or "
        "ppo.vf_coef"
    )
