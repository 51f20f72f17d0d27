"""Bands computed by hand, and every way a run can leave them."""

import dataclasses
import math

import numpy as np
import pytest

from finllm_utils.compare_run import compare_run
from finllm_utils.files import write_json
from finllm_utils.profiles import load_profile
from finllm_utils.reference_runs import (
    DATA_FILES,
    FOLDER,
    band_of,
    curve_of,
    load_reference,
    make_reference,
    reference_path,
    settings_of,
    smoothed,
)

SETTINGS = {"learning_rate": 0.004, "tokenizer": "abc", "vocab_size": 100}
NUM_STEPS = 30


def rows(shift=0.0, *, keys=("loss", "loss/en", "loss/zh"), seed=0, change=None):
    """A falling loss with a little noise; ``change(step, key, value)`` alters it."""
    noise = np.random.default_rng(seed)
    found = []
    for step in range(0, NUM_STEPS):
        row = {"step": step, "tokens": 1_000 * (step + 1)}
        for key in keys:
            value = 5 + 4 * math.exp(-step / 5) + shift + noise.normal(0, 0.02)
            row[key] = float(change(step, key, value) if change else value)
        found.append(row)
    for step in (9, 19, 29):
        bpb = 3 - step / 30 + shift + noise.normal(0, 0.01)
        found.append({"step": step, "bpb/zh": float(bpb)})
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("references")
    reference = make_reference(
        [rows(seed=s) for s in (1, 2, 3)],
        profile="toy",
        stage="stage1",
        settings=SETTINGS,
        seeds=(1, 2, 3),
        command="make reference",
        date="2026-01-02",
    )
    write_json(reference_path("toy", "stage1", place), reference)
    return place


def verdict(folder, given, **changed):
    settings = SETTINGS | changed
    return compare_run(given, "toy", "stage1", settings=settings, folder=folder)


def test_smoothing_by_hand():
    tokens, values = np.array([1.0, 2, 3, 4, 10]), np.array([8.0, 6, 40, 4, 2])
    at = np.array([1.0, 4.0, 7.0, 10.0])
    # within 3 tokens: 8; the middle of 6, 40, 4; nobody, so half way from 4 to 2; 2
    assert smoothed(tokens, values, 3, at).tolist() == [8, 6, 3, 2]
    assert smoothed(tokens, values, 0, at).tolist() == [8, 4, 3, 2]
    assert smoothed(tokens, values, 100, at).tolist() == [8, 7, 7, 6]


def test_smoothing_hardly_depends_on_how_often_was_logged():
    often, seldom, at = np.arange(1.0, 101), np.arange(10.0, 101, 10), np.array([100.0])
    # the middle lies (50 - 1) / 2 = 24.5 tokens behind, or (50 - 10) / 2 = 20
    assert smoothed(often, 100 - often, 50, at) == [24.5]
    assert smoothed(seldom, 100 - seldom, 50, at) == [20]


def test_a_band_by_hand():
    tokens = np.array([100.0, 200.0, 300.0])
    curves = [(tokens, np.array(v)) for v in
              ([9.0, 5.0, 2.0], [8.0, 5.2, 2.1], [7.0, 5.1, 2.4])]  # fmt: skip
    band = band_of(curves, widen=1.0)
    assert band["tokens"] == [100, 200, 300]
    assert band["median"] == [8.0, 5.1, 2.1]
    # ranges 2.0, 0.2 and 0.4, of which the median is 0.4: the 0.2 counts as 0.4
    assert band["low"] == [5.0, 4.6, 1.6]
    assert band["high"] == [11.0, 5.6, 2.8]
    assert band["span_tokens"] == 0


def test_a_band_over_runs_logged_at_other_tokens():
    curves = [
        (np.array([0.0, 100, 200, 300]), np.array([8.0, 6, 4, 2])),
        (np.array([50.0, 250]), np.array([7.0, 3])),  # the same line
    ]
    band = band_of(curves, widen=1.0)
    assert band["tokens"] == [100, 200], "only where every run has been"
    assert band["low"] == band["high"] == band["median"] == [6, 4]
    curves = [(np.arange(0.0, 1000, 10), np.zeros(100))] * 2
    band = band_of(curves, window=5, num_points=4)
    assert band["tokens"] == [0, 330, 660, 990] and band["span_tokens"] == 50


