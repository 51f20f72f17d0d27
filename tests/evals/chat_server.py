"""A chat server on this machine that misbehaves as each test asks it to."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Server:
    """Answers each text by its own list of acts, the last one for ever."""

    def __init__(self) -> None:
        self.acts: dict[str, list] = {}
        self.got: list[tuple[str, dict, dict]] = []
        self.busy = self.most_busy = 0
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = body["messages"][-1]["content"]
                with lock:
                    headers = {k.lower(): v for k, v in self.headers.items()}
                    outer.got.append((text, body, headers))
                    outer.busy += 1
                    outer.most_busy = max(outer.most_busy, outer.busy)
                    acts = outer.acts.get(text, [said(f"答：{text}")])
                    act = acts.pop(0) if len(acts) > 1 else acts[0]
                status, headers, reply, delay = act
                time.sleep(delay)
                with lock:
                    outer.busy -= 1
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(reply.encode())
                except BrokenPipeError:
                    pass  # the client did not wait

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(
            target=self.http.serve_forever, args=(0.01,), daemon=True
        ).start()

    def asked(self, text: str) -> int:
        return sum(one == text for one, _, _ in self.got)


JSON = {"Content-Type": "application/json"}


def said(text: object, reason: str = "stop", delay: float = 0.0) -> tuple:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    reply = {"id": "c", "object": "chat.completion", "created": 0, "model": "m",
             "choices": [choice]}  # fmt: skip
    return 200, JSON, json.dumps(reply), delay


def refused(status: int, message: str = "no", **headers: str) -> tuple:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, JSON | named, json.dumps({"error": {"message": message}}), 0.0


def body(text: str, kind: str = "application/json") -> tuple:
    return 200, {"Content-Type": kind}, text, 0.0


@contextmanager
def running_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that no proxy stands before."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    try:
        yield running
    finally:
        running.http.shutdown()
        running.http.server_close()
