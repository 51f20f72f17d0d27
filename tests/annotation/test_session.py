"""A round: blind order, verdicts by number, undo, skip, resume, replay."""

from dataclasses import replace

import pytest

from finllm_utils.annotation.judgements import LEVELS, Item, read_judgements
from finllm_utils.annotation.session import replay

RATER = {"rater": "阿明", "round": 1}


def shown_by(session, choice="tie"):
    """What a whole round shows, in order; the round starts from nothing."""
    session.path.unlink(missing_ok=True)
    seen = []
    while shown := session.next():
        seen.append((shown.prompt, shown.texts))
        session.judge(choice)
    return seen


def test_the_order_changes_with_seed_round_and_rater_only(items_of, open_session):
    items = items_of("ab", 12)
    base = shown_by(open_session(items, rater="a"))
    sides = [texts[0].startswith("ours") for _, texts in base]
    assert 0 < sum(sides) < 12, "our side is not always the same"
    for change in ({"seed": 8}, {"round": 2}, {"rater": "b"}):
        (path := open_session(items).path).unlink()
        other = shown_by(open_session(items, **{"rater": "a"} | change))
        assert other != base
        sides_of = {frozenset(t): t for _, t in base}
        assert sides_of.keys() == {frozenset(t) for _, t in other}
        assert any(sides_of[frozenset(t)] != t for _, t in other), change
    path.unlink()
    assert shown_by(open_session(items[::-1], rater="a")) == base


def test_a_resumed_round_goes_on_where_it_stopped(items_of, open_session):
    items = items_of("ab", 8)
    whole = shown_by(open_session(items))
    path = open_session(items).path
    path.unlink()
    pieces = []
    for _ in range(8):  # a new process for every item
        session = open_session(items)
        shown = session.next()
        assert (shown.number, shown.total) == (len(pieces) + 1, 8)
        pieces.append((shown.prompt, shown.texts))
        session.judge("tie")
    assert pieces == whole
    assert open_session(items).next() is None


def test_numbers_become_the_names_behind_them(items_of, open_session):
    session = open_session(items_of("ab"))
    shown = session.next()
    judgement = session.judge(2)
    assert shown.texts[1].startswith(judgement.verdict)
    assert judgement.shown[1] == judgement.verdict
    session = open_session(items_of("rank"))
    session.next()
    judgement = session.judge([3, [1, 4], 2])
    a, b, c, d = judgement.shown
    assert judgement.verdict == ((c,), tuple(sorted((a, d))), (b,))


@pytest.mark.parametrize(
    ("task", "choice"),
    [
        ("keep_drop", "yes"), ("keep_drop", 1), ("rewrite", "  "), ("ab", 3),
        ("ab", 0), ("ab", "ours"), ("ab", True), ("rank", [1, 2, 3]), ("rank", "1234"),
        ("rank", [1, 2, 3, 3]), ("rank", [1, 2, 3, 5]), ("rank", 1), ("graded", "A4"),
        ("graded", "a3"), ("graded", ""), ("graded", 1), ("graded", "tie"),
        ("graded", "C1"), ("graded", ["A3"]), ("graded", "ours"), ("graded", "B-1"),
    ],
)  # fmt: skip
def test_a_wrong_choice_records_nothing(items_of, open_session, task, choice):
    session = open_session(items_of(task))
    with pytest.raises(ValueError):
        session.judge(choice)
    assert session.num_done == 0 and not session.path.exists()


def test_levels_become_the_better_name_and_its_strength(items_of, open_session):
    session = open_session(items_of("graded", 8))
    said = {level: session.judge(level) for level in LEVELS}
    assert said["A3"].verdict == (said["A3"].shown[0], 3)
    assert said["A0"].verdict == (said["A0"].shown[0], 0)
    assert said["B0"].verdict == (said["B0"].shown[1], 0)
    assert [j.verdict[1] for j in said.values()] == [3, 2, 1, 0, 0, 1, 2, 3]
    firsts = [j.verdict[0] == j.shown[0] for j in said.values()]
    assert firsts == [True] * 4 + [False] * 4
    assert {j.shown[0] for j in said.values()} == {"ours", "theirs"}, "blind order"


