"""Proposed calls are checked, the audit chain shows any change, search equals bm25s."""

from decimal import Decimal

import bm25s
import numpy as np
import pytest

from finllm_utils.hub.audit import verify, verify_file, write_audit
from finllm_utils.hub.router import Call
from finllm_utils.hub.search import SearchIndex, han_bigrams
from finllm_utils.hub.session import Hub
from tests.hub.conftest import PASSAGES

LOAN = {"principal": "1000000", "annual_rate": "0.042", "months": 360}
QUESTION = "贷款100万，年利率4.2%，30年等额本息，月供多少？"


def asked(toolbox, question, tool, arguments):
    call = Call(tool=tool, arguments=arguments)
    return Hub(tools=toolbox, propose=lambda _: call, check_numbers=True).ask(question)


def test_a_proposed_call_is_answered_exactly(toolbox):
    answer = asked(toolbox, QUESTION, "loan_equal_payment", LOAN)
    assert answer.value == Decimal("4890.17") and "等额本息" in answer.source


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"annual_rate": "0.039"}, "annual_rate"),  # nobody said 3.9%
        ({"annual_rate": 0.042}, "annual_rate"),  # a float is not exact
        ({"annual_rate": "4.2"}, "annual_rate"),
        ({"principal": "-1"}, "principal"),
        ({"principal": "NaN"}, "principal"),
        ({"months": None}, "months"),
        ({"months": 36}, "months"),
        ({"bank": "x"}, "bank"),
    ],
)
def test_a_bad_proposal_is_not_answered(toolbox, change, missing):
    answer = asked(toolbox, QUESTION, "loan_equal_payment", LOAN | change)
    assert answer.status == "clarify" and missing in answer.missing
    assert answer.value is None


def test_unknown_tools_and_invented_places(toolbox):
    assert asked(toolbox, QUESTION, "buy_stock", {}).status == "unknown"
    rate = {"base": "USD", "quote": "GBP", "date": "2024-03-28"}
    answer = asked(toolbox, "2024年3月28日美元兑人民币汇率", "fx_rate", rate)
    assert answer.status == "clarify" and answer.missing == ("quote",)


def test_source_of_rates_names_the_day_of_the_fixing(hub):
    answer = hub.ask("2024年3月30日美元兑人民币汇率是多少？")
    assert "ECB reference rate, 2024-03-28" in answer.source
    assert "2024-03-30 没有定盘" in answer.text


def test_details_and_source_carry_the_inputs(hub):
    answer = hub.ask(QUESTION)
    assert answer.details["total_interest"] == "760461.83"
    assert "principal=1000000, annual_rate=0.042, months=360" in answer.source


def test_audit_chain_shows_every_change(hub, tmp_path):
    for question in (QUESTION, "明天会下雨吗", "年息四厘存10万一年利息多少"):
        hub.ask(question)
    assert verify(hub.audit) == 3
    write_audit(tmp_path / "audit.jsonl", hub.audit)
    assert verify_file(tmp_path / "audit.jsonl") == 3
    changed = [dict(line) for line in hub.audit]
    changed[1]["answer"] = "会"
    for broken in (
        changed,
        hub.audit[1:],
        hub.audit[::-1],
        [*hub.audit[:1], hub.audit[2]],
    ):
        with pytest.raises(ValueError, match="hash chain is broken"):
            verify(broken)


def test_scores_equal_bm25s():
    texts = list(PASSAGES.values())
    index = SearchIndex(PASSAGES, k1=1.2, b=0.75)
    query = "人寿保险到期怎么办 medicare"
    rows = [[*han_bigrams(t.lower()).tolist(), *_latin(t)] for t in texts]
    vocabulary = {term: i for i, term in enumerate(dict.fromkeys(sum(rows, [])))}
    reference = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
    ids = [[vocabulary[term] for term in row] for row in rows]
    reference.index((ids, vocabulary), show_progress=False)
    wanted = {*han_bigrams(query).tolist(), "medicare"}
    known = [vocabulary[term] for term in wanted if term in vocabulary]
    expected = reference.get_scores_from_ids(known)
    np.testing.assert_allclose(index.scores(query), expected, rtol=1e-5)


def _latin(text):
    return ["medicare", "65"] if "Medicare" in text else []


def test_search_by_hand():
    index = SearchIndex({"a": "人寿保险", "b": "汽车保险", "c": "天气"})
    assert [p.id for p in index.search("人寿", 3)] == ["a"]
    assert index.search("人寿保险", 3)[0].coverage == 1.0
    assert [p.id for p in index.search("保险", 3)] == ["a", "b"]
    assert index.search("火星", 3) == [] and index.search("", 3) == []
    assert index.rank_within("保险", ["c", "b"]) == ["b"]
    with pytest.raises(ValueError, match="nothing to index"):
        SearchIndex({})
