"""The frozen split: which texts no stage may train on.

``data_samples/splits/heldout.json`` was written once by ``make_splits`` and is read
ever after. Laws are held out whole after merging repeated texts, People's Daily by
blocks of 200 lines, addresses whole, insurance questions with their answers.
"""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from finllm_utils.corpora.chinese import peoples_daily, reviews
from finllm_utils.corpora.english import presidential_addresses, python_help
from finllm_utils.corpora.insurance import (
    InsuranceQuestion,
    insurance_answers,
    raw_insurance_questions,
)
from finllm_utils.corpora.laws import laws
from finllm_utils.files import read_json
from finllm_utils.records import Document

DATA_FILES = ("data_samples/splits",)
SPLITS_FILE = (
    Path(__file__).resolve().parents[2] / "data_samples" / "splits" / "heldout.json"
)
BLOCK_LINES = 200
HELDOUT_DOMAINS = ("general_zh", "finance_zh", "english")


def stable_order(keys: Iterable[str], salt: str) -> list[str]:
    """The keys in a pseudo-random order that never depends on the platform."""
    return sorted(keys, key=lambda k: hashlib.sha256(f"{salt}/{k}".encode()).digest())


def chunk_lines(lines: Iterable[str], target_chars: int) -> list[str]:
    """Consecutive lines joined until each chunk has at least ``target_chars``.

    A short rest joins the last chunk, so nothing is lost.
    """
    chunks: list[list[str]] = [[]]
    for line in lines:
        if sum(map(len, chunks[-1])) >= target_chars:
            chunks.append([])
        chunks[-1].append(line)
    if len(chunks) > 1 and sum(map(len, chunks[-1])) < target_chars // 2:
        rest = chunks.pop()
        chunks[-1] += rest
    return ["\n".join(chunk) for chunk in chunks if chunk]


@cache
def load_splits() -> dict[str, list]:
    """The frozen file as a dict of lists of ids."""
    return read_json(SPLITS_FILE)


@cache
def insurance_questions(split: str) -> tuple[InsuranceQuestion, ...]:
    """Questions of ``train``, ``valid`` or ``test`` that share nothing across splits.

    Held-out questions whose wording or answer occurs in ``train`` (or, for test, in
    ``valid``) are removed; training negatives never name a held-out answer.
    """
    questions = raw_insurance_questions(split)
    if split != "train":
        kept = set(load_splits()[f"insurance_{split}"])
        return tuple(q for q in questions if q.id in kept)
    banned = heldout_answer_ids()
    return tuple(
        InsuranceQuestion(
            q.id,
            q.zh,
            q.en,
            q.domain,
            q.positives,
            tuple(a for a in q.negatives if a not in banned),
        )
        for q in questions
    )


@cache
def heldout_answer_ids() -> frozenset[str]:
    """Ids of answers right for a held-out question, and of their twins in wording."""
    answers = insurance_answers()
    texts = {
        answers[a].zh
        for split in ("valid", "test")
        for q in insurance_questions(split)
        for a in q.positives
    }
    return frozenset(key for key, a in answers.items() if a.zh in texts)


@cache
def heldout_documents(domain: str) -> tuple[Document, ...]:
    """The evaluation documents of one domain: at least 300, and 300 KB of UTF-8."""
    if domain not in HELDOUT_DOMAINS:
        raise ValueError(
            f"unknown held-out domain {domain!r}; "
            f"use one of {', '.join(HELDOUT_DOMAINS)}"
        )
    wanted = load_splits()[f"documents_{domain}"]
    candidates = {d.id: d for d in _heldout_candidates(load_splits(), domain)}
    return tuple(candidates[key] for key in wanted)


def _document(source: str, key: str, text: str, domain: str) -> Document:
    return Document(
        id=f"heldout/{source}/{key}", text=text, source=source, domain=domain
    )


