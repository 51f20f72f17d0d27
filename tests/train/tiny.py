"""A model, a tokenizer and bins that train in a second, here and in other processes."""

import dataclasses
import faulthandler
import os
import resource
import signal
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from finllm_utils.config import PretrainConfig, RuntimeConfig
from finllm_utils.model.embeddings import embedding_names
from finllm_utils.train import running
from finllm_utils.train.bins import write_bin
from finllm_utils.train.pretrain import PretrainResult, pretrain

torch.set_num_threads(1)  # matrices this small are slower on two
WORDS = [f"w{i}" for i in range(61)]
FLOAT32 = RuntimeConfig(dtype="float32", num_workers=1, device="cpu")
BFLOAT16 = RuntimeConfig(dtype="bfloat16", num_workers=1, device="cpu")
CFG = PretrainConfig(
    tokens=24 * 8 * 32,  # 24 steps
    seq_len=32,
    micro_batch_size=2,
    global_batch_size=8,
    learning_rate=3e-3,
    embedding_learning_rate=1e-2,
    warmup_steps=2,
    weight_decay=0.1,
    zh_share=0.5,
    finance_share_start=0.0,
    finance_share_end=0.0,
    checkpoint_every=4,
    compile="never",
)


def tokenizer() -> PreTrainedTokenizerFast:
    """One id a word; 64 in all."""
    vocab = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def model(*, tie: bool = True, rows: int = 64, **changes) -> LlamaForCausalLM:
    """Two layers of width 16, the same weights at every call."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": rows,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": tie,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**shape | changes))


def write_bins(folder: Path) -> Path:
    """Two domains in which each word says the next one."""
    for domain, step in (("general_zh", 3), ("english", 7)):
        texts = [
            " ".join(WORDS[(i + j * step) % 61] for j in range(20)) for i in range(300)
        ]
        write_bin(folder, domain, texts, tokenizer())
    return folder


def train(
    bins: Path, start: LlamaForCausalLM | None = None, *, runtime=FLOAT32, **options
) -> tuple[LlamaForCausalLM, PretrainResult]:
    """The trained model and the result; ``options`` go to the config or the loop."""
    start = model() if start is None else start
    names = {field.name for field in dataclasses.fields(PretrainConfig)}
    changes = {k: options.pop(k) for k in list(options) if k in names}
    cfg = dataclasses.replace(CFG, **changes)
    options = {"embedding_names": embedding_names(start), "seed": 0} | options
    return start, pretrain(start, bins, cfg, runtime, **options)


def resumable(said: Connection, bins: Path, checkpoints: Path, out: Path) -> None:
    """A slow pass that says its steps, to be killed; writes its weights at the end."""

    def on_log(step: int, values: dict[str, float]) -> None:
        said.send(step)
        time.sleep(0.02)

    trained, result = train(
        bins, runtime=BFLOAT16, checkpoints=checkpoints, on_log=on_log, log_every=1
    )
    torch.save(trained.state_dict(), out)
    said.send({"resumed_from": result.resumed_from})


def on_small_files(said: Connection, bins: Path, checkpoints: Path) -> None:
    """A pass that may write no file of more than 20 kB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    _, result = train(bins, checkpoints=checkpoints)
    said.send((result.num_steps, result.notes))


class Stopped(Exception):
    """A pass that a test ended on all processes."""


def rank_target(
    bins: str,
    out: str = "",
    checkpoints: str = "",
    changes: dict | None = None,
    die_at: int = -1,
    stop_at: int = -1,
    dtype: str = "float32",
    tie: bool = True,
) -> dict:
    """What each of several processes runs; rank 0 answers."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    seen: dict[str, object] = {}

    class Watched(running.Pass):
        def step(self) -> dict | None:
            seen["state_bytes"] = self.optimizer.state_bytes()
            if self.progress.step == stop_at:
                raise Stopped
            marker = Path(checkpoints) / "died"
            if self.progress.step == die_at and rank == 1 and not marker.exists():
                self.settle()
                marker.touch()  # a restarted process lives on
                os._exit(9)
            return super().step()

    def on_eval(step: int, whole: LlamaForCausalLM) -> dict[str, float]:
        scores.append(sum(p.double().sum().item() for p in whole.parameters()))
        return {}

    scores: list[float] = []
    with mock.patch("finllm_utils.train.pretrain.Pass", Watched):
        try:
            trained, result = train(
                Path(bins),
                model(tie=tie),
                runtime=RuntimeConfig(dtype=dtype, num_workers=1, device="cpu"),
                checkpoints=Path(checkpoints) if checkpoints else None,
                on_eval=on_eval,
                **(changes or {}),
            )
        except Stopped:
            return seen
    if out and rank == 0:
        torch.save(trained.state_dict(), out)
    return {
        "losses": list(result.losses),
        "resumed_from": result.resumed_from,
        "tokens": result.num_tokens,
        "scores": scores,
        **seen,
    }


def group_member(
    said: Connection, rank: int, num_ranks: int, store: Path, jobs: list[dict]
) -> None:
    """One of several gloo processes that run ``jobs`` one after another.

    Says the results (rank 0) or what it broke on; a crash leaves its stack beside
    ``store``.
    """
    torch.set_num_threads(1)
    crashed = store.with_name(f"{store.name}_crash_{rank}.txt").open("w")
    faulthandler.enable(crashed)
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=num_ranks
        )
        results = [rank_target(**job) for job in jobs]
        if rank == 0:
            said.send(results)
        dist.destroy_process_group()
    except Exception:
        said.send(f"rank {rank}: {traceback.format_exc()}")
