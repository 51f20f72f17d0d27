"""The package-shipped corpora: filters, dates, and counts that the course relies on."""

from datetime import date
from decimal import Decimal

import pytest

from finllm_utils.corpora.characters import standard_characters
from finllm_utils.corpora.chinese import peoples_daily, reviews
from finllm_utils.corpora.english import presidential_addresses, python_help
from finllm_utils.corpora.laws import AS_OF, laws
from finllm_utils.corpora.packages import package_folder
from finllm_utils.corpora.rates import ecb_rates
from finllm_utils.corpora.sources import TRAINING_DOMAINS, training_sources
from finllm_utils.corpora.splits import chunk_lines, stable_order
from finllm_utils.profiles import toy


def test_laws_are_in_force_on_the_stated_day():
    found = laws()
    assert len(found) == 348
    assert all(law.effective_date <= AS_OF for law in found)
    banking = next(law for law in found if law.short_name == "商业银行法")
    assert banking.is_finance and len(banking.articles) == 95
    assert "本法所称的商业银行" in banking.articles[1].text
    assert banking.articles[1].number_zh == "第二条"


def test_laws_that_start_later_are_left_out():
    # The package marks this one as in force although it starts on 2027-01-01.
    assert "中华人民共和国农业法" not in {law.name for law in laws()}


def test_newspaper_digits_are_half_width_and_tags_are_gone():
    lines = peoples_daily()
    assert len(lines) == 19_484
    assert not any("/n" in line or "１" in line for line in lines)
    assert any("，" in line for line in lines)  # Chinese punctuation stays


def test_reviews_keep_their_duplicates():
    texts = [review.text for review in reviews()]
    assert len(texts) > 1.9 * len(set(texts))


def test_english_sources():
    assert presidential_addresses()["1790-Washington-1"].startswith("Fellow-Citizens")
    assert len(python_help()) > 50


def test_ecb_rates_are_exact_decimals():
    rates = ecb_rates()
    assert rates["CNY"][date(2026, 10, 30)] == Decimal("7.4326")
    assert date(2026, 10, 31) not in rates["CNY"]  # a Saturday has no fixing


def test_standard_characters():
    characters = standard_characters()
    assert len(characters) == len(set(characters)) == 8_105
    assert {"一", "税", "䶮"} <= set(characters)


def test_missing_package_names_the_command():
    with pytest.raises(FileNotFoundError, match="finllm corpora"):
        package_folder("no_such_corpus")


def test_chunk_lines_loses_nothing_and_joins_a_short_rest():
    lines = ["a" * 6, "b" * 6, "c" * 6, "d"]
    chunks = chunk_lines(lines, 10)
    assert chunks == ["a" * 6 + "\n" + "b" * 6, "c" * 6 + "\nd"]
    assert chunk_lines(["a" * 6, "b" * 6, "d"], 10) == ["aaaaaa\nbbbbbb\nd"]


def test_stable_order_depends_on_nothing_but_keys_and_salt():
    assert stable_order("abcd", "x") == stable_order("dcba", "x")
    assert stable_order("abcd", "x") != stable_order("abcd", "y")


def test_training_sources_respect_the_budget_of_characters():
    cfg = toy().data
    sizes = dict.fromkeys(TRAINING_DOMAINS, 0)
    for document in training_sources(cfg):
        sizes[document.domain] += len(document.text)
    for domain, size in sizes.items():
        budget = getattr(cfg, f"chars_{domain}")
        assert budget * 0.75 < size < budget * 1.05
