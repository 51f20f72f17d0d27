"""LoRA and QLoRA (低秩适配): a small trainable part beside a base that stays as it is.

peft makes the adapters, bitsandbytes the 4-bit base. An adapter is saved with a digest
of its base, since on another base it would load and answer nonsense. Merging goes into
float32: adding the change to 4-bit weights would round it away. Notebook 06 calls this.
"""

import copy
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from finllm_utils.files import read_json, write_json
from finllm_utils.model.load import load_model
from finllm_utils.train.identity import weights_digest

METHODS = ("full", "lora", "qlora")
_BASE_FILE = "base.json"
_BLOCK = 64  # weights that share a scale


def load_for_tuning(
    folder: Path | str,
    method: str,
    *,
    device: str = "cpu",
    compute_dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """The model in ``folder`` as ``method`` trains it: float32, or 4 bits for qlora.

    Args: compute_dtype is what 4-bit weights are unpacked to in a forward pass.
    Raises: ValueError for another method, or a folder without a model.
    """
    if method not in METHODS:
        raise ValueError(f"sft.method={method!r}: use {', '.join(METHODS)}")
    if method != "qlora":
        return load_model(folder, device=device)
    _require_whole_blocks(load_model(folder), device)
    model = AutoModelForCausalLM.from_pretrained(
        str(folder),
        quantization_config=_nf4(compute_dtype),
        dtype=torch.float32,
        device_map={"": device},
        local_files_only=True,
    )
    model.config.use_cache = False
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # In eval mode bitsandbytes would repack the weights with scales rounded to
            # bfloat16: other answers than in training, and it fails at odd widths.
            module.support_avx512bf16_for_cpu = False
    return model


def _require_whole_blocks(model: PreTrainedModel, device: str) -> None:
    """Raises ValueError for a width whose rows the CPU kernels unpack wrongly.

    Measured with bitsandbytes 0.50.2: rows that are no multiple of a block come back
    with errors of four fifths of a block's maximum, instead of three twentieths.
    """
    for name, module in model.named_modules():
        odd = isinstance(module, nn.Linear) and module.in_features % _BLOCK
        if device == "cpu" and odd:
            raise ValueError(
                f"{name} reads {module.in_features} numbers, no multiple of {_BLOCK}: "
                "on a CPU its 4-bit weights would be unpacked wrongly; use "
                "sft.method='lora', or a GPU"
            )


def _nf4(compute_dtype: torch.dtype) -> BitsAndBytesConfig:
    """NormalFloat of 4 bits, its scales quantised too (QLoRA, arXiv 2305.14314)."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def add_adapter(
    model: PreTrainedModel,
    *,
    rank: int,
    dropout: float = 0.0,
    train_embeddings: bool = True,
    seed: int = 0,
    task_type: str = "CAUSAL_LM",
) -> PeftModel:
    """Adapters on every linear layer of the decoder; alpha is 2 r.

    Args: train_embeddings also trains whole copies of embedding and output rows, which
    a grown vocabulary needs: its new rows take more than a change of low rank, and peft
    refuses adapters on lm_head. Tied rows stay tied. task_type SEQ_CLS also trains the
    head of a model with one output whole, as peft does of itself.
    """
    whole = ["embed_tokens", "lm_head"] if train_embeddings else None
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=dropout,
        target_modules="all-linear",
        modules_to_save=whole,
        ensure_weight_tying=bool(whole and model.config.tie_word_embeddings),
        task_type=task_type,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def save_adapter(model: PeftModel, base: Path | str, method: str, folder: Path) -> None:
    """Writes the adapter, and which base it is of, into ``folder``."""
    model.save_pretrained(str(folder))
    write_json(
        Path(folder) / _BASE_FILE,
        {"method": method, "weights": weights_digest(load_model(base))},
    )


def merge_adapter(
    base: Path | str,
    folder: Path | str,
    *,
    compute_dtype: torch.dtype = torch.float32,
    trust_base: bool = False,
) -> LlamaForCausalLM:
    """The adapter in ``folder`` added to its base: a plain float32 model.

    The base of a QLoRA adapter is the dequantised one: that is what it was trained on.
    Args: trust_base also takes an adapter that another program saved, whose base
    nothing here can prove.
    Raises: ValueError when ``folder`` holds no adapter, or one of another base.
    """
    note = Path(folder) / _BASE_FILE
    foreign = trust_base and not note.is_file()
    if not (Path(folder) / "adapter_config.json").is_file() or not (
        note.is_file() or foreign
    ):
        raise ValueError(f"{folder}: no adapter saved by notebook 06 lies there")
    plain = load_model(base)
    known = {"method": "lora"} if foreign else read_json(note)
    if not foreign and known["weights"] != weights_digest(plain):
        raise ValueError(
            f"{folder}: this adapter was trained on another base than {base}; give the "
            "folder of its own base, or train it again on this one"
        )
    if known["method"] == "qlora":
        plain = dequantised(base, compute_dtype)
    merged = PeftModel.from_pretrained(plain, str(folder)).merge_and_unload()
    merged.config.use_cache = False
    return merged.eval()


@torch.no_grad()
def dequantised(
    folder: Path | str, compute_dtype: torch.dtype = torch.float32
) -> LlamaForCausalLM:
    """The model in ``folder`` with the rounding of 4 bits, as plain float32 weights."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    packed = load_for_tuning(folder, "qlora", compute_dtype=compute_dtype)
    plain = copy.deepcopy(load_model(folder))
    for name, module in packed.named_modules():
        if isinstance(module, Linear4bit):
            weight = module.weight
            unpacked = dequantize_4bit(weight.data, weight.quant_state)
            plain.get_submodule(name).weight.copy_(unpacked)
    return plain


def memory_of(model: nn.Module) -> dict[str, float]:
    """Megabytes of weights, of gradients and of AdamW's two moments in float32."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "weights": weights / 1e6,
        "gradients": 4 * learning / 1e6,
        "moments": 8 * learning / 1e6,
        "learning": learning / 1e6,
    }
