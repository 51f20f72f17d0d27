"""What watches a pass: text that training leaves out, scored as in the report."""

import dataclasses
import json
import random

import numpy as np
import pytest
import torch

from finllm_utils.config import EvalsConfig
from finllm_utils.corpora.splits import insurance_questions
from finllm_utils.evals import pretrain_watch
from finllm_utils.evals.bits_per_byte import bits_per_byte
from finllm_utils.evals.choice import ChoiceItem, choice_accuracy
from finllm_utils.evals.monitor import Monitor
from finllm_utils.records import Document
from finllm_utils.train.mixture import DOMAINS
from tests.evals.tiny import TEXTS, tiny_model, tiny_tokenizer

CHOICES = ("保险", "银行", "利率", "贷款")
SHORT = [ChoiceItem("q", f"客户{n}问", CHOICES, 0) for n in "一二"]
CFG = EvalsConfig(batch_tokens=512, max_documents=1, num_choice_items=1)


def documents(number: int) -> list[Document]:
    return [
        Document(id=f"d{i}", text=TEXTS[i % len(TEXTS)], source="t", domain="english")
        for i in range(number)
    ]


def test_one_in_a_hundred_is_kept_out_whatever_the_order():
    found = pretrain_watch.kept_out(documents(20_000))
    assert 140 < len(found) < 260  # 200, five standard deviations to either side
    assert found == pretrain_watch.kept_out(reversed(documents(20_000)))[::-1]
    own = {d.id.removeprefix("kept_out/") for d in found}
    assert all(d.id.startswith("kept_out/") for d in found)
    left = [d for d in documents(20_000) if not pretrain_watch.is_kept_out(d.id)]
    assert len(left) + len(own) == 20_000 and own.isdisjoint(d.id for d in left)


@pytest.fixture
def corpus(tmp_path):
    for domain in DOMAINS:
        number = 3 if domain == "finance_en" else 3_000  # none of three is kept out
        lines = [json.dumps(dataclasses.asdict(d)) for d in documents(number)]
        (tmp_path / f"{domain}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_the_values_are_those_of_the_evaluation(corpus):
    model, tokenizer = tiny_model(), tiny_tokenizer()
    settings = pretrain_watch.WatchSettings.of(corpus, CFG, seed=0)
    watch = pretrain_watch.pretrain_watch(tokenizer, settings, window=12)
    watch.items = SHORT
    values = Monitor(watch.probes(), num_checks=2, prefix="")(7, model)
    kept = [d for d in DOMAINS if d != "finance_en"]  # no document, no figure
    assert set(values) == {f"bpb/{d}" for d in kept} | {"score/insurance_choice"}
    few = pretrain_watch.kept_out(documents(3_000))[: pretrain_watch.NUM_DOCUMENTS]
    same = bits_per_byte(
        model, tokenizer, few, window=12, batch_tokens=64, num_bootstrap=1, seed=0
    )
    assert values["bpb/english"] == pytest.approx(same.value, rel=1e-6)
    choice = choice_accuracy(
        model, tokenizer, watch.items, prompt="plain", batch_tokens=512
    )
    assert values["score/insurance_choice"] == choice.accuracy


def test_a_watch_may_be_made_smaller(corpus):
    settings = pretrain_watch.WatchSettings.of(
        corpus, CFG, seed=0, max_chars=5, num_items=3
    )
    watch = pretrain_watch.pretrain_watch(tiny_tokenizer(), settings, window=12)
    assert len(watch.items) == 3
    assert {len(d.text) for part in watch.documents.values() for d in part} <= set(
        range(6)
    )


@pytest.mark.parametrize("training", [False, True])
def test_scoring_leaves_the_model_and_the_random_numbers_alone(corpus, training):
    model = tiny_model().train(training)
    settings = pretrain_watch.WatchSettings.of(corpus, CFG, seed=0)
    watch = pretrain_watch.pretrain_watch(tiny_tokenizer(), settings, window=12)
    watch.items = SHORT
    monitor = Monitor(watch.probes(), num_checks=2)
    weights = {name: p.clone() for name, p in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    monitor(0, model)
    assert model.training == training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(weights[n], p) for n, p in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


def test_questions_are_neither_trained_on_nor_reported(corpus):
    settings = pretrain_watch.WatchSettings.of(corpus, CFG, seed=0)
    watch = pretrain_watch.pretrain_watch(tiny_tokenizer(), settings, window=12)
    asked = {item.id for item in watch.items}
    assert asked <= {q.id for q in insurance_questions("valid")}
    for split in ("train", "test"):
        assert asked.isdisjoint(q.id for q in insurance_questions(split))
