"""Insurance questions and answers, Chinese and English, from insuranceqa-data.

The Chinese side is machine-translated and about US insurance; research use only.
"""

import gzip
import json
from dataclasses import dataclass
from functools import cache

from finllm_utils.corpora.packages import package_folder


@dataclass(frozen=True, slots=True)
class InsuranceAnswer:
    """One answer in both languages."""

    id: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class InsuranceQuestion:
    """A question, the ids of its right answers and of 200 retrieved wrong ones."""

    id: str
    zh: str
    en: str
    domain: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


def _load(name: str) -> dict:
    path = package_folder("insuranceqa_data") / f"{name}.json.gz"
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return json.load(handle)


def _clean(text: str) -> str:
    return " ".join(text.replace("\xa0", " ").split())


@cache
def insurance_answers() -> dict[str, InsuranceAnswer]:
    """Every answer by id."""
    return {
        key: InsuranceAnswer(key, _clean(row["zh"]), _clean(row["en"]))
        for key, row in _load("answers").items()
    }


@cache
def raw_insurance_questions(split: str) -> tuple[InsuranceQuestion, ...]:
    """Questions of the package's own ``train``, ``valid`` or ``test`` split.

    The package's splits share questions and answers: use
    ``splits.insurance_questions``, which removes them.
    """
    return tuple(
        InsuranceQuestion(
            id=f"{split}-{key}",
            zh=_clean(row["zh"]),
            en=_clean(row["en"]),
            domain=row["domain"],
            positives=tuple(row["answers"]),
            negatives=tuple(row["negatives"]),
        )
        for key, row in _load(split).items()
    )
