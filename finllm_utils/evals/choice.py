r"""Four-option questions: which answer does the model find most likely?

One option answers the question, three were retrieved for the same question and are
wrong. All four have nearly the same length, since on unmatched options "the shorter
one" already wins most of the time. An option's score is its log-likelihood a character.

The prompt is a chat turn for models that have learnt to chat and ``问：…\n答：`` for
those before; ``prompt="plain"`` puts every model on the second, like for like.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.corpora.insurance import InsuranceAnswer, InsuranceQuestion
from finllm_utils.data.instructions import question_overlap
from finllm_utils.intervals import wilson_interval
from finllm_utils.model.score import sequence_nats

NUM_OPTIONS = 4
PROMPTS = {
    "plain": "问：{question}\n答：",
    "adviser": "客户提问：{question}\n保险顾问回答：",
    "forum": "标题：{question}\n最佳回复：",
    "blind": "",
}
"""Text prompts; "blind" hides the question. "chat" is the tokenizer's own template."""
CHAT_MODELS = ("sft1", "sft2", "ppo")


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """One question, four options and the index of the right one."""

    id: str
    question: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """Share of items solved, its Wilson interval, and the credit of every item."""

    accuracy: float
    interval: tuple[float, float]
    num_items: int
    hits: tuple[float, ...] = field(repr=False)
    """1 right, 0 wrong; a tie for first place shares the credit."""


def build_choice_items(
    questions: Sequence[InsuranceQuestion],
    answers: Mapping[str, InsuranceAnswer],
    num_items: int,
    tolerance: float,
    seed: int,
    max_chars: int = 120,
) -> list[ChoiceItem]:
    """Up to ``num_items`` items, in an order drawn by ``seed``.

    Args: tolerance bounds longest / shortest option - 1; max_chars skips longer
    options, which cost the most to score.
    Raises: ValueError when no question has three wrong answers of a like length.
    """
    random = np.random.default_rng(seed)
    items: list[ChoiceItem] = []
    for index in random.permutation(len(questions)):
        if len(items) == num_items:
            break
        question = questions[index]
        right = answers[question.positives[0]].zh
        if not 0 < len(right) <= max_chars:
            continue
        wrong = _like_length(question, answers, right, tolerance, random)
        wrong = [text for text in wrong if len(text) <= max_chars]
        if len(wrong) < NUM_OPTIONS - 1:
            continue
        picked = random.choice(len(wrong), NUM_OPTIONS - 1, replace=False)
        options = [right, *(wrong[i] for i in picked)]
        order = random.permutation(NUM_OPTIONS)
        items.append(
            ChoiceItem(
                question.id,
                question.zh,
                tuple(options[i] for i in order),
                int(np.flatnonzero(order == 0)[0]),
            )
        )
    if not items:
        raise ValueError(
            f"no question has {NUM_OPTIONS - 1} wrong answers within {tolerance:.0%} "
            "of the right one's length; raise the tolerance or pass more questions"
        )
    return items


def _like_length(
    question: InsuranceQuestion,
    answers: Mapping[str, InsuranceAnswer],
    right: str,
    tolerance: float,
    random: np.random.Generator,
) -> list[str]:
    """Wrong answers inside a length window of width ``tolerance`` around the right one.

    The window's place is drawn at random, so the right answer is not always the middle.
    """
    below = random.random()
    low = len(right) * (1 + tolerance) ** -below
    high = len(right) * (1 + tolerance) ** (1 - below)
    true = {answers[a].zh for a in question.positives}
    texts = {answers[a].zh for a in question.negatives} - true
    return sorted(text for text in texts if low <= len(text) <= high)


def choice_accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[ChoiceItem],
    *,
    prompt: str,
    batch_tokens: int,
) -> ChoiceResult:
    """Accuracy of a model that takes the option with the most likely characters.

    Args: prompt is "chat" or a name in ``PROMPTS``; "blind" hides the question.
    """
    return result(
        option_nats(model, tokenizer, items, prompt=prompt, batch_tokens=batch_tokens),
        items,
    )


def prompt_for(model_name: str) -> str:
    """The prompt kind of a stage's model: "chat" from SFT on, "plain" before."""
    return "chat" if model_name in CHAT_MODELS else "plain"


def option_nats(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[ChoiceItem],
    *,
    prompt: str,
    batch_tokens: int,
) -> np.ndarray:
    """(items, 4) nats per character of each option; lower is likelier."""
    heads = [prompt_text(tokenizer, item.question, prompt) for item in items]
    texts = [
        head + option
        for head, item in zip(heads, items, strict=True)
        for option in item.options
    ]
    head_ids = tokenizer(heads, add_special_tokens=False)["input_ids"]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    starts = [
        _common_prefix(head_ids[i // NUM_OPTIONS], one) for i, one in enumerate(ids)
    ]
    # A row an option: beside such long options, to read the question only once saves
    # less than the mask of a tree costs (model.shared_prefix).
    nats = sequence_nats(
        model,
        ids,
        batch_tokens=batch_tokens,
        pad_id=tokenizer.pad_token_id or 0,
        first_scored=starts,
    )
    chars = np.array([[len(o) for o in item.options] for item in items])
    return np.array([n.sum() for n in nats]).reshape(chars.shape) / chars


def prompt_text(tokenizer: PreTrainedTokenizerBase, question: str, prompt: str) -> str:
    """The text before an answer, BOS included."""
    if prompt == "chat":
        return tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            tokenize=False,
        )
    if prompt not in PROMPTS:
        raise ValueError(f"prompt={prompt!r}: use chat, {', '.join(PROMPTS)}")
    return tokenizer.bos_token + PROMPTS[prompt].format(question=question)


def _common_prefix(head: Sequence[int], whole: Sequence[int]) -> int:
    """Tokens shared with the prompt; a merge across the seam is scored."""
    length = 0
    while length < len(head) and head[length] == whole[length]:
        length += 1
    return length


def shortest_option(items: Sequence[ChoiceItem]) -> ChoiceResult:
    """The rule "take the shortest option"."""
    return result(np.array([[len(o) for o in item.options] for item in items]), items)


def most_overlap(items: Sequence[ChoiceItem]) -> ChoiceResult:
    """The rule "take the option that repeats most character pairs of the question"."""
    scores = [[-question_overlap(i.question, o) for o in i.options] for i in items]
    return result(np.array(scores), items)


def result(scores: np.ndarray, items: Sequence[ChoiceItem]) -> ChoiceResult:
    """The result of taking the lowest score in each row of (items, 4)."""
    best = scores == scores.min(axis=1, keepdims=True)
    right = np.array([item.answer for item in items])
    hits = best[np.arange(len(items)), right] / best.sum(axis=1)
    return ChoiceResult(
        accuracy=float(hits.mean()),
        interval=wilson_interval(float(hits.sum()), len(items)),
        num_items=len(items),
        hits=tuple(hits.tolist()),
    )
