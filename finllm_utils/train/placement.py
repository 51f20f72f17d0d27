"""A model made ready to train, and what is left of that when it is done.

On one process it is the caller's own model, its weights rounded to the run's dtype; of
several, a copy that is sharded, while the caller's stays whole for scores and the end.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from finllm_utils.config import PretrainConfig
from finllm_utils.model.attention import resolve_attention, use_attention
from finllm_utils.train import parallel
from finllm_utils.train.compile import as_written, compile_layers, uncompile_layers
from finllm_utils.train.loss import RowLoss
from finllm_utils.train.optim import MasterAdamW
from finllm_utils.train.trainable import merge, prepare, remove


class Placed:
    """Model, optimiser and kernels of a pass."""

    def __init__(
        self,
        model: PreTrainedModel,
        cfg: PretrainConfig,
        device: str,
        dtype: torch.dtype,
        *,
        embedding_names: set[str],
        first_new_row: int,
        seed: int,
        world: parallel.World,
    ) -> None:
        """Marks what learns, moves, speeds up, shards, and makes the optimiser."""
        self.model, self._cfg, self._world = model, cfg, world
        self._start = [] if world.shared else _copies(model)
        trainable = prepare(
            model, cfg, embedding_names, first_new_row=first_new_row, seed=seed
        )
        self._lora = trainable.lora
        separate = not world.shared and dtype != torch.float32
        working = copy.deepcopy(model) if world.shared else model
        # Of several processes each moves its own shard only, when it is made.
        self.root = RowLoss(working if world.shared else working.to(device)).train()
        self.notes = self._speed_up(working, device, dtype)
        if world.shared:
            mesh = parallel.make_mesh(device, world, cfg.num_replicas)
            layers = working.get_decoder().layers
            parallel.shard(self.root, layers, mesh, dtype, cfg.keep_gathered)
        self.optimizer = MasterAdamW(
            working,
            cfg,
            embedding_names,
            separate=separate,
            first_row=trainable.first_row,
        )
        if separate:
            _cast_parameters(working, dtype)
        self.draws = _draws(working)

    def _speed_up(
        self, working: PreTrainedModel, device: str, dtype: torch.dtype
    ) -> list[str]:
        """Switches on what the config asks of speed and memory; what it took."""
        cfg, name = self._cfg, self._cfg.attention
        if name == "auto" and getattr(working.config, "attention_dropout", 0.0):
            name = "sdpa"  # the other kernels know no dropout
        self.attention = resolve_attention(name, device, dtype)
        self._attention_before = use_attention(working, self.attention)
        if cfg.activation_checkpointing:
            working.activation_checkpointing_enable({"use_reentrant": False})
        compiled = compile_layers(
            working,
            cfg.compile,
            device=device,
            expected_steps=cfg.num_steps,
        )
        return [f"attention: {self.attention.name}, {self.attention.reason}", compiled]

    @contextmanager
    def whole_model(self) -> Iterator[PreTrainedModel]:
        """The model as it is now, in eval mode; of several processes on rank 0 only.

        With the attention it came with, and uncompiled: what scores it pads its rows.
        """
        if self._world.shared:
            own = dict(self.model.named_parameters())
            parallel.copy_whole(self.optimizer.masters(), own, self._world)
        self.model.eval()
        if not self._world.shared:
            self.model.set_attn_implementation(self._attention_before)
        try:
            with as_written(self.model):
                yield self.model
        finally:
            if not self._world.shared:
                use_attention(self.model, self.attention)
            self.root.train()
            parallel.barrier(self._world)

    @torch.no_grad()
    def leave(self) -> None:
        """Leaves float32 weights in the caller's model, plain and whole.

        Frozen weights are bit for bit as before. Of several processes only rank 0 has
        the trained weights.
        """
        model = self.model
        model.float().eval()
        own = dict(model.named_parameters())
        for parameter, before in self._start:
            if not parameter.requires_grad:  # rounding would have changed it
                parameter.copy_(before)
        parallel.copy_whole(self.optimizer.masters(), own, self._world)
        self._slow_down()
        merge(self._lora)
        model.requires_grad_(True)

    @torch.no_grad()
    def abandon(self) -> None:
        """Puts the caller's model back where it began, after a pass that broke off.

        So the same call may follow: it resumes a checkpoint or begins again.
        """
        if self._world.shared:
            return  # the caller's model was never touched
        self._slow_down()
        remove(self._lora)
        for parameter, before in self._start:
            parameter.grad = None
            parameter.data = before.to(parameter.device)
        self.model.eval().requires_grad_(True)

    def _slow_down(self) -> None:
        """Takes back what ``_speed_up`` did."""
        working = self.root.model
        uncompile_layers(working)
        if self._cfg.activation_checkpointing:
            working.activation_checkpointing_disable()
        working.set_attn_implementation(self._attention_before)


def _copies(model: PreTrainedModel) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """All weights, tied ones once, each with a copy of it in main memory."""
    return [
        (parameter, parameter.detach().to("cpu", copy=True))
        for parameter in model.parameters()
    ]


def _cast_parameters(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Casts weights only: rotary frequencies in bfloat16 would turn by wrong angles."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _draws(model: PreTrainedModel) -> bool:
    """Whether a forward pass draws random numbers."""
    return bool(getattr(model.config, "attention_dropout", 0.0)) or any(
        isinstance(module, torch.nn.Dropout) and module.p > 0
        for module in model.modules()
    )
