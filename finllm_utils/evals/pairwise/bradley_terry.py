"""How strong each model is, from who beat whom: Bradley-Terry, with or without ties.

P(i beats j) = p_i / (p_i + p_j), and with Davidson's ties
P(i beats j) = p_i / (p_i + p_j + v sqrt(p_i p_j)), P(tie) = v sqrt(p_i p_j) / (same).
Strengths are log p with mean 0, found by maximum likelihood (Newton's method). Pure
functions on counts; ``elo`` shows why the order of the verdicts should not matter.
Sources: Bradley and Terry, Biometrika 39 (1952), 324-345; Davidson, J. Am. Stat. Assoc.
65 (1970), 317-328; Ford, Am. Math. Monthly 64 (1957), 28-33 (when a maximum exists).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from finllm_utils.evals.pairwise.comparisons import Outcome
from finllm_utils.evals.statistics.bootstrap import percentiles, resamples
from finllm_utils.intervals import Interval

ELO_SCALE = 400 / np.log(10)
"""Elo points a unit of log strength: 400 points are odds of ten to one."""
TIE_MODELS = ("davidson", "half")
RESAMPLE_PENALTY = 0.01
"""For resamples in which a model wins everything, though it does not in the data."""
MAX_STEPS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Tallies:
    """Who beat whom on each prompt. ``names`` sorted; arrays are (prompts, n, n)."""

    names: tuple[str, ...]
    wins: np.ndarray
    """[p, i, j]: how often i beat j on prompt p."""
    ties: np.ndarray
    """[p, i, j] = [p, j, i]: how often they tied."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strengths:
    """A fitted model."""

    names: tuple[str, ...]
    log_strengths: np.ndarray
    """(n,), mean 0."""
    tie_factor: float
    """Davidson's v; 0 where ties were half wins or did not occur."""
    penalty: float

    def elo(self, base: float = 1000.0) -> np.ndarray:
        """(n,): the strengths in Elo points around ``base``."""
        return base + ELO_SCALE * self.log_strengths


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampled:
    """A fit with what its resamples of prompts say."""

    fit: Strengths
    intervals: tuple[Interval, ...]
    """Of each log strength."""
    ahead: np.ndarray
    """(n, n): share of resamples in which i is stronger than j."""
    num_penalised: int
    """Resamples without a finite maximum, fitted with ``RESAMPLE_PENALTY``."""


def tally(outcomes: Iterable[Outcome]) -> Tallies:
    """Counts the verdicts by prompt. Raises: ValueError for none."""
    outcomes = list(outcomes)
    if not outcomes:
        raise ValueError("there is no verdict to count")
    names = tuple(sorted({name for o in outcomes for name in (o.first, o.second)}))
    place = {name: i for i, name in enumerate(names)}
    seen = dict.fromkeys(o.prompt for o in outcomes)
    prompts = {prompt: i for i, prompt in enumerate(seen)}
    shape = (len(prompts), len(names), len(names))
    wins, ties = np.zeros(shape), np.zeros(shape)
    for o in outcomes:
        p, i, j = prompts[o.prompt], place[o.first], place[o.second]
        if o.score == 0.5:
            ties[p, i, j] += 1
            ties[p, j, i] += 1
        else:
            wins[(p, i, j) if o.score == 1 else (p, j, i)] += 1
    return Tallies(names=names, wins=wins, ties=ties)


def bradley_terry(
    wins: np.ndarray,
    ties: np.ndarray | None = None,
    *,
    names: Sequence[str],
    tie_model: str = "davidson",
    penalty: float = 0.0,
) -> Strengths:
    """The maximum-likelihood strengths.

    Args: wins[i, j], (n, n), is how often i beat j; ties, (n, n), symmetric; tie_model
    is davidson, or half: a tie is half a win for both; penalty takes penalty x sum of
    squared parameters off the log likelihood (log strengths, and Davidson's log v), as
    choix's ``alpha`` does, and makes every set of counts answerable.
    Raises: ValueError when, without a penalty, no finite maximum exists: the models
    fall into groups that never met, some were never beaten, or there are no decisions.
    """
    wins, ties = _checked(wins, ties, names, tie_model, penalty)
    if penalty == 0 and (problem := no_maximum(wins, ties, names, tie_model)):
        raise ValueError(
            f"{problem}: no finite strengths fit. Judge more pairs, or give a penalty "
            "(0.1 is mild) and say so beside the figures"
        )
    if tie_model == "half":
        wins, ties = wins + ties / 2, np.zeros_like(ties)
    parameters = _maximise(*_multinomial(wins, ties), len(names), penalty)
    strengths = parameters[: len(names)]
    factor = float(np.exp(parameters[-1])) if ties.any() else 0.0
    return Strengths(
        names=tuple(names),
        log_strengths=strengths - strengths.mean(),
        tie_factor=factor,
        penalty=penalty,
    )


