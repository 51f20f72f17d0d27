"""Accepted, rewritten and rejected instructions: from the card's file to a new set."""

import json
from dataclasses import asdict, replace
from itertools import count

import pytest

from finllm_utils.annotation.card import Card
from finllm_utils.annotation.card_keys import SAVE_MARK
from finllm_utils.annotation.judgements import (
    Judgement,
    append_judgement,
    read_judgements,
)
from finllm_utils.annotation.session import Session, replay
from finllm_utils.data.instruction_formats import read_instructions
from finllm_utils.data.rewrites import (
    apply_rewrites,
    rewrite_items,
    rewrite_table,
    write_rewrites,
)
from finllm_utils.data.wordings import one_turn
from finllm_utils.records import ChatTurn, Instruction, read_lines, read_records

ANSWERS = (
    "国债是国家发行的债券。",
    "年金是按期给付的保险。",
    "不知道。",
    "等额本金每月还的本金相同。",
    "基金申购按当日净值计算。",
)
SET = [
    one_turn("qa", "finance", f"q{i}", f"第{i}个问题是什么？", answer)
    for i, answer in enumerate(ANSWERS)
]
DIALOGUE = Instruction(
    id="dialogue/1",
    messages=(
        ChatTurn(role="system", content="你是保险顾问。"),
        ChatTurn(role="user", content="什么是免赔额？"),
        ChatTurn(role="assistant", content="由投保人自己承担的金额。"),
        ChatTurn(role="user", content="举个例子。"),
        ChatTurn(role="assistant", content="损失 1000 元，免赔 200 元，赔 800 元。"),
    ),
    task="insurance_dialogue",
    domain="finance",
    source="q77",
)


def open_round(path, instructions=SET, rater="ming", kind="human", round=1):
    seconds = count(1_800_000_000, 2)
    return Session(
        rewrite_items(instructions),
        path,
        rater=rater,
        rater_kind=kind,
        round=round,
        seed=3,
        clock=lambda: next(seconds),
    )


def say(instruction, action, text=None, why="", rater="ming", **changes) -> Judgement:
    """A recorded line on ``instruction``, by hand."""
    (item,) = rewrite_items([instruction])
    settings = {"rater_kind": "human", "round": 1, "seconds": 1.0, "time": "t"}
    return Judgement(
        item=item.id,
        task="rewrite",
        action=action,
        shown=("answer",),
        verdict=text,
        rater=rater,
        text_sha256=item.sha256,
        comment=why,
        **settings | changes,
    )


def test_what_the_rater_sees():
    plain, dialogue = rewrite_items([SET[0], DIALOGUE])
    assert (plain.id, plain.prompt) == ("qa/q0", "第0个问题是什么？")
    assert plain.texts == {"answer": "国债是国家发行的债券。"}
    assert dialogue.prompt == (
        "system: 你是保险顾问。\nuser: 什么是免赔额？\n"
        "assistant: 由投保人自己承担的金额。\nuser: 举个例子。"
    )
    assert dialogue.texts == {"answer": DIALOGUE.messages[-1].content}
    with pytest.raises(ValueError, match="two instructions have the id qa/q0"):
        rewrite_items([SET[0], SET[0]])
    unanswered = replace(SET[0], messages=SET[0].messages[:1])
    with pytest.raises(ValueError, match="instruction qa/q0: .* ends with 'user'"):
        rewrite_items([unanswered])


def drive_card(path):
    """A whole round through the card's fields and buttons; what each item got."""
    card = Card(open_round(path))
    done = {}
    while shown := card.session.next():
        text = shown.texts[0]
        key = text[:2]
        if key == "国债":
            card.buttons["a"].click()
        elif key == "年金":
            order = ["年金是按期给付保险金的人身保险。", "save", "补全定义", ""]
            card.editor.value = SAVE_MARK.join(order)
        elif key == "不知":
            card.buttons["r"].click()
            assert card.session.next() == shown, "no reject without a reason"
            card.reason.value = "没有回答问题"
            card.buttons["r"].click()
        elif key == "等额":
            card.editor.value = "reject"
            card.buttons["save"].click()
        else:
            card.buttons["s"].click()
        done[key] = len(read_judgements(path))
    assert sorted(done.values()) == [1, 2, 3, 4, 5], "a line each, before the next"
    return card


