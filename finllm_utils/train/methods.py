"""What the three ways of tuning cost: full training, LoRA and QLoRA on the same rows.

Each trains the same model on the same rows, one after another, in one process. Memory
is counted from the parameters, so it says nothing of activations, which are the same
for all three. Notebook 06 and the benchmark of tuning call this.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from finllm_utils.config import RuntimeConfig, SFTConfig
from finllm_utils.runtime import resolve_device
from finllm_utils.train.adapters import (
    METHODS,
    load_for_tuning,
    memory_of,
    merge_adapter,
)
from finllm_utils.train.sft import Row
from finllm_utils.train.tuning import model_to_tune, save_tuned, train_sft


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodCost:
    """Memory in megabytes, speed, and how exact the merged model is."""

    learning_millions: float
    """Parameters that learn."""
    weights_mb: float
    gradients_mb: float
    moments_mb: float
    """AdamW's two moments, float32."""
    tokens_per_s: float
    """Trained tokens a second, packed, without loading."""
    merge_max_diff: float | None
    """Largest difference of a logit, float32; None where nothing is merged."""

    @property
    def total_mb(self) -> float:
        """Weights, gradients and moments; activations come on top."""
        return self.weights_mb + self.gradients_mb + self.moments_mb

    def as_dict(self) -> dict[str, float | None]:
        """By name, for a table."""
        return asdict(self) | {"total_mb": self.total_mb}


def method_cost(
    folder: Path | str,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    method: str,
    cfg: SFTConfig,
    runtime: RuntimeConfig,
    seed: int,
) -> MethodCost:
    """One pass of ``method`` over ``rows``, from the model in ``folder``.

    Raises: ValueError for an unknown method, or rows of which none is there.
    """
    if not rows:
        raise ValueError("no rows to train on; give at least one")
    cfg = replace(cfg, method=method, rebalance=0.0)
    model = model_to_tune(folder, cfg, runtime, seed)
    done = train_sft(
        model, tokenizer, rows, cfg=cfg, runtime=runtime,
        learning_rate=cfg.learning_rate, num_epochs=1, seed=seed,
    )  # fmt: skip
    memory = memory_of(model)
    gap = None
    if method != "full":
        with TemporaryDirectory() as out:
            save_tuned(model, tokenizer, folder, cfg, runtime, Path(out))
            adapter = Path(out) / "adapter"
            gap = _merge_gap(folder, adapter, method, runtime, rows[0]["input_ids"])
    return MethodCost(
        learning_millions=memory["learning"],
        weights_mb=memory["weights"],
        gradients_mb=memory["gradients"],
        moments_mb=memory["moments"],
        tokens_per_s=done["tokens"] / done["seconds"],
        merge_max_diff=gap,
    )


@torch.no_grad()
def _merge_gap(
    base: Path | str,
    adapter: Path,
    method: str,
    runtime: RuntimeConfig,
    ids: Sequence[int],
) -> float:
    """Adapter beside its base against merged, both unpacked to float32."""
    device = resolve_device(runtime.device)
    beside = PeftModel.from_pretrained(
        load_for_tuning(base, method, device=device), str(adapter)
    ).eval()
    merged = merge_adapter(base, adapter).to(device)
    ids_BT = torch.tensor([ids], device=device)
    return float((beside(ids_BT).logits - merged(ids_BT).logits).abs().max())


def compare_methods(
    folder: Path | str,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    cfg: SFTConfig,
    runtime: RuntimeConfig,
    seed: int,
) -> dict[str, MethodCost]:
    """``method_cost`` of full training, LoRA and QLoRA, by name."""
    return {
        method: method_cost(folder, tokenizer, rows, method, cfg, runtime, seed)
        for method in METHODS
    }
