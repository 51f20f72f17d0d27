"""What was judged, precision with its interval, pairs for preference training."""

from dataclasses import replace

import pytest

from finllm_utils.annotation.judgements import Item, read_judgements
from finllm_utils.annotation.results import (
    first_side_share,
    judged_items,
    precision_with_interval,
    preference_pairs,
)


@pytest.fixture
def pool():
    return [
        Item(id=f"{reason}-{i}", task="keep_drop", texts={"text": str(i)}, reason=reason)
        for reason, number in (("short", 40), ("ads", 3), ("kept", 40))
        for i in range(number)
    ]  # fmt: skip


def test_what_was_judged_leaves_out_skipped_and_undone_items(pool, open_session):
    session = open_session(pool[:23])
    aside = session.skip().item
    while session.next():
        session.judge("drop")
    undone = session.undo().item
    done = judged_items(read_judgements(session.path))
    assert done == {i.id for i in pool[:23]} - {aside, undone}


def test_what_was_accepted_or_rejected_was_judged(items_of, open_session):
    session = open_session(items_of("rewrite", 4))
    done = {session.accept().item, session.reject("空话").item}
    session.skip()
    assert judged_items(read_judgements(session.path)) == done


def test_precision_by_reason_by_hand(pool, open_session):
    session = open_session([i for i in pool if i.reason != "ads"][:50])
    while session.next():
        session.judge("drop")
    drops = list(session.judgements())
    short, kept = drops[:40], drops[40:]
    short[:30] = [replace(j, verdict="keep") for j in short[:30]]  # 10 of 40 right
    kept_row, short_row = precision_with_interval(kept + short)
    assert (short_row.reason, short_row.num_right, short_row.num_judged) == (
        "short", 10, 40,
    )  # fmt: skip
    assert (short_row.share, short_row.rater_kind) == (0.25, "human")
    # z^2 = 3.8415: middle (10 + 1.92) / 43.84 = 0.2719,
    # half 1.96 x sqrt(10 x 30 / 40 + 0.9604) / 43.84 = 0.1300
    assert (short_row.low, short_row.high) == pytest.approx((0.1419, 0.4019), abs=1e-4)
    # none of 10: the upper end is z^2 / (10 + z^2)
    assert (kept_row.share, kept_row.low) == (0, 0)
    assert kept_row.high == pytest.approx(3.8415 / 13.8415, abs=1e-4)
    narrow = precision_with_interval(short, level=0.5)[0]
    assert short_row.low < narrow.low < 0.25 < narrow.high < short_row.high


def test_precision_refuses_mixed_figures(pool, open_session):
    j = open_session(pool[:1]).judge("drop")
    with pytest.raises(ValueError, match="no one figure"):
        precision_with_interval([j, replace(j, item="x", rater_kind="model")])
    with pytest.raises(ValueError, match="short-0 has two verdicts"):
        precision_with_interval([j, replace(j, rater="乙")])
    with pytest.raises(ValueError, match="needs keep_drop, not rewrite"):
        precision_with_interval([replace(j, task="rewrite")])
    assert precision_with_interval([]) == []


def test_a_ranking_becomes_pairs(items_of, open_session):
    items = items_of("rank", 1)
    j = replace(
        open_session(items).judge([1, 2, 3, 4]),
        verdict=(("m3",), ("m1", "m4"), ("m2",)),
    )
    pairs = preference_pairs(items, [j])
    assert {p.id: p.margin for p in pairs} == {
        "id-0/阿明/m3>m1": pytest.approx(1 / 3),
        "id-0/阿明/m3>m4": pytest.approx(1 / 3),
        "id-0/阿明/m3>m2": pytest.approx(2 / 3),
        "id-0/阿明/m1>m2": pytest.approx(1 / 3),
        "id-0/阿明/m4>m2": pytest.approx(1 / 3),
    }
    best = next(p for p in pairs if p.id.endswith("m3>m2"))
    assert (best.chosen, best.rejected) == (items[0].texts["m3"], items[0].texts["m2"])
    assert (best.prompt, best.source) == ("什么是国债？", "human:阿明")


def test_ab_verdicts_become_pairs_and_ties_do_not(items_of, open_session):
    items = items_of("ab", 3)
    session = open_session(items)
    won = session.judge(1)
    session.judge("tie")
    session.skip()
    (pair,) = preference_pairs(items, session.judgements())
    item = next(i for i in items if i.id == won.item)
    assert pair.chosen == item.texts[won.shown[0]] and pair.margin == 1
    assert pair.rejected == item.texts[won.shown[1]]
    assert first_side_share(session.judgements()) == 1
    assert first_side_share([]) is None


