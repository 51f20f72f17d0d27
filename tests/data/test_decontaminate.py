"""Held-out text must not remain, and nothing else may go."""

import random

import pytest

from finllm_utils.data.decontaminate import (
    HeldoutIndex,
    cut_lines,
    heldout_units,
    leftover_overlaps,
    removal_report,
    remove_overlaps,
    split_articles,
)
from finllm_utils.data.heldout import heldout_texts
from finllm_utils.data.normalize import normalize
from finllm_utils.data.pii import mask_pii
from finllm_utils.records import Document

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


def test_an_item_of_several_sentences_matches_wherever_they_follow_each_other():
    index = HeldoutIndex.build(["保险到期了怎么办？能退钱吗？要交税吗？"], 30)
    text = "请回答：保险到期了怎么办？能退钱吗？\n要交税吗？谢谢。"
    ((start, end),) = index.overlaps([text])[0]
    assert text[start:end] == "保险到期了怎么办？能退钱吗？\n要交税吗？"
    assert not index.overlaps(["保险到期了怎么办？能退钱吗？不能。"])


def test_heldout_text_is_compared_in_the_spelling_of_the_chain():
    text = "客戶李曉東（電話１３８００１３８０００）於2024年申請贖回，銀行應當辦理。"
    index = HeldoutIndex.build([text], 12)
    cleaned = mask_pii(normalize(text, {})[0])[0]
    assert cleaned.startswith("客户[姓名]（电话[手机号]）于2024年")
    assert index.overlaps([cleaned[:22]])  # 14 letters, all before 年
    assert index.overlaps(["于2024年申请赎回，银行应当办理。"])


FORMULA = (
    "违反本法规定，构成犯罪的，依法追究刑事责任；给他人造成损害的，依法承担民事责任。"
)
LAW = (
    f"《某某法》第八章 法律责任\n第七十条 {FORMULA}\n尚不构成犯罪的，由主管部门责令改正。"
    f"\n第七十一条 {OTHER}{FORMULA[:28]}{OTHER[:20]}\n第七十二条　{OTHER}\n{HELD[:20]}"
    "\n第七十三条 本法自公布之日起施行。"
)


def test_a_statute_is_split_at_its_articles():
    text = "序言。\n目录\n" + LAW
    units = split_articles(text)
    assert [text[u.start : u.end][:6] for u in units] == [
        "序言。", "目录", "《某某法》第", "第七十条 违", "第七十一条 ", "第七十二条\u3000", "第七十三条 ",
    ]  # fmt: skip
    assert [u.is_heading for u in units] == [0, 0, 1, 0, 0, 0, 0]
    assert text[units[3].body : units[3].end].startswith("违反本法规定")
    assert "\n".join(text[u.start : u.end] for u in units) == text


def test_a_statute_loses_articles_where_other_text_loses_lines():
    index = HeldoutIndex.build([f"第九十条 {FORMULA}"], 20)
    keep, reason, left = remove_overlaps([LAW], index, [True])[0]
    gone = LAW.split("\n")[1:3]  # half of its windows of 13 are held out
    assert keep and left == LAW.replace("\n".join(gone) + "\n", "")
    lost = len(LAW) - len(left)
    assert reason == f"heldout_articles_cut:{lost / len(LAW):.2f}:{lost}:1"
    assert FORMULA[:28] in left  # a formula of 25 letters, as statutes share them
    assert not remove_overlaps([LAW], index)[0].keep


def test_a_statute_survives_the_loss_of_most_articles_but_not_of_all():
    held, kept = f"第一条 {HELD}", f"第三条 {OTHER}"
    index = HeldoutIndex.build([HELD], 20)
    text = "\n".join(["《某法》", held, held, held, kept])
    assert remove_overlaps([text], index, [True])[0].text == f"《某法》\n{kept}"
    assert not remove_overlaps([text], index, [False])[0].keep
    keep, reason, left = remove_overlaps([f"《某法》\n{held}"], index, [True])[0]
    assert (keep, reason, left) == (False, "heldout_overlap:1.00", f"《某法》\n{held}")


