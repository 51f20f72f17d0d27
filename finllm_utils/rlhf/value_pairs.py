"""The project's preference pairs on eight values: read, checked, split, measured.

One file a value lies in data_samples/preferences. The two answers of a pair differ in
that value and in nothing that could be counted, so a model that tells them apart has
read them. ``value_baselines`` says what telling them apart without reading gives.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from finllm_utils.data.instruction_formats import require_new_id
from finllm_utils.records import PreferencePair, numbered_lines
from finllm_utils.rlhf.preference_formats import VALUE_SOURCE, require_pair, text_key

DATA_FILES = ("data_samples/preferences",)
FOLDER = Path(__file__).resolve().parents[2] / DATA_FILES[0]
VALUES = (
    "disclosure", "exact_sourced", "no_guarantee", "plain_elderly", "privacy",
    "refuse_crime", "say_unknown", "suitability",
)  # fmt: skip
FIELDS = ("id", "value", "prompt", "chosen", "rejected", "reason", "basis")
TEST_SHARE = 0.25
MAX_LENGTH_GAP_PERCENT = 10  # of the chosen answer's length, as in the files' rules
ALL = "all"
"""Stands in a table where a value stands, for the pairs of every value together."""


def read_value_pairs(folder: Path | str = FOLDER) -> list[PreferencePair]:
    """All pairs of ``folder/*.jsonl``, by file name and line.

    reason and basis are for readers: they must be there, and no record holds them. The
    source of a pair is "value pairs: <value>".
    Raises: ValueError naming file and line for a missing, unknown or empty field, an
    unknown value or one that is not the file's name, an id of another form than
    <value>/<three digits>, an id or prompt that was there before (prompts also when
    they differ only in spaces or width), equal sides, and lengths that differ by more
    than 10% of the chosen answer's.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise ValueError(
            f"{folder}: no .jsonl file in it; give the folder of the pairs"
        )
    pairs: list[PreferencePair] = []
    ids: dict[str, str] = {}
    prompts: dict[str, str] = {}
    for path in paths:
        for number, row in numbered_lines(path):
            where = f"{path}, line {number}"
            pair = _pair(row, path.stem, where)
            require_new_id(pair.id, where, ids)
            if (key := text_key(pair.prompt)) in prompts:
                raise ValueError(
                    f"{where}: the prompt stands at {prompts[key]} already; ask "
                    "something else, since the split goes by id and one prompt must "
                    "not be on both sides"
                )
            prompts[key] = where
            pairs.append(pair)
    return pairs


def value_of(pair: PreferencePair) -> str:
    """The value that the pair shows; for a pair of other origin its source."""
    return pair.source.removeprefix(VALUE_SOURCE)


def split_of(pair_id: str) -> str:
    """``train`` or ``test``; depends on the id alone, a quarter are for testing."""
    byte = hashlib.sha256(f"preferences/{pair_id}".encode()).digest()[0]
    return "test" if byte < 256 * TEST_SHARE else "train"


def split_pairs(
    pairs: Iterable[PreferencePair],
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(training pairs, test pairs) by ``split_of``, each in the given order."""
    sides: dict[str, list[PreferencePair]] = {"train": [], "test": []}
    for pair in pairs:
        sides[split_of(pair.id)].append(pair)
    return sides["train"], sides["test"]


def by_value(pairs: Sequence[PreferencePair]) -> dict[str, list[int]]:
    """Places in ``pairs`` of each value, by its name; ``ALL`` comes last."""
    places: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        places.setdefault(value_of(pair), []).append(place)
    return {value: places[value] for value in sorted(places)} | {
        ALL: list(range(len(pairs)))
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthBalance:
    """Lengths of the two sides of the pairs of one value, in characters."""

    value: str  # or ALL
    num_pairs: int
    longer_share: float  # of pairs whose chosen answer is longer; a tie counts half
    mean_chosen: float
    mean_rejected: float


def length_balance(pairs: Sequence[PreferencePair]) -> list[LengthBalance]:
    """One row a value, by name, and a last one for all pairs.

    Raises: ValueError when there is no pair.
    """
    if not pairs:
        raise ValueError("no pairs to balance: read_value_pairs gives them")
    rows = []
    for value, places in by_value(pairs).items():
        chosen = [len(pairs[i].chosen) for i in places]
        rejected = [len(pairs[i].rejected) for i in places]
        longer = [
            (a > b) + 0.5 * (a == b) for a, b in zip(chosen, rejected, strict=True)
        ]
        rows.append(
            LengthBalance(
                value=value,
                num_pairs=len(places),
                longer_share=fmean(longer),
                mean_chosen=fmean(chosen),
                mean_rejected=fmean(rejected),
            )
        )
    return rows


def _pair(row: Mapping, file_value: str, where: str) -> PreferencePair:
    if missing := [name for name in FIELDS if name not in row]:
        raise ValueError(
            f"{where}: field {missing[0]!r} is missing; write {', '.join(FIELDS)}"
        )
    if unknown := sorted(set(row) - set(FIELDS)):
        raise ValueError(
            f"{where}: unknown field {unknown[0]!r}; use {', '.join(FIELDS)}"
        )
    for name in FIELDS:
        if not isinstance(row[name], str) or not row[name].strip():
            raise ValueError(
                f"{where}: field {name!r} must hold text, got {row[name]!r:.40}; "
                "fill it"
            )
    value = row["value"]
    if value not in VALUES:
        raise ValueError(f"{where}: unknown value {value!r}; use {', '.join(VALUES)}")
    if value != file_value:
        raise ValueError(
            f"{where}: value {value!r} in the file of {file_value!r}; move the line to "
            f"{value}.jsonl"
        )
    if not re.fullmatch(rf"{value}/[0-9]{{3}}", row["id"]):
        raise ValueError(
            f"{where}: id {row['id']!r} must be {value}/ and three digits, as "
            f"{value}/001"
        )
    pair = PreferencePair(
        id=row["id"],
        prompt=row["prompt"],
        chosen=row["chosen"],
        rejected=row["rejected"],
        source=VALUE_SOURCE + value,
    )
    require_pair(pair, where)
    longs, shorts = len(pair.chosen), len(pair.rejected)
    if 100 * abs(longs - shorts) > MAX_LENGTH_GAP_PERCENT * longs:
        raise ValueError(
            f"{where}: chosen has {longs} characters, rejected {shorts}: more than "
            f"{MAX_LENGTH_GAP_PERCENT}% apart; lengthen the shorter or cut the longer, "
            "so that length tells nothing"
        )
    return pair
