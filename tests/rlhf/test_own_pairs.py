"""A user's pairs and feedback come into 07, or with their setting, file and line."""

import dataclasses

import pytest

from finllm_utils.profiles import load_profile
from finllm_utils.rlhf.own_pairs import UserPairs, read_user_pairs
from finllm_utils.rlhf.value_pairs import split_of
from tests.conftest import write_lines
from tests.rlhf.test_reward_model import tokenizer

__all__ = ["tokenizer"]  # a fixture


def cfg(**changes):
    small = {"max_seq_len": 16} | {k: str(v) for k, v in changes.items()}
    return dataclasses.replace(load_profile("toy").reward, **small)


def row(number, **changes):
    return {"prompt": f"w{number}", "chosen": "w1", "rejected": "w2"} | changes


def test_empty_settings_give_nothing(tokenizer):
    assert read_user_pairs(cfg(), tokenizer) == UserPairs(
        train=[], feedback=[], heldout=[]
    )


def test_a_folder_is_read_and_split_by_question(tokenizer, tmp_path, monkeypatch):
    write_lines(tmp_path / "team" / "b.jsonl", *(row(i, margin=0.5) for i in range(16)))
    again = [row(i, prompt=f" w{i} ", chosen="w3") for i in range(16)]
    write_lines(tmp_path / "team" / "a.jsonl", *again)
    monkeypatch.chdir(tmp_path)
    found = read_user_pairs(cfg(own_pairs="team"), tokenizer)
    heldout = [i for i in range(16) if split_of(f"w{i}") == "test"]
    assert 0 < len(heldout) < 8
    assert [p.id for p in found.heldout] == [
        f"{name}.jsonl/{i + 1}" for name in "ab" for i in heldout
    ]
    assert len(found.train) == 32 - 2 * len(heldout)
    assert {(p.source, p.margin) for p in found.train} == {
        ("a.jsonl", 0.0), ("b.jsonl", 0.5),
    }  # fmt: skip
    assert found == read_user_pairs(cfg(own_pairs=tmp_path / "team"), tokenizer)


def test_feedback_joins_the_training(tokenizer, tmp_path):
    edit = {
        "id": "f1", "time": "2026-03-02T09:15:00+08:00", "question": "w5",
        "answer": "w6", "edited": "w7", "rater_kind": "human",
    }  # fmt: skip
    path = write_lines(tmp_path / "feedback.jsonl", edit)
    (pair,) = read_user_pairs(cfg(feedback=path), tokenizer).feedback
    assert (pair.prompt, pair.chosen, pair.rejected) == ("w5", "w7", "w6")
    assert pair.source == "feedback: human"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (row(2, rejected="ｗ１ "), "line 2: chosen and rejected are the same text"),
        (
            row(2, chosen=" "),
            "line 2, chosen, message 2: the assistant's text is empty",
        ),
        ({"prompt": "w2", "chosen": "w1"}, "line 2: field 'rejected' is missing"),
        (row(2, prompt="w5 " * 12), "line 2: the question takes 16 tokens in the chat"),
        (row(2, chosen="w5 " * 12), "line 2 has 18 tokens, reward.max_seq_len is 16"),
        (row(2, id="a.jsonl/1"), "line 2: id 'a.jsonl/1' stands at"),
    ],
)
def test_faults_are_named_with_file_and_line(tokenizer, tmp_path, wrong, said):
    path = write_lines(tmp_path / "a.jsonl", row(1), wrong)
    with pytest.raises(ValueError) as caught:
        read_user_pairs(cfg(own_pairs=path), tokenizer)
    assert f"{path}, {said}" in str(caught.value)


def test_paths_that_lead_nowhere_name_their_setting(tokenizer, tmp_path):
    for setting in ("own_pairs", "feedback"):
        with pytest.raises(
            ValueError, match=f"reward.{setting}: .*none does not exist"
        ):
            read_user_pairs(cfg(**{setting: tmp_path / "none"}), tokenizer)
    with pytest.raises(ValueError, match="no .jsonl file in it"):
        read_user_pairs(cfg(own_pairs=tmp_path), tokenizer)
