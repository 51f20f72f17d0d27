"""Instruction tasks on hand-made text, and the sets built from the real corpora."""

import dataclasses
import itertools
import json
import random
import re
from decimal import Decimal

import pytest

from finllm_utils.corpora.chinese import reviews
from finllm_utils.corpora.splits import insurance_questions, load_splits
from finllm_utils.data import instructions as ins
from finllm_utils.data.decontaminate import HeldoutIndex
from finllm_utils.data.instruction_gate import Gate, conversation_text, heldout_gate
from finllm_utils.data.tasks_finance import (
    CALCULATIONS,
    QA,
    FinanceTexts,
    insurance_dialogue,
    insurance_qa,
    short_answer,
    statute,
)
from finllm_utils.data.tasks_general import (
    GENERAL_TASKS,
    GeneralTexts,
    cloze,
    order_clauses,
    punctuate,
)
from finllm_utils.data.wordings import (
    Source,
    chinese_number,
    first_sentences,
    one_turn,
    sentences,
)
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document

NEWS = Source(
    "n/1",
    "中国银行在北京开会，讨论今年的工作。会上提出三项任务，请大家落实。记者在现场报道。",
)
CFG = dataclasses.replace(
    load_profile("toy").sft,
    num_instructions=150,
    num_stage2=60,
    num_heldout_answers=20,
    num_heldout_per_task=3,
    computed_share=0.2,
    max_own_chars=100,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "零"),
        (10, "十"),
        (12, "十二"),
        (305, "三百零五"),
        (9009, "九千零九"),
        (2212, "二千二百一十二"),
    ],
)
def test_chinese_numbers_by_hand(value, text):
    assert chinese_number(value) == text


def test_first_sentences_are_never_cut():
    assert first_sentences("好。行！不。", 4) == "好。行！"
    assert first_sentences("这一句太长了，放不下。", 5) == ""
    assert first_sentences("没有句号", 50) == ""


def test_sentences_keep_closing_quotes():
    assert sentences("他说：“今天天气很好。”于是大家都出门去了。", low=5) == [
        "他说：“今天天气很好。”",
        "于是大家都出门去了。",
    ]


def test_cloze_fills_back_to_the_sentence():
    texts = GeneralTexts(
        (Source("n", "会议决定拨款300万元用于修建新的图书馆大楼。"),), (), ()
    )
    item = next(cloze(texts, random.Random(0)))
    gap = re.search(r"会议.*。", item.messages[0].content).group()
    assert gap.replace("____", item.messages[1].content) in texts.prose[0].text
    assert item.messages[1].content == "300万元"


def test_order_restores_the_paragraph():
    for seed in range(6):
        item = next(order_clauses(GeneralTexts((NEWS,), (), ()), random.Random(seed)))
        shown = dict(re.findall(r"(\d)\. (.+)", item.messages[0].content))
        order = item.messages[1].content.strip("。").split("、")
        assert "".join(shown[i] for i in order) == NEWS.text


def test_punctuation_is_all_that_is_lost():
    item = next(punctuate(GeneralTexts((NEWS,), (), ()), random.Random(0)))
    bare = re.sub("[，。]", "", item.messages[1].content)
    assert bare in item.messages[0].content


def _review_texts() -> GeneralTexts:
    rows = [
        Source(f"reviews/{i}", r.text, ("负面", "正面")[r.positive])
        for i, r in enumerate(reviews()[::40])
    ]
    return GeneralTexts((), tuple(rows), ())


def test_sentiment_answers_are_the_sites_labels_in_balance():
    texts = _review_texts()
    label = {s.id: s.label for s in texts.reviews}
    found = list(GENERAL_TASKS["sentiment"](texts, random.Random(0)))
    assert len(found) > 50
    assert all(i.messages[1].content == label[i.source] + "。" for i in found)
    positive = sum("正面" in i.messages[1].content for i in found)
    assert positive * 2 == len(found)


def test_arithmetic_answers_are_true():
    stream = GENERAL_TASKS["arithmetic"](GeneralTexts((), (), ()), random.Random(1))
    for item in itertools.islice(stream, 50):
        left, right = item.messages[1].content.rstrip("。").split(" = ")
        assert eval(left.replace("×", "*")) == int(right)  # noqa: S307


