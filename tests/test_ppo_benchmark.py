"""The benchmark ``ppo_cpu``: trl gets our task, the arms do what 07 and 08 do."""

import random
import sys

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from finllm_utils.config import PPOConfig
from finllm_utils.corpora import insurance, splits
from finllm_utils.corpora.insurance import InsuranceAnswer, InsuranceQuestion
from finllm_utils.dependencies import REPOSITORY
from finllm_utils.evals.acceptance.rule import Measure, accept, report_figures
from finllm_utils.notebooks import code_cells, read_notebook
from finllm_utils.profiles import load_profile
from finllm_utils.rlhf.critic import Critic
from finllm_utils.rlhf.readout import TokenRewardModel
from finllm_utils.rlhf.reward_model import score_sequences
from finllm_utils.rlhf.reward_signal import RewardStats
from finllm_utils.rlhf.rollout import join_rollout, left_pad
from tests.benchmarks import ppo_accept_arms, ppo_arms, ppo_cpu, ppo_rivals
from tests.benchmarks.ppo_equal_kl_rivals import equal_kl

OPENER, EOS, PAD = 4, 2, 3
PROMPTS = [[1, 9, 8, OPENER], [1, 7, OPENER], [1, 6, 7, 8, 9, OPENER]]
RESPONSES = [[11, 12, EOS, 0], [EOS, 0, 0, 0], [13, 14, 15, EOS]]
STATS = RewardStats(mean=0.25, std=2.0)


def tiny_judge(readout: str) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, pad_token_id=PAD, num_labels=1,
        initializer_range=0.3,
    )  # fmt: skip
    if readout == "eos":
        return LlamaForSequenceClassification(config).eval()
    config.readout, config.answer_token_id = readout, OPENER
    return TokenRewardModel(config).eval()


def as_trl_reads(judge: ppo_rivals.RunningJudge, ids_BL: torch.Tensor) -> torch.Tensor:
    """(B, L) scores, called as ``get_reward`` and ``PolicyAndValueWrapper`` do."""
    real_BL = ids_BL != PAD
    output = getattr(judge, judge.base_model_prefix)(
        input_ids=ids_BL.masked_fill(~real_BL, 0),
        attention_mask=real_BL,
        position_ids=real_BL.cumsum(1) - real_BL.long(),
        return_dict=True,
        output_hidden_states=True,
        use_cache=False,
    )
    return judge.score(output.hidden_states[-1])[..., 0]


@pytest.mark.parametrize("readout", ["eos", "tokens"])
@torch.no_grad()
def test_trl_sees_our_rewards_and_our_first_values(readout):
    network = tiny_judge(readout)
    prompt_ids, prompt_mask = left_pad(PROMPTS, PAD)
    rollout = join_rollout(
        prompt_ids, prompt_mask, torch.tensor(RESPONSES), eos_id=EOS, pad_id=PAD
    )
    width, mask = rollout.prompt_width, rollout.response_mask_BT
    reward, value = (
        ppo_rivals.RunningJudge(network, STATS, skip_opener=skip)
        for skip in (True, False)
    )
    ours = STATS.normalise(
        score_sequences(network, rollout.sequences(), batch_tokens=1_000)
    )
    last = width + rollout.lengths_B - 1
    scores = as_trl_reads(reward, rollout.ids_BL)[torch.arange(3), last]
    assert np.allclose(scores, ours, atol=1e-5)
    assert np.ptp(ours) > 0.01
    values = as_trl_reads(value, rollout.ids_BL)[:, width - 1 : -1] * mask
    assert torch.allclose(values, Critic(network, STATS)(rollout), atol=1e-5)


def test_trl_steps_as_often_and_pays_as_ours():
    cfg = load_profile("toy", {"ppo.num_updates": 24}).ppo
    found = ppo_rivals.task_arguments(cfg, 768)
    tuned = ppo_rivals.tuned_arguments(cfg, "float32")
    batch = found["per_device_train_batch_size"] * found["gradient_accumulation_steps"]
    assert batch == cfg.rollout_batch_size == 32
    assert found["total_episodes"] == cfg.num_updates * batch
    assert found["per_device_train_batch_size"] > batch // found["num_mini_batches"]
    assert tuned == {
        "bf16": False,
        "gradient_checkpointing": False,
        "local_rollout_forward_batch_size": 32,
    }


def test_trl_gets_our_rates_and_frozen_rows():
    policy = tiny_judge("eos")
    value = ppo_rivals.RunningJudge(tiny_judge("eos"), STATS, skip_opener=False)
    cfg = load_profile("toy", {"ppo.num_updates": 4}).ppo
    optimizer, schedule = ppo_rivals._optimizers(policy, value, cfg)
    counts = [len(group["params"]) for group in optimizer.param_groups]
    assert counts == [len(list(policy.parameters())) - 1] * 2
    rates = []
    for _ in range(4):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert rates == [
        pytest.approx([f * cfg.learning_rate, f * cfg.critic_learning_rate])
        for f in (1, 0.75, 0.5, 0.25)
    ]


