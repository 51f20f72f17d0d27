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
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: it starts with the same bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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


_BOXES = "\u2500-\u25ff"  # frames of text tables say nothing about the encoding
_ENOUGH = 3  # usual characters without which a line proves nothing
_MAX_STRANGE = 0.2  # share of non-ASCII characters; a wrong reading has 0.6 and more
_MARGIN = 4  # strange characters that the wrong reading must have more
_MAX_BROKEN = 0.005  # share of characters that may be broken
_BIG5 = ("big5", "cp950", "big5hkscs")  # from the strictest to the one with most
_FAMILY = {
    "gb2312": "gb18030", "gbk": "gb18030", "gb18030": "gb18030", "x-gbk": "gb18030",
    "cp936": "gb18030", "big5": "big5", "big5-hkscs": "big5", "cp950": "big5",
    "big5hkscs": "big5",
}  # fmt: skip
_FORMATS = {
    b"%PDF": "a PDF", b"PK\x03\x04": "a ZIP or Office file", b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image", b"\x1f\x8b": "gzip data",
    b"\xd0\xcf\x11\xe0": "an old Office file", b"\x7fELF": "a program",
}  # fmt: skip
_CONTROLS = bytes(c for c in range(32) if c not in b"\t\n\x0b\x0c\r\x1b")
_MAX_CONTROLS = 0.1  # share of bytes


@functools.cache
def _strange() -> re.Pattern:
    signs = b"".join(bytes((0xA1 + r, 0xA1 + c)) for r in range(3) for c in range(94))
    usual = common_characters() | set(signs.decode("gb2312", "ignore"))
    letters = re.escape("".join(sorted(usual)))
    return re.compile(f"[^\\x00-\\x7f\u20ac{_BOXES}{letters}]")


def _evidence(text: str) -> tuple[int, int]:
    """How many of the non-ASCII characters are usual Chinese, how many are strange."""
    strange = len(_strange().findall(text))
    boxes = len(_BOX.findall(text))
    num_ascii = len(text.encode("ascii", "ignore"))
    return len(text) - num_ascii - boxes - strange, strange


_BOX = re.compile(f"[{_BOXES}]")


def decode(data: bytes, name: str, declared: str | None = None) -> tuple[str, str]:
    """The text of ``data`` and the encoding that it was in.

    A reading counts only on evidence: valid UTF-8, a byte-order mark, or characters
    that are common in Chinese under one encoding and not under the other.

    Args: name is the file's, for the error; declared is an encoding that the file
    itself states, such as an HTML charset: it settles a tie, it is not trusted.
    Raises: ValueError naming the file and the remedy: binary, too short to tell, no
    encoding reads well, or more than one encoding in the file (with the line).
    """
    if not data.strip():
        raise ValueError(
            f"{name}: empty file (0 bytes of text); export it again or remove it"
        )
    for mark, encoding in _MARKS:
        if data.startswith(mark) and encoding != "utf-8-sig":
            return _decode_marked(data, name, encoding), encoding
    label = "utf-8-sig" if data.startswith(codecs.BOM_UTF8) else "utf-8"
    if label == "utf-8-sig":
        data = data[len(codecs.BOM_UTF8) :]
    _refuse_binary(data, name)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start
    else:
        _refuse_tie(text, data, name)
        return text, label
    text = data.decode("utf-8", "replace")
    if text.count("\ufffd") <= _MAX_BROKEN * len(text) and (
        label == "utf-8-sig" or common_share(text[:20_000]) > 0.9
    ):
        _refuse_mixed(data, "utf-8", name)
        return text, label  # a few broken bytes; filters see the replacement marks
    return _decode_legacy(data, name, position, _FAMILY.get((declared or "").lower()))


