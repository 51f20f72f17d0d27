"""One PPO update by trl 1.12, the last release with a PPOTrainer, kept as a fixture.

``record`` runs trl's own train loop on tiny models in its own environment and writes
what the loop computed to ``FIXTURE``. ``tests/rlhf/test_trl_contract.py`` holds our
formulas and forward passes against it. No name or formula of ours is used in the run:
the hooks only read the local variables of the loop while it runs.
"""

import json
import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from finllm_utils.files import atomic_file
from tests.benchmarks.harness import REPOSITORY, call_in, report_back, rival_python

TRL_1_12 = (
    "trl==1.12.0", "torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0",
    "datasets==5.2.0", "numpy==2.3.5", "tokenizers==0.23.3",
)  # fmt: skip
FIXTURE = REPOSITORY / "tests" / "rlhf" / "fixtures" / "trl_1_12_ppo.json"
COMMAND = (
    "nice -n 19 .venv/bin/python -c "
    '"from tests.benchmarks.ppo_contract_rivals import record; record()"'
)

BOS, EOS, PAD, VOCABULARY = 1, 2, 3, 40
PROMPT_LENGTHS = (2, 5, 3, 7, 4, 2, 6, 3, 5, 4, 2, 7, 3, 6, 4, 5)
"""Twice the rollout: after the last batch of its data accelerate would step early."""
SETTINGS = {
    "seed": 45, "temperature": 0.7, "response_length": 7, "kl_coef": 0.2,
    "missing_eos_penalty": 1.5, "gamma": 0.98, "lam": 0.9, "cliprange": 0.1,
    "cliprange_value": 0.15, "vf_coef": 0.3, "whiten_rewards": False,
    "num_ppo_epochs": 3, "num_mini_batches": 1, "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2, "total_episodes": 8, "learning_rate": 1e-4,
    "local_rollout_forward_batch_size": 4,
}  # fmt: skip
"""Eight responses, one mini-batch an epoch, in two micro-batches of four.

Far from the defaults, so that no term of a formula vanishes; the large learning rate
makes the last epoch clip ratios and values. With the seed the rollout holds what
``_require_useful`` asks for.
"""
ROLLOUT = (
    "queries", "responses", "postprocessed_responses", "sequence_lengths",
    "contain_eos_token", "logprobs", "ref_logprobs", "values", "scores", "kl",
    "rewards", "advantages", "returns", "padding_mask", "padding_mask_p1",
)  # fmt: skip
MICRO_BATCH = (
    "micro_batch_inds", "new_logprobs", "vpred", "ratio", "pg_loss", "vf_loss", "loss",
)  # fmt: skip
STATS = ("approxkl_stats", "pg_clipfrac_stats", "vf_clipfrac_stats")


def tiny_config() -> LlamaConfig:
    """Two layers of width 32 over a vocabulary of 40."""
    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=64, bos_token_id=BOS, eos_token_id=EOS,
        pad_token_id=PAD, num_labels=1,
    )  # fmt: skip


def tiny_models() -> dict[str, PreTrainedModel]:
    """Policy, reference, reward and value model, the same on every machine.

    The weights come from numpy's RandomState, whose stream is frozen, and not from the
    library's own initialisation. The reference is the policy with a little noise.
    """
    policy = _drawn(LlamaForCausalLM(tiny_config()), seed=1, std=0.2)
    reference = _drawn(LlamaForCausalLM(tiny_config()), seed=2, std=0.03)
    for name, weight in reference.named_parameters():
        weight.data += policy.get_parameter(name).data
    for model in (policy, reference):
        model.lm_head.weight.data[PAD] = 0.0  # rarely sampled: trl takes it for an end
        model.lm_head.weight.data[EOS] *= 3  # sampled more often
    return {
        "policy": policy,
        "reference": reference,
        "reward": _drawn(LlamaForSequenceClassification(tiny_config()), 3, 0.2),
        "value": _drawn(LlamaForSequenceClassification(tiny_config()), 4, 0.2),
    }