def row(rate: float, peak: float, device: float = 0.0) -> dict:
    return {
        "episodes_per_s": rate, "episodes_per_cpu_s": rate / 2, "peak_rss_mb": peak,
        "start_mb": 100.0, "device_mb": device,
    }  # fmt: skip


def test_ratios_are_medians_of_rounds_by_hand():
    ours = [row(8, 300), row(2, 300), row(9, 300)]
    rival = [row(2, 600), row(1, 500), row(3, 400)]
    found = ppo_rivals.compared(ours, rival, "trl")
    assert found == {
        "ratio_to_trl": 3,  # of 4, 2 and 3
        "cpu_ratio_to_trl": 3,
        "memory_ratio_to_trl": 0.6,  # of 1/2, 3/5 and 3/4
        "memory_growth_ratio_to_trl": 0.5,  # of 2/5, 2/4 and 2/3
    }
    on_device = ppo_rivals.compared([row(1, 9, 2.0)], [row(1, 3, 8.0)], "trl")
    assert on_device["memory_ratio_to_trl"] == 0.25
    assert on_device["memory_growth_ratio_to_trl"] == 0.25


def test_the_price_of_kl_follows_the_kl():
    assert ppo_rivals.next_coef(0.1, 6.0, 4.0) == pytest.approx(0.15)
    assert ppo_rivals.next_coef(0.1, 80.0, 4.0) == pytest.approx(0.4)
    assert ppo_rivals.next_coef(0.1, -0.2, 4.0) == pytest.approx(0.025)
    assert ppo_rivals.close_enough(4.39, 4.0) and not ppo_rivals.close_enough(3.5, 4.0)


def test_updates_follow_the_kl():
    assert ppo_rivals.next_updates(10, 4.0, 6.0) == 15
    assert ppo_rivals.next_updates(10, 1.0, 9.0) == 20
    assert ppo_rivals.next_updates(10, 9.0, 1.0) == 5
    assert ppo_rivals.next_updates(10, 4.9, 5.0) == 11
    assert ppo_rivals.next_updates(1, 5.0, 1.0) == 1


def test_a_task_survives_the_way_to_another_process():
    cfg = load_profile("toy", {"ppo.num_updates": 24})
    values = ppo_rivals.new_task(
        ppo_cpu.REPOSITORY, cfg, ppo_cpu.REPOSITORY / "p.json", device="cpu",
        dtype="float32", seed=3,
    )  # fmt: skip
    task = ppo_rivals.Task(**values)
    assert PPOConfig(**task.ppo) == cfg.ppo
    assert task.num_episodes == 24 * 32


ANSWERS = {  # 50 texts stand there twice, as some do in the corpus
    f"a{i}": InsuranceAnswer(f"a{i}", f"第{i % 250}个回答，" + "长" * (i % 250 % 7), "")
    for i in range(300)
}


def asked_of(split: str) -> list[InsuranceQuestion]:
    """60 questions; the answers of the splits overlap, as the corpus' do."""
    rng, begin = random.Random(split), {"train": 0, "valid": 60, "test": 120}[split]
    found = []
    for number in range(begin, begin + 60):
        right, *wrong = rng.sample(sorted(ANSWERS), 41)
        found.append(
            InsuranceQuestion(
                f"q{number}", f"问题{number}", "", "", (right,), tuple(wrong)
            )
        )
    return found


def test_pairs_are_those_that_07_draws(monkeypatch):
    for place in (insurance, ppo_arms):
        monkeypatch.setattr(place, "insurance_answers", lambda: ANSWERS)
    for place in (splits, ppo_arms):
        monkeypatch.setattr(place, "insurance_questions", asked_of)
    settings = {"reward.num_pairs": 40, "reward.num_eval_pairs": 30}
    cfg = load_profile("toy", settings)
    cells = code_cells(read_notebook(REPOSITORY / "notebooks/07_reward_model.ipynb"))
    first = next(i for i, cell in enumerate(cells) if "reserved_answers" in cell) - 1
    last = next(i for i, cell in enumerate(cells) if "without_leaks" in cell)
    drawing = [c for c in cells[: last + 1] if c.startswith(("import", "from"))]
    drawing += cells[first : last + 1]
    names = {"cfg": cfg, "SEED": 0, "tokenizer": None}  # asked for own pairs alone
    for cell in drawing:
        exec(cell, names)  # noqa: S102
    ours = ppo_arms.pair_sets(cfg, 0)
    assert ours.train == names["train"]
    assert ours.heldout == names["heldout"]["test"]
    assert ours.fit == names["fit"]
    other = ppo_arms.pair_sets(cfg, 1)
    assert other.heldout == ours.heldout
    assert other.train != ours.train


