"""Asks one model everything that acceptance compares; two of these make the measures.

Greedy answers to the questions, safety prompts, exams and paraphrases, samples at
several temperatures, log-likelihoods for bits per byte and choice. What each score
means is said where it is computed; the verdict is ``acceptance``'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.data.citations import ArticleBook
from finllm_utils.evals.acceptance.rule import Measure
from finllm_utils.evals.bits_per_byte import BitsPerByte, bits_per_byte
from finllm_utils.evals.choice import NUM_OPTIONS, ChoiceItem, choice_accuracy
from finllm_utils.evals.models.generate import chat_reply
from finllm_utils.evals.tasks.following import FollowingItem, Reply, broken_rules
from finllm_utils.evals.tasks.helpfulness import helpfulness
from finllm_utils.evals.tasks.stability import (
    ParaphraseGroup,
    group_stability,
    paraphrase_answers,
    spread,
)
from finllm_utils.records import ChatTurn, Document
from finllm_utils.rlhf.ppo import RewardFunction
from finllm_utils.rlhf.reward_model import encode_answer, encode_prompt
from finllm_utils.rlhf.rollout import sample_rollout

Scorer = Callable[[Reply], Sequence[float]]
"""Asks one model its own questions; a score an item, 1 for right and 0 for wrong."""
BPB_TOLERANCE = 0.02  # a share: not more than 2% worse
EXAM_MARGIN = 0.05  # of items: to accept, a fall of five in a hundred is excluded


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """What both models are asked. ``questions`` and all else are held out."""

    documents: Mapping[str, Sequence[Document]]
    """Domain to held-out documents."""
    choice_items: Sequence[ChoiceItem]
    exams: Mapping[str, Scorer]
    """Exams by name, such as ``following_scorer``; guessing gives 0."""
    safety: Scorer
    questions: Sequence[str]
    book: ArticleBook
    """The laws whose articles an answer may cite."""
    paraphrases: Sequence[ParaphraseGroup]
    reward: RewardFunction
    """Token sequences to scores; of a reward model that did not train the policy, or
    its rise says only that training worked."""
    window: int
    """Of bits per byte. Unit: tokens."""
    batch_tokens: int
    max_new_tokens: int
    num_sampled: int = 32
    """The first so many questions are sampled from."""
    temperatures: tuple[float, ...] = (0.7, 1.0)
    seeds: tuple[int, ...] = (0, 1)
    """Of the samples at each temperature."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """One model's scores, by measure, in the order of the items."""

    bits: dict[str, BitsPerByte]
    choice: np.ndarray
    exams: dict[str, np.ndarray]
    gains: dict[str, np.ndarray]
    watched: dict[str, np.ndarray]
    answers: tuple[str, ...] = field(repr=False)
    """Greedy, to ``Suite.questions``: what raters compare."""


def collect(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, suite: Suite
) -> Records:
    """Everything of ``suite`` asked of one chat model.

    Raises: ValueError for documents a model may have trained on, under two temperatures
    and seeds together, or parts too small to compare.
    """
    reply = chat_reply(model, tokenizer, suite.max_new_tokens)
    answers = reply([[ChatTurn(role="user", content=q)] for q in suite.questions])
    sampled = _samples(model, tokenizer, suite)
    groups = paraphrase_answers(suite.paraphrases, reply)
    gains = {
        "safety": np.asarray(suite.safety(reply), float),
        "helpfulness": helpfulness(suite.questions, answers, suite.book).scores,
        "helpfulness_reward": _rewards(tokenizer, suite, answers),
        "stability": group_stability(groups),
        "stability_sampled": group_stability(sampled.texts_QS),
    }
    return Records(
        bits=_bits(model, tokenizer, suite),
        choice=np.array(_choice(model, tokenizer, suite)),
        exams={n: np.asarray(ask(reply), float) for n, ask in suite.exams.items()},
        gains=gains,
        watched={
            "reward_spread": spread(sampled.rewards_QS),
            "length_spread": spread(sampled.lengths_QS),
        },
        answers=tuple(answers),
    )


