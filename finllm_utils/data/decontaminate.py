"""Removing training text that also stands in held-out sets and evaluation items.

A line that shares a window of ``ngram`` folded characters (three times as many letters
in a Latin text) with held-out text is cut; so are sentences that together equal a
shorter evaluation item. A document that loses half of itself is dropped.
Statutes repeat formulae, so those of verbatim sources lose articles instead: one that
shares 50 characters in a row, or half of its windows of 13, or a whole short item.
Source: the 13-word windows of GPT-3, appendix C (arXiv 2005.14165).
Differs: characters, because Chinese has no spaces; whole lines or articles instead of
200 characters either side.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from finllm_utils.data.heldout_index import (
    ARTICLE_GRAM,
    ARTICLE_RUN,
    HeldoutIndex,
    windows_inside,
)
from finllm_utils.data.shingles import fold, is_latin
from finllm_utils.records import Document

_HALF = 0.5
_NUMBER = "[零〇一二三四五六七八九十百千0-9]+"
_ARTICLE = re.compile(
    rf"(?:第{_NUMBER}条(?:之{_NUMBER})?|条目{_NUMBER})(?=[\s:：]|$)[\s:：]*"
)
_HEADING = re.compile(
    rf"(?:《[^》]{{1,60}}》)?[ ]*第{_NUMBER}(?:分?编|章|节)(?=\s|$).{{0,40}}$"
    r"|《[^》]{1,60}》$"
)


class Removal(NamedTuple):
    """(keep, reason, text without held-out parts)."""

    keep: bool
    reason: str
    text: str


class Unit(NamedTuple):
    """A part of a statute, ``start`` to ``end``; its wording begins at ``body``."""

    start: int
    body: int
    end: int
    is_heading: bool


def remove_overlaps(
    texts: Sequence[str], index: HeldoutIndex, verbatim: Sequence[bool] | None = None
) -> list[Removal]:
    """For each text (keep, reason, text without held-out lines or articles).

    Args: verbatim says which texts are statutes (default none): the Chinese ones among
    them lose articles, all others lines.
    Reasons: ``heldout_overlap:<share lost>`` of a dropped document,
    ``heldout_lines_cut`` and ``heldout_articles_cut`` ``:<share lost>:<characters
    lost>:<parts lost>`` of one that stays.
    """
    statutes = _statutes(texts, verbatim)
    lines = [row for row in range(len(texts)) if row not in statutes]
    results = [Removal(True, "", text) for text in texts]
    chosen = [texts[row] for row in lines]
    for place, result in _without_lines(chosen, index).items():
        results[lines[place]] = result
    chosen = [texts[row] for row in statutes]
    for place, result in _without_articles(chosen, index).items():
        results[statutes[place]] = result
    return results


def leftover_overlaps(
    documents: Iterable[Document],
    index: HeldoutIndex,
    verbatim_sources: Collection[str] = (),
) -> dict[str, str]:
    """``{document id: reason}`` of what ``remove_overlaps`` would still cut or drop.

    Empty for a decontaminated corpus. A statute may share up to 49 characters with
    held-out text, so ``index.overlaps`` alone would be too strict.
    """
    documents, found = list(documents), {}
    for start in range(0, len(documents), 256):
        part = documents[start : start + 256]
        flags = [d.source in verbatim_sources for d in part]
        results = remove_overlaps([d.text for d in part], index, flags)
        pairs = zip(part, results, strict=True)
        found |= {d.id: result.reason for d, result in pairs if result.reason}
    return found


def removal_report(kept: Iterable[Document], rejected: Iterable[dict]) -> list[dict]:
    """What decontamination took, a row a source and kind.

    Args: kept are documents of the corpus (``meta["cut"]`` says what each lost);
    rejected are the rows of the audit trail.
    Returns: rows with source, kind, documents, parts (lines or articles; 0 where whole
    documents went), chars, and the id of the first document as an example.
    """
    rows: dict[tuple[str, str], Counter] = {}
    examples: dict[tuple[str, str], str] = {}
    losses = [
        (r["source"], r["reason"].split(":")[0], r["chars"], 0, r["id"])
        for r in rejected
        if r["step"] == "decontaminate"
    ]
    for document in kept:
        if cut := document.meta.get("cut"):
            kind, _, chars, parts = cut.split(":")
            losses.append((document.source, kind, int(chars), int(parts), document.id))
    for source, kind, chars, parts, key in losses:
        row = rows.setdefault((source, kind), Counter())
        row.update(documents=1, parts=parts, chars=chars)
        examples.setdefault((source, kind), key)
    return [
        {"source": s, "kind": k, **rows[s, k], "example": examples[s, k]}
        for s, k in sorted(rows)
    ]


def _statutes(texts: Sequence[str], verbatim: Sequence[bool] | None) -> list[int]:
    """Rows under the article rule."""
    chosen = np.flatnonzero(np.zeros(0) if verbatim is None else verbatim).tolist()
    codes, bounds, _ = fold([texts[row] for row in chosen])
    return [
        row
        for row, latin in zip(chosen, is_latin(codes, bounds).tolist(), strict=True)
        if not latin
    ]


def _without_lines(texts: Sequence[str], index: HeldoutIndex) -> dict[int, Removal]:
    """The texts that lose lines, by number.

    A cut that brings two lines together could make a new shared window, so the result
    is checked again.
    """
    results = {}
    for row, places in index.overlaps(texts).items():
        text = cut_lines(texts[row], places)
        while text and (again := index.overlaps([text])):
            text = cut_lines(text, again[0])
        lost = 1 - len(text) / max(len(texts[row]), 1)
        if lost > _HALF:
            results[row] = Removal(False, f"heldout_overlap:{lost:.2f}", texts[row])
        else:
            parts = texts[row].count("\n") - text.count("\n")
            reason = _reason("lines", texts[row], text, parts)
            results[row] = Removal(True, reason, text)
    return results


def cut_lines(text: str, places: Iterable[tuple[int, int]]) -> str:
    """``text`` without the lines that any (start, end) of ``places`` touches."""
    places = sorted(places)
    kept, start, current = [], 0, 0
    for line in text.split("\n"):
        end = start + len(line)
        while current < len(places) and places[current][1] <= start:
            current += 1
        touched = any(s < end and e > start for s, e in places[current:])
        if not touched:
            kept.append(line)
        start = end + 1
    return "\n".join(kept).strip()


def _without_articles(texts: Sequence[str], index: HeldoutIndex) -> dict[int, Removal]:
    """The statutes that lose articles, by number; dropped when no article is left."""
    units = [split_articles(text) for text in texts]
    flat = [(row, unit) for row, found in enumerate(units) for unit in found]
    heldout = heldout_units([texts[row][u.body : u.end] for row, u in flat], index)
    gone = {pair for pair, held in zip(flat, heldout.tolist(), strict=True) if held}
    results = {}
    for row in sorted({row for row, _ in gone}):
        text, left = texts[row], [u for u in units[row] if (row, u) not in gone]
        if all(unit.is_heading for unit in left):
            results[row] = Removal(False, "heldout_overlap:1.00", text)
        else:
            rest = "\n".join(text[unit.start : unit.end] for unit in left).strip()
            reason = _reason("articles", text, rest, len(units[row]) - len(left))
            results[row] = Removal(True, reason, rest)
    return results


def split_articles(text: str) -> list[Unit]:
    """The articles of a statute, headings and what stands before the first article.

    An article is a line that begins with 第…条 and the lines behind it, up to the next
    one or a heading. Lines before the first are units of their own.
    """
    units: list[Unit] = []
    start, inside = 0, False
    for line in text.split("\n"):
        end = start + len(line)
        article, heading = _ARTICLE.match(line), _HEADING.match(line)
        if inside and not article and not heading:
            units[-1] = units[-1]._replace(end=end)
        else:
            body = start + (article.end() if article else 0)
            units.append(Unit(start, body, end, bool(heading) or not line.strip()))
            inside = bool(article)
        start = end + 1
    return units


def heldout_units(bodies: Sequence[str], index: HeldoutIndex) -> np.ndarray:
    """For each wording of an article: whether held-out text stands in it (bool)."""
    codes, bounds, _ = fold(bodies)
    counts = []
    for known, num in ((index.runs, ARTICLE_RUN), (index.grams, ARTICLE_GRAM)):
        hashes, owner = windows_inside(codes, bounds, num)
        found = owner[index.places(known, hashes)]
        counts.append(
            [np.bincount(o[o >= 0], minlength=len(bodies)) for o in (found, owner)]
        )
    (runs, _), (shared, total) = counts
    held = (runs > 0) | ((shared > 0) & (shared >= _HALF * total))
    held[[row for row, _, _ in index.item_places(bodies)]] = True
    return held


def _reason(what: str, before: str, after: str, parts: int) -> str:
    lost = len(before) - len(after)
    return f"heldout_{what}_cut:{lost / max(len(before), 1):.2f}:{lost}:{parts}"
