"""How surprised a model is by held-out answers, over all and by task.

Nats per answer token, comparable between models that share one tokenizer only.
"""

from collections.abc import Callable, Mapping, Sequence
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


class TaskWatch:
    """Call it with a step: held-out nats by task go to ``history`` and to ``log``.

    One average hides a task that gets worse (XuanYuan3 watches each class of data).

    Args: also is asked with (step, model) at the same steps, and its numbers logged.
    """

    def __init__(
        self,
        model: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        instructions: Sequence[Instruction],
        *,
        per_task: int,
        batch_tokens: int,
        log: Callable[..., None],
        also: Callable[[int, LlamaForCausalLM], Mapping[str, float]] | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.batch_tokens, self.log, self._also = batch_tokens, log, also
        self.history: dict[int, dict[str, float]] = {}
        groups: dict[str, list[Instruction]] = {}
        for item in instructions:
            groups.setdefault(item.task, []).append(item)
        self.items = [i for name in sorted(groups) for i in groups[name][:per_task]]

    def __call__(self, step: int) -> None:
        """Scores the watched items; a step seen before is not scored again."""
        if step in self.history:
            return
        scores = self._score()
        self.history[step] = nats_by_task(scores)
        more = self._also(step, self.model) if self._also else {}
        self.log(step, heldout_nats=mean_nats(scores), **more)

    def now(self) -> dict[str, float]:
        """Nats per token of each task as the model is, for ``sft.rebalance``."""
        return nats_by_task(self._score())

    def _score(self) -> list[AnswerScore]:
        return score_answers(self.model, self.tokenizer, self.items, self.batch_tokens)

    def curves(self, tasks: Sequence[str]) -> dict[str, tuple[list, list]]:
        """{task: (steps, nats per token)}."""
        steps = list(self.history)
        return {t: (steps, [row[t] for row in self.history.values()]) for t in tasks}


def mean_nats(scores: Sequence[AnswerScore]) -> float:
    """Total nats over total tokens: 2 nats on 1 token and 4 on 2 give 2.0."""
    return sum(s.nats for s in scores) / sum(s.tokens for s in scores)


def nats_by_task(scores: Sequence[AnswerScore]) -> dict[str, float]:
    """Nats per token of each task, sorted by name."""
    return {
        task: mean_nats([s for s in scores if s.task == task])
        for task in sorted({s.task for s in scores})
    }
