"""Should you expand? A recommendation from two measured numbers, with its reasons."""

from collections.abc import Mapping
from dataclasses import dataclass

from finllm_utils.tokenizer.report import Compression

MAX_TOKENS_PER_CHAR = 0.9
"""A vocabulary with a piece for every character, but no words, costs a little under one
(digits and Latin words in the text are shorter); one made for Chinese costs 0.6 to 0.8,
since it has words too. The line lies between the two."""
MAX_BYTE_SHARE = 0.02
"""At three bytes a character, one token in fifty is one character in 150: rare ones
only. Vocabularies without Chinese show one token in seven and more."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Whether to expand, and why, a sentence for each language."""

    expand: bool
    reasons: tuple[str, ...]

    @property
    def strategy(self) -> str:
        """The value of tokenizer.strategy that follows."""
        return "characters" if self.expand else "none"


def should_expand(
    measured: Mapping[str, Compression],
    *,
    max_tokens_per_char: float = MAX_TOKENS_PER_CHAR,
    max_byte_share: float = MAX_BYTE_SHARE,
) -> Advice:
    """Recommends expansion when a language is spelt and that makes it long.

    Both must be so. Without byte pieces there is no character left to add; far below
    one token a character the base has the language's words, and new rows would gain
    less than they disturb.

    Args:
        measured: by language or domain, from ``report.measure`` of the base tokenizer
            on text that the model should be able to write.
        max_tokens_per_char: above it the language is long.
        max_byte_share: above it the language is spelt.

    Raises: ValueError when nothing was measured.
    """
    if not measured:
        raise ValueError("should_expand needs a measured language, got none")
    reasons, expand = [], False
    for language, found in measured.items():
        long = found.tokens_per_char > max_tokens_per_char
        spelt = found.byte_share > max_byte_share
        expand |= long and spelt
        reasons.append(
            f"{language}: {'expand' if long and spelt else 'leave it'}; "
            f"{found.tokens_per_char:.2f} tokens a character "
            f"({'above' if long else 'at most'} {max_tokens_per_char:g}), "
            f"{found.byte_share:.1%} of tokens are bytes "
            f"({'above' if spelt else 'at most'} {max_byte_share:.0%}); a piece for "
            f"every character would save {found.possible_saving:.1%} of the tokens"
        )
    return Advice(expand, tuple(reasons))
