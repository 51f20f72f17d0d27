"""Published exams on a user's disk: FinanceIQ, FinEval, Fin-Eva, C-Eval, CMMLU, CFLUE.

None of them comes with the course (most licences forbid it); whoever has the files
reads them here, as they were published, into ``ExamItem``. A row that cannot be an item
is reported with file and line and left out; ``published_rows`` says what makes one.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from finllm_utils.evals.exam.published_files import (
    KINDS,
    Row,
    UnknownHeader,
    file_rows,
    header_kinds,
)
from finllm_utils.evals.exam.published_rows import Problem, item_of, problem
from finllm_utils.files import read_json
from finllm_utils.records import ExamItem

SPLITS = ("dev", "val", "test")
MAX_BAD_SHARE = 0.05
_SUFFIXES = (".csv", ".json", ".jsonl")
_NAMES = ("subject_map.json", "subject_mapping.json")
"""File names -> subjects, as Fin-Eva and FinEval, and C-Eval, publish them."""
_SPLIT_FOLDER = re.compile(r"(dev|val|test)(?:_\d+%)?")
_SHOWN = 3


def read_published(
    path: Path | str,
    kind: str = "auto",
    *,
    split: str = "",
    max_bad_share: float = MAX_BAD_SHARE,
) -> tuple[list[ExamItem], list[Problem]]:
    """The items of a file, or of all files below a folder, and what could not be read.

    Ids are kind/split/subject file/id, with the name of ``path`` for the kind when that
    is "auto": FinanceIQ and CMMLU share a header, as C-Eval, FinEval and Fin-Eva do.
    Args: kind is one of ``KINDS`` or "auto"; split "dev", "val" or "test" keeps the
    files of that split (by folder or file name); max_bad_share of the rows that have a
    key may be faulty. Rows without a key, as in test splits, and other files in a
    folder are told but not counted.
    Raises: ValueError for an unknown kind or split, a file of another kind (the known
    headers are listed), a file that is no text or no CSV, no file or no item at all,
    and for more faulty rows than max_bad_share.
    """
    path = Path(path)
    if kind != "auto" and kind not in KINDS:
        raise ValueError(f"kind={kind!r}: use auto, {', '.join(KINDS)}")
    if split and split not in SPLITS:
        raise ValueError(f"split={split!r}: use {', '.join(SPLITS)}, or leave it empty")
    items: list[ExamItem] = []
    problems: list[Problem] = []
    for file in _files(path, split):
        try:
            problems += _read(file, path, kind, items)
        except UnknownHeader as error:
            if path == file:
                raise
            problems.append(Problem(str(file), "line 1", str(error), faulty=False))
    _require_items(path, items, problems, max_bad_share)
    return items, problems


def _files(path: Path, split: str) -> list[Path]:
    """Exam files in order; the maps of subject names are none."""
    if path.is_file():
        files = [path]
    else:
        found = (f for s in _SUFFIXES for f in path.rglob(f"*{s}"))
        files = sorted(f for f in found if f.name not in _NAMES)
    kept = [file for file in files if not split or _split_of(file) == split]
    if not kept:
        of_split = f" of split {split!r}" if split else ""
        raise ValueError(
            f"{path}: no {', '.join(_SUFFIXES)} file{of_split} there; give one exam "
            "file or the folder of one exam"
        )
    return kept


def _split_of(file: Path) -> str:
    """By the file's name (finance_dev.csv), else by its folder (test, test_20%)."""
    words = file.stem.split("_")
    named = next((s for s in SPLITS if s in words[1:] or file.stem == s), "")
    folder = _SPLIT_FOLDER.fullmatch(file.parent.name)
    return named or (folder[1] if folder else "")


def _stem(file: Path) -> str:
    """The name without its split: finance_test_selected gives finance."""
    words = file.stem.split("_")
    cut = next((i for i, w in enumerate(words) if i and w in SPLITS), len(words))
    return "_".join(words[:cut])


def _read(file: Path, root: Path, kind: str, items: list[ExamItem]) -> list[Problem]:
    """Adds the items of ``file`` to ``items``; gives its problems."""
    layout, rows = file_rows(file)
    if kind != "auto" and kind not in header_kinds(layout):
        raise ValueError(
            f"{file}: kind={kind!r}, but its header is that of "
            f"{' or '.join(header_kinds(layout))}; give that kind, or kind='auto'"
        )
    name = root.stem if root.is_file() else root.name
    parts = (kind if kind != "auto" else name, _split_of(file), _stem(file))
    prefix, subject = "/".join(dict.fromkeys(p for p in parts if p)), _subject(file)
    problems, seen, keyless = [], {}, 0
    for row in rows:
        if row.answer is None:
            keyless += 1
            continue
        made = _item(row, prefix, subject, seen)
        (items if isinstance(made, ExamItem) else problems).append(made)
    if keyless:
        reason = f"no answer column: {keyless} rows without a key"
        problems.append(Problem(str(file), "line 1", reason, faulty=False))
    return problems


def _item(
    row: Row, prefix: str, subject: str, seen: dict[str, str]
) -> ExamItem | Problem:
    """The item of a row whose id is new in its file."""
    made = item_of(row, prefix, subject)
    if row.id in seen:
        return problem(row, f"id {row.id!r} stands at {seen[row.id]} already")
    seen[row.id] = row.place
    return made


def _subject(file: Path) -> str:
    """The Chinese name that a map beside the exam gives, else the file's own name."""
    stem = _stem(file)
    for folder in list(file.parents)[:3]:
        for name in _NAMES:
            if (folder / name).is_file():
                return _mapped(read_json(folder / name), stem)
    return stem


def _mapped(names: object, stem: str) -> str:
    """Maps hold {name: {"ch": subject}} or {name: [English, subject, category]}."""
    entry = names.get(stem) if isinstance(names, dict) else None
    if isinstance(entry, dict):
        return str(entry.get("ch") or stem)
    if isinstance(entry, list) and len(entry) > 1:
        return str(entry[1])
    return stem


def _require_items(
    path: Path,
    items: Sequence[ExamItem],
    problems: Sequence[Problem],
    max_bad_share: float,
) -> None:
    bad = [p for p in problems if p.faulty]
    total = len(items) + len(bad)
    if bad and len(bad) > max_bad_share * total:
        first = "; ".join(str(p) for p in bad[:_SHOWN])
        raise ValueError(
            f"{path}: {len(bad)} of {total} rows are faulty, more than "
            f"max_bad_share={max_bad_share:.0%}: {first}; repair them, or raise "
            "max_bad_share to go on without them"
        )
    if not items:
        why = problems[0].reason if problems else "it has no rows"
        raise ValueError(
            f"{path}: no item with a key in it ({why}); test splits often come without "
            "keys: use split='val' or 'dev'"
        )
