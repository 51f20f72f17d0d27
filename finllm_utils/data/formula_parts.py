"""How a computed problem is written and drawn: wordings, random inputs, makers.

``tasks_formulas`` and ``tasks_formulas_risk`` hold the problems themselves.
"""

import random
from collections.abc import Callable
from decimal import Decimal
from functools import partial

from finllm_utils.data.wordings import fill

Key = dict[str, str]
"""Inputs (rates in percent) and exact results of a problem; ``result`` is the last."""
Maker = Callable[[random.Random], tuple[str, str, Key]]
"""Draws a question, its answer and its key."""
Wordings = dict[str, tuple[tuple[str, ...], str]]
"""Per problem: the questions and the answer, with slots in braces."""


def parse_wordings(text: str) -> Wordings:
    """Blocks of ``# name``, questions (Q) and one answer (A) as wordings by name.

    A line break is no part of a question or an answer: the source is merely folded.
    """
    found = {}
    for block in text.split("\n# ")[1:]:
        name, _, body = block.partition("\n")
        *asked, answer = ("\n" + body.replace("\nA ", "\nQ ")).split("\nQ ")[1:]
        wordings = tuple(question.replace("\n", "") for question in asked)
        found[name] = wordings, answer.replace("\n", "")
    return found


def multiple(rng: random.Random, low: str, high: str, step: str) -> Decimal:
    """A multiple of ``step`` from low to high, without closing zeros."""
    unit = Decimal(step)
    number = rng.randint(int(Decimal(low) / unit), int(Decimal(high) / unit))
    return plain(number * unit)


def scaled(rng: random.Random, low: int, high: int, places: int) -> Decimal:
    """A number of ``places`` decimals; low and high count its last decimal."""
    return Decimal(rng.randint(low, high)).scaleb(-places)


def plain(value: Decimal) -> Decimal:
    """``value`` without closing zeros and without an exponent."""
    return Decimal(format(value.normalize(), "f"))


def markdown_table(*rows: tuple) -> str:
    """Rows, the heading first, as a Markdown table on lines of its own."""
    lines = [" | ".join(map(str, row)) for row in rows]
    lines.insert(1, " | ".join(["---"] * len(rows[0])))
    return "\n" + "".join(f"| {line} |\n" for line in lines)


def makers(
    draws: tuple[Callable[[random.Random], dict], ...], wordings: Wordings
) -> dict[str, Maker]:
    """One maker a problem, by name: ``draws`` are functions called ``_name``."""
    named = {draw.__name__.lstrip("_"): draw for draw in draws}
    return {name: partial(_make, draw, *wordings[name]) for name, draw in named.items()}


def _make(
    draw: Callable[[random.Random], dict],
    wordings: tuple[str, ...],
    answer: str,
    rng: random.Random,
) -> tuple[str, str, Key]:
    key = {name: str(value) for name, value in draw(rng).items()}
    return fill(wordings, rng, **key).strip(), fill((answer,), rng, **key), key
