"""The mixture schedule: planned by hand, dealt evenly, and known at any row."""

import dataclasses
import time

import numpy as np
import pytest

from finllm_utils.profiles import toy
from finllm_utils.train.mixture import (
    DOMAINS,
    RowSampler,
    plan_rows,
    weights_at,
)

CFG = toy().pretrain2
POINTS = ((0.0, 0.5, 0.0), (0.3, 0.9, 0.2), (0.3, 0.6, 0.4), (0.8, 0.8, 0.0))
SCHEDULES = {
    "line": CFG,
    "points with a jump": dataclasses.replace(CFG, mixture_points=POINTS),
    "one domain": dataclasses.replace(CFG, mixture_points=((0.5, 1.0, 0.0),)),
    "late domain": dataclasses.replace(
        CFG, mixture_points=((0.4, 1.0, 0.0), (0.9, 1.0, 1.0))
    ),
}
LOG = ((3_000, (1.4, 0.8, 1.0, 0.75)), (3_100, (0.75, 1.4, 1.4, 1.0)))


def test_weights_by_hand():
    start, end = weights_at(CFG, np.array([0.0, 1.0]))
    assert start == pytest.approx([0.675, 0.075, 0.225, 0.025])  # 3:1 and 1:9
    assert end == pytest.approx([0.6, 0.15, 0.2, 0.05])  # 3:1 and 1:4
    assert end[1] / end[0] == pytest.approx(1 / 4)


def test_weights_between_points_by_hand():
    points = ((0.2, 0.5, 0.0), (0.6, 1.0, 0.5))
    cfg = dataclasses.replace(CFG, mixture_points=points)
    first, middle, last = weights_at(cfg, np.array([0.1, 0.4, 0.9]))
    assert first == pytest.approx([0.5, 0, 0.5, 0])  # constant before the first point
    assert middle == pytest.approx([0.5, 0.25, 0.25, 0])  # half-way on four lines
    assert last == pytest.approx([0.5, 0.5, 0, 0])  # constant after the last


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("seed", range(4))
def test_drawn_follows_planned_on_every_prefix_and_in_every_window(name, seed):
    sampler = RowSampler(SCHEDULES[name], 20_000, seed)
    plan = sampler.plan()
    drawn = np.cumsum(plan.domain[:, None] == np.arange(4), axis=0)
    gap = drawn - np.cumsum(plan.planned, axis=0)
    rows = np.arange(1, 20_001)[:, None]
    assert (np.abs(gap / rows)[1_000:] < 0.005).all()
    assert np.abs(gap).max() < 2.5  # rows, wherever the pass stops
    assert np.abs(gap[16:] - gap[:-16]).max() < 3  # in any 16 rows too


def test_no_domain_fills_many_batches_in_a_row():
    domain = RowSampler(CFG, 10_000, seed=3).plan().domain
    changes = np.flatnonzero(np.diff(domain))
    assert np.diff(changes).max() <= 6  # its weight is up to 0.675
    assert len(set(domain[:16])) >= 3


@pytest.mark.parametrize("log", [(), LOG])
@pytest.mark.parametrize("name", SCHEDULES)
def test_any_row_is_known_without_those_before_it(name, log):
    sampler = RowSampler(SCHEDULES[name], 10_000, 1, log)
    plan = sampler.plan()
    for d in range(len(DOMAINS)):
        mine = plan.index[plan.domain == d]
        assert mine.tolist() == list(range(len(mine)))
    again = RowSampler(SCHEDULES[name], 10_000, 1, log)
    for start in (0, 1, 7, 2_999, 3_000, 3_004, 3_100, 7_999, 8_000, 9_990):
        domain, index = again.draw(start, 9)
        assert (domain == plan.domain[start : start + 9]).all()
        assert (index == plan.index[start : start + 9]).all()
        assert (again.domains(start, 9) == domain).all()
        assert (again.indices(start, 9) == index).all()
        counts = np.bincount(plan.domain[:start], minlength=4)
        assert (again.counts(start) == counts).all()


