"""The finance exam's items, prompts, orders and rules, on small items of its own."""

from dataclasses import asdict, replace

import pytest

from finllm_utils.evals.exam.items import (
    chance_level,
    choose_shots,
    chosen_texts,
    continuations,
    exam_fault,
    exam_prompt,
    legal_answers,
    read_exam,
    read_paraphrases,
    rule_results,
    shuffled,
)
from tests.conftest import write_lines
from tests.evals.small_exam import three_kinds

SINGLE, MULTIPLE, JUDGEMENT = three_kinds(
    "活期存款按什么计息？", ("季", "按活期", "日复利", "十年")
)
ROW = asdict(SINGLE) | {
    "statute": [{"law": "某法", "article": "第一条", "quote": "某"}]
}


def write(folder, *rows, name="bank.jsonl"):
    write_lines(folder / name, *rows)


def test_items_are_read_in_order_and_paraphrases_stay_apart(tmp_path):
    second = ROW | {"id": "exam/tax/001", "subject": "税务师", "check": []}
    other = {
        "id": ROW["id"],
        "question": "活期怎样计息？",
        "choices": ["十年", "季", "日复利", "按活期"],
        "answer": "D",
    }
    write(tmp_path, second, name="tax.jsonl")
    write(tmp_path, ROW)
    write(tmp_path, other, name="paraphrases_bank.jsonl")
    items = read_exam(tmp_path)
    assert items == [SINGLE, replace(SINGLE, id="exam/tax/001", subject="税务师")]
    (reworded,) = read_paraphrases(items, tmp_path)
    assert (reworded.id, reworded.subject, reworded.answer) == (ROW["id"], "银行", "D")
    assert chosen_texts(reworded, "D") == chosen_texts(SINGLE, "B") == {"按活期"}


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"choices": ["季", "按活期", "日复利"]}, "choices", "a missing one"),
        ({"choices": ["季", " ", "日复利", "十年"]}, "choices", "B is empty"),
        ({"choices": ["季", "十年", "日复利", "十年 "]}, "choices", "equal"),
        ({"choices": "ABCD"}, "choices", "no list"),
        ({"choices": list("一二三四五六七八九")}, "choices", "9 options"),
        ({"answer": "E"}, "answer", "outside"),
        ({"answer": ""}, "answer", "no text"),
        ({"answer": "AB"}, "answer", "one letter"),
        ({"type": "multiple", "answer": "BA"}, "answer", "sorted"),
        ({"type": "multiple", "answer": "BB"}, "answer", "sorted"),
        ({"type": "multiple", "answer": "B"}, "answer", "two letters"),
        ({"type": "essay"}, "type", "essay"),
        ({"type": "true_false"}, "choices", "judgement"),
        ({"subject": "航空"}, "subject", "航空"),
        ({"question": 7}, "question", "7"),
        ({"note": "x"}, "note", "unknown"),
        ({"statute": []}, "statute", "proves"),
    ],
)
def test_a_broken_item_is_named_by_file_line_and_field(tmp_path, change, field, reason):
    write(tmp_path, ROW, ROW | {"id": "exam/bank/002"} | change)
    with pytest.raises(ValueError, match=rf"bank\.jsonl, line 2, {field}: .*{reason}"):
        read_exam(tmp_path)


def test_missing_fields_doubled_ids_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no subject files"):
        read_exam(tmp_path)
    with pytest.raises(ValueError, match="no paraphrases"):
        read_paraphrases([SINGLE], tmp_path)
    write(tmp_path, ROW, {k: v for k, v in ROW.items() if k != "proof"})
    with pytest.raises(ValueError, match="line 2, proof: missing"):
        read_exam(tmp_path)
    write(tmp_path, ROW)
    write(tmp_path, ROW, name="tax.jsonl")
    with pytest.raises(ValueError, match=r"tax\.jsonl, line 1, id: .* twice"):
        read_exam(tmp_path)
    write(tmp_path, {"id": "exam/bank/9"}, name="paraphrases.jsonl")
    with pytest.raises(ValueError, match="paraphrases.jsonl, line 1, id: .*no item"):
        read_paraphrases([SINGLE], tmp_path)


