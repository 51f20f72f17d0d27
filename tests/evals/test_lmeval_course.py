"""The course's suites as lm-eval runs them: each figure is that of the report card."""

from operator import attrgetter

import pytest

from finllm_utils.corpora.splits import HELDOUT_DOMAINS
from finllm_utils.evals.bits_per_byte import bits_per_byte
from finllm_utils.evals.exam.scoring import CHAT
from finllm_utils.evals.lmeval.export import export_tasks, exported_items
from finllm_utils.evals.models.local import LocalModel
from finllm_utils.evals.suites.hallucination_suite import item_id, share_invented
from finllm_utils.evals.tasks.safety import BASELINES
from finllm_utils.records import ChatTurn
from tests.evals.tiny import TEMPLATE

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra dev)")
from lm_eval.api.model import LM  # noqa: E402

from tests.evals.lmeval_run import (  # noqa: E402
    SMALL,
    course_suites,
    credit,
    figure,
    run,
    run_lm,
)
from tests.model.byte_level import byte_model, byte_tokenizer  # noqa: E402

pytestmark = pytest.mark.usefixtures("datasets_offline")


class Scripted(LM):
    """Says what a script has for each prompt, to lm-eval and to our suites."""

    name = "scripted"

    def __init__(self, script):
        super().__init__()
        self.script = script

    def generate_until(self, requests):
        return [self.script[request.args[0]] for request in requests]

    def answers(self, prompts, max_new_tokens):
        return [self.script[prompt.messages[-1].content] for prompt in prompts]

    loglikelihood = loglikelihood_rolling = None


@pytest.fixture(scope="module")
def items():
    return exported_items(SMALL, seed=0)


@pytest.fixture(scope="module")
def ours():
    return course_suites(SMALL)


def test_every_suite_of_the_course_is_exported(tmp_path, items, ours):
    made = export_tasks(tmp_path, items)
    assert set(ours) - set(made) == {"dialogue", "stability_temperature"}
    for name in set(ours) & set(made):
        ids = map(item_id if name == "hallucination" else attrgetter("id"), items[name])
        assert list(ids) == list(ours[name].questions)
    parts = {(item.subject, item.type) for item in items["exam"]}
    assert len(made["exam"].tasks) == len(parts) > 5
    for one in made.values():
        rows = [
            line
            for task in one.tasks
            for line in (tmp_path / f"{task}.jsonl").read_text("utf-8").splitlines()
        ]
        first = items[one.suite][0]
        requests = getattr(first, "wordings", getattr(first, "orders", "-"))
        assert len(rows) == one.num_items * len(requests) > 0


def test_every_suite_of_a_chat_model_gets_the_figure_of_the_card(tmp_path, items, ours):
    made = export_tasks(
        tmp_path,
        items,
        asking=CHAT,
        prompt="chat",
        max_new_tokens=SMALL.max_exam_tokens,
    )
    model, tokenizer = byte_model(context=4096), byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    chat = [one for one in made.values() if one.chat]
    names = [one.name for one in chat]
    results, _ = run(tmp_path, names, model, tokenizer, apply_chat_template=True)
    local = LocalModel("tiny", model, tokenizer)
    credits = {one.suite: credit(ours[one.suite].run(local)) for one in chat}
    assert {one.suite: figure(one, results) for one in chat} == pytest.approx(credits)
    assert 0 < credits["exam"] < 1 and 0 < credits["choice"] < 1

    texts = {f"finllm_{name}": items[name] for name in set(made) - set(credits)}
    results, _ = run(tmp_path, list(texts), model, tokenizer, add_bos_token=False)
    options = dict(window=4096, batch_tokens=4096, num_bootstrap=2, seed=0)
    assert set(texts) == {f"finllm_text_{domain}" for domain in HELDOUT_DOMAINS}
    for name, documents in texts.items():
        bits = bits_per_byte(model, tokenizer, documents, **options).value
        assert results[name]["bits_per_byte,none"] == pytest.approx(bits, abs=1e-5)


def test_answers_that_earn_something_earn_the_same(tmp_path, items, ours):
    """A random model earns 0 everywhere, so answers are given: some of them right."""
    written = ("following", "numeric", "safety", "stability", "hallucination")
    made = export_tasks(tmp_path, {name: items[name] for name in written})
    model = Scripted(script(items))
    results, _ = run_lm(tmp_path, [one.name for one in made.values()], model)
    found = {name: ours[name].run(model) for name in written}
    for name in written:
        share = figure(made[name], results)
        assert share == pytest.approx(credit(found[name])) and 0 < share < 1, name
    invented = results["finllm_hallucination"]["invented,none"]
    assert 0 < invented == pytest.approx(share_invented(found["hallucination"]))


def script(items):
    """Prompt to answer: the reference of every other item, else one that is no use."""
    found = {}
    for number, item in enumerate(items["following"] + items["hallucination"]):
        wrong = "《保险法》第九百九十九条，共123456元。"
        known = getattr(item, "article", None)
        right = f"《{known.law}》{known.number}" if known else item.reference
        found[item.prompt] = wrong if number % 2 else f" {right}\n"
    for number, item in enumerate(items["numeric"]):
        found[item.question] = f"答案：{item.expected if number % 2 else '不知道'}"
    for number, item in enumerate(items["safety"]):
        turn = ChatTurn(role="user", content=item.prompt)
        (refusal,) = BASELINES["refuses_everything"]([[turn]])
        found[item.prompt] = refusal if number % 2 else "当然可以，保证赚钱。"
    for number, group in enumerate(items["stability"]):
        for wording in group.wordings:
            found[wording] = f"{group.question[::-1]}，{wording[-4:]}" * (number < 3)
    return found
