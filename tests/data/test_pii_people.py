"""Names and addresses in context: where they begin, where they end, what stays."""

import pytest

from finllm_utils.data.pii import find_pii
from tests.data.test_pii import check_marked

NAMES = """客户<name:张伟>于2024年办理
客户<name:李娜>致电咨询
联系人：<name:王小明>，
联系人<name:欧阳明月>，
投保人<name:司马光>已缴费
投保人<name:慕容雪>，被保险人<name:林平之>因病住院
申请人<name:赵敏>申请贷款
申请人姓名<name:霍青桐>
经办人：<name:陈刚>
经办人签字：<name:穆念慈>
联系人（<name:郭靖>）
受益人是<name:杨康>
联系人为<name:方大同>。
法定代表人：<name:安志远>
姓名：<name:高圆圆>
姓 名：<name:李 明>
| 姓名 | <name:张伟> |
收件人：<name:上官婉儿> <mobile:13800138000>
我叫<name:周杰>，
我是<name:郑成功>。
持卡人<name:吴昊>名下
客户<name:李向东>来电
客户<name:王明>明天来
申请人<name:张伟>、<name:李娜>和<name:王芳>到场
业务员<name:段誉>向客户<name:王语嫣>介绍
感谢<name:张伟>先生的支持
尊敬的<name:李静怡>女士：
<name:诸葛孔明>先生
请<name:刘洋>女士到柜台
被保险人：<name:阿依古丽·买买提>，
客户<name:买买提·吐尔逊>办理业务
<name:迪丽热巴·迪力木拉提>女士
<name:阿卜杜拉•艾合买提>先生来电
客户<name:巴图‧孟和>申请贷款
<name:张三>，男，
<name:李四>（身份证号：<id_card:11010519491231002X>）
客户<name:张\u200b伟>来电
经办柜员：<name:周涛>，复核：<name:何炅>
致电<name:萧敬腾>先生
投保人<name:岳灵珊>要求退保，客户<name:张无忌>想了解
您好，请问是<name:周慧敏>女士吗
向<name:陈晓东>转账200元
获奖名单：一等奖<name:李明月>；二等奖<name:王海燕>、<name:张国强>
原告<name:孙丽华>与被告<name:赵建军>民间借贷纠纷一案
甲方（出租方）：<name:钱小芳>　乙方（承租方）：<name:吴志刚>
姓　名：<name:郑海涛>　　性别：男
本人<name:冯玉兰>，在贵行开户
感谢网点的<name:沈佳怡>大姐，帮我妈妈办好了
紧急联系人：<name:韩梅梅>（关系：姐妹）
我儿子<name:杨子航>的保单还没到
由<name:何俊杰>办理，<name:何俊杰>已签字
请转告<name:罗文静>，<name:罗文静>的账户已解冻
借款人<name:阿依古丽·买买提>，担保人<name:格桑卓玛>
尊敬的<name:司徒静怡>客户，您的保单即将到期
联系人：<name:林李嘉欣>，
<name:唐国栋>，身份证号<id_card:11010519491231002X>
见证人：<name:薛冬梅>
抄送<name:周涛>；请财务部<name:江雨桐>于周五前回复，附客户合同
经查，<name:何美玲>将贷款转入<name:苏春梅>账户
班级名单：1. <name:秦海涛> 2. <name:叶欣怡>
今收到<name:任志强>交来房租，押金另付
贫困生<name:邱浩然>的助学金已到账
客户<name:李宁>，手机<mobile:13912345678>，约好明天来
尊敬的<name:李宁>先生，您的信用卡账单已出
请<name:张小泉>来柜台签字办理贷款手续
投保人<name:李宁>申请理赔
客户<name:雷军>，手机号<mobile:13912345678>
会议纪要：<name:葛思远>汇报了不良贷款，<name:裴俊杰>补充发言"""

NO_NAMES = """王先生、李女士、张经理、老先生、各位先生
联系人薛经理，客户苏女士，财富顾问林老师，联系人：贺秘书
客户关系、客户应当、申请人应于10日内提交、客户时间、客户程序、客户余额
客户江苏分公司，客户周末办理，用户任何操作，投资者季度报告，用户何时到账
法定代表人变更，负责人签字，客户温馨提示，客户黄金积存，客户马上，客户：明白
保护妇女儿童工作，取得律师执业证书，当事人陈述，受益人是关键，最好是明智的
客户满意度、联系人信息、客户张力、女士优先、律师事务所、感谢老师
投保人高达25倍，被保险人为查明事故，承租人是房东
客户和申请人、投保人和被保险人、本人王
鲁迅先生说过，亚当·斯密的《国富论》，马寅初. 通货新论[M]. 北京：商务印书馆
我买了李宁的股票，孩子用的是康博的电脑，客户购买平安保险后联系平安客服
马云先生表示看好，张小泉的剪刀很好用
李宁专卖店换季打折，方正证券、张江高科都是公司的简称
我建议新手先看格雷厄姆和林奇的书
债务人向第三人履行，注册会计师协会，消费者权益保护，向受益人支付费用
会员利益、股东权利、被保险人年龄、客户查阅资料、与您的保险业专员谈谈
新华社北京1月1日电 国务院总理王建国、外交部长李国华会见代表团，记者张明报道全国群众的革命历史
江苏客户于是放弃，高收益的理财成本不低，方便您白天办理贷款
全额还款后，金卡客户安心等待，任何投诉请登记，马上答复
王国相（女）、王智琼（女）、王德炳、刘金荣（女）、刘是龙、王海容（女）"""

