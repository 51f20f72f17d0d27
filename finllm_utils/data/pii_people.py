"""Names and addresses by their contexts; what only a model could tell is not here.

A name counts after a role (客户, 联系人, 我叫) or before a title (先生) or an identity
number. A surname alone (王先生) stays: it does not identify. Works on the canonical
text of ``pii_view``.
"""

import re
from collections.abc import Iterator

_COMMON = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘蔡蒋"
    "余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范廖石贾韦夏邹孟熊秦邱江尹薛闫段雷侯龙"
    "史陶黎贺顾毛郝龚邵钱严覃武戴莫孔汤康易乔赖樊兰殷施洪翟倪俞章鲁葛伍申尤毕聂焦"
    "邢欧耿岳齐庞辛管祝左涂谷祁舒耶冉岑符柳纪梅凌毋骆霍柯阮缪裴解辜甘牟涂褚娄窦"
    "萧温詹牛柴曲苗甄阚巩寇茹艾宦迟党穆屠邬荆苟晁敖狄蔺姬仝饶阎翁卜蓝隋屈卫苗季鲍尚卞滕华蒲习晏瞿仇桑虞佟柏"
)
_RARE = (
    "安常于傅高金方白万向时应关包全明成宁连古文路单车项米戚宗左景卓游简池佘鞠商丛"
    "桂池满平尧莘贡劳扶步师盖冷丰糜嵇邴荀昝胥郗戎鄂郦雍璩寿扈冀郏浦蔚夔巢蒯竺桓帅亢况墨谯秋卿储战栾童付冼沙刁冷植楼明阳房查闵麦盛庄匡丘宫幸巫粟占莫靳封官燕凤边鄢宿"
)
_DOUBLE = (
    "欧阳|太史|端木|上官|司马|东方|独孤|南宫|万俟|闻人|夏侯|诸葛|尉迟|公羊|赫连|澹台|皇甫"
    "|宗政|濮阳|公冶|太叔|申屠|公孙|慕容|仲孙|钟离|长孙|宇文|司徒|鲜于|司空|闾丘|子车|亓官"
    "|司寇|巫马|公西|颛孙|壤驷|公良|漆雕|乐正|宰父|谷梁|拓跋|夹谷|轩辕|令狐|段干|百里|呼延"
    "|东郭|南门|羊舌|微生|左丘|西门|第五|纳兰|爱新觉罗|完颜|叶赫|那拉"
)
_HAN = "\u4e00-\u9fff㐀-䶿"
# Characters that end or follow a name rather than belong to one.
_NOT_GIVEN = (
    "的了在于与和及或是为被把将向从对给让请说称已未不也都又再就才可能会应须需要该有无"
    "到由按据此其之等每各某该们你我他她它这那哪谁什么吗呢吧啊个位名者人员号码户款额账"
    "卡证件权资产费险价率务业务司部行所局院店网站后前时间日期月次没很更最但而若如因所"
    "均仍还只则去来做过下上里外内收付退换存取缴交买卖投赎办理填写签"
)  # fmt: skip
_TITLES = "先生|女士|小姐|太太|同志|老师|师傅|律师|医生|大夫|经理"
_ACTS = (
    "本人|办理|申请|表示|反映|咨询|投诉|致电|来电|来函|来行|来信|购买|提交|签署|签字|签订|签名|投保|通过"
    "|使用|持有|身份|证件|电话|手机|联系|微信|邮箱|住址|名下|账户|账号|卡号|银行|预约|提出|要求|认购|申购"
    "|赎回|转账|汇款|还款|存入|取款|支取|开户|开立|收到|确认|同意|承诺|授权|委托|负责|出生|生于|今日|今天"
    "|昨日|昨天|明天|今年|去年|前来|前往|近日|日前|因病|女儿|儿子|配偶|丈夫|妻子|父亲|母亲|报案|出险|索赔"
    "|理赔|缴费|缴纳|逾期|拖欠|借款|贷款|填写|登记|登录|注册|发起|完成|查询|领取|告诉|告知|回复|留言"
    "|留下|预留|提供|补充|更正|变更|修改|担任|对接|跟进|受理|处理|审核|审批|签收|复核|核实|核对|回访"
    "|拜访|陪同|介绍|推荐|抵押|质押|到店|到访|亲自|代为|共同|经核|因病|应当|可以|想|问|刚|认|一直|自己|主动|能够|需要|必须|没有|不服|不在"
    "|已经|已于|尚未|曾经|曾于|最近|目前|现在|以及|经常|打算|准备|希望|认为|觉得|发现|发来|寄来|拨打|接听"
)
# What follows a name. The first part ends any name; the rest may also be a part of one.
_HARD = re.compile(rf"$|[^{_HAN}·]|{_TITLES}")
_ACT = re.compile(_ACTS)
_FOLLOW_RE = re.compile(
    rf"$|[^{_HAN}·]|{_TITLES}|{_ACTS}"
    "|[的在于与和及或是为被把将向从对给让请说称已未不也都又再就可会应须需有到由按因以等其后前则若曾拟共即"
    "均现来去至自经并持住男女收接亲代年办寄发打拿父母想要问刚很还用买卖看找带欠交签求愿急多主直每]"
)
_AFTER_DOTTED = re.compile(
    rf"$|[^{_HAN}·]|{_TITLES}|{_ACTS}|[的在于与和及或是为被把将向从请说称已未也又]"
)
_SURNAME = f"(?:{_DOUBLE}|[{_COMMON}])"
_ANY_SURNAME = f"(?:{_DOUBLE}|[{_COMMON}{_RARE}])"
_GIVEN = f"[{_HAN}]"
_DOTTED = rf"(?:(?![的是为被在称叫])[{_HAN}]){{2,8}}(?:·[{_HAN}]{{2,8}}){{1,2}}"

