"""Reference curves with tolerance bands: what a normal run looks like.

``data_samples/reference_runs/<profile>.<stage>.json`` holds what several seeds of the
same settings reached. ``make_reference`` builds such a file, ``compare_run`` holds a
run against it. Rows are those of the training loop: ``step``, ``tokens`` and numbers.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from finllm_utils.config_train import NO_INFLUENCE
from finllm_utils.files import read_json
from finllm_utils.metrics import kept_rows

DATA_FILES = ("data_samples/reference_runs",)
FOLDER = Path(__file__).resolve().parents[1] / DATA_FILES[0]
WINDOW = 5  # log rows of the reference in the moving median of the training loss
WIDEN = 2.0  # ranges of the seeds added on each side of them
"""Simulated: five noisy curves, each with an offset of its own a seed, leave a band of
three seeds in 1 run of 100; half this widening calls half of all normal runs odd."""
NUM_POINTS = 40  # of a stored curve
SAME_TEXT = "bpb"
"""Bits per byte do not depend on the tokenizer; every other curve counts tokens."""

Row = Mapping[str, float]


def settings_of(section: object, **more: object) -> dict[str, object]:
    """The settings that shape a curve: those that differ from a field's own default.

    Args:
        section: a config section such as ``cfg.pretrain1``.
        more: what is not in it: ``vocab_size``, ``tokenizer`` (its fingerprint),
            ``dtype``; a section among them counts field by field: ``model=cfg.model``
            gives ``model.hidden_size`` and so on.
    """
    found = _changed_fields(section)
    for name, value in more.items():
        if dataclasses.is_dataclass(value):
            found |= {f"{name}.{k}": v for k, v in _changed_fields(value).items()}
        else:
            found[name] = value
    return json.loads(json.dumps(found))  # tuples become lists, as in a file


def _changed_fields(section: object) -> dict[str, object]:
    return {
        field.name: getattr(section, field.name)
        for field in dataclasses.fields(section)
        if field.name not in NO_INFLUENCE
        and getattr(section, field.name) != field.default
    }


def reference_path(profile: str, stage: str, folder: Path = FOLDER) -> Path:
    """Where the reference of a profile's stage is kept."""
    return Path(folder) / f"{profile}.{stage}.json"


def load_reference(profile: str, stage: str, folder: Path = FOLDER) -> dict | None:
    """The stored reference; None when nobody has measured one.

    Raises: ValueError naming the file when it is not JSON.
    """
    path = reference_path(profile, stage, folder)
    return read_json(path) if path.exists() else None


def curve_of(rows: Sequence[Row], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and values of one key, without steps that a rollback undid.

    A row without ``tokens``, such as an evaluation, stands where its step does.
    """
    rows = kept_rows(rows)
    counted = [(row["step"], row["tokens"]) for row in rows if "tokens" in row]
    if not counted:
        raise ValueError(
            "no row has tokens: pass the rows of the training loop, such as board.rows"
        )
    steps, tokens = np.array(counted, float).T
    found = [(row["step"], row[key]) for row in rows if key in row]
    at, values = np.array(found, float).reshape(-1, 2).T
    return np.interp(at, steps, tokens), values


def smoothed(
    tokens: np.ndarray, values: np.ndarray, span: float, at: np.ndarray
) -> np.ndarray:
    """The median of the last ``span`` tokens before each place ``at``.

    A median, so that one odd batch leaves no trace; counted in tokens, so that another
    ``log_every`` moves no curve sideways. Where a span holds no row, and with span 0,
    the straight line between the rows around it.
    """
    first = np.searchsorted(tokens, at - span, "right")
    end = np.searchsorted(tokens, at, "right")
    line = np.interp(at, tokens, values)
    return np.array([
        np.median(values[f:e]) if e > f else value
        for f, e, value in zip(first, end, line, strict=True)
    ])  # fmt: skip


def make_reference(
    runs: Sequence[Sequence[Row]],
    *,
    profile: str,
    stage: str,
    settings: Mapping[str, object],
    seeds: Sequence[int],
    command: str,
    date: str,
    window: int = WINDOW,
    widen: float = WIDEN,
    num_points: int = NUM_POINTS,
) -> dict[str, object]:
    """A reference from the rows of one run a seed; write it with ``files.write_json``.

    Raises: ValueError for fewer than two runs, or as many seeds as there are not runs.
    """
    if len(runs) < 2 or len(runs) != len(seeds):
        raise ValueError(
            f"{len(runs)} runs and {len(seeds)} seeds: a band needs two runs or more, "
            "and the seed of each"
        )
    keys = set.intersection(*({k for row in rows for k in row} for rows in runs))
    compared = [k for k in sorted(keys) if k.split("/")[0] in ("loss", SAME_TEXT)]
    return {
        "profile": profile,
        "stage": stage,
        "settings": dict(settings),
        "seeds": list(seeds),
        "window": window,
        "widen": widen,
        "command": command,
        "date": date,
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "curves": {
            key: band_of(
                [curve_of(rows, key) for rows in runs],
                window=1 if is_same_text(key) else window,  # else of one batch each
                widen=widen,
                num_points=num_points,
            )
            for key in compared
        },
    }


def is_same_text(key: str) -> bool:
    """Whether a curve is in bits per byte, which no tokenizer changes."""
    return key.split("/")[0] == SAME_TEXT


def band_of(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    window: int = 1,
    widen: float = WIDEN,
    num_points: int = NUM_POINTS,
) -> dict[str, object]:
    """Median of (tokens, values) curves, and a band around their range.

    The band reaches ``widen`` ranges beyond the lowest and the highest curve: 2.0, 2.1
    and 2.4 with widen 1 give 1.6 to 2.8. A point's range counts as no smaller than the
    median one, since few seeds may come close to each other by chance.
    Returns: ``tokens``, ``median``, ``low``, ``high``, and ``span_tokens``, over which
    a run must be smoothed to be compared.
    """
    own = curves[0][0]
    span = float(np.median(np.diff(own))) * window if window > 1 < len(own) else 0.0
    first = max(tokens[0] for tokens, _ in curves)
    last = min(tokens[-1] for tokens, _ in curves)
    own = own[(own >= first) & (own <= last)]
    picked = np.linspace(0, len(own) - 1, min(num_points, len(own))).round()
    grid = own[picked.astype(int)]
    values = np.array([smoothed(t, v, span, grid) for t, v in curves])
    low, high = values.min(0), values.max(0)
    margin = widen * np.maximum(high - low, np.median(high - low))
    return {
        "span_tokens": span,
        "tokens": grid.round().astype(int).tolist(),
        "median": np.median(values, 0).round(5).tolist(),
        "low": (low - margin).round(5).tolist(),
        "high": (high + margin).round(5).tolist(),
    }
