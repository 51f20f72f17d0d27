"""How far judges of safety agree: with the labels, with each other, reader with reader.

``labelled_agreement`` measures a judge by the labels, ``judges_agree`` two judges by
each other, ``readers_agree`` the labels by a second reading. Every share carries
Wilson's interval; an answer on which a judge failed is counted and otherwise left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finllm_utils.annotation.agreement import cohen_kappa
from finllm_utils.evals.models.prompts import Failure
from finllm_utils.evals.tasks.hallucination import Share
from finllm_utils.evals.tasks.safety import (
    PARTS,
    Judge,
    LabelledAnswer,
    SafetyItem,
    SecondLabel,
    rule_judge,
)
from finllm_utils.intervals import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeAgreement:
    """How far a judge's verdicts agree with labels, or with another judge's."""

    accuracy: Share
    kappa: float
    """Cohen's, -1 to 1; 0 is chance."""
    kappa_interval: Interval
    """At 95%, percentiles over resampled answers."""
    false_safe: Share
    """Of the answers labelled unsafe: called safe. The costly error."""
    false_unsafe: Share
    """Of the answers labelled safe: called unsafe."""
    num_failed: int
    """Answers without a verdict; they are in none of the figures above."""


def agreement(
    labels: Sequence[bool | None],
    verdicts: Sequence[bool | None],
    *,
    num_bootstrap: int = 1_000,
    seed: int = 0,
) -> JudgeAgreement:
    """Compares verdicts with labels, both true for safe, None for none.

    Raises: ValueError when they do not pair, or the labels of the answers that have a
    verdict are all the same.
    """
    both = [
        (label, verdict)
        for label, verdict in zip(labels, verdicts, strict=False)
        if label is not None and verdict is not None
    ]
    if len(labels) != len(verdicts) or len({label for label, _ in both}) < 2:
        raise ValueError(
            f"{len(labels)} labels and {len(verdicts)} verdicts, {len(both)} of them "
            "given: give a verdict for each, and answers of both labels"
        )
    pairs = np.array(both, dtype=bool).T
    random = np.random.default_rng(seed)
    kappas = []
    for _ in range(num_bootstrap):
        drawn = pairs[:, random.integers(len(both), size=len(both))].tolist()
        if (kappa := cohen_kappa(*drawn)) is not None:
            kappas.append(kappa)
    low, high = np.percentile(kappas, [2.5, 97.5])
    unsafe, safe = pairs[:, ~pairs[0]][1], pairs[:, pairs[0]][1]
    return JudgeAgreement(
        accuracy=Share(int((pairs[0] == pairs[1]).sum()), len(both)),
        kappa=cohen_kappa(*pairs.tolist()),
        kappa_interval=(float(low), float(high)),
        false_safe=Share(int(unsafe.sum()), len(unsafe)),
        false_unsafe=Share(int((~safe).sum()), len(safe)),
        num_failed=len(labels) - len(both),
    )


def verdicts_on(
    prompts: Sequence[SafetyItem], labelled: Sequence[LabelledAnswer], judge: Judge
) -> list[bool | None]:
    """Whether the judge calls each answer safe; None where it failed."""
    items = {item.id: item for item in prompts}
    verdicts = judge(
        [items[row.prompt_id] for row in labelled], [row.answer for row in labelled]
    )
    return [None if isinstance(v, Failure) else v.safe for v in verdicts]


def labelled_agreement(
    prompts: Sequence[SafetyItem],
    labelled: Sequence[LabelledAnswer],
    judge: Judge = rule_judge,
) -> dict[str, JudgeAgreement]:
    """``agreement`` of a judge with the labels on each part, dev and test."""
    found = {}
    for part in PARTS:
        rows = [row for row in labelled if row.part == part]
        labels = [row.label == "safe" for row in rows]
        found[part] = agreement(labels, verdicts_on(prompts, rows, judge))
    return found


def judges_agree(
    prompts: Sequence[SafetyItem],
    labelled: Sequence[LabelledAnswer],
    judge: Judge,
    reference: Judge = rule_judge,
) -> JudgeAgreement:
    """How far ``judge`` agrees with ``reference`` on the answers of the test part.

    Their labels play no role: the reference stands in their place, so that false_safe
    is what the judge calls safe and the reference unsafe.
    Raises: ValueError when the reference gives all of them one verdict.
    """
    rows = [row for row in labelled if row.part == "test"]
    return agreement(
        verdicts_on(prompts, rows, reference), verdicts_on(prompts, rows, judge)
    )


def readers_agree(
    labelled: Sequence[LabelledAnswer], second: Sequence[SecondLabel]
) -> dict[str, JudgeAgreement]:
    """``agreement`` of a second reading (``read_second``) with the labels, by part."""
    found = {}
    for part in PARTS:
        pairs = [
            (row.label == "safe", other.label == "safe")
            for row, other in zip(labelled, second, strict=True)
            if row.part == part
        ]
        found[part] = agreement(*zip(*pairs, strict=True))
    return found
