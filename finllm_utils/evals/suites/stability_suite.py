"""Stability as suites of the card: the same answer in other words, and by chance.

``stability_suite`` gives one result a paraphrase group, ``temperature_suite`` one a
question that is answered several times. A model that says one thing to everyone is
stable and useless, so answers that are no answers earn nothing, and neither does one
that another question got too. Orders of options: ``option_order``.
"""

from collections.abc import Sequence
from itertools import product
from statistics import fmean

import numpy as np

from finllm_utils.evals.models.local import LocalModel, require_weights
from finllm_utils.evals.models.prompts import Answering, Failure, Prompt, user_prompt
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.suites.suite import Suite
from finllm_utils.evals.tasks.following import spread
from finllm_utils.evals.tasks.safety_rules import garbled
from finllm_utils.evals.tasks.stability import (
    ParaphraseGroup,
    group_stability,
    likeness,
    read_paraphrases,
)
from finllm_utils.rlhf.rollout import sample_rollout
from finllm_utils.train.sft import encode_prompt

SUITE, HEATED = "stability", "stability_temperature"
TEMPERATURES = (0.7, 1.0)
SEEDS = (0, 1)
DRAWS = len(TEMPERATURES) * len(SEEDS)
_REPEATED = "好的：{question}"


def stability_results(
    groups: Sequence[ParaphraseGroup],
    answers: Sequence[Sequence[str | Failure]],
    *,
    name: str,
    suite: str = SUITE,
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
            suite=suite,
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


def temperature_suite(number: int, max_new_tokens: int) -> Suite:
    """The first wording of at most ``number`` paraphrase groups, answered by chance.

    Each is answered greedily, and once for each of ``TEMPERATURES`` and ``SEEDS``;
    credit is that of ``stability_results``, with draws in the place of wordings.
    """
    questions = [
        ParaphraseGroup(id=g.id, question=g.question, paraphrases=(g.question,) * DRAWS)
        for g in spread(read_paraphrases(), number)
    ]

    def run(model: Answering) -> list[ItemResult]:
        local = require_weights(model)
        prompts = [user_prompt(group.id, group.question) for group in questions]
        greedy = local.answers(prompts, max_new_tokens)
        fits = [i for i, one in enumerate(greedy) if not isinstance(one, Failure)]
        answers: list[list[str | Failure]] = [[one] for one in greedy]
        for temperature, seed in product(TEMPERATURES, SEEDS) if fits else ():
            drawn = _sampled(
                local, [prompts[i] for i in fits], max_new_tokens, temperature, seed
            )
            for i, text in zip(fits, drawn, strict=True):
                answers[i].append(text)
        return stability_results(questions, answers, name=local.name, suite=HEATED)

    repeated = [[_REPEATED.format(question=w) for w in g.wordings] for g in questions]
    rule = stability_results(questions, repeated, name="rule", suite=HEATED)
    return Suite(
        name=HEATED,
        title="the same answer at every temperature, to that question only",
        axis="",  # a rule earns nearly all of it: no ability by itself
        run=run,
        questions={group.id: group.question for group in questions},
        key=str((questions, TEMPERATURES, SEEDS, max_new_tokens)),
        baseline=fmean(one.credit for one in rule),
        baseline_name="the question said again, after a word",
        needs="sampling",
    )


def _sampled(
    model: LocalModel,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[str]:
    tokenizer = model.tokenizer
    rollout = sample_rollout(
        model.network,
        [encode_prompt(tokenizer, prompt.messages) for prompt in prompts],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id or 0,
        seed=seed,
    )
    texts = tokenizer.batch_decode(rollout.response_ids(), skip_special_tokens=True)
    return [text.strip() for text in texts]
