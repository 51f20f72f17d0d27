"""The arms of ``ablation``, what all runs share, and one run in a process of its own."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import PreTrainedTokenizerBase

from finllm_utils.config import PretrainConfig, TokenizerConfig
from finllm_utils.corpora.splits import HELDOUT_DOMAINS, heldout_documents
from finllm_utils.data.heldout import heldout_texts
from finllm_utils.data.pipeline import clean_corpus
from finllm_utils.data.sources import gather_items
from finllm_utils.evals.bits_per_byte import bits_per_byte, spread_sample
from finllm_utils.evals.pretrain_watch import is_kept_out, kept_out
from finllm_utils.model.embeddings import embedding_names, expand_embeddings, new_llama
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.profiles import Profile, load_profile
from finllm_utils.records import Document, read_records
from finllm_utils.runtime import resolve_device, resolve_dtype, seed_everything
from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import as_pretrained, expand, padded_rows
from finllm_utils.train.bins import write_bin
from finllm_utils.train.mixture import DOMAINS
from finllm_utils.train.pretrain import pretrain
from finllm_utils.train.throughput import matmul_weights
from tests.benchmarks.harness import report_back, say

FACTORS = (1.0, 2.0)
"""Trials of every arm: both peak rates of the profile, times this. Not below 1: a run
here is a quarter of the profile's, and short runs want higher rates."""
TRIAL_SEED = 100
VALIDATION = 50
"""One training document in this many is kept out to choose the rates."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One recipe: the vocabulary, then passes as (share of the tokens, changes)."""

    strategy: str
    passes: tuple[tuple[float, dict[str, object]], ...] = ((1.0, {}),)


STAGE1 = {"trainable": "embeddings", "finance_share_end": 0.1}
ARMS = {
    "two_stage": Arm("characters", ((0.25, STAGE1), (0.75, {}))),
    "stage2_only": Arm("characters"),
    "two_stage_base_mix": Arm(
        "characters", ((0.25, STAGE1 | {"zh_share": 0.25}), (0.75, {}))
    ),
    "lora_embeddings": Arm("characters", ((1.0, {"trainable": "lora"}),)),
    "no_expansion": Arm("none"),
    "words": Arm("characters_and_words"),
    "english_0": Arm("characters", ((1.0, {"zh_share": 1.0}),)),
    "english_50": Arm("characters", ((1.0, {"zh_share": 0.5}),)),
}
REFERENCE = "stage2_only"
"""The arm that differences are taken to, and whose FLOPs the others get."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One size of the benchmark."""

    profile: str
    tokens: int
    """Of a whole run, both stages."""
    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[str, ...] = tuple(ARMS)
    factors: tuple[float, ...] = FACTORS
    max_documents: int = 400
    """Held-out documents a domain."""
    overrides: dict[str, object] = field(default_factory=dict)


SIZES = {
    "default": Settings(profile="toy", tokens=122_880, max_documents=200),
    "quick": Settings(
        profile="toy", tokens=8_192, seeds=(0, 1), factors=(1.0,), max_documents=6,
        arms=("two_stage", "stage2_only", "lora_embeddings", "no_expansion"),
        overrides={
            "data.chars_general_zh": 60_000, "data.chars_finance_zh": 60_000,
            "data.chars_english": 60_000, "data.chars_finance_en": 60_000,
            "data.include_raw_samples": False, "base.tokens": 4_096,
            "model.hidden_size": 64, "model.num_heads": 1, "model.num_kv_heads": 1,
            "model.intermediate_size": 128, "model.num_layers": 2,
        },
    ),
    "small": Settings(profile="small", tokens=20_971_520, max_documents=1_000),
}  # fmt: skip


