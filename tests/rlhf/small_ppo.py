"""A PPO run of a second on tiny networks, also for processes that a test starts."""

import copy
import dataclasses
import os
import resource
import signal
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from finllm_utils.config import PPOConfig
from finllm_utils.profiles import load_profile
from finllm_utils.rlhf import ppo, ppo_checkpoint, processes, rollout
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.logprobs import response_logprobs
from finllm_utils.rlhf.networks import prepare_networks
from finllm_utils.rlhf.ppo_optim import make_optimizers, set_learning_rates
from finllm_utils.rlhf.reward_signal import RewardStats
from tests.rlhf.conftest import EOS, PAD, tiny_config

LIKED = 9
IDS = {"eos_id": EOS, "pad_id": PAD}
PROMPTS = [[1, 10 + i % 20] + [5] * (i % 3) for i in range(20)]
PTX_ROWS = [[1] + [10 + (i + j) % 25 for j in range(2 + i % 4)] for i in range(7)]
CFG = dataclasses.replace(
    load_profile("toy").ppo,
    num_updates=4,
    rollout_batch_size=8,
    max_new_tokens=5,
    num_ppo_epochs=2,
    num_mini_batches=2,
    learning_rate=3e-3,
    critic_learning_rate=3e-3,
    kl_coef=0.02,
    ptx_coef=0.0,
    reward_clip=5.0,
    ptx_batch_size=4,
    save_every=1,
    train_embeddings=True,
)
Networks = tuple[LlamaForCausalLM, LlamaForCausalLM | None, Critic]


def settings(**changes: object) -> PPOConfig:
    return dataclasses.replace(CFG, **changes)


def networks(seed: int = 0, **shape: object) -> Networks:
    """Policy, reference and critic, equal at every call."""
    torch.manual_seed(seed)
    config = tiny_config()
    for name, value in shape.items():
        setattr(config, name, value)
    policy = LlamaForCausalLM(config).eval()
    reward_model = LlamaForSequenceClassification(tiny_config()).eval()
    critic = Critic(reward_model, RewardStats(mean=0.1, std=1.5))
    return policy, copy.deepcopy(policy), critic


def adapter_networks(**shape: object) -> Networks:
    """Policy, no reference, critic: what a run of adapters is given."""
    policy, _, critic = networks(**shape)
    return policy, None, critic


def share_of_liked(sequences: list[list[int]]) -> np.ndarray:
    return np.array([np.mean([t == LIKED for t in s[2:]]) * 4 for s in sequences])


def variety(sequences: list[list[int]]) -> np.ndarray:
    """A judge that the liked token alone cannot please: different tokens."""
    return np.array([float(len(set(s[2:]))) for s in sequences])


def train(nets: Networks | None = None, **options: object) -> tuple[Networks, list]:
    """The networks and the history; settings of ``ppo`` among the options."""
    names = {field.name for field in dataclasses.fields(PPOConfig)}
    changes = {k: options.pop(k) for k in list(options) if k in names}
    lora = changes.get("trainable") == "lora"
    nets = nets or (adapter_networks() if lora else networks())
    reward = options.pop("reward_function", share_of_liked)
    prompts = options.pop("prompts", PROMPTS)
    options = {"seed": 0} | IDS | options
    return nets, ppo.train_ppo(*nets, reward, prompts, settings(**changes), **options)


def one_rollout(
    nets: Networks, cfg: PPOConfig = CFG, prompts: list = PROMPTS[:8], **more: object
) -> ppo.Experience:
    """The experience of a rollout of these prompts."""
    sampled = rollout.sample_rollout(
        nets[0],
        prompts,
        max_new_tokens=cfg.max_new_tokens,
        temperature=cfg.temperature,
        seed=3,
        **IDS,
    )
    return ppo.collect_experience(*nets, share_of_liked, sampled, cfg, EOS, **more)


def steps(nets: Networks, experience: ppo.Experience, cfg: PPOConfig, **more) -> dict:
    """The figures of an update's steps at the peak rates."""
    optimizers = make_optimizers(nets[0], nets[2])
    set_learning_rates(optimizers, settings(), 0)
    return ppo.take_steps(nets[0], nets[2], optimizers, experience, cfg, 0, **more)


def weights(nets: Networks) -> dict[str, torch.Tensor]:
    """Copies of what policy and critic learnt."""
    found = {}
    for name, module in (("policy", nets[0]), ("critic", nets[2])):
        for key, tensor in module.named_parameters():
            found[f"{name}.{key}"] = tensor.detach().clone()
    return found


def same(first: Networks, second: Networks) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def killed_at(place: str, call: int, folder: Path, options: dict) -> None:
    """A run of its own process that is killed in a rollout, a step or a write."""
    torch.set_num_threads(1)
    module, name = {
        "rollout": (rollout, "sample_tokens"),
        "step": (torch.optim.AdamW, "step"),
        "write": (ppo_checkpoint, "save_file"),
    }[place]
    inner, calls = getattr(module, name), []

    def deadly(*arguments, **more):
        calls.append(1)
        if len(calls) == call:
            if place == "write":  # half a file
                Path(arguments[1]).write_bytes(b"\0" * 100)
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments, **more)

    setattr(module, name, deadly)
    train(checkpoints=folder, **options)


