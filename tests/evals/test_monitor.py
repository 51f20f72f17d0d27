import json
import math

import numpy as np
import pytest

from finllm_utils.evals.monitor import (
    BEFORE,
    COURSE,
    START,
    Alarm,
    Monitor,
    Probe,
    Reading,
    Scored,
    expected_course,
    read_alarms,
    read_readings,
    reference_course,
)

NUM_ITEMS = 64


def probe_of(rows, name="exam", **more):
    """A probe that reads the credits of a step from ``rows``; the model is its key."""
    return Probe(name=name, score=lambda model: Scored(values=rows[model]), **more)


def run_of(rows, num_checks=None, **more):
    monitor = Monitor([probe_of(rows, **more)], num_checks=num_checks or len(rows))
    for step in range(len(rows)):
        monitor(step, step)
    return monitor


def credits(share: float) -> list[float]:
    return [float(i < share * NUM_ITEMS) for i in range(NUM_ITEMS)]


def test_value_and_error_by_hand():
    monitor = Monitor([probe_of([[0.0, 1.0, 1.0, 0.0]])], num_checks=2)
    assert monitor(7, 0) == {"monitor/exam": 0.5}
    (reading,) = monitor.readings
    # variance with n - 1: 4 x 0.25 / 3; error: sqrt(1/3 / 4)
    assert reading.standard_error == pytest.approx(math.sqrt(1 / 12))
    assert (reading.step, reading.num_items, reading.expected) == (7, 4, None)


def test_a_sample_of_half_the_suite_errs_less():
    whole = run_of([[0.0, 1.0, 1.0, 0.0]], num_checks=2).readings[0]
    half = run_of([[0.0, 1.0, 1.0, 0.0]], num_checks=2, population=8).readings[0]
    assert half.standard_error == pytest.approx(whole.standard_error / math.sqrt(2))


def test_weighted_values_are_a_ratio():
    bits = Probe(
        name="bpb",
        lower_is_better=True,
        score=lambda model: Scored(values=[10.0, 60.0], weights=[10, 30]),
    )
    monitor = Monitor([bits], num_checks=2)
    assert monitor(0, None)["monitor/bpb"] == 70 / 40
    # residuals 10 - 17.5 and 60 - 52.5 over the mean weight 20: std 0.53, root of 2
    error = np.std([-7.5 / 20, 7.5 / 20], ddof=1) / math.sqrt(2)
    assert monitor.readings[0].standard_error == pytest.approx(error)


def test_a_collapse_is_told_once_against_each():
    monitor = run_of([credits(0.6), credits(0.62), credits(0.2)])
    assert [(a.step, a.against) for a in monitor.alarms] == [(2, START), (2, BEFORE)]
    assert "0.4062 worse than at the start" in monitor.alarms[0].text


def test_a_rise_is_no_alarm_and_lower_may_be_better():
    rows = [credits(0.2), credits(0.8)]
    assert not run_of(rows).alarms
    assert run_of(rows, lower_is_better=True).alarms[0].against == START


def test_a_loss_that_was_allowed_is_silent():
    rows = [credits(0.6), credits(0.45)]
    assert run_of(rows).alarms
    assert not run_of(rows, allowed_loss=0.25).alarms  # 0.15 of 0.6


def test_a_slow_fall_is_seen_against_the_start():
    rows = [credits(0.8 - 0.05 * i) for i in range(6)]
    assert run_of(rows).alarms[0].against == START


def test_false_alarms_stay_below_the_level():
    """300 runs of six checks and two probes in which every check is pure noise."""
    random = np.random.default_rng(0)
    silent = 0
    for _ in range(300):
        rows = random.random((6, NUM_ITEMS)) < 0.5
        other = random.normal(size=(6, NUM_ITEMS))
        monitor = Monitor([probe_of(rows), probe_of(other, "bpb")], num_checks=6)
        for step in range(6):
            monitor(step, step)
        silent += not monitor.alarms
    assert silent >= 300 * 0.93  # the stated 0.95, less two errors of 300 repeats


def test_a_planted_fall_is_found():
    random = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        rows = [random.random(NUM_ITEMS) < share for share in (0.7, 0.7, 0.3)]
        found += bool(run_of(np.array(rows)).alarms)
    assert found >= 90


def reading(step: int, value: float) -> Reading:
    return Reading(
        step=step, probe="exam", value=value, standard_error=0, num_items=9,
        expected=None,
    )  # fmt: skip


def test_the_course_of_earlier_runs_is_a_band():
    runs = [[reading(0, 0.2), reading(10, 0.5)], [reading(0, 0.3), reading(10, 0.6)]]
    band = expected_course(runs, widen=1)["exam"]
    assert band["low"] == pytest.approx([0.1, 0.4])
    rows = [credits(0.25), credits(0.25)]
    monitor = Monitor([probe_of(rows)], num_checks=2, expected={"exam": band})
    monitor(0, 0)
    monitor(5, 1)
    assert [r.expected for r in monitor.readings] == [
        pytest.approx((0.1, 0.4)),
        pytest.approx((0.25, 0.55)),
    ]
    assert not monitor.alarms  # at the edge
    fallen = Monitor(
        [probe_of([credits(0.25), credits(0.02)])],
        num_checks=2,
        expected={"exam": band},
    )
    fallen(0, 0)
    fallen(10, 1)
    assert COURSE in {a.against for a in fallen.alarms}
    fallen(99, 1)
    assert fallen.readings[-1].expected is None  # beyond what anyone has run


