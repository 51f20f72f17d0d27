"""Which documents are judged, how verdicts are found again, and what they say."""

import dataclasses
import json

import pytest

from finllm_utils.annotation.judgements import Judgement, read_judgements
from finllm_utils.annotation.results import KEPT, Precision
from finllm_utils.annotation.session import Session
from finllm_utils.data import human_check as hc
from finllm_utils.intervals import wilson_interval
from finllm_utils.records import Document


def row(number: int, reason: str = "symbols:0.41", step: str = "garbage") -> dict:
    return {
        "id": f"reviews/{number}",
        "step": step,
        "reason": reason,
        "domain": "general_zh",
        "source": "reviews",
        "chars": 20,
        "excerpt": f"第{number}个被丢弃的文档",
    }


def document(number: int, text: str = "") -> Document:
    text = text or f"第{number}个保留的文档"
    return Document(id=f"laws/{number}", text=text, source="laws", domain="general_zh")


REJECTED = [
    *(row(n, f"symbols:0.{n}") for n in range(30)),
    *(row(n, "harm_fraud:2+1", "harm") for n in range(30, 33)),
]
KEPT_DOCUMENTS = [document(n) for n in range(50)]


def sample(rejected=REJECTED, kept=KEPT_DOCUMENTS, judged=(), **limits):
    limits = {"per_reason": 8, "num_kept": 10} | limits
    return hc.sample_for_check(hc.check_items(rejected, kept), judged=judged, **limits)


def judge_all(items, path, say, round=1, rater="model-1"):
    session = Session(items, path, rater=rater, rater_kind="model", round=round, seed=0)
    while shown := session.next():
        session.judge(say(shown.texts[0]))
    return session.judgements()


def test_counts_of_a_sample():
    reasons = [item.reason for item in sample()]
    counts = {r: reasons.count(r) for r in sorted(set(reasons))}
    assert counts == {"harm_fraud": 3, KEPT: 10, "symbols": 8}


def test_documents_stay_in_the_sample_when_others_come_or_go():
    chosen = {i.id for i in sample() if i.reason == "symbols"}
    assert {i.id for i in sample(list(reversed(REJECTED)))} >= chosen
    gone = next(
        r for r in REJECTED if hc.check_items([r], [])[0].id not in chosen
    )  # one that was not chosen
    fewer = [r for r in REJECTED if r is not gone]
    assert {i.id for i in sample(fewer) if i.reason == "symbols"} == chosen
    more = [*REJECTED, *(row(n) for n in range(100, 104))]
    still = {i.id for i in sample(more) if i.reason == "symbols"}
    assert len(still & chosen) >= 4
    moved = [{**r, "reason": "numbers:0.9"} for r in REJECTED]
    assert {i.id for i in sample(moved, per_reason=30)} >= chosen


def test_the_order_tells_nothing_of_the_reason():
    marks = [item.reason == KEPT for item in sample(per_reason=30, num_kept=30)]
    assert any(marks[:15]) and not all(marks[:15])
    assert sum(a != b for a, b in zip(marks, marks[1:], strict=False)) > 8


def test_a_rater_sees_text_and_corpus_only(tmp_path):
    session = Session(
        sample(), tmp_path / "j.jsonl", rater="r", rater_kind="human", round=1, seed=0
    )
    while shown := session.next():
        seen = f"{shown.prompt} {' '.join(shown.texts)}"
        assert shown.prompt == "corpus: general_zh"
        assert not any(w in seen for w in ("symbols", "harm", "kept", "reviews/"))
        session.judge("keep")


def test_what_nobody_may_look_at_and_what_nobody_can_judge():
    steps = ("extract", "length", "decontaminate", "dedup_class_near", "dedup_global")
    others = [row(n, "x:1", step) for n, step in enumerate(steps, 200)]
    assert hc.check_items(others, []) == []
    items = hc.check_items(REJECTED, KEPT_DOCUMENTS, exclude={"reviews/3", "laws/4"})
    texts = {text for item in items for text in item.texts.values()}
    assert len(items) == len(REJECTED) + len(KEPT_DOCUMENTS) - 2
    assert "第3个被丢弃的文档" not in texts and "第4个保留的文档" not in texts
    assert hc.count_dropped([*REJECTED, *others]) == {"harm_fraud": 3, "symbols": 30}


def test_a_long_document_shows_its_head():
    (item,) = hc.check_items([], [document(1, "长" * 700)])
    assert item.texts == {"laws": "长" * hc.EXCERPT_CHARS + "……"}
    cut = {**row(1), "chars": 700, "excerpt": "长" * hc.EXCERPT_CHARS}
    assert hc.check_items([cut], [])[0].id == item.id, "one text, one item"
    assert len(hc.check_items([cut], [document(1, "长" * 700)])) == 1


def test_verdicts_are_found_again_and_the_rest_is_named(tmp_path):
    path = tmp_path / "j.jsonl"
    first = sample()
    made = judge_all(first, path, lambda t: "drop" if "丢弃" in t else "keep")
    again = hc.check_items(REJECTED[:20], KEPT_DOCUMENTS)
    found = hc.replay_check(again, read_judgements(path), rater="model-1", round=1)
    present = {item.id for item in again}
    assert {j.item for j in found.judgements} == {j.item for j in made} & present
    assert set(found.absent) == {j.item for j in made} - present
    assert found.absent and found.judgements
    with pytest.raises(ValueError, match="none of the 21 documents .* round 1"):
        hc.replay_check(hc.check_items([row(999)], []), made, rater="model-1", round=1)
    second = sample(judged={j.item for j in made})
    assert not {i.id for i in second} & {j.item for j in made}


