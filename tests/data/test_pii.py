"""Personal numbers: checksums by hand, every spelling, every decoy, exact offsets."""

import re

import pytest

from finllm_utils.data.normalize import normalize
from finllm_utils.data.pii import PLACEHOLDERS, PiiSpan, find_pii, mask_pii
from finllm_utils.data.pii_checks import (
    is_card_of_known_issuer,
    is_credit_code,
    is_identity_card,
    is_luhn,
    is_old_identity_card,
)

CARD = "11010519491231002X"  # the standard's own example (GB 11643)
BANK = "6222020200112233446"
CODE = "91350100M000100Y43"  # published example of GB 32100


def parse(marked: str) -> tuple[str, list[PiiSpan]]:
    """``拨<mobile:138...>`` as the plain text and the spans that must be found."""
    text, spans, position = "", [], 0
    for match in re.finditer(r"<([a-z_]+):([^<>]*)>", marked):
        text += marked[position : match.start()]
        start = len(text)
        text += match.group(2)
        spans.append(PiiSpan(start, len(text), match.group(1)))
        position = match.end()
    return text + marked[position:], spans


def check_marked(marked: str) -> None:
    """Raw and normalised text give the same values at exact offsets; twice is once."""
    text, spans = parse(marked)
    assert find_pii(text) == spans
    masked, counts = mask_pii(text)
    assert sum(counts.values()) == len(spans)
    assert mask_pii(masked) == (masked, {})
    spelled, _ = normalize(text, {})
    found = find_pii(spelled)
    assert [s.kind for s in found] == [s.kind for s in spans]
    values = [normalize(text[s.start : s.end], {})[0] for s in spans]
    assert [spelled[s.start : s.end] for s in found] == values
    assert normalize(masked, {})[0] == mask_pii(spelled)[0]


def test_identity_card_by_hand():
    """Weights 7 9 10 5 8 4 2 1 6 3 7 9 10 5 8 4 2, then 10X98765432 by sum mod 11.

    11010519491231002: 7+9+0+5+0+20+2+9+24+27+7+18+30+5+0+0+4 = 167 = 15 * 11 + 2: X.
    33010619760305970: 21+27+0+5+0+24+2+9+42+18+0+27+0+25+72+28+0 = 300 = 27*11 + 3: 9.
    """
    assert is_identity_card(CARD)
    assert is_identity_card("330106197603059709")
    assert not is_identity_card("110105194912310021")  # wrong check digit
    for last in "0123456789":
        assert not is_identity_card(CARD[:-1] + last)
    # Month 13, 30 February, 29 February of a common year: the digit alone is not enough
    for birth in ("19491331", "19490230", "19490229"):
        head = f"110105{birth}002"
        assert not any(is_identity_card(head + c) for c in "0123456789X")
    assert any(is_identity_card("11010520000229002" + c) for c in "0123456789X")
    assert not any(is_identity_card("99010519491231002" + c) for c in "0123456789X")


def test_old_identity_card_needs_a_date():
    assert is_old_identity_card("110105491231002")
    assert not is_old_identity_card("110105491331002")
    assert not is_old_identity_card("000105491231002")


def test_luhn_by_hand():
    """4111111111111111: doubled 4 and seven 1s are 8 + 14, eight 1s are 8: 30."""
    assert is_luhn("4111111111111111")
    assert not is_luhn("4111111111111112")
    assert not is_luhn("79927398713")  # too short for a card
    assert not is_luhn("0000000000000000")
    assert is_luhn(BANK) and is_card_of_known_issuer(BANK)
    assert is_luhn("7000000000000005") and not is_card_of_known_issuer(
        "7000000000000005"
    )


def test_credit_code_by_hand():
    """Values times 3^i mod 31 (1 3 9 27 19 26 16 17 20 29 25 13 8 24 10 30 28).

    91350100M000100Y4: 9+3+27+135+0+26+0+0+420+0+0+0+8+0+0+900+112 = 1640 and
    1640 = 52 * 31 + 28, so the check character is 31 - 28 = 3.
    """
    assert is_credit_code(CODE)
    for last in "0124ABY":
        assert not is_credit_code(CODE[:-1] + last)
    assert not is_credit_code(CODE.replace("M", "I"))


