"""The words around a number: what they say it is, on the text of ``pii_view``.

An order number, an amount or a part of a longer number is nothing personal; a label
such as 卡号 or 身份证号 makes a doubtful one certain. Used by ``pii_numbers``.
"""

import re

# Right before a number: this is a number of a thing, not of a person.
THING = re.compile(
    r"(?:订单|单号|单据|流水|编号|编码|编码为|发票|票号|票据|合同|协议|保单|运单|快递"
    r"|物流|批号|批次|序列|货号|条码|条形码|案号|文号|凭证|许可证|执业证|备案|注册号"
    r"|登记号|交易号|受理号|工单|代码|证书|校验码|验证码|查询码|回执|参考号|标书|档案"
    r"|学号|工号|串号|提单|机身|追溯码|账单号|商户号|终端号|检索号|索引号|版本|型号"
    r"|isbn|issn|sku|imei|iccid|\border|\bno\b|(?<![a-z])sn|(?<![a-z])id)"
    r"(?:号码|编号|号|码|单)?[ :#.()为是尾=\"“-]{0,4}$"
)
_AMOUNT_BEFORE = re.compile(
    r"(?:[¥$€£￥]|人民币|美元|港币|港元|金额|合计|总额|总计|余额|市值|股本|股数|总股|"
    r"收入"
    r"|成交量|成交额|资产|规模|利润|负债|销量|产量|销售额|市盈|持股|持有|认购|申购|赎回"
    r"|(?<![送到抵])达|超过|突破|播放量|浏览量"
    r"|阅读量|访问量|点击量|下载量)[ :为约达是共计有了]{0,4}$"
)
AMOUNT_AFTER = re.compile(
    r" ?(?:元(?!旦)|万|亿|股(?!东|权)|份(?!额证)|美元|港元|港币|人民币"
    r"|欧元|日元|英镑|吨"
    r"|公斤|千克|公里|平方|[%‰]|rmb|usd|cny|hkd|人次|手(?!机))"
)
CARD_WORDS = re.compile(
    r"(?:卡号|银行卡|储蓄卡|信用卡|借记卡|贷记卡|工资卡|社保卡|卡片|账号|帐号|账户|帐户"
    r"|户号|[工农建中招交]行|邮储|银行|卡|card)[^0-9。；;!?！？\n]{0,14}$"
)
ID_WORDS = re.compile(
    r"(?:身份证|身分证|公民身份|sfz|id ?card|identity)[^0-9。；;!?！？\n]{0,10}$"
)
# An example or a number that a check has refused names nobody.
NOT_REAL = re.compile(
    "示例|样例|例如|比如|举例|格式|测试|演示|虚构|编造|随手编|非真实|不真实|假的|模拟"
    "|校验|不符|不通过|未通过|无效|不存在"
)
CREDIT_WORDS = re.compile(
    r"(?:代码|税号|识别号|执照|注册号|纳税人)[^0-9。；;!?！？\n]{0,8}$"
)
CREDIT_HEAD = re.compile(
    "(?:1[1239]|2[19]|3[1-59]|4[19]|5[1239]|6[129]|7[129]|8[19]|9[123]|A[19]|N[1239]|"
    "Y1)"
    "(?:[1-6]|10|71|8[123])"
)
# Free numbers of North America, 1-800-772-1213: public, and not from here.
FOREIGN = re.compile(r"1[-. ]+[2-9]\d\d[-. ]|18(?:00|88|77|66|55|44|33)-+\d{3}-")
PART_OF_CODE = re.compile(r"[a-z][-_]$|\d-$", re.ASCII)
CARD_NEAR = re.compile(
    "卡|账[户号]|帐[户号]|转账|收款|汇|打款|打到|打给|户名|开户|存|取现|取款|刷|行|扣|"
    "还款|工资|代发"
    "|转出|归集|划[转至入]|元[到至]|流[向入]|报销|支付|绑|pos|atm|退[款至回到]|转[到至入给]"
)
NO_PASSPORT = re.compile(
    "报错|错误|故障|型号|批号|代码|硒鼓|零件|配件|料号|(?<!证)件号|条码|标签|行李牌|"
    "转盘|取号|排队|叫号"
    "|车次|固件|驱动|打印机|序列|备件|库存|货号|款号|产品编号"
    "|团号|图号|规格|传感器|芯片|色号|报警码|卡纸|交易码|报文|返回码|物料"
)
PASSPORT_NEAR = re.compile(
    "[证护签境国持旅男女]|号码|身份|海外|房客|登记|country|ticket|flight|visa|hotel|"
    "客户|姓名|名单|开户|本人|先生|女士|领队|团员|passport"
)
PASSPORT_WORDS = re.compile(r"护照|passport|通行证|旅行证|出入境|签证|出境|入境|证件")
PHONE_WORDS = re.compile(
    r"(?:电话|手机|致电|联系|拨打|来电|座机|固话|传真|热线|号码|机主|短信|tel|fax|phone"
    r"|mobile|cell|call|whatsapp|line)[^0-9。；;!?！？\n]{0,8}$"
)
LETTER_LABEL = re.compile(
    r"(?:tel|mob|mobile|phone|cell|call|wx|vx|weixin|wechat|(?<![a-z])[vtmp]|qq|line|"
    r"whatsapp|hp|ph|contact|add)$"
)
URL_BEFORE = re.compile(r"(?:https?:|www\.|[a-z]{2,}\.[a-z]{2,})[^\s\u4e00-\u9fff]*$")
URL_KEY = re.compile(r"(?:phone|mobile|tel|mob|sjh|cell|contact|call|wa\.me)[=:/+]*$")


