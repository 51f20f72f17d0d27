"""Numbers of a proposed call must stand in the question: a model may not invent one.

The rules only read quantities from the text, so this guards calls that a language model
proposes. Unit changes are allowed (30 年 as 360 months), and what two of the numbers
make together (a rate less 20 points, a price less its down payment).
"""

import re
from datetime import date
from decimal import Decimal

from finllm_utils.finance.conventions import exact
from finllm_utils.hub.amounts import read
from finllm_utils.hub.currencies import find_currencies
from finllm_utils.hub.numerals import parse_number
from finllm_utils.hub.statutes import article_number
from finllm_utils.hub.tools import Arguments

_SCALES = (1, 4, 10, 12, 100, 120, 360, 10_000)
_TOLERANCE = Decimal("1e-12")
_LITERAL = re.compile(r"\d+(?:\.\d+)?")


def ungrounded(question: str, arguments: Arguments) -> list[str]:
    """Names of the arguments whose number, currency or date the question never says."""
    text, quantities = read(question)
    said = [q.value for q in quantities if isinstance(q.value, Decimal)]
    said += [parse_number(n) for n in _LITERAL.findall(text)]
    said += _combined(said)
    days = {q.value for q in quantities if isinstance(q.value, date)}
    codes = {code for _, _, code in find_currencies(text)} | {"CNY"}
    article = article_number(question)
    fields = type(arguments).model_fields
    bad = []
    for name, value in arguments:
        if value is None or value == fields[name].default:
            continue
        if isinstance(value, date):
            fine = value in days
        elif name in ("base", "quote", "currency"):
            fine = value in codes
        elif name == "periods_per_year":
            fine = value in (1, 2, 4, 12, 52, 365)  # 每半年 holds no number
        elif name == "article":
            fine = value == article
        elif name == "expression":
            fine = all(_said(Decimal(n), said) for n in _LITERAL.findall(value))
        elif isinstance(value, int | Decimal) and not isinstance(value, bool):
            fine = _said(Decimal(value), said)
        else:
            fine = True
        if not fine:
            bad.append(name)
    return bad


def _combined(said: list[Decimal]) -> list[Decimal]:
    """Sums, differences and shares of two numbers: LPR less 20 points and so on."""
    with exact():
        return [
            combined
            for a in said
            for b in said
            if a != b
            for combined in (a + b, a - b, a * b, a * (1 - b))
        ]


def _said(value: Decimal, said: list[Decimal]) -> bool:
    """Whether ``value`` is a number of the question, up to a change of unit."""
    with exact():
        return any(
            abs(value - candidate) <= _TOLERANCE * max(abs(value), Decimal(1))
            for number in said
            for scale in _SCALES
            for candidate in (number * scale, number / scale)
        )