def _decode_marked(data: bytes, name: str, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise ValueError(
            f"{name}: marked as {encoding.upper()} but broken at line {line} "
            f"({error.reason}); save it again as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError(f"{name}: binary data, not text (NUL characters); remove it")
    return text


def _refuse_binary(data: bytes, name: str) -> None:
    """Raises ValueError for bytes that are no text in any encoding."""
    for start, what in _FORMATS.items():
        if data.startswith(start):
            raise ValueError(f"{name}: {what}, not text; give it its proper suffix")
    if (place := data.find(b"\0")) >= 0:
        raise ValueError(
            f"{name}: binary data, or UTF-16 without its byte-order mark (NUL byte at "
            f"{place:,}); save it as UTF-8, or remove it"
        )
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if controls > _MAX_CONTROLS * len(data):
        raise ValueError(
            f"{name}: binary data, not text ({controls:,} control codes in "
            f"{len(data):,} bytes); remove it"
        )


def _refuse_tie(text: str, data: bytes, name: str) -> None:
    """Raises ValueError where valid UTF-8 is just as well Chinese in GB18030.

    Only two-byte characters can be read both ways, so one Han character settles it.
    """
    if text.isascii() or max(text) > "\u07ff" or not _NEIGHBOURS.search(text):
        return
    usual, strange = _read_as(data, "gb18030")[1:]
    if usual and not strange:
        raise _doubtful(name, "UTF-8 or GB18030")


def _doubtful(name: str, encodings: str) -> ValueError:
    return ValueError(
        f"{name}: {encodings}, the text does not tell which; save it as UTF-8 with a "
        "byte-order mark, or remove it"
    )


_NEIGHBOURS = re.compile("[^\\x00-\\x7f]{2}")


def _read_as(data: bytes, encoding: str) -> tuple[str, int, int]:
    """Text and evidence of one strict reading; ("", 0, 0) when it fails."""
    for codec in _BIG5 if encoding == "big5" else (encoding,):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        return text, *_evidence(text)
    return "", 0, 0


def _convincing(usual: int, strange: int) -> bool:
    return usual > 0 and strange <= _MAX_STRANGE * (usual + strange)


def _decode_legacy(
    data: bytes, name: str, position: int, declared: str | None
) -> tuple[str, str]:
    readings = {e: _read_as(data, e) for e in ("gb18030", "big5")}
    fitting = {e: r for e, r in readings.items() if _convincing(*r[1:])}
    if not fitting:
        return _decode_broken(data, name, position)
    if declared not in fitting and _is_korean(data, readings["gb18030"][0]):
        raise _doubtful(name, "GB18030 or EUC-KR")
    best = min(fitting, key=lambda e: fitting[e][2])
    other = readings["big5" if best == "gb18030" else "gb18030"]
    if other[0] and other[2] - fitting[best][2] < _MARGIN:
        if declared not in fitting:
            raise _doubtful(name, "GB18030 or BIG5")
        best = declared
    _refuse_mixed(data, best, name)
    return fitting[best][0], best


def _is_korean(data: bytes, text: str) -> bool:
    """Whether ``data`` is EUC-KR, whose syllables are common Han read as GB18030.

    Every tenth character of Chinese at least is one of the most frequent ones.
    """
    try:
        korean = data.decode("euc_kr")
    except UnicodeDecodeError:
        return False
    syllables = len(_HANGUL.findall(korean))
    if syllables < 0.95 * len(re.findall(r"[^\s\x00-\x7f]", korean)):
        return False
    return sum(map(text.count, _FREQUENT)) < 0.1 * syllables


_HANGUL = re.compile("[\uac00-\ud7a3]")
_FREQUENT = "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生"
_FREQUENT += (
    "会自着去之过家学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无"
)


def _decode_broken(data: bytes, name: str, position: int) -> tuple[str, str]:
    """A file that no encoding reads to its end: a few broken bytes, or refused."""
    for line in data.split(b"\n"):
        if found := [e for e in _ENCODINGS if _proves(line, e)]:
            _refuse_mixed(data, found[0], name)
            text = data.decode(found[0], "replace")
            broken = text.count("\ufffd")
            if broken <= _MAX_BROKEN * len(text) and _convincing(*_evidence(text)):
                return text, found[0]
            break
    raise _unreadable(data, name, position)


def _unreadable(data: bytes, name: str, position: int) -> ValueError:
    line = data.count(b"\n", 0, position) + 1
    return ValueError(
        f"{name}: not readable as UTF-8 (byte {position}, line {line}), GB18030 or "
        "BIG5; convert it, for example with iconv -f SHIFT_JIS -t UTF-8, or remove it"
    )


_ENCODINGS = ("utf-8", "gb18030", "big5")


def _proves(line: bytes, encoding: str) -> bool:
    """Whether ``line`` is surely in ``encoding``: it reads well, and only so."""
    usual, strange = _read_as(line, encoding)[1:]
    if usual < _ENOUGH or strange:
        return False
    others = [_read_as(line, e) for e in _ENCODINGS if e != encoding]
    return all(not text or bad >= _ENOUGH for text, _, bad in others)


def _refuse_mixed(data: bytes, encoding: str, name: str) -> None:
    """Raises ValueError at the first line that is surely in another encoding."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.isascii() or _fits(line, encoding):
            continue
        for other in _ENCODINGS:
            if other != encoding and _proves(line, other):
                raise ValueError(
                    f"{name}: mixed encodings, {encoding} up to line {number - 1} and "
                    f"{other} from line {number}; convert the parts one by one, or "
                    "remove it"
                )


def _fits(line: bytes, encoding: str) -> bool:
    text, usual, strange = _read_as(line, encoding)
    if encoding == "utf-8":
        return bool(text)
    return bool(text) and strange < _ENOUGH and not _UTF8_HAN.search(line)


_UTF8_HAN = re.compile(rb"(?:[\xe3-\xe9][\x80-\xbf]{2}){2}")


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
