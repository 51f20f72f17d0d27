"""The card without a browser: its buttons drive the session, and it tells no source."""

import json
import re

import pytest
from ipywidgets import HTML, Widget

from finllm_utils.annotation.card import Card
from finllm_utils.annotation.card_keys import ORDERS, SAVE_MARK, SCRIPT, read_order
from finllm_utils.annotation.judgements import Item, read_judgements


def press(card: Card, *keys: str) -> None:
    for key in keys:
        card.buttons[key].click()


def all_widgets(widget: Widget) -> list[Widget]:
    children = getattr(widget, "children", ())
    return [widget, *(w for child in children for w in all_widgets(child))]


@pytest.mark.parametrize("task", ["keep_drop", "ab", "graded", "rank", "rewrite"])
def test_nothing_that_reaches_the_page_tells_the_source(open_session, task, items_of):
    names = items_of(task, 1)[0].texts
    item = Item(
        id="ID-SECRET",
        task=task,
        texts={f"SECRET-{name}": f"答 {i}" for i, name in enumerate(names)},
        reason="REASON-SECRET",
    )
    card = Card(open_session([item]))
    card.buttons["u"].click()
    states = [w.get_state() for w in all_widgets(card.box)]
    page = json.dumps(states, default=str, ensure_ascii=False)
    assert "答 0" in page and "SECRET" not in page


def test_keep_and_drop_and_undo_and_skip(items_of, open_session):
    session = open_session(items_of("keep_drop", 4))
    card = Card(session)
    assert "<b>1 of 4</b>" in card.head.value
    press(card, "k", "d", "s")
    assert "<b>4 of 4</b>" in card.head.value
    press(card, "u", "u", "k", "k", "d")
    assert [j.verdict for j in session.judgements()].count("keep") == 3
    assert "round is done" in card.head.value
    assert card.buttons["k"].disabled and not card.buttons["u"].disabled
    press(card, "u")
    assert not card.buttons["k"].disabled and session.num_done == 3
    assert "Taken back" in card.note.value


def test_the_buttons_of_ab_name_the_sides_as_shown(items_of, open_session):
    session = open_session(items_of("ab", 3))
    card = Card(session)
    sides = []
    for key in "12":
        sides.append(session.next().texts[int(key) - 1].split(" ")[0])
        press(card, key)
    press(card, "t")
    won = {j.item: j.verdict for j in session.judgements()}
    assert sorted(won.values()) == sorted([*sides, "tie"])


def test_the_eight_buttons_of_a_graded_pair(items_of, open_session):
    session = open_session(items_of("graded", 9))
    card = Card(session)
    assert list(card.buttons) == [*"12345678", "s", "u"]
    labels = [card.buttons[key].description for key in "12345678"]
    assert [f"{label[:2]} {label[-3:]}" for label in labels] == [
        "A3 [1]", "A2 [2]", "A1 [3]", "A0 [4]", "B0 [5]", "B1 [6]", "B2 [7]", "B3 [8]",
    ]  # fmt: skip
    assert [label[4] for label in labels] == [*"AAAABBBB"]
    said = []
    for key in "12345678":
        a, b = session.next().texts
        assert f"<b>A</b><br>{a}</div>" in card.texts.value
        assert f"<b>B</b><br>{b}</div>" in card.texts.value
        assert not any(button.disabled for button in card.buttons.values())
        better = a if key in "1234" else b
        said.append((better.split(" ")[0], (3, 2, 1, 0, 0, 1, 2, 3)[int(key) - 1]))
        press(card, key)
    assert [j.verdict for j in read_judgements(session.path)] == said
    press(card, "u", "s", "8")
    assert "round is done" in card.head.value and session.num_done == 9
    assert all(card.buttons[key].disabled for key in "12345678s")
    assert not card.buttons["u"].disabled


def test_numbers_name_the_texts_of_the_other_tasks(items_of, open_session):
    for task, count in (("ab", 2), ("rank", 4)):
        card = Card(open_session(items_of(task)))
        texts = card.session.next().texts
        assert len(texts) == count == card.texts.value.count("<b>")
        for number, text in enumerate(texts, 1):
            assert f"<b>{number}</b><br>{text}</div>" in card.texts.value


def test_a_ranking_is_built_key_by_key(items_of, open_session):
    session = open_session(items_of("rank", 2))
    card = Card(session)
    press(card, "2", "2", "=", "1", "3")
    assert "Best first: 2 = 1 &gt; 3" in card.note.value and session.num_done == 0
    press(card, "Backspace", "=", "4", "3", "=", "2", "1")
    (j,) = session.judgements()
    first, second, third, fourth = j.shown
    assert j.verdict == ((fourth,), tuple(sorted((second, third))), (first,))


