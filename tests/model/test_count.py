"""Count models against values worked out by hand."""

import math
import time

import numpy as np
import pytest

from finllm_utils.model.count import CharCountModel


def test_unigram_by_hand():
    model = CharCountModel.fit(["abac", "ab"], order=1)  # a 3, b 2, c 1 of 6; V = 3 + 1
    expected = -math.log(4 / 10) - math.log(3 / 10) - math.log(1 / 10)
    assert model.nats(["abz"])[0] == pytest.approx(expected)


def test_bigram_by_hand():
    # start-a 2, a-b 2, b-a 1, a-c 1; a is a context 3 times, b once; V = 3 + 1
    model = CharCountModel.fit(["abac", "ab"], order=2)
    start_a, a_b, b_b, b_z, z_a = 3 / 6, 3 / 7, 1 / 5, 1 / 5, 1 / 4
    expected = -sum(map(math.log, (start_a, a_b, b_b, b_z, z_a)))
    assert model.nats(["abbza"])[0] == pytest.approx(expected)


def test_contexts_stop_at_document_borders():
    model = CharCountModel.fit(["abac", "ab"], order=2)
    two = model.nats(["ab", "", "ca"])
    assert two[0] == pytest.approx(model.nats(["ab"])[0])
    assert two[1] == 0
    assert two[2] == pytest.approx(model.nats(["ca"])[0])


@pytest.mark.parametrize("order", [1, 2])
def test_probabilities_of_a_context_sum_to_one(order):
    model = CharCountModel.fit(["资金与资本", "资产"], order=order)
    for prefix in ("", "资", "产", "外"):
        whole = model.nats([prefix + c for c in "资金与本产？"])
        parts = whole - model.nats([prefix])[0]
        assert np.exp(-parts).sum() == pytest.approx(1.0)


def test_bigram_learns_what_the_unigram_cannot():
    text = "保险" * 500
    unigram = CharCountModel.fit([text], order=1).nats(["保险" * 10])[0]
    bigram = CharCountModel.fit([text], order=2).nats(["保险" * 10])[0]
    assert bigram < 0.1 * unigram


def test_a_million_characters_take_about_a_second():
    random = np.random.default_rng(0)
    text = "".join(map(chr, random.integers(0x4E00, 0x5E00, 1_000_000)))
    started = time.perf_counter()
    CharCountModel.fit([text], order=2).nats([text[:100_000]])
    assert time.perf_counter() - started < 10  # generous: machines may be shared


def test_nothing_to_count_and_wrong_order():
    with pytest.raises(ValueError, match="empty"):
        CharCountModel.fit(["", ""], order=1)
    with pytest.raises(ValueError, match="order=3"):
        CharCountModel.fit(["a"], order=3)
