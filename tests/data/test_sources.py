"""What 01 reads: the user's folders beside the shipped corpora, or in their place."""

import json

import pytest

from finllm_utils.data.sources import (
    SourceFile,
    gather_items,
    is_open,
    iterate_sources,
    parse_source,
    settle_class,
)
from finllm_utils.profiles import load_profile

FEW = {f"data.chars_{d}": 2_000 for d in ("general_zh", "finance_zh", "english")} | {
    "data.chars_finance_en": 2_000
}


@pytest.fixture
def own(tmp_path):
    """A user's JSONL file of one finance document."""
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "存款利率下调。"}) + "\n", "utf-8")
    return f"finance_zh={path}"


def sources_by_domain(overrides):
    items = gather_items(load_profile("toy", FEW | overrides).data)
    found = {}
    for item in items:
        found.setdefault(item.domain, set()).add(item.source)
    return found


def test_own_text_is_added_to_the_shipped_corpora(own):
    found = sources_by_domain({"data.sources": [own]})
    assert set(found) == {"general_zh", "finance_zh", "english", "finance_en"}
    assert found["finance_zh"] == {"own", "laws", "insurance_zh"}


def test_own_text_takes_the_place_of_one_shipped_domain(own):
    shipped = ["general_zh", "english", "finance_en"]
    found = sources_by_domain({"data.sources": [own], "data.shipped": shipped})
    assert found["finance_zh"] == {"own"}
    assert "sotu" in found["english"]


def test_a_domain_without_text_is_an_error_that_names_the_remedy(own):
    with pytest.raises(ValueError, match="no text for english, finance_en, general_zh"):
        sources_by_domain({"data.sources": [own], "data.shipped": []})


def test_an_unknown_shipped_domain_is_an_error():
    with pytest.raises(ValueError, match="data.shipped names finance; use general_zh"):
        sources_by_domain({"data.shipped": ["finance"]})


def test_a_folder_of_open_class_says_so_in_every_item(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "甲"}\n{"text": "乙"}\n', "utf-8")
    (folder / "b.txt").write_text("丙", "utf-8")
    items = list(iterate_sources((f"zh={folder}",), 1_000))
    assert [item.id for item in items] == [
        "mine/a.jsonl/1",
        "mine/a.jsonl/2",
        "mine/b.txt",
    ]
    assert isinstance(items[2], SourceFile)
    assert {item.domain for item in items} == {"general_zh"}  # until it is scored
    assert all(is_open(item) for item in items)
    assert items[0].meta is not items[1].meta
    stated = iterate_sources((f"general_zh={folder}",), 1_000)
    assert not any(is_open(item) for item in stated)


def test_an_open_folder_may_fill_both_chinese_domains(own):
    path = own.partition("=")[2]
    shipped = ["english", "finance_en"]
    found = sources_by_domain({"data.sources": [f"zh={path}"], "data.shipped": shipped})
    assert found["general_zh"] == {"own"}
    with pytest.raises(ValueError, match="no text for finance_zh"):
        sources_by_domain(
            {"data.sources": [f"general_zh={path}"], "data.shipped": shipped}
        )


@pytest.mark.parametrize(
    ("score", "domain"),
    [
        (0.0, "general_zh"),
        (0.499, "general_zh"),
        (0.5, "finance_zh"),
        (1, "finance_zh"),
    ],
)
def test_the_finance_score_settles_an_open_class(score, domain):
    row = {"domain": "general_zh", "meta": {"class": "open", "finance": score, "a": 1}}
    before = row["meta"]
    settle_class(row)
    assert row == {
        "domain": domain,
        "meta": {"class": "scored", "finance": score, "a": 1},
    }
    assert before["class"] == "open"
    settle_class(row)
    assert row["domain"] == domain


def test_a_stated_class_is_left_alone_and_an_open_one_needs_a_score():
    row = {"domain": "general_zh", "meta": {"finance": 0.9}}
    settle_class(row)
    assert row == {"domain": "general_zh", "meta": {"finance": 0.9}}
    with pytest.raises(ValueError, match="give the folder of models .*general_zh= or"):
        settle_class({"domain": "general_zh", "meta": {"class": "open"}})


def test_an_unknown_domain_of_a_folder_names_the_choices(tmp_path):
    with pytest.raises(ValueError, match="finance_en, or zh to let"):
        parse_source(f"zh_CN={tmp_path}")
