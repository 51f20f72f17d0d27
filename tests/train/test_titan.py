"""Weights, config and folder of a hand-over to torchtitan."""

import ast
import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig
from transformers.models.llama.modeling_llama import (
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from finllm_utils.model.load import load_tokenizer, save_model
from finllm_utils.train.schedule import rate_at
from finllm_utils.train.titan import (
    CHECKPOINT,
    export_titan,
    from_titan,
    interleave,
    read_titan,
    require_trainable,
    split_halves,
    to_titan,
)
from tests.train.tiny import CFG, model, tokenizer

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GROUPED = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,  # not hidden_size / num_attention_heads
    "rms_norm_eps": 3e-5,
    "rope_parameters": LLAMA3,
}
SHAPES = [
    pytest.param({"tie": True}, id="tied"),
    pytest.param({"tie": False}, id="untied"),
    pytest.param({"tie": False} | GROUPED, id="grouped-llama3"),
]


def test_rows_of_one_head_of_four():
    rows = torch.tensor([[0.0], [1.0], [2.0], [3.0]])  # 0 turns with 2, 1 with 3
    assert interleave(rows, 1).flatten().tolist() == [0, 2, 1, 3]
    assert split_halves(interleave(rows, 1), 1).equal(rows)


def test_rows_stay_in_their_head():
    rows = torch.arange(12.0)[:, None]
    expected = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert interleave(rows, 2).flatten().tolist() == expected
    back = split_halves(torch.tensor(expected)[:, None], 2)
    assert back.flatten().tolist() == list(range(12))


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip_is_exact(shape):
    start = model(**shape)
    state = start.state_dict()
    titan = to_titan(state, start.config)
    if shape["tie"]:
        assert titan["lm_head.weight"].equal(state["model.embed_tokens.weight"])
        del state["lm_head.weight"]
    back = from_titan(titan, start.config)
    assert list(back) == list(state)
    assert all(back[name].equal(state[name]) for name in state)
    assert to_titan(state, start.config).keys() == titan.keys()


def test_only_queries_and_keys_are_reordered():
    start = model(tie=False, **GROUPED)
    state = start.state_dict()
    titan = to_titan(state, start.config)
    layer, theirs = "model.layers.1.self_attn", "layers.1.attention"
    assert titan[f"{theirs}.qkv_linear.wv.weight"] is state[f"{layer}.v_proj.weight"]
    assert titan[f"{theirs}.wo.weight"] is state[f"{layer}.o_proj.weight"]
    wk, k_proj = (
        titan[f"{theirs}.qkv_linear.wk.weight"],
        state[f"{layer}.k_proj.weight"],
    )
    assert not wk.equal(k_proj)
    assert wk[8 + 1].equal(k_proj[8 + 4])  # head 1: its row 1 is its old row 4


