"""One training run a process, ours or the Hugging Face Trainer's, for ``pretrain_cpu``.

Same model, same rows, same number of rows a step, the same optimiser; each reports the
seconds of every step after the warm-up. A step's time is what lies between two calls of
the same callback, so reading, logging and the optimiser count.
"""

import gc
import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from finllm_utils import launch
from finllm_utils.config import ModelConfig, PretrainConfig, RuntimeConfig
from finllm_utils.model.embeddings import embedding_names, new_llama
from finllm_utils.train.optim import MasterAdamW
from finllm_utils.train.pretrain import MixedRows, pretrain
from finllm_utils.train.throughput import flops_per_token
from tests.benchmarks.harness import report_back

SHAPES = {
    "10m": (
        ModelConfig(
            path="", hidden_size=192, intermediate_size=512, num_layers=4,
            num_heads=3, num_kv_heads=3, tie_embeddings=True, max_seq_len=512,
        ),
        38_912, 4, 256,
    ),
    "135m": (
        ModelConfig(
            path="", hidden_size=576, intermediate_size=1_536, num_layers=30,
            num_heads=9, num_kv_heads=3, tie_embeddings=True, max_seq_len=2_048,
        ),
        49_152, 16, 256,
    ),
    "tiny": (
        ModelConfig(
            path="", hidden_size=64, intermediate_size=128, num_layers=2,
            num_heads=2, num_kv_heads=2, tie_embeddings=True, max_seq_len=256,
        ),
        32_768, 4, 64,
    ),
}  # fmt: skip
"""Shape, rows of the vocabulary, rows a step, tokens a row."""


def settings(size: str, steps: int) -> PretrainConfig:
    """One domain, no checkpoints: what is timed is training."""
    _, _, batch, seq_len = SHAPES[size]
    return PretrainConfig(
        tokens=steps * batch * seq_len, seq_len=seq_len, micro_batch_size=batch,
        global_batch_size=batch, learning_rate=1e-3, embedding_learning_rate=1e-3,
        warmup_steps=2, zh_share=1.0, finance_share_start=0.0, finance_share_end=0.0,
        log_every=1, checkpoint_every=0,
    )  # fmt: skip


def new_model(size: str) -> torch.nn.Module:
    """The random start that every contender has."""
    shape, rows, _, _ = SHAPES[size]
    return new_llama(shape, rows, seed=0)


def ours(
    size: str, bins: str, steps: int, skip: int, dtype: str, changes: dict
) -> None:
    """Our loop with the course's defaults; ``changes`` are fields of its settings."""
    report_back(_ours(size, bins, steps, skip, dtype, changes))


def _ours(
    size: str, bins: str, steps: int, skip: int, dtype: str, changes: dict
) -> dict:
    model = new_model(size)
    cfg = replace(settings(size, steps), **changes)
    times: list[float] = []
    result = pretrain(
        model, Path(bins), cfg, RuntimeConfig(dtype=dtype, num_workers=1),
        embedding_names=embedding_names(model), seed=0,
        on_log=lambda step, values: times.append(time.perf_counter()),
    )  # fmt: skip
    return _row(model, times, skip, cfg.tokens_per_step, result.losses)


class _Rows(torch.utils.data.Dataset):
    """Rows of the bins in our order, as the Trainer reads them."""

    def __init__(self, size: str, bins: str, steps: int, packed: bool) -> None:
        from finllm_utils.model.attention import position_ids
        from finllm_utils.train.bins import labels_of
        from finllm_utils.train.mixture import plan_rows

        cfg = settings(size, steps)
        plan = plan_rows(cfg, steps * cfg.global_batch_size, 0)
        rows = MixedRows(Path(bins), plan, cfg.seq_len, 0)
        self.items = []
        for i in range(steps * cfg.global_batch_size):
            row = rows.batch(i, 1)
            item = {"input_ids": row[0], "labels": labels_of(row, 1)[0]}
            if packed:
                item["position_ids"] = position_ids(row, 1)[0]
            self.items.append(item)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.items[index]