MOBILES = """13800138000|138 0013 8000|138-0013-8000|138－0013－8000|138—0013—8000
138 - 0013 - 8000|138.0013.8000|138·0013·8000|138_0013_8000|138/0013/8000|13800 138000|138-001-38000
1380-0138-000|138 00138000|1 3 8 0 0 1 3 8 0 0 0|+86 138 0013 8000|+8613800138000
+86-138-0013-8000|0086 13800138000|0086-138-0013-8000|86-13800138000|(+86)13800138000
（+86）138-0013-8000|１３８００１３８０００|１３８　００１３　８０００|＋８６　１３８００１３８０００
𝟏𝟑𝟖𝟎𝟎𝟏𝟑𝟖𝟎𝟎𝟎|一三八零零一三八零零零|一三八〇〇一三八〇〇〇|幺三八洞洞幺三八洞洞洞
幺三八 零零幺三 八零零零|一三八-零零一三-八零零零|壹叁捌零零壹叁捌零零零|138零零一三8000|一三八，零零一三，八零零零
013800138000|13\u200b800\u200b138\ufeff000|1\u20603800138000""".replace("\n", "|")


@pytest.mark.parametrize("number", MOBILES.split("|"))
def test_mobiles_in_every_spelling(number):
    check_marked(f"请拨<mobile:{number}>，谢谢")
    check_marked(f"客户的手机号是<mobile:{number}>请记下")


LANDLINES = """010-62345678|010－62345678|0571-88886666|(021)6234 5678|（021）62345678
021 62345678|02162345678|0755—8325 6677|０７５５－８３２５６６７７|+86-21-62345678
0086 21 6234 5678|+86 (21) 6234-5678|010-62345678转802|010-62345678-802
零一零-六二三四五六七八|零二二，四零六幺五二幺五|010-62345678/802|0571.88886666|010-6234\u200b5678""".replace(
    "\n", "|"
)


@pytest.mark.parametrize("number", LANDLINES.split("|"))
def test_landlines_in_every_spelling(number):
    check_marked(f"座机<landline:{number}>。")
    check_marked(f"联系电话：<landline:{number}>，工作日接听")


IDS = f"""{CARD}|{CARD.lower()}|110105 19491231 002X|110105-19491231-002X
110105.19491231.002X|110105—19491231—002X|110 105 1949 1231 002X|11010519491231002 X
１１０１０５１９４９１２３１００２Ｘ|１１０１０５１９４９１２３１００２ｘ|{" ".join(CARD)}
一一零一零五一九四九一二三一零零二X|幺幺〇幺〇五幺九四九幺二三幺〇〇二叉
110105\u200b19491231\u200b002X|330106 19760305 9709""".replace("\n", "|")


@pytest.mark.parametrize("number", IDS.split("|"))
def test_identity_cards_need_no_words_around_them(number):
    check_marked(f"<id_card:{number}>，已核实")
    check_marked(f"身份证号码为<id_card:{number}>。")


CARDS = f"""{BANK}|6222 0202 0011 2233 446|6222-0202-0011-2233-446
6222.0202.0011.2233.446|622202 0200112233446|６２２２０２０２００１１２２３３４４６
4111 1111 1111 1111|378282246310005|6222\u200b0202\u200b0011\u200b2233446
六二二二零二零二零零一一二二三三四四六""".replace("\n", "|")


@pytest.mark.parametrize("number", CARDS.split("|"))
def test_bank_cards_by_luhn(number):
    check_marked(f"我这张<bank_card:{number}>刷不了")
    check_marked(f"卡号：<bank_card:{number}>，请查收")


@pytest.mark.parametrize(
    "marked",
    [
        f"代码<uscc:{CODE}>。",
        f"代码<uscc:{CODE.lower()}>。",
        "统一社会信用代码：<uscc:91350100 M000100Y4 3>",
        "税号<uscc:91-350100-M000100Y43>",
        "税号<uscc:９１３５０１００Ｍ０００１００Ｙ４３>",
        "护照<passport:E12345678>",
        "护照号码：<passport:EA1234567>，",
        "护照号为<passport:e12345678>",
        "护照No.<passport:G12345678>",
        "护照<passport:Ｅ１２３４５６７８>",
        "护照<passport:E 1234 5678>",
        "港澳通行证<passport:C12345678>",
        "护照<passport:DE 7413463>、<passport:K98569398>",
        "外宾持护照<passport:TZ 4282165>入住",
        "受赠单位代码：<uscc:913401048382089211>，",
        "车牌<license_plate:苏V零八六幺D>，国六",
        "车牌<license_plate:京A12345>的车",
        "<license_plate:京A·12345>违章",
        "<license_plate:浙A•12K34>违章",
        "<license_plate:沪AD12345>是新能源车",
        "<license_plate:粤B·D12345>在",
        "<license_plate:粤B12345D>在",
        "<license_plate:苏E 12K34>，",
        "<license_plate:苏Ｅ１２Ｋ３４>，",
        "<license_plate:川a12345>，",
        "<license_plate:京A-12345>。",
        "<license_plate:京A1234警>，",
        "<license_plate:冀A1234挂>的",
        "<license_plate:粤Z1234港>，",
    ],
)
def test_codes_passports_and_plates(marked):
    check_marked(marked)


