import pytest

from finllm_utils.evals.pairwise import ratings
from finllm_utils.evals.pairwise.comparisons import build_comparisons
from tests.evals.test_bradley_terry import one
from tests.evals.test_comparisons import rate

RESAMPLING = {"num_bootstrap": 300, "seed": 0}
PROMPTS = [f"问题{i}" for i in range(8)]


def test_good_same_bad_by_hand():
    """Eight verdicts on four prompts: 3 good, 3 same, 2 bad; 4.5 of 8."""
    scores = [1, 1, 1, 0.5, 0.5, 0.5, 0, 0]
    found = [one(str(i // 2), score) for i, score in enumerate(scores)]
    row = ratings.good_same_bad(found, "ppo", "sft")
    assert (row.good, row.same, row.bad, row.num_prompts) == (3, 3, 2, 4)
    assert row.win_rate == 0.5625
    assert row.interval == pytest.approx(ratings.wilson_interval(2.25, 4))
    turned = ratings.good_same_bad(found, "sft", "ppo")
    assert (turned.good, turned.bad, turned.win_rate) == (2, 3, 0.4375)
    with pytest.raises(ValueError, match="no verdict on ppo against base"):
        ratings.good_same_bad(found, "ppo", "base")


def test_the_mean_level_counts_each_prompt_once():
    rows = [one("p", 1, r, strength=s) for r, s in (("a", 3), ("b", 1))]
    rows += [one("q", 0, "a", strength=-1)]
    change = ratings.level_mean(rows, "ppo", "sft", **RESAMPLING)
    assert change.value == 0.5  # (2 - 1) / 2
    assert ratings.level_mean(rows, "sft", "ppo", **RESAMPLING).value == -0.5
    clear = [one(str(i), 1, strength=2 + i % 2) for i in range(10)]
    assert ratings.level_mean(clear, "ppo", "sft", **RESAMPLING).word == "better"
    with pytest.raises(ValueError, match="scale=levels"):
        ratings.level_mean([one("p", 1)], "ppo", "sft", **RESAMPLING)


def test_a_rater_who_takes_the_first_text_is_seen():
    biased = [one(str(i), float(i % 2 == 0), shown_first=i % 2 == 0) for i in range(20)]
    bias = ratings.position_bias(biased, **RESAMPLING)
    assert (bias.share_first, bias.interval) == (1, (1, 1))
    effect = ratings.position_effect(biased, "sft", "ppo", **RESAMPLING)
    assert (effect.shown_first, effect.shown_second, effect.gap) == (1, 0, 1)
    assert effect.balanced == 0.5 and effect.gap_interval == (1, 1)


def test_a_rater_who_reads_has_no_position_bias():
    """ppo wins every time, first in half of them; ties and equal pairs do not count."""
    fair = [one(str(i), 1, shown_first=i % 2 == 0) for i in range(20)]
    rest = [one("t", 0.5), one("u", 0.5, shown_first=None)]
    bias = ratings.position_bias(fair + rest, **RESAMPLING)
    assert (bias.share_first, bias.num_decided, bias.num_verdicts) == (0.5, 20, 21)
    low, high = bias.interval
    assert low < 0.5 < high
    effect = ratings.position_effect(fair, "ppo", "sft", **RESAMPLING)
    assert (effect.gap, effect.balanced) == (0, 1)
    with pytest.raises(ValueError, match="always shown in one place"):
        ratings.position_effect(fair[::2], "ppo", "sft", **RESAMPLING)
    with pytest.raises(ValueError, match="all are ties"):
        ratings.position_bias(rest, **RESAMPLING)


def test_length_bias_by_hand():
    longer = [one(str(i), 1, num_chars=(9, 4)) for i in range(3)]
    shorter = [one("x", 1, num_chars=(4, 9)), one("y", 1, num_chars=(4, 4))]
    bias = ratings.length_bias(longer + shorter, **RESAMPLING)
    assert (bias.share_longer, bias.num_decided) == (0.75, 4)


def test_agreement_by_group_renames_the_models(tmp_path):
    answers = {name: [name * 3 + p for p in PROMPTS] for name in "abc"}
    pairs, groups = [("a", "b"), ("b", "c")], ["债"] * 4 + ["险"] * 4
    found = build_comparisons(PROMPTS, answers, pairs, seed=2, groups=groups)
    path = tmp_path / "v.jsonl"
    same = dict.fromkeys(PROMPTS, "b")
    half = same | dict.fromkeys(PROMPTS[4:], "tie")
    verdicts = rate(found, path, "x", same) + rate(found, path, "y", half)
    table = ratings.agreement_by_group(found, verdicts)
    assert {name: row.equal_share for name, row in table.items()} == {
        "all": 0.5,
        "债": 1.0,
        "险": 0.0,
    }
    assert table["all"].rater_kinds == {"x": "human", "y": "human"}
    # second wins a-b, first wins b-c: by name there would be one label, "b"
    assert table["债"].alpha == 1.0


def test_kappa_between_a_judge_and_the_majority_of_people():
    """Judge: 1 1 0 0; people: 1 1 0 tie (a split). Kappa (3/4 - 6/16) / (10/16)."""
    said = {"p": 1, "q": 1, "r": 0, "s": 0}
    judge = [one(p, score, "m", rater_kind="model") for p, score in said.items()]
    people = [one(p, said[p], rater) for rater in "abc" for p in "pqr"]
    people += [one("s", 1, "a"), one("s", 0, "b"), one("s", 0.5, "c")]
    found = ratings.kappa_between(judge, people, **RESAMPLING)
    assert (found.num_pairs, found.equal_share) == (4, 0.75)
    assert found.kappa == pytest.approx(0.6)
    assert found.interval[0] < 0.6 <= found.interval[1]
    assert found.kinds == ("model", "human")
    with pytest.raises(ValueError, match="judged by both"):
        ratings.kappa_between(judge, [one("z", 1)], **RESAMPLING)
