"""One spelling for one text: widths, traditional forms, invisible characters, spaces.

Compatibility forms are folded only where nothing is lost: full-width letters and digits
become half width, while Chinese punctuation, ① and m² keep their meaning.
"""

import functools
import re
import unicodedata

from finllm_utils.data.encoding import repair_mojibake

_KEPT_WIDE = "！（），：；？～"  # Chinese punctuation that NFKC would turn into ASCII
_WIDTHS = {c: c - 0xFEE0 for c in range(0xFF01, 0xFF5F) if chr(c) not in _KEPT_WIDE}
_WIDTHS |= {
    0x3000: " ",
    0xFFE5: "¥",
    0xFFE0: "¢",
    0xFFE1: "£",
    0xFF61: "。",
    0xFF64: "、",
}
_FOLDED = [*range(0xF900, 0xFB00), *range(0x2F00, 0x2FE0), *range(0x2E80, 0x2F00)]
_FOLDED += list(range(0xFB00, 0xFB07))  # Han twins, radicals, ligatures such as ﬁ
_NARROW = {chr(c): chr(n) if isinstance(n, int) else n for c, n in _WIDTHS.items()}
_NARROW |= {chr(c): unicodedata.normalize("NFKC", chr(c)) for c in _FOLDED}
_WIDE = re.compile(f"[{''.join(_NARROW)}]")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_ZERO_WIDTH = re.compile("[\u200b-\u200d\u2060\ufeff]")
_ENTITY = re.compile("&#(?:x([0-9a-fA-F]{4,5})|([0-9]{5,6}));")
_OLD_BLANK = "\ue5e5"  # the full-width space of old GB tables, bytes A3 A0
_LINE_BREAK = re.compile("\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_BLANKS = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u205f]+")
_EDGES = re.compile(r" *\n *")
_MANY_BREAKS = re.compile(r"\n{3,}")
_MIN_TRADITIONAL = 0.05  # share of Han; single old forms in names and quotes stay


def fold_width(text: str) -> str:
    """Full-width letters, digits and signs in half width; ，。！？：； stay."""
    return _WIDE.sub(_narrow, text)


def _narrow(match: re.Match) -> str:
    return _NARROW[match.group()]


def decode_han(text: str) -> str:
    """Han characters for their HTML references: ``&#38388;`` is 间.

    Others stay: ``&lt;`` in a text about HTML means what it says.
    """
    return _ENTITY.sub(_decoded, text) if "&#" in text else text


def _decoded(match: re.Match) -> str:
    code = int(match[1], 16) if match[1] else int(match[2])
    return chr(code) if 0x3400 <= code <= 0x9FFF else match.group()


def remove_invisible(text: str) -> str:
    """Text without control, zero-width, direction and terminal colour codes."""
    text = _ANSI.sub("", text) if "\x1b" in text else text
    text = _LINE_BREAK.sub("\n", text)
    return _INVISIBLE.sub("", text)


def tidy_spaces(text: str) -> str:
    """Single blanks, no blanks at line ends, at most one empty line in a row."""
    text = _EDGES.sub("\n", _BLANKS.sub(" ", text))
    return _MANY_BREAKS.sub("\n\n", text).strip()


@functools.cache
def _converter() -> tuple:
    from opencc import OpenCC

    simplify = OpenCC("t2s")
    every = [chr(c) for c in range(0x4E00, 0x9FA6)]
    simple = simplify.convert("\n".join(every)).split("\n")
    changed = "".join(a for a, b in zip(every, simple, strict=True) if a != b)
    return simplify, re.compile(f"[{changed}]")


def to_simplified(text: str) -> tuple[str, bool]:
    """Traditional text in simplified characters, and whether it was converted."""
    if text.isascii():
        return text, False
    simplify, traditional = _converter()
    num_han = sum(map(len, _HAN_RUN.findall(text)))
    if len(traditional.findall(text)) <= _MIN_TRADITIONAL * num_han:
        return text, False
    return simplify.convert(text), True


_HAN_RUN = re.compile("[\u4e00-\u9fff]+")


def normalize(text: str, meta: dict) -> tuple[str, dict]:
    """Clean spelling of ``text``, and ``meta`` with what was done to it.

    Keys added: ``repaired`` (which wrong decoding was undone), ``traditional`` (True).
    Applying it twice changes nothing.
    """
    text = text.replace(_OLD_BLANK, " ")
    # Zero-width marks hide a wrong decoding; control codes are part of one.
    text, repaired = repair_mojibake(decode_han(_ZERO_WIDTH.sub("", text)))
    text = unicodedata.normalize("NFC", fold_width(remove_invisible(text)))
    text, converted = to_simplified(tidy_spaces(text))
    done = {"repaired": repaired} if repaired else {}
    done |= {"traditional": True} if converted else {}
    return text, {**meta, **done}