def test_a_three_option_item_passes_where_three_are_allowed():
    short = replace(SINGLE, choices=SINGLE.choices[:3])
    assert exam_fault(short, min_choices=3) == ""
    assert exam_fault(short).startswith("choices: 3 options")


def test_the_prompt_word_for_word():
    assert exam_prompt(SINGLE) == (
        "以下是银行的单项选择题，请给出正确选项。\n题目：活期存款按什么计息？\n"
        "A. 季\nB. 按活期\nC. 日复利\nD. 十年\n答案："
    )
    shot = replace(SINGLE, id="s", question="利息？", answer="C")
    assert exam_prompt(SINGLE, [shot], listed=False) == (
        "以下是银行的单项选择题，请给出正确选项。\n题目：利息？\n答案：日复利\n\n"
        "题目：活期存款按什么计息？\n答案："
    )
    text = exam_prompt(MULTIPLE, [replace(MULTIPLE, id="s")])
    assert "多项选择题" in text and "答案：ABD\n\n题目：" in text
    assert "判断题" in exam_prompt(JUDGEMENT)


def test_shots_are_of_one_kind_seeded_and_never_the_item_itself():
    pool = [replace(SINGLE, id=f"s{i}", question=f"问{i}") for i in range(6)]
    pool += [replace(SINGLE, id="far", question="远", subject="证券"), MULTIPLE]
    item = pool[2]
    seen = set()
    for seed in range(20):
        shots = choose_shots(item, pool, 5, seed)
        assert shots == choose_shots(item, pool, 5, seed)
        assert {s.id for s in shots} == {"s0", "s1", "s3", "s4", "s5"}
        seen.add(tuple(s.id for s in shots))
    assert len(seen) > 10
    assert choose_shots(item, pool, 6, 0)[-1].id == "far"
    reworded = replace(item, question="换个问法")
    assert item.id not in {s.id for s in choose_shots(reworded, pool, 6, 0)}
    with pytest.raises(ValueError, match="6 other single items for 7"):
        choose_shots(item, pool, 7, 0)


def test_shuffling_moves_choices_and_answer_together():
    orders = set()
    for seed in range(60):
        one = shuffled(MULTIPLE, seed)
        assert one == shuffled(MULTIPLE, seed) and exam_fault(one) == ""
        assert chosen_texts(one, one.answer) == {"季", "按活期", "十年"}
        orders.add(one.choices)
    assert len(orders) > 15  # of 24
    above = replace(SINGLE, choices=("甲", "以上都对", "乙", "丙"))
    assert {shuffled(above, s).choices[1] for s in range(9)} == {"以上都对"}
    assert {shuffled(JUDGEMENT, s).answer for s in range(9)} == {"A", "B"}


def test_legal_answers_and_chance():
    assert legal_answers(SINGLE) == ("A", "B", "C", "D")
    assert legal_answers(JUDGEMENT) == ("A", "B")
    three = replace(MULTIPLE, choices=("一", "二", "三"))
    assert legal_answers(three) == ("AB", "AC", "BC", "ABC")
    assert continuations(three) == ("AB\n", "AC\n", "BC\n", "ABC\n")
    assert continuations(JUDGEMENT) == ("A", "B")
    assert len(legal_answers(MULTIPLE)) == 2**4 - 4 - 1
    expected = (1 / 4 + 1 / 11 + 1 / 2) / 3
    assert chance_level([SINGLE, MULTIPLE, JUDGEMENT]) == pytest.approx(expected)
    with pytest.raises(ValueError, match="no items"):
        chance_level([])


def test_rules_by_hand():
    (longest,) = rule_results([SINGLE, MULTIPLE, JUDGEMENT], "longest option")
    assert (longest.credit, longest.given, longest.group) == (0.5, "B/C", "银行")
    (shortest,) = rule_results([SINGLE], "shortest option")
    assert (shortest.credit, shortest.given) == (0, "A")
    (overlap,) = rule_results([SINGLE], "most overlap")  # 活期 stands in the question
    assert (overlap.credit, overlap.given) == (1, "B")
    with pytest.raises(ValueError, match="most overlap"):
        rule_results([SINGLE], "middle option")
