"""Items to judge, and a clock that moves two seconds whenever someone looks at it."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from finllm_utils.annotation.judgements import Item, Judgement
from finllm_utils.annotation.session import Session

NAMES = {
    "keep_drop": ["text"],
    "rewrite": ["text"],
    "ab": ["ours", "theirs"],
    "graded": ["ours", "theirs"],
    "rank": ["m1", "m2", "m3", "m4"],
}


def make_items(task: str, number: int = 6, reason: str = "") -> list[Item]:
    return [
        Item(
            id=f"id-{i}",
            task=task,
            texts={name: f"{name} 的第 {i} 段文字" for name in NAMES[task]},
            prompt="什么是国债？",
            reason=reason,
        )
        for i in range(number)
    ]


@pytest.fixture
def items_of() -> Callable[..., list[Item]]:
    return make_items


@pytest.fixture
def open_session(tmp_path: Path) -> Callable[..., Session]:
    """Opens a session on ``tmp_path/verdicts.jsonl``; settings may be overridden."""
    seconds = count(1_800_000_000, 2)

    def open_one(items: list[Item], **changes) -> Session:
        settings = {"rater": "阿明", "rater_kind": "human", "round": 1, "seed": 7}
        settings["clock"] = lambda: next(seconds)
        return Session(items, tmp_path / "verdicts.jsonl", **settings | changes)

    return open_one


@pytest.fixture
def grade(open_session: Callable[..., Session]) -> Callable[..., list[Judgement]]:
    """One rater's round by item id -> (better name, strength 0-3)."""

    def grade_all(items: list[Item], wanted: dict, **changes) -> list[Judgement]:
        session = open_session([i for i in items if i.id in wanted], **changes)
        while shown := session.next():
            item = next(i for i in items if set(i.texts.values()) == set(shown.texts))
            better, strength = wanted[item.id]
            side = "AB"[shown.texts.index(item.texts[better])]
            session.judge(f"{side}{strength}")
        return list(session.judgements())

    return grade_all