def test_precision_by_hand_with_the_reason_of_this_run(tmp_path):
    wrong = {f"第{n}个被丢弃的文档" for n in range(0, 30, 2)}
    items = sample(per_reason=30, num_kept=10)
    made = judge_all(
        items,
        tmp_path / "j.jsonl",
        lambda t: "keep" if t in wrong or "保留" in t else "drop",
    )
    rows = {r.reason: r for r in hc.precision_by_reason(items, made)}
    assert (rows["symbols"].num_right, rows["symbols"].num_judged) == (15, 30)
    assert (rows["symbols"].low, rows["symbols"].high) == wilson_interval(15, 30)
    assert (rows[KEPT].num_right, rows["harm_fraud"].share) == (10, 1.0)
    assert {r.rater_kind for r in rows.values()} == {"model"}
    repaired = [r for r in REJECTED if r["excerpt"] not in wrong]
    freed = [document(n, text) for n, text in enumerate(sorted(wrong), 300)]
    now = hc.check_items(repaired, [*KEPT_DOCUMENTS, *freed])
    rows = {r.reason: r for r in hc.precision_by_reason(now, made)}
    assert (rows["symbols"].num_right, rows["symbols"].num_judged) == (15, 15)
    assert (rows[KEPT].num_right, rows[KEPT].num_judged) == (25, 25)


def precision(reason: str, right: int, judged: int) -> Precision:
    low, high = wilson_interval(right, judged)
    return Precision(
        reason=reason,
        rater_kind="model",
        num_right=right,
        num_judged=judged,
        share=right / judged,
        low=low,
        high=high,
    )


def test_overall_by_hand():
    rows = [precision("a", 5, 10), precision("b", 9, 10), precision(KEPT, 0, 50)]
    both = hc.overall_precision(rows, {"a": 300, "b": 100, "c": 7})
    assert (both.num_right, both.num_judged, both.share) == (14, 20, 0.7)
    assert both.interval == wilson_interval(14, 20)
    assert both.weighted == pytest.approx(0.75 * 0.5 + 0.25 * 0.9)
    below = ((0.75 * (0.5 - 0.2366)) ** 2 + (0.25 * (0.9 - 0.5958)) ** 2) ** 0.5
    above = ((0.75 * (0.7634 - 0.5)) ** 2 + (0.25 * (0.9821 - 0.9)) ** 2) ** 0.5
    expected = (0.6 - below, 0.6 + above)
    assert both.weighted_interval == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="no count of dropped documents for b"):
        hc.overall_precision(rows, {"a": 300})
    with pytest.raises(ValueError, match="nothing that a filter dropped"):
        hc.overall_precision([rows[2]], {})


def test_one_reason_keeps_its_own_interval():
    one = hc.overall_precision([precision("a", 40, 40)], {"a": 7})
    assert one.weighted_interval == pytest.approx(wilson_interval(40, 40))


def test_a_rise_must_be_clear_to_exclude_zero():
    counts = {"a": 50, "b": 50}
    poor = [precision("a", 4, 15), precision("b", 6, 15)], counts
    good = [precision("a", 14, 15), precision("b", 13, 15)], counts
    low, high = hc.precision_change(poor, good)
    assert 0.3 < low < 17 / 30 < high < 0.8
    low, high = hc.precision_change(poor, poor)
    assert low < 0 < high and low == pytest.approx(-high)


def test_a_person_is_asked_and_may_go_on_later(tmp_path):
    items = hc.sample_for_check(
        hc.check_items([row(i) for i in range(4)], []), per_reason=9, num_kept=0
    )
    first = hc.open_check(items, tmp_path / "new", rater="li", seed=0)
    first.judge("drop")
    again = hc.open_check(items, tmp_path / "new", rater="li", seed=0)
    assert [j.rater_kind for j in again.judgements()] == ["human"]
    assert again.next().number == 2
    for name in ("", "a/b", ".."):
        with pytest.raises(ValueError, match="letters, digits"):
            hc.open_check(items, tmp_path, rater=name, seed=0)


def test_shipped_verdicts_are_a_models_and_hold_no_text():
    fields = {f.name for f in dataclasses.fields(Judgement)}
    seen: set[str] = set()
    shipped, own = hc.shipped_rounds(own=False), hc.shipped_rounds(own=True)
    for number, parts in enumerate(zip(shipped, own, strict=True), 1):
        for part, counts in parts:
            assert {j.reason for j in part} - {KEPT} <= set(counts)
        judged = parts[0][0] + parts[1][0]
        kinds = {(j.rater_kind, j.round, j.action, j.rater) for j in judged}
        assert kinds == {("model", number, "judge", hc.RATER)}
        items = {j.item for j in judged}
        assert len(items) == len(judged) >= 60
        assert not items & seen, f"round {number} judged a document of an earlier one"
        seen |= items
        kept = sum(j.reason == KEPT for j in parts[0][0])
        assert min(kept, len(parts[0][0]) - kept) >= 30, f"round {number} is too small"
    assert len(shipped) == 3
    extra = read_judgements(hc.JUDGEMENTS / "cleaning_extra.jsonl")
    assert {j.round for j in extra} == {2} and not {j.item for j in extra} & seen
    for path in sorted(hc.JUDGEMENTS.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            assert set(record) <= fields and line.isascii(), "a text in the record"
            assert record["rater_kind"] == "model"
            assert max(len(str(value)) for value in record.values()) <= 64
