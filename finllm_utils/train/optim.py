"""AdamW on float32 master weights while the model computes in bfloat16."""

import torch
from torch import nn

from finllm_utils.config import PretrainConfig


class MasterAdamW:
    """Keeps a float32 copy of every trainable parameter and steps on that copy.

    A bfloat16 weight has 8 bits of mantissa: an update below 1/256 of it is lost, so
    small updates are collected in float32 and rounded once a step.
    """

    def __init__(
        self, model: nn.Module, cfg: PretrainConfig, embedding_names: set[str]
    ) -> None:
        """Embeddings have their own rate and no decay; matrices have both."""
        self._pairs: dict[str, tuple[nn.Parameter, torch.Tensor]] = {}
        embeddings, matrices, vectors = [], [], []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            master = parameter.detach().float().clone()
            self._pairs[name] = (parameter, master)
            if name in embedding_names:
                embeddings.append(master)
            else:
                (matrices if parameter.ndim > 1 else vectors).append(master)
        groups = [
            {"params": embeddings, "peak": cfg.embedding_learning_rate, "decay": 0.0},
            {"params": matrices, "peak": cfg.learning_rate, "decay": cfg.weight_decay},
            {"params": vectors, "peak": cfg.learning_rate, "decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": g["params"], "lr": g["peak"], "weight_decay": g["decay"]}
                for g in groups
                if g["params"]
            ],
            betas=(0.9, 0.95),
            fused=True,
        )
        self._peaks = [g["peak"] for g in groups if g["params"]]
        self._max_grad_norm = cfg.max_grad_norm

    @torch.no_grad()
    def step(self, rate: float) -> float:
        """One update at ``rate`` times the peak rates; returns the unclipped norm."""
        masters = []
        for parameter, master in self._pairs.values():
            master.grad = parameter.grad.float()
            parameter.grad = None
            masters.append(master)
        limit = self._max_grad_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(masters, limit)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        self._optimizer.step()
        for parameter, master in self._pairs.values():
            parameter.copy_(master)
            master.grad = None
        return float(norm)

    def masters(self) -> dict[str, torch.Tensor]:
        """Float32 weights by parameter name."""
        return {name: master for name, (_, master) in self._pairs.items()}


def linear_rate(step: int, num_steps: int, warmup_steps: int, floor: float) -> float:
    """Factor in [floor, 1]: linear warm-up, then linear decay to ``floor``."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    left = (num_steps - step) / max(1, num_steps - warmup_steps)
    return floor + (1 - floor) * left
