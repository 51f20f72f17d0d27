"""More than one process: who reads which rows, how weights are shared, what is summed.

Each decoder layer is sharded with FSDP2 (``fully_shard``), and what is left with the
root. Weights stay float32 in shards, computing uses gathered copies in the run's dtype,
and gradients are summed in float32. With one process nothing here does anything.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of the pass."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and log lines."""
        return self.rank == 0

    @property
    def shared(self) -> bool:
        """Whether there are other processes."""
        return self.size > 1


def current_world() -> World:
    """The processes that ``launch.run`` started, or this one alone."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


def rows_of_rank(first: int, num_rows: int, world: World) -> range:
    """The part of rows ``first`` to ``first + num_rows`` that this process reads.

    Parts lie end to end: together the processes read what one would, in its order.
    """
    share = num_rows // world.size
    begin = first + world.rank * share
    return range(begin, begin + share)


def require_divisible(
    global_batch_size: int, micro_batch_size: int, world: World, num_replicas: int
) -> None:
    """Raises ValueError when the batch or the mesh cannot be dealt to the processes."""
    if global_batch_size % (micro_batch_size * world.size):
        raise ValueError(
            f"global_batch_size={global_batch_size} does not divide into {world.size} "
            f"processes of micro_batch_size={micro_batch_size}: make it a multiple of "
            f"{micro_batch_size * world.size}, or start another number of processes"
        )
    if world.shared and world.size % num_replicas:
        raise ValueError(
            f"num_replicas={num_replicas} does not divide {world.size} processes: "
            "use a divisor, or 1 to shard over all of them"
        )


def make_mesh(device: str, world: World, num_replicas: int) -> DeviceMesh:
    """All processes in a line that shards; or num_replicas lines of copies (HSDP)."""
    if num_replicas == 1:
        return init_device_mesh(device, (world.size,), mesh_dim_names=("shard",))
    shape = (num_replicas, world.size // num_replicas)
    return init_device_mesh(device, shape, mesh_dim_names=("replicate", "shard"))


def shard(
    root: nn.Module,
    layers: nn.ModuleList,
    mesh: DeviceMesh,
    dtype: torch.dtype,
    keep_gathered: bool,
) -> None:
    """Shards ``layers`` and the rest of ``root`` in place.

    Args: dtype of the gathered copies; keep_gathered keeps them between the
    micro-batches of a step, which saves traffic and costs their memory.
    """
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in layers:
        fully_shard(
            layer,
            mesh=mesh,
            mp_policy=policy,
            reshard_after_forward=not keep_gathered,
        )
    fully_shard(root, mesh=mesh, mp_policy=policy, reshard_after_forward=False)


def begin_micro_batch(root: nn.Module, last: bool, keep_gathered: bool) -> None:
    """Sums gradients over processes only in the last micro-batch of a step."""
    if isinstance(root, FSDPModule):
        root.set_requires_gradient_sync(last)
        if keep_gathered:
            root.set_reshard_after_backward(last)


def summed(values: list[float], world: World, device: str) -> list[float]:
    """Each value added up over all processes."""
    if not world.shared:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


@torch.no_grad()
def copy_whole(
    sharded: dict[str, torch.Tensor], to: dict[str, torch.Tensor], world: World
) -> None:
    """Gathers each tensor and copies it into that of the same name, on rank 0 only.

    One tensor at a time: no process ever holds the whole model twice.
    """
    for name, tensor in sharded.items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if world.leads:
            to[name].copy_(whole)


def barrier(world: World) -> None:
    """Waits for all processes."""
    if world.shared:
        dist.barrier()