@pytest.mark.parametrize(
    "marked",
    [
        "邮箱<email:zhang.san@example.com>，",
        "邮箱<email:zhang.san＠example．com>，",
        "邮箱<email:zhang(at)example.com>，",
        "邮箱<email:zhang [at] example.com>，",
        "邮箱<email:zhang（AT）example.com.cn>，",
        "邮箱<email:zhang【at】example.com>收",
        "邮箱<email:zhang(at)example(dot)com>",
        "邮箱<email:zhang at example dot com>",
        "邮箱 <email:zhang at example.com>",
        "邮箱<email:zhang@example点com>",
        "邮箱<email:zhang艾特example点com>",
        "邮箱<email:zhang#example.com>（#换成@）",
        "邮箱<email:zhang@example。com>，",
        "邮箱<email:ＺＨＡＮＧ@ＥＸＡＭＰＬＥ．ＣＯＭ>，",
        "邮箱：<email:13800138000@163.com>，",
        "发至<email:zhang\u200b@example.com>，",
        "请致信<email:desk@boyu-bank.ex ample.com>。",
        "加微信<wechat:abc12345>领取",
        "微信号：<wechat:zhangsan>",
        "微信：<wechat:zhang_san>",
        "微信搜<wechat:zhang-san>",
        "薇信号 <wechat:ｌｉｌｅｉ２０２０>",
        "V信：<wechat:lilei2020>",
        "VX：<wechat:zhangsan88>",
        "加v <wechat:zhangsan88>",
        "WeChat ID：<wechat:zhangsan>",
        "微信号为“<wechat:Li-Lei2020>”",
        "微信<wechat:wxid_abcd1234efgh56>",
        "QQ：<qq:123456789>",
        "qq号是<qq:12345678>",
        "QQ <qq:6 406 118 275>",
        "扣扣<qq:1234567890>",
        "扣扣号<qq:一二三四五六七八九>",
        "加Q<qq:12345678>",
        "QQ号码 <qq:１２３４５６７８９>",
        "微信你记一下，<wechat:lan_jing88>",
        "微信：<wechat:lan_jing88>、<wechat:xiaohe_66>",
        "发到<email:zhang at mail dot example>，谢谢",
        "邮箱<email:he[dot]siyuan[at]mail[dot]haiyue[dot]test>",
        "QQ，号码是<qq:12345678>",
        "客服QQ：<qq:517470123>、<qq:946 806 391>",
        "债务人QQ空间<qq:474099974>显示",
        "求助，扣<qq:1377836920>，急",
        "Q<qq:12345678>",
        "微信同号<mobile:13800138000>",
        "VX<mobile:13800138000>",
    ],
)
def test_accounts(marked):
    check_marked(marked)


DECOYS = """2023年净利润123,456,789.00元，同比增长12.5%。
净利润13,812,345,678元，募集资金15812345678.90元
成交13812345678股，金额13812345678元，总股本18612345678股
注册资本人民币13800138000元，市值13800138000万元
订单号20240105123456，订单编号：6222020200112233446
订单号：13812345678，流水号6222020200112233446，编号：13912345678
发票号码24332000000148620975，发票代码033002200211
运单号SF1391234567890，保单号：PDAA202433010000012345
合同编号HT20240105001，合同号为2024-XS-13912345678，批号E12345678
日期2024-01-05 12:30:45、20240105、二〇二四年一月五日
拨打95588或400-800-8888咨询，400 820 8820，4008208820，800-820-8820
客服热线021-95588，12378、12345、110、120、10086、1008611、95105188、0571-96345
+86 400 820 8820，+86 95588，致电1-800-772-1213
证券代码600519.SH，基金代码000001，沪A股和深B股，债券152345.IB
第一百一十三条至第一百一十九条，主席令第37号，（2024）京0105民初12345号
一二三四五六七八九十，零一二三四五
圆周率3.14159265358979，经度120.123456789
微信支付与微信公众号平台，关注微信公众号lanjingbank，微信WeChat
QQ音乐2024，QQ浏览器10000版本
京ICP备12345678号-1，京B2-20230001，京公网安备11010502030123号
新款A6L2024款，新A6L2024款，云A100架构
ISBN 9787111213826，条形码6901234567892，时间戳1704067200000
数列1 3 5 7 9 11 13 15，公式（160000-10000）÷5，比分3-2-1
样本110105194912310021，核验流水110105194912310021
138****8000，622202******3440，尾号3440
http://news.example.com/a/13812345678.html
身份证、护照、银行卡、手机号码、微信号、QQ号
彩票号码03 08 15 22 27 31 + 09，IP 192.168.100.100，版本1.3.8.0.0.1.3.8.0.0.0
累计用户达13800000000人次，合同号HT-13912345678
收款账号6245 9388 7163 1688 322校验未通过，扣50000积分，QQ会员12345人在线
上证B股55·8855·8855·9444·31"""


