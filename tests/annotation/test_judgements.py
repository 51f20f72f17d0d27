"""The file of verdicts: what a line must say, broken lines, half-written lines."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from finllm_utils.annotation.judgements import (
    Item,
    Judgement,
    append_judgement,
    read_judgements,
    seeded_order,
    settled,
)

ITEM = Item(id="a", task="keep_drop", texts={"text": "正文"})
KEEP = Judgement(
    item="a",
    task="keep_drop",
    action="judge",
    shown=("text",),
    verdict="keep",
    rater="甲",
    rater_kind="human",
    seconds=1.5,
    round=1,
    text_sha256=ITEM.sha256,
    time="2027-01-15T08:00:00+00:00",
)
SKIP = replace(KEEP, action="skip", verdict=None)
UNDO = replace(KEEP, action="undo", verdict=None)
REWRITE = replace(KEEP, task="rewrite", verdict="改好的文字", comment="更准确")
ACCEPT = replace(REWRITE, action="accept", verdict=None, comment="")
REJECT = replace(REWRITE, action="reject", verdict=None, comment="答非所问")
OLD_LINES = """
{"item": "a", "task": "rewrite", "action": "judge", "shown": ["text"], "verdict": "reject", "rater": "m", "rater_kind": "model", "seconds": 2.0, "round": 1, "text_sha256": "0", "time": "2026-11-22T08:18:56+00:00", "reason": "s"}
{"item": "b", "task": "rewrite", "action": "skip", "shown": ["text"], "verdict": null, "rater": "m", "rater_kind": "model", "seconds": 2.0, "round": 1, "text_sha256": "0", "time": "2026-11-22T08:18:58+00:00", "reason": ""}
"""
"""Written before accept and reject and their comments existed."""
OLD_PAIR = """
{"item": "p", "task": "ab", "action": "judge", "shown": ["theirs", "ours"], "verdict": "ours", "rater": "m", "rater_kind": "model", "seconds": 2.0, "round": 1, "text_sha256": "0", "time": "2026-11-22T08:18:56+00:00", "reason": "", "comment": ""}
{"item": "q", "task": "rank", "action": "judge", "shown": ["z", "x", "y"], "verdict": [["y"], ["x", "z"]], "rater": "m", "rater_kind": "model", "seconds": 2.0, "round": 1, "text_sha256": "0", "time": "2026-11-22T08:18:58+00:00", "reason": "", "comment": ""}
"""
"""Written before graded pairs existed."""
GRADED = replace(KEEP, task="graded", shown=("ours", "theirs"), verdict=("theirs", 2))


def test_a_judgement_survives_the_file(tmp_path):
    ranked = replace(
        KEEP, task="rank", shown=("x", "y", "z"), verdict=(("y",), ("x", "z"))
    )
    for judgement in (KEEP, ranked, SKIP):
        append_judgement(tmp_path / "new" / "v.jsonl", judgement)
    assert read_judgements(tmp_path / "new" / "v.jsonl") == [KEEP, ranked, SKIP]
    assert read_judgements(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rater_kind": "person"}, "rater_kind is 'person': it must be model or human"),
        ({"rater_kind": None}, "rater_kind is None"),
        ({"rater": ""}, "rater is empty"),
        ({"round": 0}, "round is 0"),
        ({"round": True}, "round is True"),
        ({"action": "guess"}, "action is 'guess'"),
        ({"verdict": "maybe"}, "'maybe' is no verdict of the task keep_drop"),
        ({"verdict": None}, "None is no verdict"),
        ({"action": "skip"}, r"'keep' is no verdict .* \(skip\)"),
        ({"task": "rewrite", "verdict": " "}, "is no verdict of the task rewrite"),
        ({"action": "accept", "verdict": None}, "accept belongs to the task rewrite"),
        ({"task": "ab", "action": "reject", "verdict": None}, "reject belongs to"),
        ({"task": "rewrite", "action": "reject", "verdict": None}, "needs a reason"),
        (
            {"task": "rewrite", "action": "reject", "verdict": None, "comment": " \n"},
            "item a: a reject needs a reason",
        ),
        (
            {"task": "rewrite", "action": "reject", "comment": "为什么"},
            r"'keep' is no verdict .* \(reject\)",
        ),
        ({"task": "rewrite", "action": "accept"}, r"no verdict .* \(accept\)"),
        ({"comment": None}, "comment is None: give a text"),
        ({"task": "ab", "shown": ("x", "y"), "verdict": "z"}, "on x, y"),
        ({"task": "rank", "shown": ("x", "y"), "verdict": (("x",),)}, "no verdict"),
        ({"task": "rank", "shown": ("x",), "verdict": (("x",), ())}, "no verdict"),
        ({"task": "graded", "shown": ("x", "y"), "verdict": "x"}, "of the task graded"),
        ({"task": "graded", "shown": ("x",), "verdict": ("x", 1)}, "on x$"),
        ({"task": "graded", "shown": ("x", "x"), "verdict": ("x", 1)}, "on x, x$"),
    ],
)
def test_wrong_fields_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(KEEP, **change)


def test_a_text_that_reads_reject_is_no_reject(tmp_path):
    """By action alone: the four lines differ in nothing else that is read."""
    path = tmp_path / "v.jsonl"
    texts = [replace(REWRITE, verdict=text) for text in ("reject", "accept", "None")]
    for judgement in (*texts, REJECT, ACCEPT, SKIP):
        append_judgement(path, judgement)
    read = read_judgements(path)
    assert read == [*texts, REJECT, ACCEPT, SKIP]
    assert [j.action for j in read] == ["judge"] * 3 + ["reject", "accept", "skip"]
    assert [j.is_decision for j in read] == [True] * 5 + [False]
    assert not UNDO.is_decision
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert (rows[3]["verdict"], rows[3]["comment"]) == (None, "答非所问")


def test_lines_from_before_comments_still_read(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_text(OLD_LINES.lstrip(), encoding="utf-8")
    old, skip = read_judgements(path)
    assert (old.action, old.verdict, old.comment) == ("judge", "reject", "")
    assert (skip.action, skip.comment) == ("skip", "")
    append_judgement(path, REJECT)
    assert read_judgements(path) == [old, skip, REJECT]


def test_a_graded_pair_is_a_name_and_a_strength_in_the_file(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_text(OLD_PAIR.lstrip(), encoding="utf-8")
    old = read_judgements(path)
    assert [j.verdict for j in old] == ["ours", (("y",), ("x", "z"))]
    turned = replace(GRADED, shown=("theirs", "ours"), rater="乙")
    aside = replace(GRADED, action="skip", verdict=None)
    for judgement in (GRADED, turned, aside):
        append_judgement(path, judgement)
    assert read_judgements(path) == [*old, GRADED, turned, aside]
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["verdict"] for row in rows[2:]] == [["theirs", 2]] * 2 + [None]


@pytest.mark.parametrize(
    "verdict",
    [
        "theirs", "A2", None, [], ["theirs"], ["theirs", 2, 0], ["tie", 0],
        [2, "theirs"], ["theirs", 4], ["theirs", -1], ["theirs", 2.5], ["theirs", "2"],
        ["theirs", True], [["theirs"], 2], [["theirs"], ["ours"]], {"theirs": 2},
    ],
)  # fmt: skip
def test_a_broken_graded_line_names_its_line_and_item(tmp_path, verdict):
    path = tmp_path / "v.jsonl"
    lines = [asdict(GRADED), asdict(GRADED) | {"item": "q7", "verdict": verdict}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match="line 2: item q7: .* no verdict .* graded"):
        read_judgements(path)


def test_a_reject_cut_short_by_a_kill_is_no_reject(tmp_path):
    path = tmp_path / "v.jsonl"
    append_judgement(path, REJECT)
    whole = path.read_bytes()
    for cut in range(len(whole) - 1):  # no cut makes it a skip, or a reject without why
        path.write_bytes(whole + whole[:cut])
        assert read_judgements(path) == [REJECT], cut


def test_rater_kind_has_no_default():
    row = asdict(KEEP)
    del row["rater_kind"]
    with pytest.raises(TypeError, match="rater_kind"):
        Judgement(**row)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"item": "a", ', "line 2: Expecting property name"),
        ('["a"]', "line 2: "),
        ("\ufeff", "line 2: "),
        (json.dumps(asdict(KEEP) | {"rater_kind": "robot"}), "line 2: rater_kind is"),
        (json.dumps(asdict(KEEP) | {"mood": 1}), "line 2: unknown field 'mood'"),
        (json.dumps({"item": "a"}), "line 2: missing 10 required"),
    ],
)
def test_a_broken_line_is_named_with_its_number(tmp_path, line, message):
    path = tmp_path / "v.jsonl"
    good = json.dumps(asdict(KEEP))
    path.write_text(f"{good}\n{line}\n{good}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"v.jsonl, {message}"):
        read_judgements(path)


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_bytes(json.dumps(asdict(KEEP)).encode() + b"\n\xff\xfe{}\n")
    with pytest.raises(ValueError, match="v.jsonl, line 2: "):
        read_judgements(path)


def test_a_half_written_last_line_is_left_out_and_then_removed(tmp_path):
    path = tmp_path / "v.jsonl"
    whole = json.dumps(asdict(KEEP), ensure_ascii=False).encode()
    for cut in range(len(whole)):  # wherever the kill struck, between bytes too
        path.write_bytes(whole + b"\n" + whole[:cut])
        assert read_judgements(path) == [KEEP], cut
    append_judgement(path, SKIP)
    assert read_judgements(path) == [KEEP, SKIP]
    path.write_bytes(whole)  # whole but for its line end
    append_judgement(path, SKIP)
    assert read_judgements(path) == [KEEP, SKIP]


def test_what_stands_after_undo_and_second_thoughts():
    drop, other = replace(KEEP, verdict="drop"), replace(KEEP, rater="乙")
    later = replace(KEEP, text_sha256="0" * 64)
    assert settled([KEEP, other, drop]) == [other, drop]
    assert settled([KEEP, UNDO]) == []
    assert settled([KEEP, UNDO, SKIP]) == [SKIP]
    assert settled([KEEP, other, UNDO]) == [other]
    assert settled([KEEP, later, UNDO]) == [later]  # the texts differ
    assert settled([UNDO, KEEP]) == [KEEP]
    unsaid = replace(UNDO, task="rewrite")
    assert settled([REWRITE, REJECT]) == [REJECT]
    assert settled([REJECT, ACCEPT]) == [ACCEPT]
    assert settled([REJECT, unsaid]) == settled([ACCEPT, UNDO, unsaid]) == []


def test_the_digest_covers_prompt_names_and_texts():
    base = Item(id="a", task="ab", texts={"x": "1", "y": "2"}, prompt="问")
    assert base.sha256 == replace(base, id="b", texts={"y": "2", "x": "1"}).sha256
    changed = [
        replace(base, prompt="问？"),
        replace(base, texts={"x": "2", "y": "1"}),
        replace(base, texts={"x": "1", "z": "2"}),
    ]
    assert len({base.sha256, *(item.sha256 for item in changed)}) == 4


@pytest.mark.parametrize(
    ("task", "texts", "message"),
    [
        ("ab", {"x": "1"}, "1 texts for the task ab, which takes 2"),
        ("rank", dict.fromkeys("abcde", ""), "5 texts .* takes 3 to 4"),
        ("guess", {"x": "1"}, "task is 'guess'"),
        ("ab", {"tie": "1", "x": "2"}, "cannot be named 'tie'"),
        ("graded", {"x": "1"}, "1 texts for the task graded, which takes 2"),
        ("graded", dict.fromkeys("abc", ""), "3 texts for the task graded"),
    ],
)
def test_items_that_cannot_be_judged(task, texts, message):
    with pytest.raises(ValueError, match=f"item q: .*{message}"):
        Item(id="q", task=task, texts=texts)


def test_seeded_order_is_stable_when_names_come_and_go():
    names = [str(i) for i in range(50)]
    order = seeded_order(names, 1)
    assert order == seeded_order(reversed(names), 1) != seeded_order(names, 2)
    fewer = seeded_order(names[::2], 1)
    assert fewer == [name for name in order if name in fewer]
    assert seeded_order(names, "1", "2") != seeded_order(names, "12")


JUDGE_FOREVER = """
import sys
from finllm_utils.annotation.judgements import Item
from finllm_utils.annotation.session import Session
items = [Item(id=str(i), task="keep_drop", texts={"text": "字" * 5000}) for i in range(5000)]
s = Session(items, sys.argv[1], rater="r", rater_kind="model", round=1, seed=0)
while s.next():
    print(s.judge("keep").item, flush=True)
"""


def test_a_kill_loses_nothing_that_was_judged(tmp_path):
    path = tmp_path / "v.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", JUDGE_FOREVER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    seen = [child.stdout.readline().strip() for _ in range(20)]
    child.kill()
    seen += child.stdout.read().split()
    assert child.wait() == -9
    recorded = [j.item for j in read_judgements(path)]
    assert recorded[: len(seen)] == seen and len(recorded) - len(seen) in (0, 1)
    assert len(seen) >= 20
