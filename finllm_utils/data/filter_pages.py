"""Pages that are not text: errors, templates, contents, hashtags, farms, fragments.

Each check says ``"reason:value"`` or None. Each looks for plain words first: that is
fast, and most texts have none of them. Numbers are characters a hit may stand for.
"""

import re
from collections import Counter
from collections.abc import Callable

from finllm_utils.data.text_views import TABLE_ROW, cells, is_ruler, undrawn

_SENTENCE_END = re.compile(r"[。！？!?；;]")
_ERROR = (
    "404错误|404页|404 |页面不存在|找不到页面|无法找到|页面已删除|页面走丢"
    "|开启JavaScript|启用JavaScript|JavaScript被禁用|访问过于频繁|操作过于频繁|安全验证"
    "|人机验证|完成验证|拖动滑块|请输入验证码|系统繁忙|正在维护|系统维护|无权访问"
    "|没有权限|502 Bad|403 Forbidden|Not Found|正在跳转|自动跳转|浏览器版本过低"
    "|升级您的浏览器|升级浏览器|刷新重试|稍后再试|内容已被删除|该内容已删除|请先登录"
    "|登录后查看|会话已过期|返回上一页|Checking your browser|nginx|IP地址异常"
    "|Cloudflare|页面不见了|返回主页|服务器错误|Internal Server Error"
    "|会话已超时|请重新登录|错误代码|兼容性视图|可信站点|内核浏览器"
).split("|")
_COOKIE = (
    "我们使用Cookie|使用 Cookie|接受全部|全部接受|拒绝全部|全部拒绝|Cookie设置"
    "|Cookie 设置|管理偏好|偏好设置|隐私设置|同意并继续|继续浏览即表示|营销Cookie"
    "|必要Cookie|分析Cookie|第三方Cookie|Cookie政策|Cookie 政策|您的隐私对我们"
).split("|")
_PROMOTION = (
    "包邮|下单|优惠券|领券|秒杀|限时|特价|抢购|立减|满减|爆款|券后|拼团|清仓|买一送一"
    "|甩卖|厂家直销|批发价|免费送|全国发货|立即购买|点击购买|加入购物车|优惠码|复制口令"
    "|复制这段|打开淘宝|打开手机淘宝|红包码|手慢无|库存有限|亏本|到手价|福利价|戳链接"
    "|售完即止|数量有限|前100名|折扣码|邀请码|招商加盟|诚招代理|免费加盟|厂家批发"
).split("|")
_LOCAL_SEARCH = (
    "哪家好|哪里有|哪里好|多少钱一|价格优惠|优惠价格|咨询热线|24小时上门|上门服务"
    "|专业从事|值得信赖|有口皆碑|厂家|报价|欢迎来电|服务热线|附近|专业的|联系电话"
    "|质优价廉|口碑好"
).split("|")
# What synonym tables of article spinners put in: 人民 becomes 人平易近, 继续 继承.
_SPUN = (
    "平易近|存眷|回响反映|经由过程|小同伴|不克不及|寄义|起首|甚么|那末|年夜|屋宇|利钱"
    "|包管|末了|市道|贸易银行|筹备金|款子|今朝|斟酌|身分|扶植|进步前辈|先容|本钱钱"
    "|几率被|成长中国家|把持系统|晋升了|现实上是|懂得到"
).split("|")
# What model essays say about themselves: they were sold, not written.
_ESSAY = (
    "下载后可编辑|下载可编辑|可自行编辑|精选三篇|精选五篇|精选十篇|使用时请将|通用版"
    "|范文|心得体会|文档下载|本文档由|文档可编辑|篇一|篇二|仅供参考使用"
).split("|")
# Signs for which a slower check is worth running.
_TEMPLATE = "{{ ${ <% <# {0} %name %s XX xx ×× orem 某某 ___ 【 TODO".split()
_CUT = "上接第 下转第 阅读原文 阅读全文 展开全文 续上表 查看全文 未完待续".split()
_WORDS = {
    "error_page": _ERROR,
    "cookie_notice": _COOKIE,
    "advertisement": _PROMOTION,
    "search_spam": _LOCAL_SEARCH,
    "spun_words": _SPUN,
    "model_essay": _ESSAY,
    "farm": ["小编", "本站", "小同伴"],
    "template": _TEMPLATE,
    "contents": ["....", "……", "··", ". . ."],
    "price": ["¥", "￥"],
    "blank": ["| |"],
    "cut": _CUT,
}
# How many different words a kind needs, each for so many characters.
_DENSE = {
    "error_page": (2, 45),
    "cookie_notice": (3, 120),
    "advertisement": (4, 50),
    "search_spam": (3, 120),
    "spun_words": (5, 90),
    "model_essay": (3, 200),
}
_KIND_OF = {word: kind for kind, words in _WORDS.items() for word in words}
_KNOWN = re.compile("|".join(map(re.escape, sorted(_KIND_OF, key=len, reverse=True))))
_PHONE = re.compile(
    r"(?<!\d)(?:1[3-9]\d[ \-]?\d{4}[ \-]?\d{4}|400[ \-]?\d{3,4}[ \-]?\d{3,4}"
    r"|0\d{2,3}[ \-]?\d{7,8})"
)
_FARM = re.compile(
    "小编(?:就?[带为来给跟]|今天|整理|觉得)|(?:各位|大家|你).{0,8}看完"
    "|以上(?:就|便)是.{0,40}(?:全部|全体|所有|相关)?(?:内容|形式|介绍|解答)"
    "|希望.{0,8}(?:大家|你|您|各位).{0,4}有所?帮[助忙]"
    "|更多.{0,30}请(?:继续|继承|持续)?(?:关注|存眷)|分享给身[边旁]|(?:了解|理解)一下吧"
    "|一[起同]来(?:看看|了解|理解)|感兴趣的(?:小伙伴|小同伴|朋友)"
    "|小(?:伙伴|同伴)们?(?:对|都)|接下来就?(?:让|跟|随)|关注本站|别忘了?收藏"
)
_PLACEHOLDER = re.compile(
    r"\{\{[^{}\n]{1,40}\}\}|\$\{[^{}\n]{1,40}\}|<%.{1,40}?%>|%[sd]\b"
    r"|\[(?:公司名称|姓名|日期|产品名称|此处.{0,8})\]"
    r"|【(?:请?在?此处|插入|公司名|产品|姓名|填写).{0,12}】|[Ll]orem ipsum"
    r"|dolor sit amet|(?<![A-Za-z])[Xx]{2,}(?![A-Za-z])|×{2,}"
    r"|\{\d\}|%[a-z_]{2,20}%|<#.{1,40}?>|【[A-Z.%X]*】|TODO|(?<!某)某某|_{3,}|示例文字"
    r"|标题文字|占位(?:符|文字)"
)
_CONTENTS = re.compile(r"(?:[.·…_\-]\s?){3,}\s*\d{1,4}\s*$")
_TAG = re.compile(r"(?<!&)#[^\s#，。！？,]{1,20}#?")
_CODE = re.compile(
    r"[{};]\s*$|^\s*(?:function|var|let|const|import|return|if ?\(|\}|\{|//|/\*"
    r"|<[a-z/!]|@media|[.#][\w-]+ ?\{)"
    r"|\"[\w-]+\"\s*:|^\s*[\w-]+\s*:\s*[^\u4e00-\u9fff]+;"
)
_OFFICE_STYLE = re.compile(
    r"mso-|MsoNormal|MSO的|X-NONE|@font-face|text/css|font-family"
)
_PRICE = re.compile(r"[¥￥] ?\d")
_LINE_END = re.compile(r"[。！？!?；;：:”』」）)]\s*$")
_STARTS_LATE = re.compile(r"[，、；）]|(?:以及|并且|而且|及其|从而|使得|或者)")
_STOPS_EARLY = re.compile(r"[的之和与为系在及是于、，,（“]$")
_SPACED = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff](?: |$|[，。、；：]))")


