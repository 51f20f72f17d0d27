"""The harm filter: gambling, fraud and stock-tip solicitation, not texts that warn.

One word proves nothing: 翻倍 stands in research notes, 名额有限 in course plans. What
solicits pairs several kinds of evidence: a lure or an impossible promise, a way to get
in touch or to pay, pressure or secrecy. Each kind is counted by its different phrases.
Alternatives begin with a plain character: Python's matcher then skips text fast.
"""

import re

from finllm_utils.data.filter_repetition import KEEP, Verdict

_LURES = {
    "gambling": re.compile(
        "百家乐|六合彩|时时彩|老虎机|真人荷官|真人视讯|在线投注|网上投注|线上娱乐"
        "|娱乐城|澳门(?:新?葡京|威尼斯|银河|赌场)|北京赛车|快三"
        "|PK10|体育博彩|博彩平台|棋牌平台|彩票平台|首存|首充.{0,4}送|彩金|提款秒到"
        "|秒提现|注单|返水|开奖号码|特码|一码中特|下注|赔率高|赢钱|计划群|包网"
        "|上分|下分|电子游艺|捕鱼|导师带.{0,4}(?:上岸|回血)|大小单双|杀猪盘教程"
        "|稳定计划|竞猜.{0,6}(?:奖金|返)|龙虎斗|牛牛|炸金花|赌球|盘口推荐"
        "|精准预测.{0,6}期"
    ),
    "fraud": re.compile(
        "每推荐一|层级不限|推荐奖励|补贴不是利息|不设专户|配售原始股"
        "|即将上市.{0,12}原始股"
        "|清退(?:专员|专班|群)|资金池认证|小额测试|测试款|国家专项账户"
        "|填错.{0,20}保证金|修改保证金|"
        "刷单|代开.{0,10}发票|先开票后付|办证刻章|套现|黑户(?:可|也能)|无视征信"
        "|无视黑白|秒批|秒下款|无抵押无?需?担保当天|无需抵押无?需?担保当天|不看征信"
        "|不查征信|强开|洗白征信|征信(?:修复|洗白|铲单)"
        "|包下款|代办信用卡|出售银行卡|收购银行卡|收购?(?:各类)?(?:对公|四件套|银行卡)"
        "|四件套|租(?:售)?银行卡|跑分|裸聊|约炮|高仿|迷药|虚拟币搬砖|资金盘|拉人头|躺赚"
        "|日赚|日入过万|日结(?:工资|\\d)|月入[十百]?万|轻松(?:月入|日赚|赚)"
        "|在家(?:就能|可)?赚"
        "|后台渠道|内部渠道|下卡(?:之后|后)再?付|逾期也(?:可以|能)|全额?返|消费.{0,6}返"
        "|永不封顶|每日.{0,4}分红|永续经营|静态收益|动态收益|日化|返佣"
        "|返利.{0,6}(?:%|翻)|裂变"
        "|推荐一个会员|发展(?:满|一名).{0,4}(?:会员|下线)|下线|团队(?:长|计酬|奖)"
        "|原始股|通证|虚拟货币|空投|挖矿|锁仓|认购一?个?户头|兑付.{0,10}万元|民族资产"
        "|解冻.{0,4}资产|养老项目.{0,10}返|扶贫款"
        "|垫付.{0,6}(?:佣金|返)|佣金.{0,4}(?:秒|立)结|点赞.{0,6}(?:赚|佣金)"
        "|兼职.{0,8}(?:日结|佣金|无需经验)|贷款.{0,6}(?:秒到|包过)|征信不好"
        "|额度.{0,6}秒到|提额.{0,6}(?:技术|秘|包)|代(?:还|理)退(?:保|息)|全额退保"
        "|债务优化|停息挂账|反催收"
    ),
    "stock_tips": re.compile(
        "战法|内部圈|吃到了|进圈|卖飞|账户交给|同步操作|盈利之?后再?(?:补交|付费|分成)"
        "|股票代码.{0,6}领取|"
        "荐股|牛股|黑马股|妖股|涨停(?:板)?(?:密码|预测|先机|股池)|必涨|稳赚|包赚|稳赢"
        "|保本(?:高|保)[收息]|保证(?:收益|盈利|赚)|资金翻倍|账户翻倍|本金翻倍|收益翻倍"
        "|翻倍[牛黑]?股|内幕(?:消息|票|股|渠道)"
        "|带单|跟单(?!信用证|托收|汇票|结算)|老师(?:带|指导|亲)"
        "|主力(?:动向|拉升|建仓|出货)|抄底名单|毫无风险|零风险(?:高|稳|赚|套利)"
        "|无风险(?:高|稳|赚|套利|收益[高！])|年化\\d{2,}%以上|躺赢|私募内部|机构席位"
        "|明日(?:涨停|金股)"
        "|零回撤|从未(?:出现)?过?.{0,6}亏损|潜力(?:标的|股)|买卖点|翻倍的(?:品种|票|股)"
        "|提前(?:点到|布局好)|发过涨停|今天的票|承担的风险为零|实际的风险为零"
        "|内部交流群|错过了?一个涨停|股友|解套|诊股|准确率.{0,3}9\\d|胜率.{0,3}[89]\\d"
        "|金股|龙头股.{0,6}(?:领取|名单)"
        "|一对一(?:指导|带)|实盘(?:喊单|带|直播)|喊单|布局.{0,6}(?:翻倍|主升)|拉升在即"
        "|主升浪|庄家|翻倍行情|收益率?(?:高达|可达).{0,4}\\d{2,3}%|保底收益"
        "|稳定收益.{0,6}\\d+%|只赚不赔|只涨不跌|包回本|回本|刚性兑付.{0,4}承诺"
        "|承诺(?:保本|收益|兑付)|限售.{0,4}内部价"
    ),
    "phishing": re.compile(
        "恭喜您.{0,40}(?:中奖|抽选|抽中|获得)|中奖通知|领奖"
        "|失效.{0,30}重新(?:办理|认证)|冻结.{0,30}(?:点击|登录|认证)|停用.{0,30}重新"
        "|重新(?:完成)?认证|关闭.{0,8}安全软件|卸载.{0,8}安全软件"
        "|准备好.{0,20}银行卡|三倍理赔|退一赔|工号.{0,20}(?:理赔|退款)"
        "|缴纳.{0,12}(?:手续费|保证金|公证费|解冻|税).{0,8}(?:后|即可|方可)|安全账户"
        "|屏幕共享|共享屏幕"
        "|开通了商家代理|成单有奖|剩余时间[:：]\\d|刚刚(?:认证|提现|下款|中奖)"
        "|积分(?:即将)?(?:到期|过期|清零).{0,20}(?:点击|兑换)"
        "|医保.{0,8}(?:停用|冻结|失效)|ETC.{0,10}(?:失效|停用|认证)"
        "|社保卡.{0,6}(?:异常|停用)|快递.{0,10}(?:理赔|双倍)"
        "|账户.{0,6}(?:异常|冻结).{0,20}(?:点击|登录|联系)"
        "|解冻.{0,4}保证金|账户.{0,40}被?(?:系统)?(?:风控)?冻结|预缴.{0,12}税"
        "|信用分.{0,20}充值|充值.{0,4}(?:请)?联系|备注请(?:填|写)|切勿(?:填写|备注)"
        "|已成功(?:解冻|提现)|永久冻结|移交司法|代收代缴.{0,10}平台|USDT"
        "|验证码.{0,6}(?:告诉|发给|提供)|解冻费|公证费|话术"
    ),
}
# Ways to get in touch that an honest page seldom names in its running text.
CONTACT = re.compile(
    "加(?:我|老师|客服|助理|我的|他|她|小助理)?[微薇vVQ]信?|加群|进群|入群|拉你进"
    "|拉[您他]?(?:进|入|到).{0,3}群|拉您进|扫码|私信|私聊|点击链接|联系客服"
    "|客服(?:微信|QQ|电话)|添加.{0,4}(?:微信|助理|老师|专员)|扫描下面|拉入.{0,6}群"
    "|立即(?:注册|咨询|开户|加入|下载)"
    "|免费(?:领取|诊股|进群)"
    r"|\[微信号\]|\[QQ号\]|\[手机号\]|咨询热线|先到先得|名额有限|马上注册"
    r"|注册(?:即|就)?送|点击下方"
    "|微信[号群]?[:： ]{0,2}[A-Za-z0-9_]{6}|QQ群?[:： ]{0,2}[0-9]{5}"
    "|群主|在线导师|专属(?:导师|顾问|客服)"
    "|进群方式|活动热线|人工坐席|暗号|回复.?\\d{1,3}.?(?:领|获)|主页有|同号"
    "|有意者|飞机联系|纸飞机|电报群|Telegram|telegram|WhatsApp|私我|滴滴我|扫描下方"
    "|长按识别"
)
# Any shop or office has these: they count, but prove nothing.
_WEAK_CONTACT = re.compile(
    "评论区|详询|欢迎咨询|咨询电话|报名电话|联系人|联系电话|欢迎来电"
)
# What no honest offer says; a glossary has 庄家 and 下注, but not 稳赚.
_PROMISE = re.compile(
    "层级不限|资金池认证|配售原始股|账户交给|盈利之?后再?补交|小额测试|稳赚|包赚|必涨"
    "|稳赢|躺赚|躺赢|只赚不赔|只涨不跌|从未(?:出现)?过?.{0,6}亏损|零回撤"
    "|保证(?:收益|盈利|赚)|承诺保本|保底收益|毫无风险|包回本|翻倍牛股|牛股|明日金股"
    "|日赚|日入过万|轻松(?:月入|日赚|赚)|在家(?:就能|可)?赚|秒下款|秒批|包下款|无视征信"
    "|黑户(?:可|也能)|征信(?:修复|洗白|铲单)|洗白征信|先开票后付|代开.{0,10}发票"
    "|收购银行卡|全额?返|永不封顶|每日.{0,4}分红|提款秒到|恭喜您|中奖通知|三倍理赔"
    "|缴纳.{0,12}(?:手续费|保证金|公证费|解冻|税).{0,8}(?:后|即可|方可)"
    "|重新(?:完成)?认证"
    "|解冻.{0,4}保证金|预缴.{0,12}税|开通了商家代理|关闭.{0,8}安全软件|风险为零|内幕票"
    "|成单有奖|发过涨停|精准预测.{0,6}期|翻倍的(?:品种|票|股)|内部(?:渠道|交流群)"
    "|后台渠道"
)
_PRESSURE = re.compile(
    "不要向银行|不得向子女|视为自动放弃|方可退出|只收.{1,4}人|关闭来电|开放.{1,4}个名额"
    "|名额(?:剩|有限|仅|只剩)|满员即止|仅限前|只限前|限前\\d"
    "|最后.{0,3}(?:名额|机会|\\d席)"
    "|过期不再|逾期(?:未|将|不)|机会只留给|错过|24小时内|即将截止"
    "|已有.{0,12}[位人].{0,4}(?:完成|成功|领取)"
    "|已被预约|闷声发财|内部 ?勿外传|勿外传|不得向.{0,12}打听|请勿转发|勿截图"
    "|懂的人?自然懂|懂的都懂|不方便在|不方便公开|口令找|百分百|绝对真实|真实有效|请放心"
    "|完全免费|不开具发票|统一收取|一天.{0,4}通|先不要着急|绿色通道|仅剩|手慢无|速来"
    "|抓紧(?:时间)?(?:联系|上车|加)|上车|机不可失|保密|不要告诉|国家(?:支持|扶持|秘密)"
    "|当天(?:到账|放款|提现)|秒到账|随时提现|零投入|零门槛|无需经验|人人可做|包教包会"
    "|先付"
)
_WARNING = re.compile(
    "警惕|谨防|防范|骗局|诈骗|受骗|上当|严禁|不得(?!向)|禁止|违法|非法|打击|查处|处罚"
    "|举报|监管|风险提示|犯罪|依法(?!追究当事人)|警方|民警|切勿|陷阱|受害"
    "|被骗|骗子|套路|识别|反诈|报警|涉嫌|判处|千万别|当心|揭秘|揭露|曝光|投诉|起诉|判决"
    "|法院|不要相信|不轻信|提醒|不要(?:点击|转账|透露|加|下载|轻易)|辟谣|谣言"
)
# Words of the police, courts and banks; a swindler who says them says: 不是骗局.
_PLAIN_WARNING = re.compile(
    "谨防|提高警惕|受骗|上当|骗局|诈骗|骗子|被骗|警方|民警|反诈|报警|涉嫌|判处|有期徒刑"
    "|不要轻信|切勿轻信|不要相信|监管部门提醒|风险提示函|受害人|消费者权益日"
)
_DENIAL = re.compile(
    "不是.{0,6}(?:骗|传销|诈骗)|绝非.{0,4}骗|非诈骗|谨防假冒|不骗人|被骗了?找"
)
_ADDRESS = re.compile(
    r"(?<![0-9])1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}(?![0-9])"
    r"|(?:[Qq]{1,2}群?|微信号?)[:： ]{0,2}[A-Za-z0-9_]{6}"
    r"|(?<![A-Za-z])[Vv][Xx]?[:： ]{1,2}[A-Za-z0-9_]{6}"
)
# Spellings that only hide a word from filters: 加薇, 扣裙, 稳💰.
_DISGUISED = re.compile(
    "[加+➕]?(?:薇[❤♥芯信号]|[威徽崴]信(?![号息任]))"
    "|加[ .]?(?:薇|葳|徽(?!章)|威(?![力压])|[❤♥✌🧡💚])"
    "|[佳嘉家咖茄➕][ .]?(?:薇|[vVⓥ](?![A-Za-z])[ .:：信]|❤)"
    "|[vVⓋ][❤♥芯]|扣[裙扣](?![子带])|企鹅[号裙群]|[qQ]裙|卫星(?:同)?号[：: ]"
    "|[稳日月撰赚入]💰|💰[到秒稳]|代[开幵][发潑]飘|开[发潑]飘|菠菜(?:平台|网|代理)"
    "|[bB][cC](?:平台|网站)"
)
_HIDDEN_HINT = re.compile(
    "薇|葳|威信|徽信|崴信|加徽|加威|❤|♥|✌|💚|🧡|芯|扣裙|扣扣|企鹅|Q裙|q裙|卫星|💰|飘"
    "|菠菜|BC|bc|佳[vVⓥ]|嘉[vVⓥ]|家[vVⓥ]|咖[vVⓥ]|茄[vVⓥ]|➕"
)
# 加.V.信, 稳*赚*不*赔: single Han or letters with marks between them.
_MARK = r"[*.·•~|/\\^+=_\-—#@✨🔥💰★☆]"
_SPREAD = re.compile(
    rf"{_MARK}{{1,2}}[\u4e00-\u9fffA-Z](?:{_MARK}{{1,2}}[\u4e00-\u9fffA-Z]){{2,}}"
)
_MARKS = re.compile(f"{_MARK}+")
_CHAIN = re.compile(
    r"转(?:发)?(?:给|到)?.{0,4}(?:\d+|[三五六七八九十两]+|几)个(?:群|人|好友|朋友|微信群)"
    r"|不转(?:发)?(?:不是|就|会|的)|看到(?:了|后)?(?:就|必|请|马上)转"
    r"|转(?:发)?(?:后|了|出去)?.{0,8}(?:好运|平安|发财|有福|积德)"
    r"|火速(?:转|扩)|为了家人.{0,8}转|群发给|转疯了|马上(?:就)?(?:会)?(?:要)?被?删"
    r"|赶紧(?:转|看)|扩散(?:！|出去)|亲测有效|请(?:大家)?(?:转发|扩散)|快转|动动手指"
    r"|功德无量|已(?:经)?应验"
)
_DENSE = 300  # characters a piece of evidence may stand for


