"""What a user may turn on: each option does what it says, and off is off."""

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from finllm_utils.records import Document
from finllm_utils.rlhf import ppo
from finllm_utils.rlhf.advantages import gae, whiten
from finllm_utils.rlhf.critic import fresh_critic
from finllm_utils.rlhf.logprobs import (
    logprobs_and_entropy,
    response_hidden,
    response_logprobs,
)
from finllm_utils.rlhf.ppo_optim import make_optimizers, rate_factor, set_learning_rates
from finllm_utils.rlhf.ptx import ptx_batches, ptx_loss, ptx_rows, right_pad
from finllm_utils.rlhf.reward_signal import token_rewards
from tests.rlhf.conftest import EOS, PAD
from tests.rlhf.small_ppo import (
    CFG,
    PTX_ROWS,
    networks,
    one_rollout,
    same,
    settings,
    steps,
    train,
    weights,
)

# learning rates


def test_warmup_and_decay_by_hand():
    factors = [rate_factor(u, 10, 0.2) for u in range(10)]
    expected = [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    assert factors == expected
    assert [rate_factor(u, 4, 0.0) for u in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert rate_factor(0, 3, 0.5) == 0.5 and rate_factor(-1, 4, 0.0) == 0.0


def test_rates_without_warmup_are_those_of_torchs_schedule_to_the_bit():
    for num_updates in (3, 7, 14, 40):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=5e-4)
        theirs = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda u, n=num_updates: 1 - u / n
        )
        for update in range(num_updates):
            rate = 5e-4 * rate_factor(update, num_updates, 0.0)
            assert rate == optimizer.param_groups[0]["lr"]
            optimizer.step()
            theirs.step()


def test_the_policys_schedule_begins_when_the_critic_has_warmed_up():
    cfg = settings(num_updates=6, critic_warmup_updates=2, critic_learning_rate=1.0)
    optimizers = make_optimizers(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    seen = []
    for update in range(6):
        set_learning_rates(optimizers, cfg, update)
        seen.append([o.param_groups[0]["lr"] for o in optimizers])
    peak = cfg.learning_rate
    assert [policy for policy, _ in seen] == [
        peak * factor for factor in (0, 0, 1, 0.75, 0.5, 0.25)
    ]
    assert [critic for _, critic in seen] == [1 - u / 6 for u in range(6)]


def test_warmup_changes_a_run_and_zero_does_not():
    first, _ = train(warmup_share=0.0)
    assert same(first, train()[0])
    assert not same(first, train(warmup_share=0.5)[0])


# critic warm-up


def test_critic_warmup_leaves_the_policy_as_it_was():
    nets, start, told = networks(), weights(networks()), []

    def on_update(update, figures):
        told.append((weights(nets), figures))

    train(nets, critic_warmup_updates=2, num_updates=3, on_update=on_update)
    for update, (now, figures) in enumerate(told):
        moved = {n for n in now if not torch.equal(now[n], start[n])}
        assert any(n.startswith("critic.") for n in moved)
        assert any(n.startswith("policy.") for n in moved) == (update == 2)
        assert (figures["approx_kl"] == 0) == (update < 2)
    assert [f["kl_nats"] for _, f in told] == pytest.approx([0, 0, 0], abs=1e-6)
    keys = {tuple(sorted(figures)) for _, figures in told}
    assert len(keys) == 1, "a table of the history has no holes"


def test_critic_warmup_leaves_no_trace_in_the_policys_moments(monkeypatch):
    made, inner = [], ppo.make_optimizers
    monkeypatch.setattr(
        ppo, "make_optimizers", lambda *nets: made.extend(inner(*nets)) or tuple(made)
    )
    train(critic_warmup_updates=2, num_updates=3)
    taken = [{int(s["step"]) for s in o.state.values()} for o in made]
    assert taken == [{4}, {12}], "four steps an update: one update, and three"


def test_a_fresh_critic_begins_at_zero_and_learns(policy):
    state = torch.get_rng_state()
    critic = fresh_critic(policy)
    assert torch.equal(state, torch.get_rng_state())
    nets = (policy, copy.deepcopy(policy), critic)
    assert not one_rollout(nets).values_BT.any()
    own = {p.data_ptr() for p in policy.parameters()}
    assert not own & {p.data_ptr() for p in critic.parameters()}
    _, history = train(nets, num_updates=3, critic_warmup_updates=1)
    assert history[-1]["max_value"] > 0


# early stop


def scripted_kl(monkeypatch, values):
    """Mini-batches that report these distances, and the steps that were taken."""
    inner, told = ppo._mini_batch_loss, iter(values)

    def scripted(*arguments):
        loss, figures = inner(*arguments)
        return loss, figures | {"approx_kl": next(told)}

    monkeypatch.setattr(ppo, "_mini_batch_loss", scripted)


def test_early_stop_by_hand(monkeypatch):
    """A target of 0.02 allows 0.03: the fourth mini-batch is not learnt from."""
    assert ppo.EARLY_STOP_FACTOR == 1.5
    nets, taken = networks(), []
    experience = one_rollout(nets)
    inner = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: taken.append(1) or inner(self)
    )
    cfg = settings(early_stop_kl=0.02, num_ppo_epochs=3, num_mini_batches=2)
    scripted_kl(monkeypatch, [0.0, 0.025, 0.0299, 0.0301, 0.0, 0.0])
    figures = steps(nets, experience, cfg)
    assert len(taken) == 2 * 3 and figures["num_steps"] == 3
    assert figures["approx_kl"] == pytest.approx((0.0 + 0.025 + 0.0299) / 3)
    assert all(p.grad is None for p in nets[0].parameters())


