"""The project's own instruction items, and what of an answer can be proved by rule.

Read and checked line by line: order of roles, unique ids, every sum recomputed. Whether
the law has a cited article and whether a figure is supported is asked here too;
``instruction_quality`` scores with it. The items lie in
data_samples/instructions/items, one file an area.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import numpy as np

from finllm_utils.corpora.laws import laws
from finllm_utils.data.citations import ARTICLE, ArticleBook, Citation, number_of
from finllm_utils.data.figures import POWERS, Figure, figures
from finllm_utils.data.instruction_formats import require_conversation, require_new_id
from finllm_utils.finance.expression import evaluate
from finllm_utils.records import ChatTurn, Instruction, numbered_lines

DATA_FILES = ("data_samples/instructions/items",)
ITEMS_FOLDER = Path(__file__).resolve().parents[2] / DATA_FILES[0]
AREAS = (
    "banking", "compliance", "credit", "funds", "general", "insurance", "office",
    "payments", "securities", "service", "tax",
)  # fmt: skip
TASKS = (
    "calculation", "case", "chat", "checklist", "clarify", "classify", "code",
    "compare", "correct_mistake", "disclose", "draft", "explain", "extract", "format",
    "json", "logic", "plan", "qa", "reading", "refuse", "rewrite", "service",
    "summarise", "table", "title", "translate", "unknown",
)  # fmt: skip
KINDS = ("single", "multi")
HELDOUT_SHARE = 0.1
_SUM = re.compile(r"([-+*/().%\d^]{3,})[=≈]-?(\d+(?:\.\d+)?)")
_SIGNS = str.maketrans("×÷＋－−–＝（）［］[]％", "*/+---=()()()%")
_UNITS = re.compile(r"[ ,元年月天日份股次期个]")  # may stand inside a written sum
_FIELDS = ("id", "area", "task", "kind", "messages", "basis")
_SAME_LAW = re.compile(r"(?:本|该|同|此)法$")
_OTHER_RULES = re.compile(
    r"(?:法|条例|办法|规定|准则|细则|解释|指引|规则|章程|合同|协议|条款|通知)$"
)


class Check(NamedTuple):
    """A sum behind an answer: ``expr`` has the value that the answer states."""

    expr: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnItem:
    """One hand-written conversation with what proves it."""

    id: str
    area: str
    task: str
    kind: str  # single or multi
    messages: tuple[ChatTurn, ...]
    basis: str
    checks: tuple[Check, ...] = ()

    def to_instruction(self) -> Instruction:
        """The record to train on: task own_<task>, source items/<id>."""
        source = f"items/{self.id}"
        return Instruction(
            id=f"own_{self.task}/{source}",
            messages=self.messages,
            task=f"own_{self.task}",
            domain="general" if self.area == "general" else "finance",
            source=source,
        )


def read_own_items(folder: Path | str = ITEMS_FOLDER) -> list[OwnItem]:
    """All items of ``folder/*.jsonl``, by file name and line.

    Raises: ValueError naming file and line of a missing or unknown field, area, task or
    kind, roles out of order, a kind that does not fit the number of user turns, an id
    that was there before or names another area, a JSON answer that is none, and a check
    that is false or whose value no answer states.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise ValueError(
            f"{folder}: no .jsonl file in it; give the folder of the items"
        )
    found: list[OwnItem] = []
    seen: dict[str, str] = {}
    for path in paths:
        for number, row in numbered_lines(path):
            where = f"{path}, line {number}"
            item = _item(row, where)
            require_new_id(item.id, where, seen)
            found.append(item)
    return found


def split_of(item: OwnItem) -> str:
    """``train`` or ``heldout``; depends on the id alone, 10% are held out.

    The hash is that of ``instructions.is_heldout`` on the instruction's source, so both
    give the same answer.
    """
    byte = hashlib.sha256(f"sft/items/{item.id}".encode()).digest()[0]
    return "heldout" if byte < 256 * HELDOUT_SHARE else "train"


def cited_articles(turns: Iterable[ChatTurn]) -> list[tuple[str, str, bool]]:
    """(law, article, whether the law has it) of each citation by the assistant.

    A bare 第…条 belongs to the law cited before it, in whichever turn. Citations of
    rules that are no law in force (条例, 办法, contracts) are left out, since nothing
    here could prove them; ``ArticleBook.cited`` names them, to have them refused.
    """
    book, found, law = _laws_in_force(), [], ""
    for turn in turns:
        text = normalize("NFKC", turn.content)
        for match in ARTICLE.finditer(text):
            before = text[: match.start()].rstrip("》")
            if named := book.law_before(before):
                law = named
            elif _OTHER_RULES.search(before) and not _SAME_LAW.search(before):
                law = ""
            if law and turn.role == "assistant":
                cited = Citation(law, number_of(match))
                found.append((*cited, cited in book))
    return found


def supported_figures(given: str, answer: str) -> float | None:
    """Share of the answer's figures with support; None where it states none.

    Args: given is all that was said before. Integers below 10 without a unit are not
    counted but serve as given, as do 1, 12, 100, 360 and 365. Chinese numerals are not
    read, and figures that are knowledge rather than results have no support.
    """
    rows = [_readings(f.value, f.unit) for f in figures(answer)
            if not _is_small(f)]  # fmt: skip
    if not rows:
        return None
    known = [1.0, 12.0, 100.0, 360.0, 365.0, *_true_sums(answer)]
    known += [float(f.value) for f in figures(answer) if _is_small(f)]
    known += [v for f in figures(given) for v, _ in _readings(f.value, f.unit)]
    left = rows
    while passed := [row for row in left if _follows(row, known)]:
        known += [value for row in passed for value, _ in row]
        left = [row for row in left if row not in passed]
    return 1 - len(left) / len(rows)


def _is_small(figure: Figure) -> bool:
    """A bare digit: mostly the number of a step or a count of things."""
    return not figure.unit and figure.value < 10 and figure.value % 1 == 0


def _readings(value: Decimal, unit: str) -> list[tuple[float, float]]:
    """(value, size of its last digit), as written and with its unit counted in."""
    step = 10.0 ** value.as_tuple().exponent
    scales = {1.0, 10.0 ** POWERS.get(unit, 0)}
    return [(float(value) * scale, step * scale) for scale in sorted(scales)]


def _true_sums(answer: str) -> list[float]:
    """Results of the sums written in the answer that come out as stated."""
    text = _UNITS.sub("", answer.translate(_SIGNS))
    text = re.sub(r"(\d+(?:\.\d+)?)万", r"(\1*10000)", text)
    found = []
    for match in _SUM.finditer(text):
        stated = Decimal(match[2])
        try:
            got = abs(evaluate(match[1].replace("^", "**")))
        except ValueError:  # no sum after all, such as a date
            continue
        (value, step), *_ = _readings(stated, "")
        if any(abs(float(got) * s - value) <= step / 2 + 1e-9 for s in (1, 100)):
            found.append(value)
    return found


def _follows(row: Sequence[tuple[float, float]], known: Sequence[float]) -> bool:
    """Whether a figure is known, or two known ones give it by one operation."""
    a = np.array(sorted(set(known)))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        results = np.abs(
            np.concatenate([a + 0 * a.T, a + a.T, a - a.T, a * a.T, a / a.T])
        )
    return any(
        bool((np.abs(results - value) <= step / 2 + 1e-9 * value).any())
        for value, step in row
    )


@cache
def _laws_in_force() -> ArticleBook:
    return ArticleBook(laws())


def _item(row: Mapping, where: str) -> OwnItem:
    if missing := [name for name in _FIELDS if not row.get(name)]:
        raise ValueError(f"{where}: field {missing[0]!r} is missing or empty; fill it")
    if unknown := sorted(set(row) - {*_FIELDS, "check"}):
        raise ValueError(
            f"{where}: unknown field {unknown[0]!r}; use {', '.join(_FIELDS)}, check"
        )
    for name, allowed in (("area", AREAS), ("task", TASKS), ("kind", KINDS)):
        if row[name] not in allowed:
            raise ValueError(
                f"{where}: unknown {name} {row[name]!r}; use {', '.join(allowed)}"
            )
    if not str(row["id"]).startswith(f"{row['area']}/"):
        raise ValueError(
            f"{where}: id {row['id']!r} must begin with its area, {row['area']}/"
        )
    turns = _turns(row["messages"], where)
    users = sum(turn.role == "user" for turn in turns)
    if (users > 1) != (row["kind"] == "multi"):
        raise ValueError(
            f"{where}: kind {row['kind']!r} with {users} user turns; single has one, "
            "multi has more"
        )
    if row["task"] == "json":
        _require_json(turns[-1].content, where)
    checks = _checks(row.get("check", []), where)
    stated = [t.content for t in turns if t.role == "assistant"]
    for check in checks:
        _require_check(check, stated, where)
    return OwnItem(
        id=row["id"], area=row["area"], task=row["task"], kind=row["kind"],
        messages=turns, basis=row["basis"], checks=checks,
    )  # fmt: skip


def _turns(messages: object, where: str) -> tuple[ChatTurn, ...]:
    if not isinstance(messages, list):
        raise ValueError(f"{where}: messages must be a list, got {messages!r:.40}")
    turns = []
    for number, turn in enumerate(messages, 1):
        fits = isinstance(turn, Mapping) and set(turn) == {"role", "content"}
        if not fits or not all(isinstance(v, str) for v in turn.values()):
            raise ValueError(
                f"{where}, message {number}: expected role and content as text, got "
                f"{turn!r:.60}"
            )
        turns.append(ChatTurn(**turn))
    require_conversation(turns, where)
    return tuple(turns)


def _require_json(answer: str, where: str) -> None:
    try:
        json.loads(answer)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}: task json, but the last answer is no JSON ({error.msg} at "
            f"column {error.colno}); repair it"
        ) from error


def _checks(value: object, where: str) -> tuple[Check, ...]:
    rows = value if isinstance(value, list) else [value]
    for row in rows:
        fits = isinstance(row, Mapping) and set(row) == {"expr", "value"}
        if not fits or not all(isinstance(v, str) for v in row.values()):
            raise ValueError(
                f"{where}: check {row!r:.60} must hold expr and value, both as text"
            )
    return tuple(Check(**row) for row in rows)


def _require_check(check: Check, answers: Iterable[str], where: str) -> None:
    """Raises ValueError unless the sum gives the value and an answer states it.

    An answer may give the size of a fall without its sign.
    """
    want = checked_value(check, where)
    if not any(abs(want) == f.value for text in answers for f in figures(text)):
        raise ValueError(
            f"{where}: no answer states {check.value}, the value of check {check.expr}"
        )


def checked_value(check: Check, where: str) -> Decimal:
    """The value of ``check``, recomputed.

    The sum is rounded half up to the decimals of the value.
    Raises: ValueError beginning with ``where`` when the sum gives another value.
    """
    try:
        want = Decimal(check.value.replace(",", ""))
        got = evaluate(check.expr)
    except (InvalidOperation, ValueError) as error:
        raise ValueError(f"{where}: check {tuple(check)}: {error}") from error
    unit = Decimal(1).scaleb(want.as_tuple().exponent)
    if got.quantize(unit, ROUND_HALF_UP) != want:
        raise ValueError(
            f"{where}: check {check.expr} gives {got:.10g}, not {check.value}; correct "
            "the answer and the check"
        )
    return want
