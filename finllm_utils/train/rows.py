"""Batches of rows in the order of the mixture schedule: what the loop reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from finllm_utils.train.bins import PackedBin, read_meta
from finllm_utils.train.mixture import DOMAINS, RowPlan, RowSampler

MAX_EPOCHS = 4
"""Text read more often than this gives less than new text would: to about four epochs
the loss is nearly that of new text. Source: arXiv 2305.16264, section 1."""
_WINDOW = 1_024  # rows whose places in the schedule are looked up in one go


class MixedRows:
    """Rows of all domains in the order of a schedule.

    It has no state to save: any row is read by its number, on any process.
    """

    def __init__(
        self,
        folder: Path,
        plan: RowPlan | RowSampler,
        seq_len: int,
        seed: int,
        document_order: str = "shuffled",
    ) -> None:
        """Opens the bins that the schedule draws from."""
        self._plan = plan
        self._open = lambda d: PackedBin(
            folder, DOMAINS[d], seq_len, seed, document_order
        )
        self.seq_len = seq_len
        self._bins = {int(d): self._open(int(d)) for d in np.flatnonzero(plan.counts())}
        self._window: tuple[int, np.ndarray, np.ndarray] | None = None

    @property
    def plan(self) -> RowPlan | RowSampler:
        """The schedule; assign a ``reweighted`` sampler to follow another mixture."""
        return self._plan

    @plan.setter
    def plan(self, plan: RowPlan | RowSampler) -> None:
        self._plan, self._window = plan, None

    def domains(self, start: int, size: int) -> np.ndarray:
        """Domain of each row, (size,) int8, an index into DOMAINS."""
        return self._places(start, size)[0]

    def batch(self, start: int, size: int) -> torch.Tensor:
        """Rows ``start`` to ``start + size`` of the pass, (B, T) int64."""
        domains, indices = self._places(start, size)
        rows_BT = np.empty((size, self.seq_len), dtype=np.int64)
        pairs = zip(domains.tolist(), indices.tolist(), strict=True)
        for row_T, (domain, index) in zip(rows_BT, pairs, strict=True):
            if domain not in self._bins:  # a reweighted schedule may be the first
                self._bins[domain] = self._open(domain)
            self._bins[domain].read_into(row_T, index)
        return torch.from_numpy(rows_BT)

    def _places(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Domains and indices of a stretch, from a window that is kept."""
        first = start // _WINDOW * _WINDOW
        if start + size > first + _WINDOW:
            return self._plan.draw(start, size)
        if self._window is None or self._window[0] != first:
            self._window = (first, *self._plan.draw(first, _WINDOW))
        rows = slice(start - first, start - first + size)
        return self._window[1][rows], self._window[2][rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainReading:
    """How much of a domain a pass will read."""

    rows: int
    tokens: int
    available: int
    """Tokens in the domain's bin."""
    epochs: float
    too_often: bool
    """More than ``MAX_EPOCHS`` times: more text, or fewer tokens, would do better."""


def planned_reading(
    folder: Path, plan: RowPlan | RowSampler, seq_len: int
) -> dict[str, DomainReading]:
    """What a pass will read of each domain, and how many times over.

    Domains that the pass does not draw from are left out.
    """
    found = {}
    for domain, rows in zip(DOMAINS, plan.counts().tolist(), strict=True):
        if rows:
            available = read_meta(folder, domain).tokens
            epochs = rows * seq_len / available
            found[domain] = DomainReading(
                rows=rows,
                tokens=rows * seq_len,
                available=available,
                epochs=epochs,
                too_often=epochs > MAX_EPOCHS,
            )
    return found