def turned(x_THD: torch.Tensor, theta: float) -> torch.Tensor:
    """Interleaved rotary positions from their definition, in float64."""
    result = x_THD.double().clone()
    num_tokens, _, head_dim = x_THD.shape
    for t in range(num_tokens):
        for i in range(head_dim // 2):
            angle = torch.tensor(t * theta ** (-2 * i / head_dim), dtype=torch.float64)
            even, odd = x_THD[t, :, 2 * i].double(), x_THD[t, :, 2 * i + 1].double()
            result[t, :, 2 * i] = even * angle.cos() - odd * angle.sin()
            result[t, :, 2 * i + 1] = even * angle.sin() + odd * angle.cos()
    return result


def test_interleaved_rotary_gives_the_same_scores():
    start = model(tie=False, **GROUPED | {"rope_parameters": None})
    config, attention = start.config, start.model.layers[0].self_attn
    x_TD = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        q_HTD = attention.q_proj(x_TD).view(9, 4, 8).transpose(0, 1)
        k_HTD = attention.k_proj(x_TD).view(9, 2, 8).transpose(0, 1)
        cos, sin = LlamaRotaryEmbedding(config)(x_TD, torch.arange(9)[None])
        q_1HTD, k_1HTD = apply_rotary_pos_emb(q_HTD[None], k_HTD[None], cos, sin)
        scores = q_1HTD[0] @ k_1HTD[0].repeat_interleave(2, 0).mT

        titan = to_titan(start.state_dict(), config)
        prefix = "layers.0.attention.qkv_linear"
        q_THD = (x_TD @ titan[f"{prefix}.wq.weight"].T).view(9, 4, 8)
        k_THD = (x_TD @ titan[f"{prefix}.wk.weight"].T).view(9, 2, 8)
        theta = config.rope_parameters["rope_theta"]
        q_HTD = turned(q_THD, theta).transpose(0, 1)
        k_HTD = turned(k_THD, theta).transpose(0, 1).repeat_interleave(2, 0)
    torch.testing.assert_close(q_HTD @ k_HTD.mT, scores.double(), atol=1e-5, rtol=0)
    wrong_THD = turned((x_TD @ attention.q_proj.weight.T).view(9, 4, 8), theta)
    assert (wrong_THD.transpose(0, 1) @ k_HTD.mT - scores).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (LlamaConfig(attention_bias=True), "attention_bias=True"),
        (LlamaConfig(mlp_bias=True), "mlp_bias=True"),
        (LlamaConfig(hidden_act="gelu"), "hidden_act='gelu'"),
        (LlamaConfig(attention_dropout=0.1), "attention_dropout=0.1"),
        (
            LlamaConfig(rope_parameters=LLAMA3 | {"rope_type": "yarn"}),
            "rope_type='yarn'",
        ),
        (
            LlamaConfig(rope_parameters=LLAMA3 | {"rope_type": "linear"}),
            "rope_type='linear'",
        ),
        (MistralConfig(), "model_type='mistral'"),
    ],
)
def test_what_llama3_cannot_express_is_refused(config, named):
    for convert in (to_titan, from_titan):
        with pytest.raises(ValueError, match=f"{named}.*pretrain"):
            convert({}, config)


def test_weights_that_are_not_the_configs_are_refused():
    start = model(tie=False)
    state = start.state_dict()
    extra = state | {"model.layers.0.self_attn.q_proj.bias": torch.zeros(16)}
    with pytest.raises(ValueError, match="q_proj.bias is unknown"):
        to_titan(extra, start.config)
    del state["model.norm.weight"]
    with pytest.raises(ValueError, match="model.norm.weight is missing"):
        to_titan(state, start.config)
    longer = model(tie=False, rows=70).state_dict()
    with pytest.raises(ValueError, match=r"embed_tokens.weight is \(70, 16\) and not"):
        to_titan(longer, start.config)


def test_a_head_that_came_apart_is_refused():
    start = model(tie=True)
    titan = to_titan(start.state_dict(), start.config)
    titan["lm_head.weight"] = titan["lm_head.weight"] + 1
    with pytest.raises(ValueError, match="tie_word_embeddings=False"):
        from_titan(titan, start.config)


@pytest.mark.parametrize(
    ("shape", "changes", "degrees", "named"),
    [
        ({"tie": False}, {}, (0, 1), "tensor_parallel=0"),
        ({"tie": False}, {}, (4, 1), "num_key_value_heads=2"),
        ({"tie": False}, {"seq_len": 31}, (2, 1), "seq_len=31"),
        ({"tie": False}, {}, (1, 3), "num_hidden_layers=2"),
        ({"tie": True}, {}, (1, 2), "tie_word_embeddings=True"),
        ({"tie": False}, {"trainable": "lora"}, (1, 1), "trainable='lora'"),
        ({"tie": False}, {"tokens": 5}, (1, 1), "tokens=5"),
        ({"tie": False}, {"seq_len": 128}, (1, 1), "max_position_embeddings=64"),
    ],
)
def test_degrees_and_passes_that_cannot_run(shape, changes, degrees, named):
    cfg = dataclasses.replace(CFG, **changes)
    with pytest.raises(ValueError, match=named):
        require_trainable(model(**shape).config, cfg, *degrees)


def exported(folder: Path, cfg=CFG, *, shape=None, **options) -> LlamaForCausalLM:
    """Exports a tiny model to ``folder / "out"``; returns the model."""
    start = model(**{"tie": False} | GROUPED if shape is None else shape)
    save_model(start, tokenizer(), folder / "model")
    export_titan(folder / "model", folder / "out", cfg, **options)
    return start


