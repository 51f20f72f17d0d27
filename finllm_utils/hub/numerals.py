"""Written numbers, Arabic, Chinese or mixed, as exact decimals.

12,000 · 1.2亿 · 三十五万 · 三点五万 · 两千五 · 3万5 · 二〇二四 · 壹佰万
"""

import re
from decimal import Decimal

_WIDTH = {
    ord("　"): " ",
    ord("％"): "%",
    ord("．"): ".",
    ord("－"): "-",
    ord("＋"): "+",
}
_WIDTH |= {
    ord("（"): "(",
    ord("）"): ")",
    ord("＊"): "*",
    ord("／"): "/",
    ord("＄"): "$",
}
_WIDTH |= {code: chr(code - 0xFEE0) for code in range(0xFF10, 0xFF1A)}
_WIDTH |= {code: chr(code - 0xFEE0) for code in range(0xFF21, 0xFF3B)}
_WIDTH |= {code: chr(code - 0xFEE0) for code in range(0xFF41, 0xFF5B)}
_FORMAL = str.maketrans(
    "〇壹贰叁肆伍陆柒捌玖拾佰仟萬億", "零一二三四五六七八九十百千万亿"
)

DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {
    "两": 2
}
SMALL = {"十": 10, "百": 100, "千": 1000}
BIG = {"万": 10**4, "亿": 10**8}
ARABIC = r"\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?"
_CHINESE_DECIMAL = "[零一二两三四五六七八九十百千]+点[零一二三四五六七八九]+"
NUMBER = rf"(?:(?:{_CHINESE_DECIMAL}|{ARABIC}|[零一二两三四五六七八九十百千万亿])+)"
_TOKEN = re.compile(rf"{_CHINESE_DECIMAL}|{ARABIC}|.")

_NUMERALS = r"\d零一二两三四五六七八九十百千万"
_GLUED = re.compile(  # 40万10年 is an amount and a term, not one number
    r"[万亿](?=年|\d+(?:\.\d+)?(?:年|个月|期|天|%|‰)|"
    r"[一二两三四五六七八九]?十?[一二两三四五六七八九]?"
    r"(?:年|个月|期|天))"
)


def normalise(text: str) -> str:
    """``text`` with half-width digits and signs and plain Chinese numerals."""
    text = text.translate(_WIDTH).translate(_FORMAL)
    text = re.sub(r"(?<=\d)\s?[wW](?![A-Za-z])", "万", text)
    text = re.sub(rf"(?<=[{_NUMERALS}])个(?=亿|百万|千万)", "", text)  # 两个亿
    text = _GLUED.sub("\\g<0>\u200b", text)
    return re.sub(r"(?<=\d)，(?=\d{3}(?!\d)(?:[万亿元块]|\.\d))", ",", text)


def parse_number(text: str) -> Decimal:
    """The value of a number matched by ``NUMBER``.

    Raises: ValueError when the signs do not make a number.
    Example: parse_number("三万五") == 35000; parse_number("1.2亿") == 120000000.
    """
    total, section = Decimal(0), Decimal(0)
    current: Decimal | None = None
    last_unit, short = 0, False
    for token in _TOKEN.findall(text.strip()):
        if token in SMALL:
            section += (1 if current is None else current) * SMALL[token]
            current, last_unit, short = None, SMALL[token], False
        elif token in BIG:
            section += current or 0
            unit = BIG[token]
            if total and total < unit:
                total = (total + section) * unit  # 3万亿
            elif section:
                total += section * unit
            else:
                raise ValueError(f"{text!r}: {token} without a number before it")
            section, current, last_unit, short = Decimal(0), None, unit, False
        elif token in DIGITS:
            digit = DIGITS[token]
            short = bool(last_unit) and current is None and digit > 0
            current = Decimal(digit) if current is None else current * 10 + digit
            if digit == 0:
                last_unit = 0  # 一百零五 is 105, never short for 150
        else:
            if current:
                raise ValueError(f"{text!r}: two numbers side by side")
            current = _plain(token)
            short = bool(last_unit) and len(token) == 1
    if current is not None and short:
        current = current * last_unit / 10  # 三万五 is short for 35,000
    return total + section + (current or 0)


def _plain(token: str) -> Decimal:
    if "点" in token:
        whole, decimals = token.split("点")
        digits = "".join(str(DIGITS[d]) for d in decimals)
        return parse_number(whole) + Decimal(f"0.{digits}")
    try:
        return Decimal(token.replace(",", ""))
    except ArithmeticError as error:
        raise ValueError(f"{token!r} is not a number") from error


def digits_value(text: str) -> int:
    """A year or number written digit by digit or as a number: 二零二四, 2024, 十二."""
    if all(c in DIGITS for c in text):
        return int("".join(str(DIGITS[c]) for c in text))
    return int(parse_number(text))
