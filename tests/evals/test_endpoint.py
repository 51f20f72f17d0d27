"""The evaluation client against a real local server that misbehaves in every way."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from finllm_utils.dependencies import REPOSITORY
from finllm_utils.evals.models.endpoint import Endpoint, EndpointSettings, retry_after
from finllm_utils.evals.models.prompts import Failure, user_prompt
from tests.evals.chat_server import body, refused, running_server, said

KEY = "k-secret-123"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    with running_server(monkeypatch) as running:
        yield running


def model(server, cache=None, **settings):
    fixed = {"base_url": server.url, "served_as": "qwen", "api_key_env": "TEST_KEY",
             "max_wait_s": 0.01}  # fmt: skip
    return Endpoint("e", EndpointSettings(**fixed | settings), cache)


def prompts(*texts):
    return [user_prompt(f"item/{text}", text) for text in texts]


def test_answers_come_in_order_though_asked_at_once(server):
    texts = [f"题{n}" for n in range(12)]
    for number, text in enumerate(texts):
        server.acts[text] = [said(f"答：{text}", delay=0.06 - 0.005 * number)]
    found = model(server, concurrency=3).answers(prompts(*texts), 8)
    assert found == [f"答：{text}" for text in texts]
    assert 2 <= server.most_busy <= 3
    _, sent, headers = server.got[0]
    assert {k: sent[k] for k in ("model", "temperature", "max_tokens")} == {
        "model": "qwen", "temperature": 0.0, "max_tokens": 8,
    }  # fmt: skip
    assert headers["authorization"] == f"Bearer {KEY}"
    model(server, max_tokens_field="max_completion_tokens").answers(prompts("又"), 9)
    sent = server.got[-1][1]
    assert sent["max_completion_tokens"] == 9 and "max_tokens" not in sent


def test_each_kind_of_trouble_is_retried_or_told_item_by_item(server):
    server.acts = {
        "限流": [refused(429), refused(429, retry_after="3600"), said("A")],
        "断线": [refused(503), said("B")],
        "坏了": [refused(500, "out of memory")],
        "太长": [refused(400, "context length exceeded")],
        "空的": [body('{"choices": []}'), said("C")],
        "网页": [body("<html>login</html>", "text/html")],
        "半截": [body('{"choices": [')],
        "沉默": [said(None), said("   "), said("D")],
        "数字": [body('{"choices": [{"message": {"content": 7}}]}')],
        "审查": [said(None, "content_filter")],
        "思考": [said(None, "length")],
    }
    texts = [*server.acts, "平常"]
    found = model(server).answers(prompts(*texts), 8)
    told = dict(zip(texts, found, strict=True))
    good = {t: a for t, a in told.items() if isinstance(a, str)}
    assert good == {
        "限流": "A", "断线": "B", "空的": "C", "沉默": "D", "平常": "答：平常",
    }  # fmt: skip
    for text, times, reason in (
        ("坏了", 4, "answered 500 (Error code: 500 - out of memory)"),
        ("太长", 1, "answered 400 (Error code: 400 - context length"),
        ("网页", 4, "no chat completion"),
        ("半截", 4, "not JSON"),
        ("数字", 4, "empty or no text (7)"),
        ("审查", 1, "content filter"),
        ("思考", 1, "no text within max_new_tokens"),
    ):
        assert isinstance(told[text], Failure) and reason in told[text].reason
        assert server.asked(text) == times, text
    assert server.asked("限流") == 3 and server.asked("沉默") == 3


def test_time_outs_are_retried_and_then_told(server):
    server.acts = {
        "慢": [said("晚", delay=0.6)],
        "先慢": [said("", delay=0.6), said("B")],
    }
    started = time.monotonic()
    slow, better = model(server, timeout_s=0.15, max_attempts=2).answers(
        prompts("慢", "先慢"), 8
    )
    assert better == "B" and "timed out" in slow.reason
    assert server.asked("慢") == 2 and time.monotonic() - started < 2


def test_a_server_that_is_gone_is_given_up(server):
    server.http.shutdown()
    server.http.server_close()
    gone = model(server, max_attempts=2, give_up_after=3, concurrency=1)
    found = gone.answers(prompts(*"甲乙丙丁戊"), 8)
    assert all("cannot be reached" in one.reason for one in found[:3])
    assert [one.reason[:45] for one in found[3:]] == [
        "not asked: the server failed 3 items in a row"
    ] * 2


def test_items_that_fail_now_and_then_stop_nothing(server):
    server.acts = {text: [refused(500)] for text in "甲丙戊"}
    flaky = model(server, max_attempts=1, give_up_after=2, concurrency=1)
    found = flaky.answers(prompts(*"甲乙丙丁戊"), 8)
    assert [isinstance(one, Failure) for one in found] == [True, False] * 2 + [True]
    assert all("answered 500" in one.reason for one in found[::2])


def test_a_refusal_may_be_of_one_prompt_or_of_all(server):
    server.acts = {"甲": [refused(403, "prompt refused by policy")]}
    one, other = model(server, concurrency=1).answers(prompts("甲", "乙"), 8)
    assert "prompt refused by policy" in one.reason and other == "答：乙"
    server.acts = {text: [refused(403)] for text in "丙丁戊"}
    found = model(server, concurrency=1, give_up_after=2).answers(prompts(*"丙丁戊"), 8)
    assert "not asked" in found[2].reason and server.asked("丙") == 1


def test_the_budget_counts_every_request(server):
    server.acts = {"坏": [refused(500)]}
    found = model(server, max_requests=5, concurrency=1).answers(
        prompts("好", "坏", "又", "末"), 8
    )
    assert found[0] == "答：好" and "500" in found[1].reason
    assert [one.reason for one in found[2:]] == [
        "not asked: max_requests=5 is used up"
    ] * 2
    assert len(server.got) == 5


@pytest.mark.parametrize(
    ("status", "said_"), [(401, "key in TEST_KEY"), (404, "model='qwen'")]
)
def test_wrong_settings_stop_the_run_without_showing_the_key(
    server, caplog, status, said_
):
    caplog.set_level(logging.DEBUG, "finllm_utils")
    server.acts = {"甲": [refused(status, f"Incorrect API key: {KEY}")]}
    with pytest.raises(ValueError, match=said_) as error:
        model(server).answers(prompts("甲"), 8)
    assert KEY not in str(error.value) + caplog.text
    assert "[key]" in str(error.value)


def test_the_key_stands_in_no_result_and_no_file(server, tmp_path):
    server.acts = {
        "甲": [refused(500, KEY)],
        "乙": [body(f"<p>{KEY}</p>", "text/html")],
    }
    cache = tmp_path / "answers.jsonl"
    found = model(server, cache, max_attempts=1).answers(prompts("甲", "乙", "丙"), 8)
    assert KEY not in "".join(one.reason for one in found[:2])
    assert KEY not in cache.read_text(encoding="utf-8")


def test_kept_answers_are_not_asked_again_and_failures_are(server, tmp_path):
    cache = tmp_path / "run" / "answers.jsonl"
    cache.parent.mkdir()
    server.acts = {"乙": [refused(500), said("好了")]}
    asked = prompts("甲", "乙")
    first = model(server, cache, max_attempts=1).answers(asked, 8)
    assert first[0] == "答：甲" and isinstance(first[1], Failure)
    assert model(server, cache).answers(asked, 8) == ["答：甲", "好了"]
    assert (server.asked("甲"), server.asked("乙")) == (1, 2)
    model(server, cache).answers(asked, 9)
    model(server, cache, temperature=0.5).answers(asked, 8)
    model(server, cache, extra={"enable_thinking": False}).answers(asked, 8)
    model(server, cache, served_as="other").answers(asked, 8)
    assert server.asked("甲") == 5
    assert server.got[-3][1]["enable_thinking"] is False
    whole = cache.read_bytes()
    cache.write_bytes(whole + b'{"key": "half')
    assert model(server, cache).answers(asked, 8) == ["答：甲", "好了"]
    assert cache.read_bytes() == whole and server.asked("甲") == 5
    cache.write_bytes(b'{"key": "x"}\n' + whole)
    with pytest.raises(
        ValueError, match="answers.jsonl, line 1: expected key and text"
    ):
        model(server, cache).answers(asked, 8)


KILLED = """
import sys
from finllm_utils.evals.models.endpoint import Endpoint, EndpointSettings
from finllm_utils.evals.models.prompts import user_prompt
settings = EndpointSettings(base_url=sys.argv[1], served_as="qwen", api_key_env="TEST_KEY", concurrency=1)
Endpoint("e", settings, sys.argv[2]).answers([user_prompt(f"item/{t}", t) for t in "甲乙丙"], 8)
"""


def test_a_killed_run_asks_only_what_is_missing(server, tmp_path):
    server.acts = {"丙": [said("晚了", delay=5), said("丙的答案")]}
    cache = tmp_path / "answers.jsonl"
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED, server.url, str(cache)], cwd=REPOSITORY
    )
    deadline = time.monotonic() + 30
    while not server.asked("丙") and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert len(cache.read_text(encoding="utf-8").splitlines()) == 2
    found = model(server, cache).answers(prompts("甲", "乙", "丙"), 8)
    assert found == ["答：甲", "答：乙", "丙的答案"]
    assert [server.asked(t) for t in "甲乙丙"] == [1, 1, 2]


def test_personal_data_leaves_only_when_asked_to(server):
    private = "客户电话13800138000，请核对。"
    model(server).answers(prompts(private), 8)
    model(server, mask=False).answers(prompts(private), 8)
    assert [text for text, _, _ in server.got] == [
        "客户电话[手机号]，请核对。",
        private,
    ]


def test_retry_after_in_all_its_forms():
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "-7"}) == 0
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert 3e8 < retry_after({"retry-after": "Wed, 21 Oct 2065 07:28:00 GMT"})
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "nan"}) is retry_after({}) is None


def test_settings_are_checked(monkeypatch):
    with pytest.raises(ValueError, match="max_attempts=0"):
        EndpointSettings(base_url="http://x", served_as="m", max_attempts=0)
    with pytest.raises(ValueError, match="served_as=''"):
        EndpointSettings(base_url="http://x", served_as="")
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    settings = EndpointSettings(
        base_url="http://x", served_as="m", api_key_env="NO_SUCH_KEY"
    )
    with pytest.raises(ValueError, match="NO_SUCH_KEY is not set"):
        Endpoint("e", settings)
