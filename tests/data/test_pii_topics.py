"""Accounts, passports and names far from any label, and what looks like them."""

import pytest

from finllm_utils.data.pii import find_pii
from finllm_utils.data.pii_known import NAMESAKES
from tests.data.test_pii import check_marked

QQ = r"""我QQ还是上学时候那个，你记得吧，<qq:32135963>，头像是皮卡丘
A：你QQ多少\nB：<qq:384494724>
你的Q多少来着？\n<qq:3035887>\n好嘞
有没有一起备考的，Q我<qq:375266946>，每天打卡
有偿求答案，扣<qq:326849>，急
<qq:69702084>，加这个扣扣，我把表格传你
微信和QQ同号：<qq:517470123>，加哪个都行
网上贷款的让我加他QQ，我加了<qq:58723288>，先交了会员费
社团QQ：<name:张伟强><qq:73217369>，<name:李芳芳><qq:44798380>
QQ空间访客破100000了，发个朋友圈庆祝
QQ音乐会员到期，自动续费，订单尾号20483，不想续的在设置里关
QQ浏览器报错代码 200053，重装后恢复
群里有人问QQ能不能登，等了306123毫秒都没反应
QQ上说好的，转账给他 58000 元，付款时间20240315"""

WECHAT = """拉我进群呗，<wechat:yunshan565993>，群里是不是有团购
私聊我吧，<wechat:nanfeng_xiaohe26>这个号一直在线
体验课报名戳她 <wechat:sunny_lvxing75> 报名，报我名字打九折
姐，新号<wechat:zhouzhou-chenmo>，旧号登不上了，通过一下我
又让我联系“导师”<wechat:linyu_lvxing36>，说能解冻账户
新店开业，预约请+<wechat:dashu-linyu>，报暗号打折
微信版本过低，渠道号beta_2024不支持，加好友上限为五百人
你扫不上就直接输<wechat:lvxing6672>找我
加好友时提示系统错误err_10086，重启app_v8就好了
加<wechat:q226436linyu>反而秒回，座机总占线
微信群公告：团购苹果，编号pg-2024a，接龙报数
亲，满减券码是FX-52K7-Q3TT，联系客服也能领
私聊机器人输入help_me2即可查看菜单
账单导出后文件名是wechat_bill_2024，用微信打开就行"""

PASSPORTS = """机票出好了吗？旧本子过期了，新的是<passport:PE8339354>，赶紧改
我的订单截图上写着<passport:EA435 2645>，拒绝我登机没有道理
办签证那个表上证件号我填的<passport:EE3549314>，你核对一下
外籍客人入住时出示的是<passport:TH 1696916>，已上传
外籍客人入住时出示的是<passport:M67274819>，已上传
国家码/Country CHN　号码/No. <passport:ES8002158>
1208房，早餐两份，<passport:EY3001113>
客户持<passport:e12345678>来行开户
设备面板闪烁E20231105，请断电后重启
打印机卡纸报E05120033，换硒鼓型号G2100X
行李转盘G12345678号标签丢失，入境旅客请到柜台
酒店入住系统升级，版本号g20240518
积分商城的旅行箱货号E30291847，签收后七日内可退
M67274819这批传感器已经到货，请客户尽快签收"""

NAMES = r"""债务人<name:戴峰>自逾期以来失联四十二天
用户<name:严明媛>人脸识别连续失败，账户已锁定
课程顾问<name:吴梁艳>之账号（微信号见附件）仅用于发送通知
法定代表人也换成了<name:秦琳>。准备起诉的邻居一起吧
<name:钱栋爽>|前端开发|五年经验|随时到岗
被保险人驾车与<name:高磊琼>所驾车辆发生碰撞，双方投保
@<name:吕月明> 麻烦看下昨天的报表，数据对不上
今日外访<name:岳芸>家，大门紧锁，失联已久
租户<name:谢宇>深夜装修扰民，楼下投诉
柜员<name:齐明月>全程不抬头，我要投诉
<name:高露纯>\n求职意向：会计\n电话见附件
新来的<name:潘珊昊>今天报到，由<name:邹芳秋>带教，同事请欢迎
我找了<name:薄馨>三次，每次都说<name:唐晓彬>不在，要投诉
<name:夏羽颖> 3床 青霉素过敏 患者家属在场
患者<name:黄姬>主诉头痛三天，住院观察
去往曲阜、邹城、滕州的车辆请提前绕行，联系电话见附件
易方达、华安两家管理人的合同已收齐，客户经理复核
坐席：那进件清单我发您邮箱上行吗？客户：行
经查企业征信，未结清授信余额为零
业务一部、二部客户名单：\n请于周五前反馈意见
更换手机号以后，存款要转换成一生的保障"""

OTHERS = """卡寄到单位吗？客户：寄<address:道里区晴麓路47号澜庭苑23号楼803室>。坐席：好的
甲方自愿将<address:新城区望禾大道179号10号楼2701室>房屋一套出售给乙方
甲方自愿将房屋一套出售给乙方，房款分三期
先是<mobile:1833 801 4126>打来，挂了又打
最终归集至<bank_card:9555123456789015>，每笔略低于五万元
最终归集至总行，批次9555123456789016略低
请拨1833-801-4126，北美免费
通讯录：手机<mobile:17698629534> QQ<qq:86791319> 备用"""


def lines(block: str) -> list[str]:
    """One case a line; a written-out backslash n is the end of a line in it."""
    return [line.replace("\\n", "\n") for line in block.split("\n")]


@pytest.mark.parametrize("marked", lines(QQ))
def test_qq_numbers_where_qq_was_spoken_of_last(marked):
    check_marked(marked)


@pytest.mark.parametrize("marked", lines(WECHAT))
def test_wechat_accounts_in_talk_of_friends(marked):
    check_marked(marked)


@pytest.mark.parametrize("marked", lines(PASSPORTS))
def test_passports_of_travellers_and_codes_of_things(marked):
    check_marked(marked)


@pytest.mark.parametrize("marked", lines(NAMES))
def test_names_and_the_words_that_end_them(marked):
    check_marked(marked)


@pytest.mark.parametrize("marked", lines(OTHERS))
def test_addresses_and_numbers_beside_other_words(marked):
    check_marked(marked)


def test_a_topic_far_away_announces_nothing():
    filler = "这里说的是别的事情。" * 30
    assert find_pii(f"你QQ多少？{filler}一共来了32135963次") == []
    assert find_pii(f"私聊我。{filler}变量是yunshan565993") == []


def test_namesakes_are_kept_in_lists_but_not_behind_a_label():
    assert {"邹城", "华安", "易方达"} <= NAMESAKES
    assert find_pii("借款人：华安，身份证见附件")[0].kind == "name"
