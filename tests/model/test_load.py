"""Models and tokenizers survive a round trip through a folder."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from finllm_utils.model.load import load_model, load_tokenizer, save_model


def tiny_model(tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=32,
            tie_word_embeddings=tied,
        )
    )


def tiny_tokenizer(num: int = 10) -> PreTrainedTokenizerFast:
    words = ["<unk>", "<s>", "</s>", *[f"w{i}" for i in range(num - 3)]]
    raw = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>")
    )
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip_is_exact_and_loads_plainly(tmp_path, tied):
    model = tiny_model(tied)
    save_model(model, tiny_tokenizer(), tmp_path)
    for again in (
        load_model(tmp_path),
        AutoModelForCausalLM.from_pretrained(tmp_path),
    ):
        assert again.dtype == torch.float32
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name]), name
    loaded = load_model(tmp_path)
    assert not loaded.training
    assert loaded.config.use_cache is False
    assert loaded.config.tie_word_embeddings is tied
    assert load_tokenizer(tmp_path)("w1 w4")["input_ids"] == [4, 7]


def test_bfloat16_model_is_saved_as_float32_and_left_as_it_is(tmp_path):
    model = tiny_model().bfloat16()
    save_model(model, tiny_tokenizer(), tmp_path)
    assert model.dtype == torch.bfloat16
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "float32"
    weights = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert weights.dtype == torch.float32
    assert load_model(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_diverged_weights_are_not_saved(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[0] = float("inf")
    with pytest.raises(ValueError, match=r"norm\.weight.*learning_rate"):
        save_model(model, tiny_tokenizer(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokenizer_larger_than_the_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="20 tokens"):
        save_model(tiny_model(), tiny_tokenizer(20), tmp_path)


def test_missing_folders_name_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="not a model folder"):
        load_model(tmp_path / "none")
    with pytest.raises(ValueError, match="not a tokenizer folder"):
        load_tokenizer(tmp_path)
