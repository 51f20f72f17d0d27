"""Stability as figures of the report card: wordings, temperatures, orders of options.

``stability_suite`` gives one result a paraphrase group. A model that says one thing to
everyone is stable and useless, so answers that are no answers earn nothing, and neither
does one that another question got too. The two spreads are figures without items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, pstdev

import numpy as np

from finllm_utils.evals.exam_run import ask_exam
from finllm_utils.evals.following import spread
from finllm_utils.evals.item_results import ItemResult
from finllm_utils.evals.local_models import LocalModel
from finllm_utils.evals.option_order import option_order_spread
from finllm_utils.evals.prompts import (
    Answering,
    Asked,
    Failure,
    user_prompt,
)
from finllm_utils.evals.safety_rules import garbled
from finllm_utils.evals.stability import (
    ParaphraseGroup,
    group_stability,
    likeness,
    read_paraphrases,
)
from finllm_utils.evals.suite import Suite
from finllm_utils.records import ExamItem
from finllm_utils.rlhf.rollout import sample_rollout
from finllm_utils.train.sft import encode_prompt

SUITE = "stability"
TEMPERATURES = (0.7, 1.0)
SEEDS = (0, 1)
_REPEATED = "好的：{question}"


def stability_results(
    groups: Sequence[ParaphraseGroup],
    answers: Sequence[Sequence[str | Failure]],
    *,
    name: str,
) -> list[ItemResult]:
    """One result a group: how alike its answers are, less how alike to others'.

    Credit is ``group_stability``, at least 0. It is 0, and the detail says why, when an
    answer of the group is empty, garbled, the question again, or as alike as can be to
    an answer that another group got. A group with a failure has failed, and all of them
    have where fewer than two are left to compare.
    Args: answers to the wordings of each group.
    """
    failed = {
        g.id: why for g, a in zip(groups, answers, strict=True) if (why := _failure(a))
    }
    whole = [
        (group, [str(answer) for answer in said])
        for group, said in zip(groups, answers, strict=True)
        if group.id not in failed
    ]
    if len(whole) < 2:
        left = {g.id: "no other group was answered: nothing to compare" for g in groups}
        failed, whole = left | failed, []
    texts = [said for _, said in whole]
    measured = group_stability(texts) if whole else []
    why = _worthless(whole)
    credits = {
        group.id: 0.0 if why[group.id] else max(0.0, float(value))
        for (group, _), value in zip(whole, measured, strict=True)
    }
    return [
        ItemResult(
            suite=SUITE,
            model=name,
            item=group.id,
            credit=credits.get(group.id, 0.0),
            group=group.id.split("/")[1] if "/" in group.id else "",
            given="\n".join(a for a in said if not isinstance(a, Failure)),
            status="failed" if group.id in failed else "scored",
            detail=failed.get(group.id) or why.get(group.id, ""),
        )
        for group, said in zip(groups, answers, strict=True)
    ]


def _failure(answers: Sequence[str | Failure]) -> str:
    return next((a.reason for a in answers if isinstance(a, Failure)), "")


def _worthless(whole: Sequence[tuple[ParaphraseGroup, list[str]]]) -> dict[str, str]:
    """Group to why its answers are worth nothing; empty when they may be."""
    if not whole:
        return {}
    owner = np.repeat(np.arange(len(whole)), [len(said) for _, said in whole])
    alike = likeness([text for _, said in whole for text in said])
    again = ((alike == 1) & (owner[:, None] != owner)).any(axis=1)
    found = {}
    for number, (group, said) in enumerate(whole):
        reasons = map(_no_answer, group.wordings, said)
        found[group.id] = next(filter(None, reasons), "")
        if not found[group.id] and again[owner == number].any():
            found[group.id] = "an answer that another question got too"
    return found


def _no_answer(wording: str, answer: str) -> str:
    """Why the text is no answer to the wording; empty when it may be one."""
    rest = "".join(answer.split()).replace("".join(wording.split()), "")
    if not any(char.isalnum() for char in answer):
        return "an empty answer"
    if not any(char.isalnum() for char in rest):
        return "the question said again"
    return f"garbled: {found}" if (found := garbled(answer)) else ""


def stability_suite(number: int, max_new_tokens: int) -> Suite:
    """At most ``number`` paraphrase groups; every wording is asked."""
    groups = spread(read_paraphrases(), number)
    prompts = [
        user_prompt(f"{group.id}/{i}", wording)
        for group in groups
        for i, wording in enumerate(group.wordings)
    ]

    def run(model: Answering) -> list[ItemResult]:
        found = iter(model.answers(prompts, max_new_tokens))
        answers = [[next(found) for _ in group.wordings] for group in groups]
        return stability_results(groups, answers, name=model.name)

    repeated = [[_REPEATED.format(question=w) for w in g.wordings] for g in groups]
    rule = stability_results(groups, repeated, name="rule")
    return Suite(
        name=SUITE,
        title="the same answer in other words, to that question only",
        axis="dialogue",
        run=run,
        questions={group.id: "\n".join(group.wordings) for group in groups},
        key=str((groups, max_new_tokens)),
        baseline=fmean(one.credit for one in rule),
        baseline_name="the question said again, after a word",
        needs="chat",
    )


@dataclass(frozen=True, slots=True)
class TemperatureSpread:
    """Credit of the same prompts over temperatures and seeds."""

    means: Mapping[float, tuple[float, ...]]
    """Temperature to the mean credit of each seed's answers; 0 is greedy."""
    std: float
    """Standard deviation of a prompt's credits over all draws, its mean."""
    share_changed: float
    """Of the prompts, those whose credit is not the same in every draw."""
    num_items: int
    num_failed: int
    """Prompts left out since an answer did not come or could not be read."""