def _drawn(model: PreTrainedModel, seed: int, std: float) -> PreTrainedModel:
    """The model with normal matrices; the scales of its norms stay at 1."""
    stream = np.random.RandomState(seed)
    for _, weight in sorted(model.named_parameters()):
        if weight.ndim == 2:
            drawn = std * stream.standard_normal(tuple(weight.shape))
            weight.data.copy_(torch.from_numpy(drawn))
        elif std < 0.1:
            weight.data.zero_()
    return model.eval()


def prompts() -> list[list[int]]:
    """Random ids behind a BOS; none is EOS or PAD."""
    stream = np.random.RandomState(5)
    return [
        [BOS, *stream.randint(PAD + 1, VOCABULARY, length - 1).tolist()]
        for length in PROMPT_LENGTHS
    ]


def record(path: Path = FIXTURE) -> None:
    """Writes the fixture: a plain run, and what one changed setting does to rewards.

    Raises: RuntimeError when trl fails; ValueError when the runs are of no use.
    """
    python = rival_python("trl112", TRL_1_12)
    target = "tests.benchmarks.ppo_contract_rivals:trl_update"
    found = call_in(python, target, SETTINGS)
    _require_useful(found)
    changed = {}
    for name, value in (("kl_estimator", "k3"), ("whiten_rewards", True)):
        rollout = call_in(python, target, SETTINGS | {name: value})["rollout"]
        if rollout["logprobs"] != found["rollout"]["logprobs"]:
            raise ValueError(f"the run with {name}={value} sampled other responses")
        changed[f"{name}={value}"] = {key: rollout[key] for key in ("kl", "rewards")}
    values = {
        "command": COMMAND,
        "settings": SETTINGS,
        "changed": changed,
        **found,
    }
    with atomic_file(path) as handle:
        handle.write(_one_row_a_line(values))


def _one_row_a_line(values: dict) -> str:
    text = json.dumps(values, indent=1, sort_keys=True)
    row = re.compile(r"\[\s*([^][{}]*?)\s*\]")
    return row.sub(lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text) + "\n"


def _require_useful(found: dict) -> None:
    """Raises ValueError when a case that the tests rely on is missing."""
    rollout, last = found["rollout"], found["mini_batches"][-1]["micro_batches"]
    width = len(rollout["responses"][0])
    ends = list(
        zip(rollout["contain_eos_token"], rollout["sequence_lengths"], strict=True)
    )
    cases = {
        "two responses without EOS": sum(not ended for ended, _ in ends) >= 2,
        "EOS in the last column": (True, width - 1) in ends,
        "a response of one or two tokens": any(end < 2 for _, end in ends),
        "four lengths": len({end for _, end in ends}) >= 4,
        "no sampled PAD": all(e or end == width - 1 for e, end in ends),
        "clipped ratios": any(m["pg_clipfrac"] > 0 for m in last),
        "clipped values": any(m["vf_clipfrac"] > 0 for m in last),
        "micro-batches of unlike length": len({_tokens(rollout, m) for m in last}) > 1,
    }
    missing = [name for name, holds in cases.items() if not holds]
    if missing:
        raise ValueError(
            f"SETTINGS['seed'] gives no rollout with {missing}: try others"
        )


def _tokens(rollout: dict, micro: dict) -> int:
    return sum(rollout["sequence_lengths"][i] + 1 for i in micro["micro_batch_inds"])


def trl_update(settings: dict) -> None:
    """One update of trl's PPOTrainer; runs in trl's environment and reports back."""
    from trl.experimental.ppo import ppo_trainer

    torch.set_num_threads(1)
    np.random.seed(settings["seed"])  # orders the rows; trl leaves it to chance
    with TemporaryDirectory() as folder:
        trainer = _trainer(settings, folder)
        watch = _Watch(trainer, ppo_trainer)
        trainer.train()
    names = ("python", "trl", "torch", "transformers", "accelerate", "numpy")
    versions = {n: metadata.version(n) for n in names[1:]}
    report_back(
        {
            "versions": {"python": sys.version.split()[0], **versions},
            "rollout": watch.rollout(),
            "mini_batches": watch.mini_batches,
        }
    )


