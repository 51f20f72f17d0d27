"""Repeats, spread, leaks, scores and splits: by hand, by brute force, on real items."""

import itertools
import random

import pytest

from finllm_utils.data import instruction_quality as quality
from finllm_utils.data.instruction_gate import conversation_text
from finllm_utils.data.instructions import own_dialogues
from finllm_utils.data.own_items import read_own_items, split_of
from finllm_utils.data.shingles import jaccard, shingle_set
from finllm_utils.data.wordings import one_turn
from finllm_utils.records import ChatTurn, Instruction


def item(question, answer="可以。", *, task="own_qa", source="s/1", system=""):
    turns = [ChatTurn(role="system", content=system)] if system else []
    made = one_turn(task, "finance", source, question, answer)
    return Instruction(
        id=made.id,
        messages=(*turns, *made.messages),
        task=task,
        domain="finance",
        source=source,
    )


@pytest.fixture(scope="module")
def own():
    return [entry.to_instruction() for entry in read_own_items()]


@pytest.fixture(scope="module")
def exams():
    return quality.read_exams()


# near duplicates


def test_near_duplicates_by_hand():
    texts = ["甲乙丙丁戊", "子丑寅卯辰", "甲乙丙丁己", "甲，乙丙丁戊！"]
    found = quality.near_duplicates(texts, 0.5)
    assert found == [(0, 2, 0.5), (0, 3, 1.0), (2, 3, 0.5)]  # 2 shingles of 4; all
    assert quality.near_duplicates(texts, 0.51) == [(0, 3, 1.0)]
    assert quality.near_duplicates([]) == quality.near_duplicates(["", "。"]) == []


@pytest.mark.parametrize("threshold", [0.1, 1 / 3, 0.5, 0.7, 0.9, 1.0])
def test_near_duplicates_are_all_of_them(threshold):
    rng = random.Random(7)
    texts = [
        "".join(rng.choices("存贷利率年月", k=rng.randint(1, 30))) for _ in range(80)
    ]
    for text in texts[:40]:  # near copies: one character changed
        place = rng.randrange(len(text))
        texts.append(text[:place] + rng.choice("存息") + text[place + 1 :])
    sets = [shingle_set(text, quality.NGRAM) for text in texts]
    brute = [
        (i, j, similarity)
        for i, j in itertools.combinations(range(len(texts)), 2)
        if (similarity := jaccard(sets[i], sets[j])) >= threshold
    ]
    assert quality.near_duplicates(texts, threshold) == brute
    assert brute


def test_a_pair_exactly_at_the_threshold_is_found():
    """0.07 * 100 is a little above 7 in floating point."""
    long = "".join(chr(0x4E00 + i) for i in range(102))  # 100 shingles
    assert quality.near_duplicates([long, long[:9]], 0.07) == [(0, 1, 0.07)]


def test_a_threshold_is_a_share():
    for threshold in (0, 1.5, -1):
        with pytest.raises(ValueError, match="threshold"):
            quality.near_duplicates(["甲"], threshold)


def test_rates_by_hand():
    one, other = "提前还款要收违约金吗", "基金净值怎么看"
    assert quality.near_duplicate_rate([one, one]) == 0.5
    assert quality.near_duplicate_rate([one, other, one, one]) == 0.5
    assert quality.near_duplicate_rate([one, one, other], against=[other]) == 1 / 3
    assert quality.near_duplicate_rate([one, other], against=["别的文字内容"]) == 0
    assert quality.near_duplicate_rate([]) == 0


# diversity


