"""What users say of answers, thumbs and corrections, and the preference pairs in it.

A feedback file has one JSON object a line, for example one of
    {"id": "f1", "time": "2026-03-02T09:15:00+08:00", "question": "…", "answer": "…",
     "thumb": "down", "rater_kind": "human", "comment": "…"}
    {"id": "f2", "time": "2026-03-02T09:20:00+08:00", "question": "…", "answer": "…",
     "edited": "…", "rater_kind": "human"}
with exactly one of thumb (up or down) and edited (the answer as the rater would have
it); rater_kind is model or human, comment is optional. An id is written into pairs as
it is, so it must not be personal itself. data_samples/feedback has a sample.

A thumb compares nothing: only up and down for two answers to one question do.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from finllm_utils.annotation.judgements import RATER_KINDS
from finllm_utils.data.instruction_formats import require_new_id
from finllm_utils.data.pii import PLACEHOLDERS, find_pii
from finllm_utils.records import PreferencePair, numbered_lines
from finllm_utils.rlhf.preference_formats import text_key

DATA_FILES = ("data_samples/feedback",)
SAMPLE = Path(__file__).resolve().parents[2] / DATA_FILES[0] / "feedback.jsonl"
THUMBS = ("up", "down")
OUTCOMES = ("paired", "contradictory", "alone", "unchanged")
"""What becomes of a line: it is in a pair; it and another line say opposite things; no
answer of the other thumb stands beside its own; its edit changes only personal data,
spaces or width."""
_REQUIRED = ("id", "time", "question", "answer", "rater_kind")
_OPTIONAL = ("thumb", "edited", "comment")


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """One line of a feedback file; of thumb and edited one is empty."""

    id: str
    time: str  # ISO 8601 with its offset from UTC
    question: str
    answer: str
    rater_kind: str  # model or human
    thumb: str = ""  # up or down
    edited: str = ""
    comment: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackPairs:
    """The pairs in feedback, and what became of every line."""

    pairs: list[PreferencePair]
    outcomes: dict[str, int]  # lines by OUTCOMES; they add up to all lines
    masked: dict[str, int]  # placeholders put in, by kind of personal data


def read_feedback(path: Path | str = SAMPLE) -> list[Feedback]:
    """All lines of a feedback file, in file order.

    A field that holds null counts as absent.
    Raises: ValueError naming file, line and remedy for a missing, empty or unknown
    field, a time without offset, an unknown thumb or rater_kind, both or none of thumb
    and edited, an edit that changes nothing, a repeated id.
    """
    path, found = Path(path), []
    seen: dict[str, str] = {}
    for number, row in numbered_lines(path):
        where = f"{path}, line {number}"
        feedback = _feedback(row, where)
        require_new_id(feedback.id, where, seen)
        found.append(feedback)
    if not found:
        raise ValueError(f"{path}: no feedback in it; give at least one line")
    return found


def feedback_pairs(feedback: Iterable[Feedback]) -> FeedbackPairs:
    """Every "better than" that the feedback holds, personal data masked.

    An edit gives (edited > original). An answer with thumbs up and one with thumbs down
    give (up > down) when both answer the same question, spaces and width aside, and the
    raters are of one kind. Contradictory are thumbs up and down for one answer, and two
    answers each preferred to the other: none of these gives a pair. The same preference
    said twice gives one pair. Pairs of one question share its prompt: keep them on one
    side of a split.

    Personal data is found over all texts of one question together, so that a name
    which only the question introduces is masked in the answers too. The masker's limits
    (``data.pii``) hold: read the pairs before you pass them on. ``source`` of a pair is
    "feedback: <rater_kind>"; its id is made of those of its lines.
    """
    groups: dict[tuple[str, str], list[Feedback]] = {}
    for line in feedback:
        groups.setdefault((line.rater_kind, text_key(line.question)), []).append(line)
    pairs, outcomes, masked = [], Counter(), Counter()
    for (rater_kind, _), lines in groups.items():
        texts, counts = _masked_texts(lines)
        masked.update(counts)
        found = _Comparisons(lines, texts)
        for name, better, worse in found.agreed():
            pairs.append(
                PreferencePair(
                    id=f"feedback/{name}",
                    prompt=texts[lines[0].question],
                    chosen=better,
                    rejected=worse,
                    source=f"feedback: {rater_kind}",
                )
            )
        outcomes.update(found.outcome(line) for line in lines)
    return FeedbackPairs(
        pairs=pairs,
        outcomes={name: outcomes[name] for name in OUTCOMES},
        masked=dict(masked),
    )


class _Comparisons:
    """What the lines on one question say of which answer is better."""

    def __init__(self, lines: Sequence[Feedback], texts: Mapping[str, str]) -> None:
        """Takes ``texts``, {text as written: text without personal data}."""
        self._names: dict[tuple[str, str], str] = {}  # by (better, worse)
        self._edges_of: dict[str, list[tuple[str, str]]] = {}  # by id of the line
        self._conflicting: set[str] = set()
        self._unchanged: set[str] = set()
        thumbs: dict[str, dict[str, list[str]]] = {}
        for line in lines:
            answer = texts[line.answer]
            if line.thumb:
                ids = thumbs.setdefault(answer, {"up": [], "down": []})
                ids[line.thumb].append(line.id)
            elif (edited := texts[line.edited]) == answer:
                self._unchanged.add(line.id)
            else:
                self._add(edited, answer, [line.id], f"{line.id}/edit")
        self._add_thumbs(thumbs)

    def agreed(self) -> list[tuple[str, str, str]]:
        """(name, better, worse) of every comparison that nothing contradicts."""
        return [
            (name, *edge) for edge, name in self._names.items() if self._stands(edge)
        ]

    def outcome(self, line: Feedback) -> str:
        """What became of the line, one of ``OUTCOMES``."""
        if line.id in self._unchanged:
            return "unchanged"
        edges = self._edges_of.get(line.id, [])
        if any(map(self._stands, edges)):
            return "paired"
        return "contradictory" if edges or line.id in self._conflicting else "alone"

    def _add_thumbs(self, thumbs: Mapping[str, Mapping[str, list[str]]]) -> None:
        liked, disliked = {}, {}
        for answer, ids in thumbs.items():
            if ids["up"] and ids["down"]:
                self._conflicting.update(ids["up"], ids["down"])
            elif ids["up"]:
                liked[answer] = ids["up"]
            else:
                disliked[answer] = ids["down"]
        for better, ups in liked.items():
            for worse, downs in disliked.items():
                self._add(better, worse, [*ups, *downs], f"{ups[0]}>{downs[0]}")

    def _add(self, better: str, worse: str, ids: Iterable[str], name: str) -> None:
        self._names.setdefault((better, worse), name)
        for line_id in ids:
            self._edges_of.setdefault(line_id, []).append((better, worse))

    def _stands(self, edge: tuple[str, str]) -> bool:
        return edge[::-1] not in self._names


def _masked_texts(lines: Sequence[Feedback]) -> tuple[dict[str, str], Counter]:
    """{text: masked text} of all texts of one question, and how much was masked.

    They are searched as one passage: where one says who is named, all are masked.
    Texts that differ only in spaces or width become the first of them.
    """
    texts = list(
        dict.fromkeys(
            text for f in lines for text in (f.question, f.answer, f.edited) if text
        )
    )
    passage = "\n\n".join(texts)
    spans = find_pii(passage)
    found, counts, begin = {}, Counter(), 0
    first: dict[str, str] = {}
    for text in texts:
        end, position, parts = begin + len(text), begin, []
        for span in spans:
            left, right = max(span.start, begin), min(span.end, end)
            if left < right:
                parts += [passage[position:left], PLACEHOLDERS[span.kind]]
                counts[span.kind] += 1
                position = right
        masked = "".join(parts) + passage[position:end]
        found[text] = first.setdefault(text_key(masked), masked)
        begin = end + 2  # the line breaks between
    return found, counts


def _feedback(row: Mapping, where: str) -> Feedback:
    row = {name: value for name, value in row.items() if value is not None}
    allowed = (*_REQUIRED, *_OPTIONAL)
    if missing := [name for name in _REQUIRED if name not in row]:
        raise ValueError(
            f"{where}: field {missing[0]!r} is missing; write {', '.join(_REQUIRED)} "
            "and thumb or edited"
        )
    if unknown := sorted(set(row) - set(allowed)):
        raise ValueError(
            f"{where}: unknown field {unknown[0]!r}; use {', '.join(allowed)}"
        )
    for name, value in row.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(
                f"{where}: field {name!r} must hold text, got {value!r:.40}; fill it"
                + (" or leave it out" if name in _OPTIONAL else "")
            )
    if ("thumb" in row) == ("edited" in row):
        raise ValueError(
            f"{where}: has {'both' if 'thumb' in row else 'none'} of thumb and edited; "
            "write one of them a line"
        )
    for name, known in (("thumb", THUMBS), ("rater_kind", RATER_KINDS)):
        if name in row and row[name] not in known:
            raise ValueError(
                f"{where}: {name} {row[name]!r} is unknown; write {' or '.join(known)}"
            )
    _require_time(row["time"], where)
    texts = {n: row[n].strip() for n in ("question", "answer", "edited") if n in row}
    if texts.get("edited") == texts["answer"]:
        raise ValueError(
            f"{where}: edited is the answer as it was; write thumb up instead"
        )
    return Feedback(**row | texts)


def _require_time(text: str, where: str) -> None:
    """Raises ValueError unless ``text`` is an instant in ISO 8601."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{where}: time {text!r} is not ISO 8601; write it as "
            "2026-03-02T09:15:00+08:00"
        ) from error
    if time.tzinfo is None:
        raise ValueError(
            f"{where}: time {text!r} has no offset from UTC; add it, as +08:00 for "
            "Beijing"
        )
