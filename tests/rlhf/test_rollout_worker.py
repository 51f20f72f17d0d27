"""Rollouts of another process: its weights, its answers and how it may fail."""

import ast
import importlib.util
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from finllm_utils.rlhf import rollout_serving as serving
from finllm_utils.rlhf import rollout_worker
from finllm_utils.rlhf.rollout import sample_rollout
from finllm_utils.rlhf.rollout_worker import RolloutWorker, RolloutWorkerError
from finllm_utils.train.checkpoint import whole_checkpoints
from tests.rlhf.conftest import EOS
from tests.rlhf.small_ppo import IDS, PROMPTS, networks, same, train

HOW = {"max_new_tokens": 5, "temperature": 0.8, "seed": 11, **IDS}
FAKE = '''#!{python}
"""Speaks the protocol with nothing but the standard library."""
import json, os, socket, struct, sys, time
fault = {fault!r}
_, code, kind, descriptor, options = sys.argv
link = socket.socket(fileno=int(descriptor))
def read(size):
    found = b""
    while len(found) < size:
        part = link.recv(size - len(found))
        if not part:
            sys.exit(0)
        found += part
    return found
print("hello from the fake", kind, json.loads(options), flush=True)
while True:
    asked = json.loads(read(struct.unpack(">Q", read(8))[0]))
    reply = {{}}
    if asked["do"] == "sync":
        assert sorted(os.listdir(asked["folder"])) == {files!r}
        reply = {{"version": asked["version"]}}
    elif asked["do"] == "digest":
        reply = {{"digest": {digest!r}}}
    elif fault == "dies":
        os._exit(7)
    elif fault == "sleeps":
        time.sleep(60)
    elif fault == "fails":
        reply = {{"error": "out of memory"}}
    elif fault == "babbles":
        link.sendall(b"HTTP/1.1 200 OK")
    else:
        rows = [[prompt[-1], 9] for prompt in asked["prompts"]]
        rows = rows if fault == "stops" else [row + [{eos}] for row in rows]
        reply = {{"responses": rows[1:] if fault == "forgets" else rows}}
    body = json.dumps(reply).encode()
    link.sendall(struct.pack(">Q", len(body)) + body)
'''


def fake_python(folder, policy, fault=""):
    """An interpreter that runs no code of ours and answers in the protocol."""
    path = folder / "python"
    held = "" if fault == "other" else serving.digest(policy.named_parameters())
    text = FAKE.format(
        python=sys.executable,
        fault=fault,
        files=["config.json", "model.safetensors"],
        digest=held,
        eos=EOS,
    )
    path.write_text(text)
    path.chmod(0o700)
    return path


@pytest.fixture(scope="module")
def worker():
    torch.set_num_threads(1)
    with RolloutWorker(timeout_s=120) as found:
        yield found


def weights_left():
    return list(rollout_worker.SHARED_MEMORY.glob("finllm-weights-*/version_*"))


@pytest.mark.parametrize("tied", [False, True])
def test_after_a_sync_weights_and_rollouts_are_the_trainers_to_the_bit(worker, tied):
    before = worker.digest() if worker._version else ""
    policy = networks(seed=4 + tied, tie_word_embeddings=tied)[0]
    how = HOW | {"max_new_tokens": 16}
    expected = sample_rollout(policy, PROMPTS, **how)
    found = worker(policy, PROMPTS, **how)
    assert worker.digest() == serving.digest(policy.named_parameters()) != before
    for name in ("ids_BL", "attention_mask_BL", "response_mask_BT"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert len(set(found.lengths_B.tolist())) > 1, "some end before others"
    with torch.no_grad():
        next(policy.parameters()).view(-1)[7] += 1e-7
    assert worker.digest() != serving.digest(policy.named_parameters())
    assert not weights_left()


@pytest.mark.parametrize("lora", [False, True])
def test_a_run_with_a_worker_is_the_run_without(worker, lora):
    options = {"num_updates": 3}
    if lora:
        options |= {"trainable": "lora", "lora_rank": 4, "train_embeddings": False}
    nets, history = train(sample=worker, **options)
    alone, expected = train(**options)
    assert history == expected and same(nets, alone)


def test_weights_can_be_sent_in_bfloat16(tmp_path):
    policy = networks()[0]
    sent = rollout_worker._distinct_weights(policy, torch.bfloat16)
    name, weight = next(iter(policy.named_parameters()))
    assert torch.equal(sent[name], weight.detach().bfloat16())
    assert serving.digest(sent.items()) != serving.digest(policy.named_parameters())


def test_the_protocol_is_all_that_another_interpreter_needs(tmp_path):
    policy = networks()[0]
    python = fake_python(tmp_path, policy)
    with RolloutWorker("vllm", python=python, timeout_s=60) as sample:
        found = sample(policy, PROMPTS[:3], **HOW)
        assert found.response_ids() == [[p[-1], 9, EOS] for p in PROMPTS[:3]]
        assert sample(policy, PROMPTS[:1], **HOW).response_ids() == [[10, 9, EOS]]
        folders = (sample._folder, sample._weights)
        assert "hello from the fake vllm {}" in sample._log.read_text()
    assert not any(folder.exists() for folder in folders)
    sample.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("dies", r"worker died \(exit code 7; its last words: hello from the fake"),
        ("sleeps", r"gave no answer in 4 s \(raise timeout_s"),
        ("fails", "failed: out of memory"),
        ("babbles", "cannot be talked to .* speaks otherwise"),
        ("stops", "ended response 0 after 2 of 5 tokens without EOS.*max_model_len"),
        ("forgets", "gave no list of 3 responses"),
        ("other", "holds other weights than it was sent"),
    ],
)
def test_each_way_to_fail_has_its_error_and_the_remedy(tmp_path, fault, message):
    policy = networks()[0]
    python = fake_python(tmp_path, policy, fault)
    with RolloutWorker("vllm", python=python, timeout_s=4) as sample:
        with pytest.raises(RolloutWorkerError, match=message) as told:
            sample(policy, PROMPTS[:3], **HOW)
        assert "the last checkpoint stands" in str(told.value)
        assert sample._process.poll() is not None, "it is not left behind"


