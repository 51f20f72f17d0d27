"""Scores an item: figures, pairs, and a p-value that heeds all comparisons."""

import math

import numpy as np
import pytest

from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.statistics.many_changes import sign_test
from finllm_utils.evals.statistics.paired_scores import (
    Comparison,
    ItemScore,
    adjusted_changes,
    document_scores,
    figure_of,
    item_scores,
    items_digest,
    shared_items,
    sign_flip_test,
)

RESAMPLING = {"num_bootstrap": 200, "seed": 0}


def scores(*values, **more):
    return [ItemScore(item=f"i{n:02d}", value=v, **more) for n, v in enumerate(values)]


def test_documents_give_bits_per_byte():
    figure = figure_of(
        document_scores(["a", "b"], [8 * math.log(2), 4 * math.log(2)], [4, 8]),
        **RESAMPLING,
    )
    assert figure.value == pytest.approx(1.0)  # 12 bits on 12 bytes
    assert (figure.num_scored, figure.num_failed) == (2, 0)


def test_nats_that_are_not_finite_have_failed():
    broken = document_scores(["a", "b"], [math.nan, 2 * math.log(2)], [4, 2])
    figure = figure_of(broken, **RESAMPLING)
    assert (figure.value, figure.num_scored, figure.num_failed) == (1.0, 1, 1)
    assert broken[0].detail == "nan nats"


def test_failed_results_have_no_value():
    good = ItemResult(suite="s", model="m", item="a", credit=0.5, given="B")
    lost = ItemResult(
        suite="s", model="m", item="b", credit=0, status="failed", detail="429"
    )
    made = item_scores([good, lost], {"a": "问"})
    assert [one.value for one in made] == [0.5, None]
    assert made[0].question == "问" and made[1].detail == "429"
    none = figure_of(made[1:], **RESAMPLING)
    assert (none.value, none.interval, none.num_failed) == (None, None, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": None},
        {"value": math.inf},
        {"value": 1.0, "weight": 0.0},
        {"value": 1.0, "weight": math.nan},
    ],
)
def test_a_score_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^x: "):
        ItemScore(item="x", **wrong)


def test_digest_knows_items_questions_and_weights_but_no_order():
    base = scores(0, 1)
    assert items_digest(base) == items_digest(scores(1, 0)[::-1])
    assert items_digest(base) != items_digest(scores(0, 1, 1))
    assert items_digest(base) != items_digest(scores(0, 1, question="q"))
    assert items_digest(base) != items_digest(scores(0, 1, weight=2.0))
    with pytest.raises(ValueError, match="'i00' stands twice"):
        items_digest([base[0], base[0]])


def test_pairs_are_the_items_scored_in_both():
    before = scores(0, 1) + [ItemScore(item="z", value=None, detail="timed out")]
    after = [ItemScore(item="z", value=1.0), *scores(1, 1)[::-1]]
    assert [(a.value, b.value) for a, b in shared_items(before, after)] == [
        (0, 1),
        (1, 1),
    ]
    with pytest.raises(ValueError, match="'i00' is not the same in both"):
        shared_items(scores(0, expected="A"), scores(0, expected="B"))


def test_sign_flips_by_hand():
    assert sign_flip_test([0, 0]) == 1.0
    assert sign_flip_test([1, 2, 3]) == 0.25  # only +++ and --- reach 6
    assert sign_flip_test([1, 2, -3]) == 1.0  # every sum reaches 0
    assert sign_flip_test([3, 4, -1]) == 0.5  # +++, ++-, and their opposites
    # right and wrong: exact, however many
    assert sign_flip_test([1] * 30 + [-1] * 20 + [0] * 9) == sign_test(30, 20)
    # 20 gaps: z = 20 * 1.5 / sqrt(10 * (1 + 4)) = 4.2426
    gaps = [1.0] * 10 + [2.0] * 10
    assert sign_flip_test(gaps) == pytest.approx(math.erfc(30 / math.sqrt(2 * 50)))


def test_words_hold_for_all_comparisons_together():
    """6 of 6 items gained has p = 2/64: clear alone, not beside a second comparison."""
    gained = Comparison(scores(*[0] * 6), scores(*[1] * 6), False)
    still = Comparison(scores(0, 1), scores(0, 1), False)
    one = adjusted_changes({"a": gained}, **RESAMPLING)["a"]
    assert (one.word, one.p_value, one.num_gained) == ("better", 2 / 64, 6)
    two = adjusted_changes({"a": gained, "b": still}, **RESAMPLING)
    assert two["a"].adjusted_p == 4 / 64 and two["a"].word == "no clear change"
    assert two["a"].change.word == "better", "its own interval still leaves zero out"
    falling = Comparison(scores(*[2.0] * 9), scores(*[1.0] * 9), True)
    fell = adjusted_changes({"a": falling}, **RESAMPLING)["a"]
    assert (fell.word, fell.num_gained, fell.num_lost) == ("better", 9, 0)
    nothing = Comparison(scores(1), [ItemScore(item="other", value=1.0)], False)
    assert adjusted_changes({"a": nothing}, **RESAMPLING) == {}
    odd = Comparison(scores(0, expected="A"), scores(0, expected="B"), False)
    with pytest.raises(ValueError, match="exam.*i00"):
        adjusted_changes({"exam": odd}, **RESAMPLING)


@pytest.mark.parametrize("kind", ["right or wrong", "nats"])
def test_models_that_are_alike_are_rarely_called_different(kind):
    """At a level of 5%: at most 6.5% of 1,000 pairs of equal models."""
    random = np.random.default_rng(0)

    def gaps():
        if kind == "nats":
            return random.lognormal(4, 1, 40) * random.standard_t(3, 40)
        first, second = random.random((2, 60)) < 0.4
        return first.astype(float) - second

    assert 0.01 < np.mean([sign_flip_test(gaps()) <= 0.05 for _ in range(1000)]) < 0.065
