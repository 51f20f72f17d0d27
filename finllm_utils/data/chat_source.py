"""Where completions come from: an OpenAI-compatible server, a recorded file, a model.

Every maker returns a ``Complete``: messages in, text out. Nothing leaves the machine
unless a ``base_url`` is given, and personal data is masked before a request is sent or
written. ``self_instruct`` asks through it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from finllm_utils.data.pii import mask_pii
from finllm_utils.records import ChatTurn, numbered_lines, parse_line

Complete = Callable[[Sequence[ChatTurn]], str]
"""Gives the assistant's next turn; raises RuntimeError when no answer came."""
Answers = Callable[[object, object, Sequence[Sequence[ChatTurn]], int], list[str]]
_FIELDS = ("request_sha256", "messages", "completion", "model")


def masked(messages: Sequence[ChatTurn]) -> tuple[ChatTurn, ...]:
    """The messages with placeholders for personal data, as ``pii.mask_pii`` sets."""
    return tuple(
        ChatTurn(role=t.role, content=mask_pii(t.content)[0]) for t in messages
    )


def request_sha256(messages: Sequence[ChatTurn]) -> str:
    """SHA-256 of the messages in their order, as hex; 64 characters."""
    plain = [[turn.role, turn.content] for turn in messages]
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def endpoint(
    base_url: str,
    model: str,
    api_key_env: str = "OPENAI_API_KEY",
    timeout_s: float = 120.0,
    max_retries: int = 4,
    temperature: float | None = None,
) -> Complete:
    """Completions of a server that speaks ``/v1/chat/completions``.

    Args: base_url ends with the part before ``/chat/completions``, mostly ``/v1``;
    api_key_env names the environment variable with the key, empty for a server without
    keys; max_retries counts repeats after 408, 409, 429, 5xx and lost connections;
    temperature is the server's own when None.
    Raises: ValueError naming the setting for a bad URL or a missing key, and, on a
    call, for a refused key, an unknown model or a refused request; RuntimeError when
    the server fails or answers with something else than a chat completion.
    """
    client = open_client(
        base_url, api_key_env=api_key_env, timeout_s=timeout_s, max_retries=max_retries
    )
    extra = {} if temperature is None else {"temperature": temperature}

    def complete(messages: Sequence[ChatTurn]) -> str:
        sent = [asdict(turn) for turn in masked(messages)]
        try:
            reply = client.chat.completions.create(model=model, messages=sent, **extra)
        except client_errors() as error:
            raise explained(error, base_url, model, api_key_env) from error
        return answer_text(reply, base_url) or ""  # withheld: the parser counts it

    return complete


def open_client(
    base_url: str, *, api_key_env: str, timeout_s: float, max_retries: int
) -> object:
    """The official client for a server; arguments as ``endpoint`` has them.

    Raises: ValueError naming the setting for a bad URL or a missing key.
    """
    if not base_url.startswith(("http://", "https://")):
        raise ValueError(
            f"base_url={base_url!r}: give an address such as http://localhost:8000/v1; "
            "without one use transcript(path) or local(model, ...)"
        )
    key = os.environ.get(api_key_env, "") if api_key_env else "none"
    if not key:
        raise ValueError(
            f"{api_key_env} is not set: put the key of {base_url} there, or pass "
            "api_key_env='' for a server without keys"
        )
    try:
        from openai import OpenAI
    except ImportError as error:
        raise ValueError(
            "endpoint() needs the package openai: pip install openai"
        ) from error
    return OpenAI(
        base_url=base_url, api_key=key, timeout=timeout_s, max_retries=max_retries
    )


def client_errors() -> tuple[type[Exception], ...]:
    """What the client raises when a request fails or its answer is not JSON."""
    from openai import OpenAIError

    return (OpenAIError, json.JSONDecodeError, UnicodeDecodeError)


def explained(
    error: Exception, base_url: str, model: str, api_key_env: str
) -> ValueError | RuntimeError:
    """One of ``client_errors`` in our words; the key is cut out of what servers say.

    ValueError is for what the user must set right, RuntimeError for what may pass.
    """
    from openai import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return _explained_status(error, base_url, model, api_key_env)
    if isinstance(error, APIConnectionError):
        return RuntimeError(
            f"{base_url} cannot be reached ({error.message}): start the server or "
            "correct base_url; raise timeout_s for a slow model"
        )
    return RuntimeError(
        f"{base_url} sent an answer that is not JSON ({error}); check that "
        "base_url ends where /chat/completions begins"
    )


def _explained_status(
    error: object, base_url: str, model: str, api_key_env: str
) -> ValueError | RuntimeError:
    status = error.status_code
    said = without_key(error.message, api_key_env)
    told = f"{base_url} answered {status} ({said:.120})"
    if status in (401, 403):
        what = f"the key in {api_key_env}" if api_key_env else "a request without key"
        return ValueError(f"{told}: it refused {what}; set a valid key")
    if status == 404:
        return ValueError(f"{told}: check model={model!r} and the path of base_url")
    if status in (400, 422):
        return ValueError(f"{told}: change the request or its settings")
    return RuntimeError(
        f"{told} after all retries; run again later, what is recorded stays"
    )


