"""The 8,105 characters of 通用规范汉字表 (2013), from pypinyin-dict's table keys."""

import re
from functools import cache

from finllm_utils.corpora.packages import package_folder


@cache
def standard_characters() -> tuple[str, ...]:
    """The standard characters in the table's order."""
    path = package_folder("pypinyin_dict") / "pinyin_data" / "ktghz2013.py"
    codes = re.findall(r"0x([0-9A-Fa-f]+):", path.read_text(encoding="utf-8"))
    return tuple(chr(int(code, 16)) for code in codes)
