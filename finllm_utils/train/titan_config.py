"""The config module of an export to torchtitan, as text.

Called by ``titan.export_titan`` only. The module is plain Python with every number
written out, for people to read and change; it is a config registry in torchtitan's
sense (torchtitan v0.3.0, models/llama3/config_registry.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template

from transformers import LlamaConfig

from finllm_utils.config import PretrainConfig
from finllm_utils.train.mixture import RowSampler

_MICRO_BATCHES = 4  # a pipeline stage: it then idles less than a fifth of the time

_MODULE = '''\
"""Continued pre-training with torchtitan 0.3.0; README.md has the command."""

from functools import partial
from pathlib import Path

from datasets import load_dataset
from torch import nn
from torchtitan.components.checkpointer import CheckpointManager
from torchtitan.components.loss import ChunkedLossWrapper, CrossEntropyLoss
from torchtitan.components.metrics import MetricsProcessor
from torchtitan.components.optimizer import (
    LRSchedulersContainer,
    OptimizersContainer,
    ParamGroupConfig,
)
from torchtitan.config import CompileConfig, ParallelismConfig, TrainingConfig
from torchtitan.distributed.activation_checkpoint import FullAC
from torchtitan.distributed.pipeline_parallel import pipeline_llm
from torchtitan.hf_datasets import DatasetConfig
from torchtitan.hf_datasets.text_datasets import (
    DATASETS,
    HFDataSource,
    InterleavedHuggingFaceTextDataLoader,
)
from torchtitan.models.common import ComplexRoPE, Embedding, Linear, RMSNorm
from torchtitan.models.common.config_utils import (
    get_attention_config,
    make_ffn_config,
    make_gqa_config,
)
from torchtitan.models.common.param_init import skip_param_init
from torchtitan.models.llama3 import parallelize_llama
from torchtitan.models.llama3.model import Llama3Model, Llama3TransformerBlock
from torchtitan.models.llama3.state_dict_adapter import Llama3StateDictAdapter
from torchtitan.protocols.model_spec import ModelSpec
from torchtitan.trainer import Trainer

HERE = Path(__file__).resolve().parent

# The model: the weights in checkpoint/step-0 have these shapes.
NUM_LAYERS = $num_layers
HIDDEN_SIZE = $hidden_size
INTERMEDIATE_SIZE = $intermediate_size
NUM_HEADS = $num_heads
NUM_KV_HEADS = $num_kv_heads
HEAD_DIM = $head_dim
VOCAB_SIZE = $vocab_size
TIE_EMBEDDINGS = $tied
NORM_EPS = $norm_eps
MAX_SEQ_LEN = $max_seq_len
ROPE = {
$rope}
INIT_STD = $init_std  # of weights that the checkpoint then overwrites

# The processes: replicas * shards * tensor * pipeline; shards are what is left.
TENSOR_PARALLEL = $tensor_parallel
PIPELINE_PARALLEL = $pipeline_parallel
NUM_REPLICAS = $num_replicas

# The pass
SEQ_LEN = $seq_len  # tokens
MICRO_BATCH_SIZE = $micro_batch_size  # rows a forward pass
LOCAL_BATCH_SIZE = $local_batch_size  # rows a process takes at a time
GLOBAL_BATCH_SIZE = $global_batch_size  # rows a step
STEPS = $steps
LEARNING_RATE = $learning_rate
EMBEDDING_LEARNING_RATE = $embedding_learning_rate$embedding_note
WEIGHT_DECAY = $weight_decay
WARMUP_STEPS = $warmup_steps
DECAY_RATIO = $decay_ratio  # share of the steps that decay; None: all after the warm-up
DECAY_TYPE = "$decay_type"
MIN_LR_RATIO = $min_lr_ratio
MAX_GRAD_NORM = $max_grad_norm
CHECKPOINT_EVERY = $checkpoint_every  # steps
KEEP_CHECKPOINTS = $keep_checkpoints
LOG_EVERY = $log_every  # steps
RECOMPUTE = $recompute  # activations in the backward pass
COMPILE = $compile

# Domain: JSON-lines files with a "text" field, and their share of the rows.
SOURCES = {
$sources}


def norm_config() -> RMSNorm.Config:
    """A new one at every call: torchtitan notes in it how that norm is sharded."""
    return RMSNorm.Config(
        normalized_shape=HIDDEN_SIZE,
        eps=NORM_EPS,
        param_init={"weight": nn.init.ones_},
    )


def model_config(attention: str = "flex") -> Llama3Model.Config:
    """The model; flex and varlen keep packed documents apart."""
    init = {"weight": partial(nn.init.normal_, std=INIT_STD)}
    layers = [
        Llama3TransformerBlock.Config(
            attention_norm=norm_config(),
            ffn_norm=norm_config(),
            attention=make_gqa_config(
                dim=HIDDEN_SIZE,
                n_heads=NUM_HEADS,
                n_kv_heads=NUM_KV_HEADS,
                head_dim=HEAD_DIM,
                fuse_qkv=True,
                wqkv_param_init=init,
                wo_param_init=init,
                inner_attention=get_attention_config(attention),
                rope=ComplexRoPE.Config(dim=HEAD_DIM, max_seq_len=MAX_SEQ_LEN, **ROPE),
            ),
            feed_forward=make_ffn_config(
                dim=HIDDEN_SIZE,
                hidden_dim=INTERMEDIATE_SIZE,
                w1_param_init=init,
                w2w3_param_init=init,
            ),
        )
        for _ in range(NUM_LAYERS)
    ]
    return Llama3Model.Config(
        dim=HIDDEN_SIZE,
        vocab_size=VOCAB_SIZE,
        enable_weight_tying=TIE_EMBEDDINGS,
        tok_embeddings=Embedding.Config(
            num_embeddings=VOCAB_SIZE,
            embedding_dim=HIDDEN_SIZE,
            param_init={"weight": skip_param_init} if TIE_EMBEDDINGS else init,
        ),
        norm=norm_config(),
        lm_head=Linear.Config(
            in_features=HIDDEN_SIZE, out_features=VOCAB_SIZE, param_init=init
        ),
        layers=layers,
    )


def optimizer_config() -> OptimizersContainer.Config:
    """AdamW; a pattern that a pipeline stage has no weight for would be an error."""

    def group(pattern: str, rate: float, decay: float) -> ParamGroupConfig:
        return ParamGroupConfig(
            pattern=pattern,
            optimizer_name="AdamW",
            optimizer_kwargs={
                "lr": rate,
                "betas": (0.9, 0.95),
                "eps": 1e-8,
                "weight_decay": decay,
            },
        )

    matrices = group(".*", LEARNING_RATE, WEIGHT_DECAY)
    if PIPELINE_PARALLEL > 1:
        return OptimizersContainer.Config(param_groups=[matrices])
    embeddings = group(r"^(tok_embeddings|lm_head)\\.", EMBEDDING_LEARNING_RATE, 0.0)
    norms = group(r"norm\\.weight$$", LEARNING_RATE, 0.0)
    return OptimizersContainer.Config(param_groups=[embeddings, norms, matrices])


def data_config() -> InterleavedHuggingFaceTextDataLoader.Config:
    """One shuffled source a domain, drawn by its share."""
    sources = []
    for domain, (files, share) in SOURCES.items():
        DATASETS[domain] = DatasetConfig(
            path=str(HERE / files),
            loader=_shuffled,
            sample_processor=lambda sample: sample["text"],
        )
        sources.append(HFDataSource(dataset=domain, weight=share))
    return InterleavedHuggingFaceTextDataLoader.Config(sources=sources)


def _shuffled(files: str):
    return load_dataset("json", data_files=files, split="train").shuffle(seed=0)


def continued_pretraining() -> Trainer.Config:
    """What torchtitan.train runs."""
    loss = CrossEntropyLoss.Config(global_vocab_size=VOCAB_SIZE)
    return Trainer.Config(
        model_spec=ModelSpec(
            name="llama3",
            flavor="finllm",
            model=model_config(),
            parallelize_fn=parallelize_llama,
            pipelining_fn=pipeline_llm,
            post_optimizer_build_fn=None,
            state_dict_adapter=Llama3StateDictAdapter,
        ),
        hf_assets_path=str(HERE / "assets"),
        dump_folder=str(HERE / "outputs"),
        dataloader=data_config(),
        loss=ChunkedLossWrapper.Config(loss_fn=loss),
        optimizer=optimizer_config(),
        lr_scheduler=LRSchedulersContainer.Config(
            warmup_steps=WARMUP_STEPS,
            decay_ratio=DECAY_RATIO,
            decay_type=DECAY_TYPE,
            min_lr_factor=MIN_LR_RATIO,
        ),
        training=TrainingConfig(
            local_batch_size=LOCAL_BATCH_SIZE,
            global_batch_size=GLOBAL_BATCH_SIZE,
            seq_len=SEQ_LEN,
            max_norm=MAX_GRAD_NORM,
            steps=STEPS,
            dtype="float32",
            mixed_precision_param="bfloat16",
            # The pipeline cannot use them; without one, try False for speed.
            disable_cuda_graphs=True,
        ),
        parallelism=ParallelismConfig(
            data_parallel_replicate_degree=NUM_REPLICAS,
            tensor_parallel_degree=TENSOR_PARALLEL,
            pipeline_parallel_degree=PIPELINE_PARALLEL,
            pipeline_parallel_microbatch_size=MICRO_BATCH_SIZE,
            # The default, spmd_types, needs a torch later than 2.13 to shard.
            spmd_backend="partial_dtensor",
        ),
        checkpoint=CheckpointManager.Config(
            enable=True,
            initial_load_path=str(HERE / "checkpoint" / "step-0"),
            initial_load_model_only=True,
            interval=CHECKPOINT_EVERY,
            keep_latest_k=KEEP_CHECKPOINTS,
            last_save_model_only=True,
            last_save_in_hf=True,
        ),
        activation_checkpoint=FullAC.Config() if RECOMPUTE else None,
        compile=CompileConfig(enable=COMPILE),
        metrics=MetricsProcessor.Config(log_freq=LOG_EVERY),
    )
'''


def module_text(
    config: LlamaConfig,
    cfg: PretrainConfig,
    data: Mapping[str, Path | str] | None,
    tensor_parallel: int,
    pipeline_parallel: int,
) -> str:
    """``finllm_titan.py`` for a model, a pass and its degrees.

    Raises: ValueError when ``data`` names other domains than the pass draws from.
    """
    values = _model_numbers(config) | _run_numbers(cfg, pipeline_parallel)
    values |= {"tensor_parallel": tensor_parallel, "sources": _sources(cfg, data)}
    return Template(_MODULE).substitute(values)


def local_batch_size(cfg: PretrainConfig, pipeline_parallel: int) -> int:
    """Rows a process takes at a time: a micro-batch, or enough to fill a pipeline.

    Always a divisor of the global batch.
    """
    if pipeline_parallel == 1:
        return cfg.micro_batch_size
    most = cfg.grad_accum_steps
    enough = range(_MICRO_BATCHES * pipeline_parallel, most)
    return cfg.micro_batch_size * next((n for n in enough if most % n == 0), most)


def _model_numbers(config: LlamaConfig) -> dict[str, object]:
    """The model's shape, by name in the template."""
    rope = config.rope_parameters
    rotary = {"theta": float(rope["rope_theta"])}
    if rope["rope_type"] == "llama3":
        rotary |= {"scaling": "llama", "scaling_factor": float(rope["factor"])}
        for name in (
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        ):
            rotary[name] = rope[name]
    return {
        "num_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_heads": config.num_attention_heads,
        "num_kv_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "tied": config.tie_word_embeddings,
        "norm_eps": config.rms_norm_eps,
        "max_seq_len": config.max_position_embeddings,
        "init_std": config.initializer_range,
        "rope": "".join(f'    "{n}": {json.dumps(v)},\n' for n, v in rotary.items()),
    }


