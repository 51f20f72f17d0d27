"""What blind raters say of the preference pairs: how much better, and is it agreed?

The raters see a prompt and two answers, never which of them was written as the better
one, and grade on the card's eight levels, A3 to B3. What they agree on carries a margin
into training; what they do not is left out. Recorded grades lie in GRADES, one file a
rater, each with its kind. Notebook 07 calls this.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finllm_utils.annotation.judgements import Item, Judgement, read_judgements
from finllm_utils.annotation.results import preference_pairs
from finllm_utils.records import PreferencePair

DATA_FILES = ("data_samples/preferences/grades",)
GRADES = Path(__file__).resolve().parents[2] / DATA_FILES[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class GradedPairs:
    """Pairs by what the raters' median says; each pair is in one of the groups."""

    confirmed: tuple[PreferencePair, ...]
    """As written, with the raters' margin."""
    overturned: tuple[PreferencePair, ...]
    """The raters prefer the answer written as the worse one."""
    undecided: tuple[PreferencePair, ...]
    """The median is below level 1: about as good."""
    ungraded: tuple[PreferencePair, ...]


def graded_items(pairs: Iterable[PreferencePair]) -> list[Item]:
    """One item a pair for the card; a side's name is a digest of its text.

    So neither the order nor a name gives the better side away.
    """
    return [
        Item(
            id=pair.id,
            task="graded",
            prompt=pair.prompt,
            texts={_name(text): text for text in (pair.chosen, pair.rejected)},
        )
        for pair in pairs
    ]


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_grades(folder: Path | str = GRADES) -> list[Judgement]:
    """The recorded grades of every rater in ``folder/*.jsonl``.

    Raises: ValueError when the folder holds none.
    """
    paths = sorted(Path(folder).glob("*.jsonl"))
    if not paths:
        raise ValueError(f"{folder}: no .jsonl file in it; give the folder of grades")
    return [judgement for path in paths for judgement in read_judgements(path)]


def with_grades(
    pairs: Sequence[PreferencePair], grades: Iterable[Judgement]
) -> GradedPairs:
    """The pairs sorted by what their raters say, margins added.

    Raises: ValueError for a grade of another pair, or of a text that has changed.
    """
    grades = list(grades)
    found = preference_pairs(graded_items(pairs), grades)
    better = {(p.prompt, p.chosen): p.margin for p in found}
    seen = {j.item for j in grades if j.is_decision}
    groups: dict[str, list[PreferencePair]] = {
        name: [] for name in ("confirmed", "overturned", "undecided", "ungraded")
    }
    for pair in pairs:
        margin = better.get((pair.prompt, pair.chosen))
        if margin is not None:
            groups["confirmed"].append(replace(pair, margin=margin))
        elif (pair.prompt, pair.rejected) in better:
            groups["overturned"].append(pair)
        else:
            groups["undecided" if pair.id in seen else "ungraded"].append(pair)
    return GradedPairs(**{name: tuple(part) for name, part in groups.items()})
