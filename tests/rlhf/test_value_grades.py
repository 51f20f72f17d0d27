"""Grades of the preference pairs: blind names, medians, groups, recorded files."""

import pytest

from finllm_utils.annotation.results import first_side_share
from finllm_utils.annotation.session import Session
from finllm_utils.records import PreferencePair
from finllm_utils.rlhf.value_grades import graded_items, read_grades, with_grades
from finllm_utils.rlhf.value_pairs import read_value_pairs


def pair(number: int) -> PreferencePair:
    return PreferencePair(
        id=f"privacy/{number:03}", prompt=f"问{number}", chosen=f"好{number}",
        rejected=f"差{number}", source="value pairs: privacy",
    )  # fmt: skip


def graded(pairs, folder, rater, levels):
    """Grades by pair: +3 is "the chosen one is much better", given as it is shown."""
    items = graded_items(pairs)
    path = folder / f"{rater}.jsonl"
    session = Session(items, path, rater=rater, rater_kind="model", round=1, seed=1)
    while shown := session.next():
        number = int(shown.prompt[1:])
        if number not in levels:
            session.skip()
            continue
        level = levels[number]
        better = f"好{number}" if level > 0 else f"差{number}"
        session.judge("AB"[shown.texts.index(better)] + str(int(abs(level))))


def test_groups_and_margins_by_hand(tmp_path):
    pairs = [pair(n) for n in range(1, 6)]
    # medians: 1: of 3, 2, -1 is 2; 2: of -3, -2, -1 is -2; 3: of 1, -1 is 0; 4: 3
    graded(pairs, tmp_path, "a", {1: 3, 2: -3, 3: 1, 4: 3})
    graded(pairs, tmp_path, "b", {1: 2, 2: -2, 3: -1})
    graded(pairs, tmp_path, "c", {1: -1, 2: -1})
    found = with_grades(pairs, read_grades(tmp_path))
    assert [(p.id, p.margin) for p in found.confirmed] == [
        ("privacy/001", pytest.approx(2 / 3)), ("privacy/004", 1.0),
    ]  # fmt: skip
    assert [p.id for p in found.overturned] == ["privacy/002"]
    assert [p.id for p in found.undecided] == ["privacy/003"]
    assert [p.id for p in found.ungraded] == ["privacy/005"]
    assert found.confirmed[0].source == "value pairs: privacy"


def test_names_of_the_sides_tell_nothing():
    firsts = [sorted(item.texts)[0] for item in graded_items(read_value_pairs())]
    chosen = [p.chosen for p in read_value_pairs()]
    items = graded_items(read_value_pairs())
    share = sum(
        item.texts[name] == text
        for item, name, text in zip(items, firsts, chosen, strict=True)
    ) / len(items)
    assert 0.4 < share < 0.6


def test_a_changed_text_and_an_empty_folder_are_refused(tmp_path):
    graded([pair(1)], tmp_path, "a", {1: 3})
    with pytest.raises(ValueError, match="no .jsonl file"):
        read_grades(tmp_path / "none")
    changed = PreferencePair(
        id="privacy/001", prompt="问1", chosen="更好", rejected="差1", source="s"
    )
    with pytest.raises(ValueError, match="privacy/001 has another text now"):
        with_grades([changed], read_grades(tmp_path))


def test_recorded_grades_are_blind_model_grades_of_the_shipped_pairs():
    grades = read_grades()
    assert {j.rater_kind for j in grades} == {"model"}, "no person has rated them"
    assert 0.4 < first_side_share(grades) < 0.6
    found = with_grades(read_value_pairs(), grades)
    assert not found.ungraded and len(found.confirmed) >= 240