def trainer(size: str, bins: str, steps: int, skip: int, tuned: bool) -> None:
    """The Trainer: as it comes, or bf16, compiled and with packed positions.

    The Trainer shifts labels itself, so it gets the row's own ids, with documents'
    first tokens left out as ours leaves them out.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            times.append(time.perf_counter())

    model = new_model(size)
    cfg = settings(size, steps)
    extra = {"bf16": True, "torch_compile": True} if tuned else {}
    folder = Path(bins) / f"trainer_{os.getpid()}"
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, save_strategy="no", report_to="none",
        per_device_train_batch_size=cfg.global_batch_size, learning_rate=1e-3,
        warmup_steps=2, disable_tqdm=True, use_cpu=True, dataloader_drop_last=True,
        **extra,
    )  # fmt: skip
    data = _Rows(size, bins, steps, packed=tuned)
    for item in data.items:
        shifted = torch.full_like(item["labels"], -100)
        shifted[1:] = item["labels"][:-1]
        item["labels"] = shifted
    out = Trainer(
        model=model, args=arguments, train_dataset=data, callbacks=[Clock()]
    ).train()
    report_back(_row(model, times, skip, cfg.tokens_per_step, [out.training_loss]))


def _row(
    model: torch.nn.Module,
    times: list[float],
    skip: int,
    tokens: int,
    losses: Sequence[float],
) -> dict:
    steps = len(times) - 1 - skip
    if steps < 1:
        raise RuntimeError(f"{len(times)} steps with {skip} to skip leave none to time")
    seconds = times[-1] - times[skip]
    return {
        "tokens_per_s": tokens * steps / seconds,
        "steps": steps,
        "loss": losses[-1],
        "mean_loss": sum(losses) / len(losses),
        "flops_per_token": flops_per_token(model, _tokens_a_row(model)),
    }


def _tokens_a_row(model: torch.nn.Module) -> int:
    wanted = model.config.hidden_size
    return next(s[3] for s in SHAPES.values() if s[0].hidden_size == wanted)


def utilised(size: str, bins: str, steps: int, skip: int) -> None:
    """Our loop between two measurements of the matmul rate, in one process.

    The rate of a shared machine swings: only what was measured next to the steps tells
    their share of it. The better of the two counts, so that the share is not flattered.
    """
    before = matmul_rates(5)
    row = _ours(size, bins, steps, skip, "bfloat16", {})
    after = matmul_rates(5)
    peak = max(*before.values(), *after.values())
    achieved = row["tokens_per_s"] * row["flops_per_token"] / 1e12
    report_back(
        row | {"tflops": peak, "mfu": achieved / peak, "before": before, "after": after}
    )


def matmul_rates(repeats: int) -> dict[str, float]:
    """Best bfloat16 matmul rate by size, in TFLOP/s."""
    best = {}
    for size in (1_024, 2_048, 4_096):
        a, b = (torch.randn(size, size).bfloat16() for _ in range(2))
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            (a @ b)[0, 0].item()
            times.append(time.perf_counter() - began)
        best[str(size)] = 2 * size**3 / min(times) / 1e12
    return best


def accumulated(
    size: str, bins: str, steps: int, skip: int, micro: int, nproc: int
) -> None:
    """Our loop with eight micro-batches a step, in one process or several."""
    arguments = {"size": size, "bins": bins, "steps": steps, "micro": micro}
    target = "tests.benchmarks.pretrain_rivals:sharded"
    row = launch.run(target, arguments, nproc=nproc)
    times, tokens = row["times"], row["tokens_per_step"]
    seconds = times[-1] - times[skip]
    report_back(
        {
            "tokens_per_s": tokens * (len(times) - 1 - skip) / seconds,
            "optimizer_bytes": row["optimizer_bytes"],
            "loss": row["loss"],
        }
    )


def sharded(size: str, bins: str, steps: int, micro: int) -> dict:
    """What ``accumulated`` starts; step times and the optimiser's bytes of rank 0."""
    model, times, held = new_model(size), [], []
    cfg = replace(settings(size, steps), micro_batch_size=micro)
    cfg = replace(cfg, global_batch_size=8 * micro * _world_size(), compile="never")
    cfg = replace(cfg, tokens=steps * cfg.tokens_per_step, keep_gathered=True)

    def on_log(step: int, values: dict[str, float]) -> None:
        times.append(time.perf_counter())
        if not held:
            found = (o for o in gc.get_objects() if isinstance(o, MasterAdamW))
            held.append(next(found).state_bytes())

    result = pretrain(
        model, Path(bins), cfg, RuntimeConfig(dtype="bfloat16", num_workers=1),
        embedding_names=embedding_names(model), seed=0, on_log=on_log,
    )  # fmt: skip
    return {
        "times": times,
        "tokens_per_step": cfg.tokens_per_step,
        "optimizer_bytes": held[0] if held else 0,
        "loss": result.losses[-1],
    }


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def resumable(size: str, bins: str, steps: int, checkpoints: str, dtype: str) -> None:
    """A pass with a checkpoint every second step; reports a digest of its weights."""
    model = new_model(size)
    cfg = replace(settings(size, steps), checkpoint_every=2)
    result = pretrain(
        model, Path(bins), cfg, RuntimeConfig(dtype=dtype, num_workers=1),
        embedding_names=embedding_names(model), seed=0,
        checkpoints=Path(checkpoints),
        on_log=lambda step, values: print(f"step {step}", flush=True),
    )  # fmt: skip
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    report_back({"weights": digest.hexdigest(), "loss": result.losses[-1]})
