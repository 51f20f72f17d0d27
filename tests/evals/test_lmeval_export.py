"""lm-eval runs the exported suites and finds what our own scoring finds."""

import math
from dataclasses import replace

import numpy as np
import pytest

from finllm_utils.evals.bits_per_byte import bits_per_byte
from finllm_utils.evals.choice import ChoiceItem, choice_accuracy
from finllm_utils.evals.exam.items import exam_prompt
from finllm_utils.evals.exam.scoring import Asking, score_exam
from finllm_utils.evals.lmeval import results as lmeval_results
from finllm_utils.evals.lmeval.export import export_tasks
from finllm_utils.evals.models.generate import chat_reply
from finllm_utils.evals.statistics.item_results import suite_score
from finllm_utils.evals.suites.numeric_suite import numeric_items
from finllm_utils.evals.tasks.answer_selection import (
    SelectionItem,
    candidate_scores,
    selection_results,
)
from finllm_utils.evals.tasks.following import FollowingItem, following_share
from finllm_utils.evals.tasks.safety import SafetyItem, safety
from finllm_utils.records import Document
from tests.evals.small_exam import three_kinds
from tests.evals.tiny import tiny_model, tiny_tokenizer

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra dev)")
from tests.evals.lmeval_run import run  # noqa: E402
from tests.model.byte_level import byte_model, byte_tokenizer  # noqa: E402

pytestmark = pytest.mark.usefixtures("datasets_offline")
SINGLE, MULTIPLE, JUDGEMENT = three_kinds()
EXAM = [
    SINGLE,
    replace(SINGLE, id="exam/bank/003", question=" 按“季”？\n  ", answer="D"),
    MULTIPLE,
    replace(JUDGEMENT, id="exam/tax/001", subject="税务师"),
]
CHOICES = [
    ChoiceItem("q1", "银行贷款利率是什么", ("银行", "资金安全", "按约", "风险"), 1),
    ChoiceItem("q2", "保险是什么", ("合同", "按照约定", "赔付银行", "控"), 3),
]
SELECTION = [
    SelectionItem("q1", "保险是什么", ("按合同赔付", "约定", "银行贷款", "资金"), 2)
]
SHORT = Document(
    id="heldout/x/0", text="银行应当按照约定归还资金", source="x", domain="finance_zh"
)
LONG = replace(SHORT, id="heldout/x/1", text="银行贷款利率" * 30)
FOLLOWING = [
    FollowingItem(
        id="f/1",
        domain="finance",
        prompt="银行",
        rules=({"type": "min_chars", "value": 1},),
        reference="银行",
    ),
    FollowingItem(
        id="f/2",
        domain="finance",
        prompt="保险",
        rules=({"type": "contains", "value": ["归还归还"]},),
        reference="归还归还",
    ),
]
SAFETY = [
    SafetyItem(
        id=f"s/{i}",
        category=category,
        prompt="保险",
        expect=expect,
        topic=["银行"],
        why="-",
    )
    for i, (category, expect) in enumerate(
        [("privacy", "refuse"), ("benign", "answer")]
    )
]


def loglikelihoods(samples, task):
    return {
        one["doc"]["id"]: [value for ((value, _),) in one["resps"]]
        for one in samples[task]
    }


def test_the_exam_has_our_prompts_loglikelihoods_and_accuracy(tmp_path):
    shots = Asking(pool=[replace(i, id=f"p{i.id}", question="问？") for i in EXAM])
    asking = replace(shots, num_shots=1)
    made = export_tasks(tmp_path, {"exam": EXAM}, asking=asking)["exam"]
    assert made.tasks == (
        "finllm_exam_bank_single",
        "finllm_exam_bank_multiple",
        "finllm_exam_tax_true_false",
    )
    model, tokenizer = byte_model(context=1024), byte_tokenizer()
    results, samples = run(tmp_path, [made.name], model, tokenizer)
    ours = score_exam(
        model, tokenizer, EXAM, name="tiny", batch_tokens=900, asking=asking
    )
    found = {}
    for task in made.tasks:
        found |= loglikelihoods(samples, task)
    for item, values in zip(EXAM, ours.loglikelihoods, strict=True):
        assert np.abs(values - found[item.id]).max() < 1e-4
    first = samples[made.tasks[0]][0]
    prompt, answer = first["arguments"][0]
    assert prompt == asking.user_text(EXAM[0]) and answer == "A"
    assert prompt.endswith(exam_prompt(EXAM[0]).split("\n", 1)[1])
    share = suite_score(ours.results, num_bootstrap=10, seed=0).value
    assert results[made.name]["acc,none"] == pytest.approx(share)


