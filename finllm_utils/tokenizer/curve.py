"""Vocabulary size against compression: characters by frequency, then learnt words."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from finllm_utils.tokenizer.expand import add_characters, add_words
from finllm_utils.tokenizer.report import measure
from finllm_utils.tokenizer.words import Merge


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One size of the vocabulary and what a character costs with it."""

    num_characters: int
    num_words: int
    vocab_size: int
    tokens_per_char: float


def by_frequency(characters: Iterable[str], texts: Iterable[str]) -> list[str]:
    """The characters, most frequent in ``texts`` first; equal counts keep their order.

    Args: texts is training text: a choice by held-out text would flatter the curve.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return sorted(characters, key=lambda c: -counts[c])


def compression_curve(
    base: Tokenizer,
    characters: Sequence[str],
    merges: Sequence[Merge],
    texts: Iterable[str],
    *,
    character_steps: Sequence[int],
    word_steps: Sequence[int] = (),
) -> list[CurvePoint]:
    """Tokens a character on ``texts`` for growing vocabularies, each really built.

    Args:
        characters: in the order in which they are added, see ``by_frequency``.
        merges: of ``learn_words``, added after all characters.
        texts: held-out text.
        character_steps: numbers of characters; those above their number are left out.
        word_steps: numbers of merges to add after all characters.
    """
    texts = list(texts)
    points = []
    sizes = sorted({*(n for n in character_steps if n < len(characters))})
    for size in [*sizes, len(characters)]:
        grown = add_characters(base, characters[:size])
        points.append(_point(grown.tokenizer, size, 0, texts))
    for size in word_steps:
        with_words = add_words(grown, merges[:size])
        tokenizer, words = with_words.tokenizer, len(with_words.words)
        points.append(_point(tokenizer, len(characters), words, texts))
    return points


def as_line(points: Sequence[CurvePoint]) -> tuple[list[int], list[float]]:
    """Sizes of the vocabulary and tokens a character, for a plot."""
    return [p.vocab_size for p in points], [p.tokens_per_char for p in points]


def _point(
    tokenizer: Tokenizer, num_characters: int, num_words: int, texts: list[str]
) -> CurvePoint:
    found = measure(tokenizer, texts)
    return CurvePoint(num_characters, num_words, found.num_ids, found.tokens_per_char)
