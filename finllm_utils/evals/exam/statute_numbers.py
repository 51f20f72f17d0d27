"""Quantities that a statute states in Chinese characters: periods, shares, fines.

Calendar dates, article numbers and ordinals are left out. A range, as in 一万元以上
十万元以下, is one quantity: its two bounds are asked about, or edited, together. Digits
and the numbers of a customer's question are not read here; the hub does that.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from finllm_utils.data.wordings import chinese_number

_NUMERALS = "零一二两三四五六七八九十百千"
_NUMBER = f"[{_NUMERALS}]+"
_UNITS = (
    "个工作日|工作日|个月|周岁|小时|万元|亿元|元|倍"
    "|日(?![常期历报益照])|年(?![度龄级份代终初末均])"
    "|人(?![民员大身格类工次力体事])|名(?![义称单字])"
)
_ONE = (
    f"(?:[百千万]分之{_NUMBER}(?:点{_NUMBER})?|{_NUMBER}分之{_NUMBER}"
    f"|{_NUMBER}(?:{_UNITS}))"
)
_QUANTITY = re.compile(
    f"(?<![第点之月〇万亿{_NUMERALS}])(?<!以上)(?P<low>{_ONE})(?:以上(?P<high>{_ONE})以下)?"
)
_PARTS = re.compile(
    f"(?P<of>{_NUMBER}|万)分之(?P<share>{_NUMBER})(?:点(?P<rest>{_NUMBER}))?"
    f"|(?P<number>{_NUMBER})(?P<unit>.+)"
)
_VALUES = {chinese_number(value): value for value in range(1, 10_000)}
_NEAR = 6  # a wrong number is at most so many times the true one, or a sixth of it
_EVEN = 2  # power of the frequency by which a wrong number is drawn, see QuantityPool


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity at ``start`` to ``end`` of its text; equal ``unit`` is comparable.

    ``values`` has one number, or the two bounds of a range.
    """

    text: str
    start: int
    end: int
    unit: str
    values: tuple[Fraction, ...]


def quantities(text: str) -> list[Quantity]:
    """The quantities of ``text`` in order.

    Example: quantities("处一万元以上十万元以下罚款") is one, with values (1, 10).
    """
    found = []
    for match in _QUANTITY.finditer(text):
        parts = [_measure(part) for part in match.groups() if part]
        if any(part is None for part in parts):
            continue  # a year such as 一九九三年, or 一人有限责任公司
        unit = "-".join(part[0] for part in parts)
        values = tuple(part[1] for part in parts)
        found.append(Quantity(match[0], match.start(), match.end(), unit, values))
    return found


def _measure(text: str) -> tuple[str, Fraction] | None:
    """(unit, value) of one quantity; None when its number is not well formed."""
    part = _PARTS.fullmatch(text)
    if part["unit"]:
        value = _VALUES.get(part["number"].replace("两", "二"))
        alone = part["unit"] in ("人", "名") and value == 1
        return None if value is None or alone else (part["unit"], Fraction(value))
    whole = {"百": 100, "千": 1_000, "万": 10_000}.get(part["of"])
    share = _VALUES.get(part["share"], 0 if part["share"] == "零" else None)
    base = whole or _VALUES.get(part["of"])
    if share is None or base is None:
        return None
    value = Fraction(share)
    for place, digit in enumerate(part["rest"] or "", 1):
        value += Fraction("零一二三四五六七八九".index(digit), 10**place)
    return (f"{part['of']}分之" if whole else "分之"), value / base


class QuantityPool:
    """How often the laws state each quantity: wrong numbers are drawn from here.

    Laws favour some numbers (五年, 三十日). Were all drawn alike, the commonest of four
    would be right in half of the items; drawn by frequency, which may not repeat a
    number, still in 35 of 100; by its square in 31, and the rarest in 24.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._counts: dict[str, Counter[tuple[str, tuple[Fraction, ...]]]] = {}
        for text in texts:
            for one in quantities(text):
                counts = self._counts.setdefault(one.unit, Counter())
                counts[one.text, one.values] += 1

    def others(
        self, true: Quantity, article: str, number: int, rng: random.Random
    ) -> list[str]:
        """``number`` wrong quantities of the same unit, or none when there are fewer.

        Near in size, at most one character longer or shorter, different in value from
        each other, and never a number that stands in ``article``.
        """
        taken = {true.values} | {
            q.values for q in quantities(article) if q.unit == true.unit
        }
        drawn = []
        for (text, values), count in self._counts.get(true.unit, {}).items():
            like = abs(len(text) - len(true.text)) <= 1 and text not in article
            if like and values not in taken and _near(values, true.values):
                drawn.append((rng.random() ** (1 / count**_EVEN), text, values))
        chosen: dict[tuple[Fraction, ...], str] = {}
        for _, text, values in sorted(drawn, reverse=True):
            chosen.setdefault(values, text)
        picked = list(chosen.values())[:number]
        return picked if len(picked) == number else []


def _near(values: tuple[Fraction, ...], true: tuple[Fraction, ...]) -> bool:
    return all(
        right > 0 and Fraction(1, _NEAR) <= value / right <= _NEAR
        for value, right in zip(values, true, strict=True)
    )
