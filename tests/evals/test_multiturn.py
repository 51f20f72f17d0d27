"""Dialogues are played with the model's own answers and checked by what they say."""

import pytest
import torch

from finllm_utils.evals.models.generate import greedy_answers
from finllm_utils.evals.tasks.multiturn import (
    KINDS,
    DialogueItem,
    dialogue_share,
    echo,
    play,
    read_dialogues,
)
from finllm_utils.records import ChatTurn
from finllm_utils.train.sft import encode_prompt
from tests.evals.tiny import tiny_model, tiny_tokenizer

ROW = {
    "id": "m/1",
    "kind": "correction",
    "turns": ["我存5万元。", "说错了，是8万元。", "我存多少？"],
    "must": [["8万", "80000"]],
    "must_not": ["5万", "50000"],
    "reference": "您存8万元。",
}


def test_what_passes_and_what_does_not():
    item = DialogueItem.read(ROW)
    assert item.passes("是 80,000 元") and item.passes("8 万元")
    assert not item.passes("5万元改为8万元"), "the old figure is said"
    assert not item.passes("") and not item.passes("您存9万元")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "other"}, "kind 'other'"),
        ({"turns": ["一句"]}, "two user turns"),
        ({"must": []}, "what must be said"),
        ({"must": [[]]}, "what must be said"),
        ({"reference": "您存5万元。"}, "reference does not pass"),
    ],
)
def test_items_that_cannot_be_scored_are_refused(change, said):
    with pytest.raises(ValueError, match=f"m/1: .*{said}"):
        DialogueItem.read(ROW | change)


def test_each_round_holds_the_answers_before_it():
    two = DialogueItem.read(ROW | {"turns": ["甲", "乙"], "id": "m/2"})
    heard = []

    def reply(talks):
        heard.append([[t.content for t in talk] for talk in talks])
        return [f"答{len(talk)}" for talk in talks]

    assert play([DialogueItem.read(ROW), two], reply) == ["答5", "答3"]
    assert [len(part) for part in heard] == [2, 2, 1]
    assert heard[1][1] == ["甲", "答1", "乙"]
    assert play([DialogueItem.read(ROW)], echo) == ["".join(ROW["turns"])]
    assert not DialogueItem.read(ROW).passes(play([DialogueItem.read(ROW)], echo)[0])


def test_padded_batches_answer_as_one_alone_does():
    """Against the plain loop: the likeliest token, again and again, until the end."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    texts = ["保险多少？", "银行贷款利率是多少", "资金", "按照约定归还资金的客户"]
    talks = [[ChatTurn(role="user", content=text)] for text in texts]
    expected = []
    for talk in talks:
        ids = encode_prompt(tokenizer, talk)
        made = []
        while len(made) < 7 and tokenizer.eos_token_id not in made:
            logits = model(torch.tensor([ids + made])).logits[0, -1]
            made.append(int(logits.argmax()))
        expected.append(tokenizer.decode(made, skip_special_tokens=True).strip())
    assert greedy_answers(model, tokenizer, talks, 7, batch_size=3) == expected
    assert len(set(expected)) > 1 and any(expected)


def test_the_exam_has_all_kinds_and_repeating_everything_fails_corrections():
    exam = read_dialogues()
    assert len(exam) == 60 and {item.kind for item in exam} == set(KINDS)
    assert {item.kind for item in read_dialogues(12)} == set(KINDS)
    right = {item.turns: item.reference for item in exam}

    def knows(talks):
        said = [tuple(t.content for t in talk if t.role == "user") for talk in talks]
        return [right.get(turns, "") for turns in said]

    assert dialogue_share(exam, knows) == 1.0
    corrections = [item for item in exam if item.kind == "correction"]
    assert dialogue_share(exam, echo) < 0.5 and dialogue_share(corrections, echo) == 0
