"""Checkpoints of PPO: whole or absent, exact, and only of the same run.

``step_000005/`` holds what 5 updates made: weights that learn and their Adam moments,
of policy and critic, as safetensors (whole ones, also of a run in shards), and
``state.json`` with the history, the KL coefficient, what run it is and the files'
sizes. Learning rates, prompt batches and every random draw are functions of the
update's number, so nothing else has to be kept.
"""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor

from finllm_utils.config import PPOConfig
from finllm_utils.files import atomic_folder, read_json, write_json
from finllm_utils.rlhf.critic import Critic
from finllm_utils.train.checkpoint import (
    is_whole,
    require_same_pass,
    whole_checkpoints,
)
from finllm_utils.train.identity import weights_digest
from finllm_utils.train.parallel import current_world

logger = logging.getLogger(__name__)
NO_INFLUENCE = ("save_every", "num_eval_prompts", "max_prompt_len")
"""Settings of ``ppo`` that two runs with the same weights may differ in; what the last
one keeps out shows in the prompts."""
KEPT = 2  # newest checkpoints that stay: the older serves when the newest is damaged
_STATE = "state.json"

Learners = Mapping[str, tuple[torch.nn.Module, torch.optim.Optimizer]]
"""Networks that learn, each with its optimiser, by name."""


@dataclasses.dataclass(kw_only=True)
class Progress:
    """What a run knows between two updates, beside weights and moments."""

    kl_coef: float
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)


def run_identity(
    models: Mapping[str, torch.nn.Module | None],
    token_rows: Mapping[str, Sequence[Sequence[int]]],
    cfg: PPOConfig,
    **more: object,
) -> dict[str, object]:
    """Flat names and plain values, equal for two runs that may share checkpoints.

    Args: models with the weights that the run starts from, None where there is none; a
    critic brings the reward statistics too. token_rows are prompts and the like; more
    is any other setting.
    """
    found: dict[str, object] = {
        f"ppo.{name}": value
        for name, value in dataclasses.asdict(cfg).items()
        if name not in NO_INFLUENCE
    }
    found |= {"processes": current_world().size} | more
    for name, rows in token_rows.items():
        found[name] = token_rows_digest(rows)
    for name, model in models.items():
        if model is None:
            continue
        found[f"{name} start weights"] = weights_digest(model)
        if isinstance(model, Critic):
            found[f"{name} reward statistics"] = dataclasses.asdict(model.stats)
    return found


def token_rows_digest(rows: Sequence[Sequence[int]]) -> str:
    """A short digest of token rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([int(token) for token in row]).encode())
    return digest.hexdigest()[:16]


class PPOCheckpoints:
    """The checkpoints of one run in one folder; of several processes rank 0 writes."""

    def __init__(
        self,
        folder: Path,
        identity: dict[str, object],
        learners: Learners,
        *,
        every: int,
        num_updates: int,
    ) -> None:
        """Removes what is half-written or damaged.

        Args: every is in updates; the state after ``num_updates`` is written as well.
        """
        self.folder = Path(folder)
        self.identity = identity
        self.learners = learners
        self.every = every
        self.num_updates = num_updates
        if current_world().leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            for unfinished in self.folder.glob(".step_*.tmp"):
                shutil.rmtree(unfinished)  # by a process that was killed
            for path in self.folder.glob("step_*"):
                if not is_whole(path):
                    logger.warning("%s is damaged: removed, an older one is used", path)
                    shutil.rmtree(path)

    def load(self, progress: Progress) -> Progress:
        """Goes to the newest whole checkpoint; ``progress`` when there is none.

        Raises: ValueError naming each setting, prompt set or network in which the
        checkpoint's run differs.
        """
        path = self._newest()
        if path is None:
            return progress
        state = read_json(path / _STATE)
        _require_same_run(state["fingerprint"], self.identity, self.folder)
        for name, (module, optimizer) in self.learners.items():
            tensors = load_file(path / f"{name}.safetensors")
            _put_back(tensors, module, optimizer)
        logger.warning("resumed after update %d from %s", state["step"], path)
        return Progress(**state["note"])

    def save_when_due(self, progress: Progress) -> None:
        """Writes every ``every`` updates and after the last.

        A full disk costs the checkpoint, not the run: it is logged.
        """
        done = len(progress.history)
        due = done % self.every == 0 or done == self.num_updates
        if not due:
            return
        # before anything can fail on one process: shards take all to gather
        kept = {name: _tensors(*learner) for name, learner in self.learners.items()}
        if not current_world().leads:
            return
        try:
            self._write(done, progress, kept)
        except (OSError, SafetensorError) as error:
            if isinstance(error, SafetensorError) and "I/O error" not in str(error):
                raise
            logger.warning(
                "the checkpoint of update %d could not be written (%s): training goes "
                "on and the one before stays; free some space on the disk of %s",
                done, error, self.folder,
            )  # fmt: skip
            return
        for old in whole_checkpoints(self.folder)[:-KEPT]:
            shutil.rmtree(old)

    def _newest(self) -> Path | None:
        """The newest whole checkpoint, the same on all processes."""
        world = current_world()
        found = whole_checkpoints(self.folder) if world.leads else []
        name = [found[-1].name if found else None]
        if world.shared:
            dist.broadcast_object_list(name, src=0)
        return self.folder / name[0] if name[0] else None

    def _write(
        self, done: int, progress: Progress, kept: dict[str, dict[str, torch.Tensor]]
    ) -> None:
        with atomic_folder(self.folder / f"step_{done:06d}") as folder:
            for name, tensors in kept.items():
                path = folder / f"{name}.safetensors"
                save_file(tensors, path)
                _to_disk(path)
            sizes = {p.name: p.stat().st_size for p in folder.iterdir()}
            state = {"step": done, "fingerprint": self.identity, "files": sizes}
            note = dataclasses.asdict(progress)
            write_json(folder / _STATE, state | {"note": note})


def _require_same_run(found: dict, wanted: dict, folder: Path) -> None:
    try:
        require_same_pass(found, wanted, folder)
    except ValueError as error:
        started = [name for name in wanted if name.endswith("start weights")]
        if all(found.get(name) == wanted[name] for name in started):
            raise
        raise ValueError(
            f"{error}. A call that was interrupted leaves policy and critic "
            "half-trained: to go on with its run, load both again first"
        ) from None


def _tensors(
    module: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Weights that learn and moments by name; tied ones once; of shards on rank 0."""
    found = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue  # as at the start, which the identity names
        state = optimizer.state.get(parameter, {})
        for key, tensor in {"weights": parameter.detach(), **state}.items():
            if isinstance(tensor, DTensor):
                whole = tensor.full_tensor()
                tensor = whole.cpu() if current_world().leads else whole.new_empty(0)
            found[f"{key}/{name}"] = tensor.contiguous()
    return found


@torch.no_grad()
def _put_back(
    tensors: dict[str, torch.Tensor],
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    parameters = dict(module.named_parameters())
    for joined, tensor in tensors.items():
        key, name = joined.split("/", 1)
        parameter = parameters[name]
        # a copy: what was read may still be a view of the file
        tensor = tensor.to(parameter.device, copy=True)
        if isinstance(parameter, DTensor) and tensor.shape == parameter.shape:
            tensor = distribute_tensor(
                tensor, parameter.device_mesh, parameter.placements, src_data_rank=None
            )
        if key == "weights":
            parameter.copy_(tensor)
        else:
            optimizer.state[parameter][key] = tensor


def _to_disk(path: Path) -> None:
    """Returns once the file would survive a power cut."""
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())
