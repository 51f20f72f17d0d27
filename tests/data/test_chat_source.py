"""Completions from a real local server, from a recorded file and from a model."""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from finllm_utils.data.chat_source import (
    endpoint,
    exchanges,
    local,
    masked,
    recording,
    request_sha256,
    transcript,
)
from finllm_utils.dependencies import REPOSITORY
from finllm_utils.records import ChatTurn

ASK = (
    ChatTurn(role="system", content="你是金融培训教材的作者。"),
    ChatTurn(role="user", content="什么是复利？"),
)
PRIVATE = (
    "客户电话13800138000，身份证号110101199003070011，邮箱li@example.com，请核对。"
)
RAW = ("13800138000", "110101199003070011", "li@example.com")


class Server:
    """A chat server on this machine that answers from a list and keeps what it got."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, str, str]] = []
        self.got: list[tuple[str, dict, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append(
                    (self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                )
                status, kind, text = outer.replies.pop(0)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(
            target=self.http.serve_forever, args=(0.01,), daemon=True
        ).start()

    def will_say(self, text: str | None) -> None:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {
            "id": "c", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [choice],
        }  # fmt: skip
        self.replies.append((200, "application/json", json.dumps(reply)))

    def will_fail(self, status: int, message: str = "no") -> None:
        text = json.dumps({"error": {"message": message}})
        self.replies.append((status, "application/json", text))

    def body(self, number: int = -1) -> dict:
        return json.loads(self.got[number][2])


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEST_KEY", "k-123")
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def ask(server: Server, **options: object):
    return endpoint(server.url, "qwen-test", api_key_env="TEST_KEY", **options)


def test_the_client_really_calls_the_server(server):
    server.will_say("本金和利息一起再生利息。")
    assert ask(server)(ASK) == "本金和利息一起再生利息。"
    path, headers, _ = server.got[0]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer k-123"
    assert server.body() == {
        "model": "qwen-test",
        "messages": [{"role": t.role, "content": t.content} for t in ASK],
    }


def test_settings_reach_the_server(server):
    server.will_say("好。")
    ask(server, temperature=0.5)(ASK)
    assert server.body()["temperature"] == 0.5


def test_personal_data_never_reaches_the_server(server):
    server.will_say("已核对。")
    ask(server)([*ASK, ChatTurn(role="user", content=PRIVATE)])
    sent = server.got[0][2].decode()
    assert not any(raw in sent or raw in json.dumps(server.body()) for raw in RAW)
    last = server.body()["messages"][-1]["content"]
    assert last == "客户电话[手机号]，身份证号[身份证号]，邮箱[邮箱]，请核对。"
    assert masked(masked(ASK)) == masked(ASK)


def test_a_withheld_answer_is_empty(server):
    server.will_say(None)
    assert ask(server)(ASK) == ""


def test_a_failing_server_is_asked_again(server):
    server.will_fail(500)
    server.will_fail(503)
    server.will_say("好。")
    assert ask(server, max_retries=2)(ASK) == "好。"
    assert len(server.got) == 3
    assert server.body(0) == server.body(2)


def test_a_server_that_keeps_failing_is_named(server):
    for _ in range(3):
        server.will_fail(500, "out of memory")
    with pytest.raises(RuntimeError, match="500.*out of memory.*after all retries"):
        ask(server, max_retries=2)(ASK)
    assert len(server.got) == 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "key in TEST_KEY"),
        (403, "key in TEST_KEY"),
        (404, "model='qwen-test'"),
        (400, "change the request"),
    ],
)
def test_refusals_name_the_setting_and_are_not_repeated(server, status, said):
    server.will_fail(status)
    with pytest.raises(ValueError, match=said):
        ask(server)(ASK)
    assert len(server.got) == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("application/json", '{"choices": ['),
        ("text/html", "<html>login</html>"),
        ("application/json", '{"hello": 1}'),
        ("application/json", '{"choices": []}'),
        ("application/json", "[]"),
    ],
)
def test_other_answers_than_completions_are_named(server, kind, text):
    server.replies.append((200, kind, text))
    with pytest.raises(RuntimeError, match="base_url ends where"):
        ask(server, max_retries=0)(ASK)


def test_settings_are_checked_before_anything_is_sent(server, monkeypatch):
    with pytest.raises(ValueError, match="base_url=''"):
        endpoint("", "m", api_key_env="TEST_KEY")
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ValueError, match="TEST_KEY is not set"):
        ask(server)
    server.will_say("好。")
    assert endpoint(server.url, "m", api_key_env="")(ASK) == "好。"
    assert len(server.got) == 1


def test_an_absent_server_is_named(server):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(RuntimeError, match="cannot be reached"):
        ask(server, max_retries=0, timeout_s=2.0)(ASK)


def counted(answers: list[str]):
    """A source that hands out answers, and the list of what it was asked."""
    asked: list = []

    def complete(messages):
        asked.append(messages)
        return answers[len(asked) - 1]

    return complete, asked


def prompts(number: int) -> list[tuple[ChatTurn, ...]]:
    return [(ChatTurn(role="user", content=f"第{i}个问题？"),) for i in range(number)]


def test_a_recording_asks_once_and_the_transcript_replays_it(tmp_path):
    path = tmp_path / "run" / "log.jsonl"
    complete, asked = counted(["甲", "乙"])
    source = recording(complete, path, model="m-7b")
    assert [source(p) for p in prompts(2)] == ["甲", "乙"]
    assert [source(p) for p in prompts(2)] == ["甲", "乙"]
    assert len(asked) == 2
    assert [transcript(path)(p) for p in prompts(2)] == ["甲", "乙"]
    rows = exchanges(path)
    assert [row["model"] for row in rows] == ["m-7b", "m-7b"]
    assert rows[0]["request_sha256"] == request_sha256(prompts(1)[0])


def test_what_is_written_and_asked_is_masked(tmp_path):
    complete, asked = counted(["好。"])
    private = (ChatTurn(role="user", content=PRIVATE),)
    recording(complete, tmp_path / "log.jsonl")(private)
    text = (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    assert not any(raw in text for raw in RAW)
    assert not any(raw in asked[0][0].content for raw in RAW)
    assert transcript(tmp_path / "log.jsonl")(private) == "好。"


def test_a_prompt_that_is_not_recorded_is_named(tmp_path):
    complete, _ = counted(["好。"])
    recording(complete, tmp_path / "log.jsonl")(ASK)
    with pytest.raises(ValueError, match=r"第0个问题.*recording\(endpoint"):
        transcript(tmp_path / "log.jsonl")(prompts(1)[0])


def test_half_a_last_line_is_cut_off_and_asked_again(tmp_path):
    path = tmp_path / "log.jsonl"
    complete, _ = counted(["甲", "乙"])
    source = recording(complete, path)
    for prompt in prompts(2):
        source(prompt)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for left in (first + 1, first + 40, len(whole) - 2):
        path.write_bytes(whole[:left])
        complete, asked = counted(["乙"])
        source = recording(complete, path)
        assert [source(p) for p in prompts(2)] == ["甲", "乙"]
        assert len(asked) == 1 and path.read_bytes() == whole
    path.write_bytes(whole[:-1])  # only the line end is missing: nothing is lost
    complete, asked = counted([])
    assert [recording(complete, path)(p) for p in prompts(2)] == ["甲", "乙"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda row: row["messages"][0].update(content="改了"),
            "line 2: request_sha256",
        ),
        (lambda row: row.pop("completion"), "line 2: field 'completion'"),
        (lambda row: row.update(messages=[{"text": "x"}]), "line 2: messages are not"),
    ],
)
def test_a_broken_record_is_named(tmp_path, change, said):
    path = tmp_path / "log.jsonl"
    complete, _ = counted(["甲", "乙"])
    source = recording(complete, path)
    for prompt in prompts(2):
        source(prompt)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(rows[1])
    path.write_text("\n".join(json.dumps(r) for r in rows) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        transcript(path)
    with pytest.raises(ValueError, match=said):
        recording(complete, path)


def test_a_request_recorded_twice_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    complete, _ = counted(["甲"])
    recording(complete, path)(ASK)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match="line 2.*recorded before"):
        transcript(path)


KILLED = """
import sys, time
from finllm_utils.data.chat_source import recording
from finllm_utils.records import ChatTurn

