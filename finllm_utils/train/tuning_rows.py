"""Packed rows of tuning: whole conversations end to end, drawn anew if asked.

XuanYuan3 re-sets the share of each class of data every epoch by its loss. Here a class
is a task; the plain text mixed in keeps its share. ``tuning`` uses this.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence

from datasets import (
    Dataset,
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from trl import pack_dataset

from finllm_utils.train.sft import TEXT, Row


class PackedRows:
    """Rows packed by best fit, as trl packs them.

    Args: strength 0 packs once. Above 0, ``draw`` packs each epoch anew: a class's
    share of the instruction tokens is multiplied by (its loss now / its loss at the
    start) ** strength, so that what has been learnt makes room for what has not.
    Raises: ValueError when there is no row.
    """

    def __init__(
        self, rows: Sequence[Row], max_seq_len: int, seed: int, strength: float = 0.0
    ) -> None:
        if not rows:
            raise ValueError("no row to tune on: is every item longer than a row?")
        self.rows, self.max_seq_len = list(rows), max_seq_len
        self.seed, self.strength = seed, strength
        self.packed = self._pack(self.rows)
        self._length = len(self.packed)  # stays: the schedule counts on it

    def __len__(self) -> int:
        return self._length

    def table(self) -> Dataset:
        """A dataset for trl's trainer; what ``draw`` draws later shows in it."""
        numbers = Dataset.from_dict({"row": list(range(len(self)))})
        return numbers.with_transform(self._at)

    def _at(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list]:
        rows = [self.packed[i] for i in batch["row"]]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def __reduce__(self) -> tuple:
        # datasets fingerprints the transform by pickling it: not with all its rows
        return PackedRows, ([], self.max_seq_len, self.seed, self.strength)

    def _pack(self, rows: Sequence[Row]) -> list[dict[str, list[int]]]:
        names = ("input_ids", "labels")
        columns = {name: [row[name] for row in rows] for name in names}
        were_off = are_progress_bars_disabled()
        disable_progress_bars()
        try:
            packed = pack_dataset(Dataset.from_dict(columns), self.max_seq_len, "bfd")
        finally:
            if not were_off:
                enable_progress_bars()
        return packed.to_list()

    def draw(
        self, epoch: int, first: Mapping[str, float], now: Mapping[str, float]
    ) -> None:
        """Packs the rows of an epoch; epoch 0 takes every row once."""
        if epoch == 0 or self.strength == 0:
            self.packed = self._pack(self.rows)
            return
        shares = reset_shares(token_shares(self.rows), first, now, self.strength)
        rng = random.Random(f"{self.seed}/epoch {epoch}")
        more = 1.0
        while len(packed := self._pack(self._drawn(shares, more, rng))) < len(self):
            more += 0.05  # other rows fit worse or better into each other
        rng.shuffle(packed)
        self.packed = packed[: len(self)]

    def _drawn(
        self, shares: Mapping[str, float], more: float, rng: random.Random
    ) -> list[Row]:
        """Rows whose tokens have these shares: whole passes, then some of a class."""
        total = sum(len(row["input_ids"]) for row in self.rows)
        found: list[Row] = []
        for task in sorted(shares):
            pool = [row for row in self.rows if row.get("task", "") == task]
            left = total * shares[task] * more
            while left > 0:
                for row in rng.sample(pool, len(pool)):
                    if left <= 0:
                        break
                    found.append(row)
                    left -= len(row["input_ids"])
        return found


def token_shares(rows: Sequence[Row]) -> dict[str, float]:
    """Share of all tokens by class, 0 to 1, sorted by name."""
    tokens: dict[str, int] = {}
    for row in rows:
        task = row.get("task", "")
        tokens[task] = tokens.get(task, 0) + len(row["input_ids"])
    total = sum(tokens.values())
    return {task: tokens[task] / total for task in sorted(tokens)}


def reset_shares(
    shares: Mapping[str, float],
    first: Mapping[str, float],
    now: Mapping[str, float],
    strength: float,
) -> dict[str, float]:
    """Shares of classes by how much of their loss is left; the sum stays.

    Plain text, and classes without a loss, keep their share.
    Example: a and b at 0.5 each, a's loss halved, b's as it was: 1/3 and 2/3.
    """
    moved = {t for t in shares if t != TEXT and first.get(t) and t in now}
    weights = {t: shares[t] * (now[t] / first[t]) ** strength for t in moved}
    total, left = sum(weights.values()), sum(shares[t] for t in moved)
    if total == 0:
        return dict(shares)
    return {
        t: weights[t] / total * left if t in moved else s for t, s in shares.items()
    }


def rows_digest(rows: Sequence[Row]) -> str:
    """A short digest of all rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row["input_ids"], row["labels"]]).encode())
    return digest.hexdigest()[:16]