def test_early_stop_never_stops_before_the_first_step(monkeypatch):
    nets = networks()
    cfg = settings(early_stop_kl=1e-9)
    scripted_kl(monkeypatch, [1.0, 1.0])
    assert steps(nets, one_rollout(nets), cfg)["num_steps"] == 1


def test_early_stop_holds_a_real_run_nearer():
    _, free = train(learning_rate=2e-2)
    _, held = train(learning_rate=2e-2, early_stop_kl=0.01)
    assert "num_steps" not in free[0]
    assert all(1 <= h["num_steps"] < 4 for h in held)
    assert all(
        h["approx_kl"] <= 0.015 < f["approx_kl"]
        for h, f in zip(held, free, strict=True)
    )
    loose, history = train(early_stop_kl=1e6)
    assert same(loose, train()[0]) and history[0]["num_steps"] == 4


# dual clip and reward whitening inside a run


def test_dual_clip_reaches_the_loss(monkeypatch):
    seen, inner = [], ppo.losses.policy_loss

    def spy(*arguments, **more):
        seen.append(more["dual_clip"])
        return inner(*arguments, **more)

    monkeypatch.setattr(ppo.losses, "policy_loss", spy)
    train(num_updates=1, dual_clip=3.0)
    assert seen == [3.0] * 4


def test_whitened_rewards_reach_the_advantages():
    nets = networks()
    plain, white = (
        one_rollout(nets, settings(whiten_rewards=on, kl_coef=0.5))
        for on in (False, True)
    )
    mask = plain.rollout.response_mask_BT
    rewards = token_rewards(
        plain.scores_B, plain.rollout.ended_B(EOS), plain.logprobs_BT,
        plain.ref_logprobs_BT, mask, kl_coef=0.5, reward_clip=CFG.reward_clip,
        missing_eos_penalty=CFG.missing_eos_penalty,
    )  # fmt: skip
    for experience, shown in (
        (plain, rewards),
        (white, whiten(rewards, mask, shift_mean=False)),
    ):
        _, returns = gae(
            shown, plain.values_BT, mask, gamma=CFG.gamma, gae_lambda=CFG.gae_lambda
        )
        assert torch.equal(experience.returns_BT, returns)
    assert not torch.equal(plain.returns_BT, white.returns_BT)