def check_harm(text: str) -> Verdict:
    """Drops gambling, fraud and stock-tip solicitation, not text that warns of it."""
    if hidden := _check_disguise(text):
        return hidden
    chained = len(set(_CHAIN.findall(text)))
    if chained >= 2 and chained * 120 >= len(text) and not _is_warning(text, chained):
        return False, f"harm_chain_letter:{chained}"
    return _check_solicitation(text)


def _check_solicitation(text: str) -> Verdict:
    lures = {kind: len(set(p.findall(text))) for kind, p in _LURES.items()}
    total = sum(lures.values())
    if not total:
        return KEEP
    calls = len(set(CONTACT.findall(text))) + bool(_ADDRESS.search(text))
    pressure = len(set(_PRESSURE.findall(text)))
    promises = len(set(_PROMISE.findall(text)))
    weak = len(set(_WEAK_CONTACT.findall(text)))
    found = total + calls + pressure + weak
    solicits = found >= 3 and (
        promises >= 2
        or (promises + calls > 0 and pressure + weak > 0)
        or (total >= 4 and pressure > 0)
        or (calls > 0 and promises + calls + total >= 3)
    )
    dense = found * _DENSE >= len(text)
    if solicits and dense and not _is_warning(text, found):
        worst = max(lures, key=lures.get)
        return False, f"harm_{worst}:{total}+{calls + weak}+{pressure}"
    return KEEP


def _is_warning(text: str, found: int) -> bool:
    """Whether the text warns: as often as it lures, or plainly and with no address."""
    if len(_WARNING.findall(text)) >= found:
        return True
    plain = _PLAIN_WARNING.search(text) and not _DENIAL.search(text)
    return bool(plain) and not _ADDRESS.search(text)


def _check_disguise(text: str) -> Verdict | None:
    """Words spelt so that a filter should not find them."""
    hidden = set()
    if _HIDDEN_HINT.search(text):
        hidden |= {match.group() for match in _DISGUISED.finditer(text)}
    for match in _SPREAD.finditer(text):
        before = text[max(match.start() - 1, 0) : match.start()]
        plain = before + _MARKS.sub("", match.group())
        if any(p.search(plain) for p in (*_LURES.values(), CONTACT)):
            hidden.add(plain)
    if not hidden or _is_warning(text, 2):
        return None
    lures = sum(bool(p.search(text)) for p in (*_LURES.values(), _PRESSURE, CONTACT))
    if len(hidden) + min(lures, 2) >= 2 and len(hidden) * _DENSE >= len(text):
        return False, f"harm_disguised:{len(hidden)}"
    return None