def test_evaluations_stand_where_their_step_does():
    given = [
        {"step": 0, "tokens": 100, "loss": 3.0},
        {"step": 5, "bpb/zh": 2.0},
        {"step": 10, "tokens": 1_100, "loss": 1.0},
    ]
    tokens, values = curve_of(given, "bpb/zh")
    assert (tokens.tolist(), values.tolist()) == ([600.0], [2.0])
    with pytest.raises(ValueError, match="no row has tokens"):
        curve_of([{"step": 0, "loss": 1.0}], "loss")


def test_steps_that_a_rollback_undid_do_not_count():
    given = [
        {"step": s, "tokens": 100 * s, "loss": v}
        for s, v in ((1, 9.0), (2, 8.0), (3, 99.0), (2, 7.0), (4, 6.0))
    ]
    tokens, values = curve_of(given, "loss")
    assert tokens.tolist() == [100, 200, 400] and values.tolist() == [9, 7, 6]


def test_a_reference_says_where_it_comes_from(folder):
    reference = load_reference("toy", "stage1", folder)
    assert reference["settings"] == SETTINGS and reference["seeds"] == [1, 2, 3]
    assert reference["command"] == "make reference"
    assert reference["date"] == "2026-01-02"
    assert set(reference["versions"]) == {"torch", "transformers"}
    assert set(reference["curves"]) == {"bpb/zh", "loss", "loss/en", "loss/zh"}
    assert reference["curves"]["loss"]["span_tokens"] == 5_000
    assert reference["curves"]["bpb/zh"]["tokens"] == [10_000, 20_000, 30_000]
    one = dict(profile="p", stage="s", settings={}, command="", date="")
    for runs, seeds in (([rows()], [0]), ([rows(), rows()], [0])):
        with pytest.raises(ValueError, match="two runs or more"):
            make_reference(runs, seeds=seeds, **one)


def test_another_seed_is_normal(folder):
    for seed in range(10, 20):
        found = verdict(folder, rows(seed=seed))
        assert found.status == "normal", found.text()
        assert found.left_at_tokens is None and not found.causes
    half = [row for row in rows(seed=20) if row["step"] < 12]
    assert verdict(folder, half).status == "normal"


def test_high_from_the_start_points_to_the_tokenizer(folder):
    found = verdict(folder, rows(2.0))
    assert (found.status, found.left_at_tokens) == ("high", 1_000)
    assert found.band[1] < found.value
    assert found.causes[0].startswith("Wrong tokenizer")
    assert "left the band at 1,000 tokens" in found.text()


def test_high_later_names_the_first_tokens_and_other_causes(folder):
    def stuck(step, key, value):
        return value if step < 10 else 7.0

    found = verdict(folder, rows(change=stuck))
    assert found.status == "high" and 11_000 <= found.left_at_tokens <= 13_000
    assert found.causes[0].startswith("Embeddings")


def test_low_is_no_reason_to_be_glad(folder):
    found = verdict(folder, rows(change=lambda s, k, v: v - 0.05 * s))
    assert found.status == "low" and found.value < found.band[0]
    assert found.causes[0].startswith("Repeated text")


def test_one_domain_alone_is_named(folder):
    found = verdict(folder, rows(change=lambda s, k, v: v + 2 * (k == "loss/zh")))
    assert (found.status, found.metric) == ("high", "loss/zh")
    assert found.causes[0].startswith("Only loss/zh:")


def test_a_single_odd_batch_is_forgiven(folder):
    found = verdict(folder, rows(change=lambda s, k, v: v + 0.3 * (s == 15)))
    assert found.status == "normal", found.text()


def test_divergence_by_value_and_by_nan(folder):
    found = verdict(folder, rows(change=lambda s, k, v: v + max(0, s - 15)))
    assert found.status == "diverged" and found.left_at_tokens > 15_000
    assert found.causes[0].startswith("Rate")

    def broken(step, key, value):
        return float("nan") if key == "loss" and step == 20 else value

    found = verdict(folder, rows(change=broken))
    assert (found.status, found.metric) == ("diverged", "loss")
    assert found.left_at_tokens == 21_000


