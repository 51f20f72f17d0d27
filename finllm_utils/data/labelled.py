"""Labelled examples for the text classifiers: gold half ``dev``, written ones, sources.

Gold files say clean or dirty and finance or general; data_samples/quality adds short
texts whose authors saw neither gold files nor rules; shipped corpora stand for kinds of
text (laws, answers and news carry knowledge, reviews are chatter). The half ``test`` is
never used here: it measures.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scipy.stats import rankdata

from finllm_utils.data.extract import read_file
from finllm_utils.data.filters import strip_boilerplate
from finllm_utils.data.gold import RAW_FOLDER, GoldItem
from finllm_utils.data.language import drop_foreign
from finllm_utils.data.normalize import normalize
from finllm_utils.data.pii import mask_pii
from finllm_utils.data.quality import TextClassifier, score_probabilities
from finllm_utils.records import Document, read_lines

DATA_FILES = ("data_samples/quality",)
QUALITY_FOLDER = Path(__file__).resolve().parents[2] / DATA_FILES[0]
_KNOWLEDGE = {"laws", "insurance_zh", "peoples_daily"}
_CHATTER = {"reviews"}


@dataclass(slots=True)
class Examples:
    """Parallel lists for ``quality.train_classifier``."""

    texts: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    def add(self, text: str, label: bool, group: str) -> None:
        """Appends one example."""
        self.texts.append(text)
        self.labels.append(int(label))
        self.groups.append(group)


def chunks(text: str, size: int = 100) -> list[str]:
    """Pieces of ``size`` characters of a longer text; a rest of under half is left out.

    Few labels go further when every part of a document is an example too (measured out
    of fold on the half ``dev``: area under the curve 0.88 without, 0.95 with pieces).
    """
    if len(text) < 2 * size:
        return []
    return [text[i : i + size] for i in range(0, len(text) - size // 2, size)]


def gold_texts(gold: Iterable[GoldItem], folder: Path = RAW_FOLDER) -> dict[str, str]:
    """``{file: text as the learnt scores see it}``, unreadable files left out."""
    texts = {}
    for item in gold:
        try:
            text, _ = read_file(folder / item.file)
        except ValueError:  # planted: scanned, empty, encrypted
            continue
        text = drop_foreign(strip_boilerplate(normalize(text, {})[0])[0])[0]
        texts[item.file] = mask_pii(text)[0]
    return texts


def written_examples(folder: Path = QUALITY_FOLDER) -> list[dict]:
    """Short texts of ours, each labelled clean or dirty, for training only."""
    return [row for path in sorted(folder.glob("*.jsonl")) for row in read_lines(path)]


def compare_with_length(
    model: TextClassifier, gold: Iterable[GoldItem], folder: Path = RAW_FOLDER
) -> dict[str, dict[str, float]]:
    """How ``clean`` does on gold files it never saw, beside "longer is cleaner".

    Copies are left out, as in training. Returns ``quality.score_probabilities`` of the
    model and of the length rule, whose probability is the rank of the length.
    """
    chosen = [item for item in gold if not item.duplicate_of]
    texts = gold_texts(chosen, folder)
    labels = [item.clean for item in chosen if item.file in texts]
    found = list(texts.values())
    ranks = rankdata([len(text) for text in found]) / len(found)
    return {
        "learnt": score_probabilities(model.probabilities(found), labels),
        "length": score_probabilities(ranks, labels),
    }


def labelled_examples(
    gold: Sequence[GoldItem], documents: Iterable[Document], *, num_anchors: int
) -> dict[str, Examples]:
    """Examples of ``clean``, ``knowledge`` and ``finance``.

    Args: gold is the half to learn from; documents are training text, of which the
    first ``num_anchors`` of every Chinese source are taken.
    Copies are no examples: the text of one is clean, only its repetition is not.
    """
    clean, knowledge, finance = Examples(), Examples(), Examples()
    texts = gold_texts(g for g in gold if not g.duplicate_of)
    for item in gold:
        if text := texts.get(item.file):
            for part in (text, *chunks(text)):
                clean.add(part, item.clean, item.file)
            if item.clean or "chatter" in item.faults:
                knowledge.add(text, item.clean, item.file)
            if item.clean:
                finance.add(text, item.domain == "finance_zh", item.file)
    for row in written_examples():
        clean.add(mask_pii(row["text"])[0], row["label"] == "clean", row["id"])
    anchors: dict[tuple[str, str], list[Document]] = defaultdict(list)
    for document in documents:
        chosen = anchors[document.source, document.domain]
        if document.domain.endswith("_zh") and len(chosen) < num_anchors:
            chosen.append(document)
    for (source, domain), chosen in sorted(anchors.items()):
        for document in chosen:
            if source in _KNOWLEDGE | _CHATTER:
                clean.add(document.text, True, document.id)
                knowledge.add(document.text, source in _KNOWLEDGE, document.id)
            finance.add(document.text, domain == "finance_zh", document.id)
    return {"clean": clean, "knowledge": knowledge, "finance": finance}