def test_entropy_by_hand():
    assert quality.entropy([5, 5, 5, 5]) == 2
    assert quality.entropy([7]) == quality.entropy([]) == quality.entropy([3, 0]) == 0
    assert quality.entropy([3, 1]) == pytest.approx(0.8112781)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("帮我算一下月供", "计算"),
        ("房贷要还多少钱？", "计算"),
        ("为什么净值跌了，怎么办？", "原因"),
        ("怎么销户？为什么这么慢？", "办法"),
        ("信用证和托收的区别", "比较"),
        ("能不能提前取？", "判断"),
        ("提前还款合适吗？", "判断"),
        ("请起草一份催收函", "写作"),
        ("把这句话改成正式的", "改写"),
        ("请翻译成英文", "翻译"),
        ("总结下面的公告", "概括"),
        ("从合同里抽取字段", "抽取"),
        ("你好", "其他"),
    ],
)
def test_requests_by_their_first_words(question, kind):
    assert quality.request_of(question) == kind


def test_diversity_by_hand():
    two = item("能不能提前取？", "可以。", source="s/2")
    two = Instruction(
        id=two.id,
        messages=(*two.messages, *item("怎么取？", "带上存单去柜台。").messages),
        task="own_case",
        domain="finance",
        source="s/2",
    )
    found = quality.diversity([item("你好", "在的。", system="你是客服"), two])
    assert found["items"] == 2
    assert found["tasks"] == {"own_case": 1, "own_qa": 1}
    assert found["task_bits"] == found["task_evenness"] == 1
    assert found["requests"] == {"其他": 1, "判断": 1}
    assert found["request_bits"] == 1
    assert found["multi_turn"] == 0.5
    assert found["question_chars"][0.5] == (2 + 7) / 2  # the system turn is no question
    assert found["answer_chars"][0.5] == (3 + 8) / 2
    with pytest.raises(ValueError, match="no items"):
        quality.diversity([])


LOANS = [f"房贷提前还款违约金怎么算，第{n}次还" for n in "一二三四五六"]
FUNDS = [f"基金赎回到账时间是多久，{n}号申请的" for n in "甲乙丙丁戊己"]


def test_coverage_of_itself_and_of_nothing():
    reference = LOANS + FUNDS
    same = quality.coverage(reference, reference, random.Random(0), num_cells=2)
    assert same["reach"] == pytest.approx(0, abs=1e-6) and same["cells"] == 1
    alien = quality.coverage(
        ["abcdef", "uvwxyz"], reference, random.Random(0), num_cells=2
    )
    assert alien == {"spread": 1.0, "reach": 1.0, "cells": 0.0}
    unlike = ["信用卡账单", "外汇牌价表", "理赔材料单", "开户预约处", "股票停牌了"]
    alien = quality.coverage(["abcdef", "uvwxyz"], unlike, random.Random(0), 1)
    assert alien["cells"] == 0  # sharing nothing is no way to be near every centre


def test_coverage_counts_the_cells_reached():
    reference = LOANS + FUNDS
    half = quality.coverage(LOANS, reference, random.Random(0), num_cells=2)
    assert half["cells"] == 0.5
    mixed = [*LOANS[:3], *FUNDS[:3]]
    whole = quality.coverage(mixed, reference, random.Random(0), num_cells=2)
    assert whole["cells"] == 1 and whole["reach"] < half["reach"]
    again = quality.coverage(mixed, reference, random.Random(0), num_cells=2)
    assert again == whole


def test_spread_falls_with_repeats():
    reference = LOANS + FUNDS
    varied = [LOANS[0], FUNDS[0], "房贷的基金违约金到账"]
    repeats = [LOANS[0], LOANS[0], LOANS[0]]
    spread = [
        quality.coverage(texts, reference, random.Random(0), num_cells=2)["spread"]
        for texts in (varied, repeats)
    ]
    assert spread[0] > spread[1] == pytest.approx(0, abs=1e-6)


def test_coverage_needs_texts_and_references():
    for texts, reference in ((["甲"], LOANS), (LOANS, LOANS[:1] * 9)):
        with pytest.raises(ValueError, match="num_cells=2"):
            quality.coverage(texts, reference, random.Random(0), num_cells=2)


# contamination

