r"""Log-probabilities of many continuations of one prompt, which the model reads once.

The continuations stand behind the prompt as a tree: a token sees the prompt and its own
ancestors, so branches never see each other, and what two continuations begin with is
computed once as well. Four one-token answers need no token beyond the prompt. What all
prompts of a batch begin with (an instruction, the same solved examples) is read once
for the batch, too. Only states that predict a scored token pass the output layer.

The seam between prompt and continuation, the special tokens and the cut of what is
too long are lm-eval's (lm_eval 0.4.13, ``TemplateLM._encode_pair`` and
``HFLM._loglikelihood_tokens``), and so are the sums, to float32 rounding. For models
like LLaMA: a decoder with full attention and a plain output layer.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from finllm_utils.model.fast_linear import FastLinear

HIDDEN_PER_CHUNK = 128  # states through the output layer at once: 25 MB at 49k tokens
HEAD_TOKENS = 16
"""Prompts that begin with as many equal tokens share batches; fewer do not pay."""
HEAD_PROMPTS = 4  # as many at least; rarer beginnings share batches by length alone
MASKED_ATTENTION = ("sdpa", "eager")
"""Attention that takes a mask for every pair of tokens; a tree needs one."""
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings of models whose logits are not just output layer times hidden state."""
logger = logging.getLogger(__name__)

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PromptScores:
    """Log-probabilities of a prompt's continuations, or why there are none."""

    logprobs: tuple[np.ndarray, ...] = ()
    """Nats of every token, one float64 array a continuation; empty with a fault."""
    num_cut: int = 0
    """Tokens of the prompt that the context left no room for, cut on the left."""
    fault: str = ""

    @property
    def loglikelihoods(self) -> np.ndarray:
        """The sum of each continuation, (continuations,)."""
        return np.array([values.sum() for values in self.logprobs])


@dataclass(slots=True)
class _Row:
    """A prompt as the model reads it, with all continuations that follow it."""

    context: Ids
    tails: list[Ids] = field(default_factory=list)
    owners: list[tuple[int, int]] = field(default_factory=list)
    branches: dict[Ids, int] = field(default_factory=dict)
    """Beginnings that another token follows, in the order they stand in the row."""

    def add(self, tail: Ids, owner: tuple[int, int]) -> None:
        self.tails.append(tail)
        self.owners.append(owner)
        for end in range(1, len(tail)):
            self.branches.setdefault(tail[:end], len(self.branches))

    @property
    def ids(self) -> list[int]:
        return [*self.context, *(branch[-1] for branch in self.branches)]

    @property
    def length(self) -> int:
        return len(self.context) + len(self.branches)


def score_continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    continuations: Sequence[Sequence[str]],
    *,
    batch_tokens: int,
    max_length: int | None = None,
) -> list[PromptScores]:
    """Scores of each prompt's own continuations, in the given order.

    Args: batch_tokens bounds the padded tokens of a forward pass; max_length is the
    model's context unless a smaller one is given.
    Raises: ValueError as ``score_ids``, or for a blank prompt.
    """
    pairs = encode_pairs(tokenizer, prompts, continuations)
    return score_ids(
        model,
        [context for context, _ in pairs],
        [tails for _, tails in pairs],
        batch_tokens=batch_tokens,
        max_length=max_length,
    )


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    continuations: Sequence[Sequence[str]],
) -> list[tuple[Ids, tuple[Ids, ...]]]:
    """Each prompt's ids and its continuations' ids: what the whole adds to the prompt.

    Spaces at the prompt's end belong to the continuation. A text that begins with the
    BOS token gets no second one.
    """
    if any(not prompt.strip() for prompt in prompts):
        raise ValueError("a blank prompt: nothing to condition on; give it words")
    texts = [prompt.rstrip() for prompt in prompts]
    for prompt, tails in zip(prompts, continuations, strict=True):
        texts += [prompt + tail for tail in tails]
    encoded = _encode(tokenizer, texts)
    pairs, place = [], len(prompts)
    for context, tails in zip(encoded, continuations, strict=False):
        wholes = encoded[place : place + len(tails)]
        pairs.append((context, tuple(whole[len(context) :] for whole in wholes)))
        place += len(tails)
    return pairs


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[Ids]:
    mark = tokenizer.bos_token or tokenizer.eos_token
    plain = [not (mark and text.startswith(mark)) for text in texts]
    encoded: list[Ids] = [()] * len(texts)
    for special in (True, False):
        rows = [i for i, one in enumerate(plain) if one == special]
        if rows:
            found = tokenizer([texts[i] for i in rows], add_special_tokens=special)
            for i, ids in zip(rows, found["input_ids"], strict=True):
                encoded[i] = tuple(ids)
    return encoded