def _checked(
    wins: np.ndarray,
    ties: np.ndarray | None,
    names: Sequence[str],
    tie_model: str,
    penalty: float,
) -> tuple[np.ndarray, np.ndarray]:
    wins = np.asarray(wins, float)
    ties = np.zeros_like(wins) if ties is None else np.asarray(ties, float)
    shape = (len(names), len(names))
    if tie_model not in TIE_MODELS:
        raise ValueError(f"tie_model is {tie_model!r}: give {' or '.join(TIE_MODELS)}")
    if len(names) < 2 or wins.shape != shape or ties.shape != shape:
        raise ValueError(
            f"wins {wins.shape} and ties {ties.shape} must be {shape}, for two names "
            "or more"
        )
    counts = np.stack([wins, ties])
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("wins and ties are counts: finite and not below 0")
    if np.diagonal(counts, axis1=1, axis2=2).any() or (ties != ties.T).any():
        raise ValueError("no model meets itself, and ties[i, j] equals ties[j, i]")
    if not 0 <= penalty < np.inf:
        raise ValueError(f"penalty is {penalty}: give 0 or a small positive number")
    return wins, ties


def no_maximum(
    wins: np.ndarray, ties: np.ndarray, names: Sequence[str], tie_model: str
) -> str:
    """Why the likelihood has no finite maximum; empty when it has one.

    Needed: every model can be reached from every other along wins and ties (Ford).
    With Davidson's v also a circle with more wins than ties: otherwise spreading all
    strengths and v together fits ever better (it explains wins against ties).
    """
    reached = _reachable(wins + ties > 0)
    met = _reachable(wins + wins.T + ties > 0)
    if not met.all():
        return f"{_listed(names, met[0])} never met {_listed(names, ~met[0])}"
    if not reached.all():
        top = reached[np.argmax(reached.sum(1))] & reached.T[np.argmax(reached.sum(1))]
        return f"{_listed(names, top)} never lost to or tied with the others"
    if tie_model == "half" or not ties.any():
        return ""
    if not wins.any():
        return "every verdict is a tie"
    if not _has_winning_circle(wins, ties):
        return "ties are as many as Davidson's model can explain without an upset"
    return ""


def _reachable(edges: np.ndarray) -> np.ndarray:
    """(n, n) bool: whether a path of ``edges`` leads from i to j; always to itself."""
    paths = edges | np.eye(len(edges), dtype=bool)
    for middle in range(len(edges)):
        paths |= paths[:, middle, None] & paths[None, middle]
    return paths


def _has_winning_circle(wins: np.ndarray, ties: np.ndarray) -> bool:
    """Whether a circle of wins (-1 each) and ties (+1) has a sum below 0."""
    cost = np.where(ties > 0, 1.0, np.inf)
    cost[wins > 0] = -1.0
    for middle in range(len(cost)):
        cost = np.minimum(cost, cost[:, middle, None] + cost[None, middle])
        if (np.diagonal(cost) < 0).any():
            return True
    return False


def _listed(names: Sequence[str], chosen: np.ndarray) -> str:
    return ", ".join(n for n, wanted in zip(names, chosen, strict=True) if wanted)


