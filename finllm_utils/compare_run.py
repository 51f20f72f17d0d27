"""Is my loss normal? Where a run leaves its reference, and what to look at then.

The bands come from ``reference_runs``. Rows are those of the training loop: ``step``,
``tokens`` and numbers, as ``board.rows`` has them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finllm_utils.reference_runs import (
    FOLDER,
    Row,
    curve_of,
    is_same_text,
    load_reference,
    smoothed,
)

PATIENCE = 3  # points in a row that must lie outside: one may be chance
TOKENIZER_KEYS = {"tokenizer", "vocab_size"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunVerdict:
    """How a run compares with its reference."""

    status: str
    """normal, high, low, diverged, not comparable, or no reference."""
    reason: str
    """One sentence that says why."""
    metric: str = ""
    """The curve that left its band first."""
    left_at_tokens: int | None = None
    """The first of the points in a row outside the band."""
    value: float | None = None
    """The smoothed value there."""
    band: tuple[float, float] | None = None
    """The band there."""
    differs: tuple[str, ...] = ()
    """Settings that are not those of the reference."""
    causes: tuple[str, ...] = ()
    """What to look at, the likeliest first."""

    def text(self) -> str:
        """The verdict as lines to print."""
        causes = [f"- {cause}" for cause in self.causes]
        return "\n".join([f"{self.status}: {self.reason}", *causes])


def compare_run(
    rows: Sequence[Row],
    profile: str,
    stage: str,
    *,
    settings: Mapping[str, object],
    folder: Path = FOLDER,
) -> RunVerdict:
    """Whether a run's loss is normal for its profile and stage, and where it is not.

    A band applies to the settings it was measured with. With another tokenizer alone,
    curves in bits per byte still compare, and losses per token are left out.

    Args: settings from ``settings_of``, made like those of the reference.
    """
    reference = load_reference(profile, stage, folder)
    if reference is None:
        return RunVerdict(
            status="no reference",
            reason=f"nobody has measured {stage} of {profile} yet: make_reference "
            "builds a band from two seeds or more",
        )
    differs = _differences(reference["settings"], settings)
    curves = {
        key: curve
        for key, curve in applicable_curves(reference, settings).items()
        if any(key in row for row in rows)
    }
    if not curves:
        return _not_comparable(tuple(differs.values()))
    curves = {k: curve for k, curve in curves.items() if _reached(rows, k, curve)}
    if not curves:
        return RunVerdict(
            status="not comparable",
            reason="the run has not come to the first point of the reference yet",
            differs=tuple(differs.values()),
        )
    outside = [
        found for key, curve in curves.items() if (found := _leaves(rows, key, curve))
    ]
    return _verdict(outside, curves, tuple(differs.values()))


def applicable_curves(
    reference: Mapping | None, settings: Mapping[str, object]
) -> dict[str, Mapping]:
    """Curves of a stored reference whose bands hold for a run with ``settings``.

    None with other settings; with another tokenizer alone those in bits per byte.
    """
    if reference is None:
        return {}
    differs = set(_differences(reference["settings"], settings))
    if differs - TOKENIZER_KEYS:
        return {}
    curves = reference["curves"].items()
    return {key: curve for key, curve in curves if is_same_text(key) or not differs}


def _reached(rows: Sequence[Row], key: str, curve: Mapping) -> bool:
    return curve_of(rows, key)[0][-1] + 0.5 >= curve["tokens"][0]


def _differences(
    known: Mapping[str, object], given: Mapping[str, object]
) -> dict[str, str]:
    """Settings that differ, each as words; an absent one stands at its default."""
    return {
        key: f"{key} is {given.get(key, 'the default')}, the reference has "
        f"{known.get(key, 'the default')}"
        for key in sorted({*known, *given})
        if known.get(key) != given.get(key)
    }


def _not_comparable(differs: tuple[str, ...]) -> RunVerdict:
    if differs:
        reason = f"the band does not apply, since {'; '.join(differs)}"
    else:
        reason = "the rows and the reference have no curve in common"
    return RunVerdict(status="not comparable", reason=reason, differs=differs)


@dataclass(frozen=True, slots=True)
class _Departure:
    """Where one curve left its band."""

    status: str
    key: str
    index: int  # of the first point outside
    tokens: int
    value: float
    band: tuple[float, float]


def _leaves(
    rows: Sequence[Row], key: str, curve: Mapping[str, Sequence[float]]
) -> _Departure | None:
    """The first stay outside the band that is long enough; None without one."""
    tokens, raw = curve_of(rows, key)
    grid = np.array(curve["tokens"], float)
    low, high = np.array(curve["low"]), np.array(curve["high"])
    if not np.isfinite(raw).all():
        at = int(np.flatnonzero(~np.isfinite(raw))[0])
        index = min(int(np.searchsorted(grid, tokens[at])), len(grid) - 1)
        return _departure("diverged", key, index, tokens[at], raw[at], low, high)
    reached = np.flatnonzero((grid + 0.5 >= tokens[0]) & (grid - 0.5 <= tokens[-1]))
    values = smoothed(tokens, raw, curve["span_tokens"], grid)
    side = np.where(values > high, 1, np.where(values < low, -1, 0))
    patience = min(PATIENCE, len(reached))
    for start in reached[: len(reached) - patience + 1]:
        stay = side[start : start + patience]
        if stay[0] and (stay == stay[0]).all():
            status = "high" if stay[0] > 0 else "low"
            if _diverged(values[reached], high[reached]):
                status = "diverged"
            return _departure(status, key, start, grid[start], values[start], low, high)
    return None


def _departure(
    status: str,
    key: str,
    index: int,
    tokens: float,
    value: float,
    low: np.ndarray,
    high: np.ndarray,
) -> _Departure:
    band = (float(low[index]), float(high[index]))
    return _Departure(status, key, int(index), round(tokens), float(value), band)


def _diverged(values: np.ndarray, high: np.ndarray) -> bool:
    """Outside at the end, and no better than at the first point compared."""
    return len(values) > 1 and values[-1] > max(high[-1], values[0])


def _verdict(
    outside: Sequence[_Departure],
    curves: Mapping[str, object],
    differs: tuple[str, ...],
) -> RunVerdict:
    """The departure that matters most: divergence first, then the earliest."""
    note = " (loss per token is left out: another tokenizer)" if differs else ""
    if not outside:
        return RunVerdict(
            status="normal",
            reason=f"{', '.join(curves)} stayed inside the band{note}",
            differs=differs,
        )
    worst = min(outside, key=lambda d: (d.status != "diverged", d.tokens, d.key))
    low, high = worst.band
    return RunVerdict(
        status=worst.status,
        reason=f"{worst.key} left the band at {worst.tokens:,} tokens: "
        f"{worst.value:.3f}, normal is {low:.3f} to {high:.3f}{note}",
        metric=worst.key,
        left_at_tokens=worst.tokens,
        value=worst.value,
        band=worst.band,
        differs=differs,
        causes=_causes(worst, outside, curves),
    )


_DIVERGED = (
    "Rate: lower learning_rate and embedding_learning_rate, or raise warmup_steps.",
    "Precision: the optimiser must keep float32 masters of bfloat16 weights.",
    "A bad batch: look at the gradient norm just before, and decode that batch.",
)
_HIGH_AT_ONCE = (
    "Wrong tokenizer: the bins must be written with the tokenizer of this model.",
    "Wrong start: the model must be the one the stage before left, and its new rows "
    "must begin at the mean of their pieces.",
    "Labels: they must be the next tokens, and positions restart at each document.",
)
_HIGH_LATER = (
    "Embeddings: embed_tokens and lm_head must both be among the trained parameters.",
    "Rate: compare the learning-rate curve with the schedule; too low learns slowly, "
    "too high stays above.",
    "Data order: planned and drawn shares of the domains must agree.",
)
_LOW = (
    "Repeated text: the same documents drawn again and again are learnt by heart.",
    "Data order: a larger share of easy text, such as templates, lowers the loss.",
    "Leak: training text must not hold the held-out documents.",
)


def _causes(
    worst: _Departure, outside: Sequence[_Departure], curves: Mapping[str, object]
) -> tuple[str, ...]:
    """What to look at, told from when, where and to which side the run left."""
    if worst.status == "diverged":
        return _DIVERGED
    if worst.status == "low":
        causes = _LOW
    else:
        causes = _HIGH_AT_ONCE if worst.index == 0 else _HIGH_LATER
    kind = worst.key.split("/")[0]
    parts = {key for key in curves if key.startswith(f"{kind}/")}
    named = sorted({d.key for d in outside} & parts)
    if named and len(named) < len(parts):
        only = f"Only {', '.join(named)}: look at the text and share of that domain."
        return (only, *causes)
    return causes
