import pytest

from finllm_utils.evals.comparisons import build_comparisons, outcomes
from finllm_utils.evals.model_judge import judge_pairs, judge_prompt, read_verdict
from finllm_utils.evals.ratings import kappa_between
from tests.evals.test_comparisons import rate

PROMPTS = [f"问题{i}" for i in range(4)]
ANSWERS = {"ppo": [f"好的回答{i}" for i in range(4)], "sft": ["差"] * 4}


@pytest.fixture
def found():
    return build_comparisons(PROMPTS, ANSWERS, seed=1)


def reads(prompts: list[str]) -> list[str]:
    """Finds the good answer wherever it stands."""
    return ["A" if "回答A：好" in p else "B" for p in prompts]


def test_each_pair_is_asked_in_both_orders_without_names(found):
    asked = []

    def ask(prompts):
        asked.extend(prompts)
        return reads(prompts)

    run = judge_pairs(found.items, ask, rater="judge", clock=lambda: 1.8e9)
    assert len(asked) == 8 and len(set(asked)) == 8
    assert not any(name in p for p in asked for name in ANSWERS)
    assert [j.verdict for j in run.judgements] == ["ppo"] * 8
    assert [j.shown for j in run.judgements[:2]] == [("ppo", "sft"), ("sft", "ppo")]
    assert {j.rater_kind for j in run.judgements} == {"model"}
    bias = run.position_bias()
    assert (bias.share_flipped, bias.num_pairs) == (0, 4)
    assert [j.verdict for j in run.combined()] == ["ppo"] * 4


def test_a_judge_of_the_place_flips_every_pair_and_decides_none(found):
    run = judge_pairs(found.items, lambda p: ["A"] * len(p), rater="judge")
    bias = run.position_bias()
    assert (bias.share_flipped, bias.num_to_first, bias.num_to_second) == (1, 4, 0)
    assert bias.interval[1] == 1
    assert [j.verdict for j in run.combined()] == ["tie"] * 4
    assert run.combined()[0].comment == "both orders: ppo, sft"


def test_unreadable_replies_are_failed_and_never_verdicts(found):
    replies = ["A", "B", "我选 A", None, "同", "", "AB", "B"]
    run = judge_pairs(found.items, lambda _: replies, rater="judge")
    assert [(f.item[8:12], f.round, f.reply) for f in run.failed] == [
        ("0001", 1, "我选 A"),
        ("0001", 2, None),
        ("0002", 2, ""),
        ("0003", 1, "AB"),
    ]
    assert len(run.judgements) == 4
    assert [j.item[8:12] for j in run.combined()] == ["0000"]  # read in both orders
    silent = judge_pairs(found.items, lambda p: ["?"] * len(p), rater="judge")
    with pytest.raises(ValueError, match="no pair has a readable reply"):
        silent.position_bias()
    with pytest.raises(ValueError, match="1 replies to 8 pairs"):
        judge_pairs(found.items, lambda _: ["A"], rater="judge")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("A", "A"),
        (" Ｂ\n", "B"),
        ("同", "同"),
        ("A。", None),
        ("a", None),
        ("B>A", None),
    ],
)
def test_a_reply_is_read_strictly(reply, said):
    assert read_verdict(reply) == said


def test_braces_in_an_answer_are_text(found):
    answers = {"ppo": ["{prompt}"], "sft": ["{second} 和 {0}"]}
    item = build_comparisons(["问"], answers, seed=1).items[0]
    assert "回答A：{prompt}\n" in judge_prompt(item, ("ppo", "sft"))


def test_other_tasks_are_refused():
    graded = build_comparisons(PROMPTS, ANSWERS, seed=1, scale="levels")
    with pytest.raises(ValueError, match="no pair of the scale gsb"):
        judge_pairs(graded.items, reads, rater="judge")


def test_the_judge_is_held_against_people(found, tmp_path):
    run = judge_pairs(found.items, reads, rater="judge")
    wanted = dict(zip(PROMPTS, ("ppo", "ppo", "sft", "tie"), strict=True))
    people = rate(found, tmp_path / "v.jsonl", "a", wanted)
    result = kappa_between(
        outcomes(found, run.combined()),
        outcomes(found, people, rater_kind="human"),
        num_bootstrap=50,
        seed=0,
    )
    assert (result.num_pairs, result.equal_share) == (4, 0.5)
    assert result.kappa == 0  # the judge always says ppo