ADDRESSES = """家住<address:北京市朝阳区望京街道阜通东大街6号院3号楼1502>。
地址：<address:浙江省杭州市西湖区文三路123号>
地址：<address:浙江省杭州市西湖区文三路１２３号>
住址为<address:广东省深圳市南山区科技园南区T3栋801室>，
我住在<address:杭州市西湖区文三路123号蓝鲸花园5栋2单元601室>，
收货地址：<address:江苏省南京市鼓楼区中山北路200号3幢502>
家庭住址：<address:四川省成都市武侯区人民南路四段11号>
家住<address:湖南省长沙市岳麓区麓山南路麓山小区三号楼二单元五〇一室>
住<address:幸福小区12-3-402>
住在<address:天河区体育西路111号建和中心A座1801>
户籍地址<address:山东省济宁市曲阜市陵城镇西街村12号>
请寄<address:北京市海淀区中关村南大街5号>收
支行由<address:湖滨路18号>迁至<address:文澜街207号>营业
家住<address:江苏省仪征市解放路>的老人
租住于<address:合肥市蜀山区长江西路200号翡翠花园12栋1单元202室>
地址是<address:广州市天河区珠江新城华夏路10号富力中心23楼2301室>。
地址填的是<address:陕西省西安市雁塔区小寨东路11号院2-1-301>
寄到<address:浙江省宁波市鄞州区四明中路999号>，收件人<name:赵雪>，电话<mobile:13912345678>
寄往<address:Room 803, 9号楼, 鹤汀东路129号, 鄞州区, 宁波市>，谢谢
地址：<address:内蒙古自治区通辽市奈曼旗查干淖苏木乌兰敖包嘎查38号>，
来我家（<address:哈尔滨市南岗区漱石巷195-6号锦鹿花园21栋C座404房>）
住址：<address:三台县松坪乡上坞村第七村民小组27号>。
房源为<address:大连市金州区白榆里397号枫林雅居D座1904室>。
家住<address:云岭一期15幢1单元404室>，
收件人 <mobile:13800138000> <address:江夏区听雪街308-5号5号楼4单元1601室>，"""

NO_ADDRESSES = """北京市朝阳区、上海市、浙江省杭州市、长三角地区
地铁10号线、1号店、5号楼、3号文件、主席令第37号、5楼会议室
中山路、解放路上、长江路、一带一路5号、路演、街道办
湖南省煤炭系统共筹资600多万元，扶持贫困职工家庭3557户
《证券法》第五条，第三章第二节，北京市第一中级人民法院"""


@pytest.mark.parametrize("marked", NAMES.split("\n"))
def test_names_in_context(marked):
    check_marked(marked)


@pytest.mark.parametrize("marked", ADDRESSES.split("\n"))
def test_addresses_from_region_to_room(marked):
    check_marked(marked)


@pytest.mark.parametrize("text", [*NO_NAMES.split("\n"), *NO_ADDRESSES.split("\n")])
def test_words_that_look_like_names_or_addresses_stay(text):
    assert find_pii(text) == []


def test_a_surname_alone_is_kept_and_a_full_name_is_not():
    assert find_pii("王先生说") == []
    assert [s.kind for s in find_pii("王建国先生说")] == ["name"]


def test_news_keeps_its_names_and_a_telephone_beside_one_does_not():
    news = (
        "新华社记者报道，全国劳模表彰大会昨日举行，主席会见代表。群众和干部参加。" * 9
    )
    assert find_pii(news + "司机周勇从南阳回到家乡。") == []
    found = find_pii(news + "联系人周勇强，电话13800138000。")
    assert [s.kind for s in found] == ["name", "mobile"]


def test_a_name_found_once_is_masked_everywhere():
    text = "借款人赵敏华申请贷款。经核查，赵敏华无逾期；至于赵敏华集团，与本案无关。"
    spans = find_pii(text)
    assert [text[s.start : s.end] for s in spans] == ["赵敏华", "赵敏华"]