def test_pairs_need_the_text_that_was_judged(items_of, open_session):
    items = items_of("ab", 1)
    j = open_session(items).judge(1)
    with pytest.raises(ValueError, match="id-0 is not among the items"):
        preference_pairs([], [j])
    with pytest.raises(ValueError, match="id-0 has another text now"):
        preference_pairs([replace(items[0], prompt="改")], [j])
    rejected = open_session(items_of("rewrite", 1), rater="丙").reject("空话")
    with pytest.raises(ValueError, match="rewrite compares no texts"):
        preference_pairs(items_of("rewrite", 1), [rejected])
    with pytest.raises(ValueError, match="needs keep_drop, not rewrite"):
        precision_with_interval([rejected])
    keep = items_of("keep_drop", 1)
    with pytest.raises(ValueError, match="keep_drop compares no texts"):
        preference_pairs(keep, [open_session(keep, rater="乙").judge("keep")])


GRADED = {
    "id-0": (("ours", 3), ("ours", 2), ("ours", 0)),  # median of 3, 2, 0.5
    "id-1": (("theirs", 3), ("theirs", 1), ("ours", 1)),  # -1 of -3, -1, 1
    "id-2": (("ours", 0), ("ours", 0), ("theirs", 2)),  # 0.5
    "id-3": (("ours", 2), ("ours", 0)),  # 1.25, the mean of the two
    "id-4": (("ours", 1), ("theirs", 0)),  # 0.25
    "id-5": (("ours", 3), ("theirs", 3)),  # 0
    "id-6": (("theirs", 3),),
    "id-7": (("theirs", 0),),  # -0.5
    "id-8": (("ours", 1), ("ours", 0)),  # 0.75
}
"""Item -> the verdicts of the raters a, b and c."""


def test_graded_verdicts_become_one_pair_an_item(items_of, grade):
    items = items_of("graded", 9)
    records = []
    for number, rater in enumerate("abc"):
        wanted = {i: said[number] for i, said in GRADED.items() if number < len(said)}
        records += grade(items, wanted, rater=rater, rater_kind="model")
    assert {j.shown for j in records} == {("ours", "theirs"), ("theirs", "ours")}
    pairs = preference_pairs(items, records)
    assert [(p.id, p.margin) for p in pairs] == [
        ("id-0/graded/ours>theirs", pytest.approx(2 / 3)),
        ("id-1/graded/theirs>ours", pytest.approx(1 / 3)),
        ("id-3/graded/ours>theirs", pytest.approx(5 / 12)),
        ("id-6/graded/theirs>ours", 1),
    ]
    texts = items[1].texts
    assert (pairs[1].chosen, pairs[1].rejected) == (texts["theirs"], texts["ours"])
    assert pairs[0].chosen == items[0].texts["ours"]
    assert {p.source for p in pairs} == {"graded by model raters"}
    assert {p.prompt for p in pairs} == {"什么是国债？"}


def test_graded_pairs_name_the_kinds_of_their_raters(items_of, grade):
    items = items_of("graded", 2)
    model = grade(items, {"id-0": ("ours", 2), "id-1": ("ours", 2)}, rater_kind="model")
    human = grade(items, {"id-1": ("ours", 1)}, rater="乙")
    assert [p.source for p in preference_pairs(items, model + human)] == [
        "graded by model raters",
        "graded by human and model raters",
    ]
    (pair,) = preference_pairs(items, human)
    assert pair.source == "graded by human raters"


def test_a_rater_counts_once_in_a_graded_pair(items_of, open_session, grade):
    items = items_of("graded", 1)
    session = open_session(items)
    session.judge("B3")
    session.undo()
    right = session.judge("A3")
    (pair,) = preference_pairs(items, read_judgements(session.path))
    assert pair.chosen == items[0].texts[right.shown[0]]
    again = grade(items, {"id-0": ("ours", 1)}, round=2)
    with pytest.raises(
        ValueError, match="item id-0 has two verdicts of 阿明: give one"
    ):
        preference_pairs(items, [right, *again])
    with pytest.raises(ValueError, match="id-0 has another text now"):
        preference_pairs([replace(items[0], prompt="改")], [right])
    odd = replace(right, shown=("ours", "a"), verdict=("ours", 1))
    with pytest.raises(ValueError, match="id-0 has other sources than were shown"):
        preference_pairs(items, [odd])


def test_the_first_side_counts_graded_pairs_at_every_level(items_of, open_session):
    session = open_session(items_of("graded", 4))
    graded = [session.judge(level) for level in ("A0", "B3", "A1")]
    graded.append(session.skip())
    assert first_side_share(graded) == pytest.approx(2 / 3)
    ab = open_session(items_of("ab", 3), rater="乙")
    mixed = graded + [ab.judge(choice) for choice in ("tie", 2, 1)]
    assert first_side_share(mixed) == pytest.approx(3 / 5)
