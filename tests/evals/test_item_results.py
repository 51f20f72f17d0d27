import pytest

from finllm_utils.evals.item_results import (
    ItemResult,
    change_between,
    read_item_results,
    suite_score,
    write_item_results,
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


def test_models_are_compared_on_the_items_that_both_were_scored_on():
    before = [one("a", 0), one("b", 0), one("c", 1), FAILED]
    after = [one("c", 1), one("b", 1), one("d", 1)]
    assert change_between(before, after, **RESAMPLING).value == 0.5  # b and c
    with pytest.raises(ValueError, match="no scored item"):
        change_between([FAILED], after, **RESAMPLING)
    with pytest.raises(ValueError, match="'a' stands twice"):
        change_between([one("a", 0), one("a", 1)], after, **RESAMPLING)


def test_records_survive_a_round_trip_and_errors_name_the_line(tmp_path):
    path = tmp_path / "items.jsonl"
    results = [one("a", 0.25, group="银行", given="B", expected="AB"), FAILED]
    write_item_results(path, results)
    assert read_item_results(path) == results
    path.write_text(path.read_text().replace("0.25", "1.5"))
    with pytest.raises(ValueError, match=r"items.jsonl, line 1.*outside \[0, 1\]"):
        read_item_results(path)


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
