"""How many characters of each kind a text has: one table look-up for all filters."""

import functools
import unicodedata
from dataclasses import dataclass

import numpy as np

from finllm_utils.data.encoding import common_characters

_FUNCTION = (
    "的一是了在和有不人这中为上个国以要他时来用们生到作于出就分对成会可主年动同也能下过说"
    "种面而方后多定行所民得经之进着等部与或及应当由其他者按本该被将并从自但因"
)
_KINDS = (
    "symbol", "space", "function", "common_han", "rare_han", "latin", "latin_1",
    "digit", "other_letter", "broken",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CharStats:
    """Counts of one text's characters by kind; 的 and 了 are ``function``."""

    symbol: int
    space: int
    function: int
    common_han: int
    rare_han: int
    latin: int
    latin_1: int
    digit: int
    other_letter: int
    broken: int

    @property
    def han(self) -> int:
        """All Han characters."""
        return self.function + self.common_han + self.rare_han

    @property
    def letters(self) -> int:
        """Letters, digits and Han characters: what can be read."""
        return self.han + self.latin + self.latin_1 + self.digit + self.other_letter


def _kind(char: str) -> str:
    category = unicodedata.category(char)
    if char == "\ufffd" or category in ("Co", "Cn", "Cs"):
        return "broken"
    if char.isspace():
        return "space"
    if "\u3400" <= char <= "\u9fff":
        if char in _FUNCTION:
            return "function"
        return "common_han" if char in common_characters() else "rare_han"
    if char.isascii() and char.isalpha():
        return "latin"
    if "\u00a1" <= char <= "\u00ff":
        return "latin_1"
    if category[0] == "N":
        return "digit"
    return "other_letter" if category[0] == "L" else "symbol"


@functools.cache
def _table() -> np.ndarray:
    numbers = {kind: i for i, kind in enumerate(_KINDS)}
    kinds = (numbers[_kind(chr(code))] for code in range(0x10000))
    return np.fromiter(kinds, dtype=np.uint8, count=0x10000)


def char_stats(text: str) -> CharStats:
    """Counts by kind; characters beyond the basic plane count as symbols (emoji)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _table()[np.minimum(codes, 0xFFFD)]
    if len(codes) and codes.max() > 0xFFFF:
        kinds[codes > 0xFFFF] = 0
    return CharStats(*np.bincount(kinds, minlength=len(_KINDS)).tolist())
