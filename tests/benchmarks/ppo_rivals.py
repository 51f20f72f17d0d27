"""One PPO run a process, ours or that of trl 1.12's PPOTrainer, for ``ppo_cpu``.

Same policy, reward model, prompts, number of episodes, mini-batches and passes; each
reports the seconds of its training call, from the first rollout to the last step, and
can save the policy that came out. Loading is not timed. ``trl`` runs in trl's own
environment, so nothing at the top needs more than that has.

trl differs in what it cannot be told: it scores a response that did not end without an
EOS behind it, neither clips scores nor gradients, and whitens and averages a mini-batch
by its own rows. Its policy and critic share an optimiser, here with a rate for each.
"""

import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import LlamaForSequenceClassification

from finllm_utils.config import PPOConfig, Profile
from finllm_utils.files import read_json
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.rlhf.ppo_optim import ADAM_BETAS, ADAM_EPS, WEIGHT_DECAY
from finllm_utils.rlhf.readout import running_scores
from finllm_utils.rlhf.reward_model import load_reward_model
from finllm_utils.rlhf.reward_signal import RewardStats, read_stats
from tests.benchmarks.harness import measured, report_back

CONTENDERS = ("ours", "trl", "trl_default")
"""trl with our settings where it has them, and with its own where a choice is left."""

KL_TOLERANCE = 0.1  # two KLs this close, as a share, count as equal


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What every contender is given."""

    chat_model: str
    reward_model: str
    prompts: str  # a JSON list of token ids
    ppo: dict  # fields of PPOConfig
    device: str  # cpu or cuda
    dtype: str
    seed: int
    save_to: str = ""

    @property
    def num_episodes(self) -> int:
        """Responses in all."""
        return self.ppo["num_updates"] * self.ppo["rollout_batch_size"]


def new_task(folder: Path, cfg: Profile, prompts: Path, **changes: object) -> dict:
    """The task of a finished course's models, as ``call_in`` hands it over.

    Args: changes are other fields of ``Task``; device and dtype must be among them.
    """
    values = {
        "chat_model": str(folder / "06_sft" / "sft2"),
        "reward_model": str(folder / "07_reward_model" / "reward_model"),
        "prompts": str(prompts),
        "ppo": asdict(cfg.ppo),
    }
    return asdict(Task(**values | changes))


def ours(values: dict) -> None:
    """Our loop."""
    from finllm_utils.rlhf.critic import Critic
    from finllm_utils.rlhf.ppo import train_ppo
    from finllm_utils.rlhf.stored_reward import load_reward

    task, device = Task(**values), values["device"]
    tokenizer = load_tokenizer(task.chat_model)
    policy, reference = (load_model(task.chat_model, device=device) for _ in range(2))
    reward = load_reward(task.reward_model, tokenizer, device)
    start_mb = resident_mb()
    with measured() as row:
        history = train_ppo(
            policy, reference, Critic(reward.model, reward.stats), reward,
            read_json(Path(task.prompts)), PPOConfig(**task.ppo),
            eos_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
            seed=task.seed, dtype=getattr(torch, task.dtype),
        )  # fmt: skip
    scores = [figures["score"] for figures in history]
    kls = [figures["kl_nats"] for figures in history]
    _report(task, row, start_mb, scores, kls, policy)


def _report(
    task: Task,
    row: dict,
    start_mb: float,
    scores: list[float],
    kls: list[float],
    policy: torch.nn.Module,
) -> None:
    """Saves the policy when asked; the row of a finished run."""
    if task.save_to:
        policy.save_pretrained(task.save_to)
    report_back(
        row
        | {
            "episodes_per_s": task.num_episodes / row["wall_s"],
            "episodes_per_cpu_s": task.num_episodes / row["cpu_s"],
            "start_mb": start_mb,
            "device_mb": torch.cuda.max_memory_allocated() / 1e6,
            "first_score": scores[0],
            "last_score": scores[-1],
            "last_kl": kls[-1],
        }
    )


def resident_mb() -> float:
    """What this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def trl(values: dict) -> None:
    """trl's PPOTrainer with our settings: the best it offers for this task."""
    _run_trl(Task(**values), tuned=True)