def test_from_the_card_to_files_and_back(tmp_path):
    path = tmp_path / "rewrites_ming.jsonl"
    card = drive_card(path)
    rewritten = apply_rewrites(SET, read_judgements(path))
    assert [d.outcome for d in rewritten.decisions] == [
        "accepted", "edited", "rejected", "edited",
    ]  # fmt: skip
    accepted, edited, odd = rewritten.kept
    assert accepted is SET[0]
    assert edited == Instruction(
        id="qa/q1/rewritten",
        messages=(
            SET[1].messages[0],
            ChatTurn(role="assistant", content="年金是按期给付保险金的人身保险。"),
        ),
        task="qa",
        domain="finance",
        source="rewritten:human:ming:qa/q1",
    )
    assert odd.messages[-1].content == "reject", "a text, whatever it reads"
    (rejected,) = rewritten.rejected
    assert (rejected.instruction, rejected.kept) == (SET[2], None)
    assert (rejected.reasons, rejected.rater_kind) == (("没有回答问题",), "human")
    assert rewritten.decisions[1].reasons == ("补全定义",)
    assert rewritten.untouched == (SET[4],) and rewritten.disputed == ()

    counts = write_rewrites(tmp_path / "out", rewritten)
    assert counts == {"kept": 3, "rejected": 1, "disputed": 0}
    kept = tmp_path / "out" / "kept.jsonl"
    assert tuple(read_records(kept, Instruction)) == rewritten.kept
    assert tuple(read_instructions(kept)) == rewritten.kept
    (row,) = read_lines(tmp_path / "out" / "rejected.jsonl")
    assert row == json.loads(json.dumps(asdict(rejected)))
    assert (row["reasons"], row["rater_kind"]) == (["没有回答问题"], "human")
    assert row["instruction"]["id"] == "qa/q2"
    assert (tmp_path / "out" / "disputed.jsonl").read_bytes() == b""

    # without a card: the file alone gives the same set
    again = replay(rewrite_items(SET), read_judgements(path), rater="ming", round=1)
    assert again.skipped == ("qa/q4",) and again.changed == ()
    assert apply_rewrites(SET, again.judgements) == rewritten
    card.buttons["u"].click()
    assert card.session.num_done == 4


def test_a_second_write_leaves_nothing_of_the_first(tmp_path):
    write_rewrites(tmp_path, apply_rewrites(SET, [say(SET[0], "reject", why="空话")]))
    counts = write_rewrites(tmp_path, apply_rewrites(SET, [say(SET[0], "accept")]))
    assert counts == {"kept": 1, "rejected": 0, "disputed": 0}
    assert (tmp_path / "rejected.jsonl").read_bytes() == b""


def test_only_the_last_answer_of_a_dialogue_changes():
    done = apply_rewrites([DIALOGUE], [say(DIALOGUE, "judge", "赔 800 元。")])
    (new,) = done.kept
    assert new.messages[:-1] == DIALOGUE.messages[:-1]
    assert new.messages[-1] == ChatTurn(role="assistant", content="赔 800 元。")
    assert (new.task, new.domain) == (DIALOGUE.task, DIALOGUE.domain)
    # the edited set can be judged again, and keeps the trail
    (twice,) = apply_rewrites([new], [say(new, "judge", "赔八百元。", rater="li")]).kept
    assert twice.source == "rewritten:human:li:dialogue/1/rewritten"


def test_no_judgement_leaves_all_untouched():
    done = apply_rewrites(SET, [])
    assert done.untouched == tuple(SET) and done.kept == () == done.decisions
    assert rewrite_table(done) == []


def test_a_saved_old_text_is_accepted():
    done = apply_rewrites(SET, [say(SET[0], "judge", ANSWERS[0], "好")])
    assert done.decisions[0].outcome == "accepted" and done.kept == (SET[0],)
    assert done.decisions[0].reasons == ("好",)


def outcome_of(*judgements) -> str:
    found = apply_rewrites(SET, judgements).decisions
    return found[0].outcome if found else ""


def test_the_latest_that_stands_wins():
    accept, edit = say(SET[0], "accept"), say(SET[0], "judge", "新的答案。")
    reject = say(SET[0], "reject", why="空话", round=2)
    skip, undo = say(SET[0], "skip", round=2), say(SET[0], "undo", round=2)
    assert outcome_of(accept, edit) == "edited"
    assert outcome_of(edit, accept) == "accepted"
    assert outcome_of(edit, reject) == "rejected"  # another round
    assert outcome_of(reject, edit) == "edited"  # whatever the round's number
    assert outcome_of(edit, reject, undo) == "edited"
    assert outcome_of(edit, skip) == "edited"  # a skip says nothing
    assert outcome_of(reject, undo) == outcome_of(skip) == ""


def test_raters_who_want_the_same_agree():
    both = apply_rewrites(
        SET,
        [
            say(SET[0], "reject", why="空话"),
            say(SET[0], "reject", why="太短", rater="li"),
            say(SET[1], "judge", "新的答案。"),
            say(SET[1], "judge", "新的答案。", rater="m1", rater_kind="model"),
            say(SET[2], "accept"),
            say(SET[2], "judge", ANSWERS[2], rater="li"),  # saved as it was
        ],
    )
    assert [d.outcome for d in both.decisions] == ["rejected", "edited", "accepted"]
    assert both.rejected[0].reasons == ("太短", "空话")  # by name: li, ming
    assert both.kept[0].source == "rewritten:human:ming+model:m1:qa/q1"


