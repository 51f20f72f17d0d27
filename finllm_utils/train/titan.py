"""Hands a LLaMA model to torchtitan 0.3.0, for tensor and pipeline parallelism.

``to_titan`` and ``from_titan`` rename and reorder weights and touch no files.
``export_titan`` writes a folder that ``torchtitan.train`` trains from. Nothing here
imports torchtitan: it lives in an environment of its own.
Source: pytorch/torchtitan v0.3.0, models/llama3 and components/checkpointer.
"""

import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template
from typing import NamedTuple

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from transformers import AutoConfig, LlamaConfig

from finllm_utils.config import PretrainConfig
from finllm_utils.config_data import require
from finllm_utils.files import atomic_folder
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.train.titan_config import local_batch_size, module_text

CHECKPOINT = Path("checkpoint") / "step-0"
"""Where an export holds its weights."""
_EMBEDDING, _HEAD = "tok_embeddings.weight", "lm_head.weight"
_OWN_LOOP = "train it with this package's own loop (pretrain)"

_README = """# Continued pre-training with torchtitan

Tensor parallelism: $tensor_parallel; pipeline stages: $pipeline_parallel; replicas: \
$num_replicas.
Processes beyond their product, $processes, shard the weights (FSDP).

In an environment of its own (torchtitan wants an older `datasets` than finllm):

    pip install torchtitan==0.3.0
    cd THIS_FOLDER
    torchrun --nproc_per_node $processes -m torchtitan.train \\
        --module finllm_titan --config continued_pretraining

More processes: a multiple of $processes, if shards and replicas together divide
$global_batch_size / $local_batch_size. Several machines: torchrun's `--nnodes` and
`--rdzv_endpoint`. Every number stands in `finllm_titan.py`; change it there.
$torch
## What is here

- `checkpoint/step-0`: the float32 weights in torch's distributed format, model only.
- `assets`: the tokenizer and the model's config.json.
- `data`: where text is looked for, unless `SOURCES` in `finllm_titan.py` names a place.

## What comes out

`outputs/checkpoint/step-$steps` holds the trained weights as safetensors under Hugging
Face names: copy `assets/*` into it and `AutoModelForCausalLM` loads it. The same
command resumes a stopped run from its newest `step-N` folder;
`finllm_utils.train.titan.read_titan(folder, config)` reads the weights in one.

## What torchtitan does differently

- It reads text and tokenises it while it trains; the bins are not used. Our mixture
  sampler is not there: each domain has its mean share of the pass from start to end,
  rows are drawn at random, `react_to_loss` and `document_order` have no effect, and a
  domain that runs out starts again in another order.
- Packed documents are kept apart with its flex and varlen attention only.
- $rates
- Nothing stops at a plateau, rolls back after a spike or scores while it trains
  (`plateau_steps`, `spike_factor`, `eval_every`).
"""
_NEW_TORCH = """
Pipeline stages need a torch later than 2.13 (pytorch/pytorch#188500). With 2.13 the
first step fails: `Expecting N arg_mbs`.
"""
_OUR_RATES = "Rates are the same: embeddings have their own, and only matrices decay."
_ONE_RATE = """One learning rate and one weight decay for all weights, embeddings and
  norms included: a group of its own would need a weight on every pipeline stage."""


class _Weight(NamedTuple):
    """One tensor under both names."""

    ours: str
    theirs: str
    shape: tuple[int, ...]
    num_heads: int = 0  # of rows that rotary positions turn; 0: none


def to_titan(state: Mapping[str, Tensor], config: LlamaConfig) -> dict[str, Tensor]:
    """The weights under torchtitan's names, query and key rows in its rotary order.

    Args: state is a LlamaForCausalLM's. Tied weights need no ``lm_head.weight``.
    Returns: what was not reordered is the same tensor; a tied head is the embedding.
    Raises: ValueError for a setting that torchtitan's llama3 cannot express, or for
    names or shapes that are not the config's.
    """
    require_expressible(config)
    weights = list(_weights(config))
    state = dict(state)
    if config.tie_word_embeddings and "model.embed_tokens.weight" in state:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    _require_same(state, {w.ours: w.shape for w in weights})
    return {
        w.theirs: interleave(state[w.ours], w.num_heads)
        if w.num_heads
        else state[w.ours]
        for w in weights
    }


def from_titan(state: Mapping[str, Tensor], config: LlamaConfig) -> dict[str, Tensor]:
    """The weights under Hugging Face names: what ``to_titan`` was given, bit for bit.

    A tied head is left out.
    Raises: ValueError as ``to_titan``, and for a tied head that is not the embedding.
    """
    require_expressible(config)
    weights = list(_weights(config))
    _require_same(state, {w.theirs: w.shape for w in weights})
    tied = config.tie_word_embeddings
    if tied and not torch.equal(state[_HEAD], state[_EMBEDDING]):
        raise ValueError(
            f"tie_word_embeddings=True, but {_HEAD} differs from {_EMBEDDING}: these "
            "weights were trained untied; set tie_word_embeddings=False in the config"
        )
    return {
        w.ours: split_halves(state[w.theirs], w.num_heads)
        if w.num_heads
        else state[w.theirs]
        for w in weights
        if not (tied and w.theirs == _HEAD)
    }


