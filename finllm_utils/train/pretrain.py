"""The pre-training loop, for the English base, stage 1 and stage 2 alike.

What differs between them is data and which parameters learn; both come from the config.
Called by notebooks 03 and 04; scoring comes from outside through callbacks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from finllm_utils.config import PretrainConfig, RuntimeConfig
from finllm_utils.runtime import resolve_device, resolve_dtype
from finllm_utils.train.bins import PackedBin, labels_of, position_ids
from finllm_utils.train.cross_entropy import tiled_cross_entropy
from finllm_utils.train.mixture import DOMAINS, RowPlan, plan_rows
from finllm_utils.train.optim import MasterAdamW, linear_rate

LogCallback = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainResult:
    """What a pass did."""

    plan: RowPlan
    num_tokens: int
    seconds: float
    losses: tuple[float, ...]  # nats a token, one a step

    @property
    def tokens_per_s(self) -> float:
        """Trained tokens a second, reading and optimiser included."""
        return self.num_tokens / self.seconds


class MixedRows:
    """Rows of all domains in the order of a plan."""

    def __init__(self, folder: Path, plan: RowPlan, seq_len: int, seed: int) -> None:
        """Opens the bins that the plan draws from."""
        self._plan = plan
        self._bins = {
            d: PackedBin(folder, name, seq_len, seed)
            for d, name in enumerate(DOMAINS)
            if (plan.domain == d).any()
        }

    def batch(self, start: int, size: int) -> torch.Tensor:
        """Rows ``start`` to ``start + size`` of the plan, (B, T) int64."""
        rows = [
            self._bins[int(self._plan.domain[i])].row(int(self._plan.index[i]))
            for i in range(start, start + size)
        ]
        return torch.stack([torch.from_numpy(row) for row in rows])


def token_loss_sum(
    model: PreTrainedModel, rows_BT: torch.Tensor, bos_id: int
) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy in nats over the labelled tokens, and their number.

    No attention mask and no cache: only then do restarting positions isolate documents.
    """
    device = next(model.parameters()).device
    labels = labels_of(rows_BT, bos_id).flatten().to(device)
    hidden_BTD = model.model(
        input_ids=rows_BT.to(device),
        position_ids=position_ids(rows_BT, bos_id).to(device),
        use_cache=False,
    ).last_hidden_state
    kept = labels != -100
    loss = tiled_cross_entropy(
        hidden_BTD.flatten(0, 1)[kept], model.lm_head.weight, labels[kept]
    )
    return loss, int(kept.sum())


def select_trainable(model: PreTrainedModel, names: set[str] | None) -> None:
    """Lets only the named parameters learn; None means all."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(names is None or name in names)


def pretrain(
    model: PreTrainedModel,
    bins: Path,
    cfg: PretrainConfig,
    runtime: RuntimeConfig,
    *,
    embedding_names: set[str],
    seed: int,
    on_log: LogCallback | None = None,
) -> PretrainResult:
    """Trains ``model`` in place for ``cfg.num_steps`` steps; weights end up in float32.

    Args:
        bins: folder written by ``bins.write_bin``, one bin a domain.
        embedding_names: parameters with the embedding rate; the only ones that learn
            when ``cfg.trainable`` is "embeddings".
        on_log: called every ``cfg.log_every`` steps with named numbers.

    Raises: ValueError when the loss stops being finite, with the step and the remedy.
    """
    frozen = {n: p.detach().clone() for n, p in model.named_parameters()}
    select_trainable(model, embedding_names if cfg.trainable == "embeddings" else None)
    plan = plan_rows(cfg, cfg.num_steps * cfg.global_batch_size, seed)
    rows = MixedRows(bins, plan, cfg.seq_len, seed)
    optimizer = MasterAdamW(model, cfg, embedding_names)
    _cast_parameters(model.to(resolve_device(runtime.device)).train(), runtime.dtype)
    bos_id = model.config.bos_token_id
    losses, num_tokens, started = [], 0, time.perf_counter()
    for step in range(cfg.num_steps):
        loss_sum, count = 0.0, 0
        first = step * cfg.global_batch_size
        for start in range(0, cfg.global_batch_size, cfg.micro_batch_size):
            batch_BT = rows.batch(first + start, cfg.micro_batch_size)
            loss, num_labels = token_loss_sum(model, batch_BT, bos_id)
            # Rows hold nearly equal numbers of labels: dividing by the row budget keeps
            # the gradient the mean over tokens without a second pass to count them.
            (loss / cfg.tokens_per_step).backward()
            loss_sum, count = loss_sum + float(loss.detach()), count + num_labels
        rate = linear_rate(step, cfg.num_steps, cfg.warmup_steps, cfg.min_lr_ratio)
        norm = optimizer.step(rate)
        losses.append(loss_sum / count)
        num_tokens += cfg.tokens_per_step
        _check_finite(losses[-1], step)
        if on_log and (step % cfg.log_every == 0 or step == cfg.num_steps - 1):
            speed = num_tokens / (time.perf_counter() - started)
            values = {"loss": losses[-1], "grad_norm": norm, "rate": rate}
            on_log(step, values | {"tokens": num_tokens, "tokens_per_s": speed})
    seconds = time.perf_counter() - started
    _restore_float32(model, optimizer, frozen)
    return PretrainResult(
        plan=plan, num_tokens=num_tokens, seconds=seconds, losses=tuple(losses)
    )


def _cast_parameters(model: PreTrainedModel, dtype: str) -> None:
    """Casts weights only: rotary frequencies in bfloat16 would turn by wrong angles."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(resolve_dtype(dtype))


def _check_finite(loss: float, step: int) -> None:
    if not (loss < float("inf")):
        raise ValueError(
            f"step {step}: the loss is {loss}; lower learning_rate and "
            "embedding_learning_rate, or raise warmup_steps, and run the notebook again"
        )


@torch.no_grad()
def _restore_float32(
    model: PreTrainedModel, optimizer: MasterAdamW, before: dict[str, torch.Tensor]
) -> None:
    """Leaves float32 masters in the model, and frozen weights bit for bit as before."""
    model.float().eval()
    masters = optimizer.masters()
    for name, parameter in model.named_parameters():
        parameter.copy_(masters.get(name, before[name]))
        parameter.requires_grad_(True)
