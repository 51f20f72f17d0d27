import choix
import numpy as np
import pytest

from finllm_utils.evals.pairwise import bradley_terry as bt
from finllm_utils.evals.pairwise.comparisons import Outcome

NAMES = ("base", "ppo", "sft", "stage2")


def random_wins(seed: int, number: int = 4) -> np.ndarray:
    wins = np.random.default_rng(seed).integers(1, 9, (number, number)).astype(float)
    np.fill_diagonal(wins, 0)
    return wins


def as_choix(wins: np.ndarray) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i in range(len(wins))
        for j in range(len(wins))
        for _ in range(int(wins[i, j]))
    ]


def one(prompt: str, score: float, rater: str = "a", **more) -> Outcome:
    fields = {"first": "ppo", "second": "sft", "group": "", "strength": None}
    fields |= {"num_chars": (3, 3), "rater_kind": "human", "shown_first": True}
    return Outcome(prompt=prompt, score=score, rater=rater, **fields | more)


@pytest.mark.parametrize("seed", range(3))
def test_without_ties_the_strengths_are_those_of_choix(seed):
    wins = random_wins(seed)
    ours = bt.bradley_terry(wins, names=NAMES)
    data = as_choix(wins)
    spectral = choix.ilsr_pairwise(4, data, tol=1e-12)
    assert np.abs(ours.log_strengths - spectral).max() < 1e-6
    direct = choix.opt_pairwise(4, data, method="Newton-CG", tol=1e-14)
    assert np.abs(ours.log_strengths - (direct - direct.mean())).max() < 1e-6
    assert ours.tie_factor == 0


def test_the_penalty_is_the_alpha_of_choix_and_answers_an_unbeaten_model():
    wins = np.array([[0, 5, 2.0], [0, 0, 3], [0, 1, 0]])
    ours = bt.bradley_terry(wins, names="abc", penalty=0.3)
    theirs = choix.opt_pairwise(3, as_choix(wins), alpha=0.3, tol=1e-14)
    assert np.abs(ours.log_strengths - theirs).max() < 1e-6


def test_two_models_by_hand():
    """6 of 8 are odds of 3, which are 400 log10(3) = 190.85 Elo points."""
    fit = bt.bradley_terry(np.array([[0, 6.0], [2, 0]]), names=("a", "b"))
    gap = fit.log_strengths[0] - fit.log_strengths[1]
    assert gap == pytest.approx(np.log(3))
    first, second = fit.elo()
    assert first - second == pytest.approx(190.8485)
    assert first + second == pytest.approx(2000)
    win, tie = bt.win_probabilities(fit)
    assert win[0, 1] == pytest.approx(0.75) and tie[0, 1] == 0
    assert np.isnan(win[0, 0])


def test_davidson_by_hand():
    """With two models he fits all three shares exactly: 9, 4 and 12 of 25.

    p1/p2 = 9/4, so log strengths are +-log(3/2); v = 12 / sqrt(9 x 4) = 2.
    """
    wins, ties = np.array([[0, 9.0], [4, 0]]), np.array([[0, 12.0], [12, 0]])
    fit = bt.bradley_terry(wins, ties, names=("a", "b"))
    assert fit.log_strengths == pytest.approx([np.log(1.5), -np.log(1.5)])
    assert fit.tie_factor == pytest.approx(2)
    win, tie = bt.win_probabilities(fit)
    assert [win[0, 1], win[1, 0], tie[0, 1]] == pytest.approx([0.36, 0.16, 0.48])


def test_davidson_expects_the_ties_and_scores_that_were_seen():
    """At the maximum the expected number of ties and each score equal the observed."""
    wins = random_wins(5)
    ties = np.triu(random_wins(6), 1)
    ties += ties.T
    fit = bt.bradley_terry(wins, ties, names=NAMES)
    win, tie = bt.win_probabilities(fit)
    played = wins + wins.T + ties
    expected = np.nansum(played * (win + tie / 2), axis=1)
    assert expected == pytest.approx((wins + ties / 2).sum(1))
    assert np.nansum(played * tie) == pytest.approx(ties.sum())


def test_a_half_win_for_both_is_two_times_the_verdicts_in_choix():
    wins = random_wins(7, 3)
    ties = np.array([[0, 3, 1.0], [3, 0, 4], [1, 4, 0]])
    fit = bt.bradley_terry(wins, ties, names="abc", tie_model="half")
    theirs = choix.ilsr_pairwise(3, as_choix(2 * wins + ties), tol=1e-12)
    assert np.abs(fit.log_strengths - theirs).max() < 1e-6


