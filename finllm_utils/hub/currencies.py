"""Names of currencies in Chinese questions, and their ISO codes."""

import re

NAMES: dict[str, tuple[str, ...]] = {
    "CNY": ("人民币", "CNY", "RMB", "￥", "¥"),
    "USD": ("美元", "美金", "美刀", "USD", "US$", "$"),
    "EUR": ("欧元", "EUR", "€"),
    "JPY": ("日元", "日币", "日圆", "JPY"),
    "GBP": ("英镑", "GBP", "£"),
    "HKD": ("港币", "港元", "港纸", "HKD", "HK$"),
    "AUD": ("澳大利亚元", "澳元", "澳币", "澳洲元", "AUD"),
    "CAD": ("加拿大元", "加元", "加币", "CAD"),
    "CHF": ("瑞士法郎", "瑞郎", "CHF"),
    "SGD": ("新加坡元", "新加坡币", "新元", "新币", "坡币", "SGD"),
    "NZD": ("新西兰元", "新西兰币", "纽元", "纽币", "NZD"),
    "KRW": ("韩元", "韩币", "韩圆", "KRW"),
    "THB": ("泰铢", "泰币", "THB"),
    "MYR": ("马来西亚林吉特", "林吉特", "令吉", "马币", "MYR"),
    "IDR": ("印度尼西亚盾", "印尼盾", "印尼卢比", "IDR"),
    "INR": ("印度卢比", "INR"),
    "PHP": ("菲律宾比索", "菲律宾披索", "PHP"),
    "MXN": ("墨西哥比索", "墨西哥元", "MXN"),
    "BRL": ("巴西雷亚尔", "雷亚尔", "BRL"),
    "ZAR": ("南非兰特", "兰特", "ZAR"),
    "TRY": ("土耳其里拉", "新土耳其里拉", "里拉", "TRY"),
    "RUB": ("俄罗斯卢布", "卢布", "RUB"),
    "SEK": ("瑞典克朗", "SEK"),
    "NOK": ("挪威克朗", "NOK"),
    "DKK": ("丹麦克朗", "DKK"),
    "ISK": ("冰岛克朗", "ISK"),
    "CZK": ("捷克克朗", "CZK"),
    "PLN": ("波兰兹罗提", "兹罗提", "PLN"),
    "HUF": ("匈牙利福林", "福林", "HUF"),
    "ILS": ("以色列谢克尔", "谢克尔", "ILS"),
    "RON": ("罗马尼亚列伊", "列伊", "RON"),
    "BGN": ("保加利亚列弗", "列弗", "BGN"),
    # Not among the ECB's rates: known by name so that the refusal can say so.
    "TWD": ("新台币", "台币", "TWD"),
    "VND": ("越南盾", "VND"),
    "MOP": ("澳门元", "澳门币", "MOP"),
    "AED": ("迪拉姆", "AED"),
    "SAR": ("沙特里亚尔", "里亚尔", "SAR"),
    "BTC": ("比特币", "BTC"),
    "ETH": ("以太坊", "以太币", "ETH"),
    "USDT": ("泰达币", "USDT"),
}
CODE_OF = {name: code for code, names in NAMES.items() for name in names}
PATTERN = "|".join(sorted(map(re.escape, CODE_OF), key=len, reverse=True))
_FIND = re.compile(rf"(?<![A-Za-z])(?:{PATTERN})(?![A-Za-z])")


def find_currencies(text: str) -> list[tuple[int, int, str]]:
    """(start, end, code) of every currency named in ``text``, in order."""
    return [(m.start(), m.end(), CODE_OF[m[0]]) for m in _FIND.finditer(text)]


def chinese_name(code: str) -> str:
    """The usual Chinese name of a currency code."""
    return NAMES[code][0] if code in NAMES else code
