import json

import pytest

from finllm_utils.evals.pairwise.comparisons import (
    build_comparisons,
    outcomes,
    read_answers,
)

PROMPTS = ["什么是国债？", "退保退多少？", "等待期多久？"]
ANSWERS = {
    "sft": ["国债由国家发行。", "退现金价值。", "看合同。"],
    "ppo": ["一种债券。", "退 现金价值。", "九十天。"],
    "base": ["债债债", "退退退", "期期期"],
}


def rate(comparisons, path, rater, choices, **changes):
    """A round in which ``choices``, prompt -> model or (model, level), are given."""
    settings = {"rater_kind": "human"} | changes
    session = comparisons.session(path, rater=rater, **settings)
    names = {
        (item.prompt, text): name
        for item in comparisons.items
        for name, text in item.texts.items()
    }
    while shown := session.next():
        sides = [names[shown.prompt, text] for text in shown.texts]
        wanted = choices[shown.prompt]
        if shown.task == "graded":
            session.judge("AB"[sides.index(wanted[0])] + str(wanted[1]))
        else:
            session.judge("tie" if wanted == "tie" else sides.index(wanted) + 1)
    return session.judgements()


def test_every_prompt_meets_every_pair_but_equal_answers_are_not_asked():
    found = build_comparisons(PROMPTS, ANSWERS, seed=1, groups=["债", "险", "险"])
    assert len(found.items) == 8 and len(found.equal) == 1
    assert found.equal[0].id == "compare/0001/ppo/sft"  # a space is no difference
    first = found.items[0]
    assert first.task == "ab" and first.reason == "债"
    assert first.texts == {"base": "债债债", "ppo": "一种债券。"}
    chosen = build_comparisons(PROMPTS, ANSWERS, [("sft", "base")], seed=1)
    assert [set(item.texts) for item in chosen.items] == [{"base", "sft"}] * 3


def test_a_larger_draw_contains_a_smaller_one():
    prompts = [f"问题{i}" for i in range(20)]
    answers = {"a": ["甲"] * 20, "b": ["乙"] * 20}

    def drawn(number, seed=3):
        settings = {"seed": seed, "num_prompts": number}
        items = build_comparisons(prompts, answers, **settings).items
        return {item.prompt for item in items}

    assert len(drawn(5)) == 5
    assert drawn(5) < drawn(9)
    assert drawn(5) != drawn(5, seed=4)


def test_the_order_of_sides_differs_by_item_and_rater_and_is_kept(tmp_path):
    prompts = [f"问题{i}" for i in range(12)]
    answers = {"a": ["甲"] * 12, "b": ["乙"] * 12}
    found = build_comparisons(prompts, answers, seed=5)
    ties = dict.fromkeys(prompts, "tie")
    path = tmp_path / "v.jsonl"
    sides = {
        rater: [j.shown for j in rate(found, path, rater, ties)] for rater in "xyz"
    }
    assert all(len(set(shown)) == 2 for shown in sides.values())
    assert len({tuple(shown) for shown in sides.values()}) == 3
    again = rate(found, tmp_path / "again.jsonl", "x", ties)
    assert [j.shown for j in again] == sides["x"]


def test_outcomes_are_seen_from_the_model_first_by_name(tmp_path):
    found = build_comparisons(PROMPTS, ANSWERS, [("sft", "ppo")], seed=1)
    choices = {PROMPTS[0]: "sft", PROMPTS[2]: "ppo"}
    verdicts = rate(found, tmp_path / "v.jsonl", "a", choices)
    rows = outcomes(found, verdicts)
    scores = {o.prompt: (o.first, o.second, o.score) for o in rows}
    assert scores == {
        PROMPTS[0]: ("ppo", "sft", 0.0),
        PROMPTS[2]: ("ppo", "sft", 1.0),
        PROMPTS[1]: ("ppo", "sft", 0.5),  # equal answers: a tie, and nobody was asked
    }
    assert rows[-1].shown_first is None and rows[-1].rater == "a"
    shown = {j.item: j.shown[0] == "ppo" for j in verdicts}
    assert rows[0].shown_first == shown["compare/0000/ppo/sft"]
    assert rows[0].num_chars == (5, 8)


