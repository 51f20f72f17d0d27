"""Does an answer do what the instruction says? Rules that a program can verify.

Every rule is one a reader would apply by counting or comparing; none needs a judge. The
items lie in ``data_samples/exams/following.jsonl``. Notebook 06 calls this. The idea of
verifiable instructions is IFEval's (arXiv 2311.07911); rules and items are our own.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finllm_utils.evals.tasks.item_files import read_items_of
from finllm_utils.records import ChatTurn

DATA_FILES = ("data_samples/exams/following.jsonl",)
EXAM = Path(__file__).resolve().parents[3] / DATA_FILES[0]
Rule = Mapping[str, object]
Reply = Callable[[Sequence[Sequence[ChatTurn]]], list[str]]
"""Conversations that end with the user -> the next answer to each."""
_ITEM = re.compile(r"^\s*(?:\d+\s*[.、．)）]|[-*•])\s*\S")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_LATIN = re.compile("[A-Za-z]+")


def _lines(answer: str) -> list[str]:
    return [line for line in answer.splitlines() if line.strip()]


def _keys(answer: str) -> set[str] | None:
    """Keys of the JSON object that the answer is; None when it is none."""
    try:
        value = json.loads(answer)
    except ValueError:
        return None
    return set(value) if isinstance(value, dict) else None


def _language(answer: str, language: str) -> bool:
    """Whether Chinese characters outnumber Latin words ("zh"), or there are none."""
    chinese, words = len(_HAN.findall(answer)), len(_LATIN.findall(answer))
    return chinese > words if language == "zh" else words > 0 and chinese == 0


RULES: dict[str, Callable[[str, object], bool]] = {
    "max_chars": lambda answer, value: 0 < len(answer) <= value,
    "min_chars": lambda answer, value: len(answer) >= value,
    "num_lines": lambda answer, value: len(_lines(answer)) == value,
    "num_items": lambda answer, value: sum(map(_is_item, _lines(answer))) == value,
    "json_keys": lambda answer, value: _keys(answer) == set(value),
    "one_of": lambda answer, value: answer in value,
    "contains": lambda answer, value: all(part in answer for part in value),
    "contains_any": lambda answer, value: any(part in answer for part in value),
    "not_contains": lambda answer, value: (
        bool(answer) and not any(part in answer for part in value)
    ),
    "starts_with": lambda answer, value: answer.startswith(value),
    "ends_with": lambda answer, value: answer.endswith(value),
    "only_digits": lambda answer, value: answer.isascii() and answer.isdigit(),
    "language": _language,
}
"""Rule name to (answer without outer blanks, the rule's value) -> kept. Characters are
counted with punctuation; an empty answer keeps no rule."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowingItem:
    """One prompt with the rules its answer must keep, and an answer that keeps them."""

    id: str
    domain: str
    prompt: str
    rules: tuple[Rule, ...]
    reference: str

    @classmethod
    def read(cls, row: Mapping) -> "FollowingItem":
        """From a line of the file.

        Raises: ValueError naming the item for a rule that is unknown, or that the
        item's own reference breaks.
        """
        item = cls(**dict(row, rules=tuple(row["rules"])))
        if broken := broken_rules(item.reference, item.rules):
            raise ValueError(f"{item.id}: its reference breaks {', '.join(broken)}")
        return item


def read_following(number: int | None = None, path: Path = EXAM) -> list[FollowingItem]:
    """The exam, or ``number`` items spread evenly over it.

    Raises: ValueError naming file, line and item, see ``FollowingItem.read``.
    """
    return spread(read_items_of(path, FollowingItem.read), number)


def following_share(items: Sequence[FollowingItem], reply: Reply) -> float:
    """Share of items, 0 to 1, whose answer keeps every rule."""
    talks = [[ChatTurn(role="user", content=item.prompt)] for item in items]
    pairs = zip(items, reply(talks), strict=True)
    return sum(not broken_rules(answer, item.rules) for item, answer in pairs) / len(
        items
    )


def spread(items: Sequence, number: int | None) -> list:
    """At most ``number`` items at even distances: an exam's parts keep their share."""
    if number is None or number >= len(items):
        return list(items)
    return [items[i * len(items) // number] for i in range(number)]


def broken_rules(answer: str, rules: Sequence[Rule]) -> list[str]:
    """Names of the rules that ``answer`` does not keep, in their order.

    Raises: ValueError for an unknown rule.
    """
    answer = answer.strip()
    for rule in rules:
        if rule["type"] not in RULES:
            raise ValueError(f"unknown rule {rule['type']!r}; use {', '.join(RULES)}")
    return [
        str(rule["type"])
        for rule in rules
        if not answer or not RULES[str(rule["type"])](answer, rule.get("value"))
    ]


def _is_item(line: str) -> bool:
    return bool(_ITEM.match(line))