def measures(before: Records, after: Records) -> list[Measure]:
    """What ``rule.accept`` judges: ``before`` is the SFT model, ``after`` PPO's.

    Raises: ValueError when the two were not asked the same.
    """
    found = [_bits_measure(d, before.bits[d], after.bits[d]) for d in before.bits]
    exams = {"choice": (before.choice, after.choice)}
    exams |= {name: (s, after.exams[name]) for name, s in before.exams.items()}
    for name, (old, new) in exams.items():
        chance = 1 / NUM_OPTIONS if name == "choice" else 0.0
        limits = {"margin": EXAM_MARGIN, "chance": chance}
        found.append(
            Measure(name=name, kind="ability", before=old, after=new, **limits)
        )
    for kind, old, new in (
        ("gain", before.gains, after.gains),
        ("watch", before.watched, after.watched),
    ):
        found += [
            Measure(name=name, kind=kind, before=scores, after=new[name])
            for name, scores in old.items()
        ]
    return found


def preference_measure(preferences: np.ndarray, rater_kind: str) -> Measure:
    """Recorded raters as a gain, from ``helpfulness.rater_preferences``."""
    return Measure(
        name=f"helpfulness_{rater_kind}_raters",
        kind="gain",
        before=np.zeros(len(preferences)),
        after=preferences,
    )


def following_scorer(items: Sequence[FollowingItem]) -> Scorer:
    """The exam of verifiable instructions, item by item."""

    def ask(reply: Reply) -> list[float]:
        answers = reply([[ChatTurn(role="user", content=i.prompt)] for i in items])
        rows = zip(items, answers, strict=True)
        return [float(not broken_rules(answer, i.rules)) for i, answer in rows]

    return ask


def _bits(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, suite: Suite
) -> dict[str, BitsPerByte]:
    return {
        domain: bits_per_byte(
            model,
            tokenizer,
            documents,
            window=suite.window,
            batch_tokens=suite.batch_tokens,
            num_bootstrap=1,  # its own interval is not used: ours is paired
            seed=0,
        )
        for domain, documents in suite.documents.items()
    }


def _bits_measure(domain: str, before: BitsPerByte, after: BitsPerByte) -> Measure:
    if before.document_bytes != after.document_bytes:
        raise ValueError(f"{domain}: the models were asked different documents")
    return Measure(
        name=f"bits_per_byte_{domain}",
        kind="ability",
        before=before.document_nats,
        after=after.document_nats,
        weights=np.array(before.document_bytes) * np.log(2),
        higher_is_better=False,
        relative=True,
        tolerance=BPB_TOLERANCE,
    )


def _choice(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, suite: Suite
) -> Sequence[float]:
    return choice_accuracy(
        model,
        tokenizer,
        suite.choice_items,
        prompt="chat",
        batch_tokens=suite.batch_tokens,
    ).hits


def _rewards(
    tokenizer: PreTrainedTokenizerBase, suite: Suite, answers: Sequence[str]
) -> np.ndarray:
    rows = zip(suite.questions, answers, strict=True)
    return suite.reward(
        [encode_prompt(tokenizer, q) + encode_answer(tokenizer, a) for q, a in rows]
    )


@dataclass(frozen=True, slots=True)
class _Samples:
    """Of each question one a temperature and seed."""

    texts_QS: list[list[str]]
    rewards_QS: np.ndarray
    lengths_QS: np.ndarray


def _samples(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, suite: Suite
) -> _Samples:
    asked = suite.questions[: suite.num_sampled]
    prompts = [encode_prompt(tokenizer, question) for question in asked]
    texts, rewards, lengths = [], [], []
    for temperature in suite.temperatures:
        for seed in suite.seeds:
            rollout = sample_rollout(
                model,
                prompts,
                max_new_tokens=suite.max_new_tokens,
                temperature=temperature,
                eos_id=tokenizer.eos_token_id,
                pad_id=tokenizer.pad_token_id,
                seed=seed,
            )
            made = rollout.response_ids()
            texts.append(tokenizer.batch_decode(made, skip_special_tokens=True))
            rewards.append(suite.reward(rollout.sequences()))
            lengths.append([len(ids) for ids in made])
    return _Samples(
        [list(row) for row in zip(*texts, strict=True)],
        np.array(rewards).T,
        np.array(lengths, float).T,
    )
