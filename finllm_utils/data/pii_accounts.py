"""Pieces of the patterns for accounts: mail, WeChat and QQ and what stands around them.

On the canonical text of ``pii_view``; used by ``pii_numbers``.
"""

import re

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
    r"(?:[微薇威徽围] ?信|[vw]信|绿泡泡|卫星号|[微薇][❤x](?![a-z])"
    r"|(?<=我的)v(?=[是 ]?[a-z])|(?<![a-z])(?:wechat|weixin|vx|wx)"
    r"|(?:加|\+|➕)我?[v薇微]|(?<![a-z])v(?=[:号 ])|[薇微](?=[:号]))"
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
    r"(?:号码|账号|帐号|群号|昵称|空间|邮箱|好友|客服|交流|咨询|联系方式|联系|售后|投诉|技术支持"
    r"|登录名?|在线|大号|小号|同号|微信|备注|换成|改成|改为|[号群就还一直用的是为叫我你他她它您留请加搜记新"
    r"旧发至到和及也上写填给] ?| ?[:,，(「“\"'/|—=] ?| ?id|[ ]){0,7}"
)
ACCOUNT = r"(?P<value>[a-z][a-z0-9_\-]{5,19})(?![a-z0-9_@]|\.[a-z])"
NEXT = {  # further ones after the first: QQ：517470、1523370041
    "qq": re.compile(
        rf" ?[、,，/;；和或及] ?(?P<value>[1-9](?:{SEPARATOR}\d){{4,10}})(?!\d|@)"
    ),
    "wechat": re.compile(rf" ?[、,，/;；和或及] ?(?=[a-z]+[a-z_\-]*[\d_\-]){ACCOUNT}"),
}

SPLIT_CARD = (  # a card number across the end of a line
    rf"(?<!\d)(?<![a-z])[1-9](?:{SEPARATOR}\d){{3,17}} ?\n ?"
    rf"\d(?:{SEPARATOR}\d){{2,14}}(?!\d)"
)
IS_ACCOUNT = re.compile("[号加搜是为叫改换:]|联系|添加|登记|记录|填写|备注|名")
OTHER = re.compile(
    "音乐|浏览器|版本|订单|单号|流水|编号|金额|价|元|账|卡|电话|手机|热线|座机|邮编|股|代码|码|证"
    "|公众|小程序|服务号|订阅号|支付|链接|网址|截图|骗|转|付"
)
COUNTED = re.compile(r" ?(?:[分点个块毛条次人年月版]|积分|金币|以上|以下)")
WECHAT_WORDS = frozenset(
    "wechat weixin android iphone windows official openid unionid appid server"
    " mobile online offline service public personal business enterprise"
    " welcome account number support contact customer system version desktop"
    " iphone ipad macos google facebook twitter whatsapp telegram alipay paypal".split()
)
