"""Expansion: ids stay, texts come back, the chat template is what training expects."""

import pytest
from transformers import AutoTokenizer

from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import (
    CHAT_TOKENS,
    add_pieces,
    as_pretrained,
    characters_to_add,
    padded_rows,
)
from finllm_utils.tokenizer.report import ids_equal, measure, round_trip_failures

ENGLISH = (
    "The premium is refunded within thirty days.",
    "for i in range(10):\n\tprint(i)",
)
CHINESE = ("贷款税务赔付", "龘靐齉爩麤", "利率为3.45%，期限 30 年。")


@pytest.fixture(scope="module")
def base():
    return load_base_tokenizer("mistral-v1")


@pytest.fixture(scope="module")
def expanded(base):
    return as_pretrained(
        add_pieces(base, characters_to_add("standard-8105", base)), chat=True
    )


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


def test_measure_by_hand(base):
    before = as_pretrained(base, chat=False)
    found = measure(before, ["税"])  # a space piece and three bytes
    assert (found.num_chars, found.num_tokens, found.num_byte_tokens) == (1, 4, 3)
    assert found.byte_share == 0.75 and found.tokens_per_char == 4
    with pytest.raises(ValueError, match="no text"):
        measure(before, [])