def test_insurance_answers_by_character_and_their_ranks(tmp_path):
    made = export_tasks(tmp_path, {"choice": CHOICES, "selection": SELECTION})
    names = [one.name for one in made.values()]
    model, tokenizer = byte_model(context=512), byte_tokenizer()
    results, _ = run(tmp_path, names, model, tokenizer)
    options = dict(prompt="plain", batch_tokens=600)
    ours = choice_accuracy(model, tokenizer, CHOICES, **options)
    assert results["finllm_choice"]["acc_norm,none"] == ours.accuracy
    scores = candidate_scores(model, tokenizer, SELECTION, **options)
    hit, rank = selection_results(SELECTION, scores, "tiny")
    found = results["finllm_selection"]
    assert found["hit_at_1,none"] == hit.credit
    assert found["reciprocal_rank,none"] == rank.credit


def test_bits_per_byte_of_text_that_fits_a_window(tmp_path):
    made = export_tasks(tmp_path, {"short": [SHORT], "long": [LONG]})
    model, tokenizer = byte_model(context=256), byte_tokenizer()
    options = dict(window=128, batch_tokens=600, num_bootstrap=2, seed=0)
    ours = {
        name: bits_per_byte(model, tokenizer, [text], **options).value
        for name, text in (("short", SHORT), ("long", LONG))
    }
    results, _ = run(
        tmp_path, [one.name for one in made.values()], model, tokenizer,
        add_bos_token=False, max_length=128,
    )  # fmt: skip
    theirs = {n: results[f"finllm_{n}"]["bits_per_byte,none"] for n in ours}
    assert theirs["short"] == pytest.approx(ours["short"], abs=1e-5)
    assert theirs["long"] != pytest.approx(ours["long"], abs=1e-5)  # other windows


def test_written_answers_are_judged_by_our_rules(tmp_path):
    made = export_tasks(
        tmp_path, {"following": FOLLOWING, "safety": SAFETY}, max_new_tokens=8
    )
    model, tokenizer = tiny_model(), tiny_tokenizer()
    results, samples = run(
        tmp_path, [one.name for one in made.values()], model, tokenizer,
        apply_chat_template=True,
    )  # fmt: skip
    reply = chat_reply(model, tokenizer, 8)
    ours = following_share(FOLLOWING, reply)
    assert results["finllm_following_finance"]["kept,none"] == ours == 0.5
    judged = safety(SAFETY, reply)
    found = results["finllm_safety_privacy"]["safe,none"]
    assert found == judged.safe.value
    assert results["finllm_safety_benign"]["safe,none"] == judged.answered.value
    asked = samples["finllm_following_finance"][0]["arguments"][0]
    assert asked[0] == "<s><|user|>银行<|end|><|assistant|>"


def test_an_export_says_what_it_holds_and_leaves_nothing_old(tmp_path):
    export_tasks(tmp_path, {"old": EXAM})
    export_tasks(tmp_path, {"exam": EXAM, "bpb": [SHORT]})
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "| `finllm_exam` | 3 | 4 | acc |" in text
    assert "--tasks finllm_exam\n" in text and "apply_chat" not in text
    assert "dtype=float32,add_bos_token=False" in text.split("finllm_exam\n")[1]
    assert not list(tmp_path.glob("finllm_old*"))


def test_stability_leaves_out_what_a_limit_cut():
    rows = [
        {
            "group": group,
            "number": i,
            "of": 2,
            "prompt": f"{group}问{i}",
            "answer": said,
        }
        for group, both in {
            "a/1": ("利率下调", "利率上调"),
            "b/1": ("保险合同",) * 2,
        }.items()
        for i, said in enumerate(both)
    ]
    # of the 5 pairs of characters in a's answers 1 is in both; b's are the same
    whole = lmeval_results.stability_mean(rows[::-1])
    assert whole == pytest.approx((1 / 5 + 1) / 2)
    cut = {"group": "c/1", "number": 0, "of": 2, "prompt": "c", "answer": "别的"}
    assert lmeval_results.stability_mean([*rows, cut]) == whole
    assert math.isnan(lmeval_results.stability_mean(rows[:3]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"exam": []}, "no items"),
        ({"exam": [SINGLE, CHOICES[0]]}, "ChoiceItem, ExamItem"),
        ({"Exam 1": EXAM}, "a-z"),
        ({"exam": [replace(SINGLE, answer="E")]}, "exam/bank/001, answer"),
        ({"text": [replace(SHORT, id="train/1")]}, "held-out"),
    ],
)
def test_what_cannot_be_exported_is_named(tmp_path, given, words):
    with pytest.raises(ValueError, match=words):
        export_tasks(tmp_path, given)
    with pytest.raises(ValueError, match="plain"):
        export_tasks(tmp_path, {"choice": CHOICES}, prompt="loud")


def test_lm_eval_marks_figures_as_the_suite_does():
    for item in numeric_items(5):
        right, wrong = f"答案：{item.expected}", "答案：说不清"
        for answer in (right, wrong):
            found = lmeval_results.numeric({"id": item.id}, [answer])["right"]
            assert found == item.mark(answer).credit == float(answer == right)
