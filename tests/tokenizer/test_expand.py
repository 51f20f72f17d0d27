"""Expansion: ids stay, texts come back, the chat template is what training expects."""

import json

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from finllm_utils.config import TokenizerConfig
from finllm_utils.corpora.characters import standard_characters
from finllm_utils.tokenizer.byte_level import to_symbols
from finllm_utils.tokenizer.expand import (
    CHAT_TOKENS,
    add_pieces,
    as_pretrained,
    characters_to_add,
    expand,
    padded_rows,
)
from finllm_utils.tokenizer.report import ids_equal, round_trip_failures
from finllm_utils.tokenizer.stand_in import train_byte_level

ENGLISH = (
    "The premium is refunded within thirty days.",
    "for i in range(10):\n\tprint(i)",
)
CHINESE = ("贷款税务赔付", "龘靐齉爩麤", "利率为3.45%，期限 30 年。")


@pytest.fixture(scope="module")
def base(mistral):
    return mistral


@pytest.fixture(scope="module")
def expanded(mistral_grown):
    return as_pretrained(mistral_grown.tokenizer, chat=True)


def test_the_default_ids_are_those_of_a_vocabulary_with_characters_behind_it(
    base, expanded
):
    """The construction of the first version of the course, piece by piece."""
    value = json.loads(base.to_str())
    vocab = value["model"]["vocab"]
    for character in standard_characters():
        if character not in vocab:
            vocab[character] = len(vocab)
    for token in ("<pad>", *CHAT_TOKENS):
        vocab[token] = len(vocab)
    assert expanded.get_vocab() == vocab and len(vocab) == 38_861
    model = json.loads(expanded.backend_tokenizer.to_str())["model"]
    assert model["merges"] == value["model"]["merges"]
    cfg = TokenizerConfig(base="mistral-v1")
    assert (cfg.strategy, cfg.charset) == ("characters", "standard-8105")
    grown = expand(base, cfg)
    assert grown.tokenizer.get_vocab() == {
        piece: i for piece, i in vocab.items() if i < 38_855
    }


def test_counts_of_missing_characters(base):
    # Counted independently: 6,855 of the 8,105 and 5,511 of GB 2312 are missing.
    assert len(characters_to_add("standard-8105", base)) == 6_855
    assert len(characters_to_add("gb2312", base)) == 5_511


def test_characters_from_a_file(base, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("贷贷款 的\n", encoding="utf-8")
    assert characters_to_add(str(path), base) == ["贷"]  # 款 and 的 are known already
    with pytest.raises(ValueError, match="tokenizer.charset"):
        characters_to_add("standard-9000", base)


def test_english_ids_are_unchanged_and_chinese_is_one_token_a_character(base, expanded):
    before = as_pretrained(base, chat=False)
    assert ids_equal(before, expanded, ENGLISH)
    assert not ids_equal(before, expanded, CHINESE)
    assert expanded.tokenize("税赔押") == ["▁", "税", "赔", "押"]


def test_round_trip_is_exact(expanded):
    texts = [*ENGLISH, *CHINESE, "", " ", "  x", "a\n\nb", "😀"]
    assert round_trip_failures(expanded, texts) == []


def test_saved_folder_loads_with_autotokenizer(expanded, tmp_path):
    expanded.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert ids_equal(expanded, again, [*ENGLISH, *CHINESE])
    assert again.pad_token_id != again.eos_token_id
    assert again.chat_template == expanded.chat_template


def test_chat_template_by_hand(expanded):
    messages = [
        {"role": "user", "content": "利率"},
        {"role": "assistant", "content": "3%"},
    ]
    text = expanded.apply_chat_template(messages, tokenize=False)
    assert text == "<s><|user|>利率<|end|><|assistant|>3%</s>"
    opened = expanded.apply_chat_template(
        messages[:1], tokenize=False, add_generation_prompt=True
    )
    assert opened == "<s><|user|>利率<|end|><|assistant|>"
    ids = expanded.apply_chat_template(messages, return_dict=False)
    assert ids[0] == 1 and ids[-1] == 2
    assert ids[1] == expanded.convert_tokens_to_ids(CHAT_TOKENS[1])


def test_a_piece_must_be_new_and_single(base):
    with pytest.raises(ValueError, match="cannot add"):
        add_pieces(base, ["贷款"])
    with pytest.raises(ValueError, match="cannot add"):
        add_pieces(base, ["的"])


def test_padded_rows():
    assert padded_rows(38_861, 128) == 38_912 == 304 * 128
    assert padded_rows(128, 128) == 128


def test_a_list_of_words_is_no_character_file(base, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("贷\n债\n赔付\n税\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 3: '赔付' is a word.*one a line"):
        characters_to_add(str(path), base)
    path.write_text("贷\n债\n税\n", encoding="utf-8")
    assert characters_to_add(str(path), base) == ["贷", "债", "税"]
    path.write_text("贷债" * 30 + "\n税押\n", encoding="utf-8")
    assert characters_to_add(str(path), base) == ["贷", "债", "税", "押"]
    path.write_text(" \n", encoding="utf-8")
    with pytest.raises(ValueError, match="empty"):
        characters_to_add(str(path), base)
    path.write_bytes("贷".encode("gb18030"))
    with pytest.raises(ValueError, match="not UTF-8"):
        characters_to_add(str(path), base)


def test_ids_outside_the_model_stay_in_front_of_new_pieces(byte_base):
    """Qwen numbers its chat tokens behind the model's pieces."""
    size = byte_base.get_vocab_size()
    base = Tokenizer.from_str(byte_base.to_str())
    base.add_special_tokens(["<|im_sep|>"])
    after = as_pretrained(add_pieces(base, ["押", "债"]), chat=True)
    tokens = after.convert_ids_to_tokens(range(size, len(after)))
    assert tokens[0] == "<|im_sep|>" and tokens[1] == to_symbols("押")
    assert tokens[-6:] == ["<pad>", *CHAT_TOKENS]
    assert len(set(after.get_vocab().values())) == len(after)
    assert after.tokenize("<|im_sep|>押") == ["<|im_sep|>", to_symbols("押")]


def test_a_base_without_bos_gets_one_and_without_eos_is_refused():
    plain = train_byte_level(["a b"], 257)
    before = as_pretrained(plain, chat=False)
    assert before.bos_token == before.eos_token == "<|endoftext|>"
    after = as_pretrained(plain, chat=True)
    assert after.bos_token == "<s>" and after.bos_token_id == len(after) - 1
    with pytest.raises(ValueError, match="document's end"):
        as_pretrained(train_byte_level(["a b"], 256, ()), chat=True)