def constants(path: Path) -> dict[str, object]:
    """Upper-case literals at the top of a module, without running it."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id.isupper():
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                found[node.targets[0].id] = ast.unparse(node.value)
    return found


def test_the_checkpoint_reads_back_equal(tmp_path):
    start = exported(tmp_path)
    back = read_titan(tmp_path / "out" / CHECKPOINT, start.config)
    state = load_file(tmp_path / "model" / "model.safetensors")
    assert back.keys() == state.keys()
    assert all(back[name].equal(state[name]) for name in state)
    assert {t.dtype for t in back.values()} == {torch.float32}
    reader = dcp.FileSystemReader(tmp_path / "out" / CHECKPOINT)
    names = reader.read_metadata().state_dict_metadata
    assert names.keys() == to_titan(state, start.config).keys()  # flat, no "model."
    with pytest.raises(ValueError, match="no distributed checkpoint"):
        read_titan(tmp_path / "out", start.config)


def test_the_module_has_the_models_numbers(tmp_path):
    cfg = dataclasses.replace(CFG, schedule="wsd", max_grad_norm=0.0, compile="auto")
    config = exported(tmp_path, cfg, tensor_parallel=2).config
    path = tmp_path / "out" / "finllm_titan.py"
    compile(path.read_text(encoding="utf-8"), path.name, "exec")
    found = constants(path)
    expected = {
        "NUM_LAYERS": config.num_hidden_layers,
        "HIDDEN_SIZE": config.hidden_size,
        "INTERMEDIATE_SIZE": config.intermediate_size,
        "NUM_HEADS": 4,
        "NUM_KV_HEADS": 2,
        "HEAD_DIM": 8,
        "VOCAB_SIZE": config.vocab_size,
        "TIE_EMBEDDINGS": False,
        "NORM_EPS": 3e-5,
        "MAX_SEQ_LEN": config.max_position_embeddings,
        "TENSOR_PARALLEL": 2,
        "PIPELINE_PARALLEL": 1,
        "LOCAL_BATCH_SIZE": cfg.micro_batch_size,
        "STEPS": 24,
        "DECAY_RATIO": cfg.decay_share,
        "DECAY_TYPE": "linear",
        "MAX_GRAD_NORM": "float('inf')",  # 0 turns clipping off here, not there
        "COMPILE": True,
    }
    for name in (
        *("SEQ_LEN", "GLOBAL_BATCH_SIZE", "LEARNING_RATE", "EMBEDDING_LEARNING_RATE"),
        *("WEIGHT_DECAY", "WARMUP_STEPS", "MIN_LR_RATIO"),
    ):
        expected[name] = getattr(cfg, name.lower())
    assert {name: found.get(name) for name in expected} == expected
    rope = {k: v for k, v in LLAMA3.items() if k not in ("rope_type", "rope_theta")}
    rope["scaling_factor"] = rope.pop("factor")
    assert found["ROPE"] == rope | {"theta": 500.0, "scaling": "llama"}
    assert found["SOURCES"] == {
        "general_zh": ("data/general_zh.jsonl", 0.5),
        "english": ("data/english.jsonl", 0.5),
    }


def test_the_folder_holds_what_a_cluster_needs(tmp_path):
    exported(tmp_path, tensor_parallel=2, pipeline_parallel=2)
    out = tmp_path / "out"
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "torchrun --nproc_per_node 4 -m torchtitan.train" in readme
    assert "--module finllm_titan --config continued_pretraining" in readme
    assert "One learning rate" in readme
    assert load_tokenizer(out / "assets").get_vocab() == tokenizer().get_vocab()
    config = json.loads((out / "assets" / "config.json").read_text())
    assert config["num_key_value_heads"] == 2
    found = constants(out / "finllm_titan.py")
    # Four micro-batches of 2 rows are all that a global batch of 8 has.
    assert (found["MICRO_BATCH_SIZE"], found["LOCAL_BATCH_SIZE"]) == (2, 8)


def test_a_pipeline_is_filled_by_a_divisor_of_the_global_batch(tmp_path):
    cfg = dataclasses.replace(CFG, global_batch_size=240, tokens=240 * 32)
    exported(tmp_path, cfg, pipeline_parallel=2)
    found = constants(tmp_path / "out" / "finllm_titan.py")
    assert found["LOCAL_BATCH_SIZE"] == 2 * 8  # 120 micro-batches, at least 4 a stage


def test_files_by_domain(tmp_path):
    files = {"general_zh": Path("/texts/zh*.jsonl"), "english": '/texts/"en".jsonl'}
    exported(tmp_path, data=files)
    found = constants(tmp_path / "out" / "finllm_titan.py")["SOURCES"]
    assert found == {
        "general_zh": ("/texts/zh*.jsonl", 0.5),
        "english": ('/texts/"en".jsonl', 0.5),
    }
    with pytest.raises(ValueError, match="given for english.*english, general_zh"):
        export_titan(
            tmp_path / "model", tmp_path / "other", CFG, data={"english": "a.jsonl"}
        )
    assert not (tmp_path / "other").exists()


def test_nothing_is_overwritten(tmp_path):
    exported(tmp_path)
    with pytest.raises(ValueError, match="is not empty"):
        export_titan(tmp_path / "model", tmp_path / "out", CFG)
    with pytest.raises(ValueError, match="not a model folder"):
        export_titan(tmp_path / "none", tmp_path / "other", CFG)


def loaded_module(path: Path):
    spec = importlib.util.spec_from_file_location("finllm_titan", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def titan_model(trainer) -> torch.nn.Module:
    """The model of an exported config with its checkpoint's weights."""
    titan = trainer.model_spec.model.build()
    titan.init_weights()
    weights = titan.state_dict()
    dcp.load(weights, checkpoint_id=trainer.checkpoint.initial_load_path, no_dist=True)
    titan.load_state_dict(weights)
    return titan


