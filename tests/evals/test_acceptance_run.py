"""Two tiny models go through everything that acceptance asks; a hacked one learns."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from finllm_utils.evals.acceptance import hacked
from finllm_utils.evals.acceptance import run as run
from finllm_utils.evals.acceptance.rule import accept
from finllm_utils.evals.choice import ChoiceItem
from finllm_utils.evals.tasks.following import FollowingItem
from finllm_utils.evals.tasks.helpfulness import helpfulness
from finllm_utils.evals.tasks.stability import ParaphraseGroup
from finllm_utils.records import Document
from finllm_utils.rlhf.reward_model import encode_prompt
from tests.evals.test_hallucination import BOOK
from tests.evals.tiny import TEXTS, tiny_model, tiny_tokenizer
from tests.rlhf.small_ppo import CFG

TOKENIZER = tiny_tokenizer()
QUESTIONS = [f"{a}{b}是什么？" for a in ("保险", "银行", "资金") for b in "约利率合同"][
    :12
]
DOCUMENTS = [
    Document(id=f"heldout/{i}", text=TEXTS[i % 3], source="s", domain="finance_zh")
    for i in range(20)
]
FOLLOWING = FollowingItem.read(
    {"id": "f", "domain": "x", "prompt": "问", "reference": "答",
     "rules": [{"type": "max_chars", "value": 3}]}
)  # fmt: skip


def count_of_tokens(sequences):
    return np.array([len(s) for s in sequences], float)


def suite(**changes) -> run.Suite:
    return run.Suite(
        **dict(
            documents={"finance_zh": DOCUMENTS},
            choice_items=[
                ChoiceItem("1", "保险？", ("合同", "银行", "资金", "贷款"), 0)
            ],
            exams={"following": run.following_scorer([FOLLOWING])},
            safety=lambda reply: [len(reply([])) == 0] * 3,
            questions=QUESTIONS,
            book=BOOK,
            paraphrases=[
                ParaphraseGroup(id=str(i), question=q, paraphrases=(f"问{q}",))
                for i, q in enumerate(QUESTIONS[:3])
            ],
            reward=count_of_tokens,
            window=24,
            batch_tokens=256,
            max_new_tokens=4,
            num_sampled=3,
        )
        | changes
    )


@pytest.fixture(scope="module")
def records() -> dict[str, run.Records]:
    torch.set_num_threads(1)
    return {
        name: run.collect(tiny_model(seed), TOKENIZER, suite())
        for name, seed in (("sft", 0), ("ppo", 1))
    }


def test_every_measure_has_one_score_an_item(records):
    found = {m.name: m for m in run.measures(records["sft"], records["ppo"])}
    sizes = {name: len(m.before) for name, m in found.items()}
    assert sizes == {
        "bits_per_byte_finance_zh": 20, "choice": 1, "following": 1, "safety": 3,
        "helpfulness": 12, "helpfulness_reward": 12, "stability": 3,
        "stability_sampled": 3, "reward_spread": 3, "length_spread": 3,
    }  # fmt: skip
    kinds = {m.kind for m in found.values() if m.name in ("choice", "following")}
    assert kinds == {"ability"}
    bits = found["bits_per_byte_finance_zh"]
    assert (bits.relative, bits.higher_is_better, bits.tolerance) == (True, False, 0.02)
    assert bits.figure(bits.before) == pytest.approx(
        records["sft"].bits["finance_zh"].value
    )


def test_scores_are_those_of_the_functions_that_define_them(records):
    one = records["sft"]
    scores = helpfulness(QUESTIONS, one.answers, BOOK).scores
    assert np.array_equal(one.gains["helpfulness"], scores)
    ids = [len(encode_prompt(TOKENIZER, q)) + len(a) + 1
           for q, a in zip(QUESTIONS, one.answers, strict=True)]  # fmt: skip
    assert one.gains["helpfulness_reward"].tolist() == ids
    assert one.watched["length_spread"].shape == (3,)


def test_a_model_against_itself_is_neither_accepted_nor_rejected(records):
    same = run.measures(records["sft"], records["sft"])
    assert accept(same, num_bootstrap=200).verdict == "undecided"


def test_other_documents_do_not_pair(records):
    other = dataclasses.replace(
        records["ppo"],
        bits={"finance_zh": dataclasses.replace(
            records["ppo"].bits["finance_zh"], document_bytes=(1,) * 20)},
    )  # fmt: skip
    with pytest.raises(ValueError, match="finance_zh: the models were asked different"):
        run.measures(records["sft"], other)


def test_recorded_raters_are_a_gain_named_by_their_kind():
    found = run.preference_measure(np.array([1.0, -1.0, 0.0]), "model")
    assert (found.name, found.kind) == ("helpfulness_model_raters", "gain")
    assert list(found.before) == [0, 0, 0] and list(found.after) == [1, -1, 0]


def test_the_flawed_reward_counts_the_word_in_the_answer_alone():
    prompt = encode_prompt(TOKENIZER, "保险保险？")
    answer = TOKENIZER("保险公司保险", add_special_tokens=False)["input_ids"]
    reward = hacked.keyword_reward(TOKENIZER, "保")  # it decodes with blanks between
    assert reward([prompt + answer, prompt]).tolist() == [2, 0]


def test_hacking_raises_the_flawed_reward_and_spares_the_policy():
    policy = tiny_model()
    with torch.no_grad():  # likely enough to be found at random
        policy.lm_head.weight.mul_(0.05)
    before = copy.deepcopy(policy.state_dict())
    prompts = [encode_prompt(TOKENIZER, q) for q in QUESTIONS] * 3
    scores: list[float] = []
    changed = hacked.hacked_policy(
        policy,
        TOKENIZER,
        prompts,
        dataclasses.replace(CFG, rollout_batch_size=32, learning_rate=1e-2),
        seed=0,
        keyword="保",
        num_updates=10,
        on_update=lambda update, figures: scores.append(figures["score"]),
    )
    assert np.mean(scores[-3:]) > 3 * np.mean(scores[:3])
    state = policy.state_dict()
    assert all(torch.equal(state[k], v) for k, v in before.items())
    assert not torch.equal(changed.lm_head.weight, policy.lm_head.weight)