def check_page(text: str) -> str | None:
    """What makes a page no text, or None."""
    found = Counter(_KIND_OF[word] for word in set(_KNOWN.findall(text)))
    for kind, (num, per) in _DENSE.items():
        hits = found[kind]
        if hits >= num and hits * per >= len(text):
            if kind != "search_spam" or len(_PHONE.findall(text)) >= 2:
                return f"{kind}:{hits}"
    for hint, check in _CHECKS:
        if (not hint or hint in found) and (reason := check(text)):
            return reason
    return None


def _farm(text: str) -> str | None:
    hits = len({m.group() for m in _FARM.finditer(text)})
    dense = hits >= 3 and hits * 150 >= len(text)
    return f"content_farm:{hits}" if dense else None


def _template(text: str) -> str | None:
    hits = len(_PLACEHOLDER.findall(text))
    dense = hits >= 5 and hits * 40 >= len(text)
    return f"unfilled_template:{hits}" if dense else None


def _contents(text: str) -> str | None:
    lines = [line for line in text.split("\n") if line.strip()]
    hits = sum(bool(_CONTENTS.search(line)) for line in lines)
    return f"contents_page:{hits}" if hits >= 4 and hits * 2 >= len(lines) else None


def _hashtags(text: str) -> str | None:
    if text.count("#") < 6:
        return None
    tags = _TAG.findall(text)
    dense = len(tags) >= 6 and sum(map(len, tags)) > 0.4 * len(text)
    return f"hashtags:{len(tags)}" if dense else None


