"""Suites at every checkpoint: the course of each score, and an alarm when one falls.

A probe scores the same few items each time, so two checkpoints are compared item by
item. An alarm is raised for a score that is worse than at the start, or than at the
check before, by more than chance explains; and for one that leaves the course which
earlier runs took. How many comparisons a run makes is set beforehand and divides the
level, so a run in which nothing happens stays silent with the stated probability.

``Monitor`` is what ``pretrain`` takes as ``on_eval`` and ``TaskWatch`` as ``also``. PPO
tells its callback a step and no model: ``monitor.watching(model)`` is that callback.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import stdtrit
from transformers import LlamaForCausalLM

from finllm_utils.files import atomic_file, read_json, write_json
from finllm_utils.intervals import Interval
from finllm_utils.reference_runs import band_of

START, BEFORE, COURSE = "start", "check before", "course of earlier runs"
READINGS, ALARMS = "monitor.jsonl", "alarms.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What a probe saw: a figure an item, and what an item weighs in the mean."""

    values: Sequence[float]
    """(items,), finite."""
    weights: Sequence[float] | None = None
    """(items,) such as bytes when ``values`` are bits; None gives a plain mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One suite, cut down to the items that a check can afford."""

    name: str
    score: Callable[[LlamaForCausalLM], Scored]
    """Scores the same items in the same order at every call."""
    lower_is_better: bool = False
    allowed_loss: float = 0.0
    """Share of the start's score that may be lost before it counts, such as 0.02."""
    population: int | None = None
    """Items of the whole suite; a subsample of it errs less than one of infinity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """A score outside what was expected of it."""

    step: int
    probe: str
    against: str
    """start, check before, or course of earlier runs."""
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One probe at one check."""

    step: int
    probe: str
    value: float
    standard_error: float
    """Of ``value``, for the items that stand for the suite."""
    num_items: int
    expected: Interval | None
    """The band of earlier runs at this step."""


