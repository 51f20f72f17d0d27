"""The rebuilt base tokenizer gives the ids of SentencePiece itself."""

import pytest
import sentencepiece
from tokenizers import Tokenizer, models

from finllm_utils.tokenizer.base import (
    MISTRAL_V1,
    _mistral_file,
    load_base_tokenizer,
    model_json,
)

TEXTS = (
    "The bank lends at 3.45% a year.",
    "def f(x):\n    return x ** 2  # square",
    "贷款市场报价利率（LPR）由全国银行间同业拆借中心公布。",
    "  two leading spaces, a tab\t, and an emoji 😀",
    "税",
)


def test_ids_equal_sentencepiece():
    reference = sentencepiece.SentencePieceProcessor(model_file=str(_mistral_file()))
    ours = load_base_tokenizer(MISTRAL_V1)
    assert ours.get_vocab_size() == 32_000
    for text in TEXTS:
        assert ours.encode(text).ids == reference.encode(text), text


def test_a_missing_character_is_three_bytes():
    ours = load_base_tokenizer(MISTRAL_V1)
    assert ours.encode("税").tokens == ["▁", "<0xE7>", "<0xA8>", "<0x8E>"]


def test_saved_json_loads_from_a_folder(tmp_path):
    load_base_tokenizer(MISTRAL_V1).save(str(tmp_path / "tokenizer.json"))
    again = load_base_tokenizer(str(tmp_path))
    assert (
        again.encode(TEXTS[2]).ids
        == load_base_tokenizer(MISTRAL_V1).encode(TEXTS[2]).ids
    )


def test_missing_folder_names_the_setting(tmp_path):
    with pytest.raises(ValueError, match="tokenizer.base"):
        load_base_tokenizer(str(tmp_path))


def test_a_model_without_byte_fallback_is_refused():
    with pytest.raises(ValueError, match="byte fallback"):
        model_json(Tokenizer(models.BPE({"a": 0}, [])))
