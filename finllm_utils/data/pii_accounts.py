"""Pieces of the patterns for accounts: mail, WeChat and QQ and what stands around them.

On the canonical text of ``pii_view``; used by ``pii_numbers``.
"""

import re

from finllm_utils.data.pii_context import AMOUNT_AFTER, after_of, before_of
from finllm_utils.data.pii_view import PROVINCES

SEPARATOR = r"(?: ?[-.·_] ?| {1,3})?"  # what may stand between groups of digits
TLD = (
    "(?:com|cn|net|org|edu|gov|top|vip|io|me|cc|info|hk|tw|co|xyz|cloud|tech|biz|ltd"
    "|club|site|online|shop|work|wang|ren|dev|app|example|test|invalid|local)"
)
LOCAL = (
    r"(?<![a-z0-9])[a-z0-9](?:[a-z0-9._%+\-]| ?[\[({](?:dot|点)[\])}] ?"
    r"|(?<=[a-z0-9]) dot (?=[a-z0-9])){0,63}"
)
DOT = r"(?: ?\. ?|。| ?点 ?| ?[\[({](?:dot|点)[\])}] ?| dot )"
WECHAT = (
    r"(?:[微薇威徽围] ?信|[vw]信|绿泡泡|卫星号|[微薇]x(?![a-z])"
    r"|[微薇威胃围唯维卫vw] ?[❤♥💚💗💓💕🧡🩷]|[薇微威]芯|薇心"
    r"|(?<=我的)v(?=[是 ]?[a-z])|(?<![a-z])(?:(?:wechat|weixin)(?!_)|vx|wx(?!id_))"
    r"|(?:加|\+|➕)我?[v薇微威]|微我(?= ?[a-z])|卫星(?= ?[a-z])|"
    rf"(?<![a-z{PROVINCES}])v(?=[:号 ])|[薇微](?=[:号]))"
)
QQ = (
    r"(?:(?<![a-z])q ?q(?!\.)|[扣叩蔻][扣叩蔻]|球球|秋秋"
    r"|企鹅(?!电竞|影视|医生)|[加主]q|q号|q群"
    rf"|(?<![a-z{PROVINCES}])q(?= ?[:(]| ?[1-9](?:{SEPARATOR}\d){{4,9}}(?![0-9a-z]))"
    rf"|(?<![折抵克代])扣(?=[:号我]|[1-9]\d{5})"
    rf"|(?<=[,，。;；!！?？ 加系找])扣(?=[1-9](?:{SEPARATOR}\d){{5,9}}(?!\d)))"
)
# What may stand between the name of the service and the account.
GAP = (
    r"(?:号码|账号|帐号|账户|帐户|群号|昵称|空间|邮箱|好友|客服|交流|咨询|联系方式|联系"
    r"|售后|投诉|技术支持"
    r"|登录名?|在线|大号|小号|同号|微信|备注|换成|改成|改为|→|"
    r"[号群就还一直用的是为叫我你他她它您留请加搜记新"
    r"旧发至到和及也上写填给] ?| ?[:,，(「“\"'/|—=-] ?| ?id|[ ]){0,7}"
)
ACCOUNT = r"(?P<value>[a-z][a-z0-9_\-]{5,19})(?![a-z0-9_@]|\.[a-z])"
NEXT = {  # further ones after the first: QQ：517470、1523370041
    "qq": re.compile(
        rf" ?[、,，/;；和或及] ?(?P<value>[1-9](?:{SEPARATOR}\d){{4,10}})(?!\d|@)"
    ),
    "wechat": re.compile(rf" ?[、,，/;；和或及] ?(?=[a-z]+[a-z_\-]*[\d_\-]){ACCOUNT}"),
}