def test_a_worker_that_dies_costs_no_finished_update(tmp_path):
    options = {"num_updates": 3, "checkpoints": tmp_path}
    whole, expected = train(num_updates=3)

    def dying(policy, prompts, **how):
        if how["seed"] >= 3_000:
            raise RolloutWorkerError("it died")
        return sample_rollout(policy, prompts, **how)

    with pytest.raises(RolloutWorkerError):
        train(sample=dying, **options)
    assert [p.name for p in whole_checkpoints(tmp_path)][-1] == "step_000002"
    nets, history = train(**options)
    assert history == expected and same(nets, whole)


def test_what_cannot_start_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="'sglang': use one of transformers, vllm"):
        RolloutWorker("sglang")
    missing = tmp_path / "python"
    with pytest.raises(ValueError, match="cannot be started .* that has vllm"):
        RolloutWorker("vllm", python=missing)


def test_messages_are_json_objects_of_bounded_length():
    here, there = socket.socketpair()
    with here, there:
        serving.send(here, {"a": "贷款", "b": [1, 2.5]})
        assert serving.receive(there) == {"a": "贷款", "b": [1, 2.5]}
        here.sendall(serving._LENGTH.pack(2) + b"[]")
        with pytest.raises(ValueError, match="an object, not list"):
            serving.receive(there)
        here.sendall(serving._LENGTH.pack(2**40))
        with pytest.raises(ValueError, match="speaks otherwise"):
            serving.receive(there)
        here.close()
        assert serving.receive(there) is None


class FakeEngine:
    """Takes what ``vllm.LLM`` takes, and keeps it."""

    def __init__(self, **arguments):
        self.told = [("start", arguments)]

    def collective_rpc(self, method, args=()):
        self.told.append((method, args))
        model = SimpleNamespace(
            load_weights=lambda weights: self.loaded.extend(weights)
        )
        self.loaded = []
        worker = serving.VllmWeightLoader()
        worker.model_runner = SimpleNamespace(model=model)
        getattr(worker, method)(*args)

    def reset_prefix_cache(self):
        self.told.append("reset")

    def generate(self, prompts, params, use_tqdm):
        self.told.append((prompts, params))
        ends = [("stop", [9]), ("stop", [9, EOS]), ("length", [9, 9])]
        return [
            SimpleNamespace(outputs=[SimpleNamespace(finish_reason=why, token_ids=ids)])
            for why, ids in ends[: len(prompts)]
        ]


def test_what_vllm_is_asked_for(tmp_path, monkeypatch):
    """Our calls, not vLLM: its engine is replaced."""
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = FakeEngine, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    policy = networks()[0]
    weights = rollout_worker._distinct_weights(policy, None)
    rollout_worker.save_file(weights, tmp_path / serving.WEIGHTS_FILE)
    backend = serving.VllmBackend({"max_model_len": 64})
    backend.sync(str(tmp_path))
    engine = backend._engine
    assert engine.told[0][1]["max_model_len"] == 64
    loader = engine.told[0][1]["worker_extension_cls"]
    assert loader == "rollout_serving.VllmWeightLoader"
    assert backend.digest() == serving.digest(policy.named_parameters())
    backend.sync(str(tmp_path))
    assert engine.told[-1] == "reset", "no key of old weights is reused"
    found = dict(engine.loaded)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    rows = backend.sample(PROMPTS[:3], **HOW)
    assert rows == [[9, EOS], [9, EOS], [9, 9]]
    asked, params = engine.told[-1]
    assert asked[1] == {"prompt_token_ids": PROMPTS[1]}
    assert len({p.seed for p in params}) == 3
    assert (params[0].top_p, params[0].temperature) == (1.0, 0.8)
    assert params[0].max_tokens == 5 and params[0].stop_token_ids == [EOS]


@pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here"
)
def test_vllm_samples_from_the_weights_it_was_sent():
    """At temperature 0 its tokens are mostly ours; where it is installed."""
    policy = networks()[0]
    how = HOW | {"temperature": 1e-6}
    with RolloutWorker("vllm", options={"enforce_eager": True}) as sample:
        for seed in (0, 1):
            policy = networks(seed)[0]
            found = sample(policy, PROMPTS[:6], **how).response_ids()
            ours = sample_rollout(policy, PROMPTS[:6], **how).response_ids()
            equal = sum(a[0] == b[0] for a, b in zip(found, ours, strict=True))
            assert equal >= 5


def test_the_copied_file_needs_no_package():
    """Only the standard library is imported before a back end is chosen."""
    tree = ast.parse(Path(serving.__file__).read_text(encoding="utf-8"))
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name)
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