def without_key(text: str, api_key_env: str) -> str:
    """``text`` with [key] for the key: some servers repeat it in what they answer."""
    key = os.environ.get(api_key_env, "")
    return text.replace(key, "[key]") if key else text


def answer_text(reply: object, base_url: str) -> str | None:
    """The text of a chat completion; None where the server withheld it.

    Raises: RuntimeError when ``reply`` is no chat completion.
    """
    try:
        return reply.choices[0].message.content
    except (AttributeError, IndexError, TypeError) as error:
        raise RuntimeError(
            f"{base_url}: the answer is no chat completion ({reply!r:.80}); check "
            "that base_url ends where /chat/completions begins"
        ) from error


def transcript(path: Path | str) -> Complete:
    """Replays a file that ``recording`` wrote; asks nobody.

    Raises: ValueError naming file and line when the file is broken, and, on a call,
    the prompt that is not recorded.
    """
    path = Path(path)
    known = {row["request_sha256"]: row["completion"] for row in exchanges(path)}

    def complete(messages: Sequence[ChatTurn]) -> str:
        sent = masked(messages)
        key = request_sha256(sent)
        if key not in known:
            last = sent[-1].content if sent else ""
            raise ValueError(
                f"{path}: no completion recorded for the prompt {last!r:.100} "
                f"(request_sha256 {key[:12]}); record it with "
                "recording(endpoint(base_url, model), path)"
            )
        return known[key]

    return complete


def exchanges(path: Path | str) -> list[dict]:
    """The records of a transcript, each checked against its own digest.

    Fields: request_sha256, messages, completion, model, and what else was written.
    Raises: ValueError naming file, line and field.
    """
    found, seen = [], set()
    for number, row in numbered_lines(Path(path)):
        found.append(_exchange(row, f"{path}, line {number}", seen))
    return found


def _exchange(row: dict, where: str, seen: set[str]) -> dict:
    if missing := [name for name in _FIELDS if name not in row]:
        raise ValueError(
            f"{where}: field {missing[0]!r} is missing; an exchange has "
            f"{', '.join(_FIELDS)}"
        )
    try:
        turns = [ChatTurn(**turn) for turn in row["messages"]]
    except TypeError as error:
        raise ValueError(
            f"{where}: messages are not a list of role and content ({error})"
        ) from error
    key = request_sha256(turns)
    if key != row["request_sha256"]:
        raise ValueError(
            f"{where}: request_sha256 does not belong to the messages ({key[:12]} "
            "does); record the exchange again instead of editing it"
        )
    if key in seen:
        raise ValueError(f"{where}: request {key[:12]} was recorded before; keep one")
    seen.add(key)
    return row


def recording(
    complete: Complete, path: Path | str, model: str = "recorded"
) -> Complete:
    """Asks ``complete`` and writes each exchange to disk before it is returned.

    What ``path`` holds already is replayed, so a killed run loses at most the call in
    progress; half a last line is what such a run leaves and is cut off.
    Raises: ValueError naming file and line when the file is broken elsewhere.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_half_line(path)
    rows = exchanges(path) if path.exists() and path.stat().st_size else []
    known = {row["request_sha256"]: row["completion"] for row in rows}

    def asked(messages: Sequence[ChatTurn]) -> str:
        sent = masked(messages)
        key = request_sha256(sent)
        if key not in known:
            text = complete(sent)
            row = {
                "request_sha256": key,
                "messages": [asdict(turn) for turn in sent],
                "completion": text,
                "model": model,
                "planted": [],
            }
            append_row(path, row)
            known[key] = text
        return known[key]

    return asked


def append_row(path: Path, row: dict) -> None:
    """Writes ``row`` as one more JSON line, on disk before this returns."""
    line = json.dumps(row, ensure_ascii=False) + "\n"
    with open(path, "ab") as handle:
        handle.write(line.encode())
        handle.flush()
        os.fsync(handle.fileno())


def cut_half_line(path: Path) -> None:
    """Removes what stands behind the last line end, unless it is a whole record."""
    data = path.read_bytes() if path.exists() else b""
    tail = data[data.rfind(b"\n") + 1 :]
    if not tail:
        return
    try:
        parse_line(tail, str(path))
    except ValueError:
        os.truncate(path, len(data) - len(tail))
    else:
        with open(path, "ab") as handle:
            handle.write(b"\n")


def local(
    model: object, tokenizer: object, max_new_tokens: int, answers: Answers
) -> Complete:
    """Completions of a model in this process.

    Args: answers writes them, ``greedy_answers`` of evals.models.generate; it is passed
    in because data stands below evals.
    Raises: ValueError when max_new_tokens is not positive.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens={max_new_tokens}: give at least 1")

    def complete(messages: Sequence[ChatTurn]) -> str:
        return answers(model, tokenizer, [messages], max_new_tokens)[0]

    return complete