def _run_numbers(cfg: PretrainConfig, pipeline_parallel: int) -> dict[str, object]:
    """The pass's settings, by name in the template."""
    return {
        "seq_len": cfg.seq_len,
        "micro_batch_size": cfg.micro_batch_size,
        "local_batch_size": local_batch_size(cfg, pipeline_parallel),
        "global_batch_size": cfg.global_batch_size,
        "steps": cfg.num_steps,
        "learning_rate": cfg.learning_rate,
        "embedding_learning_rate": cfg.embedding_learning_rate,
        "embedding_note": "  # not used" if pipeline_parallel > 1 else "",
        "weight_decay": cfg.weight_decay,
        "warmup_steps": cfg.warmup_steps,
        "decay_ratio": cfg.decay_share if cfg.schedule == "wsd" else None,
        "decay_type": "cosine" if cfg.schedule == "cosine" else "linear",
        "min_lr_ratio": cfg.min_lr_ratio,
        "max_grad_norm": cfg.max_grad_norm or 'float("inf")',
        "checkpoint_every": cfg.checkpoint_every or cfg.num_steps,
        "keep_checkpoints": max(2, cfg.keep_checkpoints),  # torchtitan refuses 1
        "log_every": cfg.log_every,
        "recompute": cfg.activation_checkpointing,
        "compile": cfg.compile != "never",
        "num_replicas": cfg.num_replicas,
        "pipeline_parallel": pipeline_parallel,
    }


def _sources(cfg: PretrainConfig, data: Mapping[str, Path | str] | None) -> str:
    """Lines of a dict: files and mean share of the pass for every domain drawn."""
    num_rows = cfg.num_steps * cfg.global_batch_size
    shares = RowSampler(cfg, num_rows, seed=0).planned_share()
    drawn = {domain: round(share, 4) for domain, share in shares.items() if share > 0}
    if data is None:
        data = {domain: f"data/{domain}.jsonl" for domain in drawn}
    if data.keys() != drawn.keys():
        raise ValueError(
            f"data is given for {', '.join(sorted(data))}, but the pass's mixture "
            f"draws from {', '.join(sorted(drawn))}: name files for exactly these"
        )
    return "".join(
        f'    "{domain}": ({json.dumps(str(data[domain]))}, {share}),\n'
        for domain, share in drawn.items()
    )