def test_a_pass_of_ten_billion_rows_needs_no_arrays():
    rows, started = 10**10, time.perf_counter()
    sampler = RowSampler(CFG, rows, seed=0)
    assert np.abs(sampler.counts() - sampler.planned()).max() < 3
    assert sampler.counts().sum() == rows
    for start in (3 * 10**9, rows - 64):
        whole, parts = sampler.draw(start, 64), []
        for i in range(0, 64, 4):
            parts.append(sampler.draw(start + i, 4))
        for a, b in zip(whole, zip(*parts, strict=True), strict=True):
            assert (a == np.concatenate(b)).all()
        before = sampler.counts(start)
        for d in range(4):
            mine = whole[1][whole[0] == d]
            assert mine.tolist() == list(range(before[d], before[d] + len(mine)))
    assert time.perf_counter() - started < 2


def test_the_seed_changes_the_order_and_not_the_shares():
    plans = [plan_rows(CFG, 4_000, seed) for seed in (0, 0, 1)]
    assert (plans[0].domain == plans[1].domain).all()
    assert (plans[0].domain != plans[2].domain).any()
    for plan in plans:
        drawn, planned = plan.drawn_share(), plan.planned_share()
        assert all(abs(drawn[d] - planned[d]) < 0.001 for d in DOMAINS)
    sampler = RowSampler(CFG, 4_000, 0)
    assert sampler.drawn_share() == pytest.approx(plans[0].drawn_share())
    assert sampler.planned_share() == pytest.approx(plans[0].planned_share())


def test_planned_rows_by_hand():
    # Finance goes from 0.1 to 0.2, so its mean over the first half is 0.125.
    planned = RowSampler(CFG, 1_000, 0).planned(500)
    assert planned == pytest.approx(
        [500 * 0.75 * 0.875, 500 * 0.75 * 0.125, 500 * 0.25 * 0.875, 500 * 0.25 * 0.125]
    )


def test_multipliers_change_no_row_before_theirs():
    sampler = RowSampler(CFG, 10_000, 2)
    before = sampler.plan()
    for row, multipliers in LOG:
        sampler = sampler.reweighted(row, multipliers)
        after = sampler.plan()
        assert (after.domain[:row] == before.domain[:row]).all()
        assert (after.domain[row:] != before.domain[row:]).any()
        before = after
    assert sampler.log == LOG
    drawn = np.cumsum(before.domain[:, None] == np.arange(4), axis=0)
    gap = drawn - np.cumsum(before.planned, axis=0)
    assert np.abs(gap).max() < 2.5


def test_multiplied_weights_by_hand_and_within_a_factor_of_two():
    cfg = dataclasses.replace(CFG, mixture_points=((0.0, 0.5, 0.5),))  # a quarter each
    low, high = 2**-0.5, 2**0.5
    sampler = RowSampler(cfg, 1_000, 0).reweighted(100, (high, low, low, low))
    weights = sampler.weights(np.array([50.0, 500.0]))
    assert weights[0] == pytest.approx([0.25] * 4)
    total = high + 3 * low
    assert weights[1] == pytest.approx([high / total, *[low / total] * 3])
    late = RowSampler(CFG, 1_000, 0).reweighted(0, (low, high, high, high))
    rows = np.arange(10, 1_000, 10.0)
    ratio = late.weights(rows) / weights_at(CFG, rows / 1_000)
    assert ratio.min() > 0.5 and ratio.max() < 2


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (((10, (1, 1, 1, 1)), (10, (1, 1, 1, 1))), "must rise"),
        (((10, (1, 1, 1)),), "4 positive numbers"),
        (((10, (1, 0, 1, 1)),), "4 positive numbers"),
    ],
)
def test_a_broken_log_is_an_error(log, message):
    with pytest.raises(ValueError, match=message):
        RowSampler(CFG, 100, 0, log)


def test_a_pass_without_rows_is_an_error():
    with pytest.raises(ValueError, match="no row"):
        plan_rows(CFG, 0, 0)
