from dataclasses import replace

import pytest

from finllm_utils.evals.pairwise.comparisons import build_comparisons
from finllm_utils.evals.pairwise.rating_pairs import training_pairs
from finllm_utils.profiles import load_profile
from finllm_utils.rlhf.own_pairs import read_user_pairs
from finllm_utils.rlhf.preference_formats import read_preferences, write_trl_pairs
from tests.evals.test_comparisons import rate
from tests.rlhf.test_reward_model import tokenizer

__all__ = ["tokenizer"]  # a fixture

PROMPTS = ["等待期多久？", "退保退多少？", "什么是国债？", "谁能开户？"]
ANSWERS = {
    "ppo": ["九十天，看合同。", "退现金价值。", "国家借的债。", ""],
    "sft": ["不知道这个。", "全退给您。", "一种债券而已。", "成年人都可以。"],
}


@pytest.fixture
def rated(tmp_path):
    def rate_all(scale: str, *rounds):
        found = build_comparisons(PROMPTS, ANSWERS, seed=1, scale=scale)
        verdicts = []
        for rater, wanted in zip("abc", rounds, strict=True):
            choices = dict(zip(PROMPTS, wanted, strict=True))
            verdicts += rate(found, tmp_path / "v.jsonl", rater, choices)
        return found, verdicts

    return rate_all


def test_the_majority_gives_the_pair_and_ties_none(rated):
    found = rated(
        "gsb",
        ["ppo", "ppo", "tie", "sft"],
        ["ppo", "sft", "tie", "sft"],
        ["ppo", "ppo", "ppo", "sft"],
    )
    export = training_pairs(*found)
    assert (export.num_ties, export.num_split, export.num_unusable) == (1, 0, 1)
    told = [(p.prompt, p.chosen, p.rejected, p.margin) for p in export.pairs]
    assert told == [
        (PROMPTS[0], "九十天，看合同。", "不知道这个。", 1),
        (PROMPTS[1], "退现金价值。", "全退给您。", pytest.approx(1 / 3)),
    ]
    assert {p.source for p in export.pairs} == {"majority of human raters"}


def test_no_majority_is_a_split(rated):
    rounds = [["ppo"] * 4, ["sft"] * 4, ["tie"] * 4]
    export = training_pairs(*rated("gsb", *rounds))
    assert (export.pairs, export.num_split) == ((), 4)


def test_levels_give_the_median_and_its_third_as_margin(rated):
    found = rated(
        "levels",
        [("ppo", 3), ("ppo", 0), ("sft", 1), ("sft", 3)],
        [("ppo", 2), ("ppo", 1), ("sft", 1), ("sft", 3)],
        [("sft", 1), ("sft", 1), ("ppo", 3), ("sft", 3)],
    )
    export = training_pairs(*found)
    margins = {p.prompt: (p.chosen, p.margin) for p in export.pairs}
    assert margins == {
        PROMPTS[0]: ("九十天，看合同。", pytest.approx(2 / 3)),
        PROMPTS[2]: ("一种债券而已。", pytest.approx(1 / 3)),
    }
    assert (export.num_ties, export.num_unusable) == (1, 1)


def test_the_file_is_taken_as_own_pairs(rated, tokenizer, tmp_path):
    export = training_pairs(*rated("gsb", *[["ppo", "ppo", "sft", "sft"]] * 3))
    path = tmp_path / "rated.jsonl"
    assert write_trl_pairs(path, export.pairs) == 3
    assert tuple(read_preferences(path)) == export.pairs
    cfg = replace(load_profile("toy").reward, own_pairs=str(path))
    taken = read_user_pairs(cfg, tokenizer)
    assert {p.id for p in (*taken.train, *taken.heldout)} == {
        p.id for p in export.pairs
    }