def trl_default(values: dict) -> None:
    """trl's PPOTrainer as it comes; only what defines the task is set."""
    _run_trl(Task(**values), tuned=False)


def _run_trl(task: Task, *, tuned: bool) -> None:
    np.random.seed(task.seed)  # orders the mini-batches; trl leaves it to chance
    with TemporaryDirectory() as folder:
        trainer = _trainer(task, folder, tuned=tuned)
        logged: list[dict] = []
        trainer.log = lambda metrics, *args: logged.append(metrics)
        start_mb = resident_mb()
        with measured() as row:
            trainer.train()
    scores = [metrics["objective/scores"] for metrics in logged]
    kls = [metrics["objective/kl"] for metrics in logged]
    _report(task, row, start_mb, scores, kls, trainer.policy_model)


def _trainer(task: Task, folder: str, *, tuned: bool):
    from datasets import Dataset
    from trl.experimental.ppo import PPOConfig as TrlConfig
    from trl.experimental.ppo import PPOTrainer

    cfg, device = PPOConfig(**task.ppo), task.device
    tokenizer = load_tokenizer(task.chat_model)
    tokenizer.padding_side = "left"
    policy, reference = (load_model(task.chat_model) for _ in range(2))
    stats = read_stats(Path(task.reward_model) / "stats.json")
    judge, value = (
        RunningJudge(load_reward_model(task.reward_model), stats, skip_opener=skip)
        for skip in (True, False)
    )
    extra = tuned_arguments(cfg, task.dtype) if tuned else {}
    optimizers = _optimizers(policy, value, cfg) if tuned else (None, None)
    return PPOTrainer(
        args=TrlConfig(
            output_dir=folder, report_to="none", save_strategy="no", disable_tqdm=True,
            use_cpu=device == "cpu", seed=task.seed, num_sample_generations=0,
            **task_arguments(cfg, task.num_episodes), **extra,
        ),
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=judge.to(device),
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": read_json(Path(task.prompts))}),
        optimizers=optimizers,
    )  # fmt: skip


def task_arguments(cfg: PPOConfig, num_episodes: int) -> dict[str, object]:
    """What makes it the same task, in trl's words.

    The whole rollout is one "per-device batch": trl cuts it into mini-batches and steps
    on each. Spread over accumulation steps instead it would step once a pass.
    """
    return {
        "total_episodes": num_episodes,
        "per_device_train_batch_size": cfg.rollout_batch_size,
        "gradient_accumulation_steps": 1,
        "num_mini_batches": cfg.num_mini_batches,
        "num_ppo_epochs": cfg.num_ppo_epochs,
        "response_length": cfg.max_new_tokens,
        "temperature": cfg.temperature,
        "stop_token": "eos",
        "learning_rate": cfg.learning_rate,
        "kl_coef": cfg.kl_coef,
        "cliprange": cfg.clip_range,
        "cliprange_value": cfg.value_clip_range,
        "vf_coef": cfg.vf_coef,
        "gamma": cfg.gamma,
        "lam": cfg.gae_lambda,
        "missing_eos_penalty": cfg.missing_eos_penalty,
        "whiten_rewards": cfg.whiten_rewards,
    }


def tuned_arguments(cfg: PPOConfig, dtype: str) -> dict[str, object]:
    """What makes trl as fast as it can be: no recomputing, the rollout in one piece."""
    return {
        "bf16": dtype == "bfloat16",
        "gradient_checkpointing": False,
        "local_rollout_forward_batch_size": cfg.rollout_batch_size,
    }


