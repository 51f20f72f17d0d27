"""Two-stage instruction tuning on trl's SFTTrainer, with rows that carry their labels.

Loss falls on the answers of conversations and on every token of plain text rows, so
both kinds can share a packed row (混合微调). Notebook 06 calls this; 05 makes the data.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import (
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from finllm_utils.config import RuntimeConfig, SFTConfig
from finllm_utils.records import ChatTurn, Document, Instruction
from finllm_utils.runtime import resolve_device

logger = logging.getLogger(__name__)
IGNORED = -100
Row = dict[str, list[int]]


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[ChatTurn]
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and labels: the ids of assistant turns, else -100.

    An answer's end mark is labelled too: that is how the model learns to stop.
    Raises: ValueError when the chat template renders a turn differently once later
    turns follow, since no label could then be placed.
    """
    ids = _render(tokenizer, messages)
    labels = [IGNORED] * len(ids)
    for k, turn in enumerate(messages):
        if turn.role != "assistant":
            continue
        prompt = _render(tokenizer, messages[:k], add_generation_prompt=True)
        through = (
            ids if k + 1 == len(messages) else _render(tokenizer, messages[: k + 1])
        )
        if ids[: len(prompt)] != prompt or ids[: len(through)] != through:
            raise ValueError(
                "the tokenizer's chat template is not a prefix of itself at turn "
                f"{k}: use the tokenizer of 02_vocab_expansion"
            )
        labels[len(prompt) : len(through)] = ids[len(prompt) : len(through)]
    return ids, labels


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[ChatTurn]
) -> list[int]:
    """Token ids of a conversation up to the place where the next answer begins."""
    return _render(tokenizer, messages, add_generation_prompt=True)


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[ChatTurn],
    add_generation_prompt: bool = False,
) -> list[int]:
    plain = [{"role": turn.role, "content": turn.content} for turn in messages]
    return list(
        tokenizer.apply_chat_template(
            plain,
            tokenize=True,
            add_generation_prompt=add_generation_prompt,
            return_dict=False,
        )
    )


def conversation_rows(
    tokenizer: PreTrainedTokenizerBase,
    instructions: Iterable[Instruction],
    max_seq_len: int,
) -> list[Row]:
    """One row an instruction; those longer than ``max_seq_len`` are left out whole.

    A cut answer would teach the model to stop anywhere.
    """
    rows, dropped = [], 0
    for item in instructions:
        ids, labels = encode_conversation(tokenizer, item.messages)
        if len(ids) > max_seq_len:
            dropped += 1
        else:
            rows.append({"input_ids": ids, "labels": labels})
    if dropped:
        logger.warning(
            "%d instructions exceed %d tokens: left out", dropped, max_seq_len
        )
    return rows


def text_rows(
    tokenizer: PreTrainedTokenizerBase,
    documents: Iterable[Document],
    num_tokens: int,
    max_seq_len: int,
) -> list[Row]:
    """Rows ``<s> text </s>`` with every token labelled, until ``num_tokens`` are there.

    A longer document is cut into rows of ``max_seq_len`` without overlap.
    Raises: ValueError when the documents hold fewer tokens.
    """
    rows: list[Row] = []
    left = num_tokens
    for document in documents:
        if left <= 0:
            break
        ids = tokenizer(document.text, add_special_tokens=False)["input_ids"]
        ids = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
        for start in range(0, len(ids), max_seq_len):
            part = ids[start : start + max_seq_len][: max(left, 0)]
            if len(part) > 1:
                rows.append({"input_ids": part, "labels": list(part)})
            left -= len(part)
    if left > 0:
        raise ValueError(
            f"the pre-training text is {left} tokens short of {num_tokens}: lower "
            "sft.pretrain_text_share or rerun 05 with more text"
        )
    return rows


def text_tokens_for_share(conversations: Sequence[Row], share: float) -> int:
    """Tokens of text that make up ``share`` of all tokens beside ``conversations``.

    Example: 0.2 beside 80 tokens is 20.
    """
    tokens = sum(len(row["input_ids"]) for row in conversations)
    return round(tokens * share / (1 - share))


def mixed_rows(
    tokenizer: PreTrainedTokenizerBase,
    instructions: Iterable[Instruction],
    documents: Iterable[Document],
    cfg: SFTConfig,
) -> tuple[list[Row], list[Row]]:
    """Stage 1's conversation rows, and text rows of ``cfg.pretrain_text_share``."""
    spoken = conversation_rows(tokenizer, instructions, cfg.max_seq_len)
    num_tokens = text_tokens_for_share(spoken, cfg.pretrain_text_share)
    return spoken, text_rows(tokenizer, documents, num_tokens, cfg.max_seq_len)


def count_rows(rows: Iterable[Row]) -> dict[str, int]:
    """Rows, tokens and labelled tokens."""
    rows = list(rows)
    return {
        "rows": len(rows),
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "labelled": sum(one != IGNORED for row in rows for one in row["labels"]),
    }


def packed_batch(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase
) -> dict[str, torch.Tensor]:
    """``input_ids`` and ``position_ids``, (1, T): rows end to end, as trl packs."""
    collate = DataCollatorForLanguageModeling(tokenizer.pad_token_id, padding_free=True)
    batch = collate(list(rows))
    return {name: batch[name] for name in ("input_ids", "position_ids")}


