"""One frame of the live board: rows of numbers in, a figure or a line of text out.

Pure: no files, no display, no state of pyplot, so that any thread may draw.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from finllm_utils.metrics import kept_rows

TITLES = {
    "loss": "loss (nats/token)",
    "bpb": "unseen text (bits/byte)",
    "score": "task scores",
    "rate": "learning rate (share of its peak)",
    "grad_norm": "gradient norm",
    "tokens_per_s": "tokens/s, mean so far",
    "mfu": "MFU (share of the measured peak)",
    "memory_gib": "most memory so far (GiB)",
    "data_wait": "waited for data (share of time so far)",
}
"""Panels in this order; any other key gets its own, named after itself."""
NOT_DRAWN = {"step", "seconds", "tokens"}
COLUMNS = 3
MAX_PANELS = 12
MAX_POINTS = 400  # a line; a panel is about 250 pixels wide
PANEL_INCHES = (3.0, 1.8)
DPI = 72

Curve = Mapping[str, Sequence[float]]


def draw_board(
    rows: Sequence[Mapping[str, float]],
    *,
    title: str = "",
    bands: Mapping[str, Curve] | None = None,
) -> Figure:
    """One panel a kind of number, against tokens, or steps where no row counts tokens.

    Args:
        rows: ``step`` and named numbers each; ``loss/english`` shares the panel of
            ``loss``. A row without ``tokens`` stands at those of the rows around it,
            and steps that a rollback undid are left out.
        bands: ``tokens``, ``low`` and ``high`` by key, drawn behind that key's line
            (the ``curves`` of a reference run).
    """
    rows = kept_rows(rows)
    place, unit = _places(rows)
    panels = _panels(rows)
    shown, left_out = list(panels)[:MAX_PANELS], list(panels)[MAX_PANELS:]
    num_rows = max(1, -(-len(shown) // COLUMNS))
    width, height = PANEL_INCHES
    figure = Figure(figsize=(COLUMNS * width, num_rows * height + 0.5), dpi=DPI)
    colours = _colours(panels)
    for index, name in enumerate(shown):
        axes = figure.add_subplot(num_rows, COLUMNS, index + 1)
        _draw_lines(axes, rows, place, panels[name], colours)
        if bands and unit != "steps":
            _draw_bands(axes, bands, panels[name], colours)
        lowest = index >= len(shown) - COLUMNS
        _finish_panel(axes, TITLES.get(name, name), unit if lowest else "", place)
    if left_out:
        title = f"{title} (not drawn: {', '.join(left_out)})".strip()
    inches = figure.get_figheight()
    figure.suptitle(title, fontsize=9, x=0.01, y=1 - 0.06 / inches, ha="left", va="top")
    figure.subplots_adjust(
        left=0.06, right=0.99, top=1 - 0.5 / inches, bottom=0.45 / inches,
        wspace=0.25, hspace=0.4,
    )  # fmt: skip
    return figure


def _places(rows: Sequence[Mapping[str, float]]) -> tuple[np.ndarray, str]:
    """Where each row stands on the x axis, and that axis's label."""
    steps = np.array([row["step"] for row in rows], float)
    known = [(row["step"], row["tokens"]) for row in rows if "tokens" in row]
    if not known:
        return steps, "steps"
    at, tokens = np.array(sorted(known), float).T
    return np.interp(steps, at, tokens) / 1e6, "tokens (millions)"


def _panels(rows: Sequence[Mapping[str, float]]) -> dict[str, list[str]]:
    """Keys of every panel, the known panels first."""
    keys = dict.fromkeys(k for row in rows for k in row if k not in NOT_DRAWN)
    panels: dict[str, list[str]] = {name: [] for name in TITLES}
    for key in keys:
        panels.setdefault(key.split("/")[0], []).append(key)
    return {name: members for name, members in panels.items() if members}


def _part(key: str) -> str:
    """What a line is called: ``english`` of ``loss/english``, else the key."""
    return key.split("/", 1)[-1]


def _colours(panels: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """One colour a domain or task in all panels; a total beside its parts is black."""
    every = [key for keys in panels.values() for key in keys]
    parts = dict.fromkeys(_part(key) for key in every if "/" in key)
    colours = {part: f"C{i % 10}" for i, part in enumerate(parts)}
    for keys in panels.values():
        colour = "C0" if len(keys) == 1 else "black"
        colours |= {key: colour for key in keys if "/" not in key}
    return colours


def _draw_lines(
    axes: Axes,
    rows: Sequence[Mapping[str, float]],
    place: np.ndarray,
    keys: Sequence[str],
    colours: Mapping[str, str],
) -> None:
    for key in keys:
        where = [i for i, row in enumerate(rows) if key in row]
        x, y = thinned(place[where], np.array([rows[i][key] for i in where], float))
        axes.plot(
            x, y, label=_part(key), color=colours[_part(key)],
            linewidth=0.9 if "/" in key else 1.4,
            marker="o" if len(x) <= 12 else None, markersize=2.5,
        )  # fmt: skip
    if len(keys) > 1 or "/" in keys[0]:
        axes.legend(fontsize=6, labelspacing=0.1, borderpad=0.2)


def _draw_bands(
    axes: Axes,
    bands: Mapping[str, Curve],
    keys: Sequence[str],
    colours: Mapping[str, str],
) -> None:
    for key in keys:
        if key in bands:
            band = bands[key]
            axes.fill_between(
                np.asarray(band["tokens"]) / 1e6, band["low"], band["high"],
                color=colours[_part(key)], alpha=0.2, linewidth=0,
            )  # fmt: skip


def _finish_panel(axes: Axes, title: str, unit: str, place: np.ndarray) -> None:
    """The same span of tokens in every panel, named under the lowest ones alone."""
    axes.set_title(title, fontsize=8)
    if place.max() > place.min():
        margin = 0.03 * (place.max() - place.min())
        axes.set_xlim(place.min() - margin, place.max() + margin)
    axes.set_xlabel(unit, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelsize=7, labelbottom=bool(unit))
    axes.grid(alpha=0.3)


def thinned(
    x: np.ndarray, y: np.ndarray, num: int = MAX_POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """At most ``num`` points, in which every spike is still there.

    They are the lowest and the highest of each stretch, and the first and the last.
    """
    if len(x) <= num:
        return x, y
    kept = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), max(1, num // 2 - 1)):
        values = np.nan_to_num(y[part], nan=np.inf)
        kept |= {int(part[values.argmin()]), int(part[values.argmax()])}
    order = sorted(kept)
    return x[order], y[order]


def text_line(row: Mapping[str, float], name: str = "") -> str:
    """One row as a line of a log, without the losses of single domains."""
    words = [f"{name} step {row['step']:,}".strip()]
    if "tokens" in row:
        words.append(f"{row['tokens'] / 1e6:.3g}M tokens")
    for key, value in row.items():
        if key not in NOT_DRAWN and not key.startswith("loss/"):
            words.append(f"{key} {value:,.4g}")
    return "  ".join(words)


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG file in memory."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
