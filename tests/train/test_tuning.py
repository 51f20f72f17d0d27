"""Resuming, options of the loss, shares of classes, and adapters under the trainer."""

import dataclasses
import json

import pytest
import torch

from finllm_utils.evals.choice import ChoiceItem
from finllm_utils.evals.monitor import Monitor
from finllm_utils.evals.pretrain_watch import PretrainWatch
from finllm_utils.model.load import load_model, save_model
from finllm_utils.records import Document
from finllm_utils.train.answer_scores import TaskWatch, mean_nats, score_answers
from finllm_utils.train.sft import IGNORED, TEXT, conversation_rows
from finllm_utils.train.tuning import (
    AnswerTrainer,
    model_to_tune,
    num_looks,
    plain_model,
    save_tuned,
    train_sft,
)
from finllm_utils.train.tuning_rows import PackedRows, reset_shares, token_shares
from tests.train.test_sft import CFG, RUNTIME, item, tiny_model, tokenizer

__all__ = ["tokenizer"]  # a fixture
ITEMS = [
    item("买保险好吗", "要看条款", task="a"),
    item("一二", "三", task="b"),
    item("四", "五六七八", task="b"),
] * 4


def tuned(tokenizer, model=None, *, items=ITEMS, rate=1e-2, epochs=3, **options):
    """The tuned model and what the run says; settings of ``sft`` among the options."""
    model = model or tiny_model()
    names = {field.name for field in dataclasses.fields(CFG)}
    changes = {k: options.pop(k) for k in list(options) if k in names}
    cfg = dataclasses.replace(CFG, **changes)
    rows = conversation_rows(tokenizer, items, cfg.max_seq_len)
    return model, train_sft(
        model, tokenizer, rows, cfg=cfg, runtime=options.pop("runtime", RUNTIME),
        learning_rate=rate, num_epochs=epochs, seed=0, **options,
    )  # fmt: skip


class Killed(Exception):
    """Stands for a kill."""


def kill_at(step):
    def look(now):
        if now == step:
            raise Killed

    return {"on_eval": look, "eval_every": 1}


