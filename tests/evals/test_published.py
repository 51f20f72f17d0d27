"""Published exams: own questions in the published formats, sound and broken."""

import json

import pytest

from finllm_utils.evals.exam.published import read_published

FINANCEIQ = """,Question,A,B,C,D,Answer
0,下列各项中属于货币市场工具的是（  ）。,国库券,普通股,公司债券,永续债,A
1,"存款保险的最高偿付限额, 按同一存款人在同一家投保机构计算，是（  ）。",10万元,30万元,50万元,100万元,C
"""
FINEVA = """id,question,A,B,C,D,answer
0,保险合同成立后，投保人按照约定交付保险费。（  ）,对,错,,,A
1,下列属于人身保险的有____。,寿险,健康险,意外险,车损险,"A,B,C"
2,基金份额净值每个交易日计算一次____。,错误,正确,,,对
3,财产保险的标的是____。,财产,寿命,身体,健康,
"""
CFLUE = [
    {
        "名称": "银行从业",
        "task": "多项选择题",
        "question": "商业银行的资产业务有（）。",
        "choices": "{'A': '贷款', 'B': \"债券'投资'\", 'C': '吸收存款', 'D': '贴现', 'E': '发行债券'}",
        "answer": "DBA",
        "analysis": "存款与发债是负债。",
    },
    {
        "名称": "反假知识",
        "task": "判断题",
        "question": "假币应当当面收缴。（）",
        "choices": "{'A': '对', 'B': '错'}",
        "answer": "A",
        "analysis": None,
    },
]


def put(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_folder_of_financeiq_in_any_encoding(tmp_path, encoding, line_end):
    text = FINANCEIQ.replace("\n", line_end)
    for split in ("dev", "test"):
        put(tmp_path, f"data/{split}/银行从业资格.csv", text, encoding)
    items, problems = read_published(tmp_path, "financeiq")
    assert not problems
    assert [item.id for item in items] == [
        f"financeiq/{split}/银行从业资格/{n}"
        for split in ("dev", "test")
        for n in (0, 1)
    ]
    assert items[3].question.startswith("存款保险的最高偿付限额, 按")
    assert items[3].choices == ("10万元", "30万元", "50万元", "100万元")
    assert (items[3].answer, items[3].type, items[3].subject) == (
        "C", "single", "银行从业资格",
    )  # fmt: skip
    assert read_published(tmp_path, split="test")[0][1].answer == "C"


def test_multi_select_true_false_and_withheld_keys(tmp_path):
    path = put(tmp_path, "data/Ant/保险.csv", FINEVA)
    items, problems = read_published(path)
    assert [(i.id, i.type, i.answer) for i in items] == [
        ("保险/0", "true_false", "A"),
        ("保险/1", "multiple", "ABC"),
        ("保险/2", "true_false", "A"),
    ]
    assert items[0].choices == items[2].choices == ("正确", "错误")
    assert [(p.place, p.faulty) for p in problems] == [("line 5", False)]


def test_three_options_and_the_subject_of_a_map(tmp_path):
    text = "id,question,A,B,C,answer\n0,市场情绪高涨，这句话是____。,中性,积极,消极,B\n"
    put(tmp_path, "SUFE/val/finance_val.csv", text)
    names = {"finance": {"name": "finance", "ch": "金融学"}}
    put(tmp_path, "SUFE/subject_map.json", json.dumps(names, ensure_ascii=False))
    (item,), _ = read_published(tmp_path, "fineva")
    assert (item.id, item.subject) == ("fineva/val/finance/0", "金融学")
    assert item.choices == ("中性", "积极", "消极")
    mapped = {"finance": ["Finance", "金融", "Social Science"]}
    put(tmp_path, "SUFE/subject_map.json", json.dumps(mapped, ensure_ascii=False))
    assert read_published(tmp_path, "ceval")[0][0].subject == "金融"


def test_a_split_without_keys_is_told_once(tmp_path):
    put(tmp_path, "val/law_val.csv", FINEVA)
    put(
        tmp_path,
        "test/law_test.csv",
        "id,question,A,B,C,D\n" + "0,问题,甲,乙,丙,丁\n" * 9,
    )
    items, problems = read_published(tmp_path, "ceval")
    assert len(items) == 3
    assert [p.reason for p in problems if "law_test" in p.file] == [
        "no answer column: 9 rows without a key"
    ]
    with pytest.raises(ValueError, match="use split='val'"):
        read_published(tmp_path, "ceval", split="test")


@pytest.mark.parametrize("name", ["knowledge.json", "knowledge.jsonl"])
def test_cflue_and_its_choices_as_python_text(tmp_path, name):
    lines = [json.dumps(row, ensure_ascii=False) for row in CFLUE]
    text = f"[{','.join(lines)}]" if name.endswith("json") else "\n".join(lines)
    items, problems = read_published(put(tmp_path, name, text))
    assert not problems
    multi, truth = items
    assert (multi.type, multi.answer, multi.subject) == ("multiple", "ABD", "银行从业")
    assert multi.choices == ("贷款", "债券'投资'", "吸收存款", "贴现", "发行债券")
    assert multi.proof == "存款与发债是负债。"
    assert (truth.type, truth.answer, truth.choices) == (
        "true_false", "A", ("正确", "错误"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"choices": "__import__('os').getcwd()"}, "no dict of letters"),
        ({"choices": "{'A': '贷款', 'C': '存款'}"}, "letters A, B"),
        ({"choices": "{'A': '" + "长" * 20_000 + "'}"}, "more than 20,000"),
        ({"choices": "(" * 5_000}, "no dict of letters"),
        ({"choices": "{'A': '甲'}", "answer": "A"}, "choices: 1 options"),
        ({"answer": "AF"}, "'AF' is outside the 5 options"),
        ({"answer": "AA"}, "each once"),
        ({"task": "单项选择题"}, "of a single item must be one letter"),
        ({"task": "判断题"}, "a judgement has 正确 and 错误"),
        ({"answer": "D"}, "of a multiple item must be two letters"),
        ({"task": "简答题"}, "unknown task '简答题'"),
        ({"question": " "}, "question is empty"),
        ({"question": "银\ufffd行"}, "broken characters"),
    ],
)
def test_every_fault_of_a_row_is_told(tmp_path, change, said):
    rows = [CFLUE[1], CFLUE[0] | change]
    path = put(tmp_path, "knowledge.json", json.dumps(rows, ensure_ascii=False))
    items, (problem,) = read_published(path, max_bad_share=0.5)
    assert len(items) == 1
    assert said in problem.reason and problem.place == "item 2"
    assert str(problem).startswith(f"{path}, item 2: ")


