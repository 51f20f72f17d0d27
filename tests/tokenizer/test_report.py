"""Measures by hand, advice at its thresholds, curves that fall, splits that are counted."""

import pytest
from tokenizers import AddedToken

from finllm_utils.corpora.splits import heldout_documents
from finllm_utils.tokenizer.advice import should_expand
from finllm_utils.tokenizer.curve import by_frequency, compression_curve
from finllm_utils.tokenizer.expand import (
    add_characters,
    as_pretrained,
    characters_to_add,
)
from finllm_utils.tokenizer.report import (
    Compression,
    against_claim,
    measure,
    parameter_cost,
)
from finllm_utils.tokenizer.splits import changed_splits
from finllm_utils.tokenizer.stand_in import train_byte_level
from finllm_utils.tokenizer.words import learn_words
from tests.tokenizer.conftest import ENGLISH

CHINESE = ("贷款利率与税务，赔付保险金。", "中国人民银行公布贷款市场报价利率。")


@pytest.fixture(scope="module")
def before(mistral):
    return as_pretrained(mistral, chat=False)


@pytest.fixture(scope="module")
def after(mistral_grown):
    return as_pretrained(mistral_grown.tokenizer, chat=True)


def test_measure_by_hand(before):
    found = measure(before, ["税"])  # a space piece and three bytes
    assert (found.num_chars, found.num_tokens, found.num_byte_tokens) == (1, 4, 3)
    assert found.byte_share == 0.75 and found.tokens_per_char == 4
    assert found.num_spelt_chars == 1 and found.possible_saving == 0.5
    assert found.utilisation == 4 / 32_000 and found.chars_per_token == 0.25
    assert measure(before, ["a\nb"]).num_byte_tokens == 0, "a line end is whole"
    with pytest.raises(ValueError, match="no text"):
        measure(before, [])


def test_byte_share_of_a_byte_level_vocabulary():
    base = as_pretrained(train_byte_level(ENGLISH, 300), chat=False)
    found = measure(base, ["a税é\n"])  # é is two bytes, 税 three
    assert (found.num_tokens, found.num_byte_tokens, found.num_spelt_chars) == (7, 5, 2)
    after = as_pretrained(
        add_characters(train_byte_level(ENGLISH, 300), "税é").tokenizer, chat=False
    )
    assert measure(after, ["a税é\n"]).num_byte_tokens == 0


def test_the_possible_saving_is_what_expansion_saves(before, after):
    old, new = measure(before, CHINESE), measure(after, CHINESE)
    saved = 1 - new.num_tokens / old.num_tokens
    assert saved == pytest.approx(old.possible_saving, abs=1e-12) and saved > 0.1


def found(tokens, byte_tokens):
    return Compression(100, tokens, byte_tokens, 50, 100, byte_tokens // 3)


def test_advice_at_its_thresholds():
    spelt = should_expand({"zh": found(150, 60), "en": found(25, 0)})
    assert spelt.expand and spelt.strategy == "characters"
    assert spelt.reasons[0].startswith(
        "zh: expand; 1.50 tokens a character (above 0.9)"
    )
    assert spelt.reasons[1].startswith("en: leave it") and "0.0%" in spelt.reasons[1]
    assert not should_expand({"zh": found(90, 60)}).expand, "the language's words"
    assert should_expand({"zh": found(91, 60)}).expand
    assert not should_expand({"zh": found(150, 3)}).expand, "2% of bytes"
    assert should_expand({"zh": found(150, 4)}).expand
    with pytest.raises(ValueError, match="got none"):
        should_expand({})


def test_advice_on_real_tokenizers(before, after, byte_base):
    """A base that learnt from Chinese keeps its vocabulary; English ones grow."""
    texts = [d.text for d in heldout_documents("finance_zh")[:30]]
    reads = train_byte_level([*texts, *ENGLISH * 10], 3_000)
    assert should_expand({"zh": measure(before, texts)}).expand
    assert not should_expand({"zh": measure(after, texts)}).expand, "done already"
    for tokenizer, expected in ((byte_base, True), (reads, False)):
        measured = measure(as_pretrained(tokenizer, chat=False), texts)
        assert should_expand({"zh": measured}).expand is expected


def test_curve_falls_and_ends_at_the_whole(byte_base):
    corpus = [*CHINESE, *CHINESE[:1] * 3] * 10
    missing = by_frequency(characters_to_add("gb2312", byte_base), corpus)[:300]
    assert missing[0] in CHINESE[0] and missing[-1] not in CHINESE[0]
    grown = add_characters(byte_base, missing)
    merges = learn_words(grown.tokenizer, corpus, 4)
    points = compression_curve(
        byte_base,
        missing,
        merges,
        CHINESE,
        character_steps=(0, 2, 999),
        word_steps=(2, 4),
    )
    assert [(p.num_characters, p.num_words) for p in points] == [
        (0, 0), (2, 0), (300, 0), (300, 2), (300, 4),
    ]  # fmt: skip
    costs = [p.tokens_per_char for p in points]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) == 5
    size = grown.tokenizer.get_vocab_size()
    assert [p.vocab_size for p in points][2:] == [size, size + 2, size + 4]


def test_frequency_keeps_the_order_of_equals():
    assert by_frequency("abcd", ["dcc"]) == ["c", "d", "a", "b"]


def test_cost_and_claim():
    assert parameter_cost(7_000, 8_192, tied=False) == 114_688_000
    assert parameter_cost(7_000, 576, tied=True) == 4_032_000
    assert against_claim(0.5) == {
        "tokens after / before": 0.5,
        "tokens saved": 0.5,
        "falls to 48%": False,
        "falls by 48%": True,
    }
    assert against_claim(0.48)["falls to 48%"]
    assert not against_claim(0.675)["falls by 48%"]


def test_add_tokens_changes_old_pieces_and_pieces_of_the_model_do_not(
    mistral, before, after
):
    text = "第一笔贷款利率 hello 税 world"
    missing = [c for c in characters_to_add("standard-8105", mistral) if c in text]
    shortcut = as_pretrained(mistral, chat=False)
    shortcut.add_tokens([AddedToken(c, normalized=False) for c in missing])
    good, bad = (changed_splits(before, t, [text]) for t in (after, shortcut))
    assert (good.num_changed, good.num_inserted) == (0, 0) and good.changed_share == 0
    assert bad.num_inserted >= 1, "a space piece behind the added token"


def test_changed_splits_by_hand():
    """Without the merge of t and h, "th" falls apart: one old piece is changed."""
    whole = train_byte_level(["the the the"], 259, ())
    apart = train_byte_level(["a b"], 256, ())
    special = AddedToken("<|endoftext|>", special=True)
    for tokenizer in (whole, apart):
        tokenizer.add_special_tokens([special])
    pair = [as_pretrained(t, chat=False) for t in (whole, apart)]
    old = pair[0].tokenize("the")
    result = changed_splits(*pair, ["the"])
    assert result.num_changed == sum(len(piece) > 1 for piece in old) > 0
    assert changed_splits(pair[1], pair[0], ["the"]).num_joined > 0
