"""Held-out text must not remain, and nothing else may go."""

import pytest

from finllm_utils.data.decontaminate import HeldoutIndex, cut_lines, remove_overlaps

HELD = "存款保险实行限额偿付，最高偿付限额为人民币五十万元，中国人民银行会同有关部门可以调整。"
OTHER = (
    "转股价值等于债券面值除以转股价，再乘以正股价格，它随正股价格一起涨跌，与债底无关。"
)
ENGLISH = (
    "The deposit insurance fund pays depositors of a failed bank up to a limit that "
    "the law fixes, and the regulator may change that limit from time to time."
)


@pytest.fixture
def index():
    return HeldoutIndex.build([HELD, ENGLISH, "定期存款提前支取怎么算利息？"], 20)


def test_a_line_with_a_shared_window_is_cut_and_the_rest_stays(index):
    text = f"{OTHER}\n{OTHER}补充。\n据报道，{HELD[:25]}云云\n{OTHER}"
    keep, reason, left = remove_overlaps([text], index)[0]
    assert keep
    assert reason.startswith("heldout_lines_cut")
    assert left == f"{OTHER}\n{OTHER}补充。\n{OTHER}"
    assert not index.overlaps([left])


def test_spelling_does_not_hide_an_overlap(index):
    spelled = HELD.replace("，", " , ").replace("限额", "限 额")
    assert index.overlaps([spelled])


def test_a_document_that_is_mostly_held_out_is_dropped(index):
    keep, reason, _ = remove_overlaps([HELD + "\n短。"], index)[0]
    assert not keep
    assert reason.startswith("heldout_overlap")


def test_shorter_overlaps_and_other_text_stay(index):
    for text in (OTHER, HELD[:18], "", "存款保险"):
        assert remove_overlaps([text], index) == [(True, "", text)]


def test_short_items_match_as_whole_sentences_only(index):
    found = index.overlaps(["问：好。\n定期存款提前支取，怎么算利息\n答：按活期。"])
    assert list(found) == [0]
    assert not index.overlaps(["他想知道定期存款提前支取怎么算利息和罚息。"])


def test_latin_text_needs_a_window_three_times_as_long(index):
    assert index.overlaps(["It says: " + ENGLISH[:95]])
    assert not index.overlaps(["It says: " + ENGLISH[:45]])


def test_overlaps_are_placed_in_the_right_text_of_a_batch(index):
    found = index.overlaps([OTHER, "甲乙丙" + HELD[:25], OTHER])
    assert list(found) == [1]
    ((start, end),) = found[1]
    assert ("甲乙丙" + HELD[:25])[start:end].startswith("存款保险")


def test_index_survives_a_file(index, tmp_path):
    index.save(tmp_path / "index.npz")
    loaded = HeldoutIndex.load(tmp_path / "index.npz")
    assert loaded.items == index.items
    assert loaded.overlaps([HELD]) == index.overlaps([HELD])
    HeldoutIndex.build([], 20).save(tmp_path / "empty.npz")
    assert HeldoutIndex.load(tmp_path / "empty.npz").overlaps([HELD]) == {}


def test_cut_lines_by_hand():
    assert cut_lines("aa\nbb\ncc", [(3, 4)]) == "aa\ncc"
    assert cut_lines("aa\nbb\ncc", [(1, 4)]) == "cc"
    assert cut_lines("aa\nbb\ncc", []) == "aa\nbb\ncc"
