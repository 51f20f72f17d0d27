"""A mixture that follows the loss, and how far a corpus is from the base's."""

import json
from dataclasses import asdict
from math import exp, log

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from finllm_utils.train.bins import write_bin
from finllm_utils.train.reweight import ReactState, react
from finllm_utils.train.unigram import mixed_unigram, unigram_counts, unigram_distance


def test_two_updates_by_hand():
    first = react(ReactState(), {"english": 2.0, "general_zh": 4.0}, strength=2.0)
    assert first.mean_loss == {"english": 2.0, "general_zh": 4.0}
    assert first.multipliers() == (1, 1, 1, 1)  # nothing to compare with yet
    second = react(first, {"english": 2.0, "general_zh": 3.6}, strength=2.0)
    # Falls 0 and 0.1, less their mean 0.05, times 2.
    assert second.log_multiplier == pytest.approx({"english": -0.1, "general_zh": 0.1})
    assert second.mean_loss == pytest.approx({"english": 2.0, "general_zh": 3.96})
    third = react(second, {"english": 2.0, "general_zh": 3.96}, strength=2.0)
    # Nothing falls: a tenth of the way back to the plan.
    assert third.log_multiplier == pytest.approx({"english": -0.09, "general_zh": 0.09})
    assert third.multipliers() == pytest.approx((exp(0.09), 1, exp(-0.09), 1))


def test_weights_stay_within_a_factor_of_two():
    state = ReactState(mean_loss={"english": 9.0, "finance_zh": 1.0})
    for _ in range(50):
        state = react(state, {"english": 0.1, "finance_zh": 90.0}, strength=100.0)
    assert state.multipliers() == pytest.approx((1, 2**-0.5, 2**0.5, 1))
    plan = np.array([0.1, 0.7, 0.05, 0.15])
    moved = plan * state.multipliers() / (plan * state.multipliers()).sum()
    assert (moved / plan).max() < 2 and (moved / plan).min() > 0.5


def test_an_absent_domain_keeps_what_it_has_and_strength_zero_never_moves():
    state = ReactState(
        mean_loss={"english": 2.0, "finance_en": 3.0}, log_multiplier={"english": 0.2}
    )
    after = react(state, {"finance_en": 2.0, "general_zh": 5.0}, strength=1.0)
    assert after.log_multiplier == {"english": 0.2, "finance_en": 0.0}
    assert after.mean_loss == pytest.approx(
        {"english": 2.0, "finance_en": 2.9, "general_zh": 5.0}
    )
    still = react(ReactState(mean_loss={"english": 2.0}), {"english": 1.0}, 0.0)
    assert still.multipliers() == (1, 1, 1, 1)


def test_the_state_survives_json():
    state = react(ReactState(), {"english": 2.0, "general_zh": 4.0}, 1.0)
    state = react(state, {"english": 1.7, "general_zh": 4.1}, 1.0)
    assert ReactState(**json.loads(json.dumps(asdict(state)))) == state


@pytest.mark.parametrize("losses", [{"english": float("nan")}, {"law": 1.0}])
def test_bad_losses_are_errors(losses):
    with pytest.raises(ValueError, match="react_to_loss"):
        react(ReactState(), losses, 1.0)


def test_distances_by_hand():
    a, b = np.array([3, 1, 0]), np.array([1, 1])
    assert unigram_distance(a, b) == pytest.approx(0.25)  # (.75, .25, 0), (.5, .5)
    assert unigram_distance(a, 10 * a) == 0
    assert unigram_distance(np.array([1, 0]), np.array([0, 5])) == 1
    # One more of each: (4, 2, 1) / 7 and (2, 2, 1) / 5.
    wanted = 4 / 7 * log(20 / 14) + 2 / 7 * log(10 / 14) + 1 / 7 * log(5 / 7)
    assert unigram_distance(a, b, "kl") == pytest.approx(wanted)
    with pytest.raises(ValueError, match="total_variation or kl"):
        unigram_distance(a, b, "cosine")
    with pytest.raises(ValueError, match="without tokens"):
        unigram_distance(a, np.zeros(3))


def test_counts_of_a_bin_and_of_a_mixture(tmp_path):
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "w3": 3, "w4": 4, "w5": 5}
    words = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>"
    )
    write_bin(tmp_path, "english", ["w4 w4 w5", "w4"], tokenizer)
    write_bin(tmp_path, "general_zh", ["w3"] * 2, tokenizer)
    counts = {d: unigram_counts(tmp_path, d) for d in ("english", "general_zh")}
    assert counts["english"].tolist() == [0, 2, 2, 0, 3, 1]
    mixed = mixed_unigram(counts, {"english": 1, "general_zh": 3})
    third = 0.75 / 3  # of each of BOS, EOS and w3 in the Chinese bin
    assert mixed == pytest.approx(
        [0, third + 1 / 16, third + 1 / 16, third, 3 / 32, 1 / 32]
    )
