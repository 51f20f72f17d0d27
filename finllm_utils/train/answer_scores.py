"""How surprised a model is by held-out answers, over all and by task.

Nats per answer token, comparable between models that share one tokenizer only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.model.score import answer_nats
from finllm_utils.records import Instruction
from finllm_utils.train.sft import encode_conversation, encode_prompt


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """Total nats of one answer and its number of tokens, the end mark included."""

    task: str
    nats: float
    tokens: int


def score_answers(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    instructions: Sequence[Instruction],
    batch_tokens: int,
) -> list[AnswerScore]:
    """The last answer of every instruction, given all that stands before it."""
    prompts, answers = [], []
    for item in instructions:
        prompt = encode_prompt(tokenizer, item.messages[:-1])
        ids, _ = encode_conversation(tokenizer, item.messages)
        prompts.append(prompt)
        answers.append(ids[len(prompt) :])
    nats = answer_nats(model, tokenizer, prompts, answers, batch_tokens)
    return [
        AnswerScore(item.task, total, len(ids))
        for item, total, ids in zip(instructions, nats, answers, strict=True)
    ]


def mean_nats(scores: Sequence[AnswerScore]) -> float:
    """Total nats over total tokens: 2 nats on 1 token and 4 on 2 give 2.0."""
    return sum(s.nats for s in scores) / sum(s.tokens for s in scores)


def nats_by_task(scores: Sequence[AnswerScore]) -> dict[str, float]:
    """Nats per token of each task, sorted by name."""
    return {
        task: mean_nats([s for s in scores if s.task == task])
        for task in sorted({s.task for s in scores})
    }
