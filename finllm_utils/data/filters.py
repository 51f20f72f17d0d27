"""Filters: each says whether a text stays, and why not: ``(keep, "reason:value")``.

Pure functions of the text and fixed thresholds. Start values come from fineweb-2's
``cmn_Hani`` configuration (counted there in jieba words, here in characters) and were
moved where Chinese law, news and insurance text needs it; each constant says so.
"""

import re

from finllm_utils.data.char_stats import CharStats, char_stats
from finllm_utils.data.filter_harm import CONTACT, check_harm
from finllm_utils.data.filter_pages import check_page
from finllm_utils.data.filter_repetition import (
    KEEP,
    Verdict,
    check_repetition,
    check_repetitions,
)
from finllm_utils.data.text_views import (
    TABLE_ROW,
    cells,
    decoded,
    is_ruler,
    split_tables,
    undrawn,
)

__all__ = [
    "KEEP", "Verdict", "check_boilerplate", "check_chinese_share", "check_garbage",
    "check_harm", "check_length", "check_repetition", "check_repetitions",
    "is_boilerplate_line", "noise", "strip_boilerplate",
]  # fmt: skip


def check_length(stats: CharStats, min_chars: int) -> Verdict:
    """Drops texts with fewer than ``min_chars`` letters, digits and Han characters."""
    num = stats.letters
    return KEEP if num >= min_chars else (False, f"too_short:{num}")


# Of Han and Latin letters: a Latin name is five letters where a Han one is two, and an
# answer that lists American insurers has 0.4.
MIN_HAN_SHARE = 0.3
MAX_OTHER_SCRIPT = 0.2  # of all letters: kana, Hangul, Cyrillic; Japanese has 0.5


def check_chinese_share(stats: CharStats) -> Verdict:
    """Drops texts whose letters are mostly not Chinese."""
    other = stats.other_letter / max(stats.letters, 1)
    if other > MAX_OTHER_SCRIPT:
        return False, f"foreign_script:{other:.2f}"
    share = stats.han / max(stats.han + stats.latin + stats.latin_1, 1)
    return KEEP if share >= MIN_HAN_SHARE else (False, f"not_chinese:{share:.2f}")


MAX_BROKEN_SHARE = 0.002  # U+FFFD, private-use and unassigned characters
MAX_RARE_SHARE = (
    0.2  # of Han; wrong decodings are rare Han, names and places stay below
)
MIN_FUNCTION_SHARE = (
    0.06  # of Han; running Chinese has 0.2 and more, lists and salads less
)
MAX_SYMBOL_SHARE = 0.4  # fineweb-2: max_non_alpha 0.735 of words
MAX_DIGIT_SHARE = 0.5  # of letters and digits; tables of a report stay below
_GARBLE = re.compile("锟斤拷|烫烫烫|屯屯屯|Ã[\u0080-\u00bf]|â€")
_HAN = re.compile("[\u4e00-\u9fff]")
_BLOB = re.compile(r"[A-Za-z0-9+/=_\-]{60,}")


def check_garbage(text: str, stats: CharStats) -> Verdict:
    """Drops wrong decodings, binary debris, symbol soup and random characters."""
    length = max(len(text), 1)
    broken = (stats.broken + sum(map(len, _GARBLE.findall(text)))) / length
    if broken > MAX_BROKEN_SHARE:
        return False, f"broken_encoding:{broken:.3f}"
    if (symbols := _symbol_share(text, stats)) > MAX_SYMBOL_SHARE:
        return False, f"symbols:{symbols:.2f}"
    if sum(map(len, _BLOB.findall(text))) > 0.2 * length and _has_blob(text):
        return False, "encoded_data"
    if (digits := _digit_share(text, stats)) > MAX_DIGIT_SHARE:
        return False, f"numbers:{digits:.2f}"
    if stats.latin_1 > 0.1 * length:
        return False, f"mojibake_latin:{stats.latin_1 / length:.2f}"
    if (rare := stats.rare_han / max(stats.han, 1)) > MAX_RARE_SHARE and stats.han > 10:
        return False, f"mojibake_han:{rare:.2f}"
    function = stats.function / max(stats.han, 1)
    if stats.han >= 60 and function < MIN_FUNCTION_SHARE:
        return False, f"no_function_words:{function:.3f}"
    return KEEP


def _has_blob(text: str) -> bool:
    """Encoded data, not a ruling line."""
    text = undrawn(text)
    return sum(map(len, _BLOB.findall(text))) > 0.2 * len(text)


def _symbol_share(text: str, stats: CharStats) -> float:
    """Of what is not blank; ruling lines and leaders are no symbols."""
    share = stats.symbol / max(len(text) - stats.space, 1)
    if share <= MAX_SYMBOL_SHARE:
        return share
    stats = char_stats(text := undrawn(text))
    return stats.symbol / max(len(text) - stats.space, 1)


MIN_TABLE_LABELS = 3  # different Chinese cells that say what the amounts are


def _digit_share(text: str, stats: CharStats) -> float:
    """Of letters and digits; amounts in a table with labels do not count."""
    share = stats.digit / max(stats.letters, 1)
    if share <= MAX_DIGIT_SHARE:
        return share
    prose, rows = split_tables(decoded(text))
    labels = {cell for row in rows for cell in row if _HAN.search(cell)}
    if rows and len(labels) < MIN_TABLE_LABELS:
        return share
    stats = char_stats(prose)
    return stats.digit / max(stats.letters, 1)


