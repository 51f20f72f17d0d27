"""The rivals of the cleaning chain; each function runs in the rival's own environment.

Nothing of FinLLM's dependencies is imported here. Both write their result to disk and
run in one process, as ours does. Imports and a small warm-up run are not timed.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.harness import measured, report_back

DATAJUICER = (
    "py-data-juicer==1.6.1", "opencc==1.4.2", "ftfy==6.3.1", "aiohttp==3.14.5",
)  # fmt: skip
DATATROVE = (
    "datatrove==0.10.1", "xxhash==3.8.2", "spacy==3.8.18", "jieba==0.42.1",
    "ftfy==6.3.1", "orjson==3.13.0", "regex==2026.11.15", "numpy==2.3.5",
    "tokenizers==0.23.3",
)  # fmt: skip

DATAJUICER_STEPS = {
    "fix_unicode_mapper": "normalize: encodings, NFC",
    "whitespace_normalization_mapper": "normalize: blanks",
    "punctuation_normalization_mapper": "normalize: widths",
    "chinese_convert_mapper": "normalize: traditional to simplified",
    "clean_copyright_mapper": "boilerplate lines",
    "text_length_filter": "length",
    "alphanumeric_filter": "garbage: symbols",
    "special_characters_filter": "garbage: symbols",
    "character_repetition_filter": "repetition: n-grams",
    "maximum_line_length_filter": "boilerplate: list pages",
    "average_line_length_filter": "boilerplate: list pages",
    "pii_redaction_mapper": "pii",
    "document_deduplicator": "dedup: exact",
    "document_minhash_deduplicator": "dedup: near, 20 bands of 6 on 5 characters",
}
"""data-juicer's operator and our step it stands for. Left out, because they fetch
word lists or models: flagged_words, stopwords, language_id_score, perplexity and the
word filters with a tokenizer. Ours still runs its harm rules, language check,
decontamination, quality models and template cut: more work, not less."""

DATATROVE_STEPS = {
    "MinhashDedup 14 x 8 on jieba 5-grams": "dedup: near",
    "GopherRepetitionFilter": "repetition",
    "FineWebQualityFilter": "boilerplate",
    "GopherQualityFilter": "length, garbage, language",
    "FTFYFormatter": "normalize",
    "PIIFormatter": "pii: e-mail and IP addresses only",
    "SymbolLinesFormatter": "normalize: table bars",
}
"""In the order of the fineweb-2 pipeline, language scoring left out: it fetches a
model."""


def _datajuicer_process() -> list[dict]:
    settings: dict[str, dict] = {
        "punctuation_normalization_mapper": {},
        "chinese_convert_mapper": {"mode": "t2s"},
        "text_length_filter": {"min_len": 40},
        "alphanumeric_filter": {"tokenization": False, "min_ratio": 0.6},
        "special_characters_filter": {"max_ratio": 0.4},
        "character_repetition_filter": {"rep_len": 10, "max_ratio": 0.3},
        "maximum_line_length_filter": {"min_len": 10},
        "average_line_length_filter": {"min_len": 10},
        "document_deduplicator": {"lowercase": True, "ignore_non_character": True},
        "document_minhash_deduplicator": {
            "tokenization": "character", "window_size": 5, "num_permutations": 120,
            "num_bands": 20, "num_rows_per_band": 6, "jaccard_threshold": 0.8,
        },
    }  # fmt: skip
    return [{name: settings.get(name, {})} for name in DATAJUICER_STEPS]


def datajuicer(sample: str, folder: str) -> None:
    """data-juicer's default executor with fused operators on one process."""
    import yaml
    from data_juicer.config import init_configs
    from data_juicer.core import DefaultExecutor

    def run(source: Path, name: str) -> None:
        work = Path(folder, name)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        recipe = {
            "project_name": name, "dataset_path": str(source), "np": 1,
            "export_path": str(work / "out.jsonl"), "work_dir": str(work),
            "use_cache": False, "open_tracer": False, "open_monitor": False,
            "op_fusion": True, "fusion_strategy": "greedy", "skip_op_error": False,
            "text_keys": "text", "process": _datajuicer_process(),
        }  # fmt: skip
        config = work / "recipe.yaml"
        config.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        DefaultExecutor(init_configs(["--config", str(config)])).run()

    row = _time(run, sample, folder)
    out = Path(folder, "main", "out.jsonl")
    row["docs_out"] = len(out.read_text(encoding="utf-8").splitlines())
    report_back(row)