def complete(messages):
    if "第2个" in messages[0].content:
        print("asking", flush=True)
        time.sleep(60)
    return "答：" + messages[0].content

source = recording(complete, sys.argv[1])
for i in range(5):
    source((ChatTurn(role="user", content=f"第{i}个问题？"),))
"""


def test_a_killed_run_loses_only_the_call_in_progress(tmp_path):
    path = tmp_path / "log.jsonl"
    command = [sys.executable, "-c", KILLED, str(path)]
    run = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"asking\n"
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()
    assert [row["completion"] for row in exchanges(path)] == [
        "答：第0个问题？",
        "答：第1个问题？",
    ]
    complete, asked = counted(["二", "三", "四"])
    source = recording(complete, path)
    answers = [source(p) for p in prompts(5)]
    assert answers == ["答：第0个问题？", "答：第1个问题？", "二", "三", "四"]
    assert len(asked) == 3 and len(exchanges(path)) == 5


def test_a_model_in_this_process_answers():
    def answers(model, tokenizer, conversations, max_new_tokens):
        assert (model, tokenizer, max_new_tokens) == ("model", "tokenizer", 5)
        return [f"{len(turns)} turns" for turns in conversations]

    assert local("model", "tokenizer", 5, answers)(ASK) == "2 turns"
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        local("model", "tokenizer", 0, answers)
