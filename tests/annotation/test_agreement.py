"""Agreement against values worked out by hand and against scipy and scikit-learn."""

import random
from dataclasses import replace
from math import sqrt

import pytest
from scipy.stats import kendalltau
from sklearn.metrics import cohen_kappa_score

from finllm_utils.annotation.agreement import (
    agreement,
    cohen_kappa,
    equal_share,
    kendall_tau,
    krippendorff_alpha,
)
from finllm_utils.annotation.judgements import read_judgements

PUBLISHED = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Krippendorff (2011), part C: four observers, twelve units, alpha 0.743."""


def test_kappa_by_hand():
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    # observed 35/50 = 0.7; expected 0.5 x 0.6 + 0.5 x 0.4 = 0.5
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1
    assert cohen_kappa(["a", "b"], ["a", "b"]) == 1
    assert cohen_kappa(["a", "a"], ["a", "a"]) is None
    with pytest.raises(ValueError, match="2 and 1 labels"):
        cohen_kappa(["a", "b"], ["a"])


def test_alpha_by_hand_and_as_published():
    # 1 unlike pair counted both ways over m - 1 = 1: 2; labels 3 a, 3 b: 36 - 18 = 18
    units = [{"x": "a", "y": "a"}, {"x": "a", "y": "b"}, {"x": "b", "y": "b"}]
    assert krippendorff_alpha(units) == pytest.approx(1 - 5 * 2 / 18)
    alone = {"x": "c"}  # nobody to agree with: changes nothing
    assert krippendorff_alpha([*units, alone]) == krippendorff_alpha(units)
    assert krippendorff_alpha([{"x": "a", "y": "a"}]) is None
    rows = [line.split() for line in PUBLISHED.strip().splitlines()]
    published = [
        {str(r): label for r, label in enumerate(column) if label != "."}
        for column in zip(*rows, strict=True)
    ]
    assert krippendorff_alpha(published) == pytest.approx(0.743, abs=5e-4)
    for scale, alpha in (("ordinal", 0.815), ("interval", 0.849)):
        numbers = [{r: int(n) for r, n in unit.items()} for unit in published]
        assert krippendorff_alpha(numbers, scale) == pytest.approx(alpha, abs=5e-4)
        assert krippendorff_alpha([{"x": 1, "y": 1}], scale) is None
    with pytest.raises(ValueError, match="scale is 'ratio': give nominal, ordinal or"):
        krippendorff_alpha(numbers, "ratio")


def test_the_ordinal_alpha_knows_the_order_and_no_distance():
    units = [{"x": 1, "y": 2}, {"x": 2, "y": 3}, {"x": 3, "y": 3}, {"x": 1, "y": 1}]
    far = [{r: 9**n for r, n in unit.items()} for unit in units]
    swapped = [{r: (n + 1) % 3 for r, n in unit.items()} for unit in units]
    alpha = krippendorff_alpha(units, "ordinal")
    # 3 ones, 2 twos, 3 threes: middle ranks 1.5, 4, 6.5. Observed 2 x 6.25 twice: 25;
    # expected 2 x (3x2x6.25 + 3x3x25 + 2x3x6.25) = 600
    assert alpha == pytest.approx(1 - 7 * 25 / 600)
    assert krippendorff_alpha(far, "ordinal") == alpha
    assert krippendorff_alpha(far, "interval") != pytest.approx(alpha)
    assert krippendorff_alpha(swapped, "ordinal") < alpha - 0.1
    assert krippendorff_alpha(swapped) == krippendorff_alpha(units)


def test_equal_share_by_hand():
    units = [{"x": 1, "y": 1, "z": 2}, {"x": 1, "y": 1}, {"x": 3}]
    assert equal_share(units) == 2 / 4  # of the pairs xy, xz, yz, xy
    with pytest.raises(ValueError, match="two raters"):
        equal_share([{"x": 3}])


def test_tau_by_hand():
    assert kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([0, 1, 1], [0, 1, 2]) == pytest.approx(2 / sqrt(2 * 3))
    assert kendall_tau([0, 0, 0], [0, 1, 2]) is None
    with pytest.raises(ValueError, match="3 and 2 ranks"):
        kendall_tau([1, 2, 3], [1, 2])


def test_kappa_and_tau_equal_the_libraries():
    rng = random.Random(0)
    for _ in range(30):
        first, second = ([rng.randrange(4) for _ in range(9)] for _ in range(2))
        assert cohen_kappa(first, second) == pytest.approx(
            cohen_kappa_score(first, second)
        )
        assert kendall_tau(first, second) == pytest.approx(
            kendalltau(first, second).statistic
        )


def verdicts(open_session, items, **choices):
    """rater -> item id -> choice by name; the verdicts as recorded."""
    for rater, by_item in choices.items():
        session = open_session([i for i in items if i.id in by_item], rater=rater)
        while shown := session.next():
            names = {text: n for n, text in enumerate(shown.texts, 1)}
            item = next(i for i in items if set(i.texts.values()) == set(names))
            choice = by_item[item.id]
            if isinstance(choice, list):
                choice = [[names[item.texts[n]] for n in group] for group in choice]
            session.judge(choice)
    return read_judgements(session.path)


def test_two_raters_of_documents(items_of, open_session):
    items = items_of("keep_drop", 5)
    a = {"id-0": "keep", "id-1": "keep", "id-2": "drop", "id-3": "drop", "id-4": "keep"}
    b = {"id-0": "keep", "id-1": "drop", "id-2": "drop", "id-3": "drop"}
    found = agreement(verdicts(open_session, items, a=a, b=b))
    assert (found.num_items, found.equal_share) == (4, 0.75)
    # expected by chance: 2/4 x 1/4 + 2/4 x 3/4 = 0.5
    assert found.kappa == pytest.approx(0.5)
    # labels 3 keep, 5 drop: 64 - 34 = 30 unlike; 2 observed
    assert found.alpha == pytest.approx(1 - 7 * 2 / 30)
    assert found.tau is None and found.rater_kinds == {"a": "human", "b": "human"}


def test_three_raters_have_alpha_but_no_kappa(items_of, open_session):
    items = items_of("keep_drop", 2)
    same = {"id-0": "keep", "id-1": "drop"}
    other = {"id-0": "keep", "id-1": "keep"}
    found = agreement(verdicts(open_session, items, a=same, b=same, c=other))
    assert found.kappa is None and found.equal_share == 4 / 6
    # unit 2: 9 - 5 = 4 unlike over 2; labels 4 keep, 2 drop: 36 - 20 = 16
    assert found.alpha == pytest.approx(1 - 5 * 2 / 16)


def test_rankings_agree_pair_by_pair(items_of, open_session):
    items = items_of("rank", 1)
    a = {"id-0": [["m1"], ["m2"], ["m3"], ["m4"]]}
    b = {"id-0": [["m1"], ["m3"], ["m2"], ["m4"]]}
    found = agreement(verdicts(open_session, items, a=a, b=b))
    assert (found.num_items, found.equal_share) == (1, pytest.approx(5 / 6))
    assert found.tau == pytest.approx(4 / 6)


def test_graded_pairs_by_hand(items_of, grade):
    items = items_of("graded", 4)
    a = {"id-0": ("ours", 3), "id-1": ("theirs", 1), "id-2": ("theirs", 0)}
    b = {"id-0": ("ours", 2), "id-1": ("theirs", 1), "id-2": ("ours", 1)}
    records = grade(items, a | {"id-3": ("ours", 3)}, rater="a")
    records += grade(items, b, rater="b")
    orders = {j.rater: {j.item: j.shown for j in records} for j in records}
    assert {len(set(shown.values())) for shown in orders.values()} == {2}
    found = agreement(records)
    # signed: (3, 2), (-1, -1), (-0.5, 1)
    assert (found.num_items, found.equal_share) == (3, pytest.approx(1 / 3))
    assert found.same_side_share == pytest.approx(2 / 3) and found.tau is None
    # two units with 2 unlike ordered pairs; 36 - (1 + 1 + 4 + 1 + 1) = 28
    assert found.alpha == pytest.approx(1 - 5 * 4 / 28)
    # observed 2 x 1 + 2 x 1.5^2 = 6.5; expected 2 x (6 x 16.25 - 3.5^2) = 170.5
    assert found.interval_alpha == pytest.approx(1 - 5 * 6.5 / 170.5)
    # middle ranks 1, 1, 2.5, 3.5, 4.5, 5.5: observed 2 + 2, expected 2 (6 x 71 - 18^2)
    assert found.ordinal_alpha == pytest.approx(1 - 5 * 4 / 204)
    # by chance: of 9 pairs of a's 3, -1, -0.5 with b's 2, -1, 1 one is equal
    assert found.kappa == pytest.approx((1 / 3 - 1 / 9) / (1 - 1 / 9))


def test_only_graded_pairs_have_levels(items_of, open_session):
    items = items_of("ab", 2)
    same = {"id-0": "tie", "id-1": "tie"}
    found = agreement(verdicts(open_session, items, a=same, b=same))
    assert (found.same_side_share, found.ordinal_alpha) == (None, None)
    assert found.interval_alpha is None


def test_what_has_no_agreement(items_of, open_session):
    items = items_of("keep_drop", 2)
    one = verdicts(open_session, items, a={"id-0": "keep"}, b={"id-1": "keep"})
    with pytest.raises(ValueError, match="no item has verdicts of two raters"):
        agreement(one)
    with pytest.raises(ValueError, match="one task and one round"):
        agreement([*one, replace(one[0], round=2)])
    with pytest.raises(ValueError, match="rewritten texts"):
        agreement([replace(one[0], task="rewrite", verdict="新")])
    with pytest.raises(ValueError, match="rewritten texts"):
        agreement([replace(one[0], task="rewrite", action="accept", verdict=None)])
    changed = replace(one[0], rater="b", text_sha256="0")
    with pytest.raises(ValueError, match="no item has verdicts"):
        agreement([one[0], changed])  # the same id, another text
