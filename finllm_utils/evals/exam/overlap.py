"""Whether an item of the exam stands in training text.

It does when a question or choice shares 50 characters in a row with one text, or half
of the item's windows of 13 characters stand in training texts at all. Windows are those
of decontamination: letters and digits without spaces and punctuation.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from finllm_utils.config import DataConfig
from finllm_utils.corpora.sources import training_sources
from finllm_utils.data.heldout_index import (
    ARTICLE_GRAM,
    ARTICLE_RUN,
    HeldoutIndex,
    windows_inside,
)
from finllm_utils.data.shingles import fold, sorted_set
from finllm_utils.evals.exam.check import Finding
from finllm_utils.records import ExamItem, read_lines

DATA_FILES = (
    "data_samples/instructions",
    "data_samples/preferences",
    "data_samples/feedback",
)
_ROOT = Path(__file__).resolve().parents[3]
_HALF = 0.5
_BATCH = 4_000  # texts whose windows are hashed at once


def overlaps(items: Sequence[ExamItem], texts: Iterable[str]) -> list[Finding]:
    """Items that stand in ``texts``, in the order of ``items``."""
    parts = [(row, p) for row, i in enumerate(items) for p in (i.question, *i.choices)]
    rows = np.array([row for row, _ in parts], dtype=np.int64)
    codes, bounds, _ = fold([text for _, text in parts])
    own = {}
    for size in (ARTICLE_RUN, ARTICLE_GRAM):
        hashes, owner = windows_inside(codes, bounds, size)
        own[size] = hashes[owner >= 0], rows[owner[owner >= 0]]
    seen = _seen(own[ARTICLE_RUN][0], own[ARTICLE_GRAM][0], texts)
    found = []
    shares = _shares(*own[ARTICLE_RUN], seen[ARTICLE_RUN], len(items))
    halves = _shares(*own[ARTICLE_GRAM], seen[ARTICLE_GRAM], len(items))
    for item, run, share in zip(items, shares, halves, strict=True):
        if run > 0:
            detail = f"{ARTICLE_RUN} characters in a row stand in a training text"
            found.append(Finding(item.id, "overlap", detail))
        elif share >= _HALF:
            detail = f"{share:.0%} of its {ARTICLE_GRAM}-grams stand in training texts"
            found.append(Finding(item.id, "overlap", detail))
    return found


def _seen(
    runs: np.ndarray, grams: np.ndarray, texts: Iterable[str]
) -> dict[int, np.ndarray]:
    """{window size: the items' hashes that occur in ``texts``}."""
    index = HeldoutIndex(
        ARTICLE_GRAM, grams[:0], {}, runs=sorted_set(runs), grams=sorted_set(grams)
    )
    known = {ARTICLE_RUN: index.runs, ARTICLE_GRAM: index.grams}
    seen: dict[int, list[np.ndarray]] = {size: [grams[:0]] for size in known}
    left = iter(texts)
    while batch := list(islice(left, _BATCH)):
        codes, bounds, _ = fold(batch)
        for size, hashes_known in known.items():
            hashes, owner = windows_inside(codes, bounds, size)
            places = index.places(hashes_known, hashes)
            seen[size].append(np.unique(hashes[places[owner[places] >= 0]]))
    return {size: np.concatenate(found) for size, found in seen.items()}


def _shares(
    hashes: np.ndarray, rows: np.ndarray, seen: np.ndarray, number: int
) -> np.ndarray:
    """For each item the share of its windows that were seen; 0 when it has none."""
    hits = np.bincount(rows[np.isin(hashes, seen)], minlength=number)
    return hits / np.maximum(np.bincount(rows, minlength=number), 1)


def own_training_texts() -> Iterator[str]:
    """Every text of our own instructions, dialogues, preferences and feedback."""
    for folder in DATA_FILES:
        for path in sorted((_ROOT / folder).rglob("*.jsonl")):
            for row in read_lines(path):
                yield from _strings(row)


def training_texts(config: DataConfig) -> Iterator[str]:
    """Our own texts and the shipped corpora of ``config``, before cleaning."""
    yield from own_training_texts()
    for document in training_sources(config):
        yield document.text


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
