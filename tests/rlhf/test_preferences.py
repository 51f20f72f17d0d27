from types import SimpleNamespace

import pytest

from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.preference_baselines import (
    QuestionBlind,
    accuracy,
    overlap_margins,
    shorter_margins,
    wilson_bounds,
)
from finllm_utils.rlhf.preferences import (
    answer_ids,
    cut_at_sentence,
    hard_pairs,
    random_pairs,
    reserved_answers,
    training_pairs,
    without_leaks,
)

TEXTS = {f"p{i}": "车险理赔要先报案。" + "好" * i for i in range(8)}
TEXTS |= {f"n{i}": "人寿保险不是投资。" + "坏" * i for i in range(8)}
TEXTS |= {"long": "长" * 90}
QUESTIONS = [
    SimpleNamespace(
        id=f"q{i}",
        zh=f"车险怎么理赔{i}？",
        positives=(f"p{i}",),
        negatives=(f"n{i}", "long", f"n{(i + 1) % 8}"),
    )
    for i in range(8)
]
RULES = {"max_chars": 80, "tolerance": 0.1, "seed": 0}


def test_cut_at_sentence():
    assert cut_at_sentence("短。", 10) == "短。"
    assert cut_at_sentence("一二三四。五六七", 7) == "一二三四。"
    assert cut_at_sentence("一。二三四五六七八九十", 8) == "一。二三四五六七"


def test_hard_pairs_match_in_length_and_question():
    pairs = hard_pairs(QUESTIONS, TEXTS, per_question=3, **RULES)
    assert pairs
    for pair in pairs:
        key, chosen, rejected = pair.id.split("|")
        question = QUESTIONS[int(key[1:])]
        assert chosen in question.positives and rejected in question.negatives
        assert abs(len(pair.chosen) - len(pair.rejected)) <= 0.1 * len(pair.chosen)
    assert pairs == hard_pairs(QUESTIONS, TEXTS, per_question=3, **RULES)


def test_lengths_must_match_before_and_after_the_cut():
    def pairs(right, wrong):
        question = SimpleNamespace(id="q", zh="问", positives=("r",), negatives=("w",))
        texts = {"r": right, "w": wrong}
        return hard_pairs([question], texts, max_chars=50, tolerance=0.1, seed=0)

    assert not pairs("甲" * 100, "乙" * 200)
    assert not pairs("甲" * 30 + "。" + "甲" * 69, "乙" * 100)
    assert pairs("甲" * 100, "乙" * 105)


def test_banned_answers_take_no_part():
    banned = {"p0", "n3"}
    pairs = hard_pairs(QUESTIONS, TEXTS, per_question=3, banned=banned, **RULES)
    pairs += random_pairs(QUESTIONS, TEXTS, max_chars=80, seed=0, banned=banned)
    assert not banned & answer_ids(pairs)


def test_random_pairs_use_another_questions_answer():
    for pair in random_pairs(QUESTIONS, TEXTS, max_chars=80, seed=1):
        key, chosen, rejected = pair.id.split("|")
        assert chosen == "p" + key[1:] != rejected


def test_training_mix():
    pairs = training_pairs(QUESTIONS, TEXTS, num_pairs=8, random_share=0.5, **RULES)
    kinds = [p.source.split()[1] for p in pairs]
    assert (kinds.count("hard"), kinds.count("random")) == (4, 4)
    assert len({p.id for p in pairs}) == 8


def test_equal_texts_are_no_pair():
    texts = {"r": "甲乙丙。", "same": "甲 乙丙｡", "w": "丙乙甲。"}
    question = SimpleNamespace(
        id="q", zh="问", positives=("r",), negatives=("same", "w")
    )
    (pair,) = hard_pairs(
        [question], texts, per_question=2, **RULES | {"tolerance": 1.0}
    )
    assert pair.id == "q|r|w"
    others = [
        SimpleNamespace(id=key, zh=key, positives=(key,), negatives=())
        for key in ("r", "same", "w")
    ]
    for seed in range(5):
        found = random_pairs(others, texts, max_chars=80, seed=seed)
        assert [p.id for p in found[:2]] == ["r|r|w", "same|same|w"]


def said(prompt, chosen, rejected):
    name = f"{prompt}{chosen}{rejected}"
    return PreferencePair(
        id=name, prompt=prompt, chosen=chosen, rejected=rejected, source="own"
    )


def test_leaks_by_hand():
    heldout = [said("问1？", "甲", "乙")]
    clean, same_question = said("问2？", "丙", "丁"), said("问 1?", "丙", "丁")
    right, wrong = said("问3？", " 甲", "丁"), said("问4？", "乙", "戊")
    crossed = said("甲", "问1？", "丁")  # a question is no answer
    train = [clean, same_question, right, wrong, crossed]
    assert without_leaks(train, heldout) == (
        [clean, crossed],
        [same_question, right, wrong],
    )
    assert without_leaks(train, []) == (train, [])


def test_reserved_answers_keep_equal_texts_together():
    texts = {f"{i:03}": f"答{i // 2}" + " " * (i % 2) for i in range(40)}
    reserved = reserved_answers(texts, 0.3, seed=0)
    assert len(reserved) == 12  # 6 of 20 texts, each under two ids
    assert all(f"{i:03}" in reserved for i in range(40) if f"{i ^ 1:03}" in reserved)
    assert reserved == reserved_answers(texts, 0.3, seed=0)
    assert reserved != reserved_answers(texts, 0.3, seed=1)
    assert reserved_answers(texts, 0.0, seed=0) == frozenset()


def test_pairs_of_reserved_answers_and_of_the_rest_share_none():
    reserved = reserved_answers(TEXTS, 0.4, seed=0)
    more = {"per_question": 3} | RULES
    second = hard_pairs(QUESTIONS, TEXTS, banned=TEXTS.keys() - reserved, **more)
    first = hard_pairs(QUESTIONS, TEXTS, banned=reserved, **more)
    assert answer_ids(second) <= reserved
    assert first and not answer_ids(first) & reserved


def test_accuracy_and_wilson_by_hand():
    assert accuracy([1.0, -1.0, 0.0, 2.0]) == 0.625
    low, high = wilson_bounds(0.5, 10)
    assert (low, high) == (
        pytest.approx(0.2366, abs=1e-4),
        pytest.approx(0.7634, abs=1e-4),
    )
    with pytest.raises(ValueError, match="empty"):
        wilson_bounds(0.5, 0)


def test_baselines_see_what_they_should():
    pairs = hard_pairs(QUESTIONS, TEXTS, per_question=3, **RULES)
    assert accuracy(overlap_margins(pairs)) == 1.0
    blind = QuestionBlind(pairs)
    assert accuracy(blind.margins(pairs)) == 1.0  # 好 against 坏 needs no question
    swapped = [SimpleNamespace(chosen=p.rejected, rejected=p.chosen) for p in pairs]
    assert accuracy(blind.margins(swapped)) == 0.0
    assert shorter_margins(pairs)[0] == len(pairs[0].rejected) - len(pairs[0].chosen)
