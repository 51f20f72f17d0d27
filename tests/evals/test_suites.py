"""The suites of the card at toy size: their names, their items, whom they take."""

import pytest

from finllm_utils.evals.local_models import LocalModel
from finllm_utils.evals.suites import course_suites
from finllm_utils.profiles import toy
from tests.evals.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def suites():
    return course_suites(toy().evals, seed=0)


def test_every_suite_has_items_and_a_rule_to_beat(suites):
    assert {"numeric", "stability", "hallucination", "safety"} < set(suites)
    axes = {suite.axis for suite in suites.values()}
    assert axes <= {"chinese", "finance", "dialogue", "application"}
    for name, suite in suites.items():
        assert suite.name == name and suite.questions and suite.baseline_name
        assert 0 <= suite.baseline < 0.6


def test_toy_asks_no_more_than_it_says(suites):
    cfg = toy().evals
    assert len(suites["numeric"].questions) == cfg.num_numeric_items
    assert len(suites["stability"].questions) == cfg.num_paraphrase_groups
    assert len(suites["hallucination"].questions) == cfg.num_exam_items


def test_only_chat_models_are_asked_to_chat(suites):
    plain = LocalModel("plain", tiny_model(), tiny_tokenizer(), chat=False)
    chat = LocalModel("chat", tiny_model(), tiny_tokenizer())
    for name in ("numeric", "stability", "hallucination"):
        assert suites[name].takes(chat) and not suites[name].takes(plain)
    assert suites["exam"].takes(plain)
