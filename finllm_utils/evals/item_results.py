"""What one model did on one item: the record that every suite leaves and compares by.

A suite's score is the mean credit of its *scored* items. An item that could not be
asked (a time-out, an answer nobody can read) is "failed": it is counted and shown, and
is never a wrong answer. Two models are compared on the items that both were scored on.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from finllm_utils.evals.bootstrap import Change, bootstrap_ratio, paired_change
from finllm_utils.files import atomic_file
from finllm_utils.intervals import Interval
from finllm_utils.records import numbered_lines

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


def change_between(
    before: Sequence[ItemResult],
    after: Sequence[ItemResult],
    *,
    num_bootstrap: int,
    seed: int,
) -> Change:
    """Paired change of mean credit on the items that both models were scored on.

    Raises: ValueError when they share no scored item, or an item stands twice.
    """
    first, second = _credits(before), _credits(after)
    shared = [item for item in first if item in second]
    if not shared:
        raise ValueError("the two models share no scored item: run the same suite")
    return paired_change(
        [first[item] for item in shared],
        [second[item] for item in shared],
        lower_is_better=False,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )


def _credits(results: Iterable[ItemResult]) -> Mapping[tuple[str, str], float]:
    credits: dict[tuple[str, str], float] = {}
    seen = set()
    for one in results:
        key = (one.suite, one.item)
        if key in seen:
            raise ValueError(f"{one.suite}: item {one.item!r} stands twice")
        seen.add(key)
        if one.status == "scored":
            credits[key] = one.credit
    return credits


def write_item_results(path: Path, results: Iterable[ItemResult]) -> None:
    """Writes one JSON object a line, atomically."""
    with atomic_file(Path(path)) as handle:
        for one in results:
            handle.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")


def read_item_results(path: Path) -> list[ItemResult]:
    """Reads what ``write_item_results`` wrote.

    Raises: ValueError naming file, line and field of what is wrong.
    """
    names = {f.name for f in fields(ItemResult)}
    results = []
    for number, row in numbered_lines(Path(path)):
        where = f"{path}, line {number}"
        if unknown := sorted(set(row) - names):
            raise ValueError(f"{where}: unknown field {unknown[0]!r}")
        try:
            results.append(ItemResult(**row))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from error
    return results
