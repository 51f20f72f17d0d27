"""Learnt words: merges that the tokenizer really uses, Chinese only, English as it was."""

import re

import pytest

from finllm_utils.config import TokenizerConfig
from finllm_utils.tokenizer.expand import (
    add_characters,
    add_words,
    as_pretrained,
    characters_to_add,
    expand,
)
from finllm_utils.tokenizer.report import ids_equal, round_trip_failures
from finllm_utils.tokenizer.splits import changed_splits
from finllm_utils.tokenizer.words import evenly, han_runs, learn_words
from tests.tokenizer.conftest import ENGLISH

CORPUS = [
    "贷款利率为3.45%，贷款期限30年。保险公司赔付保险金。",
    "保险公司（以下简称公司）与贷款人A股第1条，贷款利率：上浮。",
    "公司应当缴税，税务机关应当核税。保险合同的保险金赔付。",
] * 20


@pytest.fixture(scope="module", params=["byte-fallback", "byte-level"])
def grown(request, mistral_grown, byte_base):
    if request.param == "byte-fallback":
        return mistral_grown
    return add_characters(byte_base, characters_to_add("gb2312", byte_base))


@pytest.fixture(scope="module")
def more(grown):
    return add_words(grown, learn_words(grown.tokenizer, CORPUS, 15))


def test_words_by_hand(grown):
    """In 贷款利率 and 贷款期限 贷款 stands four times a text pair; it comes first."""
    texts = ["贷款利率，贷款期限，贷款。"] * 10
    merges = learn_words(grown.tokenizer, texts, 2)
    words = add_words(grown, merges).words
    assert words[0] == "贷款" and len(words) == 2


def test_fewer_words_than_asked_for_are_an_error_or_all_there_are(grown):
    texts = ["贷款利率，贷款期限，贷款。"] * 10
    with pytest.raises(ValueError, match="the corpus has only"):
        learn_words(grown.tokenizer, texts, 500)
    merges = learn_words(grown.tokenizer, texts, 500, exact=False)
    assert add_words(grown, merges).words[0] == "贷款"
    assert merges[:2] == learn_words(grown.tokenizer, texts, 2)[:2]
    assert learn_words(grown.tokenizer, ["贷，款。"], 500, exact=False) == []


def test_words_are_tokens_in_context_and_never_cross_a_mark(grown, more):
    assert len(more.words) == 15
    assert all(re.fullmatch("[\u4e00-\u9fff]{2,8}", word) for word in more.words)
    after = as_pretrained(more.tokenizer, chat=True)
    for word in more.words:
        ids = after(f"，{word}。", add_special_tokens=False)["input_ids"]
        decoded = [after.decode([i]) for i in ids]
        assert word in decoded, (word, decoded)
    text = "".join(CORPUS[:3])
    fewer, many = (
        len(as_pretrained(t, chat=False)(text)["input_ids"])
        for t in (more.tokenizer, grown.tokenizer)
    )
    assert fewer < many
    assert round_trip_failures(after, CORPUS[:3]) == []


def test_english_keeps_its_ids_and_characters_only_join(grown, more):
    before = as_pretrained(grown.tokenizer, chat=False)
    after = as_pretrained(more.tokenizer, chat=True)
    assert ids_equal(before, after, ENGLISH)
    found = changed_splits(before, after, [*CORPUS[:3], *ENGLISH])
    assert found.num_changed == 0 and found.num_inserted == 0 < found.num_joined
    assert after.convert_ids_to_tokens(range(len(before))) == (
        before.convert_ids_to_tokens(range(len(before)))
    )


def test_the_first_words_are_those_of_a_smaller_number(grown):
    many = learn_words(grown.tokenizer, CORPUS, 12)
    assert learn_words(grown.tokenizer, CORPUS, 5) == many[:5]
    assert learn_words(grown.tokenizer, CORPUS, 12) == many


def test_counts_that_cannot_be(grown):
    for number in (0, -3):
        with pytest.raises(ValueError, match="tokenizer.num_words"):
            learn_words(grown.tokenizer, CORPUS, number)
    with pytest.raises(ValueError, match=r"num_words=5000: the corpus has only \d+"):
        learn_words(grown.tokenizer, CORPUS, 5_000)
    with pytest.raises(ValueError, match="only 0 words"):
        learn_words(grown.tokenizer, ["no Chinese here"], 1)
    with pytest.raises(ValueError, match="tokenizer.num_words=0"):
        TokenizerConfig(base="mistral-v1", num_words=0)


def test_runs_end_at_marks_digits_and_letters(grown):
    texts = ["贷款，利A股3期"]
    runs = list(han_runs(grown.tokenizer, texts))
    assert [len(run) for run in runs] == [2], "only 贷款 has a neighbour"


def test_evenly_spaced_texts():
    texts = [str(i) * 10 for i in range(10)]
    assert evenly(texts, 100) == texts
    assert evenly(texts, 50) == texts[::2]


def test_strategies(mistral):
    def grow(strategy):
        cfg = TokenizerConfig(base="mistral-v1", strategy=strategy, num_words=10)
        return expand(mistral, cfg, CORPUS)

    none, characters, words = map(grow, ("none", "characters", "characters_and_words"))
    assert none.tokenizer.to_str() == mistral.to_str() and none.characters == ()
    assert len(characters.characters) == 6_855 and characters.words == ()
    assert words.characters == characters.characters and len(words.words) == 10
    assert words.tokenizer.token_to_id(words.words[0]) == 32_000 + 6_855
    with pytest.raises(ValueError, match="tokenizer.strategy='words'"):
        grow("words")