def test_a_short_item_is_cut_out_of_a_statute_too():
    question = "定期存款提前支取怎么算利息？"
    index = HeldoutIndex.build([question, HELD[:34]], 60)
    text = f"第一条 {OTHER}\n{question}\n第二条 {OTHER}\n第三条 甲。{HELD[:34]}。{OTHER * 3}"
    assert remove_overlaps([text], index, [True])[0].text == f"第二条 {OTHER}"


def test_latin_text_of_a_verbatim_source_loses_lines():
    index = HeldoutIndex.build([ENGLISH], 20)
    text = f"Section 1\n{ENGLISH}\n" + "Nobody shall sell what he does not own. " * 9
    result = remove_overlaps([text, HELD], index, [True, True])[0]
    assert result.reason.startswith("heldout_lines_cut") and ENGLISH not in result.text


def letters(text):
    return "".join(c for c in text if c.isalnum()).lower()


def brute_force(bodies, held):
    """The rule in plain Python: runs of 50 and windows of 13 as strings."""
    held = [letters(text) for text in held]
    for body in map(letters, bodies):
        grams = [body[i : i + 13] for i in range(len(body) - 12)]
        shared = sum(any(g in text for text in held) for g in grams)
        runs = (body[i : i + 50] for i in range(len(body) - 49))
        yield bool(2 * shared >= len(grams) > 0) or any(
            run in text for run in runs for text in held
        )


def test_the_article_rule_equals_brute_force():
    chance = random.Random(0)
    words = "利率风险披露义务客户资产负债资本监管机构处罚依照规定，办理。"

    def draw(size):
        return "".join(chance.choice(words) for _ in range(size))

    held = [draw(chance.randint(50, 150)) for _ in range(30)]
    bodies = []
    for _ in range(400):
        source, size = chance.choice(held), chance.randint(5, 70)
        start = chance.randrange(len(source))
        quote = source[start : start + size]
        bodies.append(draw(chance.randint(0, 90)) + quote + draw(chance.randint(0, 9)))
    expected = list(brute_force(bodies, held))
    assert 0.2 < sum(expected) / len(expected) < 0.8
    found = heldout_units(bodies, HeldoutIndex.build(held, 30))
    assert found.tolist() == expected


def test_what_is_left_is_judged_by_the_same_rule():
    index = HeldoutIndex.build([f"第九十条 {FORMULA}"], 20)
    law = Document(id="a", text=LAW, source="laws", domain="finance_zh")
    note = Document(
        id="b", text=f"{OTHER}\n{FORMULA[:28]}", source="x", domain="finance_zh"
    )
    found = leftover_overlaps([law, note], index, ("laws",))
    assert {key: reason.split(":")[0] for key, reason in found.items()} == {
        "a": "heldout_articles_cut", "b": "heldout_lines_cut",
    }  # fmt: skip
    clean = [
        Document(id="a", text=text, source="laws", domain="finance_zh")
        for _, _, text in remove_overlaps([law.text], index, [True])
    ]
    assert leftover_overlaps(clean, index, ("laws",)) == {}
    assert leftover_overlaps(clean, index) != {}


def test_the_report_counts_by_source_and_kind():
    cut = "heldout_articles_cut:0.25:310:2"
    kept = [
        Document(id="l1", text="x", source="laws", domain="d", meta={"cut": cut}),
        Document(id="l2", text="x", source="laws", domain="d", meta={"cut": cut}),
        Document(id="n", text="x", source="news", domain="d"),
    ]
    row = {"id": "r", "source": "news", "chars": 90, "step": "decontaminate"}
    rejected = [
        row | {"reason": "heldout_overlap:0.80"},
        row | {"step": "length", "reason": "too_short"},
    ]
    assert removal_report(kept, rejected) == [
        {"source": "laws", "kind": "heldout_articles_cut", "documents": 2, "parts": 4,
         "chars": 620, "example": "l1"},
        {"source": "news", "kind": "heldout_overlap", "documents": 1, "parts": 0,
         "chars": 90, "example": "r"},
    ]  # fmt: skip


def test_the_hub_questions_are_held_out_too():
    texts = set(heldout_texts())
    assert "明天美元会涨还是会跌？" in texts
    assert any(t.startswith("我们公司今年上半年营收1.28亿") for t in texts)
