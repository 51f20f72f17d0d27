"""Every kind of base gives the ids of the library it comes from, or a clear error."""

import json
import struct

import pytest
import sentencepiece
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import Tokenizer, models

from finllm_utils.config import TokenizerConfig
from finllm_utils.tokenizer.base import (
    MISTRAL_TEKKEN,
    MISTRAL_V1,
    _mistral_file,
    is_byte_level,
    load_base_tokenizer,
    model_json,
)
from finllm_utils.tokenizer.expand import add_pieces, expand
from finllm_utils.tokenizer.gguf import read_metadata

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


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), "WordPiece"),
        (models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0), "Unigram"),
    ],
)
def test_other_kinds_are_refused_by_name(model, name, tmp_path):
    path = tmp_path / "tokenizer.json"
    Tokenizer(model).save(str(path))
    base = load_base_tokenizer(str(path))
    with pytest.raises(ValueError, match=f"is {name} without.*strategy='none'"):
        add_pieces(base, ["税"])
    cfg = TokenizerConfig(base=str(path), strategy="none")
    assert expand(base, cfg).tokenizer is base


@pytest.mark.parametrize(
    ("kind", "message"),
    [("unigram", "a Unigram model"), ("bpe", "without byte fallback")],
)
def test_other_kinds_of_sentencepiece_files_are_refused(kind, message, tmp_path):
    path = tmp_path / "tokenizer.model"
    text = "the bank lends money and the premium is refunded to the client".split()
    with path.open("wb") as handle:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(text[i:]) for i in range(9)] * 5),
            model_writer=handle,
            model_type=kind,
            vocab_size=40,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    with pytest.raises(ValueError, match=message):
        load_base_tokenizer(str(tmp_path))


def test_ids_with_holes_are_refused():
    base = Tokenizer(models.BPE({"a": 0, "b": 5}, [], byte_fallback=True))
    with pytest.raises(ValueError, match="without holes"):
        model_json(base)


def test_json_that_is_no_tokenizer(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match="no 'model'"):
        load_base_tokenizer(str(path))
    path.write_text('{"a": ', encoding="utf-8")
    with pytest.raises(ValueError, match="tokenizer.json"):
        load_base_tokenizer(str(path))


def test_byte_level_is_seen(byte_base, mistral):
    assert is_byte_level(byte_base) and not is_byte_level(mistral)
    assert not is_byte_level(Tokenizer(models.BPE()))


def test_tekken_gives_the_ids_of_its_own_library():
    path = _mistral_file().with_name("tekken_240911.json")
    reference = Tekkenizer.from_file(path)
    ours = load_base_tokenizer(MISTRAL_TEKKEN)
    assert ours.get_vocab_size() == 131_072 and ours.token_to_id("</s>") == 2
    for text in TEXTS:
        expected = reference.encode(text, bos=False, eos=False)
        assert ours.encode(text).ids == expected, text
        assert ours.decode(expected) == text


def write_gguf(path, metadata):
    """A GGUF file with metadata and no tensor."""

    def string(text):
        return struct.pack("<Q", len(text.encode())) + text.encode()

    def value(item):
        if isinstance(item, str):
            return 8, string(item)
        if isinstance(item, int):
            return 4, struct.pack("<I", item)
        kind = value(item[0])[0]
        head = struct.pack("<IQ", kind, len(item))
        return 9, head + b"".join(value(i)[1] for i in item)

    out = b"GGUF" + struct.pack("<IQQ", 3, 0, len(metadata))
    for key, item in metadata.items():
        kind, raw = value(item)
        out += string(key) + struct.pack("<I", kind) + raw
    path.write_bytes(out)


def test_gguf_gives_the_ids_of_the_tokenizer_in_it(byte_base, tmp_path):
    path = tmp_path / "model.gguf"
    model = json.loads(byte_base.to_str())["model"]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    metadata = {
        "general.name": "测试",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": list(model["vocab"]),
        "tokenizer.ggml.token_type": [
            3 if token in special else 1 for token in model["vocab"]
        ],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
    }
    write_gguf(path, metadata)
    ours = load_base_tokenizer(str(path))
    for text in (*TEXTS, "<|im_start|>a 12"):
        assert ours.encode(text).ids == byte_base.encode(text).ids, text
    assert read_metadata(path)["general.name"] == "测试"
    write_gguf(path, metadata | {"tokenizer.ggml.pre": "smollm"})
    assert load_base_tokenizer(str(path)).encode("12").tokens == ["1", "2"]
    write_gguf(path, metadata | {"tokenizer.ggml.model": "llama"})
    with pytest.raises(ValueError, match="its tokenizer is 'llama'"):
        load_base_tokenizer(str(path))


def test_broken_gguf_files_are_named(tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(path, {"general.name": "x" * 50})
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match="ends inside its metadata"):
        load_base_tokenizer(str(path))
    path.write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(ValueError, match="not a GGUF file"):
        load_base_tokenizer(str(path))