@pytest.mark.parametrize(
    ("action", "text", "why"),
    [("accept", None, ""), ("judge", "另一个答案。", ""), ("reject", None, "空话")],
)
def test_raters_who_disagree_settle_nothing(tmp_path, action, text, why):
    human = say(SET[0], "judge", "新的答案。")
    other = say(SET[0], action, text, why, rater="m1", rater_kind="model")
    for judgements in ([human, other], [other, human]):  # nobody has the last word
        done = apply_rewrites(SET, judgements)
        (disputed,) = done.disputed
        assert done.kept == () == done.rejected and SET[0] not in done.untouched
        assert disputed.judgements == (human, other)
        assert disputed.rater_kind == "human+model"
    write_rewrites(tmp_path, done)
    (row,) = read_lines(tmp_path / "disputed.jsonl")
    assert [j["rater_kind"] for j in row["judgements"]] == ["human", "model"]
    settled = replace(other, action="judge", verdict="新的答案。", comment="", round=2)
    assert outcome_of(human, other, settled) == "edited"
    assert outcome_of(human) == "edited", "or take the judgements of one rater"


def test_no_figure_calls_a_model_human():
    model = {"rater": "m1", "rater_kind": "model"}
    done = apply_rewrites(
        SET,
        [
            say(SET[0], "accept"),
            say(SET[1], "accept", **model),
            say(SET[2], "reject", why="空话", **model),
            say(SET[3], "accept"),
            say(SET[3], "judge", "新的答案。", **model),
            say(SET[4], "judge", "更好的答案。", **model),
        ],
    )
    assert rewrite_table(done) == [
        {"rater_kind": "human", "items": 1, "accepted": 1, "edited": 0,
         "rejected": 0, "disputed": 0},
        {"rater_kind": "human+model", "items": 1, "accepted": 0, "edited": 0,
         "rejected": 0, "disputed": 1},
        {"rater_kind": "model", "items": 3, "accepted": 1, "edited": 1,
         "rejected": 1, "disputed": 0},
    ]  # fmt: skip
    assert done.rejected[0].rater_kind == "model"
    assert done.kept[-1].source == "rewritten:model:m1:qa/q4"
    with pytest.raises(ValueError, match="'m1' is recorded as a model and as a human"):
        apply_rewrites(
            SET, [say(SET[0], "accept", **model), say(SET[1], "accept", rater="m1")]
        )


def test_a_changed_text_is_refused_until_it_is_judged_again():
    old = say(SET[0], "reject", why="空话")
    for changed in (
        one_turn("qa", "finance", "q0", "第0个问题是什么？", "国债由国家发行。"),
        one_turn("qa", "finance", "q0", "另一个问题？", ANSWERS[0]),
    ):
        now = [changed, *SET[1:]]
        with pytest.raises(ValueError, match="qa/q0: .* changed since ming .* round 1"):
            apply_rewrites(now, [old])
        done = apply_rewrites(now, [old, say(changed, "accept")])
        assert done.kept == (changed,)
        with pytest.raises(ValueError, match="qa/q0: .* changed since li"):
            late = replace(old, rater="li")
            apply_rewrites(now, [old, say(changed, "accept"), late])
    renamed = [replace(SET[0], task="other", source="q9"), *SET[1:]]
    assert len(apply_rewrites(renamed, [old]).rejected) == 1, "nothing the rater saw"


def test_judgements_of_something_else_are_refused():
    with pytest.raises(ValueError, match="qa/q4, judged by ming, is not among the 4"):
        apply_rewrites(SET[:4], [say(SET[4], "accept")])
    keep = replace(
        say(SET[0], "skip"), task="keep_drop", action="judge", verdict="keep"
    )
    with pytest.raises(ValueError, match="qa/q0: .* task keep_drop rewrites nothing"):
        apply_rewrites(SET, [keep])
    with pytest.raises(ValueError, match="two instructions have the id"):
        apply_rewrites([*SET, SET[0]], [])


def test_an_edit_that_cannot_be_an_answer_is_refused():
    with pytest.raises(ValueError, match="no verdict of the task rewrite"):
        say(SET[0], "judge", " \n")
    with pytest.raises(
        ValueError, match="item qa/q0, as rewritten by human:ming.*锟斤"
    ):
        apply_rewrites(SET, [say(SET[0], "judge", "锟斤拷")])


def test_a_cut_last_line_leaves_the_item_untouched(tmp_path):
    path = tmp_path / "v.jsonl"
    append_judgement(path, say(SET[0], "accept"))
    first = path.read_bytes()
    append_judgement(path, say(SET[2], "reject", why="没有回答问题"))
    whole = path.read_bytes()
    for cut in range(len(first), len(whole) - 1):
        path.write_bytes(whole[:cut])
        done = apply_rewrites(SET, read_judgements(path))
        assert done.kept == (SET[0],) and done.rejected == (), cut
        assert SET[2] in done.untouched
    session = open_round(path)  # and the card asks for it again
    assert session.num_done == 1
    session.skip()
    path.write_bytes(whole.replace("没有回答问题".encode(), b""))
    with pytest.raises(ValueError, match="line 2: item qa/q2: a reject needs a reason"):
        read_judgements(path)
