"""Which weights of a pass learn: all, embeddings, new rows of them, or LoRA adapters.

``prepare`` marks them before the optimiser is made; ``merge`` leaves a plain model
behind. New rows are a matter of the optimiser, which zeroes the gradient of old ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel

from finllm_utils.config import PretrainConfig

if TYPE_CHECKING:
    from peft.tuners.lora import LoraModel

ADAPTER = "default"


@dataclass(frozen=True, slots=True)
class Trainable:
    """What ``prepare`` set up."""

    first_row: int
    """Embedding rows below this one stay as they are; 0 lets all of them learn."""
    lora: "LoraModel | None"
    """The adapters inside the model, if any."""


def select_trainable(model: nn.Module, names: set[str] | None) -> None:
    """Lets only the named parameters learn; None means all."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(names is None or name in names)


def prepare(
    model: PreTrainedModel,
    cfg: PretrainConfig,
    embedding_names: set[str],
    *,
    first_new_row: int = 0,
    seed: int = 0,
) -> Trainable:
    """Marks the parameters that ``cfg.trainable`` names; may put adapters into layers.

    Raises: ValueError for new_rows when ``first_new_row`` leaves none.
    """
    if cfg.trainable == "all":
        select_trainable(model, None)
        return Trainable(0, None)
    if cfg.trainable == "lora":
        return Trainable(0, add_adapters(model, cfg.lora_rank, embedding_names, seed))
    select_trainable(model, embedding_names)
    if cfg.trainable == "embeddings":
        return Trainable(0, None)
    num_rows = model.get_input_embeddings().weight.shape[0]
    if not 0 < first_new_row < num_rows:
        raise ValueError(
            f"trainable='new_rows' needs first_new_row between 1 and {num_rows - 1} "
            f"(the model's rows), not {first_new_row}: pass the number of rows before "
            "the vocabulary grew, or set trainable='embeddings'"
        )
    return Trainable(first_new_row, None)


def add_adapters(
    model: PreTrainedModel, rank: int, embedding_names: set[str], seed: int
) -> "LoraModel":
    """Adapters on every linear layer but the output layer, put into the model itself.

    They learn, and so do the parameters in ``embedding_names``, in full: the rest is
    frozen.
    peft refuses adapters on lm_head; and new rows need more than a low-rank change.
    alpha = 2 r, as in "LoRA learns less and forgets less", arXiv 2405.09673, section 3.
    """
    from peft import LoraConfig  # seconds to import, and few passes need it
    from peft.tuners.lora import LoraModel

    head = model.get_output_embeddings()
    targets = sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not head
        }
    )
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=targets, lora_dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lora = LoraModel(model, config, ADAPTER)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or name in embedding_names)
    return lora


def merge(lora: "LoraModel | None") -> None:
    """Adds the adapters to the layers they sit on, and takes them out of the model.

    The weights must be float32: merging into rounded ones would lose the change.
    """
    if lora is not None:
        lora.merge_and_unload()


def remove(lora: "LoraModel | None") -> None:
    """Takes the adapters out of the model and leaves its layers as they were."""
    if lora is not None:
        lora.unload()