def test_a_graded_verdict_does_not_depend_on_the_order_shown(items_of, grade):
    items = items_of("graded", 8)
    wanted = {item.id: ("theirs", n % 4) for n, item in enumerate(items)}
    first, second = (grade(items, wanted, rater=r, seed=1) for r in ("a", "b"))
    turned = [one.shown != two.shown for one, two in zip(first, second, strict=True)]
    assert 0 < sum(turned) < 8
    assert [j.verdict for j in first] == [j.verdict for j in second]
    assert {j.item: j.verdict for j in first} == wanted


def test_graded_rounds_undo_skip_and_resume(items_of, open_session):
    items = items_of("graded", 4)
    session = open_session(items)
    first, wrong = session.judge("A3"), session.judge("B0")
    session = open_session(items)
    assert session.num_done == 2 and session.undo() == wrong
    again = session.judge("B2")
    assert (again.item, again.shown) == (wrong.item, wrong.shown)
    assert again.verdict == (wrong.shown[1], 2)
    aside = session.skip().item
    last = open_session(items).judge("A0")
    found = replay(items, read_judgements(session.path), **RATER)
    assert found.skipped == (aside,) and set(found.judgements) == {first, again, last}


def test_what_a_record_says(items_of, open_session):
    items = items_of("keep_drop", 1, reason="short")
    times = iter([1_800_000_000.0, 1_800_000_004.25, 1_800_000_005.0])
    session = open_session(items, clock=lambda: next(times))
    session.next()
    session.next()  # looking twice does not start the time again
    j = session.judge("drop")
    assert (j.item, j.task, j.action, j.verdict) == (
        "id-0", "keep_drop", "judge", "drop",
    )  # fmt: skip
    assert (j.rater, j.rater_kind, j.round) == ("阿明", "human", 1)
    assert (j.seconds, j.time) == (4.2, "2027-01-15T08:00:05+00:00")
    assert (j.text_sha256, j.reason) == (items[0].sha256, "short")
    assert read_judgements(session.path) == [j]


def test_undo_takes_back_the_latest_also_after_a_resume(items_of, open_session):
    items = items_of("keep_drop", 3)
    session = open_session(items)
    first = session.judge("keep")
    second = session.judge("drop")
    session.skip()
    assert session.next() is None and session.num_done == 3
    assert session.undo().action == "skip"
    session = open_session(items)
    assert session.undo() == second
    assert session.judgements() == (first,)
    again = session.judge("keep")
    assert (again.item, again.verdict) == (second.item, "keep")
    session.undo(), session.undo()
    assert session.undo() is None and session.num_done == 0
    assert open_session(items).num_done == 0


def test_the_time_starts_again_after_an_undo(items_of, open_session):
    now = [1_800_000_000.0]
    session = open_session(items_of("keep_drop", 2), clock=lambda: now[0])
    session.judge("keep")
    session.next()
    now[0] += 60
    session.undo(), session.next()
    now[0] += 3
    assert session.judge("drop").seconds == 3


def test_replay_gives_what_the_session_held(items_of, open_session):
    items = items_of("rank", 5)
    session = open_session(items)
    for number in range(6):
        session.skip() if number == 2 else session.judge([[2, 1], 4, 3])
        if number == 3:
            session.undo()
    records = read_judgements(session.path)
    again = replay(items, records, **RATER)
    assert again.judgements == session.judgements() and len(again.judgements) == 4
    assert [j.item for j in again.judgements] == [
        i.id for i in items if i.id not in again.skipped
    ]
    assert len(again.skipped) == 1 and again.changed == ()
    assert replay(items[::-1], records, **RATER).judgements == again.judgements[::-1]


def test_a_missing_verdict_is_a_clear_error(items_of, open_session):
    items = items_of("keep_drop", 3)
    session = open_session(items)
    done = session.judge("keep").item
    missing = next(i.id for i in items if i.id != done)
    records = read_judgements(session.path)
    with pytest.raises(ValueError, match=f"for 2 of 3 items, the first is {missing}"):
        replay(items, records, **RATER)
    with pytest.raises(ValueError, match="no verdict of 阿明 in round 2 for 3 of 3"):
        replay(items, records, rater="阿明", round=2)
    with pytest.raises(ValueError, match="no verdict of 乙"):
        replay(items, records, rater="乙", round=1)


