"""Filters: each says whether a text stays, and why not: ``(keep, "reason:value")``.

Pure functions of the text and fixed thresholds. Start values come from fineweb-2's
``cmn_Hani`` configuration (counted there in jieba words, here in characters) and were
moved where Chinese law, news and insurance text needs it; each constant says so.
"""

import re
from collections.abc import Sequence

import numpy as np

from finllm_utils.data.char_stats import CharStats
from finllm_utils.data.shingles import fold, window_hashes

Verdict = tuple[bool, str]
KEEP: Verdict = (True, "")


def check_length(stats: CharStats, min_chars: int) -> Verdict:
    """Drops texts with fewer than ``min_chars`` letters, digits and Han characters."""
    num = stats.letters
    return KEEP if num >= min_chars else (False, f"too_short:{num}")


MIN_HAN_SHARE = 0.45  # of Han and Latin letters; product names and rates are Latin


def check_chinese_share(stats: CharStats) -> Verdict:
    """Drops texts whose letters are mostly not Chinese."""
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
_BLOB = re.compile(r"[A-Za-z0-9+/=_\-]{60,}")


def check_garbage(text: str, stats: CharStats) -> Verdict:
    """Drops wrong decodings, binary debris, symbol soup and random characters."""
    length = max(len(text), 1)
    broken = (stats.broken + sum(map(len, _GARBLE.findall(text)))) / length
    if broken > MAX_BROKEN_SHARE:
        return False, f"broken_encoding:{broken:.3f}"
    symbols = stats.symbol / max(length - stats.space, 1)
    if symbols > MAX_SYMBOL_SHARE:
        return False, f"symbols:{symbols:.2f}"
    if sum(map(len, _BLOB.findall(text))) > 0.2 * length:
        return False, "encoded_data"
    if (digits := stats.digit / max(stats.letters, 1)) > MAX_DIGIT_SHARE:
        return False, f"numbers:{digits:.2f}"
    if stats.latin_1 > 0.1 * length:
        return False, f"mojibake_latin:{stats.latin_1 / length:.2f}"
    if (rare := stats.rare_han / max(stats.han, 1)) > MAX_RARE_SHARE and stats.han > 10:
        return False, f"mojibake_han:{rare:.2f}"
    function = stats.function / max(stats.han, 1)
    if stats.han >= 60 and function < MIN_FUNCTION_SHARE:
        return False, f"no_function_words:{function:.3f}"
    return KEEP


MAX_CHAR_SHARE = 0.2  # one character; the commonest, 的, stays under 0.1
MAX_CHAR_RUN = 12  # 哈哈哈哈, 。。。。; fill-in lines are runs of _ and count too
MAX_DUPLICATE_LINES = 0.287  # fineweb-2: dup_line_frac, share of lines
MAX_TOP_GRAM = {4: 0.25, 8: 0.25}  # fineweb-2: top 2- and 3-word grams .256 .201; short
MIN_TOP_COUNT = (
    4  # answers name their subject often: 年金 in every sentence is no fault
)
_LONG_GRAM = 16
MAX_DUPLICATE_GRAM = 0.3  # of 16-character windows; fineweb-2: 0.154 of 8-word grams
_RUN = re.compile(rf"([^\s\d\-=_.…·*—])\1{{{MAX_CHAR_RUN - 1},}}")


def check_repetition(text: str) -> Verdict:
    """Drops a text that repeats characters, lines or n-grams."""
    return check_repetitions([text])[0]


def check_repetitions(texts: Sequence[str]) -> list[Verdict]:
    """``check_repetition`` for a batch: windows of all texts are counted at once."""
    codes, bounds, _ = fold(texts)
    length = np.diff(bounds)
    top = {n: gram_counts(codes, bounds, n) for n in (1, *MAX_TOP_GRAM, _LONG_GRAM)}
    verdicts = []
    for row, text in enumerate(texts):
        lines = _repeated_lines(text)
        counts = {
            n: (int(most[row]), int(kinds[row])) for n, (most, kinds) in top.items()
        }
        verdicts.append(lines or _repeated_grams(counts, int(length[row])))
    return verdicts


