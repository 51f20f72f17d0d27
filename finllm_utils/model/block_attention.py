"""Attention over packed documents for a CPU: blocks of queries, only keys they may see.

PyTorch's CPU flash kernel has a slow backward pass in bfloat16 and reads every key of
the row. Here a block of queries meets only the keys between the first document of that
block and its own end, in plain batched matmuls, which a CPU's matrix units are good at.
Probabilities are kept for the backward pass: computing them again took twice the time.
It is one operator for ``torch.compile``: what it skips depends on the batch.
"""

import torch

BLOCK_ROWS = 128  # queries a block; 64 is as fast, 256 skips less


def _blocks(first_BT: torch.Tensor) -> list[tuple[int, int, int]]:
    """(first query, end, first key) of each block; the end holds for both."""
    length = first_BT.shape[1]
    lows = first_BT[:, ::BLOCK_ROWS].amin(0).tolist()
    starts = range(0, length, BLOCK_ROWS)
    return [
        (start, min(start + BLOCK_ROWS, length), low)
        for start, low in zip(starts, lows, strict=True)
    ]


def _kept_numbers(rows: int, heads: int, length: int) -> int:
    """Probabilities at most: what one document a row, causal in blocks, would keep."""
    starts = range(0, length, BLOCK_ROWS)
    ends = [min(start + BLOCK_ROWS, length) for start in starts]
    areas = ((end - start) * end for start, end in zip(starts, ends, strict=True))
    return rows * heads * sum(areas)


def _folded(x_BNTH: torch.Tensor, groups: int, start: int, end: int) -> torch.Tensor:
    """Tokens start to end, heads of one key head below each other: (B K, G n, H)."""
    part = x_BNTH[:, :, start:end]
    rows, heads, tokens, width = part.shape
    return part.reshape(rows * heads // groups, groups * tokens, width)


@torch.library.custom_op("finllm::block_attention", mutates_args=())
def block_attention(
    q_BNTH: torch.Tensor,
    k_BKTH: torch.Tensor,
    v_BKTH: torch.Tensor,
    first_BT: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention within documents, causal, and the probabilities it used.

    Args: N query heads are a multiple of K key heads; first_BT says where in its row
    each token's document starts.
    Returns: (B, N, T, H) and a flat buffer that only the backward pass reads.
    """
    rows, heads, length, width = q_BNTH.shape
    groups = heads // k_BKTH.shape[1]
    out_BNTH = torch.empty_like(q_BNTH)
    kept = q_BNTH.new_empty(_kept_numbers(rows, heads, length))
    places_T = torch.arange(length, device=q_BNTH.device)
    scaled_BNTH, used = q_BNTH * scale, 0
    for start, end, low in _blocks(first_BT):
        query = _folded(scaled_BNTH, groups, start, end)
        scores = torch.bmm(query, _folded(k_BKTH, 1, low, end).transpose(1, 2))
        keys_S, first_BU = places_T[low:end], first_BT[:, start:end, None]
        hidden_BUS = (keys_S > places_T[start:end, None]) | (keys_S < first_BU)
        shape = (rows, heads, end - start, end - low)
        scores.view(shape).masked_fill_(hidden_BUS[:, None], float("-inf"))
        shares = kept[used : used + scores.numel()].view_as(scores)
        torch.softmax(scores, -1, out=shares)
        block = torch.bmm(shares, _folded(v_BKTH, 1, low, end))
        out_BNTH[:, :, start:end] = block.view(rows, heads, end - start, width)
        used += scores.numel()
    return out_BNTH, kept


@block_attention.register_fake
def _(q_BNTH, k_BKTH, v_BKTH, first_BT, scale):
    rows, heads, length, _ = q_BNTH.shape
    numbers = _kept_numbers(rows, heads, length)
    return torch.empty_like(q_BNTH), q_BNTH.new_empty(numbers)


@torch.library.custom_op("finllm::block_attention_backward", mutates_args=())
def _backward_op(
    grad_BNTH: torch.Tensor,
    q_BNTH: torch.Tensor,
    k_BKTH: torch.Tensor,
    v_BKTH: torch.Tensor,
    first_BT: torch.Tensor,
    out_BNTH: torch.Tensor,
    kept: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, heads, _, width = q_BNTH.shape
    groups = heads // k_BKTH.shape[1]
    grad_q = torch.empty_like(q_BNTH)
    # Several blocks add to the same keys: their sums stay in float32.
    grad_k = torch.zeros_like(k_BKTH, dtype=torch.float32)
    grad_v = torch.zeros_like(v_BKTH, dtype=torch.float32)
    # sum(share * d share) of a query equals sum(out * d out)
    shared_BNT1 = (grad_BNTH.float() * out_BNTH.float()).sum(-1, keepdim=True)
    shared_BNT1, scaled_BNTH = shared_BNT1.to(q_BNTH.dtype), q_BNTH * scale
    used = 0
    for start, end, low in _blocks(first_BT):
        grad = _folded(grad_BNTH, groups, start, end)
        keys, size = _folded(k_BKTH, 1, low, end), end - low
        shape = (grad.shape[0], grad.shape[1], size)
        numbers = grad.shape[0] * grad.shape[1] * size
        shares = kept[used : used + numbers].view(shape)
        used += numbers
        into = (rows, heads // groups, size, width)
        grad_v[:, :, low:end] += torch.bmm(shares.transpose(1, 2), grad).view(into)
        scores = torch.bmm(grad, _folded(v_BKTH, 1, low, end).transpose(1, 2))
        scores.sub_(_folded(shared_BNT1, groups, start, end)).mul_(shares)
        block = torch.bmm(scores, keys * scale)
        grad_q[:, :, start:end] = block.view(rows, heads, end - start, width)
        query = _folded(scaled_BNTH, groups, start, end)
        grad_k[:, :, low:end] += torch.bmm(scores.transpose(1, 2), query).view(into)
    return grad_q, grad_k.to(k_BKTH.dtype), grad_v.to(v_BKTH.dtype)


@_backward_op.register_fake
def _(grad_BNTH, q_BNTH, k_BKTH, v_BKTH, first_BT, out_BNTH, kept, scale):
    return tuple(torch.empty_like(x) for x in (q_BNTH, k_BKTH, v_BKTH))


def _keep(ctx, inputs, output):
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)


def _backward(ctx, grad_BNTH, _grad_kept):
    grads = _backward_op(grad_BNTH, *ctx.saved_tensors, ctx.scale)
    return *grads, None, None


block_attention.register_autograd(_backward, setup_context=_keep)
