"""Figures carry their data, labels with units, and are closed."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from finllm_utils.evals.monitor import Reading
from finllm_utils.plots import (
    plot_bits_per_byte,
    plot_course,
    plot_curves,
    plot_distributions,
    plot_funnel,
    plot_grouped_bars,
    plot_loss,
    plot_mixture,
    plot_scores,
    plot_shares_over_time,
    plot_with_intervals,
)

SHARES = {"general_zh": 0.6, "english": 0.4}
FIGURES = {
    "funnel": lambda: plot_funnel({"read": 100, "kept": 32}, unit="documents"),
    "mixture": lambda: plot_mixture(SHARES, {"english": 0.39, "general_zh": 0.61}),
    "shares": lambda: plot_shares_over_time(
        [0, 1e6], {"zh": [0.9, 0.8], "finance": [0.1, 0.2]}
    ),
    "loss": lambda: plot_loss([0, 1e6, 2e6], {"train": [9, 7, 6]}),
    "bpb": lambda: plot_bits_per_byte(
        [0, 1e6], {"finance_zh": [3, 2]}, baselines={"unigram": 2.9, "bigram": 1.9}
    ),
    "bars": lambda: plot_grouped_bars(
        {"base": {"a": 1.0, "b": 2.0}, "ppo": {"a": 0.5, "b": 1.0}},
        ylabel="bits/byte",
        intervals={
            "base": {"a": (0.9, 1.1), "b": (1.9, 2.1)},
            "ppo": {"a": (0.4, 0.6), "b": (0.9, 1.1)},
        },
    ),
    "distributions": lambda: plot_distributions(
        [10, 100, 1_000, 10_000], [100, 1_000], xlabel="document length (characters)"
    ),
    "scores": lambda: plot_scores(
        {"clean": [0.9, 0.95, 1.0], "dirty": [0.0, 0.6]}, xlabel="clean score (0-1)"
    ),
    "intervals": lambda: plot_with_intervals(
        {"sft2": 0.4},
        {"sft2": (0.3, 0.5)},
        xlabel="accuracy (0-1)",
        baselines={"chance": 0.25},
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_has_labels_is_small_and_closed(name, tmp_path):
    open_before = plt.get_fignums()
    figure = FIGURES[name]()
    assert plt.get_fignums() == open_before
    axes = figure.axes[0]
    assert "(" in axes.get_xlabel() + axes.get_ylabel() or name == "bars"
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size < 80_000


def test_lines_carry_the_data_in_millions_and_the_baselines():
    lines = FIGURES["bpb"]().axes[0].get_lines()
    assert list(lines[0].get_xdata()) == [0, 1]
    assert [line.get_label() for line in lines] == ["finance_zh", "unigram", "bigram"]


def test_error_bars_span_the_interval():
    axes = FIGURES["bars"]().axes[0]
    low, high = axes.collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.9, 1.1))


def test_a_course_shows_the_band_the_points_and_the_start():
    rows = [("bpb/zh", 3.0, None), ("bpb/zh", 2.5, (2.0, 2.8)), ("score/x", 0.4, None)]
    readings = [
        Reading(
            step=step, probe=probe, value=value, standard_error=0.1, num_items=8,
            expected=expected,
        )
        for step, (probe, value, expected) in enumerate(rows)
    ]  # fmt: skip
    figure = plot_course(readings, xlabel="steps")
    assert [axes.get_title() for axes in figure.axes] == ["bpb/zh", "score/x"]
    left, right = figure.axes
    band, errors = left.collections
    assert set(band.get_paths()[0].vertices[:, 1]) == {2.0, 2.8}
    assert errors.get_segments()[0][:, 1] == pytest.approx([2.8, 3.2])
    assert left.get_lines()[-1].get_ydata() == [3.0, 3.0]
    assert not right.collections[0].get_paths(), "no band where nobody has been"


def test_different_domains_are_refused():
    with pytest.raises(ValueError, match="same domains"):
        plot_mixture(SHARES, {"english": 1.0})


def test_curves_without_baselines():
    figure = plot_curves({"a": ([0, 1], [1, 2])}, xlabel="steps (count)", ylabel="x")
    assert figure.axes[0].get_xlabel() == "steps (count)"


def heights(polygon):
    """The bins that an outline of a histogram draws, as they differ from 0."""
    values = [float(y) for _, y in polygon.get_xy()]
    return sorted({round(v, 6) for v in values} - {0.0})


def test_distributions_count_every_document_in_logarithmic_bins():
    axes = FIGURES["distributions"]().axes[0]
    assert axes.get_xscale() == "log"
    bars = [bar for bar in axes.patches if hasattr(bar, "get_height")]
    assert sum(bar.get_height() for bar in bars) == 4
    assert heights(axes.patches[-1]) == [1]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(legend) == ["after (2)", "before (4)"]
    edges = [bar.get_x() for bar in bars]
    ratios = {round(b / a, 6) for a, b in zip(edges, edges[1:], strict=False)}
    assert len(ratios) == 1
    for values in ([0, 1], []):
        with pytest.raises(ValueError, match="above 0"):
            plot_distributions(values, [], xlabel="characters")
    plot_distributions([5, 5], [5], xlabel="all alike")


def test_scores_are_shares_within_each_label():
    axes = FIGURES["scores"]().axes[0]
    by_label = {p.get_label(): p for p in axes.patches}
    assert heights(by_label["clean (3)"]) == [
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    ]
    assert heights(by_label["dirty (2)"]) == [0.5]
    plot_scores({"none": []}, xlabel="score (0-1)")