# A question for an account, answered in the next sentence or by the other person.
ASKED = re.compile(
    r"\?|多少|什么|哪个|几|报|留|给|发|方便|告诉|说|念|有没|有吗|提供|加一下|加下"
)
NEAR_WECHAT = "微信|备注|[微薇威]|扫码|扫不|头像|好友|加我|v信|联系|咨询|回|座机|老板"
LETTERS_END = re.compile(
    r" ?(?:[,，。;；、!！?？)\]」”（(\n|/]|$|备注|加[我上]|可加|联系|欢迎)"
)
PLAIN_MAIL = (  # the blank for @: 邮箱 zhangsan example.com
    r"(?:邮箱|邮件|信箱|e-?mail|mail)(?:地址|账号)?[^0-9a-z\n。;；]{0,8}"
    r"(?P<value>[a-z0-9][a-z0-9._+\-]{2,30}(?: {1,2}(?:[a-z0-9\-]+\.){1,3}"
    rf"| ?点 ?[a-z0-9\-]{{2,20}} ?点 ?){TLD})(?![a-z0-9.])"
)
CARD_IN_SIGNS = (  # 6222,0210,0011,2233,445
    r"(?<!\d)(?<![\d][.,/，])[1-9]\d{3}(?: ?[,，/|、+*] ?\d{4}){2,3}"
    r"(?: ?[,，/|、+*] ?\d{1,4})?(?!\d|[,，/]\d)"
)
SPLIT_CARD = (  # a card number across the end of a line
    rf"(?<!\d)(?<![a-z])[1-9](?:{SEPARATOR}\d){{3,17}} ?\n ?"
    rf"\d(?:{SEPARATOR}\d){{2,14}}(?!\d)"
)
INTRO = re.compile(
    r"(?:^|[\s:,，。!！?？;；、(\[\"“‘'「《>~→👉|/=\-—…]|是|为|叫|加|搜|号|码|成|打|写|"
    r"填"
    r"|报|找|下|我|他|她|呢|名|q|扣|鹅|到|用|给|联系|👇|⬇|📱|[加搜换改留填写报]了|"
    r"[^\x00-\uffff])$"
)
IS_ACCOUNT = re.compile("[号加搜是为叫改换:]|联系|添加|登记|记录|填写|备注|名")
OTHER = re.compile(
    "音乐|浏览器|版本|订单|单号|流水|编号|金额|价|元|账|卡|电话|手机|热线|座机|邮编|股|"
    "代码|码|证"
    "|公众|小程序|服务号|订阅号|支付|链接|网址|截图|骗|转|付"
)
COUNTED = re.compile(r" ?(?:[分点个块毛条次人年月版]|积分|金币|以上|以下)")
WECHAT_WORDS = frozenset(
    "wechat weixin android iphone windows official openid unionid appid server"
    " mobile online offline service public personal business enterprise"
    " welcome account number support contact customer system version desktop"
    " iphone ipad macos google facebook twitter whatsapp telegram alipay paypal".split()
)


def far_wechat_end(match: re.Match) -> int:
    """An account of letters only needs a word that says so, and no English around."""
    gap, account = match.group("gap"), match.group("value")
    plain = account.isalpha()
    if plain and gap == " ":
        return wechat_end(match) if LETTERS_END.match(after_of(match)) else 0
    if OTHER.search(gap) or (plain and not (gap and IS_ACCOUNT.search(gap))):
        return 0
    if plain and ("\n" in gap or re.match(" ?[a-z]", after_of(match))):
        return 0
    return wechat_end(match)


def asked_wechat_end(match: re.Match) -> int:
    """An answer: 您的微信号方便留一下吗？可以，lanjing_88."""
    gap = match.group("gap")
    held = not OTHER.search(gap) and ASKED.search(gap)
    return wechat_end(match) if held else 0


def searched_wechat_end(match: re.Match) -> int:
    """With only a hyphen in it, there must be talk of WeChat around."""
    sure = re.search(r"_|\d", match.group("value"))
    around = before_of(match, 32) + after_of(match, 16)
    return wechat_end(match) if sure or re.search(NEAR_WECHAT, around) else 0


def wechat_end(match: re.Match) -> int:
    """The account, unless it is a word that goes with the name of the app."""
    return 0 if match.group("value") in WECHAT_WORDS else match.end()


def qq_end(match: re.Match) -> int:
    """An account, not a sum of money or of points."""
    if AMOUNT_AFTER.match(after_of(match)) or COUNTED.match(after_of(match)):
        return 0
    return 0 if sum(map(str.isdigit, match.group("value"))) > 11 else match.end()


def far_qq_end(match: re.Match) -> int:
    """An account after words that are about nothing else."""
    if OTHER.search(match.group("gap")) or not INTRO.search(match.group("gap")):
        return 0
    return qq_end(match)