def test_changed_text_is_reported_not_used_and_judged_again(
    items_of, open_session, caplog
):
    items = items_of("keep_drop", 3)
    session = open_session(items)
    while session.next():
        session.judge("keep")
    items[1] = replace(items[1], texts={"text": "改过的文字"})
    records = read_judgements(session.path)
    again = replay(items, records, **RATER)
    assert again.changed == ("id-1",)
    assert [j.item for j in again.judgements] == ["id-0", "id-2"]
    assert "1 of 3 items changed" in caplog.text and "id-1" in caplog.text
    session = open_session(items)
    assert session.changed == ("id-1",)
    assert session.next().texts == ("改过的文字",)
    session.judge("drop")
    again = replay(items, read_judgements(session.path), **RATER)
    assert [j.verdict for j in again.judgements] == ["keep", "drop", "keep"]
    assert again.changed == ()


def test_raters_rounds_and_tasks_share_a_file(items_of, open_session):
    items, others = items_of("keep_drop", 2), items_of("rewrite", 2)  # the same texts
    shown_by(open_session(items), "keep")
    assert open_session(items, rater="乙").num_done == 0
    assert open_session(items, round=2).num_done == 0
    assert open_session(others).num_done == 0
    assert open_session(items).num_done == 2
    with pytest.raises(ValueError, match="recorded as human, now as model"):
        open_session(items, rater_kind="model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rater_kind": "robot"}, "rater_kind is 'robot'"),
        ({"rater_kind": ""}, "rater_kind is ''"),
        ({"rater": ""}, "rater is empty"),
        ({"round": 0}, "round is 0"),
    ],
)
def test_wrong_settings_fail_before_anything_is_shown(
    items_of, open_session, change, message
):
    with pytest.raises(ValueError, match=message):
        open_session(items_of("ab"), **change)


def test_items_that_make_no_round(items_of, open_session):
    with pytest.raises(ValueError, match="no items"):
        open_session([])
    with pytest.raises(ValueError, match="one task a session, not ab, rank"):
        open_session([*items_of("ab", 1), *items_of("rank", 1)])
    with pytest.raises(ValueError, match="two items have the id id-0"):
        open_session(items_of("ab", 1) * 2)
    with pytest.raises(ValueError, match="every item of this round is judged"):
        session = open_session(items_of("keep_drop", 1))
        session.judge("keep"), session.judge("keep")


def test_a_failed_write_leaves_the_item_to_judge(items_of, open_session, monkeypatch):
    session = open_session(items_of("keep_drop", 2))
    first = session.next()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("finllm_utils.annotation.session.append_judgement", full)
    with pytest.raises(OSError):
        session.judge("keep")
    assert session.num_done == 0 and session.next() == first


def test_accept_reject_and_edit_each_with_a_reason(items_of, open_session):
    items = items_of("rewrite", 4)
    session = open_session(items)
    done = [
        session.accept(" 准确 \n"),
        session.reject("答非所问"),
        session.judge("新文"),
    ]
    session.skip()
    assert [(j.action, j.verdict, j.comment) for j in done] == [
        ("accept", None, "准确"),
        ("reject", None, "答非所问"),
        ("judge", "新文", ""),
    ]
    records = read_judgements(session.path)
    assert records[:3] == done and records[3].comment == ""
    assert set(session.judgements()) == set(done)
    assert open_session(items).next() is None, "each counts as done after a resume"
    again = replay(items, records, **RATER)
    assert again.judgements == session.judgements() and len(again.skipped) == 1
    assert {j.rater_kind for j in again.judgements} == {"human"}


def test_a_reject_is_taken_back_like_a_verdict(items_of, open_session):
    items = items_of("rewrite", 2)
    session = open_session(items)
    rejected = session.reject("空话")
    session = open_session(items)
    assert session.undo() == rejected and session.judgements() == ()
    assert session.accept().item == rejected.item
    assert session.judge("别的", "太长").comment == "太长"


def test_a_wrong_reject_or_accept_records_nothing(items_of, open_session):
    session = open_session(items_of("rewrite"))
    for reason in ("", "  \n"):
        with pytest.raises(ValueError, match="a reject needs a reason"):
            session.reject(reason)
    assert session.num_done == 0 and not session.path.exists()
    session = open_session(items_of("keep_drop"), rater="乙")
    for act in (session.accept, lambda: session.reject("为什么")):
        with pytest.raises(ValueError, match="belongs to the task rewrite"):
            act()
    assert session.num_done == 0


def test_odd_text_travels(open_session):
    item = Item(id="一/二\n", task="rewrite", texts={"text": "\u2028😀\x00"})
    session = open_session([item])
    j = session.judge("新\n文\u2028本😀")
    assert read_judgements(session.path) == [j]
