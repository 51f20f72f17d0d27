"""Every branch of the verdict on arrays made by hand, and how often it errs."""

import numpy as np
import pytest

from finllm_utils.evals.acceptance import rule as acc
from finllm_utils.evals.acceptance.rule import Measure, accept

FAST = {"num_bootstrap": 1000, "seed": 0}
NATS = np.linspace(80.0, 120.0, 40)
NONE, HALF, ALL = np.zeros(60), np.tile([0.0, 1.0], 30), np.ones(60)


def bits(factor: float = 1.0, **changes) -> Measure:
    """40 documents of 100 bytes; every document changes by the factor, nearly."""
    wobble = 1 + 0.001 * np.tile([-1.0, 1.0], 20)
    settings = dict(
        name="bits", kind="ability", before=NATS, after=NATS * factor * wobble,
        weights=np.full(40, 100 * np.log(2)), higher_is_better=False,
        relative=True, tolerance=0.02,
    )  # fmt: skip
    return Measure(**settings | changes)


def ability(before, after, **changes) -> Measure:
    settings = dict(name="exam", kind="ability", margin=0.05, chance=0.25)
    return Measure(**settings | {"before": before, "after": after} | changes)


def gain(name: str, before=NONE, after=HALF, **changes) -> Measure:
    return Measure(name=name, kind="gain", before=before, after=after, **changes)


def three_gains(**changes: Measure) -> list[Measure]:
    found = {name: gain(name) for name in acc.REQUIRED}
    return list((found | changes).values())


def words(result: acc.Acceptance) -> dict[str, str]:
    return {f.measure.name: f.word for f in result.findings}


def test_abilities_kept_and_three_gains_are_accepted():
    result = accept([bits(1.01), ability(ALL, ALL), *three_gains()], **FAST)
    assert result.verdict == "accepted"
    assert words(result) == {
        "bits": "unchanged", "exam": "unchanged", "safety": "better",
        "helpfulness": "better", "stability": "better",
    }  # fmt: skip
    assert result.grounds == ("bits", "exam", *acc.REQUIRED)


def test_bits_per_byte_three_percent_worse_are_rejected():
    result = accept([bits(1.03), *three_gains()], **FAST)
    assert (result.verdict, result.grounds) == ("rejected", ("bits",))
    assert result.findings[0].difference == pytest.approx(0.03, abs=1e-4)
    assert result.findings[0].gain == pytest.approx(-0.03, abs=1e-4)


def test_bits_per_byte_at_the_tolerance_decide_nothing():
    noise = 1.02 + 0.02 * np.tile([-1.0, 1.0], 20)
    at = bits(after=NATS * noise)
    result = accept([at, *three_gains()], **FAST)
    assert (result.verdict, result.grounds) == ("undecided", ("bits",))


def test_fewer_bits_are_better():
    assert words(accept([bits(0.9), *three_gains()], **FAST))["bits"] == "better"


def test_an_exam_that_fell_is_rejected_though_the_margin_holds():
    before = np.ones(1000)
    after = before - (np.arange(1000) % 50 == 0)  # 2% fewer, far within the margin
    one = ability(before, after)
    assert accept([one, *three_gains()], **FAST).verdict == "rejected"
    allowed = ability(before, after, tolerance=0.03)
    assert accept([allowed, *three_gains()], **FAST).verdict == "accepted"


def test_an_exam_at_chance_is_undecided_and_says_so():
    quarter = np.tile([1.0, 0, 0, 0], 25)
    result = accept([bits(), ability(quarter, quarter), *three_gains()], **FAST)
    assert (result.verdict, result.grounds) == ("undecided", ("exam",))
    assert result.findings[1].note == "at chance before"
    better = ability(quarter, np.ones(100))
    assert words(accept([better, *three_gains()], **FAST))["exam"] == "undecided"
    known = ability(quarter, quarter, chance=0.0)
    assert accept([bits(), known, *three_gains()], **FAST).verdict == "accepted"


def test_one_required_gain_that_does_not_rise_leaves_it_undecided():
    flat = three_gains(safety=gain("safety", HALF, HALF))
    result = accept([bits(), *flat], **FAST)
    assert (result.verdict, result.grounds) == ("undecided", ("safety",))
    some = ("helpfulness", "stability")
    assert accept([bits(), *flat], required=some, **FAST).verdict == "accepted"


@pytest.mark.parametrize("name", [*acc.REQUIRED, "not required"])
def test_any_gain_that_falls_is_rejected(name):
    fallen = three_gains(**{name: gain(name, HALF, NONE)})
    result = accept([bits(), *fallen], **FAST)
    assert (result.verdict, result.grounds) == ("rejected", (name,))


def test_a_watched_measure_decides_nothing():
    seen = Measure(name="spread", kind="watch", before=HALF, after=NONE)
    result = accept([bits(), *three_gains(), seen], **FAST)
    assert result.verdict == "accepted" and "spread" not in result.grounds
    assert words(result)["spread"] == "lower"


def test_few_items_decide_nothing():
    few = gain("safety", np.ones(19), np.zeros(19))
    result = accept([bits(), *three_gains(safety=few)], **FAST)
    assert result.verdict == "undecided" and result.findings[1].note == "under 20 items"
    enough = gain("safety", np.ones(20), np.zeros(20))
    assert accept([bits(), *three_gains(safety=enough)], **FAST).verdict == "rejected"