@pytest.mark.parametrize("text", DECOYS.split("\n"))
def test_what_is_not_personal_stays(text):
    assert find_pii(text) == []
    assert mask_pii(normalize(text, {})[0])[1] == {}


def test_a_wrong_check_digit_counts_only_right_after_the_words_identity_card():
    wrong = CARD[:-1] + "1"
    check_marked(f"身份证号<id_card:{wrong}>填错了")
    assert find_pii(f"样本编号{wrong}") == []
    assert find_pii(f"录入证件号码{wrong}时，系统提示校验码不符") == []
    assert find_pii(f"示例：身份证号{wrong}") == []
    check_marked(
        "身份证号码<id_card:110105491231002>是老证"
    )  # 15 digits: no check digit
    assert find_pii("样本110105491231002") == []
    assert find_pii(f"卡号{BANK[:-1]}7") == []  # Luhn does not hold
    assert find_pii(f"信用代码{CODE[:-1]}4") == []


@pytest.mark.parametrize(
    "marked",
    [
        f"https://x.cn/q?id=<id_card:{CARD}>&t=1",
        f"https://x.cn/user/<id_card:{CARD}>.html",
        "https://x.cn/reg?phone=<mobile:13800138000>&a=1",
        "邮箱：<email:13800138000@163.com>",
        "<mobile:13800138000>/<mobile:13900139000>都行",
        "<mobile:138 0013 8000> <mobile:139 0013 9000>",
        "微信号<wechat:abc13800138000>",
        f"身份证<id_card:{CARD}>，卡<bank_card:{BANK}>，电话<mobile:13800138000>",
        f"序列6222020200{BANK}6222",  # a card inside a longer number is none
        "6222 0202 0011 2233 446 1234 5678 9012",
    ],
)
def test_overlaps_and_neighbours(marked):
    check_marked(marked)


@pytest.mark.parametrize("kind", sorted(PLACEHOLDERS))
def test_placeholders_survive_normalisation_and_masking(kind):
    text = f"客户：{PLACEHOLDERS[kind]}，电话{PLACEHOLDERS[kind]}已更新"
    assert normalize(text, {})[0] == text
    assert mask_pii(text) == (text, {})


def test_offsets_do_not_depend_on_what_stands_around():
    marked = (
        f"手机１３８\u200b００１３－８０００，身份证{CARD}，邮箱a.b＠example．com。"
    )
    spans = find_pii(marked)
    assert [s.kind for s in spans] == ["mobile", "id_card", "email"]
    filler = "这一段没有任何个人信息，只讲利率和期限的关系。" * 40
    shifted = find_pii(filler + marked + filler + marked)
    second = 2 * len(filler) + len(marked)
    assert shifted == [
        PiiSpan(s.start + shift, s.end + shift, s.kind)
        for shift in (len(filler), second)
        for s in spans
    ]


def test_masking_counts_and_keeps_everything_else():
    text = f"电话13800138000，另一个13900139000，身份证{CARD}。\n完"
    masked, counts = mask_pii(text)
    assert masked == "电话[手机号]，另一个[手机号]，身份证[身份证号]。\n完"
    assert counts == {"mobile": 2, "id_card": 1}


@pytest.mark.parametrize("part", ["1 ", "a", "一", "@", "人：", "一三八，", "a.b@"])
def test_long_runs_end_soon(part):
    assert find_pii(part * 4_000) == []  # what grows with the square takes minutes


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("表格在微信里，搜qingmu_2019，不卖课。", True),
        ("看货加tiezhu88-a再谈", True),
        ("用手机搜python3教程", False),  # one digit
        ("增加windows系统的说明", False),  # no digit, an ordinary word
        ("加laptop.example.com看看", False),
    ],
)
def test_an_account_after_a_bare_verb_needs_digits_or_a_line(text, masked):
    assert ([s.kind for s in find_pii(text)] == ["wechat"]) is masked