class Monitor:
    """Call it with (step, model); it returns the scores and keeps all readings.

    The limit is that of Student's t for the items of a probe, since few items estimate
    their own error badly.

    Args:
        probes: the suites, by different names.
        num_checks: how often the run will call; it divides the level. Later calls
            still score, and are compared at the same level.
        expected: a band a probe, as ``expected_course`` or ``reference_course``
            makes it.
        level: chance that a run in which no score changes raises any alarm against
            its start or the check before.
        on_alarm: is told of each alarm, for example to stop the run by raising.
        prefix: put before a probe's name in what a call returns.
    Raises: ValueError for probes of one name, no probe, or a band of no probe.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        *,
        num_checks: int,
        expected: Mapping[str, Mapping] | None = None,
        level: float = 0.05,
        on_alarm: Callable[[Alarm], None] | None = None,
        prefix: str = "monitor/",
    ) -> None:
        names = [probe.name for probe in probes]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"probes {names}: give at least one, each its own name")
        if unknown := sorted(set(expected or {}) - set(names)):
            raise ValueError(f"expected names {unknown[0]!r}, probes are {names}")
        if num_checks < 2 or not 0 < level < 1:
            raise ValueError(
                f"num_checks={num_checks}, level={level}: a course has two checks or "
                "more, and a level lies between 0 and 1"
            )
        self.probes, self.expected = list(probes), dict(expected or {})
        self.readings: list[Reading] = []
        self.alarms: list[Alarm] = []
        self._on_alarm, self._prefix = on_alarm, prefix
        comparisons = len(names) * (2 * (num_checks - 1) - 1)
        self._level = level / comparisons  # one-sided
        self._seen: dict[str, list[Scored]] = {name: [] for name in names}

    def __call__(self, step: int, model: LlamaForCausalLM) -> dict[str, float]:
        """Scores ``model`` as it is after ``step``; ``<prefix><probe>`` to value."""
        for probe in self.probes:
            self._check(step, probe, _checked(probe, probe.score(model)))
        return {
            f"{self._prefix}{reading.probe}": reading.value
            for reading in self.readings[-len(self.probes) :]
        }

    def watching(
        self, model: LlamaForCausalLM, every: int = 1
    ) -> Callable[..., dict[str, float] | None]:
        """A callback of (step, ...) that scores ``model`` each ``every`` steps."""

        def callback(step: int, *_: object) -> dict[str, float] | None:
            return self(step, model) if step % every == 0 else None

        return callback

    def _check(self, step: int, probe: Probe, scored: Scored) -> None:
        seen = self._seen[probe.name]
        if seen and len(seen[0].values) != len(scored.values):
            raise ValueError(
                f"probe {probe.name} scored {len(scored.values)} items at step {step} "
                f"and {len(seen[0].values)} at the start: score the same ones"
            )
        value, error = _mean_and_error(scored, probe.population)
        band = _band_at(self.expected.get(probe.name), step)
        self.readings.append(
            Reading(
                step=step,
                probe=probe.name,
                value=value,
                standard_error=error,
                num_items=len(scored.values),
                expected=band,
            )
        )
        if seen:
            self._compare(step, probe, seen[0], scored, START)
        if len(seen) > 1:
            self._compare(step, probe, seen[-1], scored, BEFORE)
        slack = error * self._limit(scored)
        if band and (text := _outside(probe, value, slack, band)):
            self._raise(Alarm(step=step, probe=probe.name, against=COURSE, text=text))
        self._seen[probe.name] = [seen[0], scored] if seen else [scored]

    def _compare(
        self, step: int, probe: Probe, old: Scored, new: Scored, against: str
    ) -> None:
        sign = 1.0 if probe.lower_is_better else -1.0
        start = _mean_and_error(self._seen[probe.name][0], None)[0]
        lost, error = _paired_loss(old, new, sign)
        excess = lost - probe.allowed_loss * abs(start)
        if excess > self._limit(new) * error and excess > 0:
            text = (
                f"{probe.name} is {lost:.4f} worse than at the {against} (standard "
                f"error {error:.4f}, {len(new.values)} items, {probe.allowed_loss:.0%} "
                "of the start allowed)"
            )
            self._raise(Alarm(step=step, probe=probe.name, against=against, text=text))

    def _limit(self, scored: Scored) -> float:
        """Standard errors that chance exceeds in one comparison of ``_level``."""
        return float(stdtrit(len(scored.values) - 1, 1 - self._level))

    def _raise(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)
        if self._on_alarm:
            self._on_alarm(alarm)

    def write(self, folder: Path) -> None:
        """``monitor.jsonl`` with a reading a line, ``alarms.json`` with the alarms."""
        with atomic_file(Path(folder) / READINGS) as handle:
            handle.writelines(_line(reading) for reading in self.readings)
        write_json(Path(folder) / ALARMS, [asdict(a) for a in self.alarms])


def read_readings(folder: Path) -> list[Reading]:
    """What a monitor that wrote into ``folder`` has read, in its order."""
    lines = (Path(folder) / READINGS).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        Reading(**row | {"expected": row["expected"] and tuple(row["expected"])})
        for row in rows
    ]


def read_alarms(folders: Mapping[str, Path]) -> list[str]:
    """The alarms of several stages as sentences, each behind its stage and step.

    A probe that alarms again in the same stage is told once, with how often.
    Args: the folder that a monitor wrote into, by the stage's name.
    """
    told = []
    for stage, folder in folders.items():
        by_probe: dict[str, list[dict]] = {}
        for alarm in read_json(Path(folder) / ALARMS):
            by_probe.setdefault(alarm["probe"], []).append(alarm)
        for first, *more in by_probe.values():
            again = f"; {len(more)} more of this score" if more else ""
            told.append(f"{stage}, step {first['step']}: {first['text']}{again}")
    return told


def reference_course(
    curves: Mapping[str, Mapping], tokens_per_step: int
) -> dict[str, dict]:
    """Bands of a stored reference by step instead of tokens, for ``expected``.

    Args: curves as ``compare_run.applicable_curves`` gives them. A pass tells its
    ``on_eval`` step 0 after the first ``tokens_per_step``.
    """
    return {
        key: {**curve, "tokens": [at / tokens_per_step - 1 for at in curve["tokens"]]}
        for key, curve in curves.items()
    }


def expected_course(
    runs: Sequence[Sequence[Reading]], *, widen: float = 2.0
) -> dict[str, dict]:
    """Bands around what earlier runs of the same settings read, one a probe.

    Args: runs, of different seeds; ``widen`` as in ``reference_runs.band_of``.
    Raises: ValueError for fewer than two runs.
    """
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} runs: a band needs two seeds or more")
    names = set.intersection(*({r.probe for r in run} for run in runs))
    return {
        name: band_of(
            [
                (
                    np.array([r.step for r in run if r.probe == name], float),
                    np.array([r.value for r in run if r.probe == name], float),
                )
                for run in runs
            ],
            widen=widen,
        )
        for name in sorted(names)
    }


def _checked(probe: Probe, scored: Scored) -> Scored:
    values = np.asarray(scored.values, float)
    if len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"probe {probe.name}: {len(values)} items, "
            f"{int((~np.isfinite(values)).sum())} of them not finite; two finite ones "
            "are the least that has an error"
        )
    if scored.weights is not None and len(scored.weights) != len(values):
        raise ValueError(
            f"probe {probe.name}: {len(scored.weights)} weights, {len(values)} values"
        )
    return scored


def _mean_and_error(scored: Scored, population: int | None) -> tuple[float, float]:
    """sum(values) / sum(weights) and its standard error.

    The ratio's error is that of its linearisation, with Bessel's n - 1; a sample of
    ``population`` items errs by the factor sqrt(1 - n / population) less. Source:
    Cochran, Sampling Techniques (1977), sections 2.6 and 2.11.
    """
    values = np.asarray(scored.values, float)
    weights = _weights(scored)
    mean = values.sum() / weights.sum()
    spread = (values - mean * weights) / weights.mean()
    error = spread.std(ddof=1) / math.sqrt(len(values))
    if population:
        error *= math.sqrt(max(0.0, 1 - len(values) / population))
    return float(mean), float(error)


def _paired_loss(old: Scored, new: Scored, sign: float) -> tuple[float, float]:
    """How much worse ``new`` is on the same items, and the error of that difference."""
    gap = sign * (np.asarray(new.values, float) - np.asarray(old.values, float))
    return _mean_and_error(Scored(values=gap, weights=new.weights), None)


def _weights(scored: Scored) -> np.ndarray:
    if scored.weights is None:
        return np.ones(len(scored.values))
    return np.asarray(scored.weights, float)


def _band_at(band: Mapping | None, step: int) -> Interval | None:
    """The band between its points; None before its first and after its last."""
    if band is None or not band["tokens"][0] <= step <= band["tokens"][-1]:
        return None
    low, high = (
        float(np.interp(step, band["tokens"], band[side])) for side in ("low", "high")
    )
    return low, high


def _outside(probe: Probe, value: float, error: float, band: Interval) -> str:
    """A sentence when the score lies on the bad side of the band by more than chance.

    Better than expected is no alarm here; ``contamination`` asks why.
    """
    low, high = band
    worse = value - error > high if probe.lower_is_better else value + error < low
    if not worse:
        return ""
    return (
        f"{probe.name} is {value:.4f} with an error of up to {error:.4f}, earlier runs "
        f"had {low:.4f} to {high:.4f} here"
    )


def _line(reading: Reading) -> str:
    return json.dumps(asdict(reading), ensure_ascii=False) + "\n"
