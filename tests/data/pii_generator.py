"""Passages with exact spans of generated personal data, and the judge of a masker.

The contexts are our own (``data_samples/pii``, its card says what counts as personal);
the identifiers are random. ``generate`` fills the one with the other, ``judge`` compares
what a masker found with what is there, ``summary`` counts it for each type.
"""

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from tests.data import pii_people, pii_values
from tests.data.pii_digits import id_digit, is_luhn, is_uscc, luhn_digit, uscc_digit
from tests.data.pii_values import FOLDER, WORDS, digits

TYPES = (
    "mobile", "landline", "id_card", "passport", "bank_card", "license_plate", "uscc",
    "email", "wechat", "qq", "address", "name",
)  # fmt: skip
SLOT = re.compile(r"\{([a-z0-9_]+)(?::([a-z0-9_]+))?\}")
PARTS = {"tune": "contexts.jsonl", "fresh": "contexts_fresh.jsonl"}
JOINED = 0.15
"""Share of documents that join two contexts of one genre into a passage."""
Span = tuple[int, int, str]
Rng = random.Random


@dataclass(frozen=True, slots=True)
class PiiCase:
    """A text and what is personal in it; the last three run along with ``spans``."""

    text: str
    spans: tuple[Span, ...]
    contexts: tuple[str, ...]
    plain: tuple[str, ...]
    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Gold spans found and missed, and spans found that are right and wrong."""

    hits: tuple[Span, ...]
    misses: tuple[Span, ...]
    right: tuple[Span, ...]
    wrong: tuple[Span, ...]


@cache
def contexts(part: str = "tune") -> tuple[dict, ...]:
    """The frozen contexts of a part; raises ValueError when a file was changed.

    The masker's rules may be read against "tune" only; "fresh" was written after them
    by people who had seen neither, and is what recall and precision are reported on.
    """
    for line in (FOLDER / "contexts.sha256").read_text(encoding="utf-8").splitlines():
        digest, file = line.split()
        if hashlib.sha256((FOLDER / file).read_bytes()).hexdigest() != digest:
            raise ValueError(
                f"data_samples/pii/{file} differs from contexts.sha256: the set is "
                "frozen; restore the file"
            )
    lines = (FOLDER / PARTS[part]).read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines)


def generate(seed: int, num_documents: int, part: str = "tune") -> list[PiiCase]:
    """Cases in which every context of ``part`` is used equally often, up to one."""
    rng, cases, deck = random.Random(seed), [], []
    by_genre: dict[str, list[dict]] = {}
    for context in contexts(part):
        by_genre.setdefault(context["genre"], []).append(context)
    while len(cases) < num_documents:
        if not deck:
            deck = list(contexts(part))
            rng.shuffle(deck)
        chosen = [deck.pop()]
        others = [c for c in by_genre[chosen[0]["genre"]] if c is not chosen[0]]
        if others and rng.random() < JOINED:
            chosen.append(rng.choice(others))
        cases.append(_fill(rng, chosen))
    return cases


def _fill(rng: Rng, chosen: list[dict]) -> PiiCase:
    text, spans, plains, forms, seen = "", [], [], [], set()
    for context in chosen:
        text, place = text + ("\n" if text else ""), 0
        for slot in SLOT.finditer(context["text"]):
            text += context["text"][place : slot.start()]
            place, (kind, wanted) = slot.end(), slot.groups()
            if kind.startswith("x_"):
                text += filler(rng, kind)
                continue
            value = _value(rng, kind, context["genre"], wanted or "")
            while value.plain in seen:
                value = _value(rng, kind, context["genre"], wanted or "")
            seen.add(value.plain)
            start = len(text) + len(value.prefix)
            text += value.prefix + value.text
            spans.append((start, len(text), kind))
            plains.append(value.plain)
            forms.append(value.form)
        text += context["text"][place:]
    ids = tuple(context["id"] for context in chosen)
    return PiiCase(text, tuple(spans), ids, tuple(plains), tuple(forms))


def _value(rng: Rng, kind: str, genre: str, wanted: str) -> pii_values.Value:
    if kind not in TYPES:
        raise ValueError(f"contexts.jsonl: unknown slot {kind!r}; known: {TYPES}")
    module = pii_people if kind in ("address", "name") else pii_values
    make = getattr(module, kind)
    return make(rng, genre, wanted) if wanted else make(rng, genre)


def _date(rng: Rng) -> str:
    year, month, day = (
        rng.randrange(2015, 2026),
        rng.randrange(1, 13),
        rng.randrange(1, 29),
    )
    forms = (f"{year}年{month}月{day}日", f"{year}-{month:02}-{day:02}")
    return rng.choice((*forms, forms[0], f"{year}.{month:02}.{day:02}"))


def _amount(rng: Rng) -> str:
    value = round(10 ** rng.uniform(2.5, 6.5), 2)
    return rng.choice(
        (f"{value:,.2f}", f"{value:.2f}", f"{value:,.0f}", f"{value:.0f}")
    )


def _phone_like(rng: Rng) -> str:
    """Eleven digits that begin like a mobile number; the context says money or shares."""
    number = f"1{rng.randrange(3, 10)}{digits(rng, 9)}"
    return rng.choice((number, f"{int(number):,}"))


def _isbn(rng: Rng) -> str:
    body = f"9787{digits(rng, 8)}"
    check = -sum(int(d) * (1, 3)[i % 2] for i, d in enumerate(body)) % 10
    return f"978-7-{body[4:7]}-{body[7:]}-{check}"


def _bad_id(rng: Rng) -> str:
    """A number shaped like an ID card that passes no check at all."""
    while True:
        body = rng.choice(WORDS["id_regions"]) + f"{rng.randrange(1950, 2007)}"
        body += f"{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}{digits(rng, 3)}"
        number = body + rng.choice("0123456789")
        if number[-1] != id_digit(body) and not is_luhn(number) | is_uscc(number):
            return number


def _bad_card(rng: Rng) -> str:
    body = "62" + digits(rng, rng.choice((13, 16)))
    wrong = [d for d in "0123456789" if d != luhn_digit(body)]
    return pii_values.group(body + rng.choice(wrong), (4,), rng.choice(("", "", " ")))


def _bad_uscc(rng: Rng) -> str:
    """A code with letters, so it can be no card, whose last character is wrong."""
    body = ""
    while body.isdigit() or not body:
        body = pii_values.uscc(rng, "form").plain[:17]
    return body + rng.choice([c for c in "0123456789ABC" if c != uscc_digit(body)])


def _order(rng: Rng) -> str:
    """A day and a running number, with or without letters before it."""
    while True:
        day = f"{rng.randrange(2019, 2026)}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}"
        number = day + digits(rng, rng.choice((6, 8, 9)))
        order = rng.choice(("", "", "DD", "HL")) + number
        if not is_luhn(number) and not is_uscc(order):
            return order


def _contract_number(rng: Rng) -> str:
    year, number = rng.randrange(2018, 2026), digits(rng, 4)
    day = f"{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}"
    forms = (f"HL{year}-{day}-{number}", f"恒澜临字（{year}）第{number}号")
    return rng.choice((*forms, f"HLDK{year}{day}{number}"))


def _hotline(rng: Rng) -> str:
    firm = f"{rng.choice(('400', '800'))}-{digits(rng, 3)}-{digits(rng, 4)}"
    return rng.choice((firm, firm, rng.choice(WORDS["hotlines"])))


def _coordinates(rng: Rng) -> str:
    north, east = rng.uniform(22, 40), rng.uniform(103, 121)
    return rng.choice((f"{north:.6f}, {east:.6f}", f"N{north:.4f} E{east:.4f}"))


def filler(rng: Rng, kind: str) -> str:
    """What fills ``{x_...}``: amounts, dates, numbers; none of it is personal."""
    if match := re.fullmatch(r"x_digits(\d+)", kind):
        return rng.choice("123456789") + digits(rng, int(match[1]) - 1)
    makers = {
        "x_date": _date,
        "x_amount": _amount,
        "x_time": lambda r: f"{r.randrange(24):02}:{r.randrange(60):02}",
        "x_order": _order,
        "x_serial": lambda r: r.choice("123456789") + digits(r, r.randrange(20, 25)),
        "x_share": lambda r: f"{r.randrange(10**8, 10**10):,}",
        "x_phonelike": _phone_like,
        "x_isbn": _isbn,
        "x_fund": lambda r: f"0{digits(r, 5)}",
        "x_stock": lambda r: r.choice(("600", "000", "300", "688")) + digits(r, 3),
        "x_product": lambda r: r.choice("CZ") + "7" + digits(r, 12),
        "x_coord": _coordinates,
        "x_version": lambda r: (
            f"v{r.randrange(1, 9)}.{r.randrange(20)}.{r.randrange(99)}"
        ),
        "x_coupon": lambda r: f"FX-{digits(r, 2)}K{digits(r, 1)}-Q{digits(r, 1)}TT",
        "x_badid": _bad_id,
        "x_badcard": _bad_card,
        "x_baduscc": _bad_uscc,
        "x_contractno": _contract_number,
        "x_hotline": _hotline,
    }
    if kind not in makers:
        raise ValueError(
            f"contexts.jsonl: unknown filler {kind!r}; known: {list(makers)}"
        )
    return makers[kind](rng)


@cache
def _context_words() -> re.Pattern:
    """Words and signs beside an identifier that a masker may take along."""
    words = sorted(WORDS["context_words"], key=len, reverse=True)
    country = r"(?:[+＋]|00|００)?(?:86|８６)"
    named = "|".join(re.escape(word) for word in words)
    return re.compile(rf"(?:{country}|{named}|[\W_])*+", re.IGNORECASE)


def judge(case: PiiCase, found: Iterable[Span]) -> Verdict:
    """Holds ``found`` against the gold spans; the rule is in data_samples/pii/CARD.md."""
    right, wrong, covered = [], [], set()
    for start, end, kind in sorted(set(found)):
        gold = [g for g in case.spans if g[2] == kind and g[0] < end and start < g[1]]
        outside, place = [], start
        for gold_start, gold_end, _ in gold:
            outside.append(case.text[place:gold_start])
            place = max(place, gold_end)
        outside.append(case.text[place:end])
        clean = all(_context_words().fullmatch(piece) for piece in outside)
        if gold and clean:
            right.append((start, end, kind))
            covered.update((kind, place) for place in range(start, end))
        else:
            wrong.append((start, end, kind))
    hits, misses = [], []
    for gold in case.spans:
        places = (i for i in range(gold[0], gold[1]) if case.text[i].isalnum())
        found_all = all((gold[2], place) in covered for place in places)
        (hits if found_all else misses).append(gold)
    return Verdict(tuple(hits), tuple(misses), tuple(right), tuple(wrong))


def summary(
    cases: Sequence[PiiCase], found: Sequence[Iterable[Span]]
) -> dict[str, dict[str, int]]:
    """Counts ``gold hits found right`` for each type and for ``all``."""
    counts = {
        kind: Counter(gold=0, hits=0, found=0, right=0) for kind in (*TYPES, "all")
    }
    for case, spans in zip(cases, found, strict=True):
        verdict = judge(case, spans)
        groups = {"gold": case.spans, "hits": verdict.hits, "right": verdict.right}
        groups["found"] = verdict.right + verdict.wrong
        for key, group in groups.items():
            for _, _, kind in group:
                counts["all"][key] += 1
                counts.setdefault(kind, Counter(gold=0, hits=0, found=0, right=0))
                counts[kind][key] += 1
    return {kind: dict(count) for kind, count in counts.items()}
