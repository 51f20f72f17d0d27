"""The chain against data_samples/raw_gold.jsonl, where every planted fault is known.

Thresholds were set on the ``dev`` half only; the halves are told apart by the hash of
the file name, so a new file never moves an old one.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from finllm_utils.data.normalize import fold_width, to_simplified
from finllm_utils.data.shingles import fold_texts
from finllm_utils.records import Document, read_lines

DATA_FILES = ("data_samples/raw", "data_samples/raw_gold.jsonl")
RAW_FOLDER, GOLD_FILE = (Path(__file__).resolve().parents[2] / f for f in DATA_FILES)


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldItem:
    """What is known about one raw file."""

    file: str
    clean: bool
    domain: str
    faults: tuple[str, ...] = ()
    duplicate_of: str | None = None
    pii: tuple[dict, ...] = ()
    pii_decoys: tuple[str, ...] = ()
    key_sentences: tuple[str, ...] = ()
    title: str = ""

    @property
    def half(self) -> str:
        """``dev`` or ``test``; a copy is in its original's half."""
        name = self.duplicate_of or self.file
        return "dev" if hashlib.sha256(name.encode()).digest()[0] % 2 else "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldScore:
    """Shares in [0, 1] unless named ``_left``; ``missed`` lists what went wrong."""

    num_clean: int
    num_dirty: int
    planted_duplicates_found: float
    planted_pii_left: int
    clean_kept: float
    originals_kept: float
    dirty_dropped: float
    key_sentences_kept: float
    decoys_kept: float
    missed: list[str] = field(default_factory=list)


def read_gold(path: Path = GOLD_FILE) -> list[GoldItem]:
    """The gold file; fields that are not scored (format, note) are left out."""
    names = GoldItem.__dataclass_fields__
    lists = ("faults", "pii", "pii_decoys", "key_sentences")
    items = []
    for row in read_lines(path):
        known = {k: v for k, v in row.items() if k in names}
        known |= {k: tuple(known.get(k) or ()) for k in lists}
        items.append(GoldItem(**known))
    return items


def score_gold(
    gold: Iterable[GoldItem], kept: Iterable[Document], prefix: str = "raw/"
) -> GoldScore:
    """Compares what was kept with the gold items; documents are ``<prefix><file>``.

    Text is compared folded: width, script, spaces and marks do not count. Of a clean
    text and its planted copies exactly one should stay; a copy without a fault of its
    own is as good as the original. So a clean document is kept when its own file is,
    or a copy that carries every one of its key sentences; a copy is dropped when its
    text stands once. ``originals_kept`` counts only the clean file itself.
    """
    gold = list(gold)
    texts = _folded_texts(kept, prefix)
    groups = _copies(gold)
    alive = {name: [f for f in group if f in texts] for name, group in groups.items()}
    copies = [g for g in gold if g.duplicate_of]
    clean = [g for g in gold if g.clean]
    dirty = [g for g in gold if not g.clean]
    remaining = [
        g for g in copies if g.file in texts and len(alive[g.duplicate_of]) > 1
    ]
    lost = [g for g in clean if not _is_kept(g, texts, alive.get(g.file, []))]
    stayed = [
        g for g in dirty if g.file in texts and (not g.duplicate_of or g in remaining)
    ]
    left = [
        (g, p["text"])
        for g in gold
        for p in g.pii
        if any(_folded(p["text"]) in text for text in texts.values())
    ]
    sentences = [(g, s) for g in clean for s in g.key_sentences]
    gone = [
        (g, s)
        for g, s in sentences
        if not any(_folded(s) in texts.get(f, "") for f in groups.get(g.file, [g.file]))
    ]
    decoys = [(g, s) for g in clean for s in g.pii_decoys if g.file in texts]
    masked = [(g, s) for g, s in decoys if _folded(s) not in texts[g.file]]
    missed = {
        "copy stayed": [g.file for g in remaining],
        "clean lost": [g.file for g in lost],
        "dirty stayed": [f"{g.file} {', '.join(g.faults)}" for g in stayed],
        "PII left": [f"{g.file} {s}" for g, s in left],
        "sentence gone": [f"{g.file} {s}" for g, s in gone],
        "decoy masked": [f"{g.file} {s}" for g, s in masked],
    }
    return GoldScore(
        num_clean=len(clean),
        num_dirty=len(dirty),
        planted_duplicates_found=_share(len(copies) - len(remaining), len(copies)),
        planted_pii_left=len(left),
        clean_kept=_share(len(clean) - len(lost), len(clean)),
        originals_kept=_share(sum(g.file in texts for g in clean), len(clean)),
        dirty_dropped=_share(len(dirty) - len(stayed), len(dirty)),
        key_sentences_kept=_share(len(sentences) - len(gone), len(sentences)),
        decoys_kept=_share(len(decoys) - len(masked), len(decoys)),
        missed=[f"{what}: {item}" for what in missed for item in missed[what]],
    )


def _folded_texts(kept: Iterable[Document], prefix: str) -> dict[str, str]:
    raw = [d for d in kept if d.id.startswith(prefix)]
    return {d.id.removeprefix(prefix): _folded(d.text) for d in raw}


def _copies(gold: Iterable[GoldItem]) -> dict[str, list[str]]:
    """Each copied file with itself and its copies."""
    groups: dict[str, list[str]] = {}
    for item in gold:
        if item.duplicate_of:
            groups.setdefault(item.duplicate_of, [item.duplicate_of]).append(item.file)
    return groups


def _is_kept(item: GoldItem, texts: dict[str, str], alive: list[str]) -> bool:
    """Itself, or one of its ``alive`` copies with all of its key sentences."""
    sentences = [_folded(sentence) for sentence in item.key_sentences]
    return item.file in texts or any(
        all(sentence in texts[file] for sentence in sentences) for file in alive
    )


def _folded(text: str) -> str:
    return fold_texts([to_simplified(fold_width(text))[0]])[0]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