LOUD = {"initializer_range": 0.3}  # weights for which attention matters
IDS_BT = torch.randint(64, (2, 60), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_torchtitan_computes_the_same_logits(tmp_path, shape):
    pytest.importorskip("torchtitan")
    from torchtitan.models.common.attention import ScaledDotProductAttention

    start = exported(tmp_path, shape=shape | LOUD).eval()
    trainer = loaded_module(tmp_path / "out/finllm_titan.py").continued_pretraining()
    for layer in trainer.model_spec.model.layers:
        layer.attention.inner_attention = ScaledDotProductAttention.Config()
    titan = titan_model(trainer)
    with torch.no_grad():
        found = titan(IDS_BT, torch.arange(60).expand(2, 60), None)
        expected = start(IDS_BT).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_torchtitan_keeps_packed_documents_apart(tmp_path, monkeypatch):
    pytest.importorskip("torchtitan")
    from torch.nn.attention import flex_attention as flex
    from torchtitan.models.common import attention

    # Compiled, flex attention takes a minute on a CPU.
    eager = staticmethod(flex.flex_attention)
    monkeypatch.setattr(attention.FlexAttention, "_compiled_flex_attn", eager)
    monkeypatch.setattr(
        attention, "_compiled_create_block_mask", flex.create_block_mask
    )
    start = exported(tmp_path, shape={"tie": False} | GROUPED | LOUD).eval()
    module = loaded_module(tmp_path / "out/finllm_titan.py")
    titan = titan_model(module.continued_pretraining())
    cut = 25  # where the second document of each row begins
    positions_BT = torch.cat([torch.arange(cut), torch.arange(60 - cut)]).expand(2, 60)
    with torch.no_grad():
        masks = titan.get_attention_masks(positions_BT)
        found = titan(IDS_BT, positions_BT, masks)
        parts = [start(IDS_BT[:, :cut]).logits, start(IDS_BT[:, cut:]).logits]
    torch.testing.assert_close(found, torch.cat(parts, dim=1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_torchtitan_steps_with_the_same_rates(tmp_path, schedule):
    pytest.importorskip("torchtitan")
    cfg = dataclasses.replace(CFG, schedule=schedule)
    exported(tmp_path, cfg)
    trainer = loaded_module(tmp_path / "out/finllm_titan.py").continued_pretraining()
    titan = trainer.model_spec.model.build()
    optimizers = trainer.optimizer.build(model_parts=[titan])
    rates = trainer.lr_scheduler.build(
        optimizers=optimizers, training_steps=trainer.training.steps
    )
    (optimizer,) = list(optimizers)
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    assert decays == [0.0, 0.0, cfg.weight_decay]
    shape = {"warmup_steps": cfg.warmup_steps, "floor": cfg.min_lr_ratio}
    for step in range(cfg.num_steps):
        factor = rate_at(schedule, step, cfg.num_steps, **shape)
        found = [group["lr"] for group in optimizer.param_groups]
        peaks = [cfg.embedding_learning_rate, cfg.learning_rate, cfg.learning_rate]
        assert found == pytest.approx([peak * factor for peak in peaks], rel=1e-9)
        optimizer.step()
        rates.step()
