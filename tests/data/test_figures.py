"""Figures with their units, by hand."""

from decimal import Decimal

import pytest

from finllm_utils.data.figures import POWERS, figures, figures_in_full, in_full


def test_figures_with_their_units():
    text = "约1,250.50万元，占3％，第12期，降30个基点，2026年，3个亿，5千万，2 BP"
    assert [(str(f.value), f.unit) for f in figures(text)] == [
        ("1250.50", "万"),
        ("3", "%"),
        ("12", ""),
        ("30", "基点"),
        ("2026", ""),
        ("3", "亿"),
        ("5", "千万"),
        ("2", "BP"),
    ]
    assert figures("没有数字，三万元") == []


def test_every_unit_is_read():
    for unit in POWERS:
        (found,) = figures(f"7{unit}")
        assert found == (7, unit)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("2026.1.15", ["2026.1"]),
        ("pacs.008", []),
        ("1,234,567.8元", ["1234567.8"]),
        ("2026,100", ["2026", "100"]),  # no group of three before it
        ("12,0000", ["12", "0000"]),
        ("2个万能账户", ["2"]),
    ],
)
def test_where_a_figure_begins_and_ends(text, values):
    assert figures(text) == [(Decimal(value), "") for value in values]


def test_amounts_in_full():
    assert in_full("1.20万元和12,000元") == "12000元和12000元"
    assert in_full("6.37 亿、3千万、2万亿") == "637000000、30000000、2000000000000"
    assert in_full("1.5百万") == "1500000"
    assert in_full("３．５０％，2026年1月") == "3.5%,2026年1月"
    assert in_full("3个亿，降30个基点，12 期") == "300000000,降30个基点,12 期"


def test_figures_keep_a_leading_decimal_and_drop_list_marks():
    assert figures_in_full("2.18%。") == {"2.18"}
    assert figures_in_full("1. 5万元\n2、12期（1）首期①") == {"50000", "12"}
    assert figures_in_full("2026.1.16") == {"2026.1", "16"}
