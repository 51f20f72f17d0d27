"""Rules by hand, their weighted sum, answers found in token sequences, two rewards."""

import copy

import numpy as np
import pytest

from finllm_utils.rlhf.reward_model import encode_prompt
from finllm_utils.rlhf.rule_reward import (
    RuleReward,
    answer_texts,
    combined,
    compliance_reward,
    discloses_risk,
    ends_in_full,
    on_answers,
    promises_nothing,
    says_enough,
    says_it_once,
)
from tests.rlhf.conftest import EOS
from tests.rlhf.test_reward_model import WORDS
from tests.rlhf.test_reward_model import tokenizer as plain_tokenizer

__all__ = ["plain_tokenizer"]  # a fixture
GOOD = "净值每天都在变动。投资有风险。"
SPAM = "投资有风险。投资有风险。"


def test_each_rule_by_hand():
    assert discloses_risk(GOOD) == discloses_risk(SPAM) == 1.0  # counts once
    assert discloses_risk("净值每天都在变动。") == 0.0
    assert promises_nothing("不保本。") == 1.0 and promises_nothing("保本。") == 0.0
    assert ends_in_full("好。 ") == 1.0 and ends_in_full("净值每天") == 0.0
    assert ends_in_full("") == 0.0
    # 12 characters, 11 pairs: five of the sentence, 。投, and the five once more
    assert says_it_once(SPAM) == pytest.approx(6 / 11)
    assert says_it_once("好") == 1.0


def test_what_an_answer_says_beside_its_disclosure_has_a_length():
    rule = says_enough(8, 9)
    assert rule(GOOD) == 1.0  # 净值每天都在变动
    assert rule("净值每天都变动。投资有风险。") == 0.0  # seven
    assert rule("净值每天都在不断变动。") == 0.0  # ten
    assert rule(SPAM) == 0.0
    with pytest.raises(ValueError, match="the smaller first"):
        says_enough(9, 8)


def test_the_score_is_the_weighted_sum_of_the_rules():
    reward = RuleReward(
        rules={"risk": discloses_risk, "end": ends_in_full},
        weights={"risk": 2.0, "end": 0.5},
    )
    texts = [GOOD, "保本", "好。"]
    assert reward(texts).tolist() == [2.5, 0.0, 0.5]
    figures = reward.figures(texts)
    assert {name: values.tolist() for name, values in figures.items()} == {
        "risk": [1.0, 0.0, 0.0],
        "end": [1.0, 0.0, 1.0],
    }


def test_the_best_answer_is_whole_and_neither_spam_nor_bare_nor_a_promise():
    reward = compliance_reward()
    texts = [GOOD, SPAM, "投资有风险。", "净值每天都在变动。", GOOD + "保本。"]
    scores = reward(texts)
    assert scores[0] == 6.5 == sum(reward.weights.values())
    assert scores[1] == pytest.approx(3 + 1 + 0.5 + 6 / 11)
    assert scores[2:4].tolist() == [5.5, 3.5]
    assert scores[4] == 5.5
    assert scores.shape == (5,) and scores.dtype == np.float64


@pytest.mark.parametrize("weights", [{}, {"other": 1.0}, {"risk": 1.0, "end": 1.0}])
def test_every_rule_has_its_weight(weights):
    with pytest.raises(ValueError, match="give each rule its weight"):
        RuleReward(rules={"risk": discloses_risk}, weights=weights)
    with pytest.raises(ValueError, match="at least one"):
        RuleReward(rules={}, weights={})


@pytest.fixture(scope="module")
def tokenizer(plain_tokenizer):
    made = copy.deepcopy(plain_tokenizer)
    made.add_special_tokens({"additional_special_tokens": ["<|assistant|>"]})
    return made


def test_the_answer_is_what_stands_behind_the_first_opening(tokenizer):
    prompt = encode_prompt(tokenizer, WORDS[-1])
    word, opener = len(WORDS) - 1, WORDS.index("<|assistant|>")
    texts = answer_texts(
        tokenizer,
        [[*prompt, word, EOS], [*prompt, word], [*prompt, word, opener, word, EOS]],
    )
    said = WORDS[-1]
    assert texts[:2] == [said, said]
    assert texts[2].split() == [said, "<|assistant|>", said]  # not hidden
    assert answer_texts(tokenizer, [[*prompt, EOS], prompt]) == ["", ""]
    with pytest.raises(ValueError, match="sequence 1 opens no answer"):
        answer_texts(tokenizer, [prompt, [word, word]])


def test_a_template_that_marks_no_answer_is_refused(tokenizer):
    silent = copy.deepcopy(tokenizer)
    silent.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ValueError, match="does not mark where an answer begins"):
        answer_texts(silent, [[1, 2]])


def test_ppo_gets_the_scores_of_the_answers(tokenizer):
    prompt = encode_prompt(tokenizer, WORDS[-1])
    reward = on_answers(tokenizer, lambda texts: np.array([len(t) for t in texts]))
    one, none = [*prompt, len(WORDS) - 1, EOS], [*prompt, EOS]
    assert reward([one, none]).tolist() == [len(WORDS[-1]), 0]


def test_rule_plus_model():
    def by_rule(sequences):
        return np.array([1.0, 0.0])

    def by_model(sequences):
        return np.array([-1.0, 2.0])

    score = combined(by_rule, by_model, 0.5)
    assert score([[1], [2]]).tolist() == [0.5, 1.0]
    assert combined(by_rule, by_model, 0.0)([[1], [2]]).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="weight=-1"):
        combined(by_rule, by_model, -1.0)
    with pytest.raises(ValueError, match="one number a sequence"):
        combined(by_rule, lambda s: np.ones((2, 1)), 1.0)([[1], [2]])
