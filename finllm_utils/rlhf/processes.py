"""PPO on several processes: what each one samples and what is summed over all.

Every process holds whole networks of equal weights, or with ``ppo.shard`` its part of
them, and takes its part of each prompt batch. Losses are divided by the tokens of all
processes and gradients are summed, so the step is that of one process with the whole
batch. With one process nothing here does anything.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from finllm_utils.config import PPOConfig
from finllm_utils.train.parallel import current_world, rows_of_rank

UPDATE_STRIDE = 1_000  # between the sampling seeds of two updates
RANK_STRIDE = 100_003  # between those of two processes: no multiple of the other


def sampling_seed(seed: int, update: int, rank: int) -> int:
    """Seed of a process's samples; prompts and mini-batches have ``seed`` on all."""
    return seed + UPDATE_STRIDE * (update + 1) + RANK_STRIDE * rank


def require_even_shares(cfg: PPOConfig) -> None:
    """Raises ValueError when a batch cannot be dealt evenly to the processes."""
    size = current_world().size
    if cfg.rollout_batch_size % (size * cfg.num_mini_batches):
        raise ValueError(
            f"ppo.rollout_batch_size={cfg.rollout_batch_size} does not divide into "
            f"{size} processes of ppo.num_mini_batches={cfg.num_mini_batches}: make it "
            f"a multiple of {size * cfg.num_mini_batches}"
        )
    if cfg.ptx_coef and cfg.ptx_batch_size % size:
        raise ValueError(
            f"ppo.ptx_batch_size={cfg.ptx_batch_size} does not divide into {size} "
            f"processes: make it a multiple of {size}"
        )


def own_part(rows: Sequence) -> list:
    """The rows of this process among those of all."""
    part = rows_of_rank(0, len(rows), current_world())
    return [rows[i] for i in part]


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, elementwise."""
    if not current_world().shared:
        return values
    summed = values.clone()
    dist.all_reduce(summed)
    return summed


def mean_and_deviation(values_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (of N, not N - 1) of the values of all processes."""
    if not current_world().shared:
        return values_N.mean(), values_N.std(unbiased=False)
    count = total(values_N.new_tensor(float(len(values_N))))
    mean = total(values_N.sum()) / count
    return mean, (total((values_N - mean).square().sum()) / count).sqrt()


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replaces each gradient by its sum over all processes.

    Those of shards are summed already: sharding does it while it spreads them.
    """
    if not current_world().shared:
        return
    for parameter in parameters:
        if parameter.grad is not None and not isinstance(parameter.grad, DTensor):
            dist.all_reduce(parameter.grad)


def joined_figures(
    figures: dict[str, float], device: torch.device | str
) -> dict[str, float]:
    """Figures of all processes as one: means, and the largest of ``max_`` figures."""
    world = current_world()
    if not world.shared:
        return figures
    means = torch.tensor(list(figures.values()), device=device)
    largest = means.clone()
    dist.all_reduce(means)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    pairs = zip((means / world.size).tolist(), largest.tolist(), strict=True)
    named = zip(figures, pairs, strict=True)
    return {k: top if k.startswith("max_") else mean for k, (mean, top) in named}