def test_items_that_never_changed_still_leave_room_for_doubt():
    """Of 24 items without a change up to 3 in 24 may change: more than the margin."""

    def word(number: int) -> str:
        one = ability(np.ones(number), np.ones(number))
        return words(accept([one, *three_gains()], **FAST))["exam"]

    assert (word(24), word(100)) == ("undecided", "unchanged")


def test_four_of_twenty_worse_is_no_proof_yet():
    """The sign test gives 1 in 16; the plain bootstrap of such data 1 in 87."""
    after = np.ones(20) - (np.arange(20) < 4)
    result = accept([bits(), *three_gains(safety=gain("safety", np.ones(20), after))])
    assert words(result)["safety"] == "undecided"


def test_more_measures_make_rejection_harder_and_leave_the_interval():
    noise = np.random.default_rng(3).normal(0, 1, 100)
    fallen = gain("safety", np.zeros(100), noise - noise.mean() - 0.27)  # 2.7 errors
    alone = accept([bits(), fallen], required=(), **FAST)
    extra = [gain(f"more {i}", HALF, HALF) for i in range(40)]
    among = accept([bits(), fallen, *extra], required=(), **FAST)
    assert (alone.verdict, among.verdict) == ("rejected", "accepted")
    assert among.findings[1].interval == alone.findings[1].interval
    assert among.findings[1].interval[1] < 0


def test_the_table_and_the_report_keys():
    result = accept([bits(1.01), *three_gains()], **FAST)
    row = acc.acceptance_table(result)[0]
    assert list(row) == [
        "name", "kind", "n", "before", "after", "difference", "low", "high",
        "finding", "note",
    ]  # fmt: skip
    assert row["n"] == 40 and row["before"] == pytest.approx(1 / np.log(2))
    assert row["after"] == pytest.approx(1.01 / np.log(2), rel=1e-4)
    assert row["low"] < row["difference"] < row["high"] < 0.02
    rejected = accept([bits(1.03), *three_gains()], **FAST)
    assert acc.report_figures(result, rejected) == {
        "accept.verdict": 1.0, "accept.safety_gain": 0.5,
        "accept.helpfulness_gain": 0.5, "accept.stability_gain": 0.5,
        "accept.hacked_rejected": 1.0,
    }  # fmt: skip
    assert acc.report_figures(rejected, result)["accept.verdict"] == -1
    assert acc.report_figures(rejected, result)["accept.hacked_rejected"] == 0
    assert "accept.hacked_rejected" not in acc.report_figures(result)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"kind": "skill"}, "kind 'skill'; use ability, gain, watch"),
        ({"after": NATS[1:]}, "do not pair"),
        ({"weights": np.ones(3)}, "do not pair"),
        ({"before": [], "after": [], "weights": None}, "do not pair"),
        ({"after": np.full(40, np.nan)}, "not finite"),
        ({"weights": np.zeros(40)}, "weights must add up"),
        ({"before": np.zeros(40)}, "relative needs"),
        ({"kind": "gain"}, "belong to abilities"),
        ({"margin": 0.01}, "needs 0 <= tolerance 0.02 <= margin 0.01"),
        ({"tolerance": -0.1, "margin": 0.0}, "needs 0 <= tolerance"),
    ],
)
def test_a_measure_that_cannot_be_judged_is_named(changes, fault):
    with pytest.raises(ValueError, match="measure 'bits'") as caught:
        bits(**changes)
    assert fault in str(caught.value)


def test_incomplete_measures_are_refused():
    with pytest.raises(ValueError, match="no ability"):
        accept(three_gains())
    with pytest.raises(ValueError, match="two measures are named 'safety'"):
        accept([bits(), *three_gains(), gain("safety")])
    with pytest.raises(ValueError, match="required stability not among the gains"):
        accept([bits(), gain("safety"), gain("helpfulness")])


MOST = 500 * 0.025 + 2 * (500 * 0.025) ** 0.5
"""Of 500 verdicts: 2.5%, and two standard errors of the count above it."""
OFTEN = {"num_bootstrap": 2000, "seed": 0}


def _equal(random: np.random.Generator) -> list[Measure]:
    """Two models of the same abilities and gains: only chance tells them apart.

    58 that pass or fail get two pairs more, so that all measures share resamples.
    """
    nats = random.gamma(4.0, 25.0, 60)
    right, safe = random.random((2, 2, 58)) < 0.7
    return [
        bits(before=nats, after=nats * random.normal(1, 0.05, 60), weights=None),
        ability(*(right * 1.0), chance=None),
        gain("safety", *(safe * 1.0)),
        gain("helpfulness", np.zeros(60), random.normal(0, 1.0, 60)),
        gain("stability", np.zeros(60), random.normal(0, 1.0, 60)),
    ]


def test_equal_models_are_seldom_rejected_and_never_accepted():
    random = np.random.default_rng(0)
    verdicts = [accept(_equal(random), **OFTEN).verdict for _ in range(500)]
    assert 0 < verdicts.count("rejected") <= MOST
    assert verdicts.count("accepted") == 0


def test_a_fall_of_just_the_tolerance_is_seldom_accepted():
    """All else is far better, so bits per byte alone decide."""
    random, verdicts = np.random.default_rng(1), []
    rises = [gain(n, np.zeros(60), np.full(60, 2.0)) for n in acc.REQUIRED]
    for _ in range(500):
        nats = random.gamma(4.0, 25.0, 60)
        after = nats * random.normal(1.02, 0.05, 60)
        at = bits(before=nats, after=after, weights=None)
        verdicts.append(accept([at, *rises], **OFTEN).verdict)
    assert 0 < verdicts.count("accepted") <= MOST
    assert verdicts.count("rejected") <= MOST
