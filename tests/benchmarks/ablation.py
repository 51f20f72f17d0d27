"""Benchmark ``ablation``: what do two stages, expansion and replay each bring?

``python -m tests.benchmarks.ablation`` trains the arms below from the same English base
on the same cleaned text, three seeds each, and measures bits per byte of held-out text.
Every arm gets the same number of trials of its learning rate, on documents split off
the training text. Results stand at equal tokens and at equal FLOPs. It writes
``results/ablation.json``; ``--quick`` tries everything on a slice and writes nothing;
``--small`` starts from SmolLM2-135M and is for a GPU.

| arm | vocabulary | passes |
|---|---|---|
| two_stage | characters | a quarter embeddings only on stage 2's mix, the rest all |
| stage2_only | characters | all parameters from the start |
| two_stage_base_mix | characters | as two_stage, stage 1 on a mix near the base's own |
| lora_embeddings | characters | adapters and embeddings |
| no_expansion | the base's | all parameters |
| words | characters and words | all parameters |
| english_0, english_50 | characters | all parameters, no English or half of it |
"""

import argparse
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import torch
from transformers import PreTrainedTokenizerBase

from finllm_utils.config import PretrainConfig, TokenizerConfig
from finllm_utils.corpora.splits import HELDOUT_DOMAINS, heldout_documents
from finllm_utils.data.heldout import heldout_texts
from finllm_utils.data.pipeline import clean_corpus
from finllm_utils.data.sources import gather_items
from finllm_utils.evals.bits_per_byte import bits_per_byte, spread_sample
from finllm_utils.model.embeddings import embedding_names, expand_embeddings, new_llama
from finllm_utils.model.load import load_model
from finllm_utils.profiles import Profile, load_profile
from finllm_utils.records import Document, read_records
from finllm_utils.runtime import resolve_device, resolve_dtype
from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import as_pretrained, expand, padded_rows
from finllm_utils.train.bins import write_bin
from finllm_utils.train.mixture import DOMAINS
from finllm_utils.train.pretrain import pretrain
from finllm_utils.train.throughput import matmul_weights
from tests.benchmarks.data_ablation_checks import t_interval
from tests.benchmarks.harness import (
    ENVIRONMENTS,
    print_table,
    say,
    versions,
    write_result,
)