@pytest.mark.parametrize("make", CALCULATIONS, ids=lambda f: f.__name__)
def test_calculations_recompute(make):
    """The worked step, evaluated independently, gives the stated figure."""
    for seed in range(20):
        _, answer = make(random.Random(seed))
        steps = re.findall(r"([\d(][^=，]*?) = (-?[\d.]+%?)", answer)
        assert steps
        for left, right in steps:
            text = re.sub(r"([\d.]+)%", r"(\1/100)", left).replace("^", "**")
            text = text.replace("×", "*").replace("÷", "/")
            text = re.sub(r"(\d+(?:\.\d+)?)", r"Decimal('\1')", text)
            value = eval(text, {"Decimal": Decimal})  # noqa: S307  (our own text)
            if right.endswith("%"):
                value, right = value * 100, right[:-1]
            assert abs(value - Decimal(right)) <= Decimal("0.005"), (left, right)


def test_insurance_answers_are_whole_and_chinese():
    text = "什么是年金？年金是一种按期付款的合同。它很常见。"
    good = QA("q", "annuities", "什么是年金？", "", text)
    assert short_answer(good, 16) == "年金是一种按期付款的合同。"
    for unfit in ("Please call me today。", "是。", "没有句号的一段很长的回答"):
        assert short_answer(dataclasses.replace(good, answer=unfit), 60) == ""


def test_dialogues_alternate_and_stay_on_one_kind():
    qas = tuple(
        QA(
            f"q{i}",
            ("annuities", "auto-insurance")[i % 2],
            f"问题{i}？",
            "",
            "答案是这样的一句话，请参考。",
        )
        for i in range(8)
    )
    kinds = {qa.zh: qa.kind for qa in qas}
    found = list(insurance_dialogue(FinanceTexts(qas, (), ()), random.Random(0)))
    assert len(found) == 4
    for item in found:
        assert [t.role for t in item.messages] == ["user", "assistant"] * 2
        assert kinds[item.messages[0].content] == kinds[item.messages[2].content]


def test_statutes_are_word_for_word():
    article = Source("a", "保险人应当按照约定承担赔偿责任。", "保险法第二十条")
    item = next(statute(FinanceTexts((), (article,), ()), random.Random(0)))
    assert "《保险法》第二十条" in item.messages[0].content
    assert item.messages[1].content == article.text


def test_gate_refuses_repeats_empties_and_heldout_text():
    secret = (
        "这是一段被保留下来只用于评测的文字，训练集里不应当出现它的任何三十个字的片段。"
    )
    gate = Gate(HeldoutIndex.build([secret], 30), ["人寿保险要交税吗？"])
    ok = one_turn("t", "general", "1", "你好吗，朋友？", "很好。")
    assert gate.passes(ok) and not gate.passes(ok)
    assert not gate.passes(one_turn("t", "general", "2", "请续写。", f"前文。{secret}"))
    leaked = "客户问：人寿保险要交税吗？请简要回答。"
    assert not gate.passes(one_turn("t", "general", "3", leaked, "要看情况。"))
    assert not gate.passes(one_turn("t", "general", "4", "空的？", " "))
    assert gate.refused == {"repeated question": 1, "held-out text": 2, "empty turn": 1}


def test_ratio_is_solved():
    for number, ratio, want in ((2400, 4.0, (1920, 480)), (10, 0.0, (0, 10))):
        cfg = dataclasses.replace(
            CFG, num_instructions=number, general_to_finance=ratio
        )
        assert ins.stage1_counts(cfg) == want


def test_question_overlap_by_hand():
    assert ins.question_overlap("买保险", "保险要看条款。") == 0.5
    assert ins.question_overlap("买保险", "无关") == 0.0


@pytest.fixture(scope="module")
def built():
    """The real sets, small: a slice of the corpora instead of 01's artifact."""
    from finllm_utils.corpora.sources import _newspaper_documents, _review_documents

    documents = [
        *itertools.islice(_newspaper_documents("general_zh"), 500),
        *itertools.islice(_review_documents("general_zh"), 0, 4000, 10),
    ]
    gate = heldout_gate(30)
    train = ins.general_texts(documents, heldout=False)
    finance = ins.finance_texts(CFG, heldout=False)
    stage1 = ins.build_stage1(CFG, train, finance, gate, 0)
    stage2 = ins.build_stage2(CFG, finance, gate, 0)
    heldout = ins.build_heldout(
        CFG,
        ins.general_texts(documents, heldout=True),
        ins.finance_texts(CFG, heldout=True),
        gate,
        0,
    )
    return stage1, stage2, heldout, (train, finance)


def test_counts_ratio_and_many_tasks(built):
    stage1, stage2, heldout, _ = built
    general = sum(i.domain == "general" for i in stage1)
    assert (len(stage1), general) == (150, 120)
    assert len({i.task for i in stage1}) >= 15
    assert len(stage2) == 60
    assert any(len(i.messages) == 4 for i in stage2)
    assert sum(i.task == "insurance_qa" for i in heldout) == 20


