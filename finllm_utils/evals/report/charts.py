"""The report card's figures as inline SVG: a radar, and one curve a measure.

Plain text, no library, nothing is loaded, and every label is escaped. A page may name
other colours (``--c0`` to ``--c5``, ``--line``, ``--soft``) for the dark; without them,
as in a notebook, the figures have their own.
"""

import html
import math
from collections.abc import Mapping, Sequence

from finllm_utils.intervals import Interval

COLOURS = ("#1f5fbf", "#b3541e", "#2b7a4b", "#8a3ea8", "#8a6d00", "#a8325f")
LINE, SOFT = "var(--line, #d5dae1)", "var(--soft, #596273)"
DASHES = ("", "6 3", "2 3", "8 3 2 3", "10 4", "1 4")
RADIUS, CENTRE_X, CENTRE_Y = 130.0, 290.0, 180.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 310.0, 30.0, 150.0  # of a curve's frame


def radar(
    axes: Sequence[str], models: Mapping[str, Sequence[float | None]], title: str
) -> str:
    """Models as polygons over the axes: 0 in the centre, 1 on the rim.

    Values are held to [0, 1]. A model without a value on an axis has a gap there.
    Raises: ValueError for more models than there are colours, or an empty axis.
    """
    if not axes or len(models) > len(COLOURS):
        raise ValueError(
            f"{len(axes)} axes and {len(models)} models: draw one axis or more and at "
            f"most {len(COLOURS)} models"
        )
    parts = [_ring(share, len(axes)) for share in (0.25, 0.5, 0.75, 1.0)]
    for i, name in enumerate(axes):
        x, y = _spoke(i, len(axes), 1.0)
        parts.append(_line(CENTRE_X, CENTRE_Y, x, y, LINE))
        text_x, text_y = _spoke(i, len(axes), 1.12)
        side = 0 if abs(x - CENTRE_X) < 1 else 1 if x > CENTRE_X else -1
        anchors = {-1: "end", 0: "middle", 1: "start"}
        parts.append(_text(text_x, text_y + 4, name, anchors[side]))
    for number, (name, values) in enumerate(models.items()):
        parts += _polygon(number, values)
        y = 370 + 20 * number
        parts.append(_line(200, y - 5, 235, y - 5, *_stroke(number)))
        parts.append(_text(243, y, name))
    return _svg(580, 370 + 20 * len(models), title, parts, "large")


def curve(
    title: str,
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[Interval],
    baseline: float | None = None,
) -> str:
    """One ability over the stages: dots with intervals, dashed baseline."""
    ends = [end for interval in intervals for end in interval]
    marks = [*values, *ends, *([] if baseline is None else [baseline])]
    low, high = min(marks), max(marks)
    margin = 0.08 * (high - low) or 0.05
    low, high = low - margin, high + margin

    def height(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    step = (RIGHT - LEFT) / max(1, len(names))
    places = [LEFT + step * (i + 0.5) for i in range(len(names))]
    parts = [_text(4, 14, title)]
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        parts.append(_line(LEFT, height(value), RIGHT, height(value), LINE))
        parts.append(_text(LEFT - 4, height(value) + 4, f"{value:.2f}", "end"))
    if baseline is not None:
        y = height(baseline)
        parts.append(_line(LEFT, y, RIGHT, y, SOFT, "5 4"))
    line = " ".join(
        f"{x:.1f},{height(v):.1f}" for x, v in zip(places, values, strict=True)
    )
    colour, _ = _stroke(0)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"/>')
    for x, name, value, (below, above) in zip(
        places, names, values, intervals, strict=True
    ):
        parts.append(_line(x, height(below), x, height(above), colour))
        tip = html.escape(f"{name}: {value:.3f} [{below:.3f}, {above:.3f}]")
        parts.append(
            f'<circle cx="{x:.1f}" cy="{height(value):.1f}" r="3.5" '
            f'fill="{colour}"><title>{tip}</title></circle>'
        )
        parts.append(_slanted(x, BOTTOM + 14, name))
    return _svg(320, 200, title, parts)


def _polygon(number: int, values: Sequence[float | None]) -> list[str]:
    """Lines between neighbouring axes that both have a value, and a dot on each."""
    points = [
        None if v is None else _spoke(i, len(values), min(1.0, max(0.0, v)))
        for i, v in enumerate(values)
    ]
    colour, dashes = _stroke(number)
    parts = []
    for i, point in enumerate(points):
        following = points[(i + 1) % len(points)]
        if point and following and len(points) > 1:
            parts.append(_line(*point, *following, colour, dashes, width=2))
        if point:
            x, y = point
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    return parts


def _ring(share: float, num_axes: int) -> str:
    points = [_spoke(i, num_axes, share) for i in range(num_axes)]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{text}" fill="none" stroke="{LINE}"/>'


def _spoke(index: int, num_axes: int, share: float) -> tuple[float, float]:
    """A point on an axis; the first points up, the others follow clockwise."""
    angle = 2 * math.pi * index / num_axes - math.pi / 2
    reach = RADIUS * share
    return CENTRE_X + reach * math.cos(angle), CENTRE_Y + reach * math.sin(angle)


def _stroke(number: int) -> tuple[str, str]:
    return f"var(--c{number}, {COLOURS[number]})", DASHES[number]


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "",
    width: float = 1,
) -> str:  # fmt: skip
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width:g}"{dash}/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    label = html.escape(text)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{label}</text>'


def _slanted(x: float, y: float, text: str) -> str:
    turn = f"rotate(-30 {x:.1f} {y:.1f})"
    label = html.escape(text)
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="end" '
        f'transform="{turn}">{label}</text>'
    )


def _svg(
    width: int, height: int, title: str, parts: Sequence[str], kind: str = ""
) -> str:
    name = html.escape(title)
    mark = f' class="{kind}"' if kind else ""
    body = "".join(parts)
    return (
        f'<svg{mark} viewBox="0 0 {width} {height}" width="{width}" font-size="11" '
        f'role="img" aria-label="{name}">'
        f"{body}</svg>"
    )
