"""What one model did on one item: the record that every suite leaves and compares by.

A suite's score is the mean credit of its *scored* items. An item that could not be
asked (a time-out, an answer nobody can read) is "failed": it is counted and shown, and
is never a wrong answer. ``paired_scores`` compares models item by item.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from finllm_utils.evals.statistics.bootstrap import bootstrap_ratio
from finllm_utils.intervals import Interval

STATUSES = ("scored", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemResult:
    """One model's result on one item.

    ``credit`` lies in [0, 1]; a failed item has credit 0, a reason in ``detail`` and
    stays out of every mean. ``group`` is what a table splits by (a subject, a rule).
    """

    suite: str
    model: str
    item: str
    credit: float
    group: str = ""
    given: str = ""
    expected: str = ""
    status: str = "scored"
    detail: str = ""

    def __post_init__(self) -> None:
        where = f"{self.suite}, {self.item}"
        if self.status not in STATUSES:
            raise ValueError(f"{where}: status {self.status!r}; use scored or failed")
        if not 0 <= self.credit <= 1:
            raise ValueError(f"{where}: credit {self.credit} is outside [0, 1]")
        if self.status == "failed" and (self.credit or not self.detail):
            raise ValueError(f"{where}: a failed item has no credit and says why")


@dataclass(frozen=True, slots=True)
class SuiteScore:
    """A model's mean credit on a suite, its interval, and how many items stand behind.

    ``value`` and ``interval`` are None when no item could be scored.
    """

    value: float | None
    interval: Interval | None
    num_scored: int
    num_failed: int


def suite_score(
    results: Sequence[ItemResult], *, num_bootstrap: int, seed: int
) -> SuiteScore:
    """Mean credit of the scored items with a bootstrap interval over items."""
    credits = [r.credit for r in results if r.status == "scored"]
    failed = len(results) - len(credits)
    if not credits:
        return SuiteScore(None, None, 0, failed)
    interval = bootstrap_ratio(credits, num_bootstrap=num_bootstrap, seed=seed)
    return SuiteScore(sum(credits) / len(credits), interval, len(credits), failed)
