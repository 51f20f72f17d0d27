"""The recorded ratings fit their answers, and show what the card says they show."""

import pytest

from finllm_utils.annotation.judgements import read_judgements
from finllm_utils.annotation.session import replay
from finllm_utils.dependencies import REPOSITORY
from finllm_utils.evals.pairwise.bradley_terry import bootstrap_strengths, tally
from finllm_utils.evals.pairwise.comparisons import (
    build_comparisons,
    outcomes,
    read_answers,
)
from finllm_utils.evals.pairwise.model_judge import judge_pairs, recorded_judge
from finllm_utils.evals.pairwise.rating_pairs import training_pairs
from finllm_utils.evals.pairwise.ratings import kappa_between, position_bias
from finllm_utils.rlhf.preference_formats import read_preferences, write_trl_pairs

FOLDER = REPOSITORY / "data_samples" / "ratings"
SEED = 7
LEVELS = {"pairs": [("smollm2-greedy", "smollm2-sampled")], "scale": "levels"}
SETS = {
    "gsb": ("answers", {}, 66),
    "levels": ("answers", LEVELS, 22),
    "course": ("course_answers", {"num_prompts": 12}, 36),
}


def load(name):
    file, settings, number = SETS[name]
    found = read_answers(FOLDER / f"{file}.jsonl")
    settings = {"seed": SEED, "groups": found.groups} | settings
    comparisons = build_comparisons(found.prompts, found.by_model, **settings)
    assert len(comparisons.items) == number
    return comparisons, read_judgements(FOLDER / f"{name}.jsonl")


@pytest.mark.parametrize("name", SETS)
def test_three_model_raters_judged_every_pair_blind(name):
    comparisons, records = load(name)
    assert {j.rater_kind for j in records} == {"model"}
    assert {j.rater for j in records} == {"model-1", "model-2", "model-3"}
    for rater in ("model-1", "model-2", "model-3"):
        done = replay(comparisons.items, records, rater=rater, round=1)
        assert len(done.judgements) == len(comparisons.items) and not done.changed
        first = [j.shown[0] == min(j.shown) for j in done.judgements]
        assert 0.3 < sum(first) / len(first) < 0.7


def test_greedy_decoding_is_preferred_to_sampling_and_raters_read():
    comparisons, records = load("gsb")
    found = outcomes(comparisons, records)
    ranked = bootstrap_strengths(tally(found), num_bootstrap=200, seed=0)
    order = dict(zip(ranked.fit.names, ranked.fit.log_strengths, strict=True))
    assert max(order, key=order.get) == "smollm2-greedy"
    place = {name: i for i, name in enumerate(ranked.fit.names)}
    assert ranked.ahead[place["smollm2-greedy"], place["smollm2-sampled"]] > 0.95
    low, high = position_bias(found, num_bootstrap=200, seed=0).interval
    assert low < 0.5 < high


def test_levels_and_good_same_bad_agree_on_the_pairs_of_both():
    both = [outcomes(*load(name)) for name in ("gsb", "levels")]
    result = kappa_between(*both, num_bootstrap=100, seed=0)
    assert result.num_pairs == 22 and result.kappa > 0.4


@pytest.mark.parametrize("name", ["gsb", "levels"])
def test_recorded_ratings_become_pairs_for_training(name, tmp_path):
    export = training_pairs(*load(name))
    path = tmp_path / "pairs.jsonl"
    assert write_trl_pairs(path, export.pairs) == len(export.pairs) > 10
    assert tuple(read_preferences(path)) == export.pairs


def test_the_recorded_judge_goes_by_the_place_and_is_found_out():
    """The replies fit the wording of the judge's prompt, so a change of it shows."""
    comparisons, records = load("gsb")
    pair = {"smollm2-greedy", "smollm2-sampled"}
    items = [item for item in comparisons.items if set(item.texts) == pair]
    judge = recorded_judge(FOLDER / "judge_replies.jsonl")
    run = judge_pairs(items, judge, rater="smollm2-135m")
    assert (len(run.judgements), run.failed) == (44, ())
    bias = run.position_bias()
    assert (bias.share_flipped, bias.num_to_first, bias.num_pairs) == (1, 22, 22)
    said, people = outcomes(comparisons, run.combined()), outcomes(comparisons, records)
    assert kappa_between(said, people, num_bootstrap=50, seed=0).kappa == 0
