"""Chinese characters for a byte-level BPE, by merges alone.

Such a model (GPT-2, SmolLM2, Qwen) sees a text as UTF-8 bytes, written as 256 printable
symbols; a Chinese character is three of them, a rare one four. A character becomes one
token when merges join its bytes, and those of three bytes need a piece in between.
``plan_merges`` chooses them; nothing here learns or measures anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from tokenizers.models import BPE

Merge = tuple[str, str]


@cache
def byte_alphabet() -> dict[int, str]:
    """The symbol of each byte: itself where printable, else the next from U+0100 on.

    Source: GPT-2's ``bytes_to_unicode`` (openai/gpt-2, encoder.py).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable}
    return symbols | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


@cache
def _byte_of() -> dict[str, int]:
    return {symbol: byte for byte, symbol in byte_alphabet().items()}


def to_symbols(text: str) -> str:
    """``text`` as a byte-level vocabulary writes it: "税" is "ç¨İ"."""
    return "".join(byte_alphabet()[byte] for byte in text.encode("utf-8"))


def to_bytes(piece: str) -> bytes | None:
    """The bytes of a piece, or None for one outside the alphabet (special tokens)."""
    try:
        return bytes(_byte_of()[symbol] for symbol in piece)
    except KeyError:
        return None


def to_text(piece: str) -> str | None:
    """The text of a piece, or None when it cuts a character or is no byte piece."""
    raw = to_bytes(piece)
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class MergePlan:
    """Merges to append, and the pieces besides the characters that they make."""

    merges: tuple[Merge, ...] = ()
    intermediates: tuple[str, ...] = ()
    """New pieces on the way to them: each costs a row and is hardly ever used."""


def plan_merges(
    model: BPE, vocab: dict[str, int], characters: Iterable[str]
) -> MergePlan:
    """Merges that make one token of each character.

    The old merges run first, whatever is appended, so a character starts as the pieces
    that they leave of it. Two pieces need one merge. Of more, the first two are joined
    again and again: characters of one block share their first bytes, so they share
    these pieces too; sharing last bytes would take up to twelve times as many.

    Args: model and vocab are the old ones; a character in vocab is skipped.
    """
    known = set(vocab)
    paths: list[list[str]] = []
    for character in dict.fromkeys(characters):
        piece = to_symbols(character)
        if piece not in known:
            paths.append([token.value for token in model.tokenize(piece)])
    merges: dict[Merge, None] = {}
    between: list[str] = []
    for depth in range(2, max(map(len, paths), default=0)):
        for path in paths:
            if len(path) <= depth:
                continue
            merges["".join(path[: depth - 1]), path[depth - 1]] = None
            joined = "".join(path[:depth])
            if joined not in known:
                known.add(joined)
                between.append(joined)
    merges |= {("".join(path[:-1]), path[-1]): None for path in paths}
    return MergePlan(tuple(merges), tuple(between))


def gluing_merges(merges: Iterable[Merge]) -> list[Merge]:
    """Old merges that glue a part of a Chinese character to its neighbour.

    SmolLM2 joins a space to the first byte of a character, for example: after that the
    character cannot become one token. Taken out, only texts with Chinese characters
    change; the piece keeps its id and is no longer reached.
    """
    return [merge for merge in merges if _glues("".join(merge))]


def _glues(piece: str) -> bool:
    """Whether a first byte stands after something else and a character is cut."""
    raw = to_bytes(piece)
    if raw is None or not any(_leads_han(raw, i) for i in range(1, len(raw))):
        return False
    return to_text(piece) is None


def _leads_han(raw: bytes, index: int) -> bool:
    """Whether a Chinese character may start here: U+3400-9FFF or U+20000-3FFFF."""
    byte, following = raw[index], raw[index + 1 : index + 2]
    if byte == 0xE3:
        return not following or following[0] >= 0x90
    if byte == 0xF0:
        return not following or following[0] >= 0xA0
    return 0xE4 <= byte <= 0xE9
