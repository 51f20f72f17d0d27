"""PPO-ptx: a loss on pre-training text that keeps PPO from unlearning the language.

Off unless ``ppo.ptx_coef`` is set. Source: arXiv 2203.02155, equation 2. Differs: the
loss is a mean over tokens, like the policy's, and not a sum over a batch.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.config import PPOConfig
from finllm_utils.records import Document
from finllm_utils.rlhf.logprobs import response_logprobs
from finllm_utils.rlhf.processes import own_part, total
from finllm_utils.rlhf.rollout import Rollout
from finllm_utils.train.sft import cut_documents

TokenRows = Sequence[Sequence[int]]


def ptx_rows(
    tokenizer: PreTrainedTokenizerBase, documents: Iterable[Document], cfg: PPOConfig
) -> list[list[int]]:
    """Token ids for every step of a run, fewer when the text ends; none when off."""
    if not cfg.ptx_coef:
        return []
    steps = cfg.num_updates * cfg.num_ppo_epochs * cfg.num_mini_batches
    parts = cut_documents(tokenizer, documents, cfg.ptx_seq_len)
    long_enough = (ids for ids in parts if len(ids) > 1)
    return list(islice(long_enough, steps * cfg.ptx_batch_size))


def require_ptx_rows(rows: TokenRows, cfg: PPOConfig, policy: LlamaForCausalLM) -> None:
    """Raises ValueError when ``cfg.ptx_coef`` is set and a row is missing or unfit."""
    if not cfg.ptx_coef:
        return
    if not len(rows):
        raise ValueError(
            f"ppo.ptx_coef={cfg.ptx_coef} needs pre-training text: give train_ppo "
            "ptx_rows, token ids of a document each, or set it to 0"
        )
    longest = policy.config.max_position_embeddings
    for number, row in enumerate(rows):
        if not 2 <= len(row) <= longest:
            raise ValueError(
                f"ptx_rows[{number}] has {len(row)} tokens: a row needs 2 to "
                f"{longest}, the model's context; cut or drop it"
            )


def ptx_batches(
    rows: TokenRows, cfg: PPOConfig, update: int, pad_id: int, seed: int
) -> Iterator[Rollout] | None:
    """Batches for the optimiser steps of ``update``, on the CPU; None when off.

    Which rows they hold depends on seed, update and step alone; every row comes once
    before any comes again, unless a rollout's passes end early.
    """
    return _batches(rows, cfg, update, pad_id, seed) if cfg.ptx_coef else None


def _batches(
    rows: TokenRows, cfg: PPOConfig, update: int, pad_id: int, seed: int
) -> Iterator[Rollout]:
    num_steps = cfg.num_ppo_epochs * cfg.num_mini_batches
    cycle, order = -1, []
    for step in range(update * num_steps, (update + 1) * num_steps):
        chosen = []
        for place in range(step * cfg.ptx_batch_size, (step + 1) * cfg.ptx_batch_size):
            if cycle != place // len(rows):
                cycle = place // len(rows)
                rng = random.Random(f"{seed}/ptx/{cycle}")
                order = rng.sample(range(len(rows)), len(rows))
            chosen.append(rows[order[place % len(rows)]])
        yield right_pad(own_part(chosen), pad_id)


def right_pad(rows: TokenRows, pad_id: int) -> Rollout:
    """Rows as a rollout whose prompt is the first token and whose response the rest."""
    width = max(map(len, rows))
    ids_BL = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask_BL = torch.zeros_like(ids_BL)
    for number, row in enumerate(rows):
        ids_BL[number, : len(row)] = torch.as_tensor(row)
        mask_BL[number, : len(row)] = 1
    return Rollout(
        ids_BL=ids_BL, attention_mask_BL=mask_BL, response_mask_BT=mask_BL[:, 1:]
    )


def ptx_loss(
    policy: LlamaForCausalLM,
    batch: Rollout,
    *,
    dtype: torch.dtype = torch.float32,
    logits_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Mean nats a token of the text, over the tokens of all processes.

    Each row's first token is given, not predicted. Temperature is 1: the text was not
    sampled.
    """
    batch = batch.to(policy.device)
    num_tokens = int(total(batch.response_mask_BT.sum()))
    logprobs_BT = response_logprobs(
        policy, batch, temperature=1.0, dtype=dtype, logits_dtype=logits_dtype
    )
    return -logprobs_BT.sum() / num_tokens