EXAM = {
    "e1": "某公司2025年营业收入同比增长了多少个百分点？",
    "e2": "什么是久期错配？",  # shorter than a window
    "e3": "什么？",  # ordinary language
    "e4": "Please translate this sentence about bond yields into Chinese.",
}


def test_contamination_by_hand():
    asked = item("前文。某公司 2025 年营业收入，同比增长了！", source="a")
    told = item("说说看。", "有人问：什么是久期错配？我说不清。", source="b")
    latin = item(
        "He wrote: please translate this sentence about bond yields!", source="c"
    )
    clean = item("某公司2025年营业收入", "同比增长了什么？", source="d")
    found = quality.contaminated([asked, told, latin, clean], EXAM)
    assert found == [
        ("own_qa/a", "e1", "某公司2025年营业收入同比增长了"),
        ("own_qa/b", "e2", "什么是久期错配"),
        ("own_qa/c", "e4", "pleasetranslatethissentenceaboutbondyields"),
    ]
    report = quality.contamination_report([asked, told, latin, clean], EXAM)
    assert (report["contacts"], report["share"]) == (3, 0.75)
    assert report["item_ids"] == ["own_qa/a", "own_qa/b", "own_qa/c"]
    assert (report["items"], report["exams"], report["window"]) == (4, 4, 13)


def test_a_window_is_as_long_as_asked():
    shared = "某公司2025年营业收入同"  # 13 characters
    assert len(shared) == 13
    assert quality.contaminated([item(shared)], EXAM)
    assert not quality.contaminated([item(shared[:-1])], EXAM)
    assert quality.contaminated([item(shared[:-1])], EXAM, n=12)


def test_every_exam_question_is_found_again(exams):
    """Each exam question planted in an answer is found, whatever its form."""
    planted = [
        item(f"问题{n}", f"我见过：{text}", source=str(n))
        for n, text in enumerate(exams.values())
        if len(quality.fold_texts([text])[0]) >= 6
    ]
    found = {contact.item for contact in quality.contaminated(planted, exams)}
    assert found == {entry.id for entry in planted}
    assert len(planted) > 300


def test_exams_are_read_turn_by_turn(exams):
    assert exams["following/001"].startswith("用一句话说明什么是复利")
    assert {"multiturn/001", "multiturn/001#2", "nq-01", "refuse-01"} <= set(exams)


# scores


def test_a_score_shows_its_parts():
    good = item("存款10000元，年利率2%，一年利息多少？", "存款一年的利息是200元。")
    score = quality.score_item(good)
    assert score.parts == {
        "on_topic": pytest.approx(1.0),
        "length": 1.0,
        "ending": 1.0,
        "clean": 1.0,
        "figures": 1.0,
    }
    assert score.value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("question", "answer", "part", "value"),
    [
        ("提前还款要收费吗？", "天气很好，适合散步。", "on_topic", 0.0),
        ("提前还款要收费吗？", "要。", "length", 0.25),  # 2 of 8 characters
        ("提前还款要收费吗？", "收。" * 400, "length", 0.5),  # 400 of 800
        ("提前还款要收费吗？", "要看合同怎么约定，比如", "ending", 0.0),
        ("提前还款要收费吗？", "要看合同\ufffd怎么约定。", "clean", 0.0),
        ("提前还款要收费吗？", "要看合同\ue000怎么约定。", "clean", 0.0),
        ("依据？", "保险法第二条，保险法第九千条。", "articles", 0.5),
        ("本金1000元呢？", "本金1000元，利息77元，合计4321元。", "figures", 1 / 3),
    ],
)
def test_each_part_sees_its_fault(question, answer, part, value):
    score = quality.score_item(item(question, answer))
    assert score.parts[part] == pytest.approx(value)
    mean = sum(score.parts.values()) / len(score.parts)
    assert score.value == pytest.approx(mean) and 0 <= score.value < 1


