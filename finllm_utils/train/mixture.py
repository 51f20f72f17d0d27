"""The mixture schedule: which domain each training row comes from, and when.

Weights move linearly between points over the pass. Each domain's rows are due at even
steps of its own cumulative weight, and rows are dealt in the order in which they are
due. Where a row of a domain is due has a closed form, so the domain of any row, and
which row of that domain it is, are known without drawing the rows before it: the order
is the same for any number of processes, and a resumed pass needs its row number only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finllm_utils.config import PretrainConfig

DOMAINS = ("general_zh", "finance_zh", "english", "finance_en")
_EARLY = 8  # rows; a row is due at most 1.5 before its number, and 2.5 after it
_GUARD = 4  # rows; nothing before a row depends on weights that begin this far after it

Multipliers = Sequence[float]  # one a domain, in the order of DOMAINS
MixtureLog = tuple[tuple[int, tuple[float, ...]], ...]
"""(from_row, multipliers): the multipliers hold from that row to the next entry's."""


def _points(cfg: PretrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Progress, (points,), and the four weights there, (points, 4)."""
    line = (
        (0.0, cfg.zh_share, cfg.finance_share_start),
        (1.0, cfg.zh_share, cfg.finance_share_end),
    )
    places, zh, finance = np.array(cfg.mixture_points or line, dtype=np.float64).T
    parts = [zh * (1 - finance), zh * finance]
    parts += [(1 - zh) * (1 - finance), (1 - zh) * finance]
    return places, np.stack(parts, axis=1)


def weights_at(cfg: PretrainConfig, progress: np.ndarray) -> np.ndarray:
    """Planned weight of each domain, (..., 4), at ``progress`` in [0, 1].

    Linear between points, and constant before the first and after the last.
    """
    places, weights = _points(cfg)
    progress = np.asarray(progress, dtype=np.float64)
    return np.stack([np.interp(progress, places, w) for w in weights.T], axis=-1)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of rows over which each weight moves along a line."""

    begin: float
    end: float
    at_begin: np.ndarray  # (4,)
    at_end: np.ndarray

    def at(self, row: float) -> np.ndarray:
        """Weights at a row of the stretch, (4,)."""
        share = (row - self.begin) / (self.end - self.begin)
        return (1 - share) * self.at_begin + share * self.at_end

    def cut(self, begin: float, end: float) -> "_Piece":
        """The part of the stretch that lies in [begin, end]."""
        begin, end = max(begin, self.begin), min(end, self.end)
        return _Piece(begin, end, self.at(begin), self.at(end))

    def times(self, multipliers: np.ndarray) -> "_Piece":
        """Both ends multiplied and brought back to a sum of 1."""
        first, last = self.at_begin * multipliers, self.at_end * multipliers
        return _Piece(self.begin, self.end, first / first.sum(), last / last.sum())


def _pieces(cfg: PretrainConfig, num_rows: int, log: MixtureLog) -> list[_Piece]:
    """The schedule in rows, with every entry of the log applied from its row on.

    An entry's lines run to the next point of the plan and are cut where a later entry
    begins, so that a later entry changes no row before it.
    """
    places, weights = _points(cfg)
    rows = [0.0, *(places * num_rows), float(num_rows)]
    values = [weights[0], *weights, weights[-1]]
    plan = [
        _Piece(rows[i], rows[i + 1], values[i], values[i + 1])
        for i in range(len(rows) - 1)
        if rows[i + 1] > rows[i]
    ]
    starts = [0.0, *(row + float(_GUARD) for row, _ in log), float(num_rows)]
    factors = [np.ones(len(DOMAINS)), *(np.array(m, dtype=float) for _, m in log)]
    pieces = []
    for i, factor in enumerate(factors):
        begin, end = starts[i], min(starts[i + 1], float(num_rows))
        for piece in plan:
            if max(begin, piece.begin) < min(end, piece.end):
                whole = piece.cut(begin, piece.end)
                pieces.append((whole.times(factor) if i else whole).cut(begin, end))
    return pieces


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Domain and within-domain index of every row of a pass."""

    domain: np.ndarray  # (num_rows,) int8, index into DOMAINS
    index: np.ndarray  # (num_rows,) int64, the how-manieth row of its domain
    planned: np.ndarray  # (num_rows, 4) float64

    def drawn_share(self) -> dict[str, float]:
        """Share of rows drawn from each domain."""
        counts = np.bincount(self.domain, minlength=len(DOMAINS))
        return dict(zip(DOMAINS, (counts / len(self.domain)).tolist(), strict=True))

    def planned_share(self) -> dict[str, float]:
        """Share of rows that the schedule asked for."""
        return dict(zip(DOMAINS, self.planned.mean(axis=0).tolist(), strict=True))

    def draw(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Domains and within-domain indices of ``size`` rows from ``start`` on."""
        rows = slice(start, start + size)
        return self.domain[rows], self.index[rows]

    def counts(self) -> np.ndarray:
        """Rows of each domain in the pass, (4,) int64."""
        return np.bincount(self.domain, minlength=len(DOMAINS))


class RowSampler:
    """The rows of a pass without a list of them: any row's domain and index at once.

    Row k of a domain is due where the domain's cumulative weight, in rows, reaches
    k + u, with u in (0, 1) from the seed. Any stretch of the pass holds the planned
    number of rows of each domain to within a few rows.
    """

    def __init__(
        self, cfg: PretrainConfig, num_rows: int, seed: int, log: MixtureLog = ()
    ) -> None:
        """Lays out the schedule.

        Args: log is what ``reweighted`` added, as read from a checkpoint.
        Raises: ValueError when the pass has no row or the log is not in order.
        """
        if num_rows < 1:
            raise ValueError(
                "the pass has no row: tokens must be at least global_batch_size * "
                "seq_len"
            )
        self.cfg, self.num_rows, self.seed = cfg, num_rows, seed
        self.log: MixtureLog = tuple((int(r), tuple(map(float, m))) for r, m in log)
        _check_log(self.log)
        rng = np.random.default_rng(seed)
        # One u in each quarter: rows then never stray far from their number.
        self._first_due = (rng.permutation(4) + rng.random(4)) / 4
        pieces = _pieces(cfg, num_rows, self.log)
        last = pieces[-1].at_end  # rows due after the end keep the last weights
        self._begin = np.array([p.begin for p in pieces] + [float(num_rows)])
        self._width = np.append(np.diff(self._begin), np.inf)
        self._weight = np.stack([p.at_begin for p in pieces] + [last])
        ends = np.stack([p.at_end for p in pieces] + [last])
        self._slope = (ends - self._weight) / self._width[:, None]
        areas = (self._weight + ends)[:-1] / 2 * self._width[:-1, None]
        self._before = np.concatenate([np.zeros((1, 4)), np.cumsum(areas, axis=0)])

    def reweighted(self, from_row: int, multipliers: Multipliers) -> "RowSampler":
        """A sampler whose weights are multiplied from a row on; earlier rows stay."""
        log = (*self.log, (from_row, tuple(multipliers)))
        return RowSampler(self.cfg, self.num_rows, self.seed, log)

    def draw(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Domains and within-domain indices of ``size`` rows from ``start`` on.

        Returns: (size,) int8 and (size,) int64.
        """
        domain, index, order, skip = self._due(start, size)
        chosen = order[skip : skip + size]
        return domain[chosen], index[chosen]

    def domains(self, start: int, size: int) -> np.ndarray:
        """Domain of each row, (size,) int8, an index into DOMAINS."""
        return self.draw(start, size)[0]

    def indices(self, start: int, size: int) -> np.ndarray:
        """The how-manieth row of its domain each row is, (size,) int64."""
        return self.draw(start, size)[1]

    def counts(self, num_rows: int | None = None) -> np.ndarray:
        """Rows of each domain among the first ``num_rows`` (default: all), (4,)."""
        stop = self.num_rows if num_rows is None else num_rows
        domain, index, order, skip = self._due(stop, 1)
        first = np.array([index[domain == d].min() for d in range(len(DOMAINS))])
        return first + np.bincount(domain[order[:skip]], minlength=len(DOMAINS))

    def planned(self, num_rows: int | None = None) -> np.ndarray:
        """Rows of each domain that the schedule asks for among the first, (4,)."""
        return self._area(self.num_rows if num_rows is None else num_rows)

    def weights(self, rows: np.ndarray) -> np.ndarray:
        """Weights in force at each row, (rows, 4); multipliers are in them."""
        piece, past = self._piece(np.asarray(rows, dtype=np.float64))
        return self._weight[piece] + self._slope[piece] * past[:, None]

    def drawn_share(self) -> dict[str, float]:
        """Share of rows drawn from each domain."""
        share = self.counts() / self.num_rows
        return dict(zip(DOMAINS, share.tolist(), strict=True))

    def planned_share(self) -> dict[str, float]:
        """Share of rows that the schedule asks for."""
        share = self.planned() / self.num_rows
        return dict(zip(DOMAINS, share.tolist(), strict=True))

    def plan(self) -> RowPlan:
        """Every row as arrays, for tables and plots of a pass of moderate length."""
        centres = np.arange(self.num_rows) + 0.5
        return RowPlan(*self.draw(0, self.num_rows), self.weights(centres))

    def _due(self, start: int, size: int) -> tuple:
        """Rows due around a stretch: domain, index, their order, and how many to skip.

        The first ``skip`` in that order come before row ``start``.
        """
        low, high = self._area(start - _EARLY), self._area(start + size + _EARLY)
        first = np.maximum(np.floor(low).astype(np.int64) - 1, 0)
        stop = np.floor(high).astype(np.int64) + 3
        domain = np.repeat(np.arange(len(DOMAINS), dtype=np.int8), stop - first)
        index = np.concatenate(
            [np.arange(a, b) for a, b in zip(first, stop, strict=True)]
        )
        when = np.concatenate(
            [
                self._when(d, np.arange(first[d], stop[d]) + self._first_due[d])
                for d in range(len(DOMAINS))
            ]
        )
        order = np.argsort(when, kind="stable")  # equals go by domain
        return domain, index, order, start - int(first.sum())

    def _piece(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Piece that each row lies in, and how far in."""
        piece = np.searchsorted(self._begin, rows, side="right") - 1
        return piece, rows - self._begin[piece]

    def _area(self, row: float) -> np.ndarray:
        """Rows of each domain that are planned before ``row``, (4,)."""
        piece, past = self._piece(np.array([max(row, 0.0)], dtype=np.float64))
        area = self._weight[piece] * past[:, None]
        area += self._slope[piece] * (past**2 / 2)[:, None]
        return (self._before[piece] + area)[0]

    def _when(self, d: int, area: np.ndarray) -> np.ndarray:
        """Where the cumulative weight of a domain reaches ``area``; inf: nowhere.

        Solves area = before + weight x + slope x^2 / 2 in the form that stays exact
        when the slope is near 0.
        """
        piece = np.searchsorted(self._before[:, d], area, side="right") - 1
        rest = area - self._before[piece, d]
        weight, slope = self._weight[piece, d], self._slope[piece, d]
        root = weight + np.sqrt(np.maximum(weight**2 + 2 * slope * rest, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            past = np.where(root > 0, 2 * rest / root, np.inf)
        return self._begin[piece] + np.minimum(past, self._width[piece])


def _check_log(log: MixtureLog) -> None:
    rows = [row for row, _ in log]
    if rows != sorted(set(rows)) or any(row < 0 for row in rows):
        raise ValueError(f"mixture log: rows {rows} must rise, each at least 0")
    for row, multipliers in log:
        if len(multipliers) != len(DOMAINS) or not all(m > 0 for m in multipliers):
            raise ValueError(
                f"mixture log, row {row}: multipliers {multipliers} must be "
                f"{len(DOMAINS)} positive numbers, for {', '.join(DOMAINS)}"
            )


def plan_rows(cfg: PretrainConfig, num_rows: int, seed: int) -> RowPlan:
    """The plan of a pass of ``num_rows`` rows, row by row.

    Raises: ValueError when the pass has no row.
    """
    return RowSampler(cfg, num_rows, seed).plan()
