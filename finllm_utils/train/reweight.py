"""A mixture that moves to the domains whose loss still falls (``react_to_loss``).

The loop feeds each domain's loss; what comes out are multipliers for
``RowSampler.reweighted``. The state is numbers only and lies in the checkpoint as JSON.

Source: DoReMi (arXiv 2305.10429, algorithm 1) multiplies each domain's weight by
exp(step size x excess loss), brings the sum back to 1 and mixes in the uniform mixture.
Differs: DoReMi's excess is over a trained reference model, clipped at 0, by token, and
its weights, averaged over the whole run, are for a second run. Here the excess is the
fall of a domain's loss below its own moving average, there is no second model, the
pull is to the plan instead of to the uniform mixture, the multipliers act in the same
run, and each weight stays within a factor of 2 of the plan.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from finllm_utils.train.mixture import DOMAINS

_KEPT = 0.9  # of the moving average, at each update
_BACK = 0.1  # of the way back to the plan, at each update
# After the sum is 1 again a weight has changed by at most exp(2 x this) = 2.
_LIMIT = math.log(2) / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ReactState:
    """What an update needs of the past; ``dataclasses.asdict`` gives its JSON."""

    mean_loss: dict[str, float] = field(default_factory=dict)
    """Moving average of each domain's loss, in nats a token."""
    log_multiplier: dict[str, float] = field(default_factory=dict)
    """Of each domain seen so far; 0 leaves the plan as it is."""

    def multipliers(self) -> tuple[float, ...]:
        """One multiplier a domain, in the order of DOMAINS, in [0.71, 1.42]."""
        return tuple(math.exp(self.log_multiplier.get(d, 0.0)) for d in DOMAINS)


def react(
    state: ReactState, losses: Mapping[str, float], strength: float
) -> ReactState:
    """The state after one more look at each domain's loss.

    A domain's fall is (average - loss) / average. The logarithm of its multiplier
    first goes a tenth of its way back to 0, then moves by ``strength`` times its fall
    less the mean fall, and is clipped. A domain's first loss only starts its average;
    a domain that is not in ``losses`` keeps what it has.

    Args: losses in nats a token, over at least some hundred rows: noise counts as fall.
    Raises: ValueError for an unknown domain or a loss that is not a positive number.
    """
    for domain, loss in losses.items():
        if domain not in DOMAINS or not 0 < loss < math.inf:
            raise ValueError(
                f"react_to_loss: {domain!r} has loss {loss}; give positive finite "
                f"losses of {', '.join(DOMAINS)}"
            )
    seen = {d: v for d, v in losses.items() if d in state.mean_loss}
    falls = {d: 1 - loss / state.mean_loss[d] for d, loss in seen.items()}
    middle = sum(falls.values()) / len(falls) if falls else 0.0
    moved = {
        d: (1 - _BACK) * state.log_multiplier.get(d, 0.0) + strength * (fall - middle)
        for d, fall in falls.items()
    }
    clipped = {d: min(max(value, -_LIMIT), _LIMIT) for d, value in moved.items()}
    means = {
        d: _KEPT * state.mean_loss[d] + (1 - _KEPT) * loss for d, loss in seen.items()
    }
    return ReactState(
        mean_loss={**dict(losses), **state.mean_loss, **means},
        log_multiplier={**state.log_multiplier, **clipped},
    )
