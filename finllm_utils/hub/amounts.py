"""Quantities in a Chinese question: amounts, rates, durations, dates, ordinals.

The router decides what each quantity is for; here is only what it says.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from finllm_utils.hub.currencies import CODE_OF, PATTERN
from finllm_utils.hub.numerals import NUMBER, digits_value, normalise, parse_number

_N = NUMBER
_CN_YEAR = r"[零一二三四五六七八九]{4}|\d{4}|\d{2}"
_CN_DAY = r"[一二三四五六七八九十]{1,3}|\d{1,2}"
_RULES: tuple[tuple[str, str], ...] = (
    ("date", rf"(?P<y>{_CN_YEAR})年(?P<m>{_CN_DAY})月(?:份)?(?P<d>{_CN_DAY})[日号]"),
    ("date", r"(?<![\d.])(?P<y>\d{4})([-/.])(?P<m>\d{1,2})\2(?P<d>\d{1,2})(?!\d)"),
    ("date", r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<m>[01]\d)(?P<d>[0-3]\d)(?![\d.万亿元])"),
    (
        "date",
        rf"(?P<y>{_CN_YEAR})年(?:(?P<m>{_CN_DAY})月(?:份)?)?"
        r"(?:的)?(?P<end>最后一[天日]|月?底|年?末|年底)(?!前|之前|以前)",
    ),
    ("date", rf"(?P<y>{_CN_YEAR})年元旦"),
    ("month", rf"(?P<y>{_CN_YEAR})年(?P<m>{_CN_DAY})月(?:份)?|(?P<y2>(?:19|20)\d\d)年"),
    ("month", rf"(?P<m>{_CN_DAY})月(?P<d>{_CN_DAY})[日号]|(?<!个)(?<!\d)1?\d月份?"),
    ("ordinal", rf"(?:第|倒数第)(?P<n>{_N})(?P<u>个月|个季度|期|年|月|次|条|个)?"),
    ("rate", rf"(?P<per>[百千万])分之(?P<n>{_N})"),
    ("rate", rf"(?P<n>{_N})\s*(?P<u>%|‰|‱|个百分点|个点)"),
    ("rate", rf"(?P<n>{_N})\s*(?:个)?\s*(?P<u>基点|bps|bp|BP|Bp|BPS)"),
    ("rate", rf"(?P<n>{_N})(?P<u>厘)(?P<half>半|[一二三四五六七八九])?"),
    (
        "rate",
        rf"(?<=[息率])(?:是|为|按|算)?(?P<n>{_N})(?P<u>分)(?P<half>半|"
        rf"[一二三四五六七八九])?",
    ),
    ("rate", rf"(?P<n>{_N})(?P<u>折|成)(?!立|交|功|本|员|为|绩|熟)"),
    ("amount", rf"(?P<cur>{PATTERN})\s*(?P<n>{_N})(?:元|块)?(?!\d|年|[-/]\d)"),
    ("amount", rf"(?P<n>{_N})(?:多)?\s*(?P<cur>{PATTERN})"),
    ("duration", rf"(?P<n>{_N})(?P<more>个半)(?P<u>月|季度|小时)"),
    ("duration", rf"(?P<n>{_N})\s*(?:个)?(?:周)?(?P<u>年)(?P<more>半)?"),
    (
        "duration",
        rf"(?P<n>{_N})\s*(?P<u>个月|个季度|季度|个季|周|个星期|星期|个礼拜|天|日|期)",
    ),
    ("duration", r"(?P<half>半)(?:个)?(?P<u>年|月)"),
    (
        "amount",
        rf"(?P<n>{_N})(?P<u>元|块)(?:钱)?(?:(?P<jiao>\d|"
        rf"[一二三四五六七八九])(?:角|"
        rf"毛)?(?![年月天个期万千百股份吨斤克台件张套手瓶箱平公\d]))?(?:零?(?P<fen>\d|"
        rf"[一二三四五六七八九])分)?",
    ),
    (
        "amount",
        rf"(?P<n>{_N})(?P<u>角|毛|"
        rf"分钱)(?:(?P<fen>[1-9一二三四五六七八九])(?![年月天个期万千百十\d.])分?)?",
    ),
    (
        "number",
        rf"(?P<n>{_N})\s*(?P<u>份|股|手|吨|公斤|斤|克|台|件|张|套|平方米|平米|平|"
        rf"人|户|个|倍|次方|次|笔|只|条|箱|本|瓶|辆|名|位|口)?",
    ),
)
_COMPILED = tuple((kind, re.compile(pattern)) for kind, pattern in _RULES)
_PER = {"百": 2, "千": 3, "万": 4, "%": 2, "‰": 3, "‱": 4, "个百分点": 2, "个点": 2}
_PER |= {"基点": 4, "bp": 4, "bps": 4, "BP": 4, "Bp": 4, "BPS": 4}
_UNITS = {"年": "years", "月": "months", "期": "periods", "天": "days", "日": "days"}
_WORDS = re.compile(
    "(?<=[元块角毛])(?:钱)?一(?:股|份|吨|公斤|斤|克|台|件|张|套|平米?|个|手|瓶|"
    "箱)|每一|"
    "[上下前后]半年|[一二三四]季度|"
    "[百千万]分(?:之(?:几|多少)|数|比|率)|一半|一样|一共|一次性|一般|一直|一下|"
    "一起|一定|统一|万一|一旦|十分|百万医疗|万能|千万别|"
    "一点(?!\\d)|一些|有一|同一|唯一|之一|一切|三者|第三方|双十一|一手|一份|一笔|"
    "一家|一只|"
    "一边|一方面|一来|一套|一台|一名|一位|一张|一本|一件|一辆|一批|一款|一种|"
    "两种|一口气"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """One number of a question with its meaning.

    kind: amount (unit: currency code or ""), rate (a fraction; unit 厘, 分, 折, bp, pp
    or %), duration (unit years, months, days, periods), date, month (an incomplete
    date), ordinal (unit as written), number (unit: counter word or "").
    """

    kind: str
    value: Decimal | date | None
    unit: str
    start: int
    end: int
    text: str


def find_quantities(question: str) -> list[Quantity]:
    """Every quantity in a normalised question, left to right, without overlaps."""
    blocked = [m.span() for m in _WORDS.finditer(question)]
    found, position = [], 0
    while position < len(question):
        inside = [end for start, end in blocked if start <= position < end]
        if inside and not question[position].isdigit():
            position = max(inside)
            continue
        quantity = _match_at(question, position)
        if quantity is None:
            position += 1
            continue
        found.append(quantity)
        position = quantity.end
    return _join_durations(found, question)


def _match_at(question: str, position: int) -> Quantity | None:
    for kind, pattern in _COMPILED:
        match = pattern.match(question, position)
        if not match:
            continue
        try:
            return _build(kind, match)
        except ValueError:
            continue
    return None


def _build(kind: str, match: re.Match) -> Quantity:
    part = match.groupdict()
    unit, value = part.get("u") or "", None
    if kind == "date":
        value = _date(part)
    elif kind == "rate":
        value, unit = _rate(part)
    elif kind == "duration":
        value, unit = _duration(part)
    elif kind != "month":
        value = parse_number(part["n"])
    if kind == "amount":
        value, unit = _amount(value, part)
    if kind == "ordinal" and match[0].startswith("倒"):
        unit = "倒数"
    return Quantity(
        kind=kind,
        value=value,
        unit=unit,
        start=match.start(),
        end=match.end(),
        text=match[0],
    )


def _date(part: dict) -> date:
    year = digits_value(part["y"])
    year += 2000 if year < 100 else 0
    month, day = part.get("m"), part.get("d")
    if part.get("end"):  # 年底, 3 月最后一天
        number = digits_value(month) if month else 12
        return date(year, number, monthrange(year, number)[1])
    return date(year, digits_value(month or "1"), digits_value(day or "1"))


def _rate(part: dict) -> tuple[Decimal, str]:
    value = parse_number(part["n"])
    if half := part.get("half"):
        value += Decimal("0.5") if half == "半" else parse_number(half) / 10
    unit = part.get("u") or "%"
    if unit in ("厘", "分"):  # the router knows whether it is a month's or a year's
        return value / (1000 if unit == "厘" else 100), unit
    if unit in ("折", "成"):
        while value >= 10 and unit == "折":
            value /= 10  # 九五折 and 95折 are 0.95
        return value / 10, unit
    places = _PER[part.get("per") or unit]
    name = {"个百分点": "pp", "个点": "%"}.get(unit, "bp" if _is_points(unit) else "%")
    return value.scaleb(-places), name


def _is_points(unit: str) -> bool:
    return unit == "基点" or unit.lower().startswith("bp")


def _duration(part: dict) -> tuple[Decimal, str]:
    value = Decimal("0.5") if part.get("half") else parse_number(part["n"])
    if part.get("more"):
        value += Decimal("0.5")
    unit = part["u"].removeprefix("个")
    if unit in ("季度", "季"):
        return value * 3, "months"
    if unit in ("周", "星期", "礼拜"):
        return value * 7, "days"
    if unit == "年" and value != value.to_integral_value():
        return value * 12, "months"  # 一年半, 半年
    return value, _UNITS[unit]


def _amount(value: Decimal, part: dict) -> tuple[Decimal, str]:
    if currency := part.get("cur"):
        return value, CODE_OF[currency]
    if part.get("u") == "分钱":
        return value.scaleb(-2), "CNY"
    if part.get("u") in ("角", "毛"):
        value = value.scaleb(-1)
    elif tenth := part.get("jiao"):
        value += parse_number(tenth) / 10
    if hundredth := part.get("fen"):
        value += parse_number(hundredth) / 100
    return value, "CNY"


def _join_durations(found: list[Quantity], question: str) -> list[Quantity]:
    """Joins 2年3个月 or 两年零六个月 to months, one year and 90 days to days."""
    joined: list[Quantity] = []
    for item in found:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.kind == item.kind == "duration"
            and {"years": 2, "months": 1, "days": 0}.get(last.unit, -1)
            > {"months": 1, "days": 0}.get(item.unit, 9)
            and re.fullmatch(r"[零又加\s]*", question[last.end : item.start])
        ):
            months = last.value * (12 if last.unit == "years" else 1)
            value = (
                months + item.value
                if item.unit == "months"
                else months * 30 + item.value
            )
            joined[-1] = Quantity(
                kind="duration",
                value=value,
                unit=item.unit,
                start=last.start,
                end=item.end,
                text=question[last.start : item.end],
            )
        else:
            joined.append(item)
    return joined


def read(question: str) -> tuple[str, list[Quantity]]:
    """The normalised question and its quantities."""
    text = normalise(question)
    return text, find_quantities(text)