def gram_counts(
    codes: np.ndarray, bounds: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each text: how often its commonest ``num``-gram occurs, how many differ."""
    num_texts = len(bounds) - 1
    owner = np.repeat(np.arange(num_texts, dtype=np.uint64), np.diff(bounds))
    hashes = window_hashes(codes, num)
    inside = owner[: len(hashes)] == owner[len(owner) - len(hashes) :]
    first = owner[: len(hashes)][inside]
    keys = np.sort((first << np.uint64(48)) | (hashes[inside] >> np.uint64(16)))
    if not len(keys):
        return np.zeros(num_texts, np.int64), np.zeros(num_texts, np.int64)
    edges = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True])))
    texts = (keys[edges[:-1]] >> np.uint64(48)).astype(np.int64)
    most = np.zeros(num_texts, dtype=np.int64)
    np.maximum.at(most, texts, np.diff(edges))
    return most, np.bincount(texts, minlength=num_texts)


def _repeated_lines(text: str) -> Verdict | None:
    if run := _RUN.search(text):
        return False, f"char_run:{len(run.group())}"
    lines = [line.strip() for line in text.split("\n") if len(line.strip()) > 4]
    if len(lines) >= 4:
        repeated = 1 - len(set(lines)) / len(lines)
        if repeated > MAX_DUPLICATE_LINES:
            return False, f"duplicate_lines:{repeated:.2f}"
    return None


def _repeated_grams(counts: dict[int, tuple[int, int]], length: int) -> Verdict:
    """Args: counts holds (of the commonest, of different ones) for each window size."""
    if length < _LONG_GRAM + 4:
        return KEEP
    if (share := counts[1][0] / length) > MAX_CHAR_SHARE:
        return False, f"one_character:{share:.2f}"
    for num, limit in MAX_TOP_GRAM.items():
        top = counts[num][0]
        if top >= MIN_TOP_COUNT and (share := top * num / length) > limit:
            return False, f"top_{num}_gram:{share:.2f}"
    if length >= 100:
        share = 1 - counts[_LONG_GRAM][1] / (length - _LONG_GRAM + 1)
        if share > MAX_DUPLICATE_GRAM:
            return False, f"duplicate_{_LONG_GRAM}_grams:{share:.2f}"
    return KEEP


# Alternatives begin with a plain character: Python's matcher then skips text fast.
_BOILERPLATE = re.compile(
    r"版权所有|[Cc]opyright|COPYRIGHT|©|All [Rr]ights [Rr]eserved|ICP[备证]|公网安备"
    r"|上一[篇页条]|下一[篇页条]|相关(?:阅读|推荐|文章|新闻|链接)|热门(?:推荐|文章|标签)|猜你喜欢"
    r"|返回(?:首页|顶部|列表)|网站地图|友情链接|关于我们|联系我们|广告服务|加入收藏|设为首页|责任编辑|分享到"
    r"|点击(?:查看|阅读|进入)|扫一扫|扫码|扫描二维码|二维码|关注(?:我们|公众号|微信)|下载(?:APP|客户端)"
    r"|登录(?![^\s|｜/·])|注册(?![^\s|｜/·])|[Cc]ookie|忘记密码|阅读全文|查看更多|加载更多|打印本页|关闭窗口"
    r"|用户协议|隐私政策|订阅|投稿|站内搜索|当前位置|文章来源[:：]|稿件来源[:：]|信息来源[:：]"
    r"|未经(?:授权|许可|书面).{0,8}转载|本文(?:仅代表|不构成)|浏览(?:次数|量)|阅读\(?\d|评论\(?\d|点赞|收藏本"
    r"|首页\s*[>»|]"
)
_SENTENCE = re.compile(r"[。！？!?；;…：][”’」』）)\"]?\s*$")
_CONTACT = re.compile(
    r"加(?:我|老师|客服|助理|我的)?[微薇vVQ]信?|加群|进群|入群|拉你进|扫码|私信|私聊|点击链接|联系客服"
    r"|客服(?:微信|QQ|电话)|添加(?:微信|助理|老师)|立即(?:注册|咨询|开户|加入|下载)|免费(?:领取|诊股|进群)"
    r"|\[微信号\]|\[QQ号\]|\[手机号\]|咨询热线|先到先得|名额有限|马上注册|注册(?:即|就)?送|点击下方"
)


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
_SHORT_LINE = 30


def check_boilerplate(text: str) -> Verdict:
    """Drops pages that are menus or link lists rather than text."""
    hits = len(_BOILERPLATE.findall(text))
    if hits >= 5 and hits * 50 > len(text):
        return False, f"boilerplate:{hits}"
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) >= 8:
        short = sum(
            len(line) < _SHORT_LINE and not _SENTENCE.search(line) for line in lines
        )
        if short / len(lines) > MAX_LIST_LINES:
            return False, f"list_page:{short / len(lines):.2f}"
    return KEEP


_GAMBLING = re.compile(
    "百家乐|六合彩|时时彩|老虎机|真人荷官|真人视讯|在线投注|网上投注|线上娱乐城?|澳门(?:新?葡京|威尼斯|银河|赌场)|北京赛车|快三"
    "|PK10|体育博彩|博彩平台|棋牌平台|彩票平台|首存|彩金|提款秒到|注单|返水|开奖号码|特码|一码中特|下注|赔率高|赢钱"
)
_FRAUD = re.compile(
    "刷单|代开发票|办证刻章|套现|黑户(?:可|也能)|无视征信|秒批|秒下款|无需?抵押无?需?担保当天|不看征信|强开|洗白征信|征信修复"
    "|包下款|代办信用卡|出售银行卡|收购银行卡|跑分|裸聊|约炮|高仿|迷药|虚拟币搬砖|资金盘|拉人头|躺赚|日赚|日入过万|月入[十百]?万"
)
_TIPS = re.compile(
    "荐股|牛股|黑马股|妖股|涨停(?:板)?(?:密码|预测|先机|股池)|必涨|稳赚|包赚|稳赢|保本(?:高|保)[收息]|保证(?:收益|盈利|赚)|资金翻倍|账户翻倍|本金翻倍|收益翻倍|翻倍[牛黑]?股|内幕(?:消息|票|股|渠道)"
    "|带单|跟单(?!信用证|托收|汇票|结算)|老师(?:带|指导|亲)|主力(?:动向|拉升|建仓)|抄底名单|毫无风险|零风险(?:高|稳|赚|套利)|无风险(?:高|稳|赚|套利|收益[高！])|年化\\d{2,}%以上|躺赢|私募内部|机构席位|明日(?:涨停|金股)"
)
_WARNING = re.compile(
    "警惕|谨防|防范|骗局|诈骗|受骗|上当|严禁|不得|禁止|违法|非法|打击|查处|处罚|举报|监管|风险提示|犯罪|依法|警方|提醒|切勿|不要|陷阱|受害"
)


def check_harm(text: str) -> Verdict:
    """Drops gambling, fraud and stock-tip solicitation, not text that warns of it.

    Solicitation pairs lures with a way to get in touch; a warning outweighs lures.
    """
    kinds = {"gambling": _GAMBLING, "fraud": _FRAUD, "stock_tips": _TIPS}
    lures = {kind: len(set(p.findall(text))) for kind, p in kinds.items()}
    total = sum(lures.values())
    if not total:
        return KEEP
    calls, warnings = len(set(_CONTACT.findall(text))), len(_WARNING.findall(text))
    solicits = total + calls >= 3 and (calls > 0 or total >= 4)
    dense = (total + calls) * 300 >= len(text)
    if solicits and dense and warnings < total + calls:
        worst = max(lures, key=lures.get)
        return False, f"harm_{worst}:{total}+{calls}"
    return KEEP


def noise(text: str) -> int:
    """How much of a text is not its subject: the fewer, the better a copy it is."""
    marks = len(_BOILERPLATE.findall(text)) + len(_CONTACT.findall(text))
    return marks + sum(map(text.count, ("\ufffd", "http", "转载", "版权归")))
