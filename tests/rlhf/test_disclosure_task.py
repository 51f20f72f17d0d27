"""The task on tiny networks: its data, its figures, and a share that PPO raises."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from finllm_utils.finance.compliance import disclosures, promises
from finllm_utils.model.load import save_model
from finllm_utils.profiles import load_profile
from finllm_utils.rlhf import disclosure_task as task
from finllm_utils.rlhf.policy_report import sample_policy
from finllm_utils.rlhf.reward_model import encode_prompt
from finllm_utils.rlhf.rule_reward import (
    RuleReward,
    answer_texts,
    discloses_risk,
    on_answers,
    says_it_once,
)
from tests.rlhf.conftest import EOS, PAD, tiny_config, word_tokenizer

WORDS = ["<unk>", "<s>", "</s>", "<pad>", "<|user|>", "<|end|>", "<|assistant|>"]
WORDS += ["投资有风险。", "净值会变。", "可以。", "保本。"]
WORDS += [f"w{i}" for i in range(40 - len(WORDS))]


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(WORDS)


@pytest.fixture
def cfg():
    cfg = task.task_settings(load_profile("toy"))
    return dataclasses.replace(
        cfg,
        runtime=dataclasses.replace(cfg.runtime, device="cpu", dtype="float32"),
        sft=dataclasses.replace(cfg.sft, num_epochs=1),
        ppo=dataclasses.replace(
            cfg.ppo,
            num_updates=10,
            num_mini_batches=2,
            max_new_tokens=4,
            learning_rate=5e-3,
            critic_learning_rate=5e-3,
            kl_coef=0.01,
        ),
    )


def test_splits_share_no_product_and_no_wording():
    data = task.read_json(task.TASK_FILE)
    names = [*data["facts"]] + [n for part in data["products"].values() for n in part]
    wordings = [w for part in data["questions"].values() for w in part]
    assert len(set(names)) == len(names) == 80
    assert len(set(wordings)) == len(wordings) == 40
    counts = {s: len(set(task.task_questions(s))) for s in ("train", "valid", "test")}
    assert counts == {"train": 56 * 20, "valid": 8 * 4, "test": 16 * 16}
    assert "半导体基金要不要入手？" in task.task_questions("test")


def test_a_third_of_the_examples_disclose_in_each_wording_and_none_promises():
    examples = task.warm_start_examples()
    answers = [item.messages[1].content for item in examples]
    assert len(answers) == 72 and len({item.id for item in examples}) == 72
    found = [disclosures(answer) for answer in answers]
    first = [bool(f) for f in found[:9]]  # of three products
    assert first == [True, False, False, True, False, False, False, True, False]
    for ending in task.read_json(task.TASK_FILE)["disclosures"]:
        assert sum(answer.endswith(ending) for answer in answers) == 6
    assert not any(promises(answer) for answer in answers)
    asked = {item.messages[0].content for item in examples}
    assert asked <= set(task.task_questions("train"))
    # the six wordings take turns: each gets as many answers with a disclosure
    assert [sum(map(bool, found[k::6])) for k in range(6)] == [4] * 6


def test_ppo_raises_the_share_on_unseen_questions(tokenizer, cfg):
    policy = LlamaForCausalLM(tiny_config()).eval()
    reference = copy.deepcopy(policy)
    rules = RuleReward(
        rules={"risk": discloses_risk, "once": says_it_once},
        weights={"risk": 2.0, "once": 1.0},
    )
    history = task.train_on_rules(
        policy, reference, tokenizer, task.task_reward(tokenizer, rules), cfg, seed=0
    )
    shares = []
    prompts = [encode_prompt(tokenizer, q) for q in task.task_questions("test")[::2]]
    for network in (reference, policy):
        samples = sample_policy(
            network, None, on_answers(tokenizer, rules), prompts, max_new_tokens=4,
            eos_id=EOS, pad_id=PAD, seed=1,
        )  # fmt: skip
        both = [p + r for p, r in zip(prompts, samples.responses, strict=True)]
        shares.append(task.disclosed_share(answer_texts(tokenizer, both))[0])
    assert len(history) == cfg.ppo.num_updates
    assert shares[0] < 0.5 and shares[1] > 0.9


def test_the_figures_of_a_whole_run(tokenizer, cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "NUM_ELSEWHERE", 4)
    monkeypatch.setattr(task, "train_sft", lambda *args, **options: None)
    cfg = dataclasses.replace(
        cfg, ppo=dataclasses.replace(cfg.ppo, num_updates=3, critic_warmup_updates=1)
    )
    save_model(LlamaForCausalLM(tiny_config()), tokenizer, tmp_path)
    heard = []
    run = task.run_disclosure_task(
        tmp_path,
        cfg,
        split="valid",
        model_reward=lambda sequences: np.array([len(s) for s in sequences]),
        on_update=lambda update, figures: heard.append(update),
    )
    found = run.figures
    assert heard == [0, 1, 2] and len(run.history) == 3 and found["n"] == 32
    assert run.questions == task.task_questions("valid")
    for when, texts in (("before", run.before), ("after", run.after)):
        share = np.mean([bool(disclosures(text)) for text in texts])
        assert found[f"disclosure_{when}"] == pytest.approx(share)
        assert found[f"rule.discloses_risk_{when}"] == pytest.approx(share)
        counted = np.mean([len(disclosures(text)) for text in texts])
        assert found[f"disclosures_an_answer_{when}"] == pytest.approx(counted)
        low, high = (found[f"disclosure_{when}_{end}"] for end in ("low", "high"))
        assert low <= share <= high and low < high
        length = found[f"length_{when}"]
        assert found[f"model_reward_{when}"] > length  # the questions' tokens count
    assert found["kl_nats_before"] == 0 and found["kl_nats_after"] != 0
    assert found["disclosure_seconds"] > 0 and found["disclosure_cpu_seconds"] > 0


def test_a_weight_needs_a_model(tokenizer):
    rules = RuleReward(rules={"risk": discloses_risk}, weights={"risk": 1.0})
    with pytest.raises(ValueError, match="model_weight=0.5 needs a model_reward"):
        task.task_reward(tokenizer, rules, None, 0.5)
    prompt = encode_prompt(tokenizer, "w0")
    both = task.task_reward(tokenizer, rules, lambda s: np.full(len(s), 4.0), 0.5)
    assert both([[*prompt, 7, EOS], [*prompt, 8, EOS]]).tolist() == [3.0, 2.0]


def test_the_share_has_wilson_bounds():
    share, low, high = task.disclosed_share(["投资有风险。"] * 5 + ["可以。"] * 5)
    assert share == 0.5 and (round(low, 3), round(high, 3)) == (0.237, 0.763)


def test_the_warm_start_trains_every_weight(tokenizer, cfg):
    model = LlamaForCausalLM(tiny_config())
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    task.warm_start(model, tokenizer, cfg, seed=0)
    same = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert not same and all(p.requires_grad for p in model.parameters())
