import json

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from finllm_utils.evals.pairwise.comparisons import build_comparisons, outcomes
from finllm_utils.evals.pairwise.model_judge import (
    judge_pairs,
    judge_prompt,
    likeliest_verdict,
    read_verdict,
    record_replies,
    recorded_judge,
)
from finllm_utils.evals.pairwise.ratings import kappa_between
from finllm_utils.records import ChatTurn
from finllm_utils.train.sft import encode_prompt
from tests.evals.test_comparisons import rate
from tests.evals.tiny import tiny_model, tiny_tokenizer

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


def test_a_local_model_gives_the_likeliest_letter(found):
    """Equal to scoring the three replies one by one with transformers' own loss."""
    model, tokenizer = tiny_model(), letter_tokenizer()
    ask = likeliest_verdict(model, tokenizer, batch_tokens=400)
    prompts = ["银行", "保险合同", "资金安全"]
    read = []
    hook = model.model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    replies = ask(prompts)
    hook.remove()
    assert read == [len(prompts)]  # one pass: a row a prompt, not a row a verdict
    for prompt, reply in zip(prompts, replies, strict=True):
        start = encode_prompt(tokenizer, [ChatTurn(role="user", content=prompt)])
        with torch.inference_mode():
            logits = model(torch.tensor([start])).logits[0, -1]
        ids = [tokenizer.convert_tokens_to_ids(word) for word in ("A", "B", "同")]
        assert reply == ("A", "B", "同")[int(logits[ids].argmax())]


def test_a_prompt_beyond_the_context_gets_no_reply():
    ask = likeliest_verdict(tiny_model(), letter_tokenizer(), batch_tokens=400)
    long, short = ask(["银" * 200, "银行"])
    assert long is None and short in ("A", "B", "同")


def test_a_diverged_model_is_no_judge():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    with pytest.raises(ValueError, match="cannot be asked: .* NaN"):
        likeliest_verdict(model, letter_tokenizer(), batch_tokens=400)(["银行"])


def test_a_recorded_judge_replies_as_it_was_recorded(found, tmp_path):
    path = tmp_path / "replies.jsonl"
    run = judge_pairs(found.items, record_replies(reads, path), rater="judge")
    again = judge_pairs(found.items, recorded_judge(path), rater="judge")
    assert [j.verdict for j in again.judgements] == [j.verdict for j in run.judgements]
    assert recorded_judge(path)(["something else"]) == [None]
    path.write_text('{"reply": "A"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="replies.jsonl, line 1: give prompt_sha256"):
        recorded_judge(path)


def letter_tokenizer():
    """The tiny tokenizer, in which three letters stand for the verdicts' words."""
    words = tiny_tokenizer()
    raw = json.loads(words.backend_tokenizer.to_str())
    vocabulary = raw["model"]["vocab"]
    for new, old in (("A", "1"), ("B", "2"), ("同", "寿")):
        vocabulary[new] = vocabulary.pop(old)
    changed = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(raw)),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    changed.chat_template = words.chat_template
    return changed
