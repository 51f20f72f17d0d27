"""The loss of packed rows: summed nats of every token that a row can predict."""

import torch
from torch import nn
from transformers import PreTrainedModel

from finllm_utils.model.attention import AttentionChoice, packed_kwargs
from finllm_utils.train.bins import labels_of
from finllm_utils.train.cross_entropy import tiled_cross_entropy

Batch = dict[str, torch.Tensor | int]
_MASKED = AttentionChoice("sdpa", "positions alone keep documents apart")


def prepare_batch(
    rows_BT: torch.Tensor,
    bos_id: int,
    device: str | torch.device,
    choice: AttentionChoice = _MASKED,
) -> Batch:
    """``labels`` and what the model is called with, on ``device``; rows on the CPU.

    No attention mask and no cache: only then do restarting positions isolate documents.
    """
    batch = {
        "input_ids": rows_BT,
        "labels": labels_of(rows_BT, bos_id),
        **packed_kwargs(rows_BT, bos_id, choice),
    }
    return {name: _moved(value, str(device)) for name, value in batch.items()}


def _moved(value: torch.Tensor | int, device: str) -> torch.Tensor | int:
    """On the device; from pinned memory a copy to a GPU does not wait for it."""
    if not isinstance(value, torch.Tensor) or device == "cpu":
        return value
    if device.startswith("cuda"):
        value = value.pin_memory()
    return value.to(device, non_blocking=True)


def batch_loss(
    model: PreTrainedModel, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy in nats over the labelled tokens, with its gradient.

    Returns: the sum, and nats and labelled tokens of each row, (2, B) float32.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    hidden_BTD = model.get_decoder()(**inputs, use_cache=False).last_hidden_state
    hidden_ND, labels_BT = hidden_BTD.flatten(0, 1), batch["labels"]
    labels_N = labels_BT.flatten()
    nats_N = torch.zeros_like(labels_N, dtype=torch.float32)
    weight_VD = model.get_output_embeddings().weight
    if hidden_ND.device.type == "cpu":
        kept_K = (labels_N != -100).nonzero().flatten()
        nats_K = nats_N[kept_K]
        loss = tiled_cross_entropy(
            hidden_ND[kept_K], weight_VD, labels_N[kept_K], nats_out=nats_K
        )
        nats_N[kept_K] = nats_K
    else:  # to look up which are kept would wait for the device
        loss = tiled_cross_entropy(hidden_ND, weight_VD, labels_N, nats_out=nats_N)
    nats_B, tokens_B = nats_N.view_as(labels_BT).sum(1), (labels_BT != -100).sum(1)
    return loss, torch.stack([nats_B, tokens_B.float()])


def token_loss_sum(
    model: PreTrainedModel, rows_BT: torch.Tensor, bos_id: int
) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy in nats over the labelled tokens, and their number."""
    device = next(model.parameters()).device
    loss, nats_2B = batch_loss(model, prepare_batch(rows_BT, bos_id, device))
    return loss, int(nats_2B[1].sum())


class RowLoss(nn.Module):
    """The model and its loss as one module: the root that several processes shard."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Holds the model, which stays usable on its own."""
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``batch_loss``."""
        return batch_loss(self.model, batch)
