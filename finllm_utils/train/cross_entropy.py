"""Cross-entropy through the output layer in tiles of the vocabulary.

With 38,912 rows the output layer is most of a toy step, and what costs is not its
arithmetic but moving B x T x V numbers through memory several times. Here exp(logits)
is made one cache-sized tile at a time and never normalised: the softmax's denominator
is divided out of the two small gradients instead.
"""

import torch
import torch.nn.functional as F

TILE_ROWS = 1_024  # vocabulary rows a tile: 1,024 x 2,048 bfloat16 is 4 MB


class _TiledCrossEntropy(torch.autograd.Function):
    """Forward computes loss and both gradients; backward only scales them."""

    @staticmethod
    def forward(ctx, hidden_ND, weight_VD, labels_N):
        hidden_DN = hidden_ND.t().contiguous()
        total_N = torch.zeros(
            len(labels_N), dtype=torch.float32, device=labels_N.device
        )
        grad_hidden_DN = torch.zeros_like(hidden_DN, dtype=torch.float32)
        tiles = []
        for rows_D in weight_VD.split(TILE_ROWS):
            exp_VN = torch.mm(rows_D, hidden_DN).exp_()
            total_N += exp_VN.sum(dim=0, dtype=torch.float32)
            grad_hidden_DN += torch.mm(rows_D.t(), exp_VN)
            tiles.append(exp_VN)
        if not bool(((total_N > 0) & torch.isfinite(total_N)).all()):
            return _plain(ctx, hidden_ND, weight_VD, labels_N)
        label_rows_ND = weight_VD[labels_N].float()
        label_logits_N = (hidden_ND.float() * label_rows_ND).sum(dim=1)
        # d loss / d logit = exp / total, minus 1 at the label; the division is done on
        # the small side.
        scaled_ND = (hidden_ND / total_N[:, None]).to(hidden_ND.dtype)
        grad_weight_VD = torch.empty_like(weight_VD, dtype=torch.float32)
        for start, exp_VN in enumerate(tiles):
            rows = slice(start * TILE_ROWS, start * TILE_ROWS + len(exp_VN))
            grad_weight_VD[rows] = torch.mm(exp_VN, scaled_ND)
        grad_weight_VD.index_add_(0, labels_N, hidden_ND.float(), alpha=-1)
        grad_hidden_ND = grad_hidden_DN.t() / total_N[:, None] - label_rows_ND
        ctx.save_for_backward(
            grad_hidden_ND.to(hidden_ND.dtype), grad_weight_VD.to(weight_VD.dtype)
        )
        return (total_N.log() - label_logits_N).sum()

    @staticmethod
    def backward(ctx, scale):
        grad_hidden_ND, grad_weight_VD = ctx.saved_tensors
        return grad_hidden_ND * scale, grad_weight_VD * scale, None


def _plain(ctx, hidden_ND, weight_VD, labels_N):
    """The same by the library, for logits beyond what exp can hold (about 88)."""
    with torch.enable_grad():
        hidden_ND = hidden_ND.detach().requires_grad_()
        weight_VD = weight_VD.detach().requires_grad_()
        logits_NV = F.linear(hidden_ND, weight_VD)
        loss = F.cross_entropy(logits_NV.float(), labels_N, reduction="sum")
        gradients = torch.autograd.grad(loss, (hidden_ND, weight_VD))
    ctx.save_for_backward(*gradients)
    return loss.detach()


def tiled_cross_entropy(
    hidden_ND: torch.Tensor, weight_VD: torch.Tensor, labels_N: torch.Tensor
) -> torch.Tensor:
    """Summed cross-entropy in nats of ``softmax(hidden @ weight.T)`` at ``labels``.

    Args: hidden (N, D) and weight (V, D) of one dtype; labels (N,) int64 in [0, V).
    Differs: logits are not shifted by their maximum; when exp overflows or vanishes the
    library's own cross-entropy is used for that batch.
    """
    return _TiledCrossEntropy.apply(hidden_ND, weight_VD, labels_N)
