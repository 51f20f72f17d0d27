"""Numbers, rates, durations and dates as people write them."""

from datetime import date
from decimal import Decimal as D

import pytest

from finllm_utils.hub.amounts import read
from finllm_utils.hub.currencies import find_currencies
from finllm_utils.hub.numerals import parse_number

DAY = date(2024, 3, 29)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12,345.60", "12345.60"),
        ("1.2亿", "120000000"),
        ("三万五", "35000"),
        ("两千五", "2500"),
        ("一百零五", "105"),
        ("一百五", "150"),
        ("二十", "20"),
        ("十二", "12"),
        ("三点五万", "35000"),
        ("零点零三五", "0.035"),
        ("3万5", "35000"),
        ("3万5000", "35000"),
        ("1亿2000万", "120000000"),
        ("一千二百三十四万五千六百七十八", "12345678"),
        ("3万亿", "3000000000000"),
    ],
)
def test_numbers(text, value):
    assert parse_number(text) == D(value)


@pytest.mark.parametrize("text", ["万", "1.5 2", "3.5.1"])
def test_what_is_no_number(text):
    with pytest.raises(ValueError):
        parse_number(text)


@pytest.mark.parametrize(
    ("text", "kind", "value", "unit"),
    [
        ("百分之三点五", "rate", "0.035", "%"),
        ("３．５％", "rate", "0.035", "%"),
        ("千分之八", "rate", "0.008", "%"),
        ("万分之2.5", "rate", "0.00025", "%"),
        ("1.5‰", "rate", "0.0015", "%"),
        ("25个基点", "rate", "0.0025", "bp"),
        ("60bp", "rate", "0.006", "bp"),
        ("两个百分点", "rate", "0.02", "pp"),
        ("四厘五", "rate", "0.0045", "厘"),
        ("九五折", "rate", "0.95", "折"),
        ("三成", "rate", "0.3", "成"),
        ("三十年", "duration", "30", "years"),
        ("一年半", "duration", "18", "months"),
        ("两年零六个月", "duration", "30", "months"),
        ("半年", "duration", "6", "months"),
        ("360期", "duration", "360", "periods"),
        ("90天", "duration", "90", "days"),
        ("两周", "duration", "14", "days"),
        ("三个季度", "duration", "9", "months"),
        ("15w", "number", "150000", ""),
        ("两个亿", "number", "200000000", ""),
        ("三块五", "amount", "3.5", "CNY"),
        ("3毛6", "amount", "0.36", "CNY"),
        ("12元5角", "amount", "12.5", "CNY"),
        ("100日元", "amount", "100", "JPY"),
        ("US$2,000", "amount", "2000", "USD"),
        ("第十二个月", "ordinal", "12", "个月"),
        ("1200股", "number", "1200", "股"),
    ],
)
def test_one_quantity(text, kind, value, unit):
    (quantity,) = read(text)[1]
    assert (quantity.kind, quantity.value, quantity.unit) == (kind, D(value), unit)


@pytest.mark.parametrize(
    "text",
    ["2024年3月29日", "2024-03-29", "2024/3/29", "20240329", "二〇二四年三月二十九号"],
)
def test_dates(text):
    (quantity,) = read(text)[1]
    assert quantity.value == DAY


def test_named_days_and_incomplete_dates():
    assert read("2019年最后一天")[1][0].value == date(2019, 12, 31)
    assert read("2024年2月底")[1][0].value == date(2024, 2, 29)
    assert read("2024年3月")[1][0].kind == "month"
    assert read("2024年13月45日")[1][0].kind != "date"


def test_neighbours_do_not_melt():
    kinds = [(q.kind, q.value) for q in read("贷40万10年利率4.2%")[1]]
    assert kinds == [("number", 400_000), ("duration", 10), ("rate", D("0.042"))]


@pytest.mark.parametrize("text", ["一样多", "一共", "十分好", "百分之几", "一次性", ""])
def test_words_that_hold_no_quantity(text):
    assert read(text)[1] == []


def test_currencies():
    assert [code for *_, code in find_currencies("美金兑港币和 EUR")] == [
        "USD",
        "HKD",
        "EUR",
    ]