COMMAND = "make bench ONLY=ablation"
FACTORS = (0.5, 1.0, 2.0)
"""Trials of every arm: both peak rates of the profile, times this."""
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
    "default": Settings(profile="toy", tokens=319_488),
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
    """The base, the text, and a vocabulary with its bins for each strategy."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.profile: Profile = load_profile(settings.profile, settings.overrides)
        self.corpus = self._clean()
        self.heldout = {
            d: spread_sample(
                heldout_documents(d),
                min(settings.max_documents, len(heldout_documents(d))),
            )
            for d in HELDOUT_DOMAINS
        }
        self.training, self.validation = split(self.corpus)
        self.base_pieces = load_base_tokenizer(self.profile.tokenizer.base)
        self.before = as_pretrained(self.base_pieces, chat=False)
        self.tokenizers: dict[str, PreTrainedTokenizerBase] = {}
        self.bases: dict[int, torch.nn.Module] = {}
        self.rates: dict[str, float] = {}

    def _clean(self) -> dict[str, list[Document]]:
        say("cleaning the corpus")
        data = replace(self.profile.data, include_raw_samples=False)
        output = self.folder / "corpus"
        output.mkdir()
        clean_corpus(
            gather_items(data, []), data, heldout=heldout_texts(), output=output,
            work_dir=self.folder / "clean", num_workers=2, models=None,
        )  # fmt: skip
        return {d: list(read_records(output / f"{d}.jsonl", Document)) for d in DOMAINS}

    def vocabulary(self, strategy: str) -> tuple[PreTrainedTokenizerBase, Path]:
        """The tokenizer of a strategy, and the bins it wrote."""
        bins = self.folder / f"bins_{strategy}"
        if strategy not in self.tokenizers:
            say(f"vocabulary: {strategy}")
            cfg: TokenizerConfig = replace(self.profile.tokenizer, strategy=strategy)
            texts = [
                document.text
                for d in ("general_zh", "finance_zh")
                for document in self.training[d]
            ]
            grown = expand(self.base_pieces, cfg, texts).tokenizer
            self.tokenizers[strategy] = as_pretrained(grown, chat=False)
            bins.mkdir()
            for domain, documents in self.training.items():
                write_bin(
                    bins, domain, [d.text for d in documents], self.tokenizers[strategy]
                )
        return self.tokenizers[strategy], bins

    def base(self, seed: int) -> torch.nn.Module:
        """The English base of a seed, or the folder's model; never changed."""
        if self.profile.model.path:
            seed = 0
        if seed not in self.bases:
            self.bases[seed] = self._new_base(seed)
        return self.bases[seed]

    def _new_base(self, seed: int) -> torch.nn.Module:
        shape = self.profile.model
        if shape.path:
            return load_model(shape.path)
        say(f"English base, seed {seed}")
        model = new_llama(shape, len(self.before), seed)
        _, bins = self.vocabulary("none")
        pretrain(
            model, bins, self.profile.base, self.profile.runtime,
            embedding_names=embedding_names(model), seed=seed,
        )  # fmt: skip
        return model

    def run(
        self, name: str, seed: int, factor: float, tokens: int
    ) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
        """Trains one arm of ``tokens`` in all."""
        arm = ARMS[name]
        tokenizer, bins = self.vocabulary(arm.strategy)
        model = expand_embeddings(
            self.base(seed), self.before, tokenizer, seed=seed,
            num_rows=padded_rows(
                len(tokenizer), self.profile.tokenizer.pad_to_multiple_of
            ),
        )  # fmt: skip
        for i, (share, changes) in enumerate(arm.passes):
            cfg = self.pass_config(changes, factor, share * tokens)
            pretrain(
                model, bins, cfg, self.profile.runtime,
                embedding_names=embedding_names(model), seed=1_000 * (i + 1) + seed,
            )  # fmt: skip
        return model, tokenizer

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

    def best_factor(self, name: str) -> float:
        """The factor with the lowest mean over Chinese validation domains."""
        if len(self.settings.factors) == 1:
            return self.settings.factors[0]
        found = {}
        for factor in self.settings.factors:
            model, pieces = self.run(name, TRIAL_SEED, factor, self.settings.tokens)
            parts = {d: self.validation[d] for d in ("general_zh", "finance_zh")}
            found[factor] = mean(self.score(model, pieces, parts).values())
            say(f"{name}, rates times {factor}: {found[factor]:.4f} on validation")
        return min(found, key=found.get)

    def equal_flops(self, name: str) -> int:
        """Tokens of an arm that cost what the reference arm's tokens cost."""
        budget = self.settings.tokens * self._flops(REFERENCE)
        return round(budget / self._flops(name))

    def _flops(self, name: str) -> float:
        """Training FLOPs a token, the mean over the passes."""
        arm, shape = ARMS[name], self.profile.model
        tokenizer, _ = self.vocabulary(arm.strategy)
        rows = padded_rows(len(tokenizer), self.profile.tokenizer.pad_to_multiple_of)
        every, _ = matmul_weights(self.base(self.settings.seeds[0]))
        width = self.base(self.settings.seeds[0]).config.hidden_size
        output, old = rows * width, len(self.before) * width
        weights = every - old + output
        length = self.profile.pretrain2.seq_len
        attention = 12 * shape.num_layers * width * length
        total = 0.0
        for share, changes in arm.passes:
            kind = changes.get("trainable", "all")
            learning = weights if kind == "all" else output  # adapters: under 1%
            total += share * (4.0 * weights + 2.0 * learning + attention)
        return total