# pre-training loss


def plain_text_loss(policy, rows):
    """Mean nats a predicted token, by transformers and a row at a time."""
    nats = [
        F.cross_entropy(
            policy(torch.tensor([row])).logits[0, :-1],
            torch.tensor(row[1:]),
            reduction="sum",
        )
        for row in rows
    ]
    return sum(nats) / sum(len(row) - 1 for row in rows)


def gradients(policy):
    found = {n: p.grad.clone() for n, p in policy.named_parameters()}
    policy.zero_grad(set_to_none=True)
    return found


class Letters:
    """A tokenizer whose ids are the letters' places in the alphabet, plus 10."""

    bos_token_id, eos_token_id = 1, EOS

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [10 + ord(letter) - ord("a") for letter in text]}


def test_ptx_rows_are_documents_in_parts_and_as_many_as_the_steps_need():
    documents = [
        Document(id=text, text=text, source="s", domain="d")
        for text in ("abc", "abcde", "fghij", "k")
    ]
    # "abcde" with <s> and </s> has 7 tokens: 4 and 3; "abc" 5: 4 and a lone </s>.
    found = ptx_rows(Letters(), documents, settings(ptx_coef=0.2, ptx_seq_len=4))
    assert found[:3] == [[1, 10, 11, 12], [1, 10, 11, 12], [13, 14, EOS]]
    assert len(found) == 6
    one = dict(num_updates=1, num_ppo_epochs=1, num_mini_batches=2, ptx_batch_size=2)
    few = ptx_rows(Letters(), documents, settings(ptx_coef=0.2, ptx_seq_len=4, **one))
    assert few == found[:4]
    assert ptx_rows(Letters(), documents, settings()) == []


def test_ptx_gradient_equals_plain_cross_entropy(policy):
    ours = ptx_loss(policy, right_pad(PTX_ROWS, PAD))
    ours.backward()
    mine = gradients(policy)
    theirs = plain_text_loss(policy, PTX_ROWS)
    theirs.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for name, gradient in gradients(policy).items():
        assert torch.allclose(mine[name], gradient, atol=1e-6), name


def test_ptx_loss_of_a_uniform_policy_is_the_log_of_the_vocabulary(policy):
    torch.nn.init.zeros_(policy.lm_head.weight)
    loss = ptx_loss(policy, right_pad(PTX_ROWS, PAD))
    assert loss.item() == pytest.approx(math.log(40), rel=1e-6)


def test_ptx_adds_its_weighted_gradient_to_the_policys(monkeypatch):
    """One step's gradients: those of PPO plus 27.8 times those of the text."""
    seen = []

    def spy(self):
        seen.append([p.grad.clone() for g in self.param_groups for p in g["params"]])

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    one = {"num_ppo_epochs": 1, "num_mini_batches": 1, "max_grad_norm": 1e9}
    nets = networks()
    experience = one_rollout(nets)
    steps(nets, experience, settings(**one))
    cfg = settings(ptx_coef=27.8, **one)
    figures = steps(nets, experience, cfg, ptx=ptx_batches(PTX_ROWS, cfg, 0, PAD, 0))
    (batch,) = ptx_batches(PTX_ROWS, cfg, 0, PAD, 0)
    text = plain_text_loss(nets[0], batch.sequences())
    text.backward()
    without, critic_without, with_, critic_with = seen
    for ppo_part, both, (name, p) in zip(
        without, with_, nets[0].named_parameters(), strict=True
    ):
        expected = ppo_part + 27.8 * p.grad
        assert torch.allclose(both, expected, atol=1e-4), name
        assert not torch.allclose(both, ppo_part, atol=1e-4), name
    assert all(
        torch.equal(a, b) for a, b in zip(critic_without, critic_with, strict=True)
    )
    assert figures["ptx_loss"] == pytest.approx(text.item(), rel=1e-5)