def test_the_band_does_not_apply_to_other_settings(folder):
    found = verdict(folder, rows(9.0), learning_rate=0.04)
    assert found.status == "not comparable"
    assert found.differs == ("learning_rate is 0.04, the reference has 0.004",)
    assert "learning_rate is 0.04" in found.text()
    found = verdict(folder, rows(9.0), zh_share=1.0)
    assert found.differs == ("zh_share is 1.0, the reference has the default",)


def test_another_tokenizer_leaves_loss_per_token_out(folder):
    other = dict(tokenizer="xyz", vocab_size=50)
    shifted = rows(change=lambda s, k, v: v - 3)
    found = verdict(folder, shifted, **other)
    assert found.status == "normal" and "loss per token is left out" in found.reason
    assert len(found.differs) == 2
    found = verdict(folder, rows(1.0), **other)
    assert (found.status, found.metric) == ("high", "bpb/zh")
    assert found.left_at_tokens == 10_000
    without = [row for row in shifted if "loss" in row]
    assert verdict(folder, without, **other).status == "not comparable"


def test_too_early_and_unknown_are_said(folder, tmp_path):
    first = {"step": 0, "tokens": 10, "loss": 9.0}
    found = verdict(folder, [first])
    assert found.status == "not comparable" and "first point" in found.reason
    found = verdict(tmp_path, rows())
    assert found.status == "no reference" and "make_reference" in found.reason


def test_settings_are_those_that_shape_the_curve():
    cfg = load_profile("toy").pretrain1
    found = settings_of(cfg, vocab_size=100)
    assert found["learning_rate"] == cfg.learning_rate and found["vocab_size"] == 100
    assert found["trainable"] == "embeddings"
    assert not {"schedule", "log_every", "micro_batch_size"} & set(found)
    changed = dataclasses.replace(
        cfg, log_every=1, checkpoint_every=0, mixture_points=((0.0, 0.5, 0.5),)
    )
    after = settings_of(changed, vocab_size=100)
    extra = {k: v for k, v in after.items() if found.get(k) != v}
    assert extra == {"mixture_points": [[0.0, 0.5, 0.5]]}, "lists, as JSON reads them"


def test_sections_beside_the_first_count_field_by_field():
    cfg = load_profile("toy")
    found = settings_of(cfg.pretrain1, model=cfg.model, dtype=cfg.runtime.dtype)
    assert found["model.hidden_size"] == cfg.model.hidden_size
    assert found["dtype"] == "bfloat16" and "model" not in found


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_the_toy_course_is_held_against_its_own_reference(stage):
    """Settings that drifted from the stored ones would silence ``compare_run``."""
    cfg = load_profile("toy")
    section, more = cfg.pretrain1, {}
    if stage == "stage2":
        section, more = cfg.pretrain2, {"stage1": cfg.pretrain1}
    more |= {"base": cfg.base, "model": cfg.model, "data": cfg.data}
    settings = settings_of(section, dtype=cfg.runtime.dtype, **more)
    stored = load_reference("toy", stage)["settings"]
    assert len(stored.pop("tokenizer")) == 12
    assert settings == stored


def test_stored_references_are_whole():
    assert FOLDER.is_dir() and DATA_FILES == ("data_samples/reference_runs",)
    for path in FOLDER.glob("*.json"):
        profile, stage, _ = path.name.split(".")
        reference = load_reference(profile, stage)
        assert (reference["profile"], reference["stage"]) == (profile, stage)
        load_profile(profile)
        assert len(reference["seeds"]) >= 2 and reference["command"]
        for curve in reference["curves"].values():
            lines = [curve[k] for k in ("low", "median", "high")]
            assert len({len(x) for x in [curve["tokens"], *lines]}) == 1
            assert (np.diff(np.array(lines), axis=0) >= 0).all()
            assert (np.diff(curve["tokens"]) > 0).all()
