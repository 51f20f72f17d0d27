"""Batches of prompts in a seeded order; the n-th batch depends on n and the seed alone.

``ppo`` calls it. A run that goes on skips the batches it has seen.
"""

import random
from collections.abc import Iterator, Sequence


def prompt_batches(
    prompts: Sequence[Sequence[int]], size: int, seed: int
) -> Iterator[list[Sequence[int]]]:
    """Yields batches without end; every prompt comes once before any comes again.

    Raises: ValueError when there are fewer prompts than ``size``.
    """
    if len(prompts) < size:
        raise ValueError(
            f"{len(prompts)} prompts are fewer than ppo.rollout_batch_size={size}: "
            "lower it, or raise ppo.max_prompt_len so that fewer prompts are skipped"
        )
    rng = random.Random(seed)
    while True:
        order = rng.sample(range(len(prompts)), len(prompts))
        for begin in range(0, len(order) - size + 1, size):
            yield [prompts[i] for i in order[begin : begin + size]]
