"""The dataset card (README.md) of an instruction set: what it is, from what, how good.

The head is what dataset hubs read; every figure is passed in and stands in the text, so
the card claims nothing that was not measured. Same figures, same bytes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from finllm_utils.files import atomic_file

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
"""Below how many items which size_categories name of the hub holds."""
_SPLIT_NAME = re.compile(r"\w+(?:\.\w+)*")
_PLAIN = re.compile(r"[A-Za-z][\w.+-]*")  # a YAML scalar that needs no quotes


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRow:
    """Where items come from. ``items``: how many of all splits together."""

    name: str
    licence: str
    items: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRow:
    """A split, the file that holds it (relative to the card) and its items."""

    name: str
    file: str
    items: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CardFacts:
    """Everything that the card says. Lists are in the order in which they are shown.

    Raises: ValueError naming a part that is empty, a title of several lines, a split
    whose name hubs refuse or that comes twice, and sources whose items do not add up to
    those of the splits.
    """

    title: str
    about: str
    """What the set is, a paragraph."""
    sources: Sequence[SourceRow]
    how_made: Sequence[str]
    """A step each."""
    splits: Sequence[SplitRow]
    ratio_planned: float
    """General items for one finance item."""
    ratio_drawn: float
    near_duplicates: Mapping[str, object]
    """Figures by what they measure, as are the next three."""
    contamination: Mapping[str, object]
    diversity: Mapping[str, object]
    second_reading: Mapping[str, object]
    limits: Sequence[str]
    """What a reader must know before training on the set, a sentence each."""
    command: str
    """What makes the set again."""
    license_id: str = "other"
    """As hubs write it, such as apache-2.0."""
    languages: Sequence[str] = ("zh",)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, float | int) and not value:
                raise ValueError(
                    f"card: {field.name} is empty; a card without it claims nothing, "
                    "give it"
                )
        if "\n" in self.title:
            raise ValueError(f"card: title {self.title!r} has several lines; use one")
        names = [split.name for split in self.splits]
        for name in names:
            if not _SPLIT_NAME.fullmatch(name) or names.count(name) > 1:
                raise ValueError(
                    f"card: split {name!r}; a name is letters, digits and _, once each"
                )
        drawn = sum(source.items for source in self.sources)
        if drawn != self.total or not drawn:
            raise ValueError(
                f"card: sources have {drawn} items, splits {self.total}; count both "
                "over the same items"
            )

    @property
    def total(self) -> int:
        """Items of all splits."""
        return sum(split.items for split in self.splits)


def write_card(folder: Path | str, facts: CardFacts) -> Path:
    """Writes ``folder/README.md``, a dataset card of these facts; its path."""
    total = facts.total
    sources = [
        (s.name, s.licence, shown(s.items), f"{s.items / total:.1%}")
        for s in facts.sources
    ]
    splits = [(s.name, s.file, shown(s.items)) for s in facts.splits]
    ratios = (("planned", facts.ratio_planned), ("drawn", facts.ratio_drawn))
    figures = ("figure", "value")
    steps = [f"{number}. {step}" for number, step in enumerate(facts.how_made, 1)]
    binding = "The strictest licence of a part binds whoever passes the part on."
    sections = {
        "Sources": [
            binding, "", *_table(("source", "licence", "items", "share"), sources),
        ],
        "How it was made": steps,
        "Splits": _table(
            ("split", "file", "items"), [*splits, ("all", "", shown(total))]
        ),
        "General to finance": _table(
            ("ratio", "general items for one finance item"), ratios
        ),
        "Near duplicates": _table(figures, facts.near_duplicates.items()),
        "Contamination": _table(figures, facts.contamination.items()),
        "Diversity": _table(figures, facts.diversity.items()),
        "Second reading": _table(figures, facts.second_reading.items()),
        "Known limits": [f"- {limit}" for limit in facts.limits],
        "Made again by": ["```", facts.command, "```"],
    }  # fmt: skip
    lines = [*_head(facts), "", f"# {facts.title}", "", facts.about]
    for heading, body in sections.items():
        lines += ["", f"## {heading}", "", *body]
    path = Path(folder) / "README.md"
    with atomic_file(path) as handle:
        handle.write("\n".join(lines) + "\n")
    return path


def shown(value: object) -> str:
    """A figure as the card shows it; mappings and lists become one line.

    Example: 1234 is 1,234; 0.5 is 0.5; 0.12345 is 0.1235; 0.00001 is 1e-05;
    {"qa": 2} is qa: 2; an empty list is none.
    """
    if isinstance(value, Mapping):
        value = [f"{key}: {shown(entry)}" for key, entry in value.items()]
    if isinstance(value, list | tuple):
        return ", ".join(shown(entry) for entry in value) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if 0 < abs(value) < 0.001:
        return f"{value:.4g}"
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def _head(facts: CardFacts) -> list[str]:
    """The YAML head between its marks."""
    size = next((name for limit, name in SIZES if facts.total < limit), "n>10M")
    lines = ["---", f"pretty_name: {_scalar(facts.title)}", "language:"]
    lines += [f"- {_scalar(name)}" for name in facts.languages]
    lines += [f"license: {_scalar(facts.license_id)}", "size_categories:", f"- {size}"]
    lines += ["task_categories:", "- text-generation", "- question-answering"]
    lines += ["configs:", "- config_name: default", "  data_files:"]
    for split in facts.splits:
        lines += [f"  - split: {split.name}", f"    path: {_scalar(split.file)}"]
    return [*lines, "---"]


def _scalar(text: str) -> str:
    """A YAML string; quoted unless plain, and where YAML 1.1 reads yes or no."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in (
        "yes", "no", "on", "off", "true", "false", "null", "y", "n",
    )  # fmt: skip
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return text if plain else f'"{escaped}"'


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [[shown(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], "|---" * len(head) + "|", *lines[1:]]
