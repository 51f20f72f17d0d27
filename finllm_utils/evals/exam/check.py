"""What must hold of the finance exam: every key proved, no clue in the form.

One finding for each thing that does not hold, with the id of its item. Whether an item
stands in training text is asked in ``exam.overlap``.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from scipy.stats import chisquare

from finllm_utils.corpora.laws import laws
from finllm_utils.data.citations import (
    ARTICLE,
    ArticleBook,
    Citation,
    number_of,
    short_name,
)
from finllm_utils.data.figures import POWERS, Figure, figures
from finllm_utils.data.own_items import Check, checked_value
from finllm_utils.data.shingles import fold_texts
from finllm_utils.evals.exam.baselines import top_credit
from finllm_utils.evals.exam.items import LETTERS, SUBJECTS, TRUE_FALSE
from finllm_utils.records import ExamItem, numbered_lines

TYPES = {"single": 264, "multiple": 66, "true_false": 66}
"""{type: items of the whole exam}."""
MAX_CLUE = 0.05  # what a rule may gain over chance
_MIN_P = 0.01  # letters more uneven than one fair exam in a hundred are a finding
_MIN_QUOTE = 6  # characters; a shorter quote proves nothing
_FIELDS = ("id", "subject", "type", "question", "choices", "answer", "proof")


class Finding(NamedTuple):
    """A thing that does not hold; ``item`` is its id, or "exam" for the whole."""

    item: str
    rule: str
    detail: str


def exam_rows(folder: Path) -> dict[str, list[dict]]:
    """The rows of every subject that has a file, and of "paraphrases" (all of theirs).

    Raises: ValueError naming a file that belongs to no subject, or a broken line.
    """
    rows: dict[str, list[dict]] = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        name = path.stem.split("_")[0] if path.stem.startswith("para") else path.stem
        if name not in SUBJECTS and name != "paraphrases":
            raise ValueError(
                f"{path}: no subject of the exam; use {', '.join(SUBJECTS)} or "
                "paraphrases"
            )
        rows.setdefault(name, []).extend(row for _, row in numbered_lines(path))
    return rows


def check_exam(folder: Path) -> list[Finding]:
    """Everything in ``folder`` that does not hold, item by item, then as a whole."""
    rows = exam_rows(folder)
    paraphrases = rows.pop("paraphrases", [])
    found, sound = [], []
    for subject, own in rows.items():
        for row in own:
            faults = form_faults(row, SUBJECTS[subject], f"exam/{subject}/")
            found += faults
            if not faults:
                sound.append(row)
    book = ArticleBook(laws())
    for row in sound:
        found += proof_faults(row, book)
    found += repeated(sound) + paraphrase_faults(paraphrases, sound)
    return found + clues([to_item(row) for row in sound])


def to_item(row: Mapping) -> ExamItem:
    """The row without what proves it."""
    return ExamItem(**{name: row[name] for name in _FIELDS})


def form_faults(row: Mapping, subject: str, prefix: str) -> list[Finding]:
    """Missing fields, an unknown type, a choice or a letter that cannot be."""
    key = str(row.get("id", ""))
    if missing := [n for n in _FIELDS if not row.get(n)]:
        return [Finding(key, "form", f"{missing[0]} is missing or empty")]
    choices, answer, kind = row["choices"], row["answer"], row["type"]
    letters = LETTERS[: len(choices)]
    size = {"single": (1, 1), "true_false": (1, 1)}.get(kind, (2, len(choices)))
    rules = {
        f"the id does not begin with {prefix}": key.startswith(prefix),
        f"subject {row['subject']!r} is not {subject}": row["subject"] == subject,
        f"unknown type {kind!r}": kind in TYPES,
        "two choices are equal": len({_plain(c) for c in choices}) == len(choices),
        "true_false has choices of its own": kind != "true_false"
        or tuple(choices) == TRUE_FALSE,
        "four choices or more are asked for": kind == "true_false" or len(choices) >= 4,
        f"answer {answer!r} is not of {letters}": set(answer) <= set(letters),
        f"answer {answer!r} is not sorted or repeats": "".join(sorted(set(answer)))
        == answer,
        f"{kind} with {len(answer)} right": size[0] <= len(answer) <= size[1],
        "neither statute nor check": bool(row.get("statute") or row.get("check")),
    }
    return [Finding(key, "form", text) for text, holds in rules.items() if not holds]


def proof_faults(row: Mapping, book: ArticleBook) -> list[Finding]:
    """Sums that come out otherwise or are not in the right choice; false quotes.

    Where no choice has a figure (可以推定), the proof must state the sum's value.
    """
    found = []
    values = []
    for check in row.get("check", []):
        try:
            values.append(checked_value(Check(**check), row["id"]))
        except (TypeError, ValueError) as error:
            found.append(Finding(row["id"], "check", str(error)))
    right = [row["choices"][LETTERS.index(letter)] for letter in row["answer"]]
    if row["type"] == "true_false":
        right = [row["question"], row["proof"]]
    elif not any(figures(choice) for choice in row["choices"]):
        right = [row["proof"]]
    stated = {v for text in right for f in figures(text) for v in _readings(f)}
    if values and not any(abs(value) in stated for value in values):
        detail = f"no right choice states {', '.join(map(str, values))}"
        found.append(Finding(row["id"], "check", detail))
    for statute in row.get("statute", []):
        if fault := _statute_fault(statute, book):
            found.append(Finding(row["id"], "statute", fault))
    return found


def _readings(figure: Figure) -> tuple[Decimal, Decimal]:
    """5% is 5 or 0.05; 3万 is 3 or 30000."""
    return figure.value, figure.value.scaleb(POWERS.get(figure.unit, 0))


def _statute_fault(statute: Mapping, book: ArticleBook) -> str:
    law, quote = short_name(statute.get("law", "")), statute.get("quote", "")
    match = ARTICLE.fullmatch(statute.get("article", ""))
    if not match or Citation(law, number_of(match)) not in book:
        return f"{statute.get('law')} has no {statute.get('article')}"
    folded, text = fold_texts([quote, book.text(Citation(law, number_of(match)))])
    if len(folded) < _MIN_QUOTE or folded not in text:
        return f"《{law}》{match[0]} does not say {quote!r}"
    return ""


def _plain(text: str) -> str:
    """In half width and without spaces; points stay, as 1.224 is not 12.24."""
    return "".join(normalize("NFKC", text).split())


def repeated(rows: Sequence[Mapping]) -> list[Finding]:
    """Ids and questions that stand more than once, spaces aside."""
    found = []
    texts = [_plain(row["question"]) for row in rows]
    for rule, names in (("id", [row["id"] for row in rows]), ("question", texts)):
        counts = Counter(names)
        for row, name in zip(rows, names, strict=True):
            if counts[name] > 1:
                detail = f"this {rule} stands {counts[name]} times"
                found.append(Finding(row["id"], "unique", detail))
    return found


def paraphrase_faults(
    paraphrases: Iterable[Mapping], rows: Sequence[Mapping]
) -> list[Finding]:
    """Paraphrases of no item, in its own words, or with another kind of answer."""
    originals, found, seen = {row["id"]: row for row in rows}, [], set()
    for one in paraphrases:
        key, origin = one["id"], originals.get(one["id"])
        if origin is None or key in seen:
            detail = "paraphrased twice" if key in seen else "there is no such item"
            found.append(Finding(key, "paraphrase", detail))
            continue
        seen.add(key)
        letters = set(LETTERS[: len(one["choices"])])
        rules = {
            "the question is the original's": _plain(one["question"])
            != _plain(origin["question"]),
            "another number of choices": len(one["choices"]) == len(origin["choices"]),
            "another number of right choices": len(one["answer"])
            == len(origin["answer"]),
            "the answer is not among the choices": set(one["answer"]) <= letters,
        }
        found += [
            Finding(key, "paraphrase", t) for t, holds in rules.items() if not holds
        ]
    return found


def clues(items: Sequence[ExamItem]) -> list[Finding]:
    """Letters that are right too often, and what the longest choice would gain."""
    by_type: dict[str, list[ExamItem]] = defaultdict(list)
    for item in items:
        by_type[item.type].append(item)
    found = []
    for kind, own in by_type.items():
        letters = LETTERS[: min(len(item.choices) for item in own)]
        counts = [sum(letter in item.answer for item in own) for letter in letters]
        if chisquare(counts).pvalue < _MIN_P:
            detail = f"{kind}: {dict(zip(letters, counts, strict=True))} are right"
            found.append(Finding("exam", "letters", detail))
        found += _length_clue(kind, own, "longest", len)
        found += _length_clue(kind, own, "shortest", lambda choice: -len(choice))
    return found


def _length_clue(
    kind: str, items: Sequence[ExamItem], name: str, rule: Callable[[str], float]
) -> list[Finding]:
    gained = sum(top_credit(item, rule) for item in items) / len(items)
    chance = sum(len(item.answer) / len(item.choices) for item in items) / len(items)
    if gained <= chance + MAX_CLUE:
        return []
    detail = f"{kind}: the {name} choice is right in {gained:.1%}, chance {chance:.1%}"
    return [Finding("exam", name, detail)]
