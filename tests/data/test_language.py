"""Languages of paragraphs: own lines in several scripts, with and without the model."""

import pytest

from finllm_utils.data.language import (
    drop_foreign,
    foreign_language,
    language_of,
    num_letters,
)

CHINESE = "久期衡量债券价格对利率变化的敏感程度，利率上升时债券价格下降。"
JAPANESE = "本サービスをご利用いただくには、会員登録が必要です。詳しくはこちら。"
ENGLISH = "Duration measures how much the price of a bond moves when rates change."
ADVERT = "Cheap watches with free shipping worldwide, click here and buy now today!"
VIETNAMESE = "Chúng tôi cung cấp dịch vụ cho vay nhanh với lãi suất thấp nhất."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (CHINESE, "zh"),
        (JAPANESE, "ja"),
        ("이 페이지를 찾을 수 없습니다. 다시 시도해 주세요.", "ko"),
        ("Мы используем файлы cookie для улучшения сайта.", "ru"),
        ("เว็บพนันออนไลน์ที่ดีที่สุด สมัครวันนี้", "th"),
        ("我哋今日去咗中環食飯，啲嘢好好食㗎，下次再嚟啦。", "zh"),
        ("无印良品的“の”字招牌进入了国内的三线城市。", "zh"),
        ("客户可以通过手机 APP 申购 QDII 基金和 ETF。", "zh"),
        ("日本語", ""),
        ("for (i=0;i<n;i++) {total+=amount[i]*weight[i];}", ""),
    ],
)
def test_scripts_decide_without_a_model(text, language, monkeypatch):
    monkeypatch.setattr("finllm_utils.data.language._model", None)
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (VIETNAMESE, "vi"),
        ("Nous utilisons des cookies pour améliorer votre expérience ici.", "fr"),
        ("Compra ahora y recibe el envío gratis en todos tus pedidos.", "es"),
    ],
)
def test_the_model_tells_latin_languages_apart(text, language):
    pytest.importorskip("py3langid")
    assert language_of(text) == language


def test_letters_by_hand():
    assert num_letters("利率 3.85%，rate ですк") == 2 + 4 + 2 + 1


def test_foreign_paragraphs_leave_a_chinese_document():
    page = f"{CHINESE}\n{JAPANESE}\n{CHINESE}"
    text, dropped = drop_foreign(page)
    assert text == f"{CHINESE}\n{CHINESE}"
    assert dropped == {"ja": num_letters(JAPANESE)}


def test_chinese_text_is_returned_as_it_is():
    text = f" {CHINESE}\n\n\n{CHINESE} "
    assert drop_foreign(text) == (text, {})


def test_a_foreign_document_comes_back_whole():
    page = f"{JAPANESE}\n{JAPANESE}\n{CHINESE}"
    assert drop_foreign(page) == (page, {})


def test_english_goes_only_when_it_advertises():
    pytest.importorskip("py3langid")
    page = f"{CHINESE}\n{CHINESE}\n{ENGLISH}\n{CHINESE}\n{ADVERT}\n{CHINESE}"
    text, dropped = drop_foreign(page)
    assert ENGLISH in text
    assert ADVERT not in text
    assert list(dropped) == ["en"]
    assert foreign_language(VIETNAMESE) == "vi"
