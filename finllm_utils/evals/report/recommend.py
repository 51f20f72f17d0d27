"""Which model for which scene: by score, what a request costs, and where data may go.

A scene weighs the four abilities. A model whose score is not clearly above its
baselines is never recommended; models whose scores differ by less than their intervals
are tied, and the cheapest of them wins. A scene that sees customers' data takes no
model that runs in someone else's cloud.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from finllm_utils.evals.report.axis_scores import AxisScore, axis_scores
from finllm_utils.evals.report.scoreboard import AXES, Entrant, Scoreboard
from finllm_utils.intervals import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One use of the model: what it asks for, and whether customers' data is in it."""

    name: str
    weights: Mapping[str, float]
    """Axis to weight, summing to 1."""
    customer_data: bool

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.weights) - set(AXES)):
            raise ValueError(f"{self.name}: no axis {unknown[0]!r}; use {list(AXES)}")
        total = sum(self.weights.values())
        if min(self.weights.values(), default=0) <= 0 or not math.isclose(total, 1):
            raise ValueError(
                f"{self.name}: weights {dict(self.weights)} must be above 0 and "
                "sum to 1"
            )


SCENES = (
    Scene(
        name="营销 (marketing)",
        weights={"chinese": 0.4, "dialogue": 0.3, "application": 0.3},
        customer_data=True,
    ),
    Scene(
        name="服务 (service)",
        weights={"dialogue": 0.5, "finance": 0.3, "application": 0.2},
        customer_data=True,
    ),
    Scene(
        name="运营 (operations)",
        weights={"application": 0.5, "finance": 0.3, "chinese": 0.2},
        customer_data=False,
    ),
    Scene(
        name="办公 (office)",
        weights={"chinese": 0.4, "dialogue": 0.3, "finance": 0.3},
        customer_data=False,
    ),
    Scene(
        name="风控 (risk)",
        weights={"finance": 0.6, "application": 0.4},
        customer_data=True,
    ),
)
"""Our weights, a starting point: state your own where you know your scene."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostBasis:
    """What an estimate of cost from the number of parameters assumes."""

    tokens_per_request: int = 1000
    """Prompt and answer together."""
    flops_per_s: float = 1e14
    """Peak of one rented accelerator."""
    utilisation: float = 0.2
    """Share of the peak that serving reaches."""
    price_per_hour: float = 10.0
    """Of that accelerator, in the currency of the given prices."""

    def estimate(self, num_parameters: int) -> float:
        """Price of 1,000 requests at 2 operations a parameter and token.

        Source: Kaplan et al., arXiv 2001.08361, section 2.1.
        """
        operations = 2 * num_parameters * self.tokens_per_request * 1000
        hours = operations / (self.flops_per_s * self.utilisation) / 3600
        return hours * self.price_per_hour

    def text(self) -> str:
        """The assumptions as one sentence."""
        return (
            "Where no price is given it is estimated: 2 operations a parameter and "
            f"token, {self.tokens_per_request:,} tokens a request, "
            f"{self.utilisation:.0%} of {self.flops_per_s:.3g} operations a second at "
            f"{self.price_per_hour:g} an hour. These are assumptions, not measurements."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One model in one scene, and why it was taken or not."""

    model: str
    score: float | None
    interval: Interval | None
    cost: float | None
    cost_source: str
    """given, estimate, or cost unknown."""
    residency: str
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """The model for a scene (None: no model) and every candidate with its reason."""

    scene: Scene
    model: str | None
    reason: str
    choices: tuple[Choice, ...]


def recommend(
    board: Scoreboard,
    scenes: Sequence[Scene] = SCENES,
    basis: CostBasis | None = None,
) -> list[Recommendation]:
    """One recommendation a scene; the order of models on the board does not matter."""
    scores = axis_scores(board)
    return [
        _for_scene(scene, board.entrants, scores, basis or CostBasis())
        for scene in scenes
    ]


def weighted_score(
    scores: Mapping[str, AxisScore], weights: Mapping[str, float]
) -> tuple[float, Interval] | None:
    """Weighted sum of axis scores with its interval; None when an axis is missing.

    Example: 0.4 and 0.2 at weights 0.75 and 0.25 give 0.35.
    """
    chosen = {axis: scores.get(axis) for axis in weights}
    if any(one is None or one.value is None for one in chosen.values()):
        return None
    value = sum(weights[axis] * one.value for axis, one in chosen.items())
    low, high = (
        math.hypot(*(weights[a] * (x.value - x.interval[i]) for a, x in chosen.items()))
        for i in (0, 1)
    )
    return value, (value - low, value + high)