def _code(text: str) -> str | None:
    if "mso" in text.lower() and len(_OFFICE_STYLE.findall(text)) >= 3:
        return "code_debris:style"
    if text.count("{") + text.count(";") + text.count("</") + text.count('":') < 5:
        return None
    lines = [line for line in text.split("\n") if line.strip()]
    code = [line for line in lines if _CODE.search(line)]
    share = sum(map(len, code)) / max(sum(map(len, lines)), 1)
    dense = len(code) >= 3 and share > 0.6
    return f"code_debris:{share:.2f}" if dense else None


def _prices(text: str) -> str | None:
    """The shelf of a shop: price after price, hardly a sentence."""
    hits = len(_PRICE.findall(text))
    ends = len(_SENTENCE_END.findall(text))
    dense = hits >= 8 and hits * 60 >= len(text) and ends * 4 <= hits
    return f"product_list:{hits}" if dense else None


def _blank_form(text: str) -> str | None:
    """A form to fill in: cells without content, no sentence anywhere."""
    rows = [row for row in TABLE_ROW.findall(text) if not is_ruler(row)]
    num_cells = sum(row.count("|") - 1 for row in rows)
    blank = num_cells - sum(len(cells(row)) for row in rows)
    empty = len(rows) >= 4 and blank * 5 >= num_cells * 2
    return None if not empty or _SENTENCE_END.search(text) else f"blank_form:{blank}"


def _cut_lines(text: str) -> str | None:
    """A teaser: a mark that the text goes on elsewhere, and lines that stop early."""
    lines = [line for line in text.split("\n") if line.strip()]
    prose = [line for line in lines if len(line) >= 15 and line[0] not in "|#"]
    early = sum(not _LINE_END.search(line) for line in prose)
    if len(text) < 500 and early and early * 2 >= len(prose):
        return f"truncated:{early}"
    return None


def _fragment(text: str) -> str | None:
    """A piece from the middle of a sentence."""
    if len(text) < 200 and _STARTS_LATE.match(text) and not _SENTENCE_END.search(text):
        return "truncated:middle" if _STOPS_EARLY.search(text) else None
    return None


def _spaced(text: str) -> str | None:
    """Letters of a PDF or an OCR with blanks between them: 信 用 卡 业 务."""
    if text.count(" ") * 5 < len(text):
        return None
    hits = len(_SPACED.findall(undrawn(text)))
    return f"spaced_letters:{hits}" if hits and hits * 3 >= len(text) else None


# The hint is a kind of known word without which a check need not run.
_CHECKS: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("farm", _farm), ("template", _template), ("contents", _contents),
    ("price", _prices), ("blank", _blank_form), ("cut", _cut_lines),
    ("", _hashtags), ("", _code), ("", _fragment), ("", _spaced),
)  # fmt: skip
