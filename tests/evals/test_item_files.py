"""Items of a file: each fault named with file and line, whoever makes the items."""

import pytest

from finllm_utils.evals.tasks.following import read_following
from finllm_utils.evals.tasks.item_files import read_items_of
from finllm_utils.evals.tasks.multiturn import read_dialogues
from tests.conftest import write_lines

RULE = {"type": "max_chars", "value": 9}
FOLLOWING = {
    "id": "f/1", "domain": "finance", "prompt": "简短。", "rules": [RULE],
    "reference": "好。",
}  # fmt: skip
TALK = {
    "id": "d/1", "kind": "correction", "turns": ["存5万。", "改成8万。"],
    "must": [["8万"]], "must_not": [], "reference": "8万。",
}  # fmt: skip


@pytest.mark.parametrize(
    ("read", "row", "change", "said"),
    [
        (read_following, FOLLOWING, {"reference": ""}, "f/2: its reference breaks"),
        (read_following, FOLLOWING, {"colour": 1}, "colour"),
        (read_following, FOLLOWING, {"id": "f/1"}, "id 'f/1' stands at .*line 1 alr"),
        (read_dialogues, TALK, {"kind": "chat"}, "f/2: kind 'chat'; use"),
        (read_dialogues, TALK, {"id": "d/1"}, "id 'd/1' stands at .*line 1 already"),
    ],
)
def test_a_fault_names_file_and_line(tmp_path, read, row, change, said):
    path = write_lines(tmp_path / "x.jsonl", row, row | {"id": "f/2"} | change)
    with pytest.raises(ValueError, match=f"x.jsonl, line 2: .*{said}"):
        read(path=path)


@pytest.mark.parametrize(
    ("read", "row", "field"),
    [(read_following, FOLLOWING, "rules"), (read_dialogues, TALK, "must_not")],
)
def test_a_field_that_is_missing_is_named(tmp_path, read, row, field):
    less = {name: value for name, value in row.items() if name != field}
    with pytest.raises(ValueError, match=f"line 1: field '{field}' is missing"):
        read(path=write_lines(tmp_path / "x.jsonl", less))


def test_what_is_made_comes_in_order(tmp_path):
    path = write_lines(tmp_path / "x.jsonl", {"id": "b"}, {"id": "a"})

    class Named:
        def __init__(self, row):
            self.id = row["id"]

    assert [item.id for item in read_items_of(path, Named)] == ["b", "a"]
