"""Rows of instruction tuning, which carry their labels and the class they belong to.

Loss falls on the answers of conversations and on every token of plain text rows, so
both kinds can share a packed row (混合微调). ``tuning`` trains on them; 05 makes the
data, 06 calls this.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import NotRequired, TypedDict

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from finllm_utils.config import SFTConfig
from finllm_utils.records import ChatTurn, Document, Instruction

logger = logging.getLogger(__name__)
IGNORED = -100
TEXT = "text"  # the class of plain text rows


class Row(TypedDict):
    """Token ids, as many labels, and the task that they belong to."""

    input_ids: list[int]
    labels: list[int]
    task: NotRequired[str]


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
    rows, long = [], []
    for item in instructions:
        ids, labels = encode_conversation(tokenizer, item.messages)
        if len(ids) <= max_seq_len:
            rows.append(Row(input_ids=ids, labels=labels, task=item.task))
        else:
            long.append(item)
    _say_left_out(long, max_seq_len)
    return rows


def fitting(
    tokenizer: PreTrainedTokenizerBase,
    instructions: Iterable[Instruction],
    max_seq_len: int,
) -> list[Instruction]:
    """Those of at most ``max_seq_len`` tokens; the others are named in a warning."""
    kept, long = [], []
    for item in instructions:
        fits = len(_render(tokenizer, item.messages)) <= max_seq_len
        (kept if fits else long).append(item)
    _say_left_out(long, max_seq_len)
    return kept


def _say_left_out(long: Sequence[Instruction], max_seq_len: int) -> None:
    if long:
        named = ", ".join(item.id for item in long[:5])
        logger.warning(
            "%d conversations exceed %d tokens and are left out, such as %s; raise "
            "sft.max_seq_len to keep them",
            len(long), max_seq_len, named,
        )  # fmt: skip


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
    for ids in cut_documents(tokenizer, documents, max_seq_len):
        if left <= 0:
            break
        part = ids[:left]
        if len(part) > 1:
            rows.append({"input_ids": part, "labels": list(part), "task": TEXT})
        left -= len(part)
    if left > 0:
        raise ValueError(
            f"the pre-training text is {left} tokens short of {num_tokens}: lower "
            "sft.pretrain_text_share or rerun 05 with more text"
        )
    return rows


def cut_documents(
    tokenizer: PreTrainedTokenizerBase,
    documents: Iterable[Document],
    max_seq_len: int,
) -> Iterator[list[int]]:
    """Yields ``<s> text </s>`` of each document in parts of up to ``max_seq_len``."""
    for document in documents:
        ids = tokenizer(document.text, add_special_tokens=False)["input_ids"]
        ids = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
        for start in range(0, len(ids), max_seq_len):
            yield ids[start : start + max_seq_len]


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
    plain = [{name: row[name] for name in ("input_ids", "labels")} for row in rows]
    batch = collate(plain)
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
