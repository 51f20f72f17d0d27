"""What goes wrong in PPO, named in plain words with the remedy.

A broken invariant stops training (``PPOFault``). A drift is a sentence that the loop
logs, for the run may still be worth reading; its history keeps for every update and
kind of drift whether it spoke (``warned_entropy`` and so on, 1 or 0), and ``drifts``
gives the sentences of any update again, since they follow from the figures alone.
"""

from collections.abc import Sequence

import numpy as np
import torch

MIN_WINDOW = 5  # updates that are averaged before the two judges are compared
NUM_ERRORS = 5.0  # standard errors of a change: every update asks, of many windows


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


def reward_hacking(history: Sequence[dict[str, float]]) -> str | None:
    """A sentence when the score rose and the held-out score fell, both beyond noise.

    The mean of the last window is compared with that of the earlier window in which the
    held-out score was best; a window is an eighth of the updates, at least 5. Each
    change must exceed five standard errors.

    Args: history has ``score``, ``heldout_score`` and the standard error of each,
    ``score_error`` and ``heldout_score_error``, an update.
    """
    window = max(MIN_WINDOW, len(history) // 8)
    if len(history) < 2 * window:
        return None
    score, score_error = _window_means(history, "score", window)
    held, held_error = _window_means(history, "heldout_score", window)
    best = int(held[:-window].argmax())  # windows that share no update with the last
    rise, fall = score[-1] - score[best], held[best] - held[-1]
    rose = rise > NUM_ERRORS * np.hypot(score_error[best], score_error[-1])
    fell = fall > NUM_ERRORS * np.hypot(held_error[best], held_error[-1])
    if not (rose and fell):
        return None
    return (
        f"reward hacking: since updates {best} to {best + window - 1} the score rose "
        f"from {score[best]:.2f} to {score[-1]:.2f} and the held-out score fell from "
        f"{held[best]:.2f} to {held[-1]:.2f}: the policy pleases its own judge alone; "
        f"read samples, raise ppo.kl_coef or stop at update {best + window}, and train "
        "the reward model on pairs with such answers"
    )


def drifts(
    history: Sequence[dict[str, float]], reward_clip: float
) -> dict[str, str | None]:
    """What each kind of drift says of the last update in ``history``, by kind.

    Kinds are entropy, length and value, and hacking where there is a held-out score.
    """
    first, last = history[0], history[-1]
    found = {
        "entropy": entropy_drift(last["entropy"], first["entropy"]),
        "length": length_drift(last["length"], first["length"]),
        "value": value_drift(last["max_value"], reward_clip),
    }
    if "heldout_score" in last:
        found["hacking"] = reward_hacking(history)
    return found


def _window_means(
    history: Sequence[dict[str, float]], name: str, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of a judge's score in every window, and the standard error of each.

    The error is the larger of two: from the responses within the batches, and from how
    a batch differs from the next. The second sees what all responses of a batch share,
    and a steady trend hardly adds to it.
    """
    every = np.lib.stride_tricks.sliding_window_view
    scores_NW = every(np.array([row[name] for row in history]), window)
    errors_NW = every(np.array([row[f"{name}_error"] for row in history]), window)
    within_N = (errors_NW**2).mean(1) / window
    between_N = (np.diff(scores_NW) ** 2).mean(1) / 2 / window
    return scores_NW.mean(1), np.sqrt(np.maximum(within_N, between_N))
