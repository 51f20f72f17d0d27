"""A rise that paraphrases do not share is flagged, one that they share is not."""

import pytest

from finllm_utils.evals.exam.contamination import leak_report
from finllm_utils.evals.statistics.item_results import ItemResult


def results(credits, start=0):
    return [
        ItemResult(suite="exam", model="m", item=f"exam/bank/{start + i}", credit=c)
        for i, c in enumerate(credits)
    ]


def report(*sides, **others):
    return leak_report(*map(results, sides), num_bootstrap=500, seed=0, **others)


CHANCE = [1, 0, 0, 0] * 10
SOLVED = [1] * 40


def test_learnt_by_heart_is_flagged():
    found = report(CHANCE, SOLVED, CHANCE, [0, 1, 0, 0] * 10)
    assert found.items.value == 0.75 == found.excess.value
    assert found.paraphrases.value == 0 and found.flagged
    assert found.num_items == 40 and found.others is None
    assert found.sentence().startswith("leaked: items +0.750 [")


def test_a_rise_that_paraphrases_share_in_part_is_still_flagged():
    found = report(CHANCE, SOLVED, CHANCE, [1, 1, 1, 0] * 10)
    assert found.items.word == found.paraphrases.word == "better"
    assert found.excess.value == 0.25 and found.flagged


def test_understood_is_not_flagged():
    found = report(CHANCE, SOLVED, CHANCE, SOLVED)
    assert found.excess.value == 0 and not found.flagged
    assert found.sentence().startswith("no sign of a leak")


def test_getting_worse_on_paraphrases_alone_is_no_leak():
    found = report(CHANCE, CHANCE, SOLVED, CHANCE)
    assert found.excess.word == "better" and not found.flagged


def test_failed_items_are_left_out_and_counted():
    failed = ItemResult(
        suite="exam", model="m", item="exam/bank/3", credit=0,
        status="failed", detail="x",
    )  # fmt: skip
    found = leak_report(
        results([0, 0, 0]) + [failed], results([1, 1, 0, 1]),
        results([0, 0, 0, 0]), results([0, 1, 0, 0]),
        num_bootstrap=50, seed=0,
        others_before=results([0, 1], 10), others_after=results([1, 1], 10),
    )  # fmt: skip
    assert (found.num_items, found.num_failed) == (3, 1)
    assert found.items.value == pytest.approx(2 / 3)
    assert found.excess.value == pytest.approx(1 / 3)
    assert found.others.value == 0.5 and "other items +0.500" in found.sentence()


def test_what_does_not_pair_is_refused():
    with pytest.raises(ValueError, match="no item was scored"):
        leak_report(
            results([1]), results([1]), results([1], 5), results([1], 5),
            num_bootstrap=5, seed=0,
        )  # fmt: skip
    with pytest.raises(ValueError, match="twice"):
        report([1], [1], [1], [1], others_before=results([1]) * 2)
    with pytest.raises(ValueError, match="other items"):
        report([1], [1], [1], [1], others_before=results([1]))