def split(
    corpus: dict[str, list[Document]],
) -> tuple[dict[str, list[Document]], dict[str, list[Document]]]:
    """Training and validation documents by the digest of their ids."""
    parts: tuple[dict, dict] = ({}, {})
    for domain, documents in corpus.items():
        for part in parts:
            part[domain] = []
        for document in documents:
            digest = hashlib.sha256(document.id.encode()).digest()
            kept_out = int.from_bytes(digest[:4], "big") % VALIDATION == 0
            parts[kept_out][domain].append(document)
    return parts


def figures_of(
    found: dict[str, list[dict[str, float]]], mark: str = ""
) -> dict[str, float]:
    """Mean, deviation and paired difference to the reference arm, by arm and domain."""
    figures: dict[str, float] = {}
    for arm, rows in found.items():
        for domain in rows[0]:
            key, values = f"{arm}.{mark}{domain}", [row[domain] for row in rows]
            figures[f"{key}.bpb_mean"] = mean(values)
            figures[f"{key}.bpb_std"] = stdev(values)
            if arm != REFERENCE and REFERENCE in found:
                others = [row[domain] for row in found[REFERENCE]]
                pairs = zip(values, others, strict=True)
                middle, low, high = t_interval([a - b for a, b in pairs])
                figures[f"{key}.vs_{REFERENCE}"] = middle
                figures[f"{key}.vs_{REFERENCE}_low"] = low
                figures[f"{key}.vs_{REFERENCE}_high"] = high
    return figures


def measure(folder: Path, settings: Settings) -> tuple[dict, dict]:
    """All figures, and the notes of the result file."""
    ablation = Ablation(folder, settings)
    same_tokens: dict[str, list] = {}
    same_flops: dict[str, list] = {}
    notes: dict = {"arms": {}, "seeds": list(settings.seeds)}
    for name in settings.arms:
        factor = ablation.best_factor(name)
        tokens = ablation.equal_flops(name)
        differs = abs(tokens / settings.tokens - 1) > 0.01
        notes["arms"][name] = {
            "rate_factor": factor,
            "passes": [[share, dict(changes)] for share, changes in ARMS[name].passes],
            "vocabulary": ARMS[name].strategy,
            "tokens_at_equal_flops": tokens if differs else settings.tokens,
        }
        budgets = ((same_tokens, settings.tokens), (same_flops, tokens))
        for into, budget in budgets:
            if into is same_flops and not differs:
                into[name] = same_tokens[name]
                continue
            into[name] = []
            for seed in settings.seeds:
                model, pieces = ablation.run(name, seed, factor, budget)
                into[name].append(ablation.score(model, pieces, ablation.heldout))
                shown = ", ".join(f"{d} {v:.4f}" for d, v in into[name][-1].items())
                say(f"{name}, {budget:,} tokens, seed {seed}: {shown}")
    figures = figures_of(same_tokens) | figures_of(same_flops, "equal_flops.")
    notes |= {
        "tokens_a_run": settings.tokens,
        "interval": "95%, Student's t over paired seeds",
        "trials": f"rates times {settings.factors}, seed {TRIAL_SEED}, on validation",
        "validation_documents": {d: len(v) for d, v in ablation.validation.items()},
        "heldout_documents": {d: len(v) for d, v in ablation.heldout.items()},
        "profile": settings.profile,
    }
    return figures, notes


def main() -> None:
    """Trains every arm, prints the figures, writes the result of a whole run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = parser.add_mutually_exclusive_group()
    for name in ("quick", "small"):
        sizes.add_argument(f"--{name}", action="store_const", const=name, dest="size")
    size = parser.parse_args().size or "default"
    began = time.monotonic()
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=ENVIRONMENTS.parent) as folder:
        figures, notes = measure(Path(folder), SIZES[size])
    notes |= {"size": size, "seconds": round(time.monotonic() - began)}
    print()
    print_table(figures, {})
    if size == "quick":
        print("a slice only: no result was written")
        return
    known = versions("torch", "transformers", "tokenizers", "peft")
    print(write_result("ablation", COMMAND, figures, notes, known))


if __name__ == "__main__":
    main()