_ROLES = (
    "联系人|收件人|收货人|寄件人|发件人|申请人|投保人|被保险人|被保人|受益人|经办人|借款人"
    "|贷款人|担保人|保证人|抵押人|出质人|开户人|户主|持卡人|法定代表人|法人代表|法人|负责人"
    "|委托人|受托人|代理人|代办人|业务员|理财经理|客户经理|投资者|投资人|当事人|原告|被告"
    "|上诉人|被上诉人|第三人|患者|病人|学生|学员|家长|考生|员工|职员|同事|租客|房东|业主|车主"
    "|驾驶员|驾驶人|司机|乘客|旅客|买家|卖家|买方|卖方|用户|会员|亲属|配偶|丈夫|妻子|父亲|母亲"
    "|儿子|女儿|报案人|出租人|承租人|转让人|受让人|出借人|汇款人|收款人|付款人|签收人|审核人"
    "|复核人|制表人|承办人|办理人|来电人|投诉人|举报人|授权人|被授权人|监护人|继承人|客户"
    "|顾客|储户|股民|居民|村民|市民|股东|保单持有人|存款人|纳税人|报名人|推荐人|介绍人|证明人"
    "|主治医生|机主|复核|审核|制单|会计|出纳|甲方|乙方|丙方|班主任|顾问|专员|柜员|坐席|客服|老板|朋友"
)
_LABELS = r"姓 *名|名 *字|户 *名|账户名|账户名称|客户名称|签名|签字|署名|全名|真名|称呼"
_SAID = (
    "我叫|名叫|我是|本人是|本人|我名字叫|我的名字是|叫做|姓名是|姓名为|户名是|户名为"
)
_LABELLED = re.compile(
    rf"(?:{_ROLES}|{_LABELS})(?:的?(?:{_LABELS}))?(?:\([^()\n]{{1,8}}\))?"
    rf" ?(?:[:|=]|是|为|叫) ?[\[\"“「*]?"
    rf"(?P<value>{_ANY_SURNAME}{_GIVEN}{{1,2}}|{_DOTTED})"
)
_SPACED = re.compile(  # a short name stretched to the width of a long one in a form
    rf"(?:{_ROLES}|{_LABELS})(?:\([^()\n]{{1,8}}\))? ?[:|] ?"
    rf"(?P<value>{_SURNAME} {{1,2}}{_GIVEN})(?![{_HAN}])"
)
_NEXT = re.compile(rf"[、和与及](?={_SURNAME}{_GIVEN})")
_DIRECT = re.compile(
    rf"(?:{_ROLES}|{_LABELS}|{_SAID}|尊敬的|亲爱的)"
    rf"[ (]?(?P<value>{_SURNAME}{_GIVEN}{{1,2}}|{_DOTTED})"
)
# Words that begin like a name: they follow a role as often as a name does.
_WORDS = re.compile(
    "江苏|江西|江南|徐州|郑州|温州|苏州|柳州|兰州|滕州|沈阳|武汉|成都|程序|程度|严格|严重|严禁|季[度节报]"
    "|黄[金山河]|余[额款下数]|石[油化材]|马[上路来]|卫[生星]|毛[利病]|尤其|何[时种处况以]|管[理道]|祝[福愿]"
    "|解[除释决约答散]|温[度馨暖]|康复|易[于被]|焦[点虑]|齐全|童[年装]|谢[谢绝]|许[多可]|陆[续军]|曾经"
    "|施[工行加]|周[边末转期围年一二三四五六日]|洪[水灾]|夏[季天]|史[上料]|顾[客问及虑]|雷[电达]|龙[头卡]"
    "|段落|钱[包款财都]|章[程节]|凌晨|华[夏为东南北中]|习[惯俗]|符[合号]|纪[录念律要]|舒[适服]"
    "|申[请报购诉领明]|陶瓷|蓝[色筹]|武[器警]|林[业木]|韩[国元币]|杜绝|任[何意职务期]|范[围畴]|付[款清息费]"
    "|熊市|黎明|赖以|毕[业竟]|欧[元洲盟]|庞大|辛苦|谷物|甘愿|牟利|胡同|孙[子女]|罗列|郑重|田地|董[事秘]"
    "|张[贴口力]|万[元一]|常[见用]|安[全排]|高[于级额端管]|方[便式面]|全[部体额]|关[于系联]|时[间候]|明[确细]|成[本功立]"
    "|金[额融]|牛[市年奶]|曲[线折]|党[员委派的]|艾滋|迟[延早到]|平[安台均时仓]|满[意期足]|师[傅资]|丰[富厚]|明白|关键|明智|房[东地产屋]|高达|成年|严[厉峻密]|陈[述列旧]|查[明询证]|童工|任[执本]|段取|解放|付[出钱]|范[文例]"
    "|包[括含]|项目|单[位独]|白[天色]|应[当该]|古[代典]|路[线上]|文[件字]|车[辆牌]|商[品户务业]|计划|连续"
)
_TITLE = re.compile(r"先生|女士|小姐|太太|师傅|律师|大夫|老师")
_PERSON_DATA = re.compile(  # the name stands at the head of a clause
    rf"[^{_HAN}a-z·](?P<value>{_SURNAME}{_GIVEN}{{1,2}}|{_DOTTED})"
    r"(?= ?[,，、(:]? ?(?:的?身份证|的?公民身份|的?手机|的?电话|的?联系电话|的?联系方式"
    r"|的?微信|[男女](?:[,，、;)]|$)))"
)
HAN, RARE_SURNAMES = _HAN, _RARE
SURNAME_HEADS = _COMMON + "".join(sorted({name[0] for name in _DOUBLE.split("|")}))
ROLES_AND_LABELS = f"{_ROLES}|{_LABELS}|{_SAID}|尊敬的|亲爱的"

