"""Cross-entropy through the output layer without ever holding B x T x V logits.

Loss and both gradients come from one forward pass over chunks of tokens, so memory is
bounded by a chunk. Each device has its way with a chunk:

- On a CPU what costs is not arithmetic but moving logits through memory several times.
  exp(logits) is made one cache-sized tile of the vocabulary at a time and never
  normalised: the softmax's denominator is divided out of the two small gradients.
- Elsewhere a chunk's softmax is taken in float32.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

TILE_ROWS = 1_024  # vocabulary rows a tile: 1,024 x 2,048 bfloat16 is 4 MB
CHUNK_NUMBERS = 2**26
"""Tokens x vocabulary that may exist at once: tiles keep them in the weights' dtype, a
softmax in that and in float32. Larger chunks were no faster on a CPU."""
PATHS = ("tiles", "softmax")
_SAFE = 1e30  # sums of exp beyond it, or below its inverse, may lose a gradient


def cross_entropy_path(
    device: str | torch.device, path: str = "auto"
) -> tuple[str, str]:
    """The way taken there, one of ``PATHS``, and why.

    Raises: ValueError for an unknown path.
    """
    if path == "auto":
        if str(device).split(":")[0] == "cpu":  # "npu" is unknown without torch-npu
            return "tiles", "on a CPU tiles of exp(logits) move the least memory"
        return "softmax", "chunks of tokens, softmax in float32"
    if path not in PATHS:
        raise ValueError(f"cross-entropy {path!r}: use auto, {', '.join(PATHS)}")
    return path, "it was asked for"


def tiled_cross_entropy(
    hidden_ND: torch.Tensor,
    weight_VD: torch.Tensor,
    labels_N: torch.Tensor,
    *,
    nats_out: torch.Tensor | None = None,
    path: str = "auto",
) -> torch.Tensor:
    """Summed cross-entropy in nats of ``softmax(hidden @ weight.T)`` at ``labels``.

    Args:
        hidden_ND: of one dtype with the weight, (V, D).
        labels_N: int64 in [0, V); a token with -100 counts for nothing.
        nats_out: (N,) float32, receives the nats of each token.
        path: see ``cross_entropy_path``.

    Differs: tiles do not shift logits by their maximum; a chunk whose exp overflows or
    vanishes goes through the softmax.
    """
    name, _ = cross_entropy_path(hidden_ND.device, path)
    if len(labels_N) == 0:
        return 0.0 * (hidden_ND.sum() + weight_VD[:1].sum()).float()
    wanted = torch.is_grad_enabled()
    return _ChunkedCrossEntropy.apply(
        hidden_ND, weight_VD, labels_N, nats_out, name, wanted
    )


def chunk_tokens(num_tokens: int, vocab_size: int) -> int:
    """Tokens a chunk: equal chunks, none beyond the numbers that may exist at once."""
    at_most = max(1, CHUNK_NUMBERS // vocab_size)
    chunks = -(-num_tokens // at_most)
    return -(-num_tokens // chunks)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forward computes loss and both gradients; backward only scales them."""

    @staticmethod
    def forward(ctx, hidden_ND, weight_VD, labels_N, nats_out, name, wanted):
        way: Callable = {"tiles": _by_tiles, "softmax": _by_softmax}[name]
        wants = [wanted and need for need in ctx.needs_input_grad[:2]]
        grad_hidden_ND = torch.empty_like(hidden_ND) if wants[0] else None
        grad_weight_VD = (
            torch.empty_like(weight_VD, dtype=torch.float32) if wants[1] else None
        )
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        size = chunk_tokens(len(labels_N), len(weight_VD))
        for start in range(0, len(labels_N), size):
            part = slice(start, start + size)
            nats_C, grad_CD = way(
                hidden_ND[part],
                weight_VD,
                labels_N[part],
                wants[0],
                _Sum(grad_weight_VD, empty=start == 0),
            )
            total += nats_C.sum()
            if nats_out is not None:
                nats_out[part] = nats_C
            if wants[0]:
                grad_hidden_ND[part] = grad_CD
        if wants[1]:
            grad_weight_VD = grad_weight_VD.to(weight_VD.dtype)
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD)
        return total

    @staticmethod
    def backward(ctx, scale):
        hidden, weight = ctx.saved_tensors
        return (
            None if hidden is None else hidden * scale,
            None if weight is None else weight * scale,
            *[None] * 4,
        )