def score_ids(
    model: PreTrainedModel,
    contexts: Sequence[Ids],
    tails: Sequence[Sequence[Ids]],
    *,
    batch_tokens: int,
    max_length: int | None = None,
) -> list[PromptScores]:
    """As ``score_continuations``, for token ids; a context begins with BOS.

    A prompt that leaves no room is cut on the left, separately for each continuation.
    Raises: ValueError for a model that cannot be scored so, or ids it does not know.
    """
    limit = max_length or model.config.max_position_embeddings
    rows, faults = _rows(contexts, tails, limit)
    _check(model, rows)
    found: dict[tuple[int, int], np.ndarray] = {}
    was_training = model.training
    model.eval()
    with torch.inference_mode(), FastLinear():
        for batch in _batches(rows, batch_tokens):
            owners = [owner for row in batch for owner in row.owners]
            found.update(zip(owners, _score_batch(model, batch), strict=True))
    model.train(was_training)
    scores = [
        _collected(found, i, context, tails[i], limit, faults.get(i, ""))
        for i, context in enumerate(contexts)
    ]
    if cut := sum(one.num_cut > 0 for one in scores):
        logger.warning(
            "%d of %d prompts exceed %d tokens: cut on the left",
            cut,
            len(scores),
            limit,
        )
    return scores


def _rows(
    contexts: Sequence[Ids], tails: Sequence[Sequence[Ids]], limit: int
) -> tuple[list[_Row], dict[int, str]]:
    """One row for each different context left by the cut, and prompts at fault."""
    rows: dict[Ids, _Row] = {}
    faults: dict[int, str] = {}
    for i, (context, own) in enumerate(zip(contexts, tails, strict=True)):
        longest, shortest = max(map(len, own)), min(map(len, own))
        if not context or not shortest:
            faults[i] = "a prompt or continuation without a token of its own"
        elif longest > limit:
            faults[i] = f"a continuation of {longest} tokens exceeds {limit}"
        else:
            for j, tail in enumerate(own):
                kept = tuple(context[-(limit + 1 - len(tail)) :])
                rows.setdefault(kept, _Row(kept)).add(tuple(tail), (i, j))
    return list(rows.values()), faults


def _check(model: PreTrainedModel, rows: list[_Row]) -> None:
    if odd := [s for s in SCALED_LOGITS if getattr(model.config, s, None) is not None]:
        raise ValueError(
            f"{odd[0]} changes this model's logits, which is not supported here: "
            "score it with lm-eval"
        )
    attention = model.config._attn_implementation
    if attention not in MASKED_ATTENTION and any(row.branches for row in rows):
        raise ValueError(
            f"attn_implementation={attention!r} takes no mask of token pairs: load the "
            f"model with {' or '.join(MASKED_ATTENTION)}"
        )
    size = model.get_input_embeddings().weight.shape[0]
    top = max(
        (max(ids) for row in rows for ids in (row.context, *row.tails)), default=0
    )
    if top >= size:
        raise ValueError(
            f"token id {top} is outside the model's {size:,} embedding rows: load the "
            "tokenizer from the model's own folder"
        )


def _batches(rows: list[_Row], batch_tokens: int) -> Iterator[list[_Row]]:
    """Rows that begin alike and are of like length, longest first.

    Those without a tree stand apart: they need no mask.
    """
    heads = Counter((not row.branches, row.context[:HEAD_TOKENS]) for row in rows)

    def kind(row: _Row) -> tuple[bool, Ids]:
        key = (not row.branches, row.context[:HEAD_TOKENS])
        return key if heads[key] >= HEAD_PROMPTS else (key[0], ())

    order = sorted(rows, key=lambda row: (kind(row), -row.length))
    batch: list[_Row] = []
    for row in order:
        full = batch and (len(batch) + 1) * batch[0].length > batch_tokens
        if full or (batch and kind(row) != kind(batch[0])):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _score_batch(model: PreTrainedModel, batch: list[_Row]) -> list[np.ndarray]:
    """Log-probabilities of the tails of all rows, one after another."""
    skip = _shared_tokens(batch)
    ids = [row.ids[skip:] for row in batch]
    ids_BT = torch.zeros((len(batch), max(map(len, ids))), dtype=torch.long)
    for b, one in enumerate(ids):
        ids_BT[b, : len(one)] = torch.tensor(one)
    inputs = _after(model, batch[0].context[:skip], len(batch)) if skip else {}
    if batch[0].branches:
        inputs |= _tree_inputs(batch, ids_BT.shape[1], skip, model)
    hidden_BTD = model.get_decoder()(
        input_ids=ids_BT.to(model.device), use_cache=skip > 0, **inputs
    ).last_hidden_state
    states, targets = [], []
    for b, row in enumerate(batch):
        first, start = len(states), len(row.context) - skip
        places = {(): first} | {p: first + 1 + k for p, k in row.branches.items()}
        states += [(b, start - 1 + k) for k in range(len(places))]
        targets += [(places[t[:k]], t[k]) for t in row.tails for k in range(len(t))]
    which_N, where_N = torch.tensor(states, device=model.device).T
    values = _target_logprobs(model, hidden_BTD[which_N, where_N], targets)
    lengths = [len(tail) for row in batch for tail in row.tails]
    return np.split(values, np.cumsum(lengths)[:-1])