def acceptance_row(risen: int, hacked: bool) -> dict:
    """Of 40 items each gain rises on the first ``risen``."""
    after = [1.0] * risen + [0.0] * (40 - risen)
    measures = [
        Measure(name="bits", kind="ability", before=[1.0] * 40, after=[1.0] * 40,
                margin=0.1),
        *(Measure(name=name, kind="gain", before=[0.0] * 40, after=after)
          for name in ("safety", "helpfulness", "stability")),
    ]  # fmt: skip
    bad = [Measure(name=m.name, kind=m.kind, before=m.before, margin=m.margin,
                   after=[0.0] * 40 if m.name == "bits" else m.after)
           for m in measures]  # fmt: skip
    verdict, caught = accept(measures), accept(bad)
    return ppo_accept_arms.shown(verdict) | {
        "figures": report_figures(verdict, *([caught] if hacked else [])),
        "hacked": [ppo_accept_arms.shown(caught)] if hacked else [],
    }


def test_three_verdicts_make_one_by_hand():
    rows = [acceptance_row(20, True), acceptance_row(0, False), acceptance_row(8, 0)]
    figures, notes = ppo_accept_arms.summary(rows)
    assert figures == {
        "accept.verdict": 1,  # of 1, 0 and 1
        "accept.safety_gain": 0.2,  # of 20, 0 and 8 of 40
        "accept.helpfulness_gain": 0.2,
        "accept.stability_gain": 0.2,
        "accept.hacked_rejected": 1,
    }
    words = ["accepted", "undecided", "accepted"]
    assert [verdict for verdict, _ in notes["verdicts"]] == words
    assert notes["verdicts"][1][1] == ["safety", "helpfulness", "stability"]
    assert notes["hacked"] == ["rejected", ["bits"]]
    n, before, after, low, high, finding = notes["first_seed"]["safety"]
    assert (n, before, after, finding) == (40, 0, 0.5, "better")
    assert notes["intervals_95"]["accept.safety_gain"][0] == [low, high]
    assert 0 < low < 0.5 < high < 1


def test_a_run_without_the_second_judge_is_told_where_to_get_one(
    tmp_path, monkeypatch, capsys
):
    paid = ppo_arms.reward_folder(tmp_path)
    paid.mkdir(parents=True)
    (paid / "stats.json").touch()
    monkeypatch.setattr(sys, "argv", ["ppo_cpu", "--run", str(tmp_path)])
    with pytest.raises(SystemExit):
        ppo_cpu.options("toy", "toy")
    error = capsys.readouterr().err
    assert "heldout_judge is missing" in error and "notebook 07_reward_model" in error


class StandIn(ppo_cpu.Bench):
    """Runs are formulas: our KL is updates / 10 kl_coef, trl's is 5 nats."""

    def __init__(self, folder):
        self.cfg = load_profile("toy", {"ppo.kl_coef": 0.1})
        self.policies, self.dtype, self.trained = folder, "float32", []
        self.numbers = (0, 1)

    def contend(self, python, name, seed, keep, **ppo):
        policy = self.policy_of(name, seed)
        if not policy.exists():
            self.trained.append((name, seed, ppo))
            policy.mkdir()
        kl = ppo["num_updates"] / 10 / ppo.get("kl_coef", 0.1)
        kl = 5.0 if name == "trl" else kl
        (policy / "model.safetensors").write_text(str(kl))
        return {"wall_s": 30.0 if name == "trl" else float(ppo["num_updates"])}

    def once(self, arm, policy, *args, also, **changes):
        kl = float((policy / "model.safetensors").read_text())
        gain = {"reward_gain_std": kl / 10, "reward_gain_length_adjusted": 0.0}
        return gain | {"kl_nats": kl, "length_after": 9.0, "heldout_rm_gain": 0.1}


def test_updates_or_price_are_changed_until_the_kl_is_trls(tmp_path):
    bench = StandIn(tmp_path)
    figures, notes = equal_kl(bench, {"ours": "python", "trl": "other"})
    length = {"num_updates": 10}
    fewer, dearer = {"num_updates": 5}, {"kl_coef": 0.2, **length}
    assert bench.trained == [
        (name, seed, ppo)
        for name, ppo in (
            ("ours", length),
            ("trl", length),
            ("ours_num_updates_5", fewer),
            ("ours_kl_coef_0.2", dearer),
        )
        for seed in (0, 1)
    ]
    assert notes["num_updates_tried"] == {10: 10.0, 5: 5.0}
    assert notes["kl_coef_tried"] == {0.1: 10.0, 0.2: 5.0}
    assert figures["gain_ours"] == 1.0 and figures["seconds_trl"] == 30.0
    assert figures["gain_over_trl_at_equal_kl"] == 0.0
    assert figures["kl_ours_at_equal_kl_by_price"] == 5.0
    assert figures["seconds_ours_at_equal_kl"] == 5.0
    assert notes["ppo.ptx_coef"] == 0 and notes["seeds"] == [0, 1]


def test_without_trl_ours_is_measured_alone(tmp_path):
    bench = StandIn(tmp_path)
    figures, notes = equal_kl(bench, {"ours": "python"})
    assert figures["kl_ours"] == 10.0 and "trl" in notes
    assert [name for name, *_ in bench.trained] == ["ours", "ours"]
