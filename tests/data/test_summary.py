"""Cost by hand, and the documents that changed most."""

import pytest

from finllm_utils.data.summary import cost_estimate, examples_before_after
from finllm_utils.records import Document


def test_cost_by_hand():
    # 10 TB at 2 MB/s: 5,000,000 s on one core
    cost = cost_estimate(2.0)
    assert cost["core_hours"] == pytest.approx(1388.8889)
    assert cost["hours_64_cores"] == pytest.approx(21.7014, abs=1e-4)
    assert cost["hours_2000_cores"] == pytest.approx(0.6944, abs=1e-4)
    assert "memory of dedup" in cost["left_out"] and "reading" in cost["left_out"]
    assert cost_estimate(2.0, 1)["core_hours"] == pytest.approx(138.8889)


@pytest.mark.parametrize(("rate", "terabytes"), [(0, 10), (-1, 10), (1, 0)])
def test_a_cost_needs_a_rate(rate, terabytes):
    with pytest.raises(ValueError, match="must be above 0; measure the rate"):
        cost_estimate(rate, terabytes)


def test_the_most_changed_come_first():
    texts = {
        "same": "存款利率下调以后怎么办",
        "half": "菜单首页\n存款利率下调以后怎么办",
        "most": "首页 基金 债券 登录 注册 帮助\n存款利率",
        "gone": "不在语料里",
    }
    after = {"same": texts["same"], "half": texts["same"], "most": "存款利率"}
    kept = [
        Document(id=key, text=text, source="raw", domain="finance_zh")
        for key, text in (after | {"shipped": "另一篇"}).items()
    ]
    rows = examples_before_after(texts, kept, count=2, width=6)
    assert [row["id"] for row in rows] == ["most", "half"]
    assert rows[0]["changed"] == 1 and 0 < rows[1]["changed"] < 1
    assert (rows[0]["before"], rows[0]["after"]) == ("首页 基金 ", "存款利率")
    assert examples_before_after(texts, kept, count=9)[-1]["changed"] == 0


def test_a_row_begins_a_little_ahead_of_the_first_difference():
    text = "一二三四五六七八九十甲乙丙丁戊己庚辛客户电话13800138000"
    new = Document(
        id="a", text=text.replace("13800138000", "[手机号]"), source="raw",
        domain="finance_zh",
    )  # fmt: skip
    (row,) = examples_before_after({"a": text}, [new], width=15)
    assert (row["before"], row["after"]) == (
        "丙丁戊己庚辛客户电话13800", "丙丁戊己庚辛客户电话[手机号]"
    )  # fmt: skip