def on_small_files(said: Connection, folder: Path) -> None:
    """A run that may write no file of more than 20 kB."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    said.send(len(train(checkpoints=folder)[1]))


def group_member(
    said: Connection, rank: int, size: int, store: Path, job: str, options: dict
) -> None:
    """One of several gloo processes that run the function called ``job``."""
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=size
        )
        said.send(globals()[job](**options))
        dist.destroy_process_group()
    except Exception:
        said.send(f"rank {rank}: {traceback.format_exc()}")


def numpy_weights(nets: Networks) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in weights(nets).items()}


def train_member(**options: object) -> tuple[dict, list, list]:
    """Weights, history and what this process sampled."""
    sampled, inner = [], ppo.sample_rollout

    def spy(*arguments, **more):
        found = inner(*arguments, **more)
        sampled.append(found.sequences())
        return found

    ppo.sample_rollout = spy
    nets, history = train(**options)
    return numpy_weights(nets), history, sampled


def steps_member(**changes: object) -> tuple[dict, dict, list]:
    """One update's steps on this process's half of a rollout that all processes know.

    Also the advantages of that half, which are whitened over both.
    """
    rank, size = (
        (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    )
    nets, cfg = networks(), settings(num_mini_batches=1, **changes)
    whole = rollout.sample_rollout(
        nets[0], PROMPTS[:8], max_new_tokens=5, temperature=1.0, seed=3, **IDS
    )
    rows = torch.arange(8).chunk(size)[rank]
    experience = ppo.collect_experience(
        *nets, share_of_liked, whole.rows(rows), cfg, EOS
    )
    ptx = ppo.ptx_batches(PTX_ROWS, cfg, 0, PAD, 0)
    figures = steps(nets, experience, cfg, ptx=ptx)
    return numpy_weights(nets), figures, experience.advantages_BT.tolist()


def sharded_member(**options: object) -> tuple[dict, list]:
    """Weights and history of a run on this process, its share or the whole of it.

    The prompts' answers are those of one process for all: each row's come from its
    own seed, so who samples them does not matter.
    """
    ppo.sample_rollout = sample_each_alone
    nets, history = train(**options)
    return numpy_weights(nets), history


def sample_each_alone(policy, prompts, *, seed: int, max_new_tokens: int, **more):
    """Responses that depend on update and prompt, not on which process samples them."""
    update = (seed % processes.RANK_STRIDE) // processes.UPDATE_STRIDE
    parts = [
        rollout.sample_rollout(
            policy,
            [[1] * (8 - len(prompt)) + list(prompt)],
            max_new_tokens=max_new_tokens,
            seed=update * 100 + sum(prompt),
            **(more | {"eos_id": -1}),
        )
        for prompt in prompts
    ]
    return rollout.Rollout(
        **{
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(rollout.Rollout)
        }
    )


class AllGathers(TorchDispatchMode):
    """Counts all-gathers, also those inside operations on shards."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if DTensor in types:
            return NotImplemented  # it dispatches its own collectives, seen in turn
        self.count += "gather_into_tensor" in func.name()
        return func(*args, **(kwargs or {}))


def gathers_member() -> dict[str, list[int]]:
    """All-gathers of rollouts of 2 and of 8 tokens from a sharded policy.

    Also how many numbers of policy, reference and critic this process holds.
    """
    counts = {}
    for trainable, start in (("all", networks), ("lora", adapter_networks)):
        cfg = settings(shard=True, trainable=trainable, train_embeddings=False)
        nets = prepare_networks(*start(), cfg, 0)
        for length in (2, 8):
            with AllGathers() as seen:
                sample_each_alone(
                    nets.plain_policy(torch.float32),
                    PROMPTS[:4],
                    max_new_tokens=length,
                    temperature=1.0,
                    seed=dist.get_rank(),
                    **IDS,
                )
            counts.setdefault(trainable, []).append(seen.count)
        models = [m for m in (nets.policy, nets.ref_policy, nets.critic) if m]
        shards = [p.to_local().numel() for m in models for p in m.parameters()]
        counts[f"{trainable} held"] = [sum(shards)]
    return counts


def clipped_member(max_grad_norm: float) -> tuple[float, dict]:
    """The norm that clipping finds and the gradients it leaves, whole."""
    nets = networks()
    scorer = nets[0]
    if dist.is_initialized():
        scorer = prepare_networks(*nets, settings(shard=True), 0).policy
    whole = sample_each_alone(
        nets[0], PROMPTS[:8], max_new_tokens=5, temperature=1.0, seed=0, **IDS
    )
    rows = torch.arange(8)
    if dist.is_initialized():
        rows = rows.chunk(dist.get_world_size())[dist.get_rank()]
    response_logprobs(scorer, whole.rows(rows), temperature=1.0).sum().backward()
    norm = torch.nn.utils.clip_grad_norm_(scorer.parameters(), max_grad_norm)
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    found = {}
    for name, parameter in scorer.named_parameters():
        grad = parameter.grad
        grad = grad.full_tensor() if isinstance(grad, DTensor) else grad
        found[name.removeprefix("policy.")] = grad.numpy()
    return norm.item(), found
