"""Numbers of ``data_ablation``: scores by source, paired intervals, tokens saved.

Also its tokenizer. Nothing here trains or cleans.
"""

import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from finllm_utils.evals.bits_per_byte import BitsPerByte
from finllm_utils.tokenizer.base import MISTRAL_V1, load_base_tokenizer, model_json
from finllm_utils.tokenizer.expand import add_pieces, as_pretrained

LEVEL = 0.95
_SPECIAL = 3  # <unk> <s> </s> keep the ids 0, 1, 2


@dataclass(frozen=True, slots=True)
class Scores:
    """Bits per byte of one trained model."""

    bpb: dict[str, float]
    """By domain."""
    by_source: dict[str, float]
    """By ``domain/source``."""

    def add(self, domain: str, sources: Sequence[str], found: BitsPerByte) -> None:
        """Takes in one domain, whose documents come from ``sources``."""
        self.bpb[domain] = found.value
        nats: defaultdict[str, float] = defaultdict(float)
        sizes: Counter = Counter()
        rows = zip(sources, found.document_nats, found.document_bytes, strict=True)
        for source, value, num_bytes in rows:
            nats[source] += value
            sizes[source] += num_bytes
        for source in sorted(nats):
            bits = nats[source] / sizes[source] / math.log(2)
            self.by_source[f"{domain}/{source}"] = bits


def compare(found: Mapping[str, Sequence[Scores]]) -> dict[str, float]:
    """Mean and deviation of every arm, and its paired differences with intervals.

    Args: found has for each arm, in step order, a model's scores a seed.
    Returns: ``<arm>.<domain>.bpb_mean`` and ``_std``; for every arm but the first
    ``vs_raw`` (to the first arm) and ``vs_previous`` with ``_low`` and ``_high``;
    below zero is better.
    """
    figures: dict[str, float] = {}
    arms = list(found)
    for i, arm in enumerate(arms):
        for domain in found[arm][0].bpb:
            key = f"{arm}.{domain}"
            values = [scores.bpb[domain] for scores in found[arm]]
            figures[f"{key}.bpb_mean"] = statistics.mean(values)
            figures[f"{key}.bpb_std"] = statistics.stdev(values)
            others = {"vs_raw": arms[0], "vs_previous": arms[i - 1]} if i else {}
            for name, other in others.items():
                before = [scores.bpb[domain] for scores in found[other]]
                pairs = zip(values, before, strict=True)
                middle, low, high = t_interval([a - b for a, b in pairs])
                figures[f"{key}.{name}"] = middle
                figures[f"{key}.{name}_low"] = low
                figures[f"{key}.{name}_high"] = high
    return figures


def t_interval(
    values: Sequence[float], level: float = LEVEL
) -> tuple[float, float, float]:
    """Mean of ``values`` and Student's interval of it: (mean, low, high)."""
    middle = statistics.mean(values)
    spread = statistics.stdev(values) / math.sqrt(len(values))
    half = float(student.ppf(0.5 + level / 2, len(values) - 1)) * spread
    return middle, middle - half, middle + half


def tokens_to_reach(
    curve: Sequence[tuple[int, float]], wanted: float
) -> tuple[float, int]:
    """Tokens at which a curve first falls to ``wanted`` bits per byte.

    Args: curve has (tokens, bits per byte) of whole runs, shortest first; straight over
    the logarithm of the tokens between two of them.
    Returns: tokens, and 0; 1 when the curve never gets there, so it takes more than the
    longest run; -1 when the shortest run is better already, so it takes less.
    """
    if wanted > curve[0][1]:
        return curve[0][0], -1
    for (start, high), (end, low) in zip(curve, curve[1:], strict=False):
        if low <= wanted <= high:
            part = (high - wanted) / (high - low) if high > low else 0.0
            return start * (end / start) ** part, 0
    if wanted == curve[0][1]:
        return curve[0][0], 0
    return curve[-1][0], 1


def verdicts(figures: Mapping[str, float]) -> dict[str, str]:
    """For each step what its interval against the step before says, by domain."""
    words = {}
    for key in figures:
        if key.endswith(".vs_previous"):
            low, high = figures[f"{key}_low"], figures[f"{key}_high"]
            word = "no difference shown"
            if low == high == 0:
                word = "nothing to do: the same text"
            elif high < 0:
                word = "helps"
            elif low > 0:
                word = "hurts"
            words[key.removesuffix(".vs_previous")] = word
    return words


def char_tokenizer(texts: Sequence[str], min_count: int) -> PreTrainedTokenizerBase:
    """The course's base tokenizer cut down to bytes, plus the characters of ``texts``.

    A character that occurs less than ``min_count`` times is spelt in bytes.
    """
    counts: Counter = Counter()
    for text in texts:
        counts.update(text)
    value = model_json(load_base_tokenizer(MISTRAL_V1))
    old = sorted(value["model"]["vocab"].items(), key=lambda pair: pair[1])
    pieces = [piece for piece, _ in old[:_SPECIAL]]
    pieces += [p for p, _ in old if p.startswith("<0x") and p.endswith(">")]
    pieces.append("▁")
    value["model"]["vocab"] = {piece: i for i, piece in enumerate(pieces)}
    value["model"]["merges"] = []
    common = [c for c, n in counts.items() if n >= min_count and not c.isspace()]
    trimmed = Tokenizer.from_str(json.dumps(value, ensure_ascii=False))
    grown = add_pieces(trimmed, sorted(set(common) - set(pieces)))
    return as_pretrained(grown, chat=False)