def test_tasks_may_end_and_be_short_as_they_do():
    for task, answer in (("own_json", '{"a": null'), ("sentiment", "正面")):
        parts = quality.score_item(item("好吗？", answer, task=task)).parts
        assert parts["ending"] == float(task == "own_json") and parts["length"] == 1


# splits


def test_items_are_in_one_split_alone():
    train = [item("怎么销户？", source="a"), item("3+5是多少？", source="computed-1")]
    held = [item("怎么开户？", source="b"), item("3×5是多少？", source="computed-2")]
    quality.no_item_in_two_splits({"train": train, "heldout": held})
    quality.no_item_in_two_splits({"train": train + train})  # one split may repeat


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (item("换个问题", source="a"), "same id"),
        (item(" 怎么销户?", source="b", task="other"), "same question"),
        (item("再换个问题", source="x+a", task="other"), "same source"),
    ],
)
def test_an_item_in_two_splits_is_named(other, what):
    first = item("怎么销户？", source="a")
    with pytest.raises(ValueError, match=what) as caught:
        quality.no_item_in_two_splits({"train": [first], "heldout": [other]})
    assert first.id in str(caught.value) and other.id in str(caught.value)


# the real items


def test_no_two_items_are_alike(own):
    texts = [conversation_text(entry) for entry in own]
    dialogues = [conversation_text(entry) for entry in own_dialogues()]
    assert quality.near_duplicate_rate(texts, 0.3) == 0
    assert quality.near_duplicate_rate(texts, 0.3, dialogues) == 0
    planted = [*texts, texts[0].replace("。", "！"), texts[1][:-3]]
    assert [(i, j) for i, j, _ in quality.near_duplicates(planted)] == [
        (0, 564),
        (1, 565),
    ]


def test_no_item_repeats_an_exam(own, exams):
    """A stock phrase of dividend notices is all that may be shared."""
    found = quality.contaminated(own, exams)
    assert {contact.text for contact in found} <= {"为基数每10股派发现金红利"}


def test_the_items_vary(own):
    found = quality.diversity(own)
    assert len(found["tasks"]) == 27 and found["task_evenness"] > 0.8
    assert len(found["requests"]) >= 15 and found["request_bits"] > 3
    assert found["requests"]["其他"] < 0.15 * len(own)
    assert max(found["requests"].values()) < 0.25 * len(own)


def test_scores_tell_items_from_broken_ones(own):
    """Answers of other questions, half answers and wrong digits score lower."""
    scores = [quality.score_item(entry) for entry in own]
    assert all(s.parts["clean"] == s.parts["length"] == 1 for s in scores)
    assert all(s.parts.get("articles", 1) == 1 for s in scores)
    shuffled = random.Random(1).sample(own, len(own))
    digits = str.maketrans("0123456789", "3074185296")

    def mean(change):
        total = 0.0
        for entry, other in zip(own, shuffled, strict=True):
            last = ChatTurn(role="assistant", content=change(entry, other))
            changed = Instruction(
                id=entry.id,
                messages=(*entry.messages[:-1], last),
                task=entry.task,
                domain=entry.domain,
                source=entry.source,
            )
            total += quality.score_item(changed).value
        return total / len(own)

    right = mean(lambda entry, _: entry.messages[-1].content)
    assert right == pytest.approx(sum(s.value for s in scores) / len(own))
    assert right > 0.9

    def half(entry, _):
        text = entry.messages[-1].content
        return text[: max(1, len(text) // 2)]

    assert mean(lambda _, other: other.messages[-1].content) < right - 0.1
    assert mean(half) < right - 0.1
    assert mean(lambda e, _: e.messages[-1].content.translate(digits)) < right - 0.05


def test_the_split_of_the_items_holds():
    splits = {"train": [], "heldout": []}
    for entry in read_own_items():
        splits[split_of(entry)].append(entry.to_instruction())
    quality.no_item_in_two_splits(splits)
    assert sum(map(len, splits.values())) == 564