def _optimizers(policy: torch.nn.Module, value: "RunningJudge", cfg: PPOConfig):
    """Our optimiser and rates for both networks, embeddings frozen as ours are."""
    if not cfg.train_embeddings:
        policy.get_input_embeddings().requires_grad_(False)
        value.network.get_input_embeddings().requires_grad_(False)
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "lr": rate}
        for module, rate in (
            (policy, cfg.learning_rate),
            (value, cfg.critic_learning_rate),
        )
    ]
    optimizer = torch.optim.AdamW(
        groups, betas=ADAM_BETAS, eps=ADAM_EPS, weight_decay=WEIGHT_DECAY, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda update: max(0.0, 1 - update / cfg.num_updates)
    )
    return optimizer, schedule


class RunningJudge(torch.nn.Module):
    """Our reward model as trl asks for one: a backbone, and a score at every state.

    Scores are in standard deviations of SFT samples. Of a token-level model the score
    at a state is the mean so far; the reward leaves the answer's opener out of it, as
    ``readout.read_scores`` does, the critic starts with it, as ``Critic`` does.
    """

    base_model_prefix = "model"

    def __init__(
        self,
        network: LlamaForSequenceClassification,
        stats: RewardStats,
        *,
        skip_opener: bool,
    ) -> None:
        super().__init__()
        self.network, self.model = network, network.model
        self.config, self.stats, self.skip_opener = network.config, stats, skip_opener
        self.first = 0
        self.model.register_forward_pre_hook(self._find_answer, with_kwargs=True)

    def _find_answer(self, module, args: tuple, kwargs: dict) -> None:
        """Prompts are padded on the left: every answer begins in the same column."""
        if getattr(self.config, "readout", "eos") == "tokens":
            opener = kwargs["input_ids"][0] == self.config.answer_token_id
            self.first = int(opener.int().argmax()) + self.skip_opener

    def score(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        """(B, T, 1); 0 in the columns of the prompt."""
        running_BT = running_scores(self.network, hidden_BTD[:, self.first :])
        scores_BT = (running_BT - self.stats.mean) / self.stats.std
        return torch.nn.functional.pad(scores_BT, (self.first, 0))[..., None]


def compared(
    ours: Sequence[dict], rival: Sequence[dict], name: str
) -> dict[str, float]:
    """Medians of the rounds' ratios; memory of the device where one counts it."""
    peak = "device_mb" if ours[0]["device_mb"] else "peak_rss_mb"
    start = {"device_mb": 0.0, "peak_rss_mb": 1.0}[peak]  # loading is the process's
    rounds = list(zip(ours, rival, strict=True))

    def ratio(key: str) -> float:
        return median(a[key] / b[key] for a, b in rounds)

    def grown(row: dict) -> float:
        return row[peak] - start * row["start_mb"]

    return {
        f"ratio_to_{name}": ratio("episodes_per_s"),
        f"cpu_ratio_to_{name}": ratio("episodes_per_cpu_s"),
        f"memory_ratio_to_{name}": ratio(peak),
        f"memory_growth_ratio_to_{name}": median(
            grown(a) / grown(b) for a, b in rounds
        ),
    }


def close_enough(kl: float, wanted: float) -> bool:
    """Whether two KLs count as equal."""
    return abs(kl - wanted) <= KL_TOLERANCE * wanted


def next_coef(coef: float, kl: float, wanted: float) -> float:
    """The coefficient to try next: KL falls about as its price rises.

    At most a factor of 4 at once, since a short run's KL may be near 0 or below.
    """
    factor = max(kl, 1e-3) / max(wanted, 1e-3)
    return coef * min(4.0, max(0.25, factor))


def next_updates(updates: int, kl: float, wanted: float) -> int:
    """The number of updates to try next: KL grows about as they do.

    At most twice or half as many at once, and another number than before.
    """
    factor = min(2.0, max(0.5, max(wanted, 1e-3) / max(kl, 1e-3)))
    step = 1 if wanted > kl else -1
    found = round(updates * factor)
    return max(1, found if found != updates else updates + step)
