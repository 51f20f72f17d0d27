"""Names, accounts and cards that no label announces, and ordinary text that stays."""

import pytest

from finllm_utils.data.pii import find_pii
from finllm_utils.data.pii_cues import PRIVATE
from finllm_utils.data.pii_passage import MATTER
from tests.data.test_pii import check_marked

NAMES = """理财师　<name:葛春山>于面访后出具意见：风险等级为稳健型
养殖户<name:范敬之>存栏生猪三百头，抵押充足
养殖户、个体户均可申请贷款，额度最高三十万元
判令<name:陈馨青>偿还<name:萧香浩>借款本金五万元
判令被告于判决生效之日起十日内偿还借款
坐席：稍等，我帮您转接<name:倪志强>。客户：好的
坐席：稍等，我帮您转接柜台。客户：好的
客户经理<name:庄芬>、<name:屠杰>双人上门核实，合同已签字
客户经理、大堂经理双人上门核实，合同已签字
主持人<name:樊刚>通报上月逾期情况
家庭成员：父<name:竺娟>，母<name:贺寒秀>，妹<name:殷刚>
家庭成员：父母、配偶、子女共五人，已还款
请<name:姜来福>、<name:林知远>、<name:卫滢文>于周五参加贷审会
请借款人、担保人、见证人于周五到支行签字
附言：还<name:倪志远>钱，转账成功
周一例会，周二培训，周三走访客户，周五报送清单
销售人员承诺保本，<name:舒茗>至今没有给我任何说法
领款人<name:吴志强>（代领：<name:任珊>）实领三百元，已签字
我爱人是<name:周建国>，贷款是他办的
农户<name:乌兰其木格>家有羊二百余只，还款来源有保障
果农<name:阿依古丽·买买提>今年收成好，提前还款两万
债务人<name:苏和>承诺本周五前归还欠款
江苏和浙江的客户可以还款，双方都签字
借款人<name:莫　宜>与担保人系同村邻居
财务负责人<name:买买提•达吾提>通过柜台提交贷款材料
甲方（出借人）：<name:时玉哲>，身份证号见附件
请在到期时间之前还款，时候不早了，转账请尽快"""

ACCOUNTS = """薇❤<wechat:lanjing88>，秒批额度
薇芯：<wechat:lanjing_88>
我爱❤lanjing88
微信 <wechat:lanhaijing>，备注姓名
微信 official account，微信 Business 版
客服微信→<wechat:wxid_qi34pfee2s8xsf>
坐席：您的微信号方便留一下吗？客户：可以，<wechat:moyu568>，中间没有空格
微信支付多少钱？客户：可以，dingdan568
有意者加<wechat:xiaohe-chenmo>（微信）
扫不了码就手动搜<wechat:nanfeng-qingwu>，头像是猫
手动搜part-time，职位很多
有事微我 <wechat:moyu_505>
邮箱<email:zhangsan点example点com>，谢谢
邮箱<email:zhangsan圈a example点com>，谢谢
发邮件到<email:zhang_at_example.com>即可
邮箱 <email:zhangsan example.com>，谢谢
邮箱登录请打开 www.example.com 页面
发邮件找我要：<email:wang_cn#example.cn>（把#换成@）
卡号<bank_card:6222,0210,0011,2233,449>，请查收
卡号<bank_card:6222/0210/0011/2233/449>，请查收
编号1234,5678,9012,3456，合计6222,0210元
走访<address:曹县禾塘镇柳溪村杉树湾屯57号>，户主在家
教练车<license_plate:吉M六零六四学>离合太高"""


@pytest.mark.parametrize("marked", NAMES.split("\n"))
def test_names_of_private_passages_and_words_that_stay(marked):
    check_marked(marked)


@pytest.mark.parametrize("marked", ACCOUNTS.split("\n"))
def test_accounts_and_cards_written_to_be_found_by_people_only(marked):
    check_marked(marked)


def test_a_public_passage_keeps_what_a_private_one_masks():
    assert find_pii("养殖户范敬之受到全国劳模表彰，记者采访了解放军战士和群众。") == []


def test_the_fast_pattern_finds_the_first_word_that_fits():
    assert MATTER.findall("客户经理请借款人还款") == ["客户", "经理", "借款", "还款"]
    assert all(MATTER.search(word) for word in PRIVATE)
    assert MATTER.search("天气很好") is None
