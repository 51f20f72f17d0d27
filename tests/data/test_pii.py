"""Personal data: checksums by hand, every type, and what must stay."""

import pytest

from finllm_utils.data.normalize import normalize
from finllm_utils.data.pii import (
    find_pii,
    is_credit_code,
    is_identity_card,
    is_luhn,
    mask_pii,
)

CARD = "11010519491231002X"  # the standard's own example (GB 11643)
BANK = "6222020200112233440"


def luhn_completed(digits: str) -> str:
    return next(digits + c for c in "0123456789" if is_luhn(digits + c))


def credit_completed(code: str) -> str:
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    return next(code + c for c in alphabet if is_credit_code(code + c))


def test_checksums_hold_for_examples_and_break_with_one_digit():
    assert is_identity_card(CARD)
    assert not is_identity_card("110105194912310021")
    assert not is_identity_card("11010519491331002X")  # month 13
    assert is_luhn("79927398713") is False  # too short for a card
    assert is_luhn("4111111111111111")
    assert not is_luhn("4111111111111112")
    code = credit_completed("91350100M000100Y4")
    assert code == "91350100M000100Y43"  # published example of GB 32100
    assert not is_credit_code(code[:-1] + "0")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("电话13800138000请", "mobile"),
        ("手机１３８００１３８０００。", "mobile"),
        ("拨138 0013 8000", "mobile"),
        ("拨138-0013-8000", "mobile"),
        ("拨138－0013－8000", "mobile"),
        ("拨1 3 8 0 0 1 3 8 0 0 0", "mobile"),
        ("拨+86 138 0013 8000", "mobile"),
        ("拨一三八零零一三八零零零", "mobile"),
        ("座机010-62345678转802", "landline"),
        ("座机（021）6234 5678", "landline"),
        ("电话：01062345678", "landline"),
        (f"身份证{CARD}办理", "id_card"),
        (f"身份证号：{CARD[:6]} {CARD[6:14]} {CARD[14:]}", "id_card"),
        (f"身份证{CARD.lower()}", "id_card"),
        (f"尾号{luhn_completed(BANK[:-1])}的", "bank_card"),
        ("卡号6222 0210 0011 2233 449", "bank_card"),
        (f"代码{credit_completed('91350100M000100Y4')}。", "credit_code"),
        ("邮箱zhang.san@example.com，", "email"),
        ("邮箱 zhang [at] example.com", "email"),
        ("加微信abc12345领取", "wechat"),
        ("微信号：zhangsan", "wechat"),
        ("QQ：123456789", "qq"),
        ("护照E12345678", "passport"),
        ("京A12345的车", "plate"),
        ("沪AD12345是", "plate"),
    ],
)
def test_each_type_is_masked_beside_han_characters(text, kind):
    spelled, _ = normalize(text, {})
    masked, counts = mask_pii(spelled)
    assert counts == {kind: 1}
    assert not any(c.isdigit() for c in masked.replace("转802", ""))
    assert mask_pii(masked) == (masked, {})


@pytest.mark.parametrize(
    "text",
    [
        "2023年净利润123,456,789.00元，同比增长12.5%。",
        "订单号20240105123456，日期2024-01-05 12:30。",
        "拨打95588或400-800-8888咨询。",
        "证券代码600519.SH，沪A股和深B股。",
        "微信支付与微信公众号平台。",
        "第一百一十三条至第一百一十九条",
        "圆周率3.14159265358979",
    ],
)
def test_what_is_not_personal_stays(text):
    assert mask_pii(text) == (text, {})


def test_the_more_certain_rule_wins_and_nothing_overlaps():
    text = f"微信同号13800138000，身份证{CARD}，邮箱13800138000@example.com"
    found = find_pii(text)
    assert [rule.type for _, _, rule in found] == ["mobile", "id_card", "email"]
    assert all(a[1] <= b[0] for a, b in zip(found, found[1:], strict=False))
