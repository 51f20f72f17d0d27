"""The adaptive KL coefficient: a controller that holds the policy at a distance.

Pure maths; ``ppo`` calls it once an update. Off unless ``ppo.kl_target`` is set.
"""

MAX_ERROR = 0.2  # one rollout's KL is noisy: it says little beyond "too far"


def next_kl_coef(
    kl_coef: float, kl_nats: float, num_responses: int, *, target: float, horizon: int
) -> float:
    """The coefficient after a rollout; unchanged when ``target`` is 0.

    It is multiplied by 1 + clip(kl / target - 1, -0.2, 0.2) x num_responses / horizon.
    Source: arXiv 1909.08593, section 2.2, whose K_beta is num_responses / horizon in
    openai/lm-human-preferences.

    Args: kl_nats is the rollout's mean KL to the reference, in nats a response.
    Example: 0.1 at a KL of 9 for a target of 6, 500 responses of 10,000 gives 0.101.
    """
    if target == 0:
        return kl_coef
    error = min(max(kl_nats / target - 1, -MAX_ERROR), MAX_ERROR)
    return kl_coef * (1 + error * num_responses / horizon)
