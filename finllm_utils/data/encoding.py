"""Bytes to text: UTF-8, UTF-16, GB18030 or BIG5, whichever reads as Chinese.

GB18030 decodes nearly any bytes to some Han characters, so a decoding counts only when
its characters are common ones. Text decoded wrongly before it reached us is mended when
the damage can be undone without loss.
"""

import codecs
import functools
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MIN_COMMON = 0.7


@functools.cache
def common_characters() -> frozenset[str]:
    """The 3,755 Han characters of GB 2312 level 1 and their traditional forms."""
    from opencc import OpenCC

    rows = (bytes((0xB0 + r, 0xA1 + c)) for r in range(40) for c in range(94))
    level1 = b"".join(rows).decode("gb2312", "ignore")
    return frozenset(level1) | frozenset(OpenCC("s2t").convert(level1))


@functools.cache
def _uncommon() -> re.Pattern:
    plain = r"\s\x20-\x7e，。！？；：、“”‘’（）《》〈〉【】「」『』…—·％￥"
    return re.compile(f"[^{plain}{''.join(sorted(common_characters()))}]+")


def common_share(text: str) -> float:
    """Share of ``text`` that is common Han, ASCII or usual Chinese punctuation."""
    uncommon = sum(map(len, _uncommon().findall(text)))
    return 1 - uncommon / len(text) if text else 0.0


def decode(data: bytes, name: str, declared: str | None = None) -> tuple[str, str]:
    """The text of ``data`` and the encoding that it was in.

    Args: name is the file's, for the error; declared is an encoding that the file
    itself states, such as an HTML charset: a hint, not trusted.
    Raises: ValueError naming the file and the remedy when no encoding reads well.
    """
    if not data.strip():
        raise ValueError(
            f"{name}: empty file (0 bytes of text); export it again or remove it"
        )
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, "replace"), encoding
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        position = error.start
    text = data.decode("utf-8", "replace")
    if text.count("\ufffd") <= 0.005 * len(text) and common_share(text[:20_000]) > 0.9:
        return text, "utf-8"  # a few broken bytes; filters see the replacement marks
    scores = {}
    for encoding in dict.fromkeys((declared or "gb18030", "gb18030", "big5")):
        try:
            scores[encoding] = common_share(data.decode(encoding)[:20_000])
        except (UnicodeDecodeError, LookupError):
            continue
    best = max(scores, key=scores.get, default=None)
    if best is None or scores[best] < _MIN_COMMON:
        raise ValueError(
            f"{name}: not readable as UTF-8 (byte {position}), GB18030 or BIG5; "
            "convert it, for example with iconv -f SHIFT_JIS -t UTF-8, or remove it"
        )
    return data.decode(best), best


_DAMAGES = (
    ("gbk", "utf-8"),
    ("cp1252", "utf-8"),
    ("latin-1", "utf-8"),
    ("latin-1", "gbk"),
)


def repair_mojibake(text: str) -> tuple[str, str]:
    """Text with a wrong decoding undone, and which one ("" when nothing was done).

    ``repair_mojibake("é“¶è¡Œ")`` returns ``("银行", "utf-8 read as cp1252")``. Only an
    exact way back counts: every character must encode, and the bytes must decode.
    """
    sample = text[:2_000]
    if sample.isascii() or common_share(sample) >= 0.8:
        return text, ""
    for read_as, written_in in _DAMAGES:
        try:
            mended = text.encode(read_as).decode(written_in)
        except (UnicodeEncodeError, UnicodeDecodeError):
            continue
        if common_share(mended) > max(0.9, common_share(text)):
            return mended, f"{written_in} read as {read_as}"
    return text, ""
