"""Disclosures, promises and their denials, each judged by hand."""

import re

import pytest

from finllm_utils.files import read_json
from finllm_utils.finance.compliance import (
    WORDS_FILE,
    compliance_words,
    disclosures,
    promises,
    without_disclosures,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("股价会变，投资有风险。", ["投资有风险"]),
        ("本产品不保本，市场有风险！", ["不保本", "市场有风险"]),
        ("产品不保证本金和收益。", ["不保证本金"]),
        ("这不是保本产品。", ["不是保本"]),
        ("投 资 有 风\n险。", ["投资有风险"]),
        ("过往业绩不代表未来表现", ["不代表未来"]),
        ("投资有风险吗？", []),  # a question says nothing
        ("谁说投资有风险。", []),
        ("不用担心投资有风险。", []),
        ("放心，没有投资风险。", []),
        ("保本保息。", []),
        ("", []),
    ],
)
def test_disclosures(text, found):
    assert disclosures(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("保本，稳赚。", ["保本", "稳赚"]),
        ("我们保证收益！", ["保证收益"]),
        ("不用怕，保本。", ["保本"]),  # the denial stands in another clause
        ("这款不会亏。", ["不会亏"]),
        ("没有人能保证收益。", []),
        ("不保本，也不承诺保证收益。", []),
        ("不能保证本金。", []),
        ("非保本产品", []),
        ("稳赚谈不上。", []),
        ("凡说保本的都是骗人。", []),
        ("保本吗？", []),
        ("净值每天都在变。", []),
    ],
)
def test_promises(text, found):
    assert promises(text) == found


def test_a_denial_must_stand_directly_before_the_promise():
    assert promises("您不必多想直接买就保本。") == ["保本"]


def test_what_else_is_said():
    assert without_disclosures("净值会变，投资有风险，请谨慎。") == "净值会变请谨慎。"
    assert without_disclosures("投资有风险。") == ""


def test_the_words_carry_their_version_and_no_phrase_is_in_two_lists():
    assert re.fullmatch(r"finllm-compliance-words-\d+", compliance_words().version)
    lists = read_json(WORDS_FILE)
    assert not set(lists["disclosures"]) & set(lists["promises"])
    assert all(disclosures(f"{phrase}。") for phrase in lists["disclosures"])
    assert all(promises(f"{phrase}。") for phrase in lists["promises"])
