"""What trl's ``RewardTrainer`` takes: rows, settings, optimiser, and what shall learn.

Adapters (LoRA) live only as long as the training: they are merged at its end, so that
the model is scored, saved and loaded by 08 like any other. ``reward_model`` calls this.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel
from transformers import LlamaForSequenceClassification
from trl import RewardConfig as TrlRewardConfig

from finllm_utils.config import RewardConfig
from finllm_utils.train.adapters import add_adapter


@contextmanager
def trainable_part(
    model: LlamaForSequenceClassification, trainable: str, rank: int, seed: int
) -> Iterator[LlamaForSequenceClassification | PeftModel]:
    """What a trainer gets to train: ``model`` itself, or ``model`` inside peft's.

    Args: trainable "lora" puts adapters of ``rank`` on every linear layer of the
    decoder and trains the score head whole; "all" trains every weight.
    ``model`` holds the merged weights afterwards, all of them free to learn as before.
    """
    if trainable == "all":
        yield model
        return
    yield (
        adapted := add_adapter(
            model, rank=rank, train_embeddings=False, seed=seed, task_type="SEQ_CLS"
        )
    )
    adapted.merge_and_unload()
    model.requires_grad_(True)


def training_rows(
    encoded: Sequence[tuple[list[int], list[int]]],
    cfg: RewardConfig,
    margins: Sequence[float] | None,
    seed: int,
) -> list[dict[str, object]]:
    """The columns that trl reads, a row a pair; margin only if it shall count."""
    rows = [{"chosen_ids": c, "rejected_ids": r} for c, r in encoded]
    if cfg.use_margins:
        if margins is None or len(margins) != len(rows):
            given = "none" if margins is None else len(margins)
            raise ValueError(
                f"reward.use_margins needs a margin for each of {len(rows)} pairs, got "
                f"{given}; give [pair.margin for pair in pairs]"
            )
        rows = [row | {"margin": m} for row, m in zip(rows, margins, strict=True)]
    return _like_lengths_together(rows, cfg.batch_size, seed)


def _like_lengths_together(
    rows: Sequence[dict[str, object]], batch_size: int, seed: int
) -> list[dict[str, object]]:
    """Rows in random order, but batches of like length: less padding.

    Sorts by length within 16 batches at a time, then shuffles the whole batches.
    """
    order = random.Random(seed)
    shuffled = order.sample(list(rows), len(rows))
    batches = []
    for begin in range(0, len(shuffled), 16 * batch_size):
        part = shuffled[begin : begin + 16 * batch_size]
        part.sort(key=lambda row: max(len(row["chosen_ids"]), len(row["rejected_ids"])))
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    short = batches.pop() if len(batches[-1]) < batch_size else []
    order.shuffle(batches)
    return [row for batch in batches for row in batch] + short


def optimizer(
    model: LlamaForSequenceClassification, cfg: RewardConfig
) -> torch.optim.AdamW:
    """AdamW with the embedding's rate times ``cfg.embedding_rate``.

    An embedding row learns only in the steps that hold its token: few, in one pass.
    """
    rows = model.get_input_embeddings().weight
    rest = [p for p in model.parameters() if p is not rows and p.requires_grad]
    groups = [{"params": rest, "lr": cfg.learning_rate}]
    if rows.requires_grad:
        rate = cfg.learning_rate * cfg.embedding_rate
        groups.append({"params": [rows], "lr": rate})
    return torch.optim.AdamW(groups, weight_decay=cfg.weight_decay)


def trainer_settings(
    cfg: RewardConfig, scratch: str, seed: int, dtype: str, device_type: str
) -> TrlRewardConfig:
    """trl's settings; its defaults (bf16, checkpointing, lr 1e-4) are overridden."""
    return TrlRewardConfig(
        output_dir=scratch,
        learning_rate=cfg.learning_rate,
        num_train_epochs=cfg.num_epochs,
        per_device_train_batch_size=cfg.batch_size,
        center_rewards_coefficient=cfg.center_coef,
        lr_scheduler_type="linear",
        warmup_steps=cfg.warmup_share,
        weight_decay=cfg.weight_decay,
        max_grad_norm=cfg.max_grad_norm,
        max_length=cfg.max_seq_len,
        train_sampling_strategy="sequential",  # the rows are shuffled already
        disable_dropout=True,
        gradient_checkpointing=False,
        bf16=dtype == "bfloat16",
        use_cpu=device_type == "cpu",
        dataloader_pin_memory=False,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
