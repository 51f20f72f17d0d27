"""Training text before cleaning: every source, without anything that is held out."""

from collections.abc import Iterator
from functools import cache

from finllm_utils.config import DataConfig
from finllm_utils.corpora.chinese import peoples_daily, reviews
from finllm_utils.corpora.english import presidential_addresses, python_help
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.laws import Law, laws
from finllm_utils.corpora.licences import LICENCES
from finllm_utils.corpora.splits import (
    BLOCK_LINES,
    chunk_lines,
    heldout_answer_ids,
    insurance_questions,
    load_splits,
    stable_order,
    text_key,
)
from finllm_utils.records import Document

TRAINING_DOMAINS = ("general_zh", "finance_zh", "english", "finance_en")
_SHARES = {  # how a domain's characters are divided between its sources
    "general_zh": {"peoples_daily": 0.45, "laws": 0.4, "reviews": 0.15},
    "finance_zh": {"laws": 0.25, "insurance_zh": 0.75},
    "english": {"sotu": 0.9, "python_help": 0.1},
    "finance_en": {"insurance_en": 1.0},
}


@cache
def training_laws() -> tuple[Law, ...]:
    """Laws that may be trained on."""
    splits = load_splits()
    held = set(splits["laws_finance_zh"]) | set(splits["laws_general_zh"])
    return tuple(law for law in laws() if law.name not in held)


def training_sources(cfg: DataConfig) -> Iterator[Document]:
    """Package-shipped documents, about ``cfg.chars_<domain>`` characters a domain.

    Only the domains of ``cfg.shipped`` and the licences of ``cfg.licences``. Within a
    source the documents come in a fixed pseudo-random order.
    Raises: ValueError for an unknown domain in ``cfg.shipped``.
    """
    if unknown := sorted(set(cfg.shipped) - set(TRAINING_DOMAINS)):
        known = ", ".join(TRAINING_DOMAINS)
        raise ValueError(f"data.shipped names {', '.join(unknown)}; use {known}")
    for domain in (d for d in TRAINING_DOMAINS if d in cfg.shipped):
        budget = getattr(cfg, f"chars_{domain}")
        shares = _SHARES[domain].items()
        if cfg.licences == "clean":
            shares = [(s, w) for s, w in shares if LICENCES[s].clean]
        for source, share in shares:
            documents = {d.id: d for d in _SOURCES[source](domain)}
            left = budget * share
            for key in stable_order(documents, "training"):
                if left <= 0:
                    break
                left -= len(documents[key].text)
                yield documents[key]


def _law_documents(domain: str) -> Iterator[Document]:
    for law in training_laws():
        if law.is_finance != (domain == "finance_zh"):
            continue
        lines, chapter = [], ""
        for article in law.articles:
            if article.chapter != chapter:
                chapter = article.chapter
                lines.append(f"《{law.name}》{chapter}".rstrip())
            lines.append(f"{article.number_zh} {article.text}")
        for i, text in enumerate(chunk_lines(lines, 1_000)):
            yield Document(
                id=f"laws/{law.name}/{i}", text=text, source="laws", domain=domain
            )


def _newspaper_documents(domain: str) -> Iterator[Document]:
    lines, held = peoples_daily(), set(load_splits()["peoples_daily_blocks"])
    for block in range(len(lines) // BLOCK_LINES + 1):
        if block not in held:
            start = block * BLOCK_LINES
            part = [line for line in lines[start : start + BLOCK_LINES] if line]
            for i, text in enumerate(chunk_lines(part, 700)):
                key = f"peoples_daily/{block}/{i}"
                yield Document(id=key, text=text, source="peoples_daily", domain=domain)


def _review_documents(domain: str) -> Iterator[Document]:
    held = set(load_splits()["reviews"])
    for i, review in enumerate(reviews()):
        if text_key(review.text) not in held:
            yield Document(
                id=f"reviews/{i}", text=review.text, source="reviews", domain=domain
            )


def _insurance_documents(domain: str) -> Iterator[Document]:
    answers, held, used = insurance_answers(), heldout_answer_ids(), set()
    language = "en" if domain == "finance_en" else "zh"
    for question in insurance_questions("train"):
        for key in question.positives:
            if key in used or key in held:
                continue
            used.add(key)
            text = f"{getattr(question, language)}\n{getattr(answers[key], language)}"
            yield Document(
                id=f"insurance_{language}/{key}",
                text=text,
                source=f"insurance_{language}",
                domain=domain,
            )


def _address_documents(domain: str) -> Iterator[Document]:
    held = set(load_splits()["addresses"])
    for name, text in presidential_addresses().items():
        if name not in held:
            for i, chunk in enumerate(chunk_lines(text.split("\n\n"), 3_000)):
                yield Document(
                    id=f"sotu/{name}/{i}", text=chunk, source="sotu", domain=domain
                )


def _help_documents(domain: str) -> Iterator[Document]:
    held = set(load_splits()["python_help"])
    for name, text in python_help().items():
        if name not in held:
            for i, chunk in enumerate(chunk_lines(text.split("\n\n"), 3_000)):
                key = f"python_help/{name}/{i}"
                yield Document(id=key, text=chunk, source="python_help", domain=domain)


_SOURCES = {
    "laws": _law_documents,
    "peoples_daily": _newspaper_documents,
    "reviews": _review_documents,
    "insurance_zh": _insurance_documents,
    "insurance_en": _insurance_documents,
    "sotu": _address_documents,
    "python_help": _help_documents,
}