def test_three_answers_have_no_fourth_button(open_session, items_of):
    four = items_of("rank", 1)
    three = Item(id="x", task="rank", texts={"a": "1", "b": "2", "c": "3"})
    session = open_session([*four, three])
    card = Card(session)
    while shown := session.next():
        assert card.buttons["4"].disabled == (len(shown.texts) == 3)
        press(card, *"1234"[: len(shown.texts)])


def test_a_rewrite_is_saved_with_its_last_letter(items_of, open_session):
    session = open_session(items_of("rewrite", 3))
    card = Card(session)
    assert card.editor.value == session.next().texts[0]
    card.editor.value = "改好的文字" + SAVE_MARK  # what the script sends
    assert session.judgements()[0].verdict == "改好的文字"
    assert card.editor.value == session.next().texts[0]
    press(card, "save")  # without the script; unchanged text is a verdict too
    assert session.num_done == 2
    card.editor.value = " \n" + SAVE_MARK
    assert session.num_done == 2 and "the text is empty" in card.note.value


def send(card: Card, text: str, key: str, reason: str = "") -> None:
    """What the script does when a button of the rewriting card is pressed."""
    card.editor.value = SAVE_MARK.join([text, key, reason, ""])


def said(session) -> list[tuple]:
    """What the file holds after everything else: each is there before the next item."""
    return [(j.action, j.verdict, j.comment) for j in read_judgements(session.path)]


def test_accept_save_and_reject_by_button(items_of, open_session):
    session = open_session(items_of("rewrite", 4))
    card = Card(session)
    press(card, "a")
    assert said(session)[-1] == ("accept", None, "") and "2 of 4" in card.head.value
    card.reason.value = "太笼统"
    press(card, "r")
    assert said(session)[-1] == ("reject", None, "太笼统")
    assert card.reason.value == "", "the reason was for the item before"
    card.editor.value, card.reason.value = "reject", "补上期限"
    press(card, "save")
    assert said(session)[-1] == ("judge", "reject", "补上期限")
    press(card, "s", "u", "u")
    assert [a for a, *_ in said(session)[3:]] == ["skip", "undo", "undo"]
    assert card.editor.value == session.next().texts[0] and card.reason.value == ""
    assert {j.action for j in session.judgements()} == {"accept", "reject"}


def test_a_reject_without_a_reason_is_not_recorded(items_of, open_session):
    session = open_session(items_of("rewrite", 2))
    card = Card(session)
    text = session.next().texts[0]
    for reason in ("", " \t"):
        send(card, text + "改", "r", reason)
        assert session.num_done == 0 and "Not recorded: say why" in card.note.value
        assert card.editor.value == text + "改", "the rater's work stays"
    assert not session.path.exists()
    send(card, text, "r", "数字有误")
    assert said(session) == [("reject", None, "数字有误")]


def test_accept_does_not_throw_an_edit_away(items_of, open_session):
    session = open_session(items_of("rewrite", 2))
    card = Card(session)
    text = session.next().texts[0]
    send(card, text + "改", "a", "好")
    assert session.num_done == 0 and "you changed the text" in card.note.value
    assert (card.editor.value, card.reason.value) == (text + "改", "好")
    send(card, text, "a", "好")
    assert said(session) == [("accept", None, "好")]


def test_the_line_ends_of_a_browser_are_no_edit(open_session):
    texts = ["第一行\r\n第二行\r完", "甲\r\n乙"]
    items = [
        Item(id=str(i), task="rewrite", texts={"t": t}) for i, t in enumerate(texts)
    ]
    session = open_session(items)
    card = Card(session)
    for key in ("a", "save"):
        text = session.next().texts[0]
        want = None if key == "a" else text
        send(card, text.replace("\r\n", "\n").replace("\r", "\n"), key)
        assert said(session)[-1][1] == want


def test_an_order_for_the_item_before_changes_nothing(items_of, open_session):
    now = [1_800_000_000.0]
    session = open_session(items_of("rewrite", 3), clock=lambda: now[0])
    card = Card(session)
    now[0] += 2
    send(card, "改好了", "save", "旧")
    for key in ORDERS:  # a second press, sent before the first was answered
        send(card, "改好了", key, "旧")
        assert session.num_done == 1 and "Not counted" in card.note.value
        assert card.editor.value == session.next().texts[0] and not card.reason.value