# Alternatives begin with a plain character: Python's matcher then skips text fast.
_BOILERPLATE = re.compile(
    r"版权所有|Copyright|copyright|COPYRIGHT|©"
    r"|All [Rr]ights [Rr]eserved|ICP[备证]|公网安备"
    r"|上一[篇页条]|下一[篇页条]|相关(?:阅读|推荐|文章|新闻|链接)|热门(?:推荐|文章|标签)|猜你喜欢"
    r"|返回(?:首页|顶部|列表)|网站地图|友情链接|关于我们|联系我们|广告服务|加入收藏|设为首页|责任编辑|分享到"
    r"|点击(?:查看|阅读|进入)|扫一扫|扫码|扫描二维码|二维码|关注(?:我们|公众号|微信)|下载(?:APP|客户端)"
    r"|登录(?![^\s|｜/·])|注册(?![^\s|｜/·])|Cookie|cookie|忘记密码|阅读全文|查看更多|加载更多|打印本页|关闭窗口"
    r"|用户协议|隐私政策|订阅|投稿|站内搜索|当前位置|文章来源[:：]|稿件来源[:：]|信息来源[:：]"
    r"|未经(?:授权|许可|书面).{0,8}转载|本文(?:仅代表|不构成)|浏览(?:次数|量)|阅读\(?\d|评论\(?\d|点赞|收藏本"
    r"|首页\s*[>»|]"
)
_SENTENCE = re.compile(r"[。！？!?；;…：][”’」』）)\"]?\s*$")


def strip_boilerplate(text: str) -> tuple[str, int]:
    """``text`` without the navigation, copyright and sharing lines, and their number.

    Only short lines go: a sentence that mentions 登录 is content.
    """
    if not _BOILERPLATE.search(text):
        return text, 0
    lines = text.split("\n")
    kept = [line for line in lines if not is_boilerplate_line(line)]
    return "\n".join(kept).strip(), len(lines) - len(kept)


def is_boilerplate_line(line: str) -> bool:
    """A short line whose words are those of menus and page feet."""
    hits = len(_BOILERPLATE.findall(line))
    return hits > 0 and (len(line) <= 25 * hits or not line.strip())


MAX_LIST_LINES = (
    0.85  # short lines without an end mark; fineweb-2: line_punct_thr 0.106
)
MIN_LIST_CHARS = 0.55  # of the text in such lines; a poem beside an article stays
_SHORT_LINE = 30
_SHORT_CELL = 12
_AMOUNT = re.compile(r"\d[\d,.%]*")


def check_boilerplate(text: str) -> Verdict:
    """Drops pages that are menus, link lists or notices rather than text."""
    hits = len(_BOILERPLATE.findall(text))
    if hits >= 5 and hits * 50 > len(text):
        return False, f"boilerplate:{hits}"
    if reason := check_page(text):
        return False, reason
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 8:
        return KEEP
    if "|" in text:
        lines = [line for line in lines if not _is_data_row(line)]
    short = [line for line in lines if _is_list_line(line)]
    share = len(short) / max(len(lines), 1)
    if len(lines) >= 8 and share > MAX_LIST_LINES:
        chars = sum(map(len, short)) / sum(map(len, lines))
        if chars > MIN_LIST_CHARS and not _is_verse(short):
            return False, f"list_page:{share:.2f}"
    return KEEP


def _is_data_row(line: str) -> bool:
    """A row of a table with an amount in it, or the ruler under its header."""
    if not TABLE_ROW.match(line):
        return False
    return is_ruler(line) or any(_AMOUNT.fullmatch(cell) for cell in cells(line))


def _is_list_line(line: str) -> bool:
    """A short line without an end mark, or a table row of labels."""
    if _SENTENCE.search(line.rstrip()[-2:]):
        return False
    if len(line) < _SHORT_LINE:
        return True
    return bool(TABLE_ROW.match(line)) and all(
        len(cell) <= _SHORT_CELL and "。" not in cell for cell in cells(line)
    )


_VERSE_LINE = re.compile(r"[\u4e00-\u9fff，。、；：！？…“”‘’《》—（）·『』]+")
MIN_VERSE_FUNCTION = 0.15  # of Han: verse speaks, a menu of links only names


def _is_verse(lines: list[str]) -> bool:
    """Lines of a poem: Chinese alone, of verse length, with the words of speech."""
    plain = sum(bool(_VERSE_LINE.fullmatch(line.strip())) for line in lines)
    length = sum(map(len, lines)) / len(lines)
    if plain < 0.9 * len(lines) or not 4 <= length <= 16:
        return False
    stats = char_stats("\n".join(lines))
    return stats.function >= MIN_VERSE_FUNCTION * stats.han


def noise(text: str) -> int:
    """How much of a text is not its subject: the fewer, the better a copy it is."""
    marks = len(_BOILERPLATE.findall(text)) + len(CONTACT.findall(text))
    return marks + sum(map(text.count, ("\ufffd", "http", "转载", "版权归")))