def _multinomial(wins: np.ndarray, ties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs as a multinomial logit. Returns features (m, r, k) and counts (m, r).

    Divided by sqrt(p_i p_j), the r results of pair i, j have the log weights d/2, -d/2
    and log v, where d = log p_i - log p_j; the last only where there are ties.
    """
    number = len(wins)
    results = 3 if ties.any() else 2
    pairs = list(combinations(range(number), 2))
    features = np.zeros((len(pairs), results, number + (results == 3)))
    counts = np.zeros((len(pairs), results))
    for row, (i, j) in enumerate(pairs):
        features[row, 0, [i, j]] = 0.5, -0.5
        features[row, 1, [i, j]] = -0.5, 0.5
        counts[row, :2] = wins[i, j], wins[j, i]
        if results == 3:
            features[row, 2, -1] = 1
            counts[row, 2] = ties[i, j]
    return features, counts


def _maximise(
    features: np.ndarray, counts: np.ndarray, num_models: int, penalty: float
) -> np.ndarray:
    """Parameters (k,) of the largest penalised log likelihood, by damped Newton."""
    totals = counts.sum(1)
    shift = np.zeros(features.shape[-1])
    shift[:num_models] = 1  # all strengths together: the likelihood does not see it

    def value(x: np.ndarray) -> float:
        scores = features @ x
        spread = np.logaddexp.reduce(scores, axis=1)
        return (counts * scores).sum() - totals @ spread - penalty * x @ x

    x = np.zeros(features.shape[-1])
    for _ in range(MAX_STEPS):
        scores = features @ x
        shares = np.exp(scores - np.logaddexp.reduce(scores, axis=1)[:, None])
        mean = np.einsum("mr,mrk->mk", shares, features)
        observed = np.einsum("mr,mrk->k", counts, features)
        slope = observed - totals @ mean - 2 * penalty * x
        if np.abs(slope).max() <= 1e-11 * (1 + totals.sum()):
            return x
        weights = totals[:, None] * shares
        curve = np.einsum("mr,mrk,mrl->kl", weights, features, features)
        curve -= np.einsum("m,mk,ml->kl", totals, mean, mean)
        curve += np.outer(shift, shift) + 2 * penalty * np.eye(len(x))
        step = np.linalg.solve(curve, slope)
        start, size = value(x), 1.0
        while value(x + size * step) < start - 1e-9 * abs(start) and size > 1e-6:
            size /= 2
        x = x + size * step
    raise ValueError(
        f"the strengths did not settle in {MAX_STEPS} steps: the counts are close to "
        "having no finite maximum; give a penalty (0.1 is mild)"
    )


def win_probabilities(fit: Strengths) -> tuple[np.ndarray, np.ndarray]:
    """(n, n) each: P(i beats j) and P(i and j tie); the diagonal is nan."""
    half = (fit.log_strengths[:, None] - fit.log_strengths) / 2
    total = np.exp(half) + np.exp(-half) + fit.tie_factor
    win, tie = np.exp(half) / total, fit.tie_factor / total
    np.fill_diagonal(win, np.nan)
    np.fill_diagonal(tie, np.nan)
    return win, tie


def bootstrap_strengths(
    tallies: Tallies,
    *,
    num_bootstrap: int,
    seed: int,
    tie_model: str = "davidson",
    penalty: float = 0.0,
    level: float = 0.95,
) -> Resampled:
    """The fit with percentile intervals over resampled prompts.

    All verdicts on a prompt, of all raters and pairs, go together: raters who read the
    same answers are not independent, and intervals over verdicts would be too narrow.
    Raises: as ``bradley_terry``.
    """
    options = {"names": tallies.names, "tie_model": tie_model}
    wins, ties = tallies.wins.sum(0), tallies.ties.sum(0)
    fit = bradley_terry(wins, ties, penalty=penalty, **options)
    draws, num_penalised = [], 0
    for counts in resamples(len(tallies.wins), num_bootstrap, seed):
        wins = np.tensordot(counts, tallies.wins, 1)
        ties = np.tensordot(counts, tallies.ties, 1)
        boundless = penalty == 0 and bool(no_maximum(wins, ties, **options))
        num_penalised += boundless
        used = RESAMPLE_PENALTY if boundless else penalty
        drawn = bradley_terry(wins, ties, penalty=used, **options)
        draws.append(drawn.log_strengths)
    drawn_BN = np.array(draws)
    return Resampled(
        fit=fit,
        intervals=tuple(percentiles(column, level) for column in drawn_BN.T),
        ahead=(drawn_BN[:, :, None] > drawn_BN[:, None, :]).mean(0),
        num_penalised=num_penalised,
    )
