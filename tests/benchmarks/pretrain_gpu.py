"""Benchmark ``pretrain_gpu``: the pre-training loop on one accelerator.

``python -m tests.benchmarks.pretrain_gpu`` trains a LLaMA of 1.1B parameters (the shape
of TinyLlama, random weights) on packed rows of 4,096 tokens: as a plain fp32 loop, then
with each optimisation of ours switched on in turn, and with the Trainer as it comes.
Each contender runs in a process of its own; rates are medians of five rounds, memory is
the allocator's peak. It writes ``results/pretrain_gpu.json``; without an accelerator it
says so and ends; ``--quick`` tries everything at a tiny size, on a processor too, and
writes nothing.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from finllm_utils.config import ModelConfig, PretrainConfig, RuntimeConfig
from finllm_utils.model.attention_check import attention_agreement
from finllm_utils.model.embeddings import embedding_names, new_llama
from finllm_utils.runtime import resolve_device
from finllm_utils.train.bins import PackedBin, labels_of, write_bin
from finllm_utils.train.pretrain import pretrain
from finllm_utils.train.progress import peak_memory_bytes
from finllm_utils.train.throughput import (
    data_sheet_peak,
    flops_per_token,
    matmul_peak_tflops,
)
from tests.benchmarks.harness import (
    alternate,
    call_in,
    print_table,
    report_back,
    say,
    timing,
)
from tests.benchmarks.runner import publish, scratch_folder

GOALS = {"mfu_1b": ">= 0.45", "ratio_to_trainer_default": ">= 1.5"}
VOCABULARY = 32_000


@dataclass(frozen=True, slots=True)
class Size:
    """One size of the benchmark."""

    model: ModelConfig
    seq_len: int
    micro_batch: int
    steps: int
    skip: int


SIZES = {
    "1b": Size(
        ModelConfig(
            path="", hidden_size=2_048, intermediate_size=5_632, num_layers=22,
            num_heads=32, num_kv_heads=4, tie_embeddings=False, max_seq_len=4_096,
        ),
        4_096, 4, 10, 4,
    ),
    "tiny": Size(
        ModelConfig(
            path="", hidden_size=64, intermediate_size=128, num_layers=2, num_heads=2,
            num_kv_heads=2, tie_embeddings=False, max_seq_len=128,
        ),
        128, 2, 4, 1,
    ),
}  # fmt: skip
LADDER: dict[str, dict[str, object]] = {
    "fp32": {"loop": "plain", "dtype": "float32"},
    "bf16": {"loop": "plain", "dtype": "bfloat16"},
    "checkpointing": {"loop": "plain", "dtype": "bfloat16", "recompute": True},
    "fused_ce": {"loop": "ours", "recompute": True, "attention": "sdpa"},
    "attention": {"loop": "ours", "recompute": True, "attention": "auto"},
    "compile": {
        "loop": "ours", "recompute": True, "attention": "auto", "compile": "always",
    },
    "no_recompute": {"loop": "ours", "attention": "auto", "compile": "always"},
    "trainer": {"loop": "trainer"},
}  # fmt: skip
"""Each step keeps what the one before it switched on."""


def words_tokenizer() -> PreTrainedTokenizerFast:
    """As many words as a LLaMA has pieces: a benchmark needs ids, not language."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocab |= {f"w{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def write_words(folder: Path, num_tokens: int) -> None:
    """A bin of random words in documents of 200 to 3,000 tokens."""
    rng = np.random.default_rng(0)
    texts, written = [], 0
    while written < num_tokens:
        length = int(rng.integers(200, 3_000))
        ids = rng.zipf(1.2, length) % (VOCABULARY - 3) + 3
        texts.append(" ".join(f"w{i}" for i in ids))
        written += length
    write_bin(folder, "general_zh", texts, words_tokenizer())


def settings(size: Size, micro_batch: int, **changes: object) -> PretrainConfig:
    """One domain, no checkpoints."""
    return PretrainConfig(
        tokens=size.steps * micro_batch * size.seq_len, seq_len=size.seq_len,
        micro_batch_size=micro_batch, global_batch_size=micro_batch,
        learning_rate=3e-4, embedding_learning_rate=3e-4, warmup_steps=2, zh_share=1.0,
        finance_share_start=0.0, finance_share_end=0.0, log_every=1,
        checkpoint_every=0, **changes,
    )  # fmt: skip


def contender(name: str, bins: str, micro_batch: int, how: dict) -> None:
    """Runs one contender in this process and reports its speed and peak memory."""
    size, times = SIZES[name], []
    device = resolve_device("auto")
    model = new_llama(size.model, VOCABULARY, seed=0)
    loops: dict[str, Callable] = {"plain": _plain, "ours": _ours, "trainer": _trainer}

    def tick() -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    try:
        loops[how["loop"]](size, model, Path(bins), micro_batch, how, tick)
    except torch.OutOfMemoryError:
        gc.collect()
        report_back({"tokens_per_s": 0.0, "peak_gib": 0.0, "out_of_memory": 1.0})
        return
    seconds = times[-1] - times[size.skip]
    tokens = (len(times) - 1 - size.skip) * micro_batch * size.seq_len
    model.requires_grad_(True)
    report_back(
        {
            "tokens_per_s": tokens / seconds,
            "peak_gib": peak_memory_bytes(device) / 2**30,
            "out_of_memory": 0.0,
            "flops_per_token": flops_per_token(model, size.seq_len),
        }
    )


def _ours(size, model, bins, micro_batch, how, tick) -> None:
    changes = {k: how[k] for k in ("attention", "compile") if k in how}
    changes |= {"activation_checkpointing": bool(how.get("recompute"))}
    changes.setdefault("compile", "never")
    pretrain(
        model, bins, settings(size, micro_batch, **changes),
        RuntimeConfig(dtype="bfloat16", num_workers=1),
        embedding_names=embedding_names(model), seed=0,
        on_log=lambda step, values: tick(),
    )  # fmt: skip


def _rows(size: Size, bins: Path, micro_batch: int, step: int) -> torch.Tensor:
    packed = PackedBin(bins, "general_zh", size.seq_len, 0)
    first = step * micro_batch
    rows = [torch.from_numpy(packed.row(first + i)) for i in range(micro_batch)]
    return torch.stack(rows)


def _plain(size, model, bins, micro_batch, how, tick) -> None:
    """What a short script does: whole logits, AdamW over float32 weights."""
    device = resolve_device("auto")
    model.to(device).train()
    if how.get("recompute"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    low = how["dtype"] == "bfloat16"
    for step in range(size.steps):
        rows_BT = _rows(size, bins, micro_batch, step)
        labels_BT = labels_of(rows_BT, 1).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            logits = model(rows_BT.to(device), use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), labels_BT.flatten()
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tick()


def _trainer(size, model, bins, micro_batch, how, tick) -> None:
    """The Trainer with its defaults."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            tick()

    count = size.steps * micro_batch
    rows_NT = _rows(size, bins, count, 0)
    data = [{"input_ids": row, "labels": row} for row in rows_NT]
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=size.steps, save_strategy="no",
            report_to="none", per_device_train_batch_size=micro_batch,
            disable_tqdm=True,
        )  # fmt: skip
        Trainer(
            model=model, args=arguments, train_dataset=data, callbacks=[Clock()]
        ).train()


class Bench:
    """Contenders of one size, each in a process of its own."""

    def __init__(self, folder: Path, name: str, rounds: int) -> None:
        self.name, self.size, self.rounds = name, SIZES[name], rounds
        self.bins = folder / "bins"
        self.bins.mkdir()
        wanted = self.size.steps * self.size.micro_batch * self.size.seq_len
        write_words(self.bins, 2 * wanted)

    def call(self, how: dict, micro_batch: int | None = None) -> dict:
        """One run."""
        return call_in(
            sys.executable, "tests.benchmarks.pretrain_gpu:contender", self.name,
            self.bins, micro_batch or self.size.micro_batch, how,
        )  # fmt: skip

    def ladder(self) -> tuple[dict[str, float], dict[str, object]]:
        """Speed and memory of every step of the ladder, and of the Trainer."""
        rows = alternate(
            {name: lambda how=how: self.call(how) for name, how in LADDER.items()},
            self.rounds,
        )
        speed = {n: timing(found, "tokens_per_s").median for n, found in rows.items()}
        memory = {n: timing(found, "peak_gib").median for n, found in rows.items()}
        ours = max(("compile", "no_recompute"), key=speed.get)
        peak = data_sheet_peak(_device_name()) or matmul_peak_tflops(torch.bfloat16)
        measured = matmul_peak_tflops(torch.bfloat16, resolve_device("auto"))
        flops = rows["compile"][0].get("flops_per_token", 0.0)
        figures = {
            "mfu_1b": speed[ours] * flops / peak / 1e12,
            "mfu_of_measured_peak": speed[ours] * flops / measured / 1e12,
            "matmul_peak_tflops": measured,
            "tokens_per_s": speed[ours],
            "memory_reduction": 1 - memory["compile"] / max(memory["fp32"], 1e-9),
            "throughput_gain": speed[ours] / max(speed["fp32"], 1e-9) - 1,
            "attention_gain": speed["attention"] / max(speed["fused_ce"], 1e-9) - 1,
            "ratio_to_trainer_default": speed[ours] / max(speed["trainer"], 1e-9),
        }
        for name in LADDER:
            figures[f"{name}.tokens_per_s"] = speed[name]
            figures[f"{name}.peak_gib"] = memory[name]
        notes = {
            "fastest": ours, "rounds": self.rounds, "size": self.name,
            "batch": [self.size.micro_batch, self.size.seq_len],
            "model": asdict(self.size.model), "ladder": LADDER,
            "peak_tflops": peak, "device": _device_name(),
        }  # fmt: skip
        return figures, notes

    def largest_batch(self, how: dict, limit: int = 256) -> int:
        """Rows of a micro-batch that still fit, by doubling."""
        rows = 1
        while rows < limit and not self.call(how, 2 * rows)["out_of_memory"]:
            rows *= 2
        return rows


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Measures the ladder, prints a table, writes the result of a whole run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = resolve_device("auto")
    if device == "cpu" and not options.quick:
        print("no accelerator here: pretrain_gpu was not run (--quick tries the code)")
        return
    with scratch_folder() as folder:
        name, rounds = ("tiny", 1) if options.quick else ("1b", options.rounds)
        bench = Bench(folder, name, rounds)
        figures, notes = bench.ladder()
        say("attention back ends against fp32 eager")
        notes["attention_agreement"] = attention_agreement(device)
        if not options.quick:
            batches = {n: bench.largest_batch(LADDER[n]) for n in ("fp32", "compile")}
            figures["batch_gain"] = batches["compile"] / batches["fp32"]
            notes["largest_batch"] = batches
    print_table(figures, GOALS)
    packages = ("torch", "transformers", "accelerate")
    publish("pretrain_gpu", (figures, notes), packages, quick=options.quick)


if __name__ == "__main__":
    main()