def interleave(weight: Tensor, num_heads: int) -> Tensor:
    """Rows from half-split to interleaved rotary order, within each head.

    Row i of a head and row i + head_dim / 2, which turn together, become rows 2i and
    2i + 1. ``weight``: (num_heads * head_dim, hidden_size).
    """
    return weight.unflatten(0, (num_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def split_halves(weight: Tensor, num_heads: int) -> Tensor:
    """The inverse of ``interleave``."""
    return weight.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def read_titan(folder: Path | str, config: LlamaConfig) -> dict[str, Tensor]:
    """Hugging Face weights from a checkpoint that ``export_titan`` or torchtitan wrote.

    Args: folder is a ``step-N`` in torch's distributed format; optimiser states in it
    are not read.
    Raises: ValueError as ``from_titan``, or when the folder holds no checkpoint.
    """
    if not (Path(folder) / ".metadata").is_file():
        raise ValueError(
            f"{folder}: no distributed checkpoint (no .metadata in it); give one of "
            "torchtitan's step-N folders"
        )
    state = {w.theirs: torch.empty(w.shape) for w in _weights(config)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process needs no process group
        dcp.load(state, checkpoint_id=folder, no_dist=True)
    return from_titan(state, config)


def export_titan(
    model_folder: Path | str,
    output: Path | str,
    cfg: PretrainConfig,
    *,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    data: Mapping[str, Path | str] | None = None,
) -> None:
    """Writes what ``torchtitan.train`` needs to continue the model's pre-training.

    ``output`` gets the float32 weights, ``finllm_titan.py`` with every number of the
    run, the tokenizer, and a README.md with the command and what gets lost. All of the
    weights are in memory once.

    Args:
        model_folder: model and tokenizer in Hugging Face format.
        output: a folder that does not exist yet, or an empty one.
        data: text by domain of ``mixture.DOMAINS``: JSON-lines files (a glob is fine)
            with a "text" field, absolute or seen from ``output``. None:
            ``data/DOMAIN.jsonl``.

    Raises: ValueError for settings that torchtitan cannot express, degrees that do not
    divide the model, domains without data, or an output that holds something.
    """
    output, model_folder = Path(output), Path(model_folder)
    if output.exists() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty: export into a new folder")
    config = _read_config(model_folder)
    require_expressible(config)
    require_trainable(config, cfg, tensor_parallel, pipeline_parallel)
    degrees = (tensor_parallel, pipeline_parallel)
    module = module_text(config, cfg, data, *degrees)
    with atomic_folder(output) as folder:
        weights = to_titan(load_model(model_folder).state_dict(), config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one process needs no process group
            dcp.save(weights, checkpoint_id=folder / CHECKPOINT, no_dist=True)
        load_tokenizer(model_folder).save_pretrained(str(folder / "assets"))
        shutil.copy(model_folder / "config.json", folder / "assets")
        (folder / "finllm_titan.py").write_text(module, encoding="utf-8")
        readme = _readme(cfg, *degrees)
        (folder / "README.md").write_text(readme, encoding="utf-8")


def require_expressible(config: LlamaConfig) -> None:
    """Raises ValueError naming a setting that torchtitan's llama3 has no place for."""
    require(
        config.model_type == "llama",
        f"model_type={config.model_type!r}: only LLaMA models can be handed over; "
        + _OWN_LOOP,
    )
    rope = config.rope_parameters
    rotated = rope.get("partial_rotary_factor") or 1
    for name, value, only in (
        ("attention_bias", config.attention_bias, False),
        ("mlp_bias", config.mlp_bias, False),
        ("hidden_act", config.hidden_act, "silu"),
        ("attention_dropout", config.attention_dropout or 0, 0),
        ("partial_rotary_factor", rotated, 1),
    ):
        require(
            value == only,
            f"{name}={value!r}: torchtitan's llama3 knows only {only!r}; {_OWN_LOOP}",
        )
    # Its ComplexRoPE has YaRN's frequencies, but not YaRN's factor on the scores.
    require(
        rope["rope_type"] in ("default", "llama3"),
        f"rope_type={rope['rope_type']!r}: torchtitan's llama3 agrees with "
        f"transformers on default and llama3 only; {_OWN_LOOP}",
    )


def require_trainable(
    config: LlamaConfig,
    cfg: PretrainConfig,
    tensor_parallel: int,
    pipeline_parallel: int,
) -> None:
    """Raises ValueError for a pass, or for degrees, that torchtitan would refuse."""
    tensor = f"tensor_parallel={tensor_parallel}"
    pipeline = f"pipeline_parallel={pipeline_parallel}"
    layers, kv_heads = config.num_hidden_layers, config.num_key_value_heads
    context = config.max_position_embeddings
    require(tensor_parallel >= 1, f"{tensor}: must be at least 1")
    require(pipeline_parallel >= 1, f"{pipeline}: must be at least 1")
    require(
        kv_heads % tensor_parallel == 0,
        f"{tensor} does not divide num_key_value_heads={kv_heads}: use a divisor",
    )
    require(
        cfg.seq_len % tensor_parallel == 0,
        f"{tensor} does not divide seq_len={cfg.seq_len}, which its processes share: "
        "change one of them",
    )
    require(
        pipeline_parallel <= layers,
        f"{pipeline} exceeds num_hidden_layers={layers}: use fewer stages",
    )
    require(
        pipeline_parallel == 1 or not config.tie_word_embeddings,
        f"tie_word_embeddings=True: torchtitan cannot tie across {pipeline} stages; "
        "set pipeline_parallel=1",
    )
    require(
        cfg.trainable == "all",
        f"trainable={cfg.trainable!r}: torchtitan trains all weights; set all, or "
        + _OWN_LOOP,
    )
    require(
        cfg.num_steps >= 1,
        f"tokens={cfg.tokens} is less than a step of {cfg.tokens_per_step}: raise it",
    )
    require(
        cfg.seq_len <= context,
        f"seq_len={cfg.seq_len} exceeds max_position_embeddings={context}: lower it",
    )


def _readme(cfg: PretrainConfig, tensor_parallel: int, pipeline_parallel: int) -> str:
    return Template(_README).substitute(
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        num_replicas=cfg.num_replicas,
        processes=tensor_parallel * pipeline_parallel * cfg.num_replicas,
        local_batch_size=local_batch_size(cfg, pipeline_parallel),
        global_batch_size=cfg.global_batch_size,
        steps=cfg.num_steps,
        torch=_NEW_TORCH if pipeline_parallel > 1 else "",
        rates=_ONE_RATE if pipeline_parallel > 1 else _OUR_RATES,
    )


def _weights(config: LlamaConfig) -> Iterator[_Weight]:
    """Every tensor of the model, in its order."""
    hidden, inner = config.hidden_size, config.intermediate_size
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    wide, narrow = heads * config.head_dim, kv_heads * config.head_dim
    table = (config.vocab_size, hidden)
    yield _Weight("model.embed_tokens.weight", _EMBEDDING, table)
    for i in range(config.num_hidden_layers):
        for ours, theirs, shape, num_heads in (
            ("self_attn.q_proj", "attention.qkv_linear.wq", (wide, hidden), heads),
            ("self_attn.k_proj", "attention.qkv_linear.wk", (narrow, hidden), kv_heads),
            ("self_attn.v_proj", "attention.qkv_linear.wv", (narrow, hidden), 0),
            ("self_attn.o_proj", "attention.wo", (hidden, wide), 0),
            ("mlp.gate_proj", "feed_forward.w1", (inner, hidden), 0),
            ("mlp.up_proj", "feed_forward.w3", (inner, hidden), 0),
            ("mlp.down_proj", "feed_forward.w2", (hidden, inner), 0),
            ("input_layernorm", "attention_norm", (hidden,), 0),
            ("post_attention_layernorm", "ffn_norm", (hidden,), 0),
        ):
            name = f"model.layers.{i}.{ours}.weight"
            yield _Weight(name, f"layers.{i}.{theirs}.weight", shape, num_heads)
    yield _Weight("model.norm.weight", "norm.weight", (hidden,))
    yield _Weight("lm_head.weight", _HEAD, table)


def _require_same(
    state: Mapping[str, Tensor], shapes: dict[str, tuple[int, ...]]
) -> None:
    """Raises ValueError naming what differs from the config's names and shapes."""
    missing = [f"{n} is missing" for n in shapes.keys() - state.keys()]
    unknown = [f"{n} is unknown" for n in state.keys() - shapes.keys()]
    other = [
        f"{n} is {tuple(state[n].shape)} and not {shapes[n]}"
        for n in shapes.keys() & state.keys()
        if tuple(state[n].shape) != shapes[n]
    ]
    faults = sorted(missing + unknown + other)
    if faults:
        raise ValueError(
            f"the weights are not those of the config: {'; '.join(faults[:4])}"
            f"{' and more' if faults[4:] else ''}; load both from one folder"
        )


def _read_config(folder: Path) -> LlamaConfig:
    """The model's config, before its weights are read."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: not a model folder (no config.json in it)")
    return AutoConfig.from_pretrained(str(folder), local_files_only=True)