def canonical(text: str) -> str:
    """The digits and capital letters of ``text`` without separators."""
    return "".join(c for c in text.upper() if c.isascii() and c.isalnum())


def before_of(match: re.Match, width: int = 24) -> str:
    """The text before a match."""
    return match.string[max(0, match.start() - width) : match.start()]


def after_of(match: re.Match, width: int = 8) -> str:
    """The text behind a match."""
    return match.string[match.end() : match.end() + width]


def is_thing(match: re.Match) -> bool:
    """Whether the words around say order number, amount or the like."""
    before = before_of(match)
    return bool(
        THING.search(before)
        or _AMOUNT_BEFORE.search(before)
        or AMOUNT_AFTER.match(after_of(match))
    )


def goes_on(match: re.Match) -> bool:
    """Whether a grouped number is a part of a longer one, grouped the same way."""
    separators = set(re.findall(r"[-.·_ ]", match.group()))
    before, after = before_of(match, 2), after_of(match, 5)
    if before[:1].isdigit() and before[-1:] in separators | set("-."):
        return not _NUMBER_BEFORE.search(before_of(match, 16))
    if not (after[1:2].isdigit() and after[:1] in separators | set("-.")):
        return False
    return not re.match(r" (?:1[3-9]\d\b|0\d)", after)  # " 139 ...": the next number


_NUMBER_BEFORE = re.compile(
    r"(?:1[3-9]\d ?\d{4} ?\d{4}|(?<!\d)(?<!\d[ -])0\d{2,3}[-) ]*\d{4} ?\d{3,4}) $",
    re.ASCII,
)
# How the eleven digits of a mobile number are grouped.
GROUPINGS = frozenset(
    {
        (3, 4, 4), (3, 8), (3, 3, 5), (3, 5, 3), (4, 3, 4), (4, 4, 3), (5, 6),
        (5, 3, 3), (7, 4), (4, 7), (3, 3, 3, 2), (2, 3, 3, 3),
        (3, 2, 3, 3), (3, 4, 2, 2), (3, 2, 2, 4), (3, 2, 2, 2, 2), (2, 2, 2, 2, 3),
        (1, 2, 2, 2, 2, 2), (2, 2, 2, 2, 2, 1), (1, 2, 4, 4), (3, 2, 6),
        (1,) * 11, (11,), (3, 6, 2),
    }
)  # fmt: skip