def test_ptx_rows_come_in_turn_and_depend_on_the_step_alone():
    cfg = settings(ptx_coef=1.0, ptx_batch_size=3)
    batches = [
        b.sequences() for u in range(4) for b in ptx_batches(PTX_ROWS, cfg, u, PAD, 0)
    ]
    assert len(batches) == 4 * 4
    flat = sum(batches, [])
    for begin in range(0, len(flat) - 6, 7):
        assert sorted(flat[begin : begin + 7]) == sorted(PTX_ROWS)
    again = [b.sequences() for b in ptx_batches(PTX_ROWS, cfg, 2, PAD, 0)]
    assert again == batches[8:12]
    assert flat[:7] != flat[7:14], "another order in each cycle"
    assert ptx_batches(PTX_ROWS, settings(), 0, PAD, 0) is None


def test_ptx_holds_the_texts_loss_down_in_a_run():
    losses = {}
    for coef in (0.0, 3.0):
        nets, _ = train(ptx_coef=coef, ptx_rows=PTX_ROWS, num_updates=6)
        losses[coef] = ptx_loss(nets[0], right_pad(PTX_ROWS, PAD)).item()
    assert losses[3.0] < losses[0.0] - 0.1
    assert same(train(ptx_rows=PTX_ROWS)[0], train()[0]), "rows alone change nothing"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "ppo.ptx_coef=1.0 needs pre-training text"),
        ([[1, 2, 3], [1]], r"ptx_rows\[1\] has 1 tokens"),
        ([[1] * 65], r"ptx_rows\[0\] has 65 tokens: a row needs 2 to 64"),
    ],
)
def test_text_that_cannot_be_learnt_is_named(rows, message):
    with pytest.raises(ValueError, match=message):
        train(ptx_coef=1.0, ptx_rows=rows)


# precision


def test_float32_logits_compute_the_output_layer_in_float32():
    nets = networks()
    rollout = one_rollout(nets).rollout
    mask = rollout.response_mask_BT.bool()
    with torch.no_grad():
        hidden = response_hidden(nets[0].model, rollout, torch.bfloat16)[mask]
        logits = hidden.float() @ nets[0].lm_head.weight.T
        exact = logits.log_softmax(-1).gather(1, rollout.responses_BT[mask][:, None])[
            :, 0
        ]
        how = {"temperature": 1.0, "dtype": torch.bfloat16}
        rough = response_logprobs(nets[0], rollout, **how)[mask]
        fine = response_logprobs(nets[0], rollout, logits_dtype=torch.float32, **how)[
            mask
        ]
    assert fine.dtype == torch.float32
    assert torch.allclose(fine, exact, atol=1e-5)
    assert not torch.allclose(rough, exact, atol=1e-4)


def test_float32_logits_reach_every_forward_of_a_run(monkeypatch):
    seen = []
    for name, inner in (
        ("response_logprobs", response_logprobs),
        ("logprobs_and_entropy", logprobs_and_entropy),
        ("ptx_loss", ptx_loss),
    ):

        def spy(*arguments, inner=inner, name=name, **more):
            seen.append((name, more["logits_dtype"]))
            return inner(*arguments, **more)

        monkeypatch.setattr(ppo, name, spy)
    options = {
        "num_updates": 1,
        "dtype": torch.bfloat16,
        "ptx_coef": 1.0,
        "ptx_rows": PTX_ROWS,
    }
    for on, expected in ((True, torch.float32), (False, torch.bfloat16)):
        seen.clear()
        train(float32_logits=on, **options)
        assert len(seen) == 2 + 4 + 4 and {dtype for _, dtype in seen} == {expected}


def test_all_options_are_off_by_default():
    names = {
        "warmup_share", "kl_target", "early_stop_kl", "dual_clip", "ptx_coef",
        "critic_warmup_updates", "whiten_rewards", "float32_logits",
    }  # fmt: skip
    defaults = {f.name: f.default for f in dataclasses.fields(CFG)}
    assert not any(defaults[name] for name in names)