def test_a_stored_reference_gives_the_band_by_step():
    """Tokens are those trained on after a step; 300 tokens a step, so 2 and 5."""
    curve = {"tokens": [900, 1800], "low": [2.0, 1.0], "high": [3.0, 2.0]}
    course = reference_course({"exam": curve}, tokens_per_step=300)
    assert course["exam"]["tokens"] == [2, 5] and curve["tokens"] == [900, 1800]
    high = probe_of(np.full((3, NUM_ITEMS), 2.5), lower_is_better=True)
    monitor = Monitor([high], num_checks=3, expected=course)
    for step, row in ((0, 0), (2, 1), (5, 2)):
        monitor(step, row)
    assert [r.expected for r in monitor.readings] == [None, (2, 3), (1, 2)]
    assert [(a.step, a.against) for a in monitor.alarms] == [(5, COURSE)]


def test_few_items_have_the_limit_of_students_t():
    """Two checks of one probe are one comparison, at t(7, 0.95) = 1.895 errors.

    The normal distribution would alarm at 1.645.
    """
    spread = np.array([1.0, -1.0] * 4)
    error = spread.std(ddof=1) / math.sqrt(8)
    for errors, alarms in ((1.8, 0), (2.0, 1)):
        lost = errors * error + spread
        monitor = Monitor([probe_of([np.zeros(8), -lost])], num_checks=2)
        for step in (0, 1):
            monitor(step, step)
        assert len(monitor.alarms) == alarms


def test_silence_holds_for_eight_items():
    """1,000 runs of five checks with normal noise in eight items: 5% may alarm."""
    random = np.random.default_rng(0)
    loud = 0
    for _ in range(1_000):
        loud += bool(run_of(random.normal(size=(5, 8))).alarms)
    assert loud <= 1_000 * (0.05 + 2 * 0.007)


def test_an_alarm_can_stop_the_run():
    def stop(alarm: Alarm) -> None:
        raise RuntimeError(alarm.text)

    monitor = Monitor(
        [probe_of([credits(0.9), credits(0.1)])], num_checks=2, on_alarm=stop
    )
    monitor(0, 0)
    with pytest.raises(RuntimeError, match="worse than at the start"):
        monitor(1, 1)
    assert len(monitor.readings) == 2  # the reading that told it is kept


def test_watching_calls_every_so_often_with_the_model():
    asked = []
    probe = Probe(
        name="exam", score=lambda model: asked.append(model) or Scored(values=[0, 1])
    )
    callback = Monitor([probe], num_checks=3).watching("policy", every=5)
    for update in range(1, 11):
        callback(update, {"score": 0.1})
    assert asked == ["policy", "policy"]


def test_written_readings_and_alarms(tmp_path):
    monitor = run_of([credits(0.9), credits(0.1)])
    monitor.write(tmp_path)
    lines = (tmp_path / "monitor.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1]
    assert json.loads((tmp_path / "alarms.json").read_text())[0]["against"] == START


def test_readings_come_back_as_they_were(tmp_path):
    band = {"tokens": [0, 1], "low": [0.0, 0.0], "high": [1.0, 1.0]}
    probe = probe_of([credits(0.9), credits(0.1)])
    monitor = Monitor([probe], num_checks=2, expected={"exam": band})
    for step in (0, 1, 7):
        monitor(step, min(step, 1))
    monitor.write(tmp_path)
    assert read_readings(tmp_path) == monitor.readings
    assert [r.expected for r in monitor.readings] == [(0, 1), (0, 1), None]


def test_alarms_of_stages_are_told_with_stage_and_step(tmp_path):
    folders = {name: tmp_path / name for name in ("sft", "quiet", "ppo")}
    for name, after in (("sft", 0.2), ("quiet", 0.9), ("ppo", 0.1)):
        run_of([credits(0.9), credits(after), credits(after)]).write(folders[name])
    sft, ppo = read_alarms(folders)
    assert sft.startswith("sft, step 1: exam is 0.7031 worse than at the start (")
    assert sft.endswith("allowed); 1 more of this score"), "step 2, against the start"
    assert ppo.startswith("ppo, step 1: exam is 0.7969 worse")
    run_of([credits(0.9), credits(0.2)]).write(folders["sft"])
    assert read_alarms({"a": folders["sft"]})[0].endswith("allowed)")
    assert read_alarms({}) == []
    with pytest.raises(FileNotFoundError):
        read_alarms({"absent": tmp_path / "absent"})


def test_names_in_what_a_call_returns():
    monitor = Monitor([probe_of([credits(0.5)])], num_checks=2, prefix="")
    assert monitor(0, 0) == {"exam": 0.5}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Monitor([], num_checks=2), "at least one"),
        (lambda: Monitor([probe_of([]), probe_of([])], num_checks=2), "own name"),
        (lambda: Monitor([probe_of([])], num_checks=1), "two checks"),
        (lambda: Monitor([probe_of([])], num_checks=2, expected={"x": {}}), "'x'"),
        (lambda: run_of([[1.0]], num_checks=2), "1 items"),
        (lambda: run_of([[1.0, math.nan]], num_checks=2), "1 of them not finite"),
        (lambda: run_of([[1.0, 0.0], [1.0, 0.0, 1.0]]), "score the same ones"),
        (lambda: expected_course([[]]), "two seeds"),
    ],
)
def test_what_cannot_be_watched_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
