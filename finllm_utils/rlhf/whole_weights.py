"""A policy's weights as those of a plain model: adapters merged, shards gathered.

Sampling, a rollout worker and the end of a run need them. The policy itself is only
read, so nothing can drift, however often it is done.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch.distributed.tensor import DTensor
from transformers import LlamaForCausalLM

from finllm_utils.train.trainable import ADAPTER

Network = TypeVar("Network", bound=torch.nn.Module)


@torch.no_grad()
def whole_weights(
    network: torch.nn.Module, dtype: torch.dtype | None = None
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields name and value of each weight of the plain network, tied ones twice.

    A merged weight is W + scale x B A in the adapters' float32, then rounded to
    ``dtype``; what needs no change is given as it is, without a copy. Several processes
    with shards must go through it together, one gathering a weight.
    """
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if ".lora_" in name:
            continue
        layer_name, found, kind = name.partition(".base_layer.")
        value = parameter.detach()
        if found and kind == "weight":
            delta = network.get_submodule(layer_name).get_delta_weight(ADAPTER)
            value = (value + delta).to(value.dtype)
        value = value.full_tensor() if isinstance(value, DTensor) else value
        yield name.replace(".base_layer.", "."), value.to(dtype or value.dtype)


def without_weights(network: Network) -> Network:
    """The network's modules and buffers, its parameters as shapes that take no memory.

    ``filled`` makes it usable.
    """
    return _over(network, lambda p: torch.empty_like(p, device="meta"))


def over_same_weights(network: Network) -> Network:
    """A second set of modules over the same numbers, which are not copied.

    What is then put into it (adapters) or done to its parameters (sharding) leaves the
    network as it was; writing into a number would not.
    """
    return _over(network, lambda p: p.detach())


def _over(
    network: Network, make: Callable[[torch.nn.Parameter], torch.Tensor]
) -> Network:
    kept = {
        id(p): torch.nn.Parameter(make(p), requires_grad=p.requires_grad)
        for p in network.parameters()
    }
    return copy.deepcopy(network, kept)


def filled(
    empty: LlamaForCausalLM, weights: Iterator[tuple[str, torch.Tensor]]
) -> LlamaForCausalLM:
    """A plain model like ``empty`` that holds the weights themselves, not copies."""
    model = copy.deepcopy(empty)
    model.load_state_dict(dict(weights), assign=True)
    device = model.lm_head.weight.device
    for module in model.modules():  # rotary frequencies, where the caller's model lay
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return model


@contextmanager
def reference_of(
    policy: torch.nn.Module, ref_policy: torch.nn.Module | None
) -> Iterator[torch.nn.Module]:
    """The reference; where there is none, the policy with its adapters switched off.

    Their layers then compute what the plain base computes, to the bit.
    """
    layers = [m for m in policy.modules() if hasattr(m, "get_delta_weight")]
    if ref_policy is not None:
        yield ref_policy
        return
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield policy
    finally:
        for layer in layers:
            layer.enable_adapters(True)
