"""The frozen split: sizes, and that nothing held out can be trained on."""

import pytest

from finllm_utils.config import DataConfig
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.sources import training_laws, training_sources
from finllm_utils.corpora.splits import (
    HELDOUT_DOMAINS,
    heldout_answer_ids,
    heldout_documents,
    insurance_questions,
    load_splits,
)
from finllm_utils.files import file_digest


def test_the_split_is_frozen():
    from finllm_utils.corpora.splits import SPLITS_FILE

    frozen = SPLITS_FILE.with_suffix(".sha256").read_text().split()[0]
    assert file_digest(SPLITS_FILE) == frozen, "the held-out split must never change"


@pytest.mark.parametrize("domain", HELDOUT_DOMAINS)
def test_each_domain_has_300_documents_and_300_kilobytes(domain):
    documents = heldout_documents(domain)
    assert len(documents) >= 300
    assert sum(len(d.text.encode()) for d in documents) >= 300_000
    assert len({d.id for d in documents}) == len(documents)
    assert all(d.text.strip() for d in documents)


def test_unknown_domain():
    with pytest.raises(ValueError, match="general_zh"):
        heldout_documents("poetry")


def test_no_training_document_repeats_a_heldout_one():
    everything = DataConfig(
        chars_general_zh=10**9,
        chars_finance_zh=10**9,
        chars_english=10**9,
        chars_finance_en=10**9,
    )
    held = {d.text for domain in HELDOUT_DOMAINS for d in heldout_documents(domain)}
    held_lines = {line for text in held for line in text.split("\n") if len(line) > 60}
    laws_and_news = ("laws", "peoples_daily", "sotu")
    clashes = set()
    for document in training_sources(everything):
        assert document.text not in held
        if document.source in laws_and_news:
            clashes |= held_lines & set(document.text.split("\n"))
    # Stock phrases of statutes remain; decontamination in 01 removes those.
    assert len(clashes) < 0.02 * len(held_lines)


def test_heldout_laws_are_whole():
    splits = load_splits()
    held = set(splits["laws_finance_zh"]) | set(splits["laws_general_zh"])
    assert held and not held & {law.name for law in training_laws()}


def test_insurance_splits_share_no_question_and_no_answer():
    answers = insurance_answers()
    questions, right = {}, {}
    for split in ("train", "valid", "test"):
        rows = insurance_questions(split)
        questions[split] = {q.zh for q in rows}
        right[split] = {answers[a].zh for q in rows for a in q.positives}
    for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not questions[a] & questions[b]
        assert not right[a] & right[b]


def test_training_negatives_never_name_a_heldout_answer():
    banned = heldout_answer_ids()
    assert not any(banned & set(q.negatives) for q in insurance_questions("train"))