def _shared_tokens(batch: list[_Row]) -> int:
    """Tokens all contexts begin with, but never a context's last; 0 if too few."""
    first = min(row.context for row in batch)
    last = max(row.context for row in batch)
    most = min(len(row.context) for row in batch) - 1
    same = 0
    while same < most and first[same] == last[same]:
        same += 1
    return same if same >= HEAD_TOKENS and len(batch) > 1 else 0


def _after(model: PreTrainedModel, head: Ids, num_rows: int) -> dict:
    """Keys and values of ``head``, read once, for every row of a batch."""
    cache = DynamicCache(config=model.config)
    ids_1T = torch.tensor([head], device=model.device)
    model.get_decoder()(input_ids=ids_1T, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(num_rows)
    return {"past_key_values": cache}


def _tree_inputs(
    batch: list[_Row], width: int, skip: int, model: PreTrainedModel
) -> dict:
    """Positions (B, T) and an additive mask (B, 1, T, skip + T) for rows of trees."""
    seen_BTK = (
        torch.ones(width, skip + width).tril(skip).bool().repeat(len(batch), 1, 1)
    )
    places_BT = torch.arange(skip, skip + width).repeat(len(batch), 1)
    for seen_TK, places_T, row in zip(seen_BTK, places_BT, batch, strict=True):
        start = len(row.context) - skip
        for branch, k in row.branches.items():
            parent = start + row.branches[branch[:-1]] if branch[:-1] else start - 1
            seen_TK[start + k] = seen_TK[parent]
            seen_TK[start + k, skip + start + k] = True
            places_T[start + k] = len(row.context) + len(branch) - 1
    lowest = torch.finfo(model.dtype).min
    mask_BTK = torch.zeros(seen_BTK.shape, dtype=model.dtype)
    mask_BTK.masked_fill_(~seen_BTK, lowest)
    return {
        "attention_mask": mask_BTK[:, None].to(model.device),
        "position_ids": places_BT.to(model.device),
    }


def _target_logprobs(
    model: PreTrainedModel, hidden_ND: torch.Tensor, targets: list[tuple[int, int]]
) -> np.ndarray:
    """log softmax of state n at token v for every (n, v), in float32.

    logsumexp would be nearer the truth: over a large vocabulary PyTorch's log_softmax
    is some 3e-6 too high on a CPU. But lm-eval uses that, and over 50 tokens it shows.
    """
    rows_M, tokens_M = torch.tensor(targets, device=hidden_ND.device).T
    logprobs_M = torch.empty(len(targets), device=hidden_ND.device)
    head = model.get_output_embeddings()
    for start in range(0, len(hidden_ND), HIDDEN_PER_CHUNK):
        logits_NV = head(hidden_ND[start : start + HIDDEN_PER_CHUNK])
        all_NV = torch.log_softmax(logits_NV, dim=1, dtype=torch.float32)
        here_M = (rows_M >= start) & (rows_M < start + HIDDEN_PER_CHUNK)
        logprobs_M[here_M] = all_NV[rows_M[here_M] - start, tokens_M[here_M]]
    return logprobs_M.double().cpu().numpy()


def _collected(
    found: dict[tuple[int, int], np.ndarray],
    index: int,
    context: Ids,
    tails: Sequence[Ids],
    limit: int,
    fault: str,
) -> PromptScores:
    if fault:
        return PromptScores(fault=fault)
    values = tuple(found[index, j] for j in range(len(tails)))
    if not all(np.isfinite(one).all() for one in values):
        return PromptScores(fault="the model returned NaN or an infinite probability")
    longest = max(len(tail) for tail in tails)
    return PromptScores(values, max(0, len(context) + longest - limit - 1))
