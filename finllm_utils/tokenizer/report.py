"""What a vocabulary costs: tokens a character, byte share, equality of ids."""

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Compression:
    """Counts over a set of texts; BOS is not counted."""

    num_chars: int
    num_tokens: int
    num_byte_tokens: int
    num_used_ids: int

    @property
    def tokens_per_char(self) -> float:
        """Tokens for one character; lower is better."""
        return self.num_tokens / self.num_chars

    @property
    def chars_per_token(self) -> float:
        """Characters in one token."""
        return self.num_chars / self.num_tokens

    @property
    def byte_share(self) -> float:
        """Share of tokens that are single bytes, the fall-back for the unknown."""
        return self.num_byte_tokens / self.num_tokens


def measure(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Compression:
    """Compression of ``texts``.

    Raises: ValueError when there is no text.
    """
    texts = list(texts)
    chars = sum(map(len, texts))
    if not chars:
        raise ValueError("no text to measure: the list of texts is empty")
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    is_byte = [len(n) == 6 and n.startswith("<0x") for n in names]
    tokens = byte_tokens = 0
    used: set[int] = set()
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        tokens += len(ids)
        byte_tokens += sum(is_byte[i] for i in ids)
        used.update(ids)
    return Compression(chars, tokens, byte_tokens, len(used))


def ids_equal(
    before: PreTrainedTokenizerBase,
    after: PreTrainedTokenizerBase,
    texts: Iterable[str],
) -> bool:
    """Whether both tokenizers give every text the same ids."""
    texts = list(texts)
    return before(texts)["input_ids"] == after(texts)["input_ids"]


def round_trip_failures(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> list[str]:
    """Texts that ``decode(encode(text))`` does not give back exactly."""
    texts = list(texts)
    encoded = tokenizer(texts)["input_ids"]
    decoded = tokenizer.batch_decode(encoded, skip_special_tokens=True)
    return [text for text, back in zip(texts, decoded, strict=True) if text != back]
