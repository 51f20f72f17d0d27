"""Reads the files that exams lie in: one item a line, each with an id of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from finllm_utils.data.instruction_formats import require_new_id
from finllm_utils.records import numbered_lines


class _Named(Protocol):
    id: str


class _Checked(_Named, Protocol):
    def fault(self) -> str:
        """Why the item cannot be used; empty when it can."""


Item = TypeVar("Item", bound=_Named)
Checked = TypeVar("Checked", bound=_Checked)


def read_items_of(path: Path | str, make: Callable[[dict], Item]) -> tuple[Item, ...]:
    """What ``make`` makes of every line of a JSONL file, in order.

    Raises: ValueError naming file and line for a row that ``make`` refuses, be it for a
    field that is missing or unknown or by a ValueError, and for an id that comes twice.
    """
    items: list[Item] = []
    seen: dict[str, str] = {}
    for number, row in numbered_lines(Path(path)):
        where = f"{path}, line {number}"
        try:
            item = make(row)
        except KeyError as error:
            raise ValueError(f"{where}: field {error} is missing") from error
        except (TypeError, ValueError) as error:  # a TypeError names the field
            raise ValueError(f"{where}: {error}") from error
        require_new_id(item.id, where, seen)
        items.append(item)
    return tuple(items)


def checked(kind: type[Checked], row: dict) -> Checked:
    """A ``kind`` with the fields of ``row``.

    Raises: TypeError for a field that is missing or unknown, ValueError naming the item
    for its fault.
    """
    item = kind(**row)
    if fault := item.fault():
        raise ValueError(f"{item.id}: {fault}")
    return item
