"""Rollouts in a process of their own, which gets the policy's weights before each.

    with RolloutWorker("vllm", python="vllm-env/bin/python") as sample:
        train_ppo(..., sample=sample)

The worker samples, everything else stays with the trainer: the log-probabilities that
train are recomputed here, so a back end with other kernels (vLLM's differ in the third
digit) changes who is sampled and no ratio. Weights go through a folder in shared memory
as safetensors, requests through a socket as JSON: nothing is unpickled.
Of several processes each starts its own worker.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from finllm_utils.files import atomic_folder
from finllm_utils.rlhf import rollout_serving
from finllm_utils.rlhf.rollout import Rollout, join_rollout, left_pad
from finllm_utils.rlhf.rollout_serving import BACKENDS, WEIGHTS_FILE, digest

SHARED_MEMORY = Path("/dev/shm")  # Linux; elsewhere the folder for temporary files
PACKAGE_HOME = Path(__file__).resolve().parents[2]
LAST_WORDS_S = 5.0  # that a process which closed its socket has to end by itself
LOG_LINES = 5  # of the worker's last words in an error
_REMEDY = (
    "Nothing is lost but this update: the last checkpoint stands. Load policy and "
    "critic again and call train_ppo as before with a new worker, or without sample to "
    "sample in this process"
)


class RolloutWorkerError(RuntimeError):
    """A rollout worker died, is silent or answers nonsense; says what to do."""


class RolloutWorker:
    """A sampler for ``train_ppo`` whose model lives in another process."""

    def __init__(
        self,
        backend: str = "transformers",
        *,
        python: Path | str = sys.executable,
        options: dict | None = None,
        dtype: torch.dtype | None = None,
        timeout_s: float = 1_800.0,
        environment: dict[str, str] | None = None,
    ):
        """Starts the process; it loads a model when the first weights come.

        Args: python is the interpreter of an environment that has the back end;
        options go to it (``device`` for transformers, arguments of ``vllm.LLM``);
        weights are sent in dtype, as they are when not given; timeout_s is for one
        answer, the first of which starts the engine; environment is added, such as
        CUDA_VISIBLE_DEVICES.
        Raises: ValueError for an unknown back end or an interpreter that cannot start.
        """
        if backend not in BACKENDS:
            known = ", ".join(BACKENDS)
            raise ValueError(f"rollout back end {backend!r}: use one of {known}")
        self._dtype, self._timeout_s, self._version = dtype, timeout_s, 0
        self._folder = Path(tempfile.mkdtemp(prefix="finllm-rollout-"))
        shared = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        self._weights = Path(tempfile.mkdtemp(prefix="finllm-weights-", dir=shared))
        self._log = self._folder / "worker.log"
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(timeout_s)
        try:
            with theirs, open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    [
                        str(python),
                        str(self._code()),
                        backend,
                        str(theirs.fileno()),
                        json.dumps(options or {}),
                    ],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=os.environ | self._paths(backend) | (environment or {}),
                )
        except OSError as error:
            self._clear()
            raise ValueError(
                f"the rollout worker's interpreter {python} cannot be started "
                f"({error}): give the python of an environment that has {backend}"
            ) from error

    def _code(self) -> Path:
        """A copy of the worker's one file, alone in its folder."""
        source = Path(rollout_serving.__file__)
        return Path(shutil.copy(source, self._folder / source.name))

    def _paths(self, backend: str) -> dict[str, str]:
        """The folder that vLLM's own processes import from; ours for our sampler."""
        paths = [str(self._folder)]
        if backend == "transformers":
            paths.append(str(PACKAGE_HOME))
        threads = str(torch.get_num_threads())  # so that sums have the same order
        return {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": threads}

    def __enter__(self) -> "RolloutWorker":
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends the process and removes its files."""
        self.close()

    def close(self) -> None:
        """Ends the process and removes its files; again does nothing."""
        self._connection.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._clear()

    def _clear(self) -> None:
        self._connection.close()
        for folder in (self._folder, self._weights):
            shutil.rmtree(folder, ignore_errors=True)

    def __call__(
        self,
        policy: LlamaForCausalLM,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        eos_id: int,
        pad_id: int,
        seed: int,
    ) -> Rollout:
        """As ``rollout.sample_rollout``, by the worker, with the policy's weights.

        Raises: RolloutWorkerError naming the remedy.
        """
        self.sync(policy)
        asked = {
            "do": "sample",
            "prompts": [[int(token) for token in prompt] for prompt in prompts],
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "eos_id": eos_id,
            "pad_id": pad_id,
            "seed": seed,
        }
        responses = self._ask(asked, "responses")
        self._require_whole(responses, len(prompts), max_new_tokens, eos_id)
        ids_BP, mask_BP = left_pad(prompts, pad_id)
        width = max(len(ids) for ids in responses)
        rows = [ids + [pad_id] * (width - len(ids)) for ids in responses]
        return join_rollout(
            ids_BP, mask_BP, torch.tensor(rows), eos_id=eos_id, pad_id=pad_id
        ).to(policy.device)

    def sync(self, policy: LlamaForCausalLM) -> None:
        """Gives the worker the policy's weights; the first time it proves to have them.

        Raises: RolloutWorkerError when its digest differs, or as above.
        """
        self._version += 1
        folder = self._weights / f"version_{self._version:06d}"
        weights = _distinct_weights(policy, self._dtype)
        with atomic_folder(folder) as unfinished:
            policy.config.save_pretrained(unfinished)
            save_file(weights, unfinished / WEIGHTS_FILE, metadata={"format": "pt"})
        asked = {"do": "sync", "folder": str(folder), "version": self._version}
        held = self._ask(asked, "version")
        if held != self._version:
            self._fail(f"holds version {held} of the weights, not {self._version}")
        if self._version == 1 and self.digest() != digest(weights.items()):
            self._fail("holds other weights than it was sent")
        shutil.rmtree(folder)  # the worker has loaded it

    def digest(self) -> str:
        """The worker's digest of its weights, as ``rollout_serving.digest``."""
        return self._ask({"do": "digest"}, "digest")

    def _ask(self, request: dict, wanted: str) -> object:
        try:
            rollout_serving.send(self._connection, request)
            reply = rollout_serving.receive(self._connection)
        except TimeoutError:
            self._fail(
                f"gave no answer in {self._timeout_s:g} s (raise timeout_s if it only "
                "is slow)"
            )
        except (OSError, ValueError) as error:
            self._fail(f"cannot be talked to ({error})")
        if reply is None:
            self._fail("died", LAST_WORDS_S)
        if wanted not in reply:
            self._fail(f"failed: {reply.get('error', reply)}")
        return reply[wanted]

    def _require_whole(
        self, responses: object, count: int, max_new_tokens: int, eos_id: int
    ) -> None:
        """Every response ends in EOS or is as long as it may be."""
        if not isinstance(responses, list) or len(responses) != count:
            self._fail(f"gave no list of {count} responses")
        for row, ids in enumerate(responses):
            ended = ids[-1:] == [eos_id] or len(ids) == max_new_tokens
            if not ids or not ended or len(ids) > max_new_tokens:
                self._fail(
                    f"ended response {row} after {len(ids)} of {max_new_tokens} tokens "
                    "without EOS: give its model a longer context (max_model_len)"
                )

    def _fail(self, what: str, wait_s: float = 0.0) -> NoReturn:
        """Ends the process; raises RolloutWorkerError with its last words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        self._process.kill()
        code = self._process.wait()
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        said = "; its last words: " + " | ".join(lines) if lines else ""
        raise RolloutWorkerError(
            f"the rollout worker {what} (exit code {code}{said}). {_REMEDY}"
        )


def _distinct_weights(
    policy: LlamaForCausalLM, dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    """Weights by name, tied ones once: the configuration says that they are tied."""
    found, seen = {}, set()
    for name, parameter in policy.named_parameters():
        if parameter.data_ptr() not in seen:
            seen.add(parameter.data_ptr())
            found[name] = parameter.detach().to("cpu", dtype or parameter.dtype)
    return found
