"""The figures that several notebooks share. Arrays and dicts in, a closed figure out.

Every axis has a unit. A figure is closed before it is returned, so a notebook shows it
once: as the last expression of a cell.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SIZE = (6.0, 3.5)
DPI = 90
GREY = "0.45"

PANEL = (2.0, 2.2)  # inches, of several beside each other
STYLES = ("--", ":", "-.", (0, (8, 3)))  # of baselines, in their order


def plot_funnel(counts: Mapping[str, float], *, unit: str, title: str = "") -> Figure:
    """What is left after each step, top to bottom, as horizontal bars."""
    figure, axes = _figure(title)
    names, values = list(counts), list(counts.values())
    bars = axes.barh(names, values, color="tab:blue")
    axes.bar_label(bars, [f"{v:,.0f}" for v in values], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"left ({unit})")
    axes.set_xlim(0, 1.2 * max([*values, 1e-9]))
    return _finish(figure)


def plot_mixture(
    planned: Mapping[str, float], drawn: Mapping[str, float], *, title: str = ""
) -> Figure:
    """Planned and drawn share of the tokens a domain, side by side."""
    if set(planned) != set(drawn):
        raise ValueError(
            f"planned has {sorted(planned)} but drawn has {sorted(drawn)}: same domains"
        )
    figure, axes = _figure(title)
    place = np.arange(len(planned))
    for shift, (label, shares) in zip(
        (-0.2, 0.2), {"planned": planned, "drawn": drawn}.items(), strict=True
    ):
        axes.bar(place + shift, [shares[d] for d in planned], width=0.4, label=label)
    axes.set_xticks(place, list(planned))
    axes.set_ylabel("share of tokens (0-1)")
    axes.legend(fontsize=8)
    return _finish(figure)


def plot_shares_over_time(
    tokens: Sequence[float], shares: Mapping[str, Sequence[float]], *, title: str = ""
) -> Figure:
    """Shares of the domains while training goes on, stacked to one."""
    figure, axes = _figure(title)
    axes.stackplot(np.asarray(tokens) / 1e6, *shares.values(), labels=list(shares))
    axes.set_xlabel("tokens (millions)")
    axes.set_ylabel("share of tokens (0-1)")
    axes.set_ylim(0, 1)
    axes.legend(fontsize=8, loc="lower left")
    return _finish(figure)


def plot_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    baselines: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """Lines of (x, y) by name, with flat dashed lines for the baselines."""
    figure, axes = _figure(title)
    for name, (x, y) in curves.items():
        marker = "o" if len(x) <= 12 else None
        axes.plot(x, y, label=name, marker=marker, markersize=3)
    _baselines(axes, baselines)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if curves or baselines:
        axes.legend(fontsize=8)
    return _finish(figure)


def plot_loss(
    tokens: Sequence[float], losses: Mapping[str, Sequence[float]], *, title: str = ""
) -> Figure:
    """Training loss against tokens, one line a name."""
    millions = np.asarray(tokens) / 1e6
    return plot_curves(
        {name: (millions, values) for name, values in losses.items()},
        xlabel="tokens (millions)",
        ylabel="loss (nats/token)",
        title=title,
    )


def plot_bits_per_byte(
    tokens: Sequence[float],
    values: Mapping[str, Sequence[float]],
    *,
    baselines: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """Held-out bits per byte against tokens, with the count models as flat lines."""
    millions = np.asarray(tokens) / 1e6
    return plot_curves(
        {name: (millions, y) for name, y in values.items()},
        xlabel="tokens (millions)",
        ylabel="held-out text (bits/byte)",
        baselines=baselines,
        title=title,
    )


def plot_grouped_bars(
    values: Mapping[str, Mapping[str, float]],
    *,
    ylabel: str,
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    title: str = "",
) -> Figure:
    """One group of bars a measure, one bar a stage: the report card as a picture.

    Args: values[stage][measure]; intervals alike, as (low, high).
    """
    figure, axes = _figure(title)
    measures = list(next(iter(values.values())))
    place, width = np.arange(len(measures)), 0.8 / len(values)
    for i, (stage, row) in enumerate(values.items()):
        heights = np.array([row[m] for m in measures])
        errors = None
        if intervals is not None:
            ends = np.array([intervals[stage][m] for m in measures])
            errors = np.abs(ends.T - heights)
        shift = (i - (len(values) - 1) / 2) * width
        axes.bar(place + shift, heights, width, yerr=errors, label=stage, capsize=1)
    axes.set_xticks(place, measures)
    axes.set_ylabel(ylabel)
    axes.legend(fontsize=7, ncols=3)
    return _finish(figure)


def plot_with_intervals(
    values: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    *,
    xlabel: str,
    baselines: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """One dot and interval a row, with vertical lines for the baselines."""
    figure, axes = _figure(title)
    names = list(values)
    middle = np.array([values[n] for n in names])
    ends = np.array([intervals[n] for n in names]).T
    axes.errorbar(middle, names, xerr=np.abs(ends - middle), fmt="o", capsize=3)
    axes.invert_yaxis()
    for i, (name, value) in enumerate((baselines or {}).items()):
        axes.axvline(value, color=GREY, linestyle=STYLES[i % len(STYLES)], label=name)
    if baselines:
        axes.legend(fontsize=7)
    axes.set_xlabel(xlabel)
    return _finish(figure)


def plot_distributions(
    before: Sequence[float], after: Sequence[float], *, xlabel: str, title: str = ""
) -> Figure:
    """Counts of positive values before and after, in the same 40 logarithmic bins.

    Raises: ValueError for values that are not above 0, which have no logarithm.
    """
    both = np.concatenate([np.asarray(before, float), np.asarray(after, float)])
    if not len(both) or both.min() <= 0:
        raise ValueError("values must be above 0, and there must be some: leave out 0")
    figure, axes = _figure(title)
    low, high = both.min(), max(both.max(), 1.01 * both.min())
    edges = np.geomspace(low * 0.999, high * 1.001, 41)  # both ends surely inside
    axes.hist(before, edges, color="0.8", label=f"before ({len(before):,})")
    axes.hist(
        after, edges, histtype="step", color="tab:blue", label=f"after ({len(after):,})"
    )
    axes.set_xscale("log")
    axes.set_xlabel(xlabel)
    axes.set_ylabel("documents (count)")
    axes.legend(fontsize=8)
    return _finish(figure)


def plot_scores(
    scores: Mapping[str, Sequence[float]], *, xlabel: str, title: str = ""
) -> Figure:
    """How scores in [0, 1] are spread within each label or domain, in 20 bins."""
    figure, axes = _figure(title)
    edges = np.linspace(0, 1, 21)
    for name, values in scores.items():
        share = np.full(len(values), 1 / max(len(values), 1))
        label = f"{name} ({len(values):,})"
        axes.hist(values, edges, weights=share, histtype="step", label=label)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("share of documents (0-1)")
    axes.legend(fontsize=8)
    return _finish(figure)


class CoursePoint(Protocol):
    """What ``plot_course`` asks of a monitor's reading."""

    step: int
    probe: str
    value: float
    standard_error: float
    expected: tuple[float, float] | None