def temperature_spread(
    model: LocalModel,
    asked: Sequence[Asked],
    *,
    max_new_tokens: int,
    temperatures: Sequence[float] = TEMPERATURES,
    seeds: Sequence[int] = SEEDS,
) -> TemperatureSpread:
    """How far what an answer is worth hangs on chance.

    Every prompt is answered greedily and once for each temperature and seed.
    Raises: ValueError for a model that was not taught to chat, a temperature of 0 or
    less, no temperature or seed, or when no prompt was marked in every draw.
    """
    if not model.chat or not temperatures or min(temperatures) <= 0 or not seeds:
        raise ValueError(
            f"{model.name}: temperatures={list(temperatures)}, seeds={list(seeds)}: "
            "give a chat model, temperatures above 0 (0 is always asked) and seeds"
        )
    greedy = model.answers([one.prompt for one in asked], max_new_tokens)
    fits = [i for i, one in enumerate(greedy) if not isinstance(one, Failure)]
    draws = {(0.0, 0): [greedy[i] for i in fits]}
    for temperature, seed in product(temperatures, seeds) if fits else ():
        draws[temperature, seed] = _sampled(
            model, [asked[i] for i in fits], max_new_tokens, temperature, seed
        )
    rows = [
        [asked[i].mark(said[k]) for said in draws.values()] for k, i in enumerate(fits)
    ]
    credits_QD = np.array(
        [[m.credit for m in row] for row in rows if _marked(row)], ndmin=2
    )
    if not credits_QD.size:
        raise ValueError(f"{model.name}: no prompt was marked in every draw")
    means: dict[float, tuple[float, ...]] = {}
    for (temperature, _), mean in zip(draws, credits_QD.mean(axis=0), strict=True):
        means[temperature] = (*means.get(temperature, ()), float(mean))
    return TemperatureSpread(
        means=means,
        std=fmean(pstdev(row) for row in credits_QD.tolist()),
        share_changed=fmean(len(set(row)) > 1 for row in credits_QD.tolist()),
        num_items=len(credits_QD),
        num_failed=len(asked) - len(credits_QD),
    )


def _marked(row: Sequence[object]) -> bool:
    return not any(isinstance(mark, Failure) for mark in row)


def _sampled(
    model: LocalModel,
    asked: Sequence[Asked],
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[str]:
    tokenizer = model.tokenizer
    rollout = sample_rollout(
        model.network,
        [encode_prompt(tokenizer, one.prompt.messages) for one in asked],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id or 0,
        seed=seed,
    )
    texts = tokenizer.batch_decode(rollout.response_ids(), skip_special_tokens=True)
    return [text.strip() for text in texts]


def option_order_figures(
    model: Answering,
    items: Sequence[ExamItem],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    batch_tokens: int,
) -> dict[str, float]:
    """``option_order_spread`` of one model as figures of the card: accuracy and share.

    Each seed asks the whole exam once.
    Raises: ValueError as ``option_order_spread``.
    """
    found = option_order_spread(
        lambda moved: ask_exam(model, moved, batch_tokens=batch_tokens), items, seeds
    )
    return {
        "mean": found.mean,
        "std": found.std,
        "share_changed": found.share_changed,
        "num_items": found.num_items,
    }