def same(first, second):
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("options", [{}, {"neftune_alpha": 5.0}, {"rebalance": 1.0}])
def test_a_killed_run_ends_in_the_same_bits(tokenizer, tmp_path, options):
    losses = [{"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 1.0}, {"a": 0.3, "b": 0.9}]
    told = iter(losses)
    more = options | {"micro_batch_size": 1, "grad_accum_steps": 1}
    if "rebalance" in options:
        more["class_losses"] = lambda: next(told)
    whole, stats = tuned(tokenizer, **more)
    if "rebalance" in options:
        told = iter(losses)
        more["class_losses"] = lambda: next(told)
    more |= {"checkpoints": tmp_path / "c", "save_every": 2}
    with pytest.raises(Killed):
        tuned(tokenizer, **(more | kill_at(9)))
    half = tmp_path / "c" / "checkpoint-10"  # what a kill while writing leaves
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"\0")
    again, resumed = tuned(tokenizer, **more)
    assert resumed["resumed_from"] == 8 and resumed["steps"] == stats["steps"]
    assert same(whole, again)
    third, finished = tuned(tokenizer, **more)
    assert finished["resumed_from"] == finished["steps"] == stats["steps"]
    assert same(whole, third), "a finished run is not trained again"


def test_checkpoints_of_another_run_are_refused(tokenizer, tmp_path):
    with pytest.raises(Killed):
        tuned(tokenizer, checkpoints=tmp_path / "c", save_every=1, **kill_at(2))
    with pytest.raises(ValueError, match=r"another run \(sft.lora_rank, learning rate"):
        tuned(tokenizer, checkpoints=tmp_path / "c", lora_rank=3, rate=1.0)
    with pytest.raises(ValueError, match="rows differ.*delete that folder"):
        tuned(tokenizer, checkpoints=tmp_path / "c", items=ITEMS[1:], save_every=1)
    assert (tmp_path / "c" / "checkpoint-1").is_dir(), "nothing is lost"


def test_noise_on_embeddings_ends_with_the_training(tokenizer):
    plain, _ = tuned(tokenizer, epochs=1)
    noisy, _ = tuned(tokenizer, epochs=1, neftune_alpha=5.0)
    assert not same(plain, noisy)
    assert not noisy.get_input_embeddings()._forward_hooks
    ids = torch.tensor([[1, 9, 10]])
    assert torch.equal(noisy(ids).logits, noisy(ids).logits)


@pytest.mark.parametrize("loss", ["nll", "dft"])
def test_loss_by_hand(loss):
    """Two labelled tokens with probabilities 1/4 and 1/2, over 2 tokens."""

    class Model:
        def __call__(self, logits_to_keep, **_):
            chances = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
            assert logits_to_keep.tolist() == [0, 2]
            return type("Out", (), {"logits": chances.log()[None]})

    trainer = object.__new__(AnswerTrainer)
    trainer.args = type("Args", (), {"loss_type": loss})
    trainer._total_train_tokens = 0
    labels = torch.tensor([[IGNORED, 0, IGNORED, 1]])
    inputs = {"input_ids": torch.zeros(1, 4, dtype=torch.long), "labels": labels}
    found = float(trainer.compute_loss(Model(), inputs))
    nats = torch.tensor([4.0, 2.0]).log()
    weights = torch.tensor([0.25, 0.5]) if loss == "dft" else torch.ones(2)
    assert found == pytest.approx(float((weights * nats).sum() / 2), rel=1e-6)
    assert trainer._total_train_tokens == 4


def test_a_class_that_has_learnt_makes_room():
    shares = {"a": 0.4, "b": 0.4, TEXT: 0.2}
    moved = reset_shares(shares, {"a": 2.0, "b": 2.0}, {"a": 1.0, "b": 2.0}, 1.0)
    assert moved == pytest.approx({"a": 0.8 / 3, "b": 1.6 / 3, TEXT: 0.2})
    assert reset_shares(shares, {"a": 2.0}, {"b": 1.0}, 1.0) == shares
    squared = reset_shares(shares, {"a": 2.0, "b": 2.0}, {"a": 1.0, "b": 2.0}, 2.0)
    assert squared["a"] == pytest.approx(0.8 / 5)


def rows_of(task, number, length):
    ids = list(range(length))
    return [{"input_ids": ids, "labels": ids, "task": task} for _ in range(number)]


def test_drawn_rows_have_the_new_shares_and_the_old_number():
    rows = rows_of("a", 100, 4) + rows_of("b", 100, 4) + rows_of(TEXT, 20, 10)
    packed = PackedRows(rows, 24, seed=0, strength=1.0)
    assert token_shares(rows) == pytest.approx({"a": 0.4, "b": 0.4, TEXT: 0.2})
    length = len(packed)
    packed.draw(1, {"a": 2.0, "b": 2.0}, {"a": 0.5, "b": 2.0})
    assert len(packed) == length == len(packed.table())
    drawn = [n for row in packed.packed for n in row["seq_lengths"]]
    assert sum(n for n in drawn if n == 10) / sum(drawn) == pytest.approx(0.2, abs=0.03)
    once = packed.packed
    packed.draw(1, {"a": 2.0, "b": 2.0}, {"a": 0.5, "b": 2.0})
    assert packed.packed == once, "an epoch is drawn alike each time"
    packed.draw(2, {"a": 2.0, "b": 2.0}, {"a": 0.5, "b": 2.0})
    assert packed.packed != once
    packed.draw(0, {}, {})
    assert sorted(sum((r["input_ids"] for r in packed.packed), [])) == sorted(
        sum((r["input_ids"] for r in rows), [])
    )


@pytest.mark.parametrize(("epochs", "every"), [(1.5, 4), (2, 3), (3, 100)])
def test_looks_are_counted_before_they_happen(tokenizer, epochs, every):
    looked = []
    changes = {"eval_every": every, "micro_batch_size": 1, "grad_accum_steps": 2}
    tuned(tokenizer, epochs=epochs, on_eval=looked.append, **changes)
    cfg = dataclasses.replace(CFG, **changes)
    rows = conversation_rows(tokenizer, ITEMS, cfg.max_seq_len)
    assert num_looks(rows, cfg, epochs) == len(looked) - 1 > 0, "the start is not one"


def test_a_monitored_run_ends_in_the_same_bits(tokenizer):
    """Scored by a monitor at every step, with noise on the embeddings at work."""
    texts = [Document(id=f"kept_out/{n}", text=t, source="s", domain="english")
             for n, t in enumerate(("一二三", "四五六"))]  # fmt: skip
    items = [ChoiceItem(n, n, ("一", "二", "三", "四"), 0) for n in "五六"]
    watch = PretrainWatch(
        tokenizer, {"english": texts}, items, window=12, batch_tokens=64
    )
    monitor = Monitor(watch.probes(), num_checks=40)
    plain, _ = tuned(tokenizer, neftune_alpha=5.0)
    model = tiny_model()
    tasks = TaskWatch(
        model, tokenizer, ITEMS[:3], per_task=2, batch_tokens=64,
        log=lambda *a, **k: None, also=monitor,
    )  # fmt: skip
    tuned(tokenizer, model, neftune_alpha=5.0, on_eval=tasks, eval_every=1)
    assert len({r.step for r in monitor.readings}) == len(tasks.history) > 2
    assert same(plain, model)


def test_class_losses_are_asked_each_epoch_and_kept(tokenizer, tmp_path):
    asked = []
    model = tiny_model()
    watch = TaskWatch(
        model, tokenizer, ITEMS[:3], per_task=2, batch_tokens=64, log=lambda *a, **k: 0
    )

    def losses():
        asked.append(watch.now())
        return asked[-1]

    with pytest.raises(Killed):
        tuned(
            tokenizer, model, rebalance=1.0, class_losses=losses, save_every=1,
            checkpoints=tmp_path / "c", micro_batch_size=1, grad_accum_steps=1,
            **kill_at(9),
        )  # fmt: skip
    known = json.loads((tmp_path / "c" / "shares.json").read_text())
    assert list(known.values()) == asked and len(asked) >= 2
    assert asked[1]["a"] != asked[0]["a"]
    with pytest.raises(ValueError, match="needs class_losses"):
        tuned(tokenizer, rebalance=1.0)


@pytest.fixture
def base(tokenizer, tmp_path):
    """A base of a width that 4-bit CPU kernels can unpack."""
    model = tiny_model(hidden_size=64, intermediate_size=128)
    save_model(model, tokenizer, tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("method", "dtype"),
    [("lora", "float32"), ("qlora", "float32"), ("qlora", "bfloat16")],
)
def test_adapters_learn_resume_and_merge(tokenizer, base, tmp_path, method, dtype):
    runtime = dataclasses.replace(RUNTIME, dtype=dtype)
    more = {"method": method, "rate": 3e-2, "epochs": 5, "runtime": runtime}
    more |= {"micro_batch_size": 1, "grad_accum_steps": 1}
    cfg = dataclasses.replace(CFG, method=method, lora_rank=4)

    def start():
        return model_to_tune(base, cfg, runtime, seed=0)

    before = mean_nats(score_answers(load_model(base), tokenizer, ITEMS[:3], 64))
    model, _ = tuned(tokenizer, start(), **more)
    more |= {"checkpoints": tmp_path / "c", "save_every": 5}
    with pytest.raises(Killed):
        tuned(tokenizer, start(), **(more | kill_at(8)))
    again, stats = tuned(tokenizer, start(), **more)
    assert stats["resumed_from"] == 5 and same(model, again)
    save_tuned(model, tokenizer, base, cfg, runtime, tmp_path / "tuned")
    merged = load_model(tmp_path / "tuned")
    ids = torch.tensor([[1, 9, 10, 11]])
    if dtype == "float32":
        gap = (model(ids).logits - merged(ids).logits).abs().max()
        assert gap < 1e-3
    after = mean_nats(score_answers(merged, tokenizer, ITEMS[:3], 64))
    assert after < 0.6 * before
    watched = score_answers(plain_model(model), tokenizer, ITEMS[:3], 64)
    assert mean_nats(watched) == pytest.approx(after, rel=0.05)
