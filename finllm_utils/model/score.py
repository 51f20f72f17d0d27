"""How surprised a model is by given tokens, in nats: the base of every evaluation.

Sequences are batched by length, so little padding is computed, and only the hidden
states of scored positions pass the output layer, a few hundred at a time: a float32
tensor of batch x tokens x vocabulary never exists. Right padding needs no attention
mask, because causal attention never looks to the right.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.model.fast_linear import FastLinear, linear

ROWS_PER_CHUNK = 512  # hidden states that pass the output layer at once
CPU_VOCAB_TILE = 1024  # 512 x 1,024 logits stay in a core's cache: 3x faster on a CPU


def sequence_nats(
    model: LlamaForCausalLM,
    sequences: Sequence[Sequence[int]],
    *,
    batch_tokens: int,
    pad_id: int,
    first_scored: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Nats of each token given its prefix, one float64 array a sequence.

    Args: sequences of token ids, BOS included by the caller; batch_tokens bounds the
    padded tokens of a forward pass; first_scored[i] is the index of the first token of
    sequence i to score (default 1, since nothing stands before token 0).
    Returns: arrays of length ``len(sequence) - first_scored``, in the given order.
    Raises: ValueError for a sequence longer than the model's context, for an id outside
    the vocabulary, or when the model returns NaN.
    """
    starts = [1] * len(sequences) if first_scored is None else list(first_scored)
    _check(model, sequences, starts)
    results = [np.zeros(0)] * len(sequences)
    was_training = model.training
    model.eval()
    with torch.inference_mode(), FastLinear():
        tiles = _vocabulary_tiles(model)
        for rows in _batches([len(s) for s in sequences], batch_tokens):
            batch = [sequences[i] for i in rows]
            nats = _score_batch(model, tiles, batch, [starts[i] for i in rows], pad_id)
            for i, values in zip(rows, nats, strict=True):
                results[i] = values
    model.train(was_training)
    return results


def answer_nats(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts_ids: Sequence[Sequence[int]],
    answers_ids: Sequence[Sequence[int]],
    batch_tokens: int,
) -> list[float]:
    """Total nats of each answer given its prompt; prompt tokens are not counted.

    Args: both as token ids; a prompt begins with BOS, an answer may end with EOS.
    """
    if any(len(prompt) == 0 for prompt in prompts_ids):
        raise ValueError("an empty prompt: begin each prompt with the BOS id")
    joined = [list(p) + list(a) for p, a in zip(prompts_ids, answers_ids, strict=True)]
    nats = sequence_nats(
        model,
        joined,
        batch_tokens=batch_tokens,
        pad_id=tokenizer.pad_token_id or 0,  # padding is never scored nor attended to
        first_scored=[len(p) for p in prompts_ids],
    )
    return [float(values.sum()) for values in nats]


def _check(
    model: LlamaForCausalLM, sequences: Sequence[Sequence[int]], starts: list[int]
) -> None:
    if len(starts) != len(sequences):
        raise ValueError(
            f"first_scored has {len(starts)} entries for {len(sequences)} sequences"
        )
    if any(start < 1 for start in starts):
        raise ValueError("first_scored must be at least 1: token 0 has no prefix")
    longest = max((len(s) for s in sequences), default=0)
    limit = model.config.max_position_embeddings
    if longest > limit:
        raise ValueError(
            f"a sequence of {longest} tokens exceeds the model's context of {limit}: "
            "cut it, or score it in windows"
        )
    top = max((max(s) for s in sequences if len(s)), default=0)
    rows = model.get_input_embeddings().weight.shape[0]
    if top >= rows:
        raise ValueError(
            f"token id {top} is outside the model's {rows:,} embedding rows: load the "
            "tokenizer from the model's own folder"
        )


def _batches(lengths: list[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yields indices of similar length, longest first: memory fails early."""
    order = [i for i, length in enumerate(lengths) if length > 1]
    order.sort(key=lambda i: -lengths[i])
    begin = 0
    while begin < len(order):
        size = max(1, batch_tokens // lengths[order[begin]])
        yield order[begin : begin + size]
        begin += size


def _score_batch(
    model: LlamaForCausalLM,
    tiles: list[torch.Tensor],
    sequences: list[Sequence[int]],
    starts: list[int],
    pad_id: int,
) -> list[np.ndarray]:
    width = max(len(s) for s in sequences)
    ids_BT = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    scored_BT = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        ids_BT[row, : len(sequence)] = torch.as_tensor(sequence, dtype=torch.long)
        scored_BT[row, start : len(sequence)] = True
    counts = scored_BT.sum(1).tolist()
    ids_BT, scored_BT = ids_BT.to(model.device), scored_BT.to(model.device)
    hidden_BTD = model.model(
        input_ids=ids_BT, attention_mask=None, use_cache=False
    ).last_hidden_state
    hidden_ND = hidden_BTD[:, :-1][scored_BT[:, 1:]]  # token t is predicted at t - 1
    targets_N = ids_BT[:, 1:][scored_BT[:, 1:]]
    weight_VD = model.get_output_embeddings().weight
    nats_N = torch.cat(
        [
            _target_nats(hidden, weight_VD[targets], tiles)
            for hidden, targets in zip(
                hidden_ND.split(ROWS_PER_CHUNK),
                targets_N.split(ROWS_PER_CHUNK),
                strict=True,
            )
        ]
    )
    if not torch.isfinite(nats_N).all():
        raise ValueError(
            "the model returns NaN or infinite log-probabilities: its weights "
            "diverged; lower the learning_rate of the stage that trained it"
        )
    return np.split(nats_N.double().cpu().numpy(), np.cumsum(counts)[:-1])


def _vocabulary_tiles(model: LlamaForCausalLM) -> list[torch.Tensor]:
    """The output matrix as (V_tile, D) pieces: cache-sized on a CPU, else whole."""
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise ValueError("the output layer has a bias, which LLaMA-class models lack")
    if head.weight.device.type != "cpu":
        return [head.weight]
    return list(head.weight.split(CPU_VOCAB_TILE))


def _target_nats(
    hidden_ND: torch.Tensor, target_rows_ND: torch.Tensor, tiles: list[torch.Tensor]
) -> torch.Tensor:
    """-log softmax(hidden @ W.T)[target] a row; the vocabulary sum is in float32."""
    chosen_N = (hidden_ND.float() * target_rows_ND.float()).sum(1)
    chosen_N = chosen_N.to(hidden_ND.dtype).float()  # rounded as the other logits are
    total_N = torch.zeros_like(chosen_N)
    for tile in tiles:
        total_N += linear(hidden_ND, tile).float().exp_().sum(1)
    if torch.isfinite(total_N).all() and (total_N > 0).all():
        return total_N.log() - chosen_N
    logits_NV = torch.cat([linear(hidden_ND, tile) for tile in tiles], dim=1)
    return torch.logsumexp(logits_NV.float(), dim=1) - chosen_N  # logits beyond +-88
