"""Answers of a model behind an OpenAI-compatible address, for evaluation.

Many prompts at a time, each asked again after what may pass (429, 5xx, time-outs, lost
connections, replies that are no completion). What never comes is a ``Failure`` of that
item. Answers are kept in a file as they come: a killed run asks only what is missing.
"""

import email.utils
import hashlib
import json
import logging
import math
import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from finllm_utils.data.chat_source import (
    answer_text,
    append_row,
    client_errors,
    cut_half_line,
    explained,
    masked,
    open_client,
    without_key,
)
from finllm_utils.evals.models.prompts import Failure, Prompt
from finllm_utils.files import hold_lock, release_lock
from finllm_utils.records import ChatTurn, numbered_lines

logger = logging.getLogger(__name__)
_AGAIN = (408, 409, 425, 429)  # and 500 up
_SETTINGS = (401, 404)  # key, address or model name are wrong
_FORBIDDEN = 403  # a refused key, or a filter that refused this prompt
_FIRST_WAIT_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointSettings:
    """How one endpoint is asked; checked when made."""

    base_url: str
    """The part before /chat/completions, mostly ending in /v1."""
    served_as: str
    """The model's name there."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable with the key; empty for a server without keys."""
    temperature: float | None = 0.0
    """None leaves it to the server, for models that refuse the setting."""
    extra: Mapping = field(default_factory=dict)
    """Further fields of the request, such as {"enable_thinking": False}."""
    max_tokens_field: str = "max_tokens"
    """What the server calls the limit; newer ones say max_completion_tokens."""
    mask: bool = True
    """Whether personal data is replaced before it is sent."""
    concurrency: int = 4
    timeout_s: float = 60.0
    """Longest silence of the server in a request."""
    max_attempts: int = 4
    """Requests an item, the first included."""
    max_wait_s: float = 30.0
    """Longest pause between two of them, whatever Retry-After says."""
    max_requests: int = 100_000
    """Requests of one call of ``answers``, all items and attempts together."""
    give_up_after: int = 20
    """Items in a row that the server fails, after which the rest is not asked."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_attempts", "max_requests", "give_up_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give at least 1")
        if not self.timeout_s > 0 or self.max_wait_s < 0 or not self.served_as:
            raise ValueError(
                f"timeout_s={self.timeout_s}, max_wait_s={self.max_wait_s}, "
                f"served_as={self.served_as!r}: give a time above 0, a pause of 0 or "
                "more seconds and the model's name at the endpoint"
            )


class _Trouble(Exception):
    """A request without an answer; ``again`` when the next one may have one."""

    def __init__(
        self, reason: str, *, again: bool, wait_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.again, self.wait_s = again, wait_s


class Endpoint:
    """A model of the table that answers over HTTP; see ``prompts.Answering``."""

    def __init__(
        self, name: str, settings: EndpointSettings, cache: Path | str | None = None
    ) -> None:
        """Opens the client; nothing is sent yet.

        Args: cache is the JSONL file that keeps answers, None keeps none. Several
        models may share one; the personal data in it is what ``mask`` left.
        Raises: ValueError naming the setting for a bad address or a missing key.
        """
        self.name = name
        self._settings = settings
        self._cache = Path(cache) if cache else None
        self._client = open_client(
            settings.base_url,
            api_key_env=settings.api_key_env,
            timeout_s=settings.timeout_s,
            max_retries=0,  # counted and spaced here
        )

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int
    ) -> list[str | Failure]:
        """A text or a failure for each prompt; failures are not kept in the cache.

        Raises: ValueError when the server refuses the key, the path or the model
        before anything was answered; RuntimeError when another run holds the cache.
        """
        keys = [self._key(prompt, max_new_tokens) for prompt in prompts]
        if not self._cache:
            return self._asked(prompts, keys, {}, max_new_tokens)
        lock = self._cache.with_name(f".{self._cache.name}.lock")
        hold_lock(lock, str(self._cache), "wait for that run, or name another cache")
        try:
            return self._asked(prompts, keys, self._known(), max_new_tokens)
        finally:
            release_lock(lock)

    def _asked(
        self,
        prompts: Sequence[Prompt],
        keys: Sequence[str],
        found: dict[str, str | Failure],
        max_new_tokens: int,
    ) -> list[str | Failure]:
        run = _Run(self._settings)
        missing = {k: p for k, p in zip(keys, prompts, strict=True) if k not in found}
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            futures = {
                key: pool.submit(self._answer, prompt, key, max_new_tokens, run)
                for key, prompt in missing.items()
            }
            try:
                found |= {key: future.result() for key, future in futures.items()}
            except BaseException:
                run.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        failed = sum(isinstance(found[key], Failure) for key in missing)
        logger.info(
            "%s: %d kept answers, %d asked for in %d requests, %d failed",
            self.name, len(prompts) - len(missing), len(missing), run.requests, failed,
        )  # fmt: skip
        return [found[key] for key in keys]

    def _answer(
        self, prompt: Prompt, key: str, max_new_tokens: int, run: "_Run"
    ) -> str | Failure:
        last = None
        for attempt in range(self._settings.max_attempts):
            if refusal := run.refusal():
                return Failure(f"{refusal}; before that: {last}" if last else refusal)
            try:
                text = self._ask(prompt, max_new_tokens, run)
            except _Trouble as trouble:
                last = without_key(str(trouble), self._settings.api_key_env)
                if not trouble.again:
                    return Failure(last)
                if attempt + 1 < self._settings.max_attempts:
                    run.pause(attempt, trouble.wait_s)
                continue
            run.note(True)
            if self._cache:
                with run.lock:
                    append_row(self._cache, {"key": key, "text": text})
            return text
        run.note(False)
        return Failure(f"{last} ({self._settings.max_attempts} attempts)")

    def _ask(self, prompt: Prompt, max_new_tokens: int, run: "_Run") -> str:
        """The text of one request.

        Raises: _Trouble; ValueError as ``answers``.
        """
        settings = self._settings
        limit = {settings.max_tokens_field: max_new_tokens}
        extra = {} if settings.temperature is None else {
            "temperature": settings.temperature
        }  # fmt: skip
        try:
            reply = self._client.chat.completions.create(
                model=settings.served_as,
                messages=[asdict(turn) for turn in self._sent(prompt)],
                extra_body=limit | dict(settings.extra),
                **extra,
            )
            return _text(reply, settings.base_url)
        except client_errors() as error:
            told = explained(
                error, settings.base_url, settings.served_as, settings.api_key_env
            )
            response = getattr(error, "response", None)
            status = getattr(response, "status_code", 0)
            if status in _SETTINGS and not run.answered:
                raise told from error
            if status == _FORBIDDEN:
                run.note(False)
            raise _Trouble(
                str(told),
                again=not status or status in _AGAIN or status >= 500,
                wait_s=retry_after(response.headers) if response is not None else None,
            ) from error

    def _sent(self, prompt: Prompt) -> tuple[ChatTurn, ...]:
        return masked(prompt.messages) if self._settings.mask else prompt.messages

    def _key(self, prompt: Prompt, max_new_tokens: int) -> str:
        """SHA-256 of what decides the answer; the id tells repeated samples apart."""
        settings = self._settings
        turns = [[turn.role, turn.content] for turn in self._sent(prompt)]
        value = [
            settings.base_url, settings.served_as, settings.temperature,
            dict(settings.extra), max_new_tokens, prompt.id, turns,
        ]  # fmt: skip
        text = json.dumps(value, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _known(self) -> dict[str, str | Failure]:
        """Kept answers by key; half a last line, left by a killed run, is cut off."""
        cut_half_line(self._cache)
        known: dict[str, str | Failure] = {}
        if self._cache.is_file() and self._cache.stat().st_size:
            for number, row in numbered_lines(self._cache):
                if set(row) != {"key", "text"} or not isinstance(row["text"], str):
                    raise ValueError(
                        f"{self._cache}, line {number}: expected key and text; delete "
                        "the line, or name another cache"
                    )
                known[row["key"]] = row["text"]
        return known


class _Run:
    """What the threads of one call share."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.requests = self.answered = self._failed_in_a_row = 0

    def refusal(self) -> str:
        """Why nothing more may be sent; counts the request where it is empty."""
        with self.lock:
            if self.stopped.is_set():
                return "not asked: the run was stopped"
            if self._failed_in_a_row >= self._settings.give_up_after:
                return (
                    f"not asked: the server failed {self._failed_in_a_row} items in a "
                    "row; see to it and run again"
                )
            if self.requests >= self._settings.max_requests:
                return f"not asked: max_requests={self.requests} is used up"
            self.requests += 1
        return ""

    def note(self, answered: bool) -> None:
        """Counts an item that was answered, or failed after all attempts."""
        with self.lock:
            self.answered += answered
            self._failed_in_a_row = 0 if answered else self._failed_in_a_row + 1

    def pause(self, attempt: int, wait_s: float | None) -> None:
        """Waits as the server asks, else twice as long each time; capped."""
        own = (
            _FIRST_WAIT_S * 2**attempt * random.uniform(0.75, 1)
        )  # threads drift apart
        self.stopped.wait(
            min(own if wait_s is None else wait_s, self._settings.max_wait_s)
        )


def _text(reply: object, base_url: str) -> str:
    """The text of a completion.

    Raises: _Trouble where there is none.
    """
    try:
        text = answer_text(reply, base_url)
    except RuntimeError as error:
        raise _Trouble(str(error), again=True) from error
    reason = getattr(reply.choices[0], "finish_reason", None)
    if reason == "content_filter":
        raise _Trouble("the server's content filter withheld the answer", again=False)
    if isinstance(text, str) and text.strip():
        return text
    if reason == "length":
        raise _Trouble(
            "no text within max_new_tokens: the model was still thinking; raise it, "
            "or switch thinking off in extra",
            again=False,
        )
    raise _Trouble(f"the answer is empty or no text ({text!r:.40})", again=True)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to wait, at least 0; None when it does not say.

    Reads retry-after-ms, and Retry-After in seconds or as a date (RFC 9110, 10.2.3).
    """
    for name, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            wait = float(headers.get(name, "")) / divisor
        except ValueError:
            continue
        if math.isfinite(wait):
            return max(0.0, wait)
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
