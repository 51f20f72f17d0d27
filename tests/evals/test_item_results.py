import pytest

from finllm_utils.evals.statistics.item_results import (
    ItemResult,
    suite_score,
)

RESAMPLING = {"num_bootstrap": 200, "seed": 0}


def one(item: str, credit: float, **more) -> ItemResult:
    return ItemResult(suite="exam", model="m", item=item, credit=credit, **more)


FAILED = one("d", 0.0, status="failed", detail="timed out")


def test_a_failed_item_is_counted_and_never_wrong():
    score = suite_score([one("a", 1), one("b", 0), FAILED], **RESAMPLING)
    assert (score.value, score.num_scored, score.num_failed) == (0.5, 2, 1)
    nothing = suite_score([FAILED], **RESAMPLING)
    assert (nothing.value, nothing.interval, nothing.num_failed) == (None, None, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"status": "lost"}, "scored or failed"),
        ({"credit": -0.1}, "outside"),
        ({"status": "failed", "credit": 0.0}, "says why"),
        ({"status": "failed", "detail": "429", "credit": 1.0}, "no credit"),
    ],
)
def test_a_result_that_says_two_things_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        one("a", **({"credit": 0.5} | wrong))
