"""AdamW on float32 master weights while the model computes in bfloat16."""

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from finllm_utils.config import PretrainConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


class MasterAdamW:
    """Keeps a float32 copy of every trainable parameter and steps on that copy.

    A bfloat16 weight has 8 bits of mantissa: an update below 1/256 of it is lost, so
    small updates are collected in float32 and rounded once a step. Where the parameter
    itself is to stay float32 (float32 training, or a sharded model that computes on
    bfloat16 copies of its own), it is its own master and nothing is copied.
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: PretrainConfig,
        embedding_names: set[str],
        *,
        separate: bool = True,
        first_row: int = 0,
    ) -> None:
        """Embeddings have their own rate and no decay; matrices have both.

        Args: separate False makes each parameter its own master; embedding rows below
        ``first_row`` never move.
        """
        self._pairs: dict[str, tuple[nn.Parameter, torch.Tensor]] = {}
        embeddings, matrices, vectors = [], [], []
        self._limited: list[tuple[torch.Tensor, int]] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            master = parameter.detach().float().clone() if separate else parameter
            self._pairs[name] = (parameter, master)
            if name in embedding_names:
                embeddings.append(master)
                if first_row:
                    self._limited.append((master, local_row(master, first_row)))
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
        for _, master in self._pairs.values():
            self._optimizer.state[master] = _empty_state(master)

    @torch.no_grad()
    def collect(self) -> None:
        """Adds the gradients of a micro-batch to those of the masters, in float32."""
        for parameter, master in self._pairs.values():
            if parameter is master:
                continue
            gradient = parameter.grad.float()
            parameter.grad = None
            if master.grad is None:
                master.grad = gradient
            else:
                master.grad.add_(gradient)

    @torch.no_grad()
    def clip(self) -> float:
        """Clips the collected gradients; returns their norm before that."""
        for master, row in self._limited:
            local = master.grad
            (local.to_local() if isinstance(local, DTensor) else local)[:row].zero_()
        masters = [master for _, master in self._pairs.values()]
        limit = self._max_grad_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(masters, limit)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """One update at ``rate`` times the peak rates, then forgets the gradients."""
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        self._optimizer.step()
        self.forget()
        self._publish()

    def step(self, rate: float) -> float:
        """Collects, clips and updates; returns the unclipped norm."""
        self.collect()
        norm = self.clip()
        self.update(rate)
        return norm

    def forget(self) -> None:
        """Drops all gradients."""
        for parameter, master in self._pairs.values():
            parameter.grad = master.grad = None

    def masters(self) -> dict[str, torch.Tensor]:
        """Float32 weights by parameter name."""
        return {name: master for name, (_, master) in self._pairs.items()}

    def state(self) -> dict[str, torch.Tensor]:
        """Masters and moments under flat names; the tensors themselves, no copies."""
        named = {f"master.{n}": m.detach() for n, m in self.masters().items()}
        for name, master in self.masters().items():
            own = self._optimizer.state[master]
            named |= {f"{key}.{name}": own[key] for key in MOMENTS}
        return named

    @torch.no_grad()
    def state_loaded(self, num_updates: int) -> None:
        """Must follow when the tensors of ``state()`` were filled from elsewhere."""
        for _, master in self._pairs.values():
            self._optimizer.state[master]["step"].fill_(num_updates)
        self._publish()

    def state_bytes(self) -> int:
        """Bytes of masters and moments that this process holds."""
        return sum(local_bytes(tensor) for tensor in self.state().values())

    @torch.no_grad()
    def _publish(self) -> None:
        """Rounds the masters into the parameters that compute."""
        pairs = [pair for pair in self._pairs.values() if pair[0] is not pair[1]]
        if pairs:
            parameters, masters = zip(*pairs, strict=True)
            torch._foreach_copy_(parameters, masters)


def _empty_state(master: torch.Tensor) -> dict[str, torch.Tensor]:
    """What AdamW would make at its first step; here from the start, to be loaded."""
    step = torch.zeros((), dtype=torch.float32, device=master.device)
    with torch.no_grad():
        return {"step": step} | {key: torch.zeros_like(master) for key in MOMENTS}


def local_row(tensor: torch.Tensor, row: int) -> int:
    """How many of the first ``row`` rows are in this process's part of ``tensor``."""
    if not isinstance(tensor, DTensor):
        return row
    shape, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return max(0, min(shape[0], row - offset[0])) if shape[0] else 0


def local_bytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, or of this process's part of it."""
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local.numel() * local.element_size()
