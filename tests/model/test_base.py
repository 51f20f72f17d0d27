"""A base model from a folder or a GGUF file has the weights that were written."""

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from finllm_utils.model.base import base_config, load_base_model
from finllm_utils.model.embeddings import new_llama
from finllm_utils.model.load import load_model, save_model
from finllm_utils.profiles import load_profile
from tests.model.test_load import tiny_tokenizer

HEADS, WIDTH, VOCAB = 2, 64, 96
SHAPE = {
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_layers": 2,
    "num_heads": HEADS,
    "num_kv_heads": 1,
    "tie_embeddings": True,
}
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def model_settings(path: str = "", **changes):
    given = SHAPE | {"path": path} | changes
    return load_profile("toy", {f"model.{k}": v for k, v in given.items()}).model


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    model = new_llama(model_settings(), VOCAB, seed=3)
    for parameter in model.parameters():  # norms too differ from 1
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows as llama.cpp keeps them: the two halves of a rotary pair side by side."""
    halves = weight.reshape(heads, 2, len(weight) // heads // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(model: LlamaForCausalLM, path, kind: gguf.GGMLQuantizationType) -> None:
    """The model in ggml's format, matrices stored as ``kind``."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        array = tensor.numpy()
        if "q_proj" in name:
            array = interleaved(array, config.num_attention_heads)
        if "k_proj" in name:
            array = interleaved(array, config.num_key_value_heads)
        matrix = array.ndim == 2
        data = gguf.quants.quantize(array, kind) if matrix else array
        writer.add_tensor(ggml_name(name), data, raw_dtype=kind if matrix else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ggml_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


@pytest.mark.parametrize(
    ("kind", "largest_error"),
    [
        (gguf.GGMLQuantizationType.F32, 0.0),
        (gguf.GGMLQuantizationType.Q4_1, 0.06),  # 15 steps over about 0.9 a block
    ],
    ids=["F32", "Q4_1"],
)
def test_gguf_weights_are_those_that_were_written(tmp_path, llama, kind, largest_error):
    path = tmp_path / "base.gguf"
    write_gguf(llama, path, kind)
    read = load_base_model(str(path))
    assert read.dtype == torch.float32 and not read.config.use_cache
    before, after = llama.state_dict(), read.state_dict()
    assert set(before) == set(after)
    for name, tensor in before.items():
        gap = (tensor - after[name]).abs().max().item()
        assert gap <= largest_error, name
    assert read.lm_head.weight is read.model.embed_tokens.weight
    if kind is gguf.GGMLQuantizationType.F32:
        ids = torch.arange(24)[None] * 3
        assert torch.equal(read(ids).logits, llama(ids).logits)
    save_model(read, tiny_tokenizer(), tmp_path / "saved")
    saved = load_model(tmp_path / "saved").state_dict()
    assert all(torch.equal(saved[name], after[name]) for name in after)
    shape = base_config(model_settings(str(path)))
    assert (shape.hidden_size, shape.num_hidden_layers) == (WIDTH, 2)


def test_shape_of_a_folder_and_of_the_settings(tmp_path, llama):
    llama.save_pretrained(tmp_path / "base")
    for settings in (model_settings(str(tmp_path / "base"), num_layers=7),):
        shape = base_config(settings)
        assert (shape.hidden_size, shape.num_hidden_layers) == (WIDTH, 2)
        assert shape.tie_word_embeddings
    assert base_config(model_settings(num_layers=7)).num_hidden_layers == 7
    read = load_base_model(str(tmp_path / "base"))
    assert torch.equal(read.lm_head.weight, llama.lm_head.weight)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no config.json"):
        load_base_model(str(tmp_path))
    with pytest.raises(ValueError, match="no such file; give a GGUF file"):
        load_base_model(str(tmp_path / "none.gguf"))
