"""Accounts and passports that the talk around announces, with no label beside them.

Somebody asks for a QQ number and another answers, a passage is about adding a friend,
a traveller's number stands in a list: the topic may be sentences away. Stretches around
topic words are searched for what looks like an account or a Chinese passport; words
beside it add up, words for other numbers (orders, parts, prices) rule it out.
"""

import re
from collections.abc import Iterator

from finllm_utils.data.pii_accounts import COUNTED, INTRO, SEPARATOR, WECHAT_WORDS
from finllm_utils.data.pii_context import AMOUNT_AFTER, NO_PASSPORT, THING
from finllm_utils.data.pii_view import NUMERALS, View, view_of

_TRAVEL = re.compile(  # who stays, flies, crosses a border or exchanges money
    "护照|passport|签证|visa|通行证|旅行证|有效证|证件|身份|国籍|country|居留|合法"
    r"|出入?境|入境|通关|边检|[使领]馆|免签|落地签|拒签|新本|旧本|本子"
    r"|境外|海外|外籍|外宾|外国|因公|出国|出行|赴|留学|报团|领队|名单|行程|旅客|乘客"
    r"|机票|flight|ticket|值机|登机|出票|订票|靠窗|酒店|hotel|入住|房客|客房|房间|\d房"
    r"|早餐|开户|购汇|结汇|换汇"
)
_BEFORE, _AFTER = 110, 150
_QQ_SIGNS = ("Q", "q", "扣", "企鹅", "Ｑ", "ｑ")
_QQ_SIGN = re.compile(
    r"[QqＱｑ](?=[QqＱｑ号我多发给 　是:：])|扣(?:(?<=扣.)|(?=扣)|(?<=[,，。;；!！?？"
    r" 加系找\n].)"
    r"(?=[1-9１-９]))|企鹅"
)
_TOKEN_SIGN = re.compile(
    "[A-Za-zＡ-Ｚａ-ｚ][A-Za-zＡ-Ｚａ-ｚ]{0,18}(?:[_－＿\\-]|[0-9０-９])"
    "(?<![A-Za-z] .)(?=[A-Za-z0-9_Ａ-Ｚａ-ｚ０-９＿－\\-]{2})"
)
_PASSPORT_SIGN = re.compile(
    r"[A-Za-zＡ-Ｚａ-ｚ][ \-－]?"
    rf"[0-9０-９{NUMERALS}]{{3}}[0-9０-９ {NUMERALS}]"
)