class _Sum:
    """A float32 gradient of the weight that chunks add to; None takes nothing."""

    def __init__(self, total_VD: torch.Tensor | None, *, empty: bool) -> None:
        self.total_VD, self.empty = total_VD, empty

    def add(self, rows: slice, part_RD: torch.Tensor) -> None:
        """Adds to some rows; the first chunk finds nothing there yet."""
        if self.empty:
            self.total_VD[rows] = part_RD
        else:
            self.total_VD[rows] += part_RD


def _by_tiles(
    hidden_CD: torch.Tensor,
    weight_VD: torch.Tensor,
    labels_C: torch.Tensor,
    wants_hidden: bool,
    grad_weight: _Sum,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Nats of a chunk and the gradient of its hidden states; adds the weight's."""
    kept_C = labels_C >= 0
    hidden_DC = hidden_CD.t().contiguous()
    total_C = torch.zeros(len(labels_C), dtype=torch.float32, device=labels_C.device)
    grad_DC = torch.zeros_like(hidden_DC, dtype=torch.float32)
    wants_weight, tiles = grad_weight.total_VD is not None, []
    for rows_RD in weight_VD.split(TILE_ROWS):
        exp_RC = torch.mm(rows_RD, hidden_DC).exp_()
        total_C += exp_RC.sum(dim=0, dtype=torch.float32)
        if wants_hidden:
            grad_DC += torch.mm(rows_RD.t(), exp_RC)
        if wants_weight:
            tiles.append(exp_RC)
    if not bool(((total_C > 1 / _SAFE) & (total_C < _SAFE)).all()):
        tiles.clear()
        return _by_softmax(hidden_CD, weight_VD, labels_C, wants_hidden, grad_weight)
    label_rows_CD = weight_VD[labels_C.clamp(min=0)].float()
    label_logits_C = (hidden_CD.float() * label_rows_CD).sum(dim=1)
    # d loss / d logit = exp / total, minus 1 at the label; the division is done on the
    # small side.
    share_C1 = (kept_C / total_C)[:, None]
    if wants_weight:
        scaled_CD = (hidden_CD * share_C1).to(hidden_CD.dtype)
        for tile, exp_RC in enumerate(tiles):
            rows = slice(tile * TILE_ROWS, tile * TILE_ROWS + len(exp_RC))
            grad_weight.add(rows, torch.mm(exp_RC, scaled_CD))
        own_CD = hidden_CD.float() * kept_C[:, None]
        grad_weight.total_VD.index_add_(0, labels_C.clamp(min=0), own_CD, alpha=-1)
    nats_C = (total_C.log() - label_logits_C) * kept_C
    if not wants_hidden:
        return nats_C, None
    return nats_C, grad_DC.t() * share_C1 - label_rows_CD * kept_C[:, None]


def _by_softmax(
    hidden_CD: torch.Tensor,
    weight_VD: torch.Tensor,
    labels_C: torch.Tensor,
    wants_hidden: bool,
    grad_weight: _Sum,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The same for logits of any size, through log-softmax in float32."""
    dtype, kept_C1 = hidden_CD.dtype, (labels_C >= 0)[:, None]
    places_C1 = labels_C.clamp(min=0)[:, None]
    logits_CV = F.linear(hidden_CD, weight_VD)
    logs_CV = F.log_softmax(logits_CV, dim=-1, dtype=torch.float32)
    del logits_CV
    nats_C = (-logs_CV.gather(1, places_C1) * kept_C1).squeeze(1)
    wants_weight = grad_weight.total_VD is not None
    if not (wants_hidden or wants_weight):
        return nats_C, None
    shares_CV = logs_CV.exp_()
    minus_C1 = -torch.ones_like(places_C1, dtype=torch.float32)
    shares_CV.scatter_add_(1, places_C1, minus_C1).mul_(kept_C1)
    shares_CV = shares_CV.to(dtype)
    if wants_weight:
        grad_weight.add(slice(None), torch.mm(shares_CV.t(), hidden_CD))
    return nats_C, torch.mm(shares_CV, weight_VD) if wants_hidden else None
