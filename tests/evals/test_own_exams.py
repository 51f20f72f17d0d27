"""Exams of the user's own: one file, a folder, a list, and what is refused."""

import pytest

from finllm_utils.evals.evaluate import course_plan
from finllm_utils.evals.models.local import LocalModel
from finllm_utils.evals.suites.own_exams import ExamSource, read_own_exams
from finllm_utils.profiles import load_profile
from tests.evals.tiny import tiny_model, tiny_tokenizer

HOUSE = """id,question,A,B,C,D,answer,explanation
1,本行个人网银单日转账限额是（ ）。,1万元,5万元,20万元,100万元,B,制度第三条
2,下列属于本行禁止行为的有（ ）。,承诺收益,代客签字,如实告知风险,录音录像,AB,制度第九条
3,客户经理可以代客户保管密码。（ ）,正确,错误,,,B,制度第七条
"""
BROKEN = "9,缺少选项的题目是（ ）。,甲,,丙,丁,A,无\n"


def put(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030"])
def test_one_csv_is_one_exam_with_all_three_types(tmp_path, encoding):
    path = put(tmp_path, "house.csv", HOUSE, encoding)
    ((name, exam),) = read_own_exams(path).items()
    assert (name, exam.source.title, exam.source.axis) == ("house", "house", "finance")
    assert [(i.type, i.answer) for i in exam.items] == [
        ("single", "B"), ("multiple", "AB"), ("true_false", "B"),
    ]  # fmt: skip
    assert exam.items[2].choices == ("正确", "错误") and not exam.left_out


def test_a_faulty_row_is_left_out_by_name_and_too_many_refuse_the_exam(tmp_path):
    put(tmp_path, "house.csv", HOUSE + BROKEN)
    text = '[[exams]]\nname = "rules"\nwhere = "house.csv"\nmax_bad_share = 0.3\n'
    exam = read_own_exams(put(tmp_path, "exams.toml", text))["rules"]
    assert len(exam.items) == 3
    (said,) = exam.left_out
    assert "house.csv, line 5" in said and "option B is missing" in said
    with pytest.raises(ValueError, match=r"1 of 4 rows are faulty"):
        read_own_exams(tmp_path / "house.csv")


def test_a_list_has_titles_splits_and_axes(tmp_path):
    put(tmp_path, "bank/val/one.csv", HOUSE)
    put(tmp_path, "bank/test/one.csv", HOUSE.replace("\n1,", "\n7,"))
    put(tmp_path, "more.csv", HOUSE)
    text = """[[exams]]
name = "bank_val"
title = "the bank's own"
where = "bank"
split = "val"

[[exams]]
name = "more"
where = "more.csv"
axis = ""
"""
    found = read_own_exams(put(tmp_path, "exams.toml", text))
    assert [(n, len(e.items), e.source.axis) for n, e in found.items()] == [
        ("bank_val", 3, "finance"), ("more", 3, ""),
    ]  # fmt: skip
    assert found["bank_val"].source.title == "the bank's own"
    assert all("/val/" in item.id for item in found["bank_val"].items)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[exams]]\nname = 'a'\n", "exam 1: where is missing"),
        ("[[exams]]\nname = '1a'\nwhere = 'house.csv'\n", "begin with a letter"),
        ("[[exams]]\nname = 'a'\nwhere = 'gone.csv'\n", "gone.csv does not exist"),
        (
            "[[exams]]\nname = 'a'\nwhere = 'house.csv'\nkey = 1\n",
            "unknown field 'key'",
        ),
        ("[[exams]]\nname = 'a'\nwhere = 'house.csv'\naxis = 'x'\n", "axis 'x'"),
        ("[[exams]]\nname = 'a'\nwhere = 'house.csv'\n" * 2, "'a' stands twice"),
        ("[exams]\n", r"expected \[\[exams\]\] tables"),
        ("[[exams\n", "not valid TOML"),
    ],
)
def test_a_faulty_list_is_named(tmp_path, text, why):
    put(tmp_path, "house.csv", HOUSE)
    with pytest.raises(ValueError, match=why):
        read_own_exams(put(tmp_path, "exams.toml", text))


def test_a_place_that_is_no_exam(tmp_path):
    with pytest.raises(ValueError, match=r"evals.exams=.*give an existing folder"):
        read_own_exams(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match="ends in .csv"):
        read_own_exams(put(tmp_path, "exam.xlsx", "x"))
    with pytest.raises(ValueError, match="max_bad_share"):
        ExamSource(name="a", where="b", max_bad_share=2)


def test_the_plan_asks_it_beside_the_courses_suites(tmp_path):
    path = put(tmp_path, "house.csv", HOUSE)
    own = {"evals.exams": str(path)}
    small = own | {"evals.num_suite_items": 8, "evals.num_selection_questions": 2}
    plan = course_plan(load_profile("toy", small).evals, 64, "by hand")
    suite = plan.suites["house"]
    assert suite.baseline == pytest.approx((1 / 4 + 1 / 11 + 1 / 2) / 3)
    assert "house" in plan.exams and len(plan.own_items) == 3
    results = suite.run(LocalModel("m", tiny_model(), tiny_tokenizer()))
    assert [one.item for one in results] == [item.id for item in plan.own_items]
    assert all(one.status == "scored" for one in results)
    taken = path.rename(tmp_path / "exam.csv")
    again = load_profile("toy", small | {"evals.exams": str(taken)})
    with pytest.raises(ValueError, match="'exam' is a suite of the course"):
        course_plan(again.evals, 64, "by hand")