def _heldout_candidates(splits: dict[str, list], domain: str) -> list[Document]:
    if domain == "english":
        return _english_candidates(splits)
    found = []
    names = set(splits[f"laws_{domain}"])
    for law in laws():
        if law.name in names:
            lines = [f"{a.number_zh} {a.text}" for a in law.articles]
            for i, chunk in enumerate(chunk_lines(lines, 350)):
                found.append(_document("laws", f"{law.name}/{i}", chunk, domain))
    if domain == "finance_zh":
        answers = insurance_answers()
        kept = set(splits["insurance_test"])
        for q in raw_insurance_questions("test"):
            if q.id in kept:
                text = f"{q.zh}\n{answers[q.positives[0]].zh}"
                found.append(_document("insurance", q.id, text, domain))
        return found
    lines = peoples_daily()
    for block in splits["peoples_daily_blocks"]:
        start = block * BLOCK_LINES
        part = [line for line in lines[start : start + BLOCK_LINES] if line]
        for i, chunk in enumerate(chunk_lines(part, 350)):
            found.append(_document("peoples_daily", f"{block}/{i}", chunk, domain))
    wanted = set(splits["reviews"])
    for review in reviews():
        key = text_key(review.text)
        if key in wanted:
            wanted.remove(key)  # the corpus repeats texts; one copy is enough
            found.append(_document("reviews", key, review.text, domain))
    return found


def _english_candidates(splits: dict[str, list]) -> list[Document]:
    found = []
    addresses, topics = presidential_addresses(), python_help()
    for source, texts, ids in (
        ("sotu", addresses, splits["addresses"]),
        ("python_help", topics, splits["python_help"]),
    ):
        for name in ids:
            paragraphs = [p for p in texts.get(name, "").split("\n\n") if p.strip()]
            for i, chunk in enumerate(chunk_lines(paragraphs, 900)):
                found.append(_document(source, f"{name}/{i}", chunk, "english"))
    return found


def text_key(text: str) -> str:
    """Sixteen hex digits that identify a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _law_groups() -> list[tuple[str, ...]]:
    """Law names, those that repeat each other's text grouped together."""
    shingles = {
        law.name: {law.text[i : i + 8] for i in range(max(1, len(law.text) - 8))}
        for law in laws()
    }
    group = {name: {name} for name in shingles}
    names = sorted(shingles)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            smaller = min(len(shingles[a]), len(shingles[b]))
            if len(shingles[a] & shingles[b]) > 0.3 * smaller:
                merged = group[a] | group[b]
                for name in merged:
                    group[name] = merged
    return sorted({tuple(sorted(g)) for g in group.values()})


def make_splits(salt: str = "finllm-1") -> dict[str, list]:
    """A new split; run once, before notebook 01 existed, and frozen since."""
    by_name = {law.name: law for law in laws()}
    splits: dict[str, list] = {"laws_finance_zh": [], "laws_general_zh": []}
    size = {"laws_finance_zh": 70_000, "laws_general_zh": 60_000}
    for key in stable_order(("\n".join(g) for g in _law_groups()), salt):
        group = key.split("\n")
        chars = sum(len(by_name[name].text) for name in group)
        finance = all(by_name[name].is_finance for name in group)
        domain = "laws_finance_zh" if finance else "laws_general_zh"
        if size[domain] > 0 and chars < 35_000:
            splits[domain] += group
            size[domain] -= chars
    blocks = [str(i) for i in range(len(peoples_daily()) // BLOCK_LINES)]
    splits["peoples_daily_blocks"] = [int(b) for b in stable_order(blocks, salt)[:4]]
    texts = {text_key(r.text) for r in reviews() if len(r.text) >= 80}
    splits["reviews"] = stable_order(texts, salt)[:120]
    names = sorted(presidential_addresses())
    splits["addresses"] = names[7::25]
    splits["python_help"] = stable_order(python_help(), salt)[:8]
    splits |= _insurance_split()
    quota = {"laws": 160, "insurance": 260, "peoples_daily": 220, "reviews": 60}
    quota |= {"sotu": 290, "python_help": 40}
    for domain in HELDOUT_DOMAINS:
        found = [d.id for d in _heldout_candidates(splits, domain)]
        chosen: list[str] = []
        for source, number in quota.items():
            own = [key for key in found if key.startswith(f"heldout/{source}/")]
            take = 90 if (source, domain) == ("laws", "general_zh") else number
            chosen += stable_order(own, salt)[:take]
        splits[f"documents_{domain}"] = sorted(chosen)
    return splits


def _insurance_split() -> dict[str, list]:
    answers = insurance_answers()
    seen_questions: set[str] = set()
    seen_answers: set[str] = set()
    kept: dict[str, list] = {}
    for split in ("train", "valid", "test"):
        questions = raw_insurance_questions(split)
        if split != "train":
            kept[f"insurance_{split}"] = [
                q.id
                for q in questions
                if q.zh not in seen_questions
                and not any(answers[a].zh in seen_answers for a in q.positives)
            ]
        seen_questions |= {q.zh for q in questions}
        seen_answers |= {answers[a].zh for q in questions for a in q.positives}
    return kept