def plot_course(
    readings: Sequence[CoursePoint], *, xlabel: str, title: str = ""
) -> Figure:
    """Expected and actual course: a panel a probe, points with two standard errors.

    The band is that of earlier runs, where there is one; the dashed line is the start.
    """
    probes = list(dict.fromkeys(reading.probe for reading in readings))
    size = (PANEL[0] * max(2, len(probes)), PANEL[1])
    figure, panels = plt.subplots(1, len(probes), figsize=size, dpi=DPI, squeeze=False)
    for axes, probe in zip(panels[0], probes, strict=True):
        own = [reading for reading in readings if reading.probe == probe]
        banded = [reading for reading in own if reading.expected]
        sides = list(zip(*(r.expected for r in banded), strict=True)) or ((), ())
        axes.fill_between([r.step for r in banded], *sides, color="C1", alpha=0.25)
        steps, values = [r.step for r in own], [r.value for r in own]
        errors = [2 * r.standard_error for r in own]
        axes.errorbar(steps, values, errors, marker="o", markersize=3, capsize=2)
        axes.axhline(values[0], color=GREY, linestyle="--", linewidth=1)
        axes.set_title(probe, fontsize=8)
        axes.set_xlabel(xlabel, fontsize=8)
        axes.tick_params(labelsize=7)
    panels[0][0].set_ylabel("bits/byte, or share (0-1)", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return _finish(figure)


def _figure(title: str) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=SIZE, dpi=DPI)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _baselines(axes: Axes, baselines: Mapping[str, float] | None) -> None:
    for i, (name, value) in enumerate((baselines or {}).items()):
        style = STYLES[i % len(STYLES)]
        axes.axhline(value, color=GREY, linestyle=style, linewidth=1, label=name)


def _finish(figure: Figure) -> Figure:
    figure.tight_layout()
    plt.close(figure)
    return figure
