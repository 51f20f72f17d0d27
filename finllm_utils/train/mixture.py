"""The mixture schedule: which domain each training row comes from, and when.

Weights move linearly over the pass. Rows are dealt by a counter-based low-discrepancy
sequence, so any row's domain is known without drawing the ones before it and the order
is the same for any number of processes.
"""

from dataclasses import dataclass

import numpy as np

from finllm_utils.config import PretrainConfig

DOMAINS = ("general_zh", "finance_zh", "english", "finance_en")
_GOLDEN = 0.6180339887498949  # its multiples modulo 1 fill [0, 1) most evenly


def weights_at(cfg: PretrainConfig, progress: np.ndarray) -> np.ndarray:
    """Planned weight of each domain, (..., 4), at ``progress`` in [0, 1]."""
    progress = np.asarray(progress, dtype=np.float64)
    change = cfg.finance_share_end - cfg.finance_share_start
    finance = cfg.finance_share_start + change * progress
    zh, en = cfg.zh_share, 1.0 - cfg.zh_share
    parts = [zh * (1 - finance), zh * finance, en * (1 - finance), en * finance]
    return np.stack(parts, axis=-1)


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


def plan_rows(cfg: PretrainConfig, num_rows: int, seed: int) -> RowPlan:
    """The plan of a pass of ``num_rows`` rows.

    Raises: ValueError when the pass has no row.
    """
    if num_rows < 1:
        raise ValueError(
            "the pass has no row: tokens must be at least global_batch_size * seq_len"
        )
    rows = np.arange(num_rows)
    planned = weights_at(cfg, (rows + 0.5) / num_rows)
    offset = np.random.default_rng(seed).random()
    points = (offset + rows * _GOLDEN) % 1.0
    edges = np.cumsum(planned, axis=1)
    domain = (points[:, None] >= edges[:, :-1]).sum(axis=1).astype(np.int8)
    index = np.zeros(num_rows, dtype=np.int64)
    for d in range(len(DOMAINS)):
        mine = domain == d
        index[mine] = np.arange(mine.sum())
    return RowPlan(domain, index, planned)
