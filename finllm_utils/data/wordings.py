"""Small pieces that every instruction task uses: sentences, slots and one-turn records.

The tasks themselves are in ``tasks_general`` and ``tasks_finance``; ``instructions``
draws from them.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from finllm_utils.records import ChatTurn, Instruction

_SENTENCE = re.compile(r"[^。！？；\n]+[。！？；]?[”’』）]?")
_END = "。！？"


@dataclass(frozen=True, slots=True)
class Source:
    """A training text that tasks are made from. ``label`` is the task's own mark."""

    id: str
    text: str
    label: str = ""


def sentences(text: str, low: int = 8, high: int = 48) -> list[str]:
    """Sentences of ``text`` with their end mark, of ``low`` to ``high`` characters."""
    found = (s.strip() for s in _SENTENCE.findall(text))
    return [s for s in found if low <= len(s) <= high]


def first_sentences(text: str, high: int) -> str:
    """The first whole sentences of ``text`` that fit into ``high`` characters.

    Empty when even the first is longer: a cut sentence teaches to stop anywhere.
    Example: ``first_sentences("好。行！不。", 4) == "好。行！"``.
    """
    kept = ""
    for sentence in re.findall(r"[^。！？]+[。！？]+", text):
        if len(kept) + len(sentence) > high:
            break
        kept += sentence
    return kept.strip()


def ends_well(text: str) -> bool:
    """Whether ``text`` ends a sentence."""
    return text[-1:] != "" and text[-1] in _END


def one_turn(
    task: str, domain: str, source: str, question: str, answer: str
) -> Instruction:
    """A question and its answer as an ``Instruction`` with a stable id."""
    turns = (ChatTurn(role="user", content=question),)
    turns += (ChatTurn(role="assistant", content=answer),)
    return Instruction(
        id=f"{task}/{source}", messages=turns, task=task, domain=domain, source=source
    )


def fill(wordings: tuple[str, ...], rng: random.Random, **slots: str) -> str:
    """One of the wordings, drawn by ``rng``, with its slots filled."""
    text = rng.choice(wordings)
    for name, value in slots.items():
        text = text.replace("{" + name + "}", value)
    return text


def endless(rng: random.Random) -> Iterator[tuple[int, random.Random]]:
    """Yields (0, rng), (1, rng), ...: for tasks that need no text."""
    number = 0
    while True:
        yield number, rng
        number += 1


_DIGITS = "零一二三四五六七八九"


def chinese_number(value: int) -> str:
    """``value`` below 10,000 in Chinese: 305 is 三百零五, 12 is 十二.

    Raises: ValueError outside 0 to 9,999.
    """
    if not 0 <= value < 10_000:
        raise ValueError(f"chinese_number({value}): give a number from 0 to 9,999")
    if value == 0:
        return "零"
    text, zero_due = "", False
    for unit, power in (("千", 1000), ("百", 100), ("十", 10), ("", 1)):
        digit = value // power % 10
        if digit:
            text += ("零" if zero_due and text else "") + _DIGITS[digit] + unit
            zero_due = False
        else:
            zero_due = True
    return text[1:] if text.startswith("一十") else text