class Ablation:
    """The text, an English base a seed, and a vocabulary with bins for each strategy.

    All of it lies in ``folder``, so that runs in other processes find it there.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.profile: Profile = load_profile(settings.profile, settings.overrides)
        self.base_pieces = load_base_tokenizer(self.profile.tokenizer.base)
        self.before = as_pretrained(self.base_pieces, chat=False)

    def prepare(self) -> None:
        """Everything that all runs share; what is there already stays."""
        self._once("corpus", self._clean)
        for strategy in sorted(
            {ARMS[a].strategy for a in self.settings.arms} | {"none"}
        ):
            self._once(f"vocabulary_{strategy}", self._write_vocabulary, strategy)
        if not self.profile.model.path:
            for seed in self.settings.seeds:
                self._once(f"base_{seed}", self._write_base, seed)

    def _once(self, name: str, make: Callable[..., None], *arguments: object) -> None:
        """Makes a folder whole or not at all."""
        if not (self.folder / name).exists():
            say(name.replace("_", " "))
            with TemporaryDirectory(dir=self.folder) as work:
                (Path(work) / name).mkdir()
                make(Path(work) / name, *arguments)
                (Path(work) / name).rename(self.folder / name)

    def _clean(self, output: Path) -> None:
        data = replace(self.profile.data, include_raw_samples=False)
        clean_corpus(
            gather_items(data, []), data, heldout=heldout_texts(), output=output,
            work_dir=output.parent / "clean", num_workers=2, models=None,
        )  # fmt: skip

    def parts(self) -> tuple[dict[str, list[Document]], dict[str, list[Document]]]:
        """Training and validation documents."""
        corpus = self.folder / "corpus"
        return split(
            {d: list(read_records(corpus / f"{d}.jsonl", Document)) for d in DOMAINS}
        )

    def _write_vocabulary(self, output: Path, strategy: str) -> None:
        training, _ = self.parts()
        cfg: TokenizerConfig = replace(self.profile.tokenizer, strategy=strategy)
        texts = [
            d.text for part in ("general_zh", "finance_zh") for d in training[part]
        ]
        grown = expand(self.base_pieces, cfg, texts).tokenizer
        tokenizer = as_pretrained(grown, chat=False)
        tokenizer.save_pretrained(output / "tokenizer")
        (output / "bins").mkdir()
        for domain, documents in training.items():
            write_bin(output / "bins", domain, [d.text for d in documents], tokenizer)

    def _write_base(self, output: Path, seed: int) -> None:
        model = new_llama(self.profile.model, len(self.before), seed)
        pretrain(
            model, self.folder / "vocabulary_none/bins", self.profile.base,
            self.profile.runtime, embedding_names=embedding_names(model), seed=seed,
        )  # fmt: skip
        model.save_pretrained(output)

    def tokenizer(self, strategy: str) -> PreTrainedTokenizerBase:
        """What a strategy made of the base's vocabulary."""
        return load_tokenizer(self.folder / f"vocabulary_{strategy}/tokenizer")

    def base(self, seed: int) -> torch.nn.Module:
        """The English base of a seed, or the folder's model; trials share the first."""
        seed = self.settings.seeds[0] if seed == TRIAL_SEED else seed
        return load_model(self.profile.model.path or self.folder / f"base_{seed}")

    def train(
        self, name: str, seed: int, factor: float, tokens: int
    ) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
        """Trains one arm of ``tokens`` in all."""
        arm = ARMS[name]
        tokenizer = self.tokenizer(arm.strategy)
        bins = self.folder / f"vocabulary_{arm.strategy}/bins"
        model = expand_embeddings(
            self.base(seed), self.before, tokenizer, seed=seed,
            num_rows=self._rows(tokenizer),
        )  # fmt: skip
        for i, (share, changes) in enumerate(arm.passes):
            cfg = self.pass_config(changes, factor, share * tokens)
            pretrain(
                model, bins, cfg, self.profile.runtime,
                embedding_names=embedding_names(model), seed=1_000 * (i + 1) + seed,
            )  # fmt: skip
        return model, tokenizer

    def _rows(self, tokenizer: PreTrainedTokenizerBase) -> int:
        return padded_rows(len(tokenizer), self.profile.tokenizer.pad_to_multiple_of)

    def pass_config(
        self, changes: dict[str, object], factor: float, tokens: float
    ) -> PretrainConfig:
        """The profile's stage 2 with an arm's changes, rates times ``factor``."""
        cfg = self.profile.pretrain2
        steps = round(tokens / cfg.tokens_per_step)
        return replace(
            cfg, **changes, tokens=steps * cfg.tokens_per_step, checkpoint_every=0,
            learning_rate=cfg.learning_rate * factor,
            embedding_learning_rate=cfg.embedding_learning_rate * factor,
        )  # fmt: skip

    def score(
        self,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        documents: dict[str, Sequence[Document]],
    ) -> dict[str, float]:
        """Bits per byte by domain."""
        runtime = self.profile.runtime
        model.to(resolve_device(runtime.device), resolve_dtype(runtime.dtype))
        return {
            domain: bits_per_byte(
                model, tokenizer, part, window=self.profile.pretrain2.seq_len,
                batch_tokens=self.profile.evals.batch_tokens, num_bootstrap=1, seed=0,
            ).value
            for domain, part in documents.items()
        }  # fmt: skip

    def documents(self, on: str) -> dict[str, Sequence[Document]]:
        """What to measure on: the Chinese validation documents, or held-out ones."""
        if on == "validation":
            _, validation = self.parts()
            return {d: validation[d] for d in ("general_zh", "finance_zh")}
        found = {d: heldout_documents(d) for d in HELDOUT_DOMAINS}
        size = self.settings.max_documents
        return {d: spread_sample(v, min(size, len(v))) for d, v in found.items()}

    def equal_flops(self, name: str) -> int:
        """Tokens of an arm that cost what the reference arm's tokens cost."""
        budget = self.settings.tokens * self._flops(REFERENCE)
        return round(budget / self._flops(name))

    def _flops(self, name: str) -> float:
        """Training FLOPs a token, the mean over the passes."""
        arm, shape = ARMS[name], self.profile.model
        base = self.base(self.settings.seeds[0])
        every, _ = matmul_weights(base)
        width = base.config.hidden_size
        rows = self._rows(self.tokenizer(arm.strategy))
        output, old = rows * width, len(self.before) * width
        weights = every - old + output
        attention = 12 * shape.num_layers * width * self.profile.pretrain2.seq_len
        total = 0.0
        for share, changes in arm.passes:
            kind = changes.get("trainable", "all")
            learning = weights if kind == "all" else output  # adapters: under 1%
            total += share * (4.0 * weights + 2.0 * learning + attention)
        return total


def one_run(folder: str, size: str, *run: str | int | float) -> None:
    """What a process of its own does: trains an arm and reports its bits per byte."""
    name, seed, factor, tokens, on = run
    ablation = Ablation(Path(folder), SIZES[size])
    seed_everything(seed)
    began = time.perf_counter()
    model, tokenizer = ablation.train(name, seed, factor, tokens)
    seconds = time.perf_counter() - began
    found = ablation.score(model, tokenizer, ablation.documents(on))
    report_back({"bpb": found, "seconds": round(seconds, 1)})


def split(
    corpus: dict[str, list[Document]],
) -> tuple[dict[str, list[Document]], dict[str, list[Document]]]:
    """Training and validation documents by the digest of their ids."""
    training = {
        domain: [d for d in documents if not is_kept_out(d.id, VALIDATION)]
        for domain, documents in corpus.items()
    }
    return training, {d: kept_out(v, VALIDATION) for d, v in corpus.items()}