def test_no_question_or_heldout_source_in_training(built):
    stage1, stage2, heldout, _ = built
    training = stage1 + stage2
    questions = {i.messages[0].content for i in training}
    assert len(questions) == len(training)
    assert not questions & {i.messages[0].content for i in heldout}
    text_sources = {i.source for i in training if not i.source.startswith("computed")}
    assert not text_sources & {i.source for i in heldout}
    held_laws = load_splits()["laws_finance_zh"] + load_splits()["laws_general_zh"]
    assert not any(
        i.source.split("/")[1:2] == [law] for i in training for law in held_laws
    )
    banned = [q.zh for s in ("valid", "test") for q in insurance_questions(s)]
    text = "\n".join(conversation_text(i) for i in training)
    assert not any(q in text for q in banned if len(q) >= 6)


def test_answers_end_and_fit(built):
    stage1, stage2, _, _ = built
    for item in stage1 + stage2:
        if item.task.startswith("insurance_qa"):
            assert len(item.messages[-1].content) <= CFG.max_answer_chars
            assert item.messages[-1].content[-1] in "。！？"
        if item.task == "extract_numbers":
            assert json.loads(item.messages[-1].content)


def test_same_seed_same_set(built):
    stage1, _, _, (general, finance) = built
    again = ins.build_stage1(CFG, general, finance, heldout_gate(30), 0)
    other = ins.build_stage1(CFG, general, finance, heldout_gate(30), 1)
    assert again == stage1
    assert other != stage1


def test_questions_come_bare_when_asked(built):
    finance = dataclasses.replace(built[3][1], plain_questions=True)
    known = {qa.zh for qa in finance.questions}
    found = itertools.islice(insurance_qa(finance, random.Random(0)), 20)
    assert all(i.messages[0].content in known for i in found)


def test_pretrain_text_keeps_the_shares():
    by_domain = {
        name: [
            Document(id=f"{name}/{i}", text="字" * 100, source="x", domain=name)
            for i in range(100)
        ]
        for name in ins.TEXT_SHARES
    }
    found = ins.draw_pretrain_text(by_domain, 10_000, 0)
    share = sum(d.domain == "general_zh" for d in found) / len(found)
    assert share == pytest.approx(0.6, abs=0.02)
    assert found == ins.draw_pretrain_text(by_domain, 10_000, 0)


def test_own_items_go_where_they_belong_and_fit(built):
    stage1, stage2, heldout, _ = built
    ours = [i for i in stage1 + stage2 + heldout if i.task.startswith("own_")]
    assert {i.task for i in stage1 if i in ours} == {"own_general"}
    assert {i.task for i in stage2 if i in ours} == {"own_finance"}
    assert sum(i in ours for i in stage2) == round(CFG.own_share * CFG.num_stage2)
    finance = [i.task for i in stage1 if i.domain == "finance"]
    computed = sum(task in ins.COMPUTED_TASKS for task in finance)
    assert computed / len(finance) == pytest.approx(CFG.computed_share, abs=0.07)
    assert any(i in ours for i in heldout)
    for item in ours:
        answers = [t.content for t in item.messages if t.role == "assistant"]
        assert max(map(len, answers)) <= CFG.max_own_chars


def test_your_conversations_all_join_stage_2_but_the_held_out(tmp_path):
    rows = [
        {"instruction": f"第{i}号产品的起购金额是多少？", "output": f"{i + 1}万元。"}
        for i in range(60)
    ]
    path = tmp_path / "ours.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    cfg = dataclasses.replace(CFG, own_instructions=(str(path),))
    training, out = (
        [i for i in ins.own_instructions(cfg, heldout=h) if i.task == ins.YOURS]
        for h in (False, True)
    )
    assert len(training) + len(out) == 60 and 1 <= len(out) <= 15
    finance = ins.finance_texts(cfg, heldout=False)
    stage2 = ins.build_stage2(cfg, finance, Gate(), 0)
    assert [i for i in stage2 if i.task == ins.YOURS] and set(training) <= set(stage2)
    path.write_text(json.dumps({"instruction": "问", "output": ""}), "utf-8")
    with pytest.raises(ValueError, match=r"ours.jsonl, line 1.*empty"):
        ins.own_instructions(cfg, heldout=False)


def test_neither_own_nor_computed_items_when_switched_off(built):
    cfg = dataclasses.replace(CFG, computed_share=0.0, max_own_chars=0)
    general, finance = built[3]
    stage1 = ins.build_stage1(cfg, general, finance, heldout_gate(30), 0)
    stage2 = ins.build_stage2(cfg, finance, heldout_gate(30), 0)
    tasks = {i.task for i in stage1 + stage2}
    assert not tasks & {"own_general", "own_finance", *ins.COMPUTED_TASKS}
    assert (len(stage1), len(stage2)) == (150, 60)
