"""Encodings and spelling."""

import pytest

from finllm_utils.data.encoding import common_share, decode, repair_mojibake
from finllm_utils.data.normalize import decode_han, normalize

TEXT = "银行应当按照规定向客户说明利率、费用和风险，客户有权要求解释。"
TRADITIONAL = "銀行應當按照規定向客戶說明利率、費用和風險，客戶有權要求解釋。"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", TEXT),
        ("utf-8-sig", TEXT),
        ("utf-16", TEXT),
        ("gb18030", TEXT),
        ("gb18030", TRADITIONAL),
        ("big5", TRADITIONAL),
    ],
)
def test_decode_finds_the_encoding(encoding, text):
    found, name = decode(text.encode(encoding), "a.txt")
    assert found == text
    assert name == encoding


def test_decode_errors_name_the_file_and_the_remedy():
    with pytest.raises(ValueError, match=r"a\.txt: empty file .* remove it"):
        decode(b"", "a.txt")
    with pytest.raises(ValueError, match=r"b\.txt: not readable .*iconv"):
        decode(bytes(range(128, 256)) * 20, "b.txt")


def test_decode_keeps_text_with_a_single_broken_byte():
    data = (TEXT * 30).encode("utf-8")
    text, encoding = decode(data[:-1], "a.txt")
    assert encoding == "utf-8"
    assert text.count("\ufffd") == 1


@pytest.mark.parametrize(
    ("read_as", "written_in", "text"),
    [
        ("cp1252", "utf-8", "利率为百分之三，存款人"),
        ("latin-1", "utf-8", "利率为百分之三，存款人可以随时支取本金。"),
        ("gbk", "utf-8", "利率为百分之三，"),
        ("latin-1", "gbk", "利率为百分之三，存款人可以随时支取本金。"),
    ],
)
def test_wrong_decoding_is_undone_without_loss(read_as, written_in, text):
    damaged = text.encode(written_in).decode(read_as)
    assert repair_mojibake(damaged) == (text, f"{written_in} read as {read_as}")


def test_healthy_text_is_not_repaired():
    for text in (TEXT, TRADITIONAL, "Plain English.", "", "１２３ｅ"):
        assert repair_mojibake(text) == (text, "")
    assert common_share(TEXT) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("利率３．８５％，", "利率3.85%，"),
        ("ＬＰＲ（贷款市场报价利率）：", "LPR（贷款市场报价利率）："),
        ("①第一 m² 3㎡", "①第一 m² 3㎡"),
        ("零\u200b宽\ufeff字\u00ad符", "零宽字符"),
        ("\x1b[31m红\x1b[0m\x07", "红"),
        ("一\r\n二\r三\u2028四", "一\n二\n三\n四"),
        ("　　段首　空格  两个\u00a0\n\n\n\n末", "段首 空格 两个\n\n末"),
        ("⾦融 ﬁnance", "金融 finance"),
        ("a\ud800b", "ab"),
    ],
)
def test_normalize_spelling(before, after):
    assert normalize(before, {})[0] == after


def test_traditional_text_is_converted_and_recorded():
    assert normalize(TRADITIONAL, {"file": "a"}) == (
        TEXT,
        {"file": "a", "traditional": True},
    )
    quote = TEXT * 3 + "他叫張三。"
    assert normalize(quote, {}) == (quote, {})


def test_normalize_twice_changes_nothing():
    for text in (TRADITIONAL, "Ａ　 Ｂ\r\n\n\n\nＣ", "é“¶è¡Œ\u200b"):
        once, meta = normalize(text, {})
        assert normalize(once, meta) == (once, meta)


def test_references_to_han_are_decoded_and_others_stay():
    assert normalize("房&#38388;很大，&#x4ef7;格不贵", {}) == ("房间很大，价格不贵", {})
    same = "标签写成 &lt;b&gt;，&#60; 与 &#8364; 不变"
    assert decode_han(same) == same


def test_the_old_full_width_blank_is_a_blank_and_its_neighbours_stay():
    old = b"\xc0\xed\xb2\xc6\xa3\xa0\xca\xd5\xd2\xe6".decode("gb18030")
    assert old == "理财\ue5e5收益"
    assert normalize(old, {}) == ("理财 收益", {})
    assert normalize("理财\ue5e4收益\ue5e6", {}) == ("理财\ue5e4收益\ue5e6", {})
