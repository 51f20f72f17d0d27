"""Made-up answers item by item: what earns credit, and what a lost item is called."""

import pytest

from finllm_utils.corpora.laws import laws
from finllm_utils.evals.models.prompts import Failure
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.suites import hallucination_suite as suite
from finllm_utils.evals.tasks import hallucination as hal
from tests.evals.test_hallucination import ASKED, BOOK, LACKING, PASSAGE, TWIN


@pytest.fixture(scope="module")
def asked():
    exam = hal.Exam(
        statutes=[ASKED],
        book=BOOK,
        questions=[hal.Question(**TWIN), hal.Question(**LACKING)],
        passages=[hal.Passage(**PASSAGE)],
    )
    return {one.group: one for one in suite.asked_items(exam)}


@pytest.mark.parametrize(
    ("part", "answer", "credit", "detail"),
    [
        ("statute", "《甲法》第二条。", 1, ""),
        ("statute", "《甲法》第三条。", 0, "another article"),
        ("statute", "《甲法》第九条。", 0, "invented: an article that does not exist"),
        ("statute", "《丁法》第二条。", 0, "invented: an article that does not exist"),
        ("statute", "我不知道。", 0, "no article"),
        ("answerable", "利息是3200元。", 1, ""),
        ("answerable", "利息是3300元。", 0, "not the key"),
        ("answerable", "没有利率，算不出。", 0, "refused"),
        ("lacking", "题目没有利率。", 1, ""),
        (
            "lacking",
            "没有利率，按3%算是4800元。",
            0,
            "invented: a figure that nobody gave",
        ),
        ("lacking", "利息很多。", 0, "does not say what is lacking"),
        ("passage", "调整后是8万元。", 1, ""),
        ("passage", "9.5万元。", 0, "invented: a figure that is not in the text"),
        ("passage", "材料没有说。", 0, "no figure"),
        ("passage", "5万元。", 0, "not the key, or a recital"),
        ("passage", "", 0, "no figure"),
    ],
)
def test_marks_by_hand(asked, part, answer, credit, detail):
    mark = asked[part].mark(answer)
    assert (mark.credit, mark.given, mark.detail) == (credit, answer, detail)


def test_prompts_and_references(asked):
    assert asked["statute"].prompt.id == "statute/甲法/第二条"
    assert asked["statute"].expected == "《甲法》第二条"
    assert all(one.mark(one.expected).credit == 1 for one in asked.values())
    assert suite.baseline_shares(list(asked.values())) == {
        "always_refuses": 0, "copies_passage": 0, "empty": 0,
    }  # fmt: skip


def test_the_course_suite_at_two_sizes():
    made = suite.hallucination_suite(24, 16, seed=0)
    assert len(made.questions) == 24 and made.baseline == 0.25
    finance = {law.short_name for law in laws() if law.is_finance}
    asked = suite.asked_items(suite.hallucination_exam(240, seed=0))
    assert len(asked) == len({one.prompt.id for one in asked}) == 200
    for one in asked:
        if one.group == "statute":
            assert one.prompt.id.split("/")[1] in finance
    shares = suite.baseline_shares(asked)
    assert shares == {"always_refuses": 0.25, "copies_passage": 0, "empty": 0}
    again = suite.hallucination_suite(24, 16, seed=0)
    assert again.questions == made.questions
    assert suite.hallucination_suite(24, 16, seed=1).questions != made.questions


def test_one_result_an_item_and_failures_apart():
    made = suite.hallucination_suite(8, 16, seed=0)

    class Answers:
        name = "m"

        def answers(self, prompts, max_new_tokens):
            assert max_new_tokens == 16
            return [Failure("time-out"), *["第九千条和77777"] * (len(prompts) - 1)]

    found = made.run(Answers())
    assert [one.item for one in found] == list(made.questions)
    assert (found[0].status, found[0].detail) == ("failed", "time-out")
    assert all(one.credit == 0 for one in found)
    assert suite.share_invented(found) == 5 / 7  # of the two answerable, figures count
    with pytest.raises(ValueError, match="no item was scored"):
        suite.share_invented(found[:1])


def test_share_invented_by_hand():
    said = ["invented: x", "no figure", "", "refused"]
    rows = [
        ItemResult(suite="h", model="m", item=f"{i}", credit=0, detail=detail)
        for i, detail in enumerate(said)
    ]
    assert suite.share_invented(rows) == 0.25