def test_a_text_that_ends_with_the_mark_gives_no_order(open_session):
    texts = ["文" + SAVE_MARK, SAVE_MARK.join(["文", "r", "因", ""])]
    items = [
        Item(id=str(i), task="rewrite", texts={"t": t}) for i, t in enumerate(texts)
    ]
    session = open_session(items)
    card = Card(session)
    assert session.num_done == 0 and card.editor.value == session.next().texts[0]
    text = session.next().texts[0]
    send(card, text, "a")
    send(card, session.next().texts[0] + "改", "save", "因")
    assert [a for a, *_ in said(session)] == ["accept", "judge"]
    assert said(session)[1][1] in {t + "改" for t in texts}


def test_orders_are_read_from_the_end():
    assert read_order("甲\x03r\x03过时\x03") == ("甲", "r", "过时")
    assert read_order("甲\x03a\x03乙\x03save\x03\x03") == ("甲\x03a\x03乙", "save", "")
    assert read_order("甲\x03") == ("甲", "save", None)
    assert read_order("甲\x03x\x03乙\x03") == ("甲\x03x\x03乙", "save", None)
    assert f"orders = {list(ORDERS)}" in SCRIPT


def test_orders_at_the_end_of_a_round_are_ignored(items_of, open_session):
    session = open_session(items_of("rewrite", 1))
    card = Card(session)
    press(card, "a")
    assert "round is done" in card.head.value
    for key in ORDERS:
        send(card, "文", key, "因")
        assert "Not" not in card.note.value, "there is no item to speak of"
    assert said(session) == [("accept", None, "")]


def test_a_full_disk_keeps_the_edit_and_the_reason(items_of, open_session, monkeypatch):
    card = Card(open_session(items_of("rewrite", 2)))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("finllm_utils.annotation.session.append_judgement", full)
    send(card, "改好的文字", "save", "补上期限")
    assert "No space left" in card.note.value and "1 of 2" in card.head.value
    assert (card.editor.value, card.reason.value) == ("改好的文字", "补上期限")


def test_other_tasks_have_no_field_for_text(items_of, open_session):
    for task in ("keep_drop", "ab", "graded", "rank"):
        card = Card(open_session(items_of(task)))
        shown = all_widgets(card.box)
        assert card.editor not in shown and card.reason not in shown
        assert not {"a", "r", "save"} & set(card.buttons)


def test_a_second_press_does_not_judge_an_unread_item(items_of, open_session):
    now = [1_800_000_000.0]
    session = open_session(items_of("keep_drop", 3), clock=lambda: now[0])
    card = Card(session)
    now[0] += 2
    press(card, "k", "k", "s")
    assert session.num_done == 1 and "Not counted" in card.note.value
    now[0] += 2
    press(card, "k", "u", "u")  # undo may be as fast as one likes
    assert session.num_done == 0


def test_texts_are_never_markup(open_session):
    text = "<script>alert(1)</script><b>x</b>"
    item = Item(id="a", task="keep_drop", texts={"text": text}, prompt="<i>问</i>")
    card = Card(open_session([item], rater="<u>甲</u>"))
    page = "".join(w.value for w in all_widgets(card.box)[2:] if isinstance(w, HTML))
    assert not any(tag in page for tag in ("<script", "<i>", "<u>", "<b>x"))
    assert "&lt;script&gt;alert(1)" in page


def test_a_full_disk_is_shown_and_the_item_stays(items_of, open_session, monkeypatch):
    session = open_session(items_of("keep_drop", 2))
    card = Card(session)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("finllm_utils.annotation.session.append_judgement", full)
    press(card, "k")
    assert "Not recorded" in card.note.value and "No space left" in card.note.value
    assert "<b>1 of 2</b>" in card.head.value and session.num_done == 0


def test_changed_texts_are_announced(open_session):
    old, new = (Item(id="a", task="keep_drop", texts={"text": t}) for t in "旧新")
    open_session([old]).judge("keep")
    assert "shown again: 1." in Card(open_session([new])).note.value


def test_the_script_finds_every_button(items_of, open_session):
    """It looks for finllm-key-<name>; two keys have another name than their own."""
    assert "{'=': 'equal', Backspace: 'backspace'}" in SCRIPT
    for task in ("keep_drop", "ab", "graded", "rank", "rewrite"):
        for key, button in Card(open_session(items_of(task))).buttons.items():
            name = {"=": "equal", "Backspace": "backspace"}.get(key, key)
            assert button._dom_classes == (f"finllm-key-{name}",)
            assert name == "save" or re.fullmatch("[a-z0-9]|equal|backspace", name)