def find_by_topic(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, kind) in ``text``; later ones may overlap earlier ones."""
    for sign, search in (
        (_QQ_SIGN, _qq), (_TOKEN_SIGN, _wechat), (_PASSPORT_SIGN, _passports),
    ):  # fmt: skip
        if search is _qq and not any(word in text for word in _QQ_SIGNS):
            continue
        for start, end in _stretches(text, sign):
            if search is _passports and not _TRAVEL.search(text[start:end].lower()):
                continue
            view = view_of(text, start, end)
            for begin, stop, kind in search(view):
                yield *view.span(begin, stop), kind


def _stretches(text: str, sign: re.Pattern) -> Iterator[tuple[int, int]]:
    """Stretches around signs, merged where they touch."""
    begin, last = -1, -1
    for match in sign.finditer(text):
        start, end = max(0, match.start() - _BEFORE), match.end() + _AFTER
        if begin < 0:
            begin = start
        elif start > last:
            yield begin, min(last, len(text))
            begin = start
        last = end
    if begin >= 0:
        yield begin, min(last, len(text))


# QQ: the last thing that is spoken of before the number is QQ.
_QQ_NUMBER = re.compile(
    rf"(?<![\da-z@._\-/+#%=&*])(?<![\d][,:/~] )(?<!\d[,:])[1-9](?:{SEPARATOR}\d){{4,9}}"
    r"(?![\da-z@%]|[.:/]\d|,\d{3}(?!\d)|\*)",
    re.ASCII,
)
_QQ_WORD = (
    r"(?:(?<![a-z])q ?q(?!\.|[a-z]|音乐|浏览|空间|游戏|飞车|炫舞|影音|输入|钱包|会员|"
    r"农场"
    r"|阅读|堂|糖|弹|物联|支付|表情)|扣扣(?!除)|叩叩|蔻蔻|企鹅(?!电竞|影视|医生|馆)"
    r"|(?<![a-z])q(?=号|我|多少|发|给| ?[是:])|小企鹅|(?<=[,，。;；!！?？"
    r" 加系找\n])扣(?=[1-9]|$))"
)
_TALK = re.compile(
    rf"(?P<qq>{_QQ_WORD})|(?P<other>订单|单号|流水|编号|验证码|校验码|邮编|代码|错误|"
    rf"尾号|卡号"
    "|账单|金额|余额|密码|工号|学号|房号|房间|会议|积分|金币|等级|版本|积分|市值|价格|"
    "手机号"
    "|电话|座机|身份证|银行卡|支付宝|粉丝|阅读|播放|浏览量|端口|序列|运单|快递|合同|"
    "保单"
    "|抖音|微博|b站|小红书|取件码|口令|股票|基金)"
)
_LISTED = re.compile(  # QQ：小王 12345678，小李23456789
    r"^[^。\n]{0,6}[:)](?:[^。]*[,，、;；\s\d)])?[\u4e00-\u9fff·]{2,9}$"
)
_LABEL_BEHIND = re.compile(
    rf" ?[,，。、(]? ?(?:[这那就也都]?个?(?:是|为|才是)?(?:我|俺|他|她|本人|客服|老师|"
    rf"店主)?的?"
    rf"|[加搜](?:这个|我这个|我|一下|下)?的?|[^\d\n。！!?？,，]{{0,4}}) ?{_QQ_WORD}"
    r"|[,，]? ?(?:加|搜)(?:这个|我)?(?:企鹅|扣扣|qq)"
)
_DAY = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])$")
_PUBLIC = re.compile(r"(?:95|96|10|12)\d{3}$")


def _qq(view: View) -> Iterator[tuple[int, int, str]]:
    text, last = view.text, -99
    for match in _QQ_NUMBER.finditer(text):
        begin, end = match.span()
        number = re.sub(r"\D", "", match.group())
        if number.endswith("000") or _DAY.match(number) or not 5 <= len(number) <= 10:
            continue
        if AMOUNT_AFTER.match(text[end : end + 8]) or COUNTED.match(text, end):
            continue
        between = text[last:begin] if begin - last < 24 else "0"
        listed = not re.search(r"\d|[元转付投花存取]", between)
        if not (
            listed or _LABEL_BEHIND.match(text, end) or _is_qq(text, begin, number)
        ):
            continue
        if THING.search(text[max(0, begin - 24) : begin]):
            continue
        last = end
        yield begin, end, "qq"


def _is_qq(text: str, begin: int, number: str) -> bool:
    """Whether QQ is what was spoken of last, and the number is introduced."""
    before = text[max(0, begin - 90) : begin]
    topic = None
    for topic in _TALK.finditer(before):  # noqa: B007 - the last one counts
        pass
    if topic is None or topic.lastgroup != "qq":
        return False
    if not (INTRO.search(before) or _LISTED.search(before[topic.end() :])):
        return False
    return not (_PUBLIC.match(number) and len(before) - topic.end() > 12)


# WeChat: a word in Latin letters with a line, a hyphen or digits, and talk of friends.
_TOKEN = re.compile(
    r"(?<![a-z0-9@._\-/\\#&=%$~])(?<![a-z0-9]\+)[a-z](?=[a-z]*[\d_\-])[a-z0-9_\-]{5,19}"
    r"(?![a-z0-9@_\-\\/&=%+]|\.[a-z0-9]|:[/a-z0-9]|\(\)| ?@)",
    re.ASCII,
)
_CODE = re.compile(
    r"[a-z]{1,2}-?\d{4,}[a-z]?$|[a-z]{1,3}-[0-9a-z]+-|[a-z]{1,2}\d+-\d+|.*(?:[-_]v\d|"
    r"\d(?:kg|px|gb|mb|ml|mm|cm)$)"
    r"|(?:beta|alpha|rc|dev|prod|err|error|code|app|win|ios|android|iphone|ipad|mate|"
    r"https?|www|usb|sha|md5|"
    r"utf"
    r"|gbk|iso|covid|step|page|img|file|test|table|bill|data|help|abc|version|ver|gpt|"
    r"part"
    r"|full|wi|all|self|real|non|pre|one|two|wechat|weixin|log|user|admin|root|get"
    r"|set|null|api|sdk|sql|json|http|type|key|id|no|order|coupon|sku|pg)[-_\d]"
)
_ADJACENT = re.compile(
    r"(?:[+➕]|加|添加|直接输|搜|搜索|查找|搜寻|戳|扫|联系|找|私聊|私信|滴|敲|踢|call)"
    r"(?:[我她他您你它]|ta|群主|好友|朋友|个人号?|客服|老师|助[理手]|小助[理手]|店主|"
    r"店长|掌柜|团长"
    r"|班长|管理员?|大号|小号|账号|号|名|一下|下|微信|[他她]的|这个|到|就是|本人|老板|"
    r"楼主"
    r"|主播|博主|顾问|经理|妈妈|[\u4e00-\u9fff]{1,3}老师|[的 :，,“\"「(])*$"
)
_NAMED = re.compile(r"(?:是|叫|为|成|号|id|名|[:→👉>=⬇👇]|[^\x00-\uffff])[ \"“「(:]*$")
_TOLD = re.compile(r"(?:加|联系|找|搜)[“\"「]?[\u4e00-\u9fff]{1,6}[”\"」]? ?$")
_FOLLOWED = re.compile(
    r" ?[,，。)\n ]? ?(?:[就也都]?(?:能找到|可以|能)|通过|备注|暗号|验证|加[我上一]|"
    r"头像|拉[你我]"
    r"|这个号|是我|我的|是[他她]|[vV微]信?|同意|报名|私聊|聊|说是|就说|昵称|搜|在线|"
    r"秒回"
    r"|反而|回复|就行|即可)"
)
_FRIENDS = re.compile(
    r"微 ?信(?!支付|公众|小程序|读书)|薇信|[vw]信|(?<![a-z])[vw]x(?![a-z])|好友|朋友圈|"
    r"加[我她他您你群]|[进拉][你我]?进?群"
    r"|群主|通过(?:一下|后|我|了|吧)|私聊|私信|备注|昵称|头像|名片|二维码|扫码|绿泡泡|"
    r"个人号|小助[理手]"
    r"|导师|接单|解冻|找我|扫不|加不上|同号|换号|新号|旧号|大号|小号|报名|预约|咨询|"
    r"联系|戳我"
)
_SIGN_BEFORE = re.compile(r"[\s,，。!！?？;；、(\[“\"]$")
_SERVICE = re.compile(r"qq|vx|wx|wechat|weixin|tel|ps")
_ELSEWHERE = re.compile(
    r"(?:抖音|小红书|微博|b站|快手|支付宝|淘宝|旺旺|邮箱|邮件|密码|口令|用户名|登录名|"
    r"游戏|steam"
    r"|渠道|标识|公众号|小程序|服务号|订阅号|视频号|网址|链接|域名|网站|文件名?|型号|"
    r"版本|代码|"
    r"编号|单号|序列号"
    r"|订单|编码|券码?|[惠换请活取货件票验证识别]码|卡密|礼包|接口|字段|参数|变量|函数|"
    r"脚本|路径|目录|机器人|输入|命令"
    r"|wi-?fi|热点|工单|批号|货号|款号|车次|航班|报错|错误|qq|扣扣|关键词|回复|暗号|"
    r"备注(?!号))"
    r"[^。\n;；,，]{0,8}$"
)


def _wechat(view: View) -> Iterator[tuple[int, int, str]]:
    text = view.text
    for match in _TOKEN.finditer(text):
        begin, end = match.span()
        word, before = match.group(), text[max(0, begin - 24) : begin]
        if _CODE.match(word) or word in WECHAT_WORDS or _ELSEWHERE.search(before):
            continue
        if THING.search(before):
            continue
        around = text[max(0, begin - 100) : begin] + " " + text[end : end + 60]
        talk = len(set(_FRIENDS.findall(around)))
        points = 3 if "_" in word or re.search(r"\d.*\d", word) else 2
        if _ADJACENT.search(before):
            points += 3
        elif not talk:
            continue
        elif _NAMED.search(before) or _TOLD.search(before):
            points += 2
        else:
            points += not before or bool(_SIGN_BEFORE.search(before))
        if not re.search(
            "[a-z]{2}", _SERVICE.sub("", text[max(0, begin - 30) : begin])
        ):
            points += "-" in word  # the only Latin word far and wide
        points += 2 * bool(_FOLLOWED.match(text, end)) + min(3, talk + (talk > 0))
        if points >= 6:
            yield begin, end, "wechat"


# Passports of China: E and eight digits, E and a letter and seven, G, DE, SE, PE.
_PASSPORT = re.compile(
    r"(?<![a-z0-9\-/_.])(?:[egdsp][ -]?\d{4} ?\d{4}|(?:e[a-hj-np-z]|[dsp]e)[ -]?\d{3}"
    r" ?\d{4})"
    r"(?![a-z0-9\-/_]|\.\d| ?\d)",
    re.ASCII,
)
_FOREIGN = re.compile(
    r"(?:护照|passport|外籍|外宾|外国|国籍|签证|旅行证件|入境|登机|值机)[^。\n]{0,30}?"
    r"(?:出示的?是?|持有?|[是为号填写:(（着])["
    r" \"“]?(?P<value>[a-z]{1,2}[ -]?\d{3,4} ?\d{4})(?![a-z0-9\-])",
    re.ASCII,
)


def _is_part(text: str, begin: int) -> bool:
    """Whether the words right before say that it is a number of a thing."""
    thing = THING.search(text[max(0, begin - 18) : begin])
    return bool(thing) and thing[0][:2] not in ("no", "id")


def _passports(view: View) -> Iterator[tuple[int, int, str]]:
    text = view.text
    for match in _PASSPORT.finditer(text):
        begin, end = match.span()
        near = text[max(0, begin - 18) : begin] + " " + text[end : end + 8]
        if NO_PASSPORT.search(near) or _is_part(text, begin):
            continue
        around = text[max(0, begin - 110) : begin] + " " + text[end : end + 60]
        if _TRAVEL.search(around):
            yield begin, end, "passport"
    for match in _FOREIGN.finditer(text):
        begin, end = match.span("value")
        near = text[max(0, begin - 18) : begin] + " " + text[end : end + 8]
        if not NO_PASSPORT.search(near) and not _is_part(text, begin):
            yield begin, end, "passport"
