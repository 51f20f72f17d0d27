"""The exam asked of models that only answer: a real server and a recorded file."""

import json
from dataclasses import replace

import pytest

from finllm_utils.evals.exam.items import exam_prompt
from finllm_utils.evals.exam.run import exam_prompts, run_exam
from finllm_utils.evals.exam.scoring import score_exam
from finllm_utils.evals.models.endpoint import Endpoint, EndpointSettings
from finllm_utils.evals.models.local import LocalModel, require_weights
from finllm_utils.evals.models.recorded import Recorded, write_prompts
from finllm_utils.evals.statistics.item_results import suite_score
from tests.evals.chat_server import refused, running_server, said
from tests.evals.small_exam import FOUR, three_kinds
from tests.evals.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def server(monkeypatch):
    with running_server(monkeypatch) as running:
        yield running


SINGLE, MULTIPLE, JUDGEMENT = three_kinds(choices=FOUR)
KEYS = (SINGLE, MULTIPLE, JUDGEMENT, *(replace(SINGLE, answer=a) for a in "CD"))
ITEMS = tuple(
    replace(item, id=f"exam/bank/{number:03}", question=f"第{number}题（）。")
    for number, item in enumerate(KEYS, start=1)
)


def test_an_endpoint_is_scored_on_what_it_answered(server):
    texts = [exam_prompt(one) for one in ITEMS]
    acts = [said("答案：B"), said("A、B、D"), said("错误"), refused(500), said(None)]
    server.acts = {text: [act] for text, act in zip(texts, acts, strict=True)}
    settings = EndpointSettings(
        base_url=server.url, served_as="m", api_key_env="", max_wait_s=0, max_attempts=2
    )
    results = run_exam(Endpoint("cloud", settings), ITEMS)
    assert [(r.status, r.given, r.credit) for r in results] == [
        ("scored", "B", 1.0), ("scored", "ABD", 1.0), ("scored", "B", 0.0),
        ("failed", "", 0.0), ("failed", "", 0.0),
    ]  # fmt: skip
    assert "answered 500" in results[3].detail and "empty" in results[4].detail
    assert {r.model for r in results} == {"cloud"}
    score = suite_score(results, num_bootstrap=50, seed=0)
    assert (score.num_scored, score.num_failed) == (3, 2)
    assert score.value == pytest.approx(2 / 3)


def test_recorded_outputs_need_not_be_complete(tmp_path):
    write_prompts(tmp_path / "prompts.jsonl", exam_prompts(ITEMS))
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").open()]
    assert rows[1]["messages"][0]["content"] == exam_prompt(ITEMS[1])
    with open(tmp_path / "out.jsonl", "w", encoding="utf-8") as handle:
        for row, text in zip(rows[:2], ("B", "AB"), strict=True):
            handle.write(json.dumps({"id": row["id"], "text": text}) + "\n")
    results = run_exam(Recorded("old", tmp_path / "out.jsonl"), ITEMS)
    assert [r.credit for r in results if r.status == "scored"] == [1.0, 0.0]
    assert [r.item for r in results if r.status == "failed"] == [
        one.id for one in ITEMS[2:]
    ]


def test_a_base_model_continues_the_prompt():
    model = LocalModel("base", tiny_model(), tiny_tokenizer(), chat=False)
    (result,) = run_exam(model, ITEMS[:1], max_new_tokens=3)
    assert result.status == "scored"
    local = require_weights(model)
    scores = score_exam(
        local.network, local.tokenizer, ITEMS[:1], name=local.name, batch_tokens=512
    )
    assert scores.results[0].model == "base" and len(scores.loglikelihoods[0]) == 4
    (failed,) = run_exam(model, ITEMS[:1], max_new_tokens=90)
    assert (failed.status, failed.credit) == ("failed", 0)
    assert "do not fit the context" in failed.detail
