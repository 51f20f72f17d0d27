"""Loads and saves causal language models and their tokenizers as plain folders.

Everything here is in Hugging Face format: what ``save_model`` writes loads with plain
``AutoModelForCausalLM`` and ``AutoTokenizer``. Every stage from 03 on calls this.
"""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from finllm_utils.files import read_json, write_json


def load_model(
    path: Path | str, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> LlamaForCausalLM:
    """The causal model in folder ``path``, in eval mode and without a key-value cache.

    Args: dtype of the weights in memory, whatever the files hold.
    Raises: ValueError when the folder is missing or holds no model.
    """
    require_file(path, "config.json", "a model folder")
    model = AutoModelForCausalLM.from_pretrained(
        str(path), dtype=dtype, local_files_only=True
    )
    model.config.use_cache = False
    return model.to(device).eval()


def load_tokenizer(path: Path | str) -> PreTrainedTokenizerBase:
    """The tokenizer in folder ``path``, which may also hold a model.

    Raises: ValueError when the folder is missing or holds no tokenizer.
    """
    require_file(path, "tokenizer.json", "a tokenizer folder")
    return AutoTokenizer.from_pretrained(str(path), local_files_only=True)


def save_model(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path | str
) -> None:
    """Writes ``model`` as float32 safetensors, with its tokenizer, into ``folder``.

    The model itself is left as it is. Writing whole or not at all is the caller's part:
    ``with run.artifact("stage1") as folder: save_model(model, tokenizer, folder)``.
    Raises: ValueError naming a tensor that is not finite, or a tokenizer with more
    tokens than the model has rows.
    """
    num_rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > num_rows:
        raise ValueError(
            f"the tokenizer has {len(tokenizer):,} tokens but the model's embedding "
            f"only {num_rows:,} rows: expand the model before saving them together"
        )
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise ValueError(
                f"{name} holds NaN or infinity: training diverged; lower the stage's "
                "learning_rate and rerun it"
            )
    state = {
        name: tensor.detach().to("cpu", torch.float32)
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(str(folder), state_dict=state)
    tokenizer.save_pretrained(str(folder))
    config = read_json(Path(folder) / "config.json")
    write_json(Path(folder) / "config.json", config | {"dtype": "float32"})


def require_file(path: Path | str, name: str, what: str) -> None:
    """Raises ValueError when folder ``path``, which is ``what``, lacks ``name``."""
    if not (Path(path) / name).is_file():
        raise ValueError(
            f"{path}: not {what} (no {name} in it); give the folder of a model saved "
            "in Hugging Face format, or rerun the stage that writes it"
        )
