"""Pages of our own making that are no text, and texts that look a little like them."""

import pytest

from finllm_utils.data.filter_pages import check_page
from finllm_utils.data.filters import check_boilerplate

CLEAN = (
    "久期衡量债券价格对利率变化的敏感程度。利率上升时，债券价格下降；久期越长，"
    "下降得越多。投资者可以用久期来估计组合在利率变动一个百分点时大约亏损多少，"
    "并据此决定是否缩短持有的期限。需要记住的是，久期只是一次近似。"
)
PAGES = {
    "error_page": [
        "404错误\n抱歉，您访问的页面不存在或者已经被删除，系统将在五秒之后自动跳转，请返回主页继续浏览。",
        "请开启JavaScript后继续浏览。\n为了保障访问安全，请拖动滑块完成验证，如有疑问请联系网站管理员。",
        "您的访问过于频繁，请稍后再试。当前IP地址异常，如需继续访问，请输入验证码之后提交。",
    ],
    "cookie_notice": [
        "我们使用Cookie来改善您的体验。您可以选择接受全部或者拒绝全部，也可以管理偏好。继续浏览即表示您同意我们的Cookie政策。",
    ],
    "advertisement": [
        "爆款冬季羽绒被限时特价，下单立减五十元，全国包邮，库存有限，手慢无，点击购买领取优惠券！",
        "复制这段口令打开手机淘宝，券后到手价只要九块九，买一送一，数量有限，售完即止。",
    ],
    "search_spam": [
        "柳湾搬家公司哪家好？柳湾搬家找顺达，专业从事柳湾搬家、长途搬家，价格优惠，值得信赖。柳湾搬家电话 0731-85551234，"
        "咨询热线 400-123-4567，24小时上门。",
    ],
    "content_farm": [
        "很多小伙伴都想知道债券基金怎么买，下面就让小编带大家一起来看看吧。债券基金可以在网上买。以上就是债券基金怎么买的全部内容，"
        "希望对大家有所帮助，更多理财知识请关注本站。",
    ],
    "spun_words": [
        "起首，老百姓存眷的是利钱高低，甚么时候能够经由过程贸易银行借到款子，咱们今朝还不克不及给出谜底，屋宇的价钱也会有回响反映。",
    ],
    "unfilled_template": [
        "尊敬的{{customer_name}}：您于{{order_date}}购买的{{product}}已经发货，运单号为{{tracking_no}}，如有疑问请致电{{phone}}。",
        "在XX的领导下，在XX部门的支持下，我于XX年完成了XX项目，学习了XX知识，提高了XX能力，为XX作出贡献。",
        "Lorem ipsum dolor sit amet 标题文字 示例文字 占位文字，此处放置栏目介绍。",
    ],
    "model_essay": [
        "学习心得体会（精选五篇之三）\n通过学习，我深受启发，感触颇深，今后要从我做起。\n使用时请将单位名称替换，下载后可编辑。",
    ],
    "blank_form": [
        "回访登记表\n填表单位（盖章）：\n| 序号 | 姓名 | 电话 |\n| --- | --- | --- |\n| 1 | | |\n| 2 | | |\n| 3 | | |\n填表人：",
    ],
    "product_list": [
        "\n".join(f"加厚收纳箱{i}号 ¥{i}9.80 月销{i}00" for i in range(1, 10)),
    ],
    "contents_page": [
        "目录\n第一章 总则 ........ 1\n第二章 组织 ........ 5\n第三章 信贷 ....... 12\n第四章 附则 ....... 30",
        "目 录\n前言………… 1\n债券市场概况………… 3\n利率走势………… 9\n风险提示………… 15",
    ],
    "hashtags": [
        "#理财 #存钱 #副业 #搞钱 #打工人 #好物分享 #自律 #早起打卡 #求关注 冲鸭姐妹们",
    ],
    "code_debris": [
        ".nav { margin: 0; }\n.nav li { float: left; }\nfunction show() {\n  var a = document.title;\n}\n首页样式脚本",
        '{"code": 0,\n"msg": "成功",\n"data": {"id": 12,\n"name": "活期",\n"rate": 0.35}}',
    ],
    "truncated": [
        "今年以来债券市场持续走强，十年期国债收益率一度下行到历史低位，分析人士认为后续\n展开全文",
        "以及其他应收款中保证金余额较年初增加，主要系公司本期新增投标项目，有关明细详见附注之",
    ],
    "spaced_letters": [
        "信 用 卡 业 务 管 理 办 法 第 一 条 为 了 规 范 信 用 卡 业 务 的 经 营 管 理 行 为",
    ],
}
TEXTS = [
    CLEAN,
    "网页返回404错误，说明服务器上没有这个地址；" + CLEAN,
    "问：转账时提示系统繁忙怎么办？答：多半是网络异常所致，客户可以稍后再试；若款项已经扣除而对方没有收到，"
    "请保留回单，致电客服核对，银行会在两个工作日之内把结果告诉您，不必重复操作，以免多转一次。",
    "本站记者了解到，这家网点的客户可以使用优惠券支付年费。" + CLEAN,
    "小编按：下文来自读者投稿，文字略有删改。" + CLEAN,
    "张先生下单之后发现商品没有包邮，客服同意补发优惠券，他对这家店的处理比较满意，两天就收到了货。",
    "附近的厂家报价相差很大，我们比较了三家，最后选择了有售后电话的一家，用了半年没有出过问题。",
    "模板变量写作{{name}}，渲染时由程序替换成客户的姓名；" + CLEAN,
    "原告XX公司诉称，被告某某未按合同付款，请求判令其支付货款及利息。" + CLEAN * 2,
    "见第三章……第12页。" + CLEAN,
    "#话题 是社交平台的一种标记，井号之间写主题；" + CLEAN,
    "用 print(x); 可以显示变量的值。\n" + CLEAN,
    "以及许多没有提到的问题，都值得另写一篇文章来讨论。",
    "表中空格表示没有数据。\n| 年度 | 甲 | 乙 |\n| 一 | | |\n| 二 | | |\n| 三 | | |",
    "学完合规课程，我的心得体会是先看合同条款，再看资金流向，最后才看对方的介绍。",
    "¥100与¥200之间相差¥100，¥300与¥400之间也是。" + CLEAN,
    "1998 年 4 月 A 股 和 B 股 的 成交额 分别 增长，" + CLEAN,
    "那末，甚么是利率呢？三十年代的课本说，利钱是使用款子的代价。" + CLEAN * 2,
]


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in PAGES.items() for text in texts]
)
def test_a_page_that_is_no_text_is_named(kind, text):
    keep, reason = check_boilerplate(text)
    assert not keep
    assert reason.startswith(kind), reason


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_about_such_things_stays(text):
    assert check_page(text) is None
