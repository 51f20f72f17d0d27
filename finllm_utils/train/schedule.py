"""Learning-rate schedules as factors of the peak rate, and nothing else.

All three begin with the same linear warm-up; step 0 already learns, and the last step
stands one step above the floor.
"""

import math


def linear_rate(step: int, num_steps: int, warmup_steps: int, floor: float) -> float:
    """Factor in [floor, 1]: linear warm-up, then linear decay to ``floor``."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    left = (num_steps - step) / max(1, num_steps - warmup_steps)
    return floor + (1 - floor) * left


def cosine_rate(step: int, num_steps: int, warmup_steps: int, floor: float) -> float:
    """Factor in [floor, 1]: linear warm-up, then half a cosine down to ``floor``.

    Source: SGDR, arXiv 1608.03983, eq. 5, one period and no restart.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def wsd_rate(
    step: int, num_steps: int, warmup_steps: int, floor: float, decay_share: float
) -> float:
    """Factor in [floor, 1]: warm-up, stable at 1, linear decay over the last steps.

    Source: MiniCPM, arXiv 2404.06395, section 4. Differs: the decay is linear.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    decay_steps = max(1, round(decay_share * num_steps))
    left = min(1.0, (num_steps - step) / decay_steps)
    return floor + (1 - floor) * left


def rate_at(
    schedule: str,
    step: int,
    num_steps: int,
    *,
    warmup_steps: int,
    floor: float,
    decay_share: float = 0.2,
) -> float:
    """Factor of the peak rate at ``step`` of the schedule called linear, cosine or wsd.

    Raises: ValueError for another name.
    """
    if schedule == "linear":
        return linear_rate(step, num_steps, warmup_steps, floor)
    if schedule == "cosine":
        return cosine_rate(step, num_steps, warmup_steps, floor)
    if schedule == "wsd":
        return wsd_rate(step, num_steps, warmup_steps, floor, decay_share)
    raise ValueError(f"schedule={schedule!r}: use linear, cosine or wsd")
