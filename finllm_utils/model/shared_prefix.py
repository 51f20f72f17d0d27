r"""Log-probabilities of many continuations of one prompt, which the model reads once.

The continuations stand behind the prompt as a tree: a token sees the prompt and its own
ancestors, so branches never see each other, and what two continuations begin with is
computed once as well. Four one-token answers need no token beyond the prompt. Only the
hidden states that predict a scored token pass the output layer.

The seam between prompt and continuation, the special tokens and the cut of what is too
long are lm-eval's (lm_eval 0.4.13, ``TemplateLM._encode_pair`` and
``HFLM._loglikelihood_tokens``), and so are the sums, to float32 rounding.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

HIDDEN_PER_CHUNK = 128  # states through the output layer at once: 25 MB at 49k tokens
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
    with torch.inference_mode():
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
    """Rows of like length, longest first; those without a tree need no mask."""
    order = sorted(rows, key=lambda row: (not row.branches, -len(row.ids)))
    begin = 0
    while begin < len(order):
        first = order[begin]
        end = min(begin + max(1, batch_tokens // len(first.ids)), len(order))
        if first.branches:  # stop where rows without a tree begin
            end = next((i for i in range(begin, end) if not order[i].branches), end)
        yield order[begin:end]
        begin = end


def _score_batch(model: PreTrainedModel, batch: list[_Row]) -> list[np.ndarray]:
    """Log-probabilities of the tails of all rows, one after another."""
    ids = [row.ids for row in batch]
    ids_BT = torch.zeros((len(batch), max(map(len, ids))), dtype=torch.long)
    for b, one in enumerate(ids):
        ids_BT[b, : len(one)] = torch.tensor(one)
    tree = _tree_inputs(batch, ids_BT.shape[1], model) if batch[0].branches else {}
    hidden_BTD = model.get_decoder()(
        input_ids=ids_BT.to(model.device), use_cache=False, **tree
    ).last_hidden_state
    states, targets = [], []
    for b, row in enumerate(batch):
        first, start = len(states), len(row.context)
        places = {(): first} | {p: first + 1 + k for p, k in row.branches.items()}
        states += [(b, start - 1 + k) for k in range(len(places))]
        targets += [(places[t[:k]], t[k]) for t in row.tails for k in range(len(t))]
    which_N, where_N = torch.tensor(states, device=model.device).T
    values = _target_logprobs(model, hidden_BTD[which_N, where_N], targets)
    lengths = [len(tail) for row in batch for tail in row.tails]
    return np.split(values, np.cumsum(lengths)[:-1])


def _tree_inputs(batch: list[_Row], width: int, model: PreTrainedModel) -> dict:
    """Positions (B, T) and an additive mask (B, 1, T, T) for rows that hold a tree."""
    seen_BTT = torch.ones(width, width).tril().bool().repeat(len(batch), 1, 1)
    places_BT = torch.arange(width).repeat(len(batch), 1)
    for seen_TT, places_T, row in zip(seen_BTT, places_BT, batch, strict=True):
        start = len(row.context)
        for branch, k in row.branches.items():
            parent = start + row.branches[branch[:-1]] if branch[:-1] else start - 1
            seen_TT[start + k] = seen_TT[parent]
            seen_TT[start + k, start + k] = True
            places_T[start + k] = start + len(branch) - 1
    lowest = torch.finfo(model.dtype).min
    mask_BTT = torch.zeros(seen_BTT.shape, dtype=model.dtype)
    mask_BTT.masked_fill_(~seen_BTT, lowest)
    return {
        "attention_mask": mask_BTT[:, None].to(model.device),
        "position_ids": places_BT.to(model.device),
    }


def _target_logprobs(
    model: PreTrainedModel, hidden_ND: torch.Tensor, targets: list[tuple[int, int]]
) -> np.ndarray:
    """log softmax of state n at token v for every (n, v); the sums are in float32."""
    rows_M, tokens_M = torch.tensor(targets, device=hidden_ND.device).T
    logprobs_M = torch.empty(len(targets), device=hidden_ND.device)
    head = model.get_output_embeddings()
    for start in range(0, len(hidden_ND), HIDDEN_PER_CHUNK):
        logits_NV = head(hidden_ND[start : start + HIDDEN_PER_CHUNK]).float()
        totals_N = logits_NV.logsumexp(1)
        here_M = (rows_M >= start) & (rows_M < start + HIDDEN_PER_CHUNK)
        local_M = rows_M[here_M] - start
        logprobs_M[here_M] = logits_NV[local_M, tokens_M[here_M]] - totals_N[local_M]
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
