"""What a vocabulary costs: tokens a character, byte share, rows, equality of ids."""

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from finllm_utils.tokenizer.base import is_byte_level
from finllm_utils.tokenizer.byte_level import to_bytes, to_text

CLAIM = 0.48
"""The talk's "compression 48%" (its definition is not given)."""


@dataclass(frozen=True, slots=True)
class Compression:
    """Counts over a set of texts; BOS is not counted."""

    num_chars: int
    num_tokens: int
    num_byte_tokens: int
    num_used_ids: int
    num_ids: int
    num_spelt_chars: int = 0
    """Characters written with those byte tokens."""

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
        """Share of tokens that are bytes or cut a character: the price of the unknown.

        With byte fallback these are the pieces <0x80> to <0xFF>; in a byte-level
        vocabulary the pieces that are not whole characters.
        """
        return self.num_byte_tokens / self.num_tokens

    @property
    def possible_saving(self) -> float:
        """Share of tokens that would go if every spelt character were one token."""
        return (self.num_byte_tokens - self.num_spelt_chars) / self.num_tokens

    @property
    def utilisation(self) -> float:
        """Share of the vocabulary that these texts use at all."""
        return self.num_used_ids / self.num_ids

    def as_dict(self) -> dict[str, float]:
        """The ratios by name, for a table."""
        return {
            "tokens a character": self.tokens_per_char,
            "characters a token": self.chars_per_token,
            "share of byte pieces": self.byte_share,
            "share of vocabulary used": self.utilisation,
        }


def measure(
    tokenizer: PreTrainedTokenizerBase | Tokenizer, texts: Iterable[str]
) -> Compression:
    """Compression of ``texts``.

    Raises: ValueError when there is no text.
    """
    texts = list(texts)
    chars = sum(map(len, texts))
    if not chars:
        raise ValueError("no text to measure: the list of texts is empty")
    raw = getattr(tokenizer, "backend_tokenizer", tokenizer)
    cut = cut_pieces(raw)
    tokens = byte_tokens = spelt = 0
    used: set[int] = set()
    for encoding in raw.encode_batch_fast(texts, add_special_tokens=False):
        ids = encoding.ids
        tokens += len(ids)
        starts = [cut[i] for i in ids if i in cut]
        byte_tokens += len(starts)
        spelt += sum(starts)
        used.update(ids)
    return Compression(
        chars, tokens, byte_tokens, len(used), raw.get_vocab_size(), spelt
    )


def cut_pieces(tokenizer: Tokenizer) -> dict[int, int]:
    """Ids of pieces that are not whole characters, and how many each one begins."""
    vocab = tokenizer.get_vocab()
    if is_byte_level(tokenizer):
        raw = {
            index: to_bytes(piece)
            for piece, index in vocab.items()
            if to_bytes(piece) is not None and to_text(piece) is None
        }
    else:
        names = (f"<0x{byte:02X}>" for byte in range(0x80, 0x100))
        raw = {vocab[name]: bytes.fromhex(name[3:5]) for name in names if name in vocab}
    return {i: sum(byte >= 0xC0 for byte in piece) for i, piece in raw.items()}


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


def parameter_cost(num_rows: int, hidden_size: int, *, tied: bool) -> int:
    """Parameters of ``num_rows`` embedding rows, twice when the output layer is apart.

    Example: 7,000 rows of 8,192 in an untied 70B model are 114,688,000 parameters.
    """
    return num_rows * hidden_size * (1 if tied else 2)


def against_claim(ratio: float) -> dict[str, float | bool]:
    """Both readings of "compression 48%" beside a measured ratio of tokens.

    Args: ratio is tokens after / tokens before, on the same text.
    """
    return {
        "tokens after / before": ratio,
        "tokens saved": 1 - ratio,
        "falls to 48%": ratio <= CLAIM,
        "falls by 48%": 1 - ratio >= CLAIM,
    }
