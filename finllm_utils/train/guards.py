"""What the loop watches: plateaus, spikes, divergence and numbers that are not finite.

The first three are questions about a list of losses (nats a token, one a step) and
touch nothing else; ``save_batch`` writes down what a step had read when it failed.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import numpy as np

from finllm_utils.files import atomic_file

SPIKE_WINDOW = 50  # losses that say what is usual
SPIKE_MIN_HISTORY = 10  # fewer say nothing
SPIKE_MIN_DEVIATION = 0.01  # nats; a flat stretch is no reason to call noise a spike
MAX_ROLLBACKS = 10  # more, and the data or the rate is at fault, not a batch
DIVERGED_NATS = 2.0
DIVERGED_STEPS = 20


def plateaued(losses: Sequence[float], num_steps: int, gain: float) -> bool:
    """Whether the last ``num_steps`` losses are not ``gain`` below those before.

    Compares two means of equal length; False while there are fewer losses than both
    need, and always when ``num_steps`` is 0.
    """
    if num_steps < 1 or len(losses) < 2 * num_steps:
        return False
    earlier = fmean(losses[-2 * num_steps : -num_steps])
    return earlier - fmean(losses[-num_steps:]) < gain


def is_spike(losses: Sequence[float], loss: float, factor: float) -> bool:
    """Whether ``loss`` is ``factor`` median absolute deviations above its recent past.

    Looks at the last 50 of ``losses``, which must not hold ``loss`` itself. The median
    and its deviation are not moved by an earlier spike, as a mean and a standard
    deviation would be.
    """
    recent = losses[-SPIKE_WINDOW:]
    if factor <= 0 or len(recent) < SPIKE_MIN_HISTORY:
        return False
    middle = median(recent)
    deviation = median(abs(value - middle) for value in recent)
    return loss - middle > factor * max(deviation, SPIKE_MIN_DEVIATION)


def diverged(losses: Sequence[float]) -> bool:
    """Whether each of the last 20 losses is over 2 nats above the first one."""
    recent = losses[-DIVERGED_STEPS:]
    return len(losses) > DIVERGED_STEPS and min(recent) > losses[0] + DIVERGED_NATS


def require_no_divergence(losses: Sequence[float], step: int) -> None:
    """Raises ValueError with the remedy when training has left where it began."""
    if diverged(losses):
        raise ValueError(
            f"step {step}: training diverged, the loss went from {losses[0]:.2f} to "
            f"{losses[-1]:.2f} nats a token and stayed there for {DIVERGED_STEPS} "
            "steps; lower learning_rate and embedding_learning_rate, or raise "
            "warmup_steps, and start the pass again without its checkpoints"
        )


def not_finite_message(
    loss: float, grad_norm: float, step: int, batch: Path | str
) -> str:
    """What to tell when a step's loss or gradient norm is NaN or infinite."""
    what = f"the loss is {loss}"
    if math.isfinite(loss):
        what = f"the gradient norm is {grad_norm} (loss {loss:.3f})"
    return (
        f"step {step}: {what}; lower learning_rate and embedding_learning_rate, or "
        "raise warmup_steps, and start the pass again without its checkpoints; the "
        f"token ids that the step read are in {batch}"
    )


def too_many_spikes_message(rollbacks: int, step: int) -> str:
    """What to tell when leaving batches out did not help."""
    return (
        f"step {step}: loss spike number {rollbacks}, and the {MAX_ROLLBACKS} before "
        "were rolled back: no single batch is at fault; lower learning_rate and "
        "embedding_learning_rate, or raise spike_factor, and start the pass again "
        "without its checkpoints"
    )


def save_batch(folder: Path | None, step: int, rows_BT: np.ndarray, rank: int) -> Path:
    """Writes the token ids of a step as ``.npy``; the path.

    Args: folder None means the system's place for temporary files.
    """
    folder = Path(tempfile.mkdtemp(prefix="finllm-")) if folder is None else folder
    path = Path(folder) / f"bad_batch_step_{step:06d}_rank_{rank}.npy"
    with atomic_file(path, "wb") as handle:
        np.save(handle, rows_BT)
    return path
