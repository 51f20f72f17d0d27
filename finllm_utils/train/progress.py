"""How far a pass is: what a checkpoint keeps beside the tensors, and what is logged."""

import dataclasses
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from finllm_utils.train.mixture import DOMAINS


@dataclass(kw_only=True)
class Progress:
    """The numbers of a pass; ``note`` and ``from_note`` are its JSON."""

    step: int = 0
    """Steps gone through, skipped ones included."""
    losses: list[float] = field(default_factory=list)
    """Nats a token of each trained step."""
    skipped: list[int] = field(default_factory=list)
    """Steps whose batch is left out, rising; they still count as steps."""
    rollbacks: int = 0
    seconds: float = 0.0
    data_wait_seconds: float = 0.0
    mixture: list = field(default_factory=list)
    """The sampler's log: what ``react_to_loss`` changed, and from which row on."""
    reaction: dict = field(default_factory=dict)
    """Its ``ReactState`` as a dict, and what it has heard since it last moved."""

    def note(self) -> dict[str, object]:
        """JSON that ``from_note`` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_note(cls, note: dict) -> "Progress":
        """The progress that a checkpoint kept."""
        return cls(**note)


class DomainLosses:
    """Mean loss of each domain over the rows since ``take`` was called."""

    def __init__(self, sums: list[list[float]] | None = None) -> None:
        """Starts with no row, or with the ``sums`` of another one."""
        self.sums = np.array(sums or np.zeros((2, len(DOMAINS))))  # nats and tokens

    def add(self, sums: np.ndarray) -> None:
        """Adds a step's nats and tokens by domain, (2, 4)."""
        self.sums += sums

    def take(self) -> dict[str, float]:
        """Nats a token of the domains that were read; begins again."""
        found = {
            domain: float(nats / tokens)
            for domain, nats, tokens in zip(DOMAINS, *self.sums, strict=True)
            if tokens and nats
        }
        self.sums = np.zeros_like(self.sums)
        return found


class Stopwatch:
    """Seconds since it was made, and how many of them went into ``waiting``."""

    def __init__(self, before: float = 0.0, waited: float = 0.0) -> None:
        """Args: seconds of an earlier run of the same pass."""
        self._started = time.perf_counter() - before
        self.waited = waited

    @property
    def seconds(self) -> float:
        """All seconds, earlier runs included."""
        return time.perf_counter() - self._started

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Leaves out the time of the block."""
        began = time.perf_counter()
        yield
        self._started += time.perf_counter() - began

    def __enter__(self) -> "Stopwatch":
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.waited += time.perf_counter() - self._began


def peak_memory_bytes(device: str) -> int:
    """Most memory ever used: the accelerator's if there is one, else this process's."""
    accelerator = getattr(torch, device, None)
    if device != "cpu" and hasattr(accelerator, "max_memory_allocated"):
        return accelerator.max_memory_allocated()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
