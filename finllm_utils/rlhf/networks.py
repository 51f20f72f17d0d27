"""The networks of a PPO run: as they were given, with adapters, or in shards.

With ``ppo.trainable`` lora one model is policy and reference, its adapters switched on
or off. With ``ppo.shard`` every process holds a part of each weight (FSDP2). Either
works on a second set of modules over the caller's weights, which the result is written
to when the run is done: until then they are those of the start. With shards give the
models in main memory: only the parts go to the process's GPU.
Differs: shards are gathered in float32 and computed with in ``dtype``, as with whole
networks, so the figures are the same; gathering in bfloat16 would halve the traffic.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from transformers import LlamaForCausalLM

from finllm_utils.config import PPOConfig
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.logprobs import TokenScorer
from finllm_utils.rlhf.whole_weights import (
    filled,
    over_same_weights,
    whole_weights,
    without_weights,
)
from finllm_utils.train.parallel import current_world, make_mesh, shard
from finllm_utils.train.trainable import add_adapters

Policy = LlamaForCausalLM | TokenScorer


@dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """What a run computes with, and what it was given."""

    policy: Policy
    ref_policy: Policy | None
    """None: the policy with its adapters off."""
    critic: Critic
    given: tuple[LlamaForCausalLM, Critic]
    """The caller's policy and critic."""
    empty: LlamaForCausalLM
    """The policy's modules without weights, to be filled."""

    def plain_policy(self, dtype: torch.dtype) -> LlamaForCausalLM:
        """The policy as a plain model to sample from, in ``dtype`` where it is a copy.

        Merged and gathered once, so sampling itself needs no other process; it takes a
        whole policy's memory until the caller lets go of it. Where the policy is plain
        already it is itself.
        """
        if self.learning_policy is self.given[0]:
            return self.given[0]
        return filled(self.empty, whole_weights(self.learning_policy, dtype))

    @property
    def learning_policy(self) -> LlamaForCausalLM:
        """The policy's modules, out of the one that sharding wraps around them."""
        return getattr(self.policy, "policy", self.policy)

    @torch.no_grad()
    def hand_back(self) -> None:
        """Writes what was learnt into the caller's policy and critic, on each process.

        Adapters are merged into float32 weights; nothing happens where the run worked
        on the caller's own modules.
        """
        learnt = (self.learning_policy, self.critic)
        for network, given in zip(learnt, self.given, strict=True):
            if network is given:
                continue
            weights = dict(given.named_parameters(remove_duplicate=False))
            for name, whole in whole_weights(network):
                weights[name].copy_(whole)


def prepare_networks(
    policy: LlamaForCausalLM,
    ref_policy: LlamaForCausalLM | None,
    critic: Critic,
    cfg: PPOConfig,
    seed: int,
) -> Networks:
    """No dropout, embeddings frozen unless they train; adapters and shards.

    Raises: ValueError when a reference is missing, or given beside adapters.
    """
    _require_reference(ref_policy, cfg)
    given = (policy, critic)
    for module in (policy, ref_policy, critic):
        if module is not None:
            module.eval()
    if not cfg.train_embeddings:
        policy.model.embed_tokens.requires_grad_(False)
        critic.network.model.embed_tokens.requires_grad_(False)
    empty = without_weights(policy)
    sharded = cfg.shard and current_world().shared
    if cfg.trainable == "lora":
        policy = over_same_weights(policy)
        add_adapters(policy, cfg.lora_rank, set(), seed)
    if sharded:
        policy = _sharded_policy(policy)
        ref_policy = ref_policy and _sharded_policy(ref_policy)
        critic = over_same_weights(critic)
        _shard(critic, critic.network.model.layers)
    return Networks(
        policy=policy,
        ref_policy=ref_policy,
        critic=critic,
        given=given,
        empty=empty,
    )


def _require_reference(ref_policy: LlamaForCausalLM | None, cfg: PPOConfig) -> None:
    if cfg.trainable == "lora" and ref_policy is not None:
        raise ValueError(
            "ppo.trainable='lora' takes the policy without its adapters as reference: "
            "give train_ppo None as ref_policy, so that no second model is held"
        )
    if cfg.trainable == "all" and ref_policy is None:
        raise ValueError(
            "ppo.trainable='all' needs a reference: give train_ppo a second copy of "
            "the policy as ref_policy, or set ppo.trainable to 'lora'"
        )


def _sharded_policy(policy: LlamaForCausalLM) -> TokenScorer:
    scorer = TokenScorer(over_same_weights(policy))
    _shard(scorer, scorer.policy.model.layers)
    return scorer


def _shard(root: torch.nn.Module, layers: torch.nn.ModuleList) -> None:
    """Shards in place; gradients are then sums over the processes, not means."""
    backends = str(dist.get_backend_config())
    device = "cuda" if "nccl" in backends else "cpu"
    shard(root, layers, make_mesh(device, current_world(), 1), torch.float32, False)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            # where no backward pass follows, the root would keep weights that grow old
            module.set_reshard_after_forward(True, recurse=False)
            module.set_gradient_divide_factor(1.0)  # losses are divided by all tokens
            module.set_force_sum_reduction_for_comms(True)  # the one kind gloo knows