def _trainer(settings: dict, folder: str):
    """trl's trainer on the tiny models; only the collator is ours, for plain lists."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    words = {f"t{i}": i for i in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="t0")),
        bos_token=f"t{BOS}", eos_token=f"t{EOS}", pad_token=f"t{PAD}",
        padding_side="left",
    )  # fmt: skip
    found = tiny_models()
    return PPOTrainer(
        args=PPOConfig(
            output_dir=folder, bf16=False, gradient_checkpointing=False, use_cpu=True,
            report_to="none", save_strategy="no", num_sample_generations=0,
            stop_token="eos", **settings,
        ),
        processing_class=tokenizer,
        model=found["policy"],
        ref_model=found["reference"],
        reward_model=found["reward"],
        value_model=found["value"],
        train_dataset=Dataset.from_dict({"input_ids": prompts()}),
    )  # fmt: skip


class _Watch:
    """Reads the train loop's variables whenever it calls one of four functions."""

    def __init__(self, trainer, module) -> None:
        self.trainer = trainer
        self.frame: dict = {}
        self.mini_batches: list[dict] = []
        self.rewards: list[torch.Tensor] = []
        self.unwhitened: torch.Tensor | None = None
        self._after(module, "get_reward", self._on_reward)
        self._after(module, "masked_whiten", self._on_whiten)
        self._after(trainer.accelerator, "backward", self._on_backward)
        self._after(trainer, "log", self._on_log)

    def _after(self, owner, name: str, look: Callable) -> None:
        """Calls ``look(frame of the caller, arguments, result)`` after ``name``."""
        original = getattr(owner, name)

        def call(*args, **kwargs):
            result = original(*args, **kwargs)
            look(sys._getframe(1), args, result)
            return result

        setattr(owner, name, call)

    def _on_reward(self, frame: FrameType, args: tuple, result: tuple) -> None:
        if args[0] is self.trainer.reward_model:
            self.rewards.append(result[1].clone())

    def _on_whiten(self, frame: FrameType, args: tuple, result: torch.Tensor) -> None:
        self.unwhitened = args[0].clone()  # advantages come last

    def _on_backward(self, frame: FrameType, args: tuple, result: None) -> None:
        """Adds the micro-batch, and the gradients once the last one is in them."""
        held = frame.f_locals
        self.frame = {name: held[name] for name in ROLLOUT}
        if held["micro_batch_start"] == 0:
            self.mini_batches.append(
                {"epoch": held["ppo_epoch_idx"], "micro_batches": []}
            )
        micro = {name: _plain(held[name]) for name in MICRO_BATCH}
        self.mini_batches[-1]["micro_batches"].append(micro)
        self.mini_batches[-1]["gradient_norms"] = {
            name: _plain(weight.grad.norm())
            for name, weight in self.trainer.model.named_parameters()
            if weight.grad is not None
        }

    def _on_log(self, frame: FrameType, args: tuple, result: None) -> None:
        """Adds what trl logs of each micro-batch, by epoch, mini- and micro-batch."""
        for batch in self.mini_batches:
            for place, micro in enumerate(batch["micro_batches"]):
                for name in STATS:
                    stats = frame.f_locals[name]
                    value = stats[batch["epoch"], 0, place]
                    micro[name.removesuffix("_stats")] = _plain(value)

    def rollout(self) -> dict:
        """What trl knew of the rollout before its first step."""
        return {name: _plain(value) for name, value in self.frame.items()} | {
            "scores_before_penalty": _plain(torch.cat(self.rewards)),
            "advantages_before_whitening": _plain(self.unwhitened),
        }


def _plain(value: torch.Tensor | np.ndarray) -> list | float:
    """Lists and numbers; a float32 becomes the double of the same value."""
    return value.tolist()