_LEFT = "谢的由与和及跟同请为向给对叫是让把将被因找联致感谢问悉户人者员友"


def find_names(text: str) -> Iterator[tuple[int, int]]:
    """(begin, end) of names in context; the spans of different contexts may overlap."""
    for match in _LABELLED.finditer(text):
        begin = match.start("value")
        end = _name_end(text, begin, _ANY_SURNAME_RE)
        # "是明智的" follows a role as well: here a rare surname needs a full name.
        doubtful = text[begin - 1] in "是为叫" and text[begin] in _RARE
        if not (doubtful and (end - begin < 3 or not _HARD.match(text, end))):
            yield from _name_list(text, begin, end)
    for match in _DIRECT.finditer(text):
        begin = match.start("value")
        yield from _name_list(text, begin, _name_end(text, begin, _SURNAME_RE))
    for match in _SPACED.finditer(text):
        yield match.span("value")
    for match in _PERSON_DATA.finditer("\n" + text):
        begin = match.start("value") - 1
        if end := _name_end(text, begin, _SURNAME_RE):
            yield begin, end
    for match in _TITLE.finditer(text):
        begin = _name_begin(text, match.start(), match.group() in _COURTESIES)
        if begin >= 0:
            yield begin, match.start()


def _name_list(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """A name and those that are listed after it: 张伟、李娜和王芳."""
    while end:
        yield begin, end
        following = _NEXT.match(text, end)
        begin = following.end() if following else end
        end = _name_end(text, begin, _SURNAME_RE) if following else 0


_SURNAME_RE, _ANY_SURNAME_RE = re.compile(_SURNAME), re.compile(_ANY_SURNAME)
_DOTTED_RE = re.compile(_DOTTED)


def _name_end(text: str, begin: int, surnames: re.Pattern) -> int:
    """Where the name that begins at ``begin`` ends, or 0 if it is none.

    Two given characters before one, unless the second begins a word that follows
    names (赵敏|申请).
    """
    if dotted := _DOTTED_RE.match(text, begin):
        return _dotted_end(text, dotted)
    surname = surnames.match(text, begin)
    if (
        not surname
        or _WORDS.match(text, begin)
        or _TITLE_ONLY.match(text, surname.end())
    ):
        return 0
    first = surname.end()
    for size in (1, 2) if _ACT.match(text, first + 1) else (2, 1):
        end = first + size
        given = text[first:end]
        if len(given) < size or not _IS_HAN.fullmatch(given):
            continue
        closed = _HARD.match(text, end) or _ACT.match(text, end)
        if given[-1] in _NOT_GIVEN and not closed:
            continue
        if any(c in _NEVER_GIVEN for c in given) or not _FOLLOW_RE.match(text, end):
            continue
        return end
    return 0


# 苏女士, 薛经理: a surname alone identifies nobody.
_TITLE_ONLY = re.compile(
    f"{_TITLES}|秘书|主任|行长|主管|专员|总监|总[^\u4e00-\u9fff]|某|姓|氏"
)
_IS_HAN = re.compile(f"[{_HAN}]+")
_NEVER_GIVEN = (
    "的了在于与及或是被将从给让请说称已未不也又再就才会须该由按据此等每各某们你我他她它"
    "这那哪谁什么吗呢吧啊个位者员号码户款额账卡证险价率务部司店后前期没很最但而若还只则去做"
    "过退换缴买卖填写签"
)


def _dotted_end(text: str, match: re.Match) -> int:
    last = match.start() + match.group().rindex("·") + 1
    for end in range(last + 2, match.end() + 1):
        if _AFTER_DOTTED.match(text, end):
            return end
    end = last
    while end < match.end() and text[end] in _TRANSCRIBED:
        end += 1
    return end if end >= last + 2 else 0


# Characters that transcribe Uygur, Kazakh, Tibetan and Mongol names.
_TRANSCRIBED = (
    "买提吐尔逊江古丽阿不都热西木依拉艾合麦迪力巴克别孜万帕塔玛肉苏莱曼卡德亚森沙努斯卜比哈萨米吉伊"
    "布欣托赛甫图尼娜扎夏罕汗姆罗洛桑次仁卓旺堆多平措央金丹增达瓦边普加措里恰坎居马洪帖穆铁日嘎勒其"
    "乌云格根宝音呼和那仁朝鲁额敏热依木艾力肖开提祖农太来海提排孜"
)


_COURTESIES = ("先生", "女士", "小姐", "太太")
_DOTTED_END = re.compile(f"{_DOTTED}$")
_LEFT_OF_DOTTED = re.compile(rf".*[{_LEFT}](?=[{_HAN}]{{2,}}·)")


def _name_begin(text: str, end: int, courtesy: bool) -> int:
    """Where the name that ends at ``end``, before a title, begins, or -1.

    Before a job (律师) the name must stand free: 取得律师 is no name.
    """
    stretch = text[max(0, end - 20) : end]
    if dotted := _DOTTED_END.search(stretch):
        head = _LEFT_OF_DOTTED.match(dotted.group())
        return end - len(dotted.group()) + (head.end() if head else 0)
    for size in (4, 3):
        if _DOUBLE_NAME.fullmatch(stretch[-size:]):
            return end - size
    last = stretch[-3:]
    if not _IS_HAN.fullmatch(last[-2:]) or last[-1] in _NEVER_GIVEN + "老大小":
        return -1
    thanks = r"[感多答致谢]谢"
    if (
        len(last) == 3
        and _is_free(stretch[-4:-3])
        and not re.match(thanks, stretch[-4:])
    ):
        if _is_name(last, _ANY_SURNAME_RE if courtesy else _SURNAME_RE):
            return end - 3
    two = _is_name(last[-2:], _SURNAME_RE) and not re.match(thanks, last)
    if two and (courtesy or _is_free(last[:1])):
        return end - 2
    if courtesy and not re.match(thanks, stretch[-4:]) and _is_name(last, _SURNAME_RE):
        return end - 3
    return -1


_DOUBLE_NAME = re.compile(rf"(?:{_DOUBLE})[{_HAN}]{{1,2}}")


def _is_name(word: str, surnames: re.Pattern) -> bool:
    given = word[1:]
    free = bool(surnames.match(word)) and not _WORDS.match(word)
    return free and bool(given) and not any(c in _NEVER_GIVEN for c in given)


def _is_free(before: str) -> bool:
    """Whether a name can begin after this character."""
    return not before or not _IS_HAN.match(before) or before in _LEFT
