"""Known names that a text cites without meaning a private person.

Public figures, and the counties, funds, firms and brands whose names read like a
surname and a given name. A customer may be called 李宁 as well: what stands beside the
name decides. Used by ``pii_people`` and ``pii_private``.
"""

import re

from finllm_utils.data.pii_cues import COURTESY, RIGHT_NUMBER

# Known from books, news and trade: a mention alone is a citation.
FAMOUS = frozenset(
    "鲁迅 胡适 老舍 巴金 茅盾 冰心 曹禺 孔子 孟子 庄子 老子 荀子 墨子 李白 杜甫"
    " 苏轼 王维 王安石 司马光 司马迁 欧阳修"
    " 诸葛亮 曹操 刘备 关羽 张飞 孙权 周瑜 曹雪芹 罗贯中 施耐庵 吴承恩 蒲松龄"
    " 毛泽东 周恩来 邓小平 孙中山 蒋介石 江泽民"
    " 胡锦涛 习近平 李克强 温家宝 朱镕基 李鹏 马云 马化腾 任正非 雷军 王健林"
    " 李嘉诚 刘强东 张一鸣 李彦宏 丁磊 黄峥 王石"
    " 董明珠 柳传志 张瑞敏 曹德旺 宗庆后 史玉柱 姚明 刘翔 成龙 李小龙 李连杰"
    " 马寅初 厉以宁 吴敬琏 林毅夫 周小川 易纲"
    " 刘鹤 张维迎 陈云 陈寅恪 梁启超 康有为 谭嗣同 严复 蔡元培 陈独秀 李大钊"
    " 闻一多 朱自清 钱锺书 钱钟书 杨绛 季羡林"
    " 费孝通 顾准 孙冶方 薛暮桥 王亚南 郭大力 张五常 林奇 格雷厄姆 巴菲特 芒格"
    " 索罗斯 凯恩斯 马克思 恩格斯 列宁 斯密"
    " 李商隐 白居易 范仲淹 范蠡 吕不韦 商鞅 管仲 秦始皇 刘邦 项羽 李世民 朱元璋"
    " 康熙 乾隆 林则徐 张之洞 左宗棠 李鸿章"
    " 曾国藩 胡雪岩 盛宣怀 张謇 陈嘉庚 卢作孚 荣毅仁 霍英东 邵逸夫 金庸 古龙"
    " 琼瑶 三毛 余华 莫言 路遥 贾平凹 王小波"
    " 刘慈欣 余秋雨 周作人 沈从文 张爱玲 林语堂 徐志摩 郭沫若 丰子恺 齐白石"
    " 徐悲鸿 张大千 王羲之 颜真卿 柳公权 李时珍"
    " 华佗 张仲景 祖冲之 张衡 沈括 袁隆平 钱学森 邓稼先 华罗庚 陈景润 杨振宁"
    " 李政道 丁肇中 屠呦呦 钟南山 李四光 竺可桢".split()
)
# Counties, districts, funds, listed firms, brands, figures of stories.
NAMESAKES = frozenset(
    """
曲阜 邹城 滕州 龙口 莱阳 莱州 莱西 海阳 乐陵 禹城 高密
高唐 安丘 寿光 章丘 平度 胶州 即墨 宁津 宁阳 夏津 武城
郯城 费县 沂水 沂源 平邑 平阴 商河 阳谷 阳信 莘县 单县
成武 郓城 鄄城 任丘 黄骅 霸州 涿州 安国 高碑店 武安 辛集
晋州 新乐 遵化 迁安 滦州 安平 武强 饶阳 容城 雄县 安新
易县 曲阳 阜平 唐县 满城 徐水 定兴 高阳 沙河 宁晋 柏乡
隆尧 任县 南和 平乡 威县 临西 太仓 江都 姜堰 高邮 仪征
宝应 金坛 溧阳 宜兴 丹阳 扬中 句容 靖江 泰兴 兴化 邳州
新沂 东台 乐清 瑞安 龙泉 江山 诸暨 嵊州 平湖 海宁 桐乡
临海 温岭 玉环 永康 东阳 兰溪 建德 富阳 安吉 桐城 宁国
巢湖 庐江 无为 怀宁 潜山 岳西 明光 天长 界首 和县 萧县
寿县 霍山 霍邱 金寨 舒城 福清 长乐 邵武 武夷 建瓯 建阳
永安 石狮 南安 安溪 永春 德化 龙海 福安 福鼎 霞浦 古田
连江 乐平 瑞昌 贵溪 丰城 樟树 高安 德兴 安福 万安 万年
万载 余干 余江 婺源 武宁 宜丰 靖安 吉水 登封 巩义 新密
荥阳 新郑 偃师 孟州 沁阳 温县 武陟 辉县 卫辉 长垣 林州
汤阴 安阳 舞钢 汝州 禹州 长葛 许昌 邓州 项城 永城 商水
太康 鹿邑 柘城 夏邑 虞城 宁陵 民权 固始 潢川 光山 罗山
大冶 丹江口 宜都 当阳 枝江 老河口 枣阳 宜城 钟祥 应城 安陆
汉川 松滋 石首 洪湖 麻城 武穴 赤壁 浏阳 宁乡 醴陵 湘乡
韶山 耒阳 常宁 武冈 汨罗 临湘 津市 沅江 资兴 洪江 冷水江
涟源 吉首 祁阳 乐昌 南雄 台山 开平 鹤山 恩平 廉江 雷州
吴川 高州 化州 信宜 四会 高要 兴宁 陆丰 阳春 英德 连州
桂平 岑溪 东兴 靖西 宜州 合山 凭祥 北流 简阳 都江堰 彭州
邛崃 崇州 广汉 什邡 绵竹 江油 阆中 华蓥 万源 康定 西昌
仁怀 赤水 清镇 凯里 都匀 福泉 兴义 安宁 宣威 腾冲 水富
楚雄 景洪 大理 芒市 瑞丽 兴平 彬州 韩城 华阴 神木 玉门
敦煌 华亭 灵武 古交 高平 侯马 霍州 永济 河津 汾阳 孝义
介休 原平 房山 延庆 怀柔 密云 顺义 武清 宝坻 宁河 江津
合川 永川 南川 万州 万盛 黄浦 徐汇 长宁 杨浦 青浦 海口
白云 黄埔 花都 番禺 增城 从化 龙岗 龙华 罗湖 福田 宝安
盐田 江宁 江夏 黄陂 汉阳 武昌 洪山 国航 东航 南航 惠普
康博 原价 易方达 华安 富国 嘉实 广发 博时 华夏 汇添富
景顺长城 安信 万家 华宝 华富 金鹰 方正 方正富邦 国泰 国联安
平安 申万 申万宏源 东方红 兴全 兴业 中欧 长城 鹏华 大成
诺安 融通 宝盈 华商 华润 安联 金元 万科 顾家 方太 万和
安踏 李宁 乔丹 鲁花 金龙鱼 金利来 罗莱 安琪 史丹利 康恩贝
马可波罗 王老吉 康师傅 王守义 李子园 李锦记 周黑鸭 周大福
周六福 周大生 周生生 谢瑞麟 马应龙 雷允上 张小泉 王麻子 陈李济
钱大妈 傅山 叶同仁 许留山 谭木匠 谭鸭血 樊文花 林清轩 毛戈平
薇诺娜 蒋涵 史努比 程序员 高德 陆金所 安居客 贝壳 易车 易趣
宋城 方特 华侨城 华强 康佳 康宁 万达 万豪 万国 万向 万华
万全 金蝶 金山 金地 金科 金茂 金隅 高瓴 高盛 高通 高途
宁德 宁波 宁沪 广联达 贝因美 海尔 海信 海康 夏普 曼秀
白云山 石药 云南白药 同花顺 安图 安井 安克 安恒 安硕 易鑫
易居 华为 华硕 华泰 华西 华创 华福 华鑫 向日葵 满江红
祝英台 梁山伯 白素贞 孙悟空 林黛玉 贾宝玉 薛宝钗 王熙凤 武松
宋江 唐僧 包青天 宋慧乔
""".split()
)


def is_known(text: str, begin: int, end: int, is_addressed: bool) -> bool:
    """Whether ``text[begin:end]`` is a known name and nothing speaks for a customer.

    ``is_addressed`` says that the words around treat it as somebody at hand (客户李宁,
    请李宁来签字). A title of courtesy does so for a namesake, not for a public figure
    (鲁迅先生); a private number beside the name does for both.
    """
    name = text[begin:end]
    if name in NAMESAKES:
        is_addressed = is_addressed and text[begin - 1 : begin] not in _NO_ADDRESS
        is_polite = text[end : end + 2] in _POLITE
        return not (is_addressed or is_polite or _has_number(text, end))
    return name in FAMOUS and not _has_number(text, end)


_NO_ADDRESS = frozenset(["", "\n", "是", "为", "、"])
_TELEPHONE = re.compile("[,，、:：(（ ]{1,3}(?:手机|电话)")
_POLITE = frozenset(word for word in COURTESY if len(word) == 2)


def _has_number(text: str, end: int) -> bool:
    return bool(RIGHT_NUMBER.match(text, end) or _TELEPHONE.match(text, end))