def test_faults_of_csv_rows_name_the_line_where_they_begin(tmp_path):
    text = FINANCEIQ + (
        '2,"两行的\n题目",甲,乙,丙,丁,E\n'
        "3,缺一个选项,甲,,丙,丁,A\n"
        "1,重复的编号,甲,乙,丙,丁,A\n"
        "\n"
        "4,少了引号的, 题目,甲,乙,丙,丁,A\n"
        "5,有两个一样的,甲,乙,甲,丁,A\n"
        "6,好的一题,甲,乙,丙,丁,A\n"
    )
    items, problems = read_published(put(tmp_path, "x.csv", text), max_bad_share=0.9)
    assert [item.id for item in items] == ["x/0", "x/1", "x/6"]
    assert [(p.place, p.reason[:24]) for p in problems] == [
        ("line 4", "answer: 'E' is outside t"),
        ("line 6", "option B is missing"),
        ("line 7", "id '1' stands at line 3 "),
        ("line 9", "8 fields under a header "),
        ("line 10", "choices: two are equal, "),
    ]
    with pytest.raises(ValueError, match="5 of 8 rows.*max_bad_share=50%.*line 4"):
        read_published(tmp_path / "x.csv", max_bad_share=0.5)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "prompt,reply\n问,答\n", "unknown header 'prompt,reply'.*financeiq"),
        (
            "a.csv",
            'id,question,A,B,answer\n0,"开了引号,甲,乙,A\n',
            "line 2: no readable",
        ),
        ("a.json", '{"instruction": "x"}', "a list of items.*cflue"),
        (
            "a.json",
            '[{"instruction": "问", "output": "答"}]',
            "item 1: not an exam item",
        ),
        ("a.json", "[{", "line 1: broken JSON"),
        ("a.jsonl", '{"a": 1}\n{', "line 1: not an exam item"),
    ],
)
def test_files_of_no_known_form_are_refused(tmp_path, name, text, said):
    with pytest.raises(ValueError, match=said):
        read_published(put(tmp_path, name, text))


def test_other_files_of_a_folder_are_told_and_left_out(tmp_path):
    put(tmp_path, "Ant/知识.csv", FINEVA)
    path = put(tmp_path, "Ant/文案.csv", "id,question,answer\n0,写一段文案,好的\n")
    items, problems = read_published(tmp_path, "fineva")
    assert len(items) == 3
    assert [p.file for p in problems if "unknown header" in p.reason] == [str(path)]
    (tmp_path / "Ant/知识.csv").unlink()
    with pytest.raises(ValueError, match="unknown header"):
        read_published(tmp_path)


def test_settings_and_empty_places_are_refused(tmp_path):
    with pytest.raises(ValueError, match="kind='mmlu': use auto, financeiq"):
        read_published(tmp_path, "mmlu")
    with pytest.raises(ValueError, match="split='train'"):
        read_published(tmp_path, split="train")
    with pytest.raises(ValueError, match="no .csv, .json, .jsonl file there"):
        read_published(tmp_path)
    path = put(tmp_path, "data.csv", FINANCEIQ)
    with pytest.raises(ValueError, match="kind='cflue'.*financeiq or cmmlu"):
        read_published(path, "cflue")
