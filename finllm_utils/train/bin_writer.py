"""Corpus to bins: texts become one file of token ids, restartable and in parallel.

The corpus is streamed in parts. A finished part is a file that carries the digest of
its texts, so a killed run that is started again tokenises only what is missing, and the
bin comes out byte for byte the same at any number of processes. ``bins`` reads it.
"""

import hashlib
import json
import math
import multiprocessing
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer

from finllm_utils.files import atomic_file, write_json

if TYPE_CHECKING:  # a worker starts several seconds sooner without transformers
    from transformers import PreTrainedTokenizerBase

PART_CHARS = 2**21  # about a second of one core
_SLICE_CHARS = 2**18  # an encoding in memory takes some 100 bytes a token
_FORMAT = "bin 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class BinMeta:
    """What ``name.json`` says about a bin; it is written last."""

    tokens: int
    documents: int
    dtype: str
    """uint16 below 65,536 tokens of vocabulary, else uint32."""
    vocab_size: int
    max_id: int
    """Largest id in the bin: a model needs more embedding rows than that."""
    tokenizer: str
    """``tokenizer_fingerprint`` of the tokenizer that wrote it."""
    text_bytes: int
    """UTF-8 bytes of the texts."""
    sha256: dict[str, str]
    """Digest of each file, by suffix; ``.score`` is there when texts have scores."""


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of the tokenizer's serialised JSON.

    Truncation and padding are left out: a call may switch them, ids do not depend on
    them here.
    Raises: ValueError for a tokenizer without a ``tokenizer.json``.
    """
    return _digest(_tokenizer_json(tokenizer))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _tokenizer_json(tokenizer: "PreTrainedTokenizerBase") -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(
            f"{type(tokenizer).__name__} has no tokenizer.json: load a fast tokenizer, "
            "for example with AutoTokenizer.from_pretrained(folder, use_fast=True)"
        )
    value = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


class DocumentEncoder:
    """Texts to ``BOS text EOS`` ids, exactly as the tokenizer itself gives them."""

    def __init__(self, text: str, bos_id: int, eos_id: int, vocab_size: int) -> None:
        """Loads a tokenizer from its JSON; it may lie in another process."""
        self._tokenizer = Tokenizer.from_str(text)
        edges = self._tokenizer.encode("").ids
        self._head = [] if edges[:1] == [bos_id] else [bos_id]
        self._tail = [] if edges[-1:] == [eos_id] else [eos_id]
        self._vocab_size = vocab_size
        self.dtype = np.dtype(np.uint16 if vocab_size < 2**16 else np.uint32)

    def encode(self, texts: list[str], where: str, first: int) -> tuple:
        """Token ids of all texts end to end, and tokens in each, (documents,) int64.

        Args: where and first name a document in errors: the domain, and the number of
        the first text in it.
        Raises: ValueError for an id outside the vocabulary.
        """
        pieces, lengths = [], []
        for part in _grouped(texts, len, _SLICE_CHARS):
            encoded = self._tokenizer.encode_batch_fast(part)
            ids = [self._head + e.ids + self._tail for e in encoded]
            lengths += map(len, ids)
            count = sum(map(len, ids))
            flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=count)
            if flat.max() >= self._vocab_size:
                bad = next(i for i, d in enumerate(ids) if max(d) >= self._vocab_size)
                number = first + len(lengths) - len(part) + bad
                raise ValueError(
                    f"{where}, document {number}: token id {max(ids[bad])} is beyond "
                    f"the vocabulary of {self._vocab_size}: the tokenizer's added "
                    "tokens leave gaps in its ids; number them without gaps"
                )
            pieces.append(flat.astype(self.dtype))
        return np.concatenate(pieces), np.array(lengths, dtype=np.int64)


def write_bin(
    folder: Path,
    name: str,
    texts: Iterable[str],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    scores: Iterable[float] | None = None,
    num_workers: int = 1,
    parts: Path | None = None,
) -> int:
    """Tokenises texts into ``folder/name.bin``, ``.idx``, ``.json``; number of tokens.

    Args:
        texts: read once and never held as a whole.
        scores: quality of each text, for ``document_order="knowledge_first"``.
        num_workers: processes; 1 leaves the parallel work to the tokenizer's threads.
        parts: where finished parts wait until the bin is whole; a folder that outlives
            a killed run (default: beside the bin).

    Raises: ValueError when there is no text, a text is not a string, scores do not
    match the texts, or the tokenizer cannot mark where documents start and end.
    """
    folder, where = Path(folder), f"domain {name!r}"
    encoder = _encoder_arguments(tokenizer)
    fingerprint = _digest(encoder[0])
    format_key = repr((_FORMAT, fingerprint, encoder[1:]))
    parts = Path(parts or folder) / f".{name}.parts"
    documents = _documents(texts, scores, where)
    files, text_bytes = [], 0
    with ExitStack() as stack:
        submit = stack.enter_context(_Workers(num_workers, encoder)).submit
        waiting: deque[Future] = deque()
        number = 0
        for group in _grouped(documents, lambda d: len(d[0]), PART_CHARS):
            part = _Part(group, format_key, where, number)
            text_bytes += part.text_bytes
            number += len(group)
            files.append(parts / f"{len(files):06d}.safetensors")
            if not part.is_in(files[-1]):
                waiting.append(submit(part, files[-1]))
            while len(waiting) > 2 * num_workers:  # texts in flight are memory
                waiting.popleft().result()
        for future in waiting:
            future.result()
    if not files:
        raise ValueError(f"no text for {where}: check data.sources and 01's funnel")
    found = _join(folder / name, files, scored=scores is not None)
    meta = BinMeta(
        **found,
        vocab_size=len(tokenizer),
        tokenizer=fingerprint,
        text_bytes=text_bytes,
    )
    write_json(folder / f"{name}.json", asdict(meta))
    shutil.rmtree(parts)
    return meta.tokens


def _encoder_arguments(tokenizer: "PreTrainedTokenizerBase") -> tuple:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if bos is None or eos is None or bos == eos:
        raise ValueError(
            f"bos_token={tokenizer.bos_token!r} and eos_token={tokenizer.eos_token!r} "
            "must be two tokens: rows tell documents apart by BOS, and a model learns "
            "to stop from EOS; set both on the tokenizer"
        )
    return _tokenizer_json(tokenizer), bos, eos, len(tokenizer)


def _documents(
    texts: Iterable[str], scores: Iterable[float] | None, where: str
) -> Iterator[tuple[str, float]]:
    """(text, score) pairs, checked; the score is 0 where there are none."""
    absent = object()
    if scores is None:
        pairs = ((text, 0.0) for text in texts)
    else:
        pairs = zip_longest(texts, scores, fillvalue=absent)
    for number, (text, score) in enumerate(pairs):
        place = f"{where}, document {number}"
        if text is absent or score is absent:
            raise ValueError(f"{place}: give as many scores as there are texts")
        if not isinstance(text, str):
            raise ValueError(f"{place}: {type(text).__name__} instead of a text")
        if not isinstance(score, Real) or not math.isfinite(score):
            raise ValueError(f"{place}: its score is {score}; give a finite number")
        yield text, float(score)


def _grouped(items: Iterable, size: Callable, limit: int) -> Iterator[list]:
    """Lists of consecutive items whose sizes first reach ``limit`` together."""
    group, total = [], 0
    for item in items:
        group.append(item)
        total += size(item)
        if total >= limit:
            yield group
            group, total = [], 0
    if group:
        yield group


class _Part:
    """Documents that one task tokenises, and the digest that names them."""

    def __init__(self, group: list, format_key: str, where: str, first: int) -> None:
        self.texts = [text for text, _ in group]
        self.scores = np.array([score for _, score in group], dtype=np.float32)
        self.where, self.first = where, first
        digest = hashlib.sha256(f"{format_key} {len(group)}".encode())
        digest.update(self.scores.tobytes())
        self.text_bytes = 0
        for text in self.texts:
            data = text.encode()
            self.text_bytes += len(data)
            digest.update(len(data).to_bytes(8, "little") + data)
        self.digest = digest.hexdigest()

    def is_in(self, path: Path) -> bool:
        """Whether ``path`` holds the tokens of these very documents."""
        try:
            with safe_open(path, framework="numpy") as file:
                return file.metadata()["digest"] == self.digest
        except (FileNotFoundError, SafetensorError):
            return False

    def write(self, path: Path, encoder: DocumentEncoder) -> None:
        """Tokenises into ``path``, which is whole or absent."""
        tokens, lengths = encoder.encode(self.texts, self.where, self.first)
        arrays = {"tokens": tokens, "lengths": lengths, "scores": self.scores}
        with atomic_file(path, "wb") as handle:
            handle.write(save(arrays, {"digest": self.digest}))


class _Workers:
    """Runs parts here, or in processes that end with this one."""

    def __init__(self, num_workers: int, encoder: tuple) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers={num_workers}: use 1 or more")
        self._num_workers, self._arguments = num_workers, encoder
        self._pool, self._encoder = None, None
        self._others = set(multiprocessing.active_children())

    def __enter__(self) -> "_Workers":
        return self

    def submit(self, part: _Part, path: Path) -> Future:
        """A future of the written part; already done when there is one worker."""
        if self._num_workers > 1:
            return self._started_pool().submit(_write_part, part, path)
        self._encoder = self._encoder or DocumentEncoder(*self._arguments)
        part.write(path, self._encoder)
        done = Future()
        done.set_result(None)
        return done

    def _started_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            multiprocessing.set_forkserver_preload([__name__])
            self._pool = ProcessPoolExecutor(
                self._num_workers,
                mp_context=multiprocessing.get_context("forkserver"),
                initializer=_start_worker,
                initargs=self._arguments,
            )
        return self._pool

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        if self._pool is None:
            return
        if kind is not None:  # nobody waits for parts of a run that failed
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self._pool.shutdown(cancel_futures=True)
        if kind is not None and issubclass(kind, BrokenProcessPool):
            raise RuntimeError(
                "a tokenising process was killed, most often for lack of memory: lower "
                "num_workers and run the same again; finished parts stay"
            ) from error


_worker_encoder: DocumentEncoder | None = None


def _start_worker(*arguments: object) -> None:
    global _worker_encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process a core is enough
    _worker_encoder = DocumentEncoder(*arguments)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_part(part: _Part, path: Path) -> None:
    part.write(path, _worker_encoder)


def _join(path: Path, files: list[Path], *, scored: bool) -> dict[str, object]:
    """Joins parts into ``.bin``, ``.idx`` and ``.score``; what the meta file says."""
    suffixes = (".bin", ".idx", *([".score"] if scored else []))
    digests = {suffix: hashlib.sha256() for suffix in suffixes}
    tokens, documents, max_id, dtype = 0, 0, 0, ""
    with ExitStack() as stack:
        out = {
            suffix: stack.enter_context(
                atomic_file(path.with_name(path.name + suffix), "wb")
            )
            for suffix in suffixes
        }

        def write(suffix: str, array: np.ndarray) -> None:
            data = array.tobytes()
            digests[suffix].update(data)
            out[suffix].write(data)

        write(".idx", np.zeros(1, dtype=np.int64))
        for file in files:
            part = load_file(file)
            write(".bin", part["tokens"])
            write(".idx", tokens + np.cumsum(part["lengths"]))
            if scored:
                write(".score", part["scores"])
            tokens += len(part["tokens"])
            documents += len(part["lengths"])
            max_id = max(max_id, int(part["tokens"].max()))
            dtype = part["tokens"].dtype.name
        # Without its meta file a bin counts as unfinished: never new data, old meta.
        for stale in (".json", ".score"):
            path.with_name(path.name + stale).unlink(missing_ok=True)
    return {
        "tokens": tokens,
        "documents": documents,
        "dtype": dtype,
        "max_id": max_id,
        "sha256": {suffix: digest.hexdigest() for suffix, digest in digests.items()},
    }
