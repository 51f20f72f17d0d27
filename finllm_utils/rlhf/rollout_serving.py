"""What runs in a rollout worker: answers of a model whose weights the trainer sends.

This one file is copied beside the worker and run by its interpreter, which may lack
this package: only the standard library is imported at the top, and each back end
imports what it needs. The trainer's side is ``rollout_worker``.

Protocol: a socket whose messages are 8 bytes of length, the highest first, and so much
UTF-8 JSON: an object either way, a reply to each request, ``{"error": text}`` on a
fault. ``{"do": "sync", "folder", "version"}`` loads a folder in Hugging Face format;
``{"do": "digest"}`` asks for that of the weights; ``{"do": "sample", "prompts",
"max_new_tokens", "temperature", "eos_id", "pad_id", "seed"}`` gives ``responses``,
token ids up to and including the first EOS. A closed socket ends the worker.
"""

import hashlib
import json
import socket
import struct
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WEIGHTS_FILE = "model.safetensors"
_LENGTH = struct.Struct(">Q")
_LONGEST = 2**30  # bytes; a longer message is a fault


def send(connection: socket.socket, message: dict) -> None:
    """Sends one message."""
    body = json.dumps(message).encode()
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket) -> dict | None:
    """The next message; None when the other side has closed.

    Raises: ValueError for what is no message.
    """
    head = _exactly(connection, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > _LONGEST:
        raise ValueError(
            f"a message of {length} bytes: the other side speaks otherwise"
        )
    body = _exactly(connection, length)
    if body is None:
        return None
    message = json.loads(body)
    if not isinstance(message, dict):
        raise ValueError(f"a message is an object, not {type(message).__name__}")
    return message


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    found = bytearray()
    while len(found) < size:
        part = connection.recv(min(size - len(found), 2**20))
        if not part:
            return None
        found += part
    return bytes(found)


def digest(weights: Iterable[tuple[str, Any]]) -> str:
    """SHA-256 of every tensor's name, kind, shape and bytes, in the names' order."""
    import torch

    found = hashlib.sha256()
    for name, tensor in sorted(weights, key=lambda pair: pair[0]):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        found.update(flat.view(torch.uint8).numpy())
    return found.hexdigest()


class TransformersBackend:
    """Samples as the trainer would: same weights and seed give the same tokens."""

    def __init__(self, options: dict):
        """Args: options may name the ``device``."""
        self._device = options.get("device", "cpu")
        self._model = None

    def sync(self, folder: str) -> None:
        """Takes the weights in ``folder``."""
        from transformers import AutoModelForCausalLM

        self._model = None  # two would not fit
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", local_files_only=True
        )
        self._model = model.eval().to(self._device)

    def digest(self) -> str:
        """Of the model's weights as they are now."""
        return digest(self._model.named_parameters())

    def sample(self, prompts: list[list[int]], **how: Any) -> list[list[int]]:
        """See ``rollout.sample_rollout``."""
        from finllm_utils.rlhf.rollout import sample_rollout

        return sample_rollout(self._model, prompts, **how).response_ids()


class VllmBackend:
    """Samples with vLLM: many times faster on a GPU, other draws from the same seed.

    Its kernels give slightly other probabilities than those that train. That does no
    harm here: PPO recomputes the log-probability of every sampled token.
    """

    def __init__(self, options: dict):
        """Args: options of ``vllm.LLM``, such as ``gpu_memory_utilization``."""
        self._options = options
        self._engine = None
        self._digest = ""

    def sync(self, folder: str) -> None:
        """Takes the weights in ``folder``; the first ones start the engine."""
        from safetensors.torch import load_file
        from vllm import LLM

        path = str(Path(folder) / WEIGHTS_FILE)
        self._digest = digest(load_file(path).items())
        if self._engine is None:
            self._engine = LLM(
                model=folder,
                skip_tokenizer_init=True,
                generation_config="vllm",  # no top-k or top-p of the model's own
                worker_extension_cls=f"{Path(__file__).stem}.VllmWeightLoader",
                **self._options,
            )
            return
        self._engine.collective_rpc("load_weights_from", args=(path,))
        self._engine.reset_prefix_cache()  # it holds keys and values of old weights

    def digest(self) -> str:
        """Of the weights that the engine was given; its own are fused."""
        return self._digest

    def sample(
        self,
        prompts: list[list[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        eos_id: int,
        pad_id: int,
        seed: int,
    ) -> list[list[int]]:
        """One response a prompt from the whole distribution."""
        from vllm import SamplingParams

        params = [
            SamplingParams(
                temperature=temperature,
                top_p=1.0,
                max_tokens=max_new_tokens,
                stop_token_ids=[eos_id],
                detokenize=False,
                seed=seed * len(prompts) + row,
            )
            for row in range(len(prompts))
        ]
        asked = [{"prompt_token_ids": prompt} for prompt in prompts]
        found = self._engine.generate(asked, params, use_tqdm=False)
        return [_with_end(answer.outputs[0], eos_id) for answer in found]


def _with_end(output: Any, eos_id: int) -> list[int]:
    """Token ids with EOS at the end where it was what stopped them."""
    ids = [int(token) for token in output.token_ids]
    if output.finish_reason == "stop" and ids[-1:] != [eos_id]:
        ids.append(eos_id)
    return ids


class VllmWeightLoader:
    """Mixed into vLLM's own workers (``worker_extension_cls``)."""

    def load_weights_from(self, path: str) -> None:
        """Loads the weights in ``path`` into this worker's part of the model."""
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                weights = [(name, file.get_tensor(name))]
                self.model_runner.model.load_weights(weights=weights)


BACKENDS = {"transformers": TransformersBackend, "vllm": VllmBackend}


def serve(connection: socket.socket, backend: Any) -> None:
    """Answers requests until the trainer closes the connection."""
    while (request := receive(connection)) is not None:
        try:
            reply = _answer(backend, request)
        except Exception:
            reply = {"error": traceback.format_exc()}
        send(connection, reply)


def _answer(backend: Any, request: dict) -> dict:
    task = request.pop("do")
    if task == "sync":
        backend.sync(request["folder"])
        return {"version": request["version"]}
    if task == "digest":
        return {"digest": backend.digest()}
    if task == "sample":
        return {"responses": backend.sample(**request)}
    raise ValueError(f"no task is called {task!r}")


if __name__ == "__main__":
    kind, descriptor, told = sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as trainer:
        serve(trainer, BACKENDS[kind](json.loads(told)))