def test_counts_without_a_finite_maximum_are_refused_by_name():
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[1, 0] = apart[2, 3] = apart[3, 2] = 2
    with pytest.raises(ValueError, match="base, ppo never met sft, stage2"):
        bt.bradley_terry(apart, names=NAMES)
    unbeaten = random_wins(1)
    unbeaten[:, 2] = 0
    with pytest.raises(ValueError, match="sft never lost to .* give a penalty"):
        bt.bradley_terry(unbeaten, names=NAMES)
    pair = np.array([[0, 1.0], [1, 0]])
    with pytest.raises(ValueError, match="every verdict is a tie"):
        bt.bradley_terry(0 * pair, pair, names="ab")
    equal = bt.bradley_terry(0 * pair, pair, names="ab", tie_model="half")
    assert equal.log_strengths.tolist() == [0, 0]


def test_wins_and_ties_without_an_upset_have_no_davidson_maximum():
    """3 wins and 3 ties: 1/2 each is only reached in the limit of a growing v."""
    wins, ties = np.array([[0, 3.0], [0, 0]]), np.array([[0, 3.0], [3, 0]])
    with pytest.raises(ValueError, match="without an upset"):
        bt.bradley_terry(wins, ties, names="ab")
    assert bt.bradley_terry(wins, ties, names="ab", penalty=0.1).tie_factor > 0
    half = bt.bradley_terry(wins, ties, names="ab", tie_model="half")
    assert half.log_strengths[0] * 2 == pytest.approx(np.log(3))  # 4.5 : 1.5
    circle = np.array([[0, 1.0, 0], [0, 0, 1], [1, 0, 0]])
    ties = np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, 0]])
    fit = bt.bradley_terry(circle, ties, names="abc")  # three wins in a circle
    assert np.isfinite(fit.log_strengths).all() and fit.tie_factor > 0


@pytest.mark.parametrize(
    ("wins", "changes", "message"),
    [
        ([[0, 1], [1, 1]], {}, "meets itself"),
        ([[0, -1], [1, 0]], {}, "not below 0"),
        ([[0, 1, 2]], {}, "must be"),
        ([[0, 1], [1, 0]], {"ties": [[0, 1], [2, 0]]}, "equals"),
        ([[0, 1], [1, 0]], {"tie_model": "rao"}, "davidson or half"),
        ([[0, 1], [1, 0]], {"penalty": -1}, "penalty is -1"),
    ],
)
def test_wrong_counts_and_settings_are_named(wins, changes, message):
    with pytest.raises(ValueError, match=message):
        bt.bradley_terry(wins, names="ab", **changes)


def test_verdicts_are_counted_by_prompt():
    found = bt.tally([one("p", 1), one("p", 0, "b"), one("q", 0.5), one("q", 1, "b")])
    assert found.names == ("ppo", "sft")
    assert found.wins.tolist() == [[[0, 1], [1, 0]], [[0, 1], [0, 0]]]
    assert found.ties.tolist() == [[[0, 0], [0, 0]], [[0, 1], [1, 0]]]


def test_raters_of_one_prompt_are_resampled_together():
    """Ten raters who agree add no prompt: the interval stays as wide as with one."""
    scores = [1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    single = [one(str(p), s) for p, s in enumerate(scores)]
    many = [one(str(p), s, str(r)) for p, s in enumerate(scores) for r in range(10)]
    settings = {"num_bootstrap": 200, "seed": 1}
    first = bt.bootstrap_strengths(bt.tally(single), **settings)
    second = bt.bootstrap_strengths(bt.tally(many), **settings)
    assert np.allclose(first.fit.log_strengths, second.fit.log_strengths)
    narrow, wide = first.intervals[0], second.intervals[0]
    assert wide[1] - wide[0] == pytest.approx(narrow[1] - narrow[0], rel=0.15)
    assert first.ahead[0, 1] > 0.7 and first.ahead[0, 0] == 0


def test_resamples_without_a_maximum_are_counted():
    rare = [one("p", 0)] + [one(str(p), 1) for p in range(5)]
    found = bt.bootstrap_strengths(bt.tally(rare), num_bootstrap=100, seed=0)
    assert 20 < found.num_penalised < 60  # (5/6)^6 is 0.33
    assert found.intervals[0][1] > 2 * found.fit.log_strengths[0]


def test_known_strengths_are_found_again_from_many_verdicts():
    """Four models, 6,000 verdicts drawn from Davidson's model itself."""
    truth = bt.Strengths(
        names=NAMES,
        log_strengths=np.array([-0.9, 0.6, 0.4, -0.1]),
        tie_factor=0.8,
        penalty=0,
    )
    win, tie = bt.win_probabilities(truth)
    random = np.random.default_rng(0)
    wins, ties = np.zeros((4, 4)), np.zeros((4, 4))
    for i in range(4):
        for j in range(i + 1, 4):
            shares = [win[i, j], win[j, i], tie[i, j]]
            wins[i, j], wins[j, i], ties[i, j] = random.multinomial(1000, shares)
            ties[j, i] = ties[i, j]
    fit = bt.bradley_terry(wins, ties, names=NAMES)
    assert np.abs(fit.log_strengths - truth.log_strengths).max() < 0.1
    assert fit.tie_factor == pytest.approx(0.8, abs=0.08)
