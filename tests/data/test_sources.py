"""What 01 reads: the user's folders beside the shipped corpora, or in their place."""

import json

import pytest

from finllm_utils.data.sources import gather_items
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
