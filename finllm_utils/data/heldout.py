"""Every text that training must not contain: held-out text and evaluation items."""

from pathlib import Path

from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.splits import (
    HELDOUT_DOMAINS,
    heldout_documents,
    insurance_questions,
)
from finllm_utils.records import read_lines

DATA_FILES = (
    "data_samples/hub/numeric_questions.jsonl",
    "data_samples/hub/refusals.jsonl",
)
_ROOT = Path(__file__).resolve().parents[2]


def heldout_texts() -> list[str]:
    """All of them, whatever their length.

    Documents of the three held-out domains; insurance questions of ``valid`` and
    ``test`` with their answers, in both languages; the hub's numeric
    questions and those it must refuse.
    """
    texts = [d.text for domain in HELDOUT_DOMAINS for d in heldout_documents(domain)]
    answers, used = insurance_answers(), set()
    for split in ("valid", "test"):
        for question in insurance_questions(split):
            texts += [question.zh, question.en]
            used |= set(question.positives)
    for key in sorted(used):
        texts += [answers[key].zh, answers[key].en]
    for name in DATA_FILES:
        texts += [row["question"] for row in read_lines(_ROOT / name)]
    return texts
