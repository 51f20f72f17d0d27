"""The exam by writing: constrained decoding equals generate's, free text is read."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from finllm_utils.evals.exam.generation import (
    constrained_exam,
    differing,
    exam_conversations,
    free_exam,
    greedy_walk,
    written_results,
)
from finllm_utils.evals.exam.items import legal_answers
from finllm_utils.evals.exam.scoring import CHAT, PLAIN, score_exam
from tests.evals.small_exam import three_kinds
from tests.model.byte_level import byte_model, byte_tokenizer

SINGLE, MULTIPLE, JUDGEMENT = three_kinds()
ITEMS = [SINGLE, MULTIPLE, JUDGEMENT] + [
    replace(MULTIPLE, id=f"m{i}", question=f"第{i}问？") for i in range(5)
]
TEMPLATE = "{{ bos_token }}U:{{ messages[0].content }}\nA:"


def chat_tokenizer():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def constrained(model, asking=CHAT, items=ITEMS):
    return constrained_exam(
        model, chat_tokenizer(), items, name="m", batch_tokens=900, asking=asking
    )


def generated(model, item, asking) -> str:
    """What generate writes when only legal continuations are allowed."""
    tokenizer = chat_tokenizer()
    head = asking.text(tokenizer, item)
    context = tokenizer(head, add_special_tokens=not asking.chat)["input_ids"]
    end = "</s>" if asking.chat else "\n" * (item.type == "multiple")
    tails = [
        tokenizer(answer + end, add_special_tokens=False)["input_ids"]
        for answer in legal_answers(item)
    ]

    def allowed(_, ids):
        done = ids[len(context) :].tolist()
        return sorted(
            {
                t[len(done)]
                for t in tails
                if t[: len(done)] == done and len(t) > len(done)
            }
        ) or [tokenizer.eos_token_id]

    made = model.generate(
        input_ids=torch.tensor([context]),
        attention_mask=torch.ones(1, len(context), dtype=torch.long),
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        prefix_allowed_tokens_fn=allowed,
    )
    text = tokenizer.decode(made[0, len(context) :], skip_special_tokens=True)
    return text.strip()


@pytest.mark.parametrize("asking", [CHAT, PLAIN])
def test_the_walk_ends_where_generate_ends(asking):
    given = set()
    for seed in range(2):
        model = byte_model(context=512, seed=seed)
        results = constrained(model, asking)
        assert [r.given for r in results] == [
            generated(model, item, asking) for item in ITEMS
        ]
        given |= {r.given for r in results}
    assert len(given) > 3


def test_the_walk_by_hand():
    tails = [(1, 9), (1, 2, 9), (3, 9)]
    step = [np.log([0.5, 0.1]), np.log([0.5, 0.3, 0.2]), np.log([0.4, 0.9])]
    assert greedy_walk(tails, step) == 1  # 3 then 9 is likelier as a whole
    assert sum(step[2]) > sum(step[1])


def test_singles_agree_with_likelihood_and_sets_may_differ():
    model = byte_model(context=512)
    written = constrained(model, PLAIN)
    scored = score_exam(
        model, chat_tokenizer(), ITEMS, name="m", batch_tokens=900
    ).results
    apart = differing(scored, written)
    assert {one.item for one, _ in apart}.isdisjoint({SINGLE.id, JUDGEMENT.id})
    for one, other in apart:
        assert one.item == other.item and one.given != other.given
    changed = [replace(written[0], given="X"), *written[1:]]
    assert (written[0], changed[0]) in differing(written, changed)
    with pytest.raises(ValueError, match="both ways"):
        differing(scored[:1], written[1:2])


def test_what_cannot_be_written_is_failed():
    bare = constrained_exam(
        byte_model(), byte_tokenizer(), ITEMS[:2], name="m", batch_tokens=900
    )
    assert {r.status for r in bare} == {"failed"}
    assert "chat template" in bare[0].detail
    broken = byte_model(context=512)
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    assert "NaN" in constrained(broken)[0].detail
    blind = Blind(chat_tokenizer())
    (alike,) = constrained_exam(
        byte_model(context=512), blind, [SINGLE], name="m", batch_tokens=900
    )
    assert (alike.status, alike.credit) == ("failed", 0) and "alike" in alike.detail


@dataclass
class Blind:
    """A tokenizer that reads every letter B as A."""

    inner: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, texts, **options):
        return self.inner([t.replace("B", "A") for t in texts], **options)


@dataclass
class TimedOut:
    reason: str


def test_written_answers_earn_what_they_say():
    answers = ["选B。", "A、B和D", "错误", "我不知道", "", TimedOut("no reply in 60 s")]
    items = [SINGLE, MULTIPLE, JUDGEMENT, *ITEMS[3:6]]
    results = written_results(items, answers, name="m")
    assert [r.credit for r in results] == [1, 1, 0, 0, 0, 0]
    assert [r.given for r in results] == ["B", "ABD", "B", "", "", ""]
    assert [r.status for r in results] == ["scored"] * 5 + ["failed"]
    assert results[3].detail == "no answer found: 我不知道"
    assert results[5].detail == "no reply in 60 s"
    (two,) = written_results([SINGLE], ["答案：BD"], name="m")
    assert (two.given, two.credit) == ("", 0)
    assert two.detail == "illegal answer BD: 答案：BD"


def test_a_chat_model_is_asked_one_turn_an_item():
    seen = []

    def reply(conversations):
        seen.extend(conversations)
        return ["B"] * len(conversations)

    results = free_exam(reply, ITEMS[:2], name="m")
    assert seen == exam_conversations(ITEMS[:2])
    assert seen[0][0].role == "user" and seen[0][0].content.endswith("答案：")
    assert [r.credit for r in results] == [1, 0]
