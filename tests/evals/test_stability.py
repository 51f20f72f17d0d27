"""Stability by hand: what is alike, what a constant model earns, which files are read."""

import numpy as np
import pytest

from finllm_utils.evals.tasks import stability as stab
from tests.conftest import write_lines

GROUP = {"id": "p/1", "question": "什么是年金？", "paraphrases": ["年金是什么？"]}


def test_likeness_by_hand():
    """甲乙丙 has the pairs 甲乙 and 乙丙; 乙丙丁 shares one of three with it."""
    found = stab.likeness(["甲乙丙", "乙丙丁", "甲，乙丙。", "戊己", ""])
    assert found[0].tolist() == pytest.approx([1, 1 / 3, 1, 0, 0])
    assert np.array_equal(found, found.T) and found[4, 4] == 0


def test_stability_is_likeness_within_minus_between():
    """Within 1/3 and 1; between: of four pairs two are alike by 1/3, two by 0."""
    groups = [["甲乙丙", "乙丙丁"], ["乙丙丁", "乙丙丁"]]
    between = (1 / 3 + 1 / 3 + 1 + 1) / 4
    assert stab.group_stability(groups).tolist() == pytest.approx(
        [1 / 3 - between, 1 - between]
    )


def test_one_answer_to_everything_is_worth_nothing():
    for said in ("请咨询专业的保险顾问。", "好", ""):
        assert stab.group_stability([[said] * 3] * 5).tolist() == [0] * 5


def test_a_sure_model_earns_one_and_a_random_one_about_nothing():
    sure = [[text] * 3 for text in ("甲乙丙", "丁戊己", "庚辛壬")]
    assert stab.group_stability(sure).tolist() == [1, 1, 1]
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("甲乙丙丁戊己"), 12)) for _ in range(150)]
    drawn = stab.group_stability([words[i : i + 3] for i in range(0, 150, 3)])
    assert abs(drawn.mean()) < 3 * drawn.std() / 50**0.5


@pytest.mark.parametrize("groups", [[], [["甲乙", "甲乙"]], [["甲乙"], ["丙丁", "丙"]]])
def test_too_little_to_compare_is_refused(groups):
    with pytest.raises(ValueError, match="two answers or more in each of two groups"):
        stab.group_stability(groups)


def test_answers_stay_with_their_group():
    groups = [
        stab.ParaphraseGroup(id="1", question="甲", paraphrases=("乙", "丙")),
        stab.ParaphraseGroup(id="2", question="丁", paraphrases=("戊",)),
    ]
    asked = []

    def reply(talks):
        asked.append(len(talks))
        return [f"答{talk[-1].content}" for talk in talks]

    assert stab.paraphrase_answers(groups, reply) == [
        ["答甲", "答乙", "答丙"],
        ["答丁", "答戊"],
    ]
    assert asked == [5]


def test_spread_by_hand():
    assert stab.spread([[1, 3], [2, 2]]).tolist() == [1, 0]


def test_a_file_is_read_in_order(tmp_path):
    other = GROUP | {"id": "p/2", "question": "什么是国债？"}
    groups = stab.read_paraphrases(write_lines(tmp_path / "p.jsonl", GROUP, other))
    assert [g.id for g in groups] == ["p/1", "p/2"]
    assert groups[0].wordings == ("什么是年金？", "年金是什么？")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"paraphrases": "年金是什么？"}, "must be a list"),
        ({"paraphrases": []}, "at least one paraphrase"),
        ({"paraphrases": ["什么是年金？"]}, "each wording once"),
        ({"paraphrases": [" "]}, "texts that say something"),
        ({"question": 3}, "texts that say something"),
        ({"kind": "x"}, "kind"),
        ({"id": "p/1"}, "stands at"),
    ],
)
def test_a_fault_names_its_line(tmp_path, changes, fault):
    path = write_lines(tmp_path / "p.jsonl", GROUP, GROUP | {"id": "p/2"} | changes)
    with pytest.raises(ValueError, match=r"p\.jsonl, line 2: ") as caught:
        stab.read_paraphrases(path)
    assert fault in str(caught.value)