def _warm_up(sample: str, folder: str) -> Path:
    path = Path(folder, "warm.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = Path(sample).read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:20]), encoding="utf-8")
    return path


def _time(run: Callable[[Path, str], None], sample: str, folder: str) -> dict:
    """Once for nothing, once for what starting costs, once for the figure."""
    few = _warm_up(sample, folder)
    run(few, "warm")
    with measured() as start:
        run(few, "warm")
    with measured() as row:
        run(Path(sample), "main")
    return row | {"start_cpu_s": start["cpu_s"], "start_wall_s": start["wall_s"]}


# huggingface/fineweb-2, configs/cmn_Hani.yml (Apache-2.0)
_THRESHOLDS = {
    "dup_line_frac": 0.287,
    "top_n_grams": ((2, 0.256), (3, 0.201), (4, 0.171)),
    "dup_n_grams": (
        (5, 0.198), (6, 0.182), (7, 0.167), (8, 0.154), (9, 0.14), (10, 0.127),
    ),
    "stop_words": list("的年在月是和日了於·為有被人中为他與後也而由"),
}  # fmt: skip


def _datatrove_phases(source: Path, work: Path) -> list[tuple[list, int]]:
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.filters import (
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.formatters import (
        FTFYFormatter,
        PIIFormatter,
        SymbolLinesFormatter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    language, known = "cmn_Hani", _THRESHOLDS
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    reader = JsonlReader(str(source.parent), glob_pattern=source.name)
    signed, pairs, gone = (str(work / n) for n in ("signed", "pairs", "gone"))
    return [
        ([reader, MinhashDedupSignature(signed, config=config, language=language)], 1),
        ([MinhashDedupBuckets(signed, pairs, config=config)], config.num_buckets),
        ([MinhashDedupCluster(pairs, gone, config=config)], 1),
        (
            [
                reader,
                MinhashDedupFilter(gone),
                GopherRepetitionFilter(
                    language=language, dup_para_frac=0, dup_line_char_frac=0,
                    dup_para_char_frac=0, dup_line_frac=known["dup_line_frac"],
                    top_n_grams=known["top_n_grams"], dup_n_grams=known["dup_n_grams"],
                ),
                FineWebQualityFilter(
                    language=language, short_line_thr=999, char_duplicates_ratio=0.1,
                    line_punct_thr=0.106, new_line_ratio=0.178,
                ),
                GopherQualityFilter(
                    language=language, min_avg_word_length=1, max_avg_word_length=5,
                    stop_words=known["stop_words"], max_non_alpha_words_ratio=0.735,
                    min_stop_words=2,
                ),
                FTFYFormatter(),
                PIIFormatter(),
                SymbolLinesFormatter(symbols_to_remove=["|"], replace_char="\n"),
                JsonlWriter(str(work / "out"), compression=None),
            ],
            1,
        ),
    ]  # fmt: skip


def datatrove(sample: str, folder: str) -> None:
    """datatrove's stock steps with its jieba tokenizer on its local executor."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    def run(source: Path, name: str) -> None:
        work = Path(folder, name)
        shutil.rmtree(work, ignore_errors=True)
        load_word_tokenizer.cache_clear()  # one in use cannot be sent to a task
        for number, (steps, tasks) in enumerate(_datatrove_phases(source, work)):
            LocalPipelineExecutor(
                pipeline=steps, tasks=tasks, workers=1,
                logging_dir=str(work / f"logs{number}"),
            ).run()  # fmt: skip

    row = _time(run, sample, folder)
    outputs = sorted(Path(folder, "main", "out").glob("*.jsonl"))
    row["docs_out"] = sum(
        bool(json.loads(line)) for path in outputs for line in open(path, "rb")
    )
    report_back(row)