def cost_of(entrant: Entrant, basis: CostBasis) -> tuple[float | None, str]:
    """Price of 1,000 requests and where it comes from."""
    if entrant.price_per_1000 is not None:
        return entrant.price_per_1000, "given"
    if entrant.num_parameters is not None:
        return basis.estimate(entrant.num_parameters), "estimate"
    return None, "cost unknown"


def _for_scene(
    scene: Scene,
    entrants: Sequence[Entrant],
    scores: Mapping[str, Mapping[str, AxisScore]],
    basis: CostBasis,
) -> Recommendation:
    found = {e.name: weighted_score(scores[e.name], scene.weights) for e in entrants}
    costs = {e.name: cost_of(e, basis) for e in entrants}
    barred = {e.name: _barred(e, scene, found[e.name], scores) for e in entrants}
    left = {name: found[name] for name in found if not barred[name]}
    tied = _tied(left)
    winner = min(tied, key=lambda n: _cheapest_first(n, costs, left), default=None)
    choices = [
        Choice(
            model=e.name,
            score=found[e.name][0] if found[e.name] else None,
            interval=found[e.name][1] if found[e.name] else None,
            cost=costs[e.name][0],
            cost_source=costs[e.name][1],
            residency=e.residency,
            verdict=barred[e.name] or _verdict(e.name, winner, tied),
        )
        for e in entrants
    ]
    choices.sort(key=lambda c: (c.score is None, -(c.score or 0), c.model))
    return Recommendation(
        scene=scene,
        model=winner,
        reason=_reason(winner, tied, costs) if winner else _none(barred.values()),
        choices=tuple(choices),
    )


def _barred(
    entrant: Entrant,
    scene: Scene,
    found: tuple[float, Interval] | None,
    scores: Mapping[str, Mapping[str, AxisScore]],
) -> str:
    """Why a model cannot be taken at all; empty when it can."""
    if scene.customer_data and entrant.residency == "cloud":
        return "excluded: customers' data must not leave for a cloud"
    if found is None:
        ours = scores[entrant.name]
        axes = [a for a in scene.weights if a not in ours or ours[a].value is None]
        return f"excluded: not measured on all of {', '.join(axes)}"
    if found[1][0] <= 0:
        return "excluded: not clearly above chance and rules"
    return ""


def _tied(left: Mapping[str, tuple[float, Interval]]) -> list[str]:
    """The best model and those that differ from it by less than both intervals."""
    if not left:
        return []
    best = min(left, key=lambda name: (-left[name][0], name))
    top, (top_low, _) = left[best]
    return [
        name
        for name, (value, (_, high)) in left.items()
        if name == best or top - value <= math.hypot(top - top_low, high - value)
    ]


def _cheapest_first(
    name: str,
    costs: Mapping[str, tuple[float | None, str]],
    left: Mapping[str, tuple[float, Interval]],
) -> tuple[bool, float, float, str]:
    cost = costs[name][0]
    return (cost is None, cost or 0.0, -left[name][0], name)


def _verdict(name: str, winner: str | None, tied: Sequence[str]) -> str:
    if name == winner:
        return "recommended"
    if name in tied:
        return f"tie with {winner}, which is not dearer"
    return "clearly lower score than the best"


def _none(barred: Iterable[str]) -> str:
    """Why no model can be recommended: each ground and how many it excludes."""
    counts = Counter(barred)
    return "none: " + "; ".join(f"{n} {why}" for why, n in sorted(counts.items()))


def _reason(
    winner: str,
    tied: Sequence[str],
    costs: Mapping[str, tuple[float | None, str]],
) -> str:
    cost, source = costs[winner]
    price = (
        "cost unknown" if cost is None else f"{cost:.4g} per 1,000 requests ({source})"
    )
    if len(tied) == 1:
        return f"highest score, clearly; {price}"
    others = ", ".join(sorted(set(tied) - {winner}))
    return f"tie with {others}; the cheapest of them: {price}"
