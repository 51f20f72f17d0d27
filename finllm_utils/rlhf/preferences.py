"""Preference pairs from questions with right answers and retrieved wrong ones.

A pair prefers a right answer to a wrong one of the same question. The wrong answer is
*hard* (retrieved for the question and as long as the right one, so that length tells
nothing) or *random* (right for some other question). Answers are cut once, at a
sentence end, for every use. Notebook 07 calls this; nothing here scores or trains.
"""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.preference_formats import text_key

SENTENCE_ENDS = "。！？；!?;"


class Question(Protocol):
    """What a pair is made from: ``corpora.insurance.InsuranceQuestion`` fits."""

    id: str
    zh: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


def cut_at_sentence(text: str, max_chars: int) -> str:
    """``text`` cut at its last sentence end within ``max_chars``.

    A first half without any sentence end is cut hard, so that no text becomes tiny.
    """
    if len(text) <= max_chars:
        return text
    head = text[:max_chars]
    end = max(head.rfind(mark) for mark in SENTENCE_ENDS)
    return head[: end + 1] if end + 1 >= max_chars // 2 else head


def hard_pairs(
    questions: Sequence[Question],
    texts: Mapping[str, str],
    *,
    max_chars: int,
    tolerance: float,
    seed: int,
    per_question: int = 1,
    banned: Collection[str] = (),
) -> list[PreferencePair]:
    """Pairs of a right answer and a retrieved wrong one of the same length.

    Args: texts maps answer ids to full answers; tolerance bounds the length difference
    as a share of the right answer's length, both before and after the cut; banned
    answers take no part in any role.
    Returns: up to ``per_question`` pairs a question, in question order; a question
    without a wrong answer of that length and another text gives none.
    """
    rng = random.Random(seed)
    lengths = {
        key: (len(text), len(cut_at_sentence(text, max_chars)))
        for key, text in texts.items()
    }
    keys = _cut_keys(texts, max_chars)
    pairs = []
    for question in questions:
        positives = [a for a in question.positives if a not in banned]
        if not positives:
            continue
        chosen = rng.choice(positives)
        matched = [
            a
            for a in question.negatives
            if _same_length(lengths[chosen], lengths[a], tolerance)
            and keys[a] != keys[chosen]  # the corpus has texts twice
            and a not in banned
            and a not in question.positives
        ]
        for rejected in rng.sample(matched, min(per_question, len(matched))):
            pairs.append(_pair(question, chosen, rejected, texts, max_chars, "hard"))
    return pairs


def random_pairs(
    questions: Sequence[Question],
    texts: Mapping[str, str],
    *,
    max_chars: int,
    seed: int,
    banned: Collection[str] = (),
) -> list[PreferencePair]:
    """One pair a question: its right answer and one of another question."""
    rng = random.Random(seed)
    usable = [q for q in questions if any(a not in banned for a in q.positives)]
    keys = _cut_keys(texts, max_chars)
    pairs = []
    for question in usable:
        chosen = rng.choice([a for a in question.positives if a not in banned])
        while True:
            other = rng.choice(usable)
            rejected = rng.choice([a for a in other.positives if a not in banned])
            if rejected not in question.positives and keys[rejected] != keys[chosen]:
                break
            if len(usable) == 1:
                raise ValueError("random pairs need at least two questions")
        pairs.append(_pair(question, chosen, rejected, texts, max_chars, "random"))
    return pairs


def training_pairs(
    questions: Sequence[Question],
    texts: Mapping[str, str],
    *,
    num_pairs: int,
    random_share: float,
    max_chars: int,
    tolerance: float,
    seed: int,
    banned: Collection[str] = (),
) -> list[PreferencePair]:
    """A shuffled mix of hard and random pairs.

    Args: random_share in [0, 1] is the random pairs' part: they teach the subject of a
    question, the hard ones what separates answers on one subject.
    """
    num_random = round(num_pairs * random_share)
    num_hard = num_pairs - num_random
    order = random.Random(seed)
    shuffled = order.sample(list(questions), len(questions))
    per_question = -(-num_hard // max(1, len(shuffled)))
    hard = hard_pairs(
        shuffled[: max(1, 2 * num_hard)],  # a few give no pair, the rest would be waste
        texts,
        max_chars=max_chars,
        tolerance=tolerance,
        seed=seed,
        per_question=max(1, per_question),
        banned=banned,
    )
    far = random_pairs(
        shuffled[::-1], texts, max_chars=max_chars, seed=seed, banned=banned
    )
    pairs = order.sample(hard, min(num_hard, len(hard))) + far[:num_random]
    order.shuffle(pairs)
    return pairs


def _same_length(
    chosen: tuple[int, int], rejected: tuple[int, int], tolerance: float
) -> bool:
    """Whether lengths match, in full and after the cut."""
    (full, cut), (other_full, other_cut) = chosen, rejected
    return (
        abs(full - other_full) <= tolerance * full
        and abs(cut - other_cut) <= tolerance * cut
    )


def _cut_keys(texts: Mapping[str, str], max_chars: int) -> dict[str, str]:
    return {
        key: text_key(cut_at_sentence(text, max_chars)) for key, text in texts.items()
    }


def without_leaks(
    pairs: Iterable[PreferencePair], heldout: Iterable[PreferencePair]
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(pairs that may be trained on, pairs that show a text of ``heldout``).

    A pair leaks when its question is a held-out one, or one of its answers, in either
    role, is an answer of a held-out pair; spaces and width aside.
    """
    held = list(heldout)
    questions = {text_key(p.prompt) for p in held}
    answers = {key for p in held for key in _answer_keys(p)}
    kept, leaked = [], []
    for pair in pairs:
        known = text_key(pair.prompt) in questions or answers & set(_answer_keys(pair))
        (leaked if known else kept).append(pair)
    return kept, leaked


def reserved_answers(
    texts: Mapping[str, str], share: float, seed: int
) -> frozenset[str]:
    """Ids of about ``share`` of the answers, which pairs of a second judge are made of.

    Banned from the reward model's pairs, as all others are from the judge's, they keep
    the two apart. Answers of equal text go together.
    """
    different = sorted({text_key(text) for text in texts.values()})
    chosen = random.Random(seed).sample(different, round(share * len(different)))
    reserved = set(chosen)
    return frozenset(key for key, text in texts.items() if text_key(text) in reserved)


def _answer_keys(pair: PreferencePair) -> tuple[str, str]:
    return text_key(pair.chosen), text_key(pair.rejected)


def answer_ids(pairs: Sequence[PreferencePair]) -> frozenset[str]:
    """Ids of every answer in ``pairs``, to ban them elsewhere."""
    return frozenset(key for pair in pairs for key in pair.id.split("|")[1:])


def _pair(
    question: Question,
    chosen: str,
    rejected: str,
    texts: Mapping[str, str],
    max_chars: int,
    kind: str,
) -> PreferencePair:
    return PreferencePair(
        id=f"{question.id}|{chosen}|{rejected}",
        prompt=question.zh,
        chosen=cut_at_sentence(texts[chosen], max_chars),
        rejected=cut_at_sentence(texts[rejected], max_chars),
        source=f"insuranceqa {kind}",
    )