def test_level_0_is_a_tie_with_a_side(tmp_path):
    found = build_comparisons(
        PROMPTS, ANSWERS, [("sft", "ppo")], seed=1, scale="levels"
    )
    choices = {PROMPTS[0]: ("ppo", 0), PROMPTS[2]: ("sft", 2)}
    rows = outcomes(found, rate(found, tmp_path / "v.jsonl", "a", choices))
    told = {o.prompt: (o.score, o.strength, o.side) for o in rows}
    assert told[PROMPTS[0]] == (0.5, 0.5, 1)
    assert told[PROMPTS[2]] == (0.0, -2, -1)
    assert told[PROMPTS[1]] == (0.5, 0.0, 0)


def test_judgements_that_do_not_fit_are_refused(tmp_path):
    found = build_comparisons(PROMPTS, ANSWERS, [("sft", "ppo")], seed=1)
    choices = dict.fromkeys(PROMPTS, "sft")
    first = rate(found, tmp_path / "v.jsonl", "a", choices)
    second = rate(found, tmp_path / "v.jsonl", "a", choices, round=2)
    with pytest.raises(ValueError, match="two verdicts of a"):
        outcomes(found, first + second)
    with pytest.raises(ValueError, match="no model has judged"):
        outcomes(found, first, rater_kind="model")
    changed = ANSWERS | {"ppo": ["别的", "别的", "别的"]}
    other = build_comparisons(PROMPTS, changed, [("sft", "ppo")], seed=1)
    with pytest.raises(ValueError, match="another text now"):
        outcomes(other, first)
    graded = build_comparisons(
        PROMPTS, ANSWERS, [("sft", "ppo")], seed=1, scale="levels"
    )
    with pytest.raises(ValueError, match="was judged as ab"):
        outcomes(graded, first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": [("sft", "gpt")]}, "no answers of 'gpt'"),
        ({"pairs": [("sft", "ppo"), ("ppo", "sft")]}, "stands twice"),
        ({"pairs": [("sft", "sft")]}, "compares nothing"),
        ({"answers_by_model": {"a": ["x"] * 3}}, "give answers of two"),
        ({"answers_by_model": {"a": ["x"], "b": ["y"] * 3}}, "1 answers of 'a'"),
        ({"prompts": ["q"] * 3}, "stands twice: ask it once"),
        ({"scale": "elo"}, "gsb or levels"),
        ({"groups": ["x"]}, "1 groups for 3"),
        ({"num_prompts": 4}, "there are 3 prompts"),
    ],
)
def test_wrong_input_is_named(changes, message):
    given = {"prompts": PROMPTS, "answers_by_model": ANSWERS} | changes
    with pytest.raises(ValueError, match=message):
        build_comparisons(**given, seed=1)


def test_recorded_answers_are_read_and_faults_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    good = {"prompt": "问", "group": "债", "answers": {"b": "乙", "a": "甲"}}
    path.write_text(json.dumps(good), encoding="utf-8")
    found = read_answers(path)
    assert (found.prompts, found.groups) == (("问",), ("债",))
    assert found.by_model == {"a": ("甲",), "b": ("乙",)}
    faults = {
        "give prompt and group as text": {"answers": ["甲"]},
        "answers as model -> text": {"answers": {"a": 3, "b": "乙"}},
        "answers of \\['a'\\], line 1 has \\['a', 'b'\\]": {"answers": {"a": "甲"}},
    }
    for message, changes in faults.items():
        rows = [good, good | changes]
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        with pytest.raises(ValueError, match=f"line 2: .*{message}"):
            read_answers(path)
