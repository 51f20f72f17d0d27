"""Answers of a chat model, the likeliest token each time, many at once."""

from collections.abc import Callable, Sequence

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.records import ChatTurn
from finllm_utils.train.sft import encode_prompt


def greedy_answers(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Sequence[ChatTurn]],
    max_new_tokens: int,
    batch_size: int = 32,
) -> list[str]:
    """The model's next turn in every conversation, without special tokens."""
    prompts = [encode_prompt(tokenizer, turns) for turns in conversations]
    return greedy_texts(model, tokenizer, prompts, max_new_tokens, batch_size)


@torch.no_grad()
def greedy_texts(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int = 32,
) -> list[str]:
    """What the model writes after every prompt of token ids, without special tokens.

    Prompts of like length share a batch, padded on the left.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        width = max(len(prompts[i]) for i in part)
        pad = tokenizer.pad_token_id or 0  # hidden by the mask, whichever it is
        ids_BL = torch.tensor(
            [[pad] * (width - len(prompts[i])) + list(prompts[i]) for i in part]
        )
        mask_BL = torch.tensor(
            [[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in part]
        )
        made_BL = model.generate(
            input_ids=ids_BL.to(model.device),
            attention_mask=mask_BL.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id,
        )
        texts = tokenizer.batch_decode(made_BL[:, width:], skip_special_tokens=True)
        for i, text in zip(part, texts, strict=True):
            answers[i] = text.strip()
    return answers


def chat_reply(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> Callable[[Sequence[Sequence[ChatTurn]]], list[str]]:
    """``greedy_answers`` of one model, as the exams ask for it."""

    def reply(conversations: Sequence[Sequence[ChatTurn]]) -> list[str]:
        return greedy_answers(model, tokenizer, conversations, max_new_tokens)

    return reply