@torch.no_grad()
def packing_leak(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    first: list[int],
    second: list[int],
) -> dict[str, float]:
    """How far logits of ``second`` move when ``first`` stands before it in the row.

    "packed" is as trained and should be rounding error; "no positions" is the leak
    without positions that restart.
    """
    rows = [{"input_ids": ids, "labels": ids} for ids in (first, second)]
    batch = packed_batch(rows, tokenizer)
    batch = {name: value.to(model.device) for name, value in batch.items()}
    bare = {"input_ids": batch["input_ids"]}
    second_ids = torch.tensor([second], device=model.device)
    alone = model(second_ids, use_cache=False).logits[0]
    moved = {}
    for name, inputs in (("packed", batch), ("no positions", bare)):
        logits = model(**inputs, use_cache=False).logits[0, len(first) :]
        moved[name] = float((logits - alone).abs().max())
    return moved


class AnswerTrainer(SFTTrainer):
    """SFTTrainer that projects only labelled positions onto the vocabulary.

    trl's fused head skips unlabelled positions where Triton runs and scores all of them
    elsewhere; on a CPU with a large vocabulary that is most of the step. Same loss.
    """

    def compute_loss(
        self, model, inputs, return_outputs=False, num_items_in_batch=None
    ):
        """Mean nats of labelled tokens; ``num_items_in_batch`` spans accumulation."""
        if inputs["input_ids"].is_cuda or return_outputs:
            return super().compute_loss(
                model, inputs, return_outputs, num_items_in_batch
            )
        labels = inputs["labels"][0, 1:]  # padding-free: one flattened row
        places = (labels != IGNORED).nonzero()[:, 0]
        inputs = {k: v for k, v in inputs.items() if k != "labels"}
        logits = model(**inputs, use_cache=False, logits_to_keep=places).logits
        total = cross_entropy(logits[0].float(), labels[places], reduction="sum")
        self._total_train_tokens += inputs["input_ids"].numel()
        count = places.numel() if num_items_in_batch is None else num_items_in_batch
        return total / max(int(count), 1)


class RunLog(TrainerCallback):
    """Passes every log line of the trainer to ``log(step, **values)``."""

    def __init__(self, log: Callable[..., None], first_step: int = 0) -> None:
        self.log = log
        self.first_step = first_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Keeps loss, learning rate and gradient norm."""
        names = ("loss", "learning_rate", "grad_norm")
        kept = {name: float(logs[name]) for name in names if name in logs}
        if kept:
            self.log(self.first_step + state.global_step, **kept)


class EvalEvery(TrainerCallback):
    """Calls ``on_eval(step)`` before training, every ``steps`` steps and at the end."""

    def __init__(
        self, on_eval: Callable[[int], None], steps: int, first_step: int = 0
    ) -> None:
        self.on_eval = on_eval
        self.steps = steps
        self.first_step = first_step

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Step 0."""
        self.on_eval(self.first_step)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Every ``steps`` steps, and after the last."""
        if state.global_step % self.steps == 0 or state.global_step == state.max_steps:
            self.on_eval(self.first_step + state.global_step)


def trl_config(
    cfg: SFTConfig,
    runtime: RuntimeConfig,
    *,
    learning_rate: float,
    num_epochs: float,
    seed: int,
    output_dir: str,
) -> TrlConfig:
    """Trl's settings for this machine: both of its defaults that need a GPU are set."""
    device = resolve_device(runtime.device)
    return TrlConfig(
        output_dir=output_dir,
        max_length=cfg.max_seq_len,
        packing=True,
        packing_strategy="bfd",
        per_device_train_batch_size=cfg.micro_batch_size,
        gradient_accumulation_steps=cfg.grad_accum_steps,
        num_train_epochs=num_epochs,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=cfg.warmup_share,
        weight_decay=cfg.weight_decay,
        max_grad_norm=cfg.max_grad_norm,
        bf16=runtime.dtype == "bfloat16",
        activation_checkpointing=False,
        use_cpu=device == "cpu",
        logging_steps=cfg.log_every,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )


def train_sft(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    *,
    cfg: SFTConfig,
    runtime: RuntimeConfig,
    learning_rate: float,
    num_epochs: float,
    seed: int,
    log: Callable[..., None] | None = None,
    on_eval: Callable[[int], None] | None = None,
    first_step: int = 0,
) -> dict[str, float]:
    """Trains ``model`` in place on packed rows; tokens, seconds, mean loss and steps.

    Weights and optimiser stay float32; with runtime.dtype "bfloat16" the forward pass
    runs under autocast. ``log(step, **values)`` and ``on_eval(step)`` count from
    ``first_step``, so that two stages make one curve.
    """
    callbacks: list[TrainerCallback] = []
    if log is not None:
        callbacks.append(RunLog(log, first_step))
    if on_eval is not None:
        callbacks.append(EvalEvery(on_eval, cfg.eval_every, first_step))
    with tempfile.TemporaryDirectory() as folder:
        trainer = AnswerTrainer(
            model,
            args=trl_config(
                cfg,
                runtime,
                learning_rate=learning_rate,
                num_epochs=num_epochs,
                seed=seed,
                output_dir=folder,
            ),
            train_dataset=Dataset.from_list(list(rows)),
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)  # RunLog keeps the figures
        result = trainer.train()
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    model.__dict__.pop("forward", None)  # trl's fused head was set on the instance
    model.eval()
    return {
        "tokens": float(trainer._total_train_tokens),
        "seconds": result.metrics["train_runtime"],
        "loss": result.metrics["train_loss"],
        "steps": float(trainer.state.global_step),
    }
