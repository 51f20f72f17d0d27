"""Tiled cross-entropy equals the library's, in value and in both gradients."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from finllm_utils.train import cross_entropy as ours_module
from finllm_utils.train.cross_entropy import (
    CHUNK_NUMBERS,
    TILE_ROWS,
    chunk_tokens,
    cross_entropy_path,
    tiled_cross_entropy,
)


def both(hidden, weight, labels):
    results = []
    for loss_of in (
        tiled_cross_entropy,
        lambda h, w, y: F.cross_entropy(F.linear(h, w).float(), y, reduction="sum"),
    ):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = loss_of(h, w, labels)
        (loss * 0.5).backward()
        results.append((loss.detach(), h.grad, w.grad))
    return results


def test_by_hand():
    # Two classes with logits ln 3 and 0: the first has probability 3/4.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[math.log(3)], [0.0]])
    loss = tiled_cross_entropy(hidden, weight, torch.tensor([0]))
    assert loss.item() == pytest.approx(-math.log(3 / 4), abs=1e-6)


@pytest.mark.parametrize("vocab", [7, TILE_ROWS, TILE_ROWS * 2 + 5])
def test_equals_the_library_in_float32(vocab):
    torch.manual_seed(0)
    hidden, weight = torch.randn(33, 16), torch.randn(vocab, 16)
    labels = torch.randint(0, vocab, (33,))
    ours, theirs = both(hidden, weight, labels)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


def test_bfloat16_is_as_close_as_bfloat16_can_be():
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 32), torch.randn(2_000, 32) * 0.1
    labels = torch.randint(0, 2_000, (64,))
    exact = both(hidden, weight, labels)[1]
    ours, library = both(hidden.bfloat16(), weight.bfloat16(), labels)
    for a, b, c in zip(ours, exact, library, strict=True):
        assert (a - b).norm() <= 1.5 * (c - b).norm() + 1e-3 * b.norm()


def test_a_frequent_label_keeps_all_of_its_gradient():
    # 4,000 equal contributions: a bfloat16 sum would stop growing at 256.
    hidden = torch.ones(4_000, 1, dtype=torch.bfloat16)
    weight = torch.zeros(4, 1, dtype=torch.bfloat16)
    ours, _ = both(hidden, weight, torch.zeros(4_000, dtype=torch.long))
    assert ours[2][0].item() == pytest.approx(-0.5 * 4_000 * 3 / 4, rel=0.01)


@pytest.mark.parametrize("size", [200.0, -200.0])
def test_logits_beyond_exp_fall_back_to_the_library(size):
    hidden = torch.tensor([[1.0, 0.0]])
    weight = torch.tensor([[size, 0.0], [size + 1, 0.0]])
    ours, theirs = both(hidden, weight, torch.tensor([0]))
    assert ours[0] == pytest.approx(math.log(1 + math.e), abs=1e-3)
    assert torch.allclose(ours[2], theirs[2])


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of at most 100 tokens x 50 rows of vocabulary."""
    monkeypatch.setattr(ours_module, "CHUNK_NUMBERS", 5_000)


def run(path, hidden, weight, labels):
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    nats = torch.full((len(labels),), torch.nan)
    loss = tiled_cross_entropy(h, w, labels, path=path, nats_out=nats)
    (loss * 0.5).backward()
    return loss.detach(), nats, h.grad, w.grad


def library(hidden, weight, labels):
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    nats = F.cross_entropy(F.linear(h, w).float(), labels, reduction="none")
    (nats.sum() * 0.5).backward()
    return nats.sum().detach(), nats.detach(), h.grad, w.grad


@pytest.mark.parametrize("path", ["tiles", "softmax"])
@pytest.mark.parametrize("num_tokens", [1, 100, 101, 333])
def test_chunks_equal_the_library(small_chunks, path, num_tokens):
    torch.manual_seed(num_tokens)
    hidden, weight = torch.randn(num_tokens, 8), torch.randn(50, 8)
    labels = torch.randint(0, 50, (num_tokens,))
    labels[::7] = -100
    ours, theirs = run(path, hidden, weight, labels), library(hidden, weight, labels)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=1e-5)
    assert (ours[1][::7] == 0).all() and (ours[2][::7] == 0).all()


@pytest.mark.parametrize("path", ["tiles", "softmax"])
def test_chunks_in_bfloat16_sum_gradients_in_float32(small_chunks, path):
    # 300 chunks of one label: a bfloat16 sum of them would stop growing at 256.
    hidden = torch.ones(30_000, 1, dtype=torch.bfloat16)
    weight = torch.zeros(50, 1, dtype=torch.bfloat16)
    gradient = run(path, hidden, weight, torch.zeros(30_000, dtype=torch.long))[3]
    assert gradient[0].item() == pytest.approx(-0.5 * 30_000 * 49 / 50, rel=0.01)
    assert gradient[1].item() == pytest.approx(0.5 * 30_000 / 50, rel=0.01)


@pytest.mark.parametrize("path", ["tiles", "softmax"])
@pytest.mark.parametrize("size", [85.0, -85.0, 1e4, -1e4])
def test_extreme_logits(path, size):
    hidden = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
    weight = torch.tensor([[size, 1.0], [size + 1, 0.0], [size, 2.0]])
    labels = torch.tensor([0, 1, 2])
    ours, theirs = run(path, hidden, weight, labels), library(hidden, weight, labels)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-2 * abs(size) / 85)
    assert torch.allclose(ours[3], theirs[3], atol=2e-3)


@pytest.mark.parametrize("labels", [[], [-100, -100]])
def test_nothing_to_predict_is_zero_with_zero_gradients(labels):
    hidden, weight = torch.randn(len(labels), 4), torch.randn(5, 4)
    for path in ("tiles", "softmax"):
        loss, nats, *gradients = run(path, hidden, weight, torch.tensor(labels).long())
        assert loss == 0 and (nats == 0).all()
        assert all((g == 0).all() for g in gradients)


@pytest.mark.parametrize("path", ["tiles", "softmax"])
def test_frozen_inputs_get_no_gradient_and_no_work(path):
    hidden, weight = torch.randn(6, 4, requires_grad=True), torch.randn(5, 4)
    labels = torch.randint(0, 5, (6,))
    tiled_cross_entropy(hidden, weight, labels, path=path).backward()
    expected = library(hidden.detach(), weight, labels)[2] * 2
    assert torch.allclose(hidden.grad, expected, atol=1e-6)
    frozen, weight = hidden.detach(), weight.requires_grad_()
    tiled_cross_entropy(frozen, weight, labels, path=path).backward()
    assert torch.allclose(weight.grad, library(frozen, weight.detach(), labels)[3] * 2)
    with torch.no_grad(), Largest() as seen:
        tiled_cross_entropy(frozen, weight, labels, path=path)
    assert seen.live_numbers <= 3 * 6 * 5 + 200


class Largest(TorchDispatchMode):
    """Counts numbers in tensors made inside: the largest, and all alive at once."""

    def __init__(self):
        super().__init__()
        self.largest, self.live_numbers, self._alive = 0, 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                size = storage.nbytes() // tensor.element_size()
                self.largest = max(self.largest, size)
                self._alive[storage.data_ptr()] = (weakref.ref(tensor), size)
        kept = {p: e for p, e in self._alive.items() if e[0]() is not None}
        self.live_numbers = max(self.live_numbers, sum(e[1] for e in kept.values()))
        self._alive = kept
        return out


@pytest.mark.parametrize("path", ["tiles", "softmax"])
def test_memory_is_bounded_by_a_chunk(monkeypatch, path):
    budget, num_tokens, vocab = 40_000, 4_000, 400
    monkeypatch.setattr(ours_module, "CHUNK_NUMBERS", budget)
    hidden = torch.randn(num_tokens, 4, requires_grad=True)
    weight = torch.randn(vocab, 4, requires_grad=True)
    labels = torch.randint(0, vocab, (num_tokens,))
    with Largest() as seen:
        tiled_cross_entropy(hidden, weight, labels, path=path)
    assert seen.largest <= budget  # all logits would be 1,600,000
    assert seen.live_numbers <= 3 * budget + 4 * (hidden.numel() + weight.numel())
    with Largest() as seen:  # the test can fail: the library holds all of them
        F.cross_entropy(F.linear(hidden, weight), labels)
    assert seen.largest == num_tokens * vocab


def test_chunks_are_equal_and_within_the_budget():
    for num_tokens in (1, 7, 1_000, 4_096, 100_000):
        for vocab in (5, 38_912, 57_344):
            size = chunk_tokens(num_tokens, vocab)
            assert 1 <= size * vocab <= max(CHUNK_NUMBERS, vocab)
            chunks = math.ceil(num_tokens / size)
            assert num_tokens > (chunks - 1) * size


def test_a_chunk_that_overflows_goes_through_softmax_and_the_others_do_not(
    small_chunks,
):
    torch.manual_seed(0)
    hidden, weight = torch.randn(250, 8), torch.randn(50, 8)
    hidden[120] *= 200  # in the second chunk of three
    labels = torch.randint(0, 50, (250,))
    ours, theirs = (
        run("tiles", hidden, weight, labels),
        library(hidden, weight, labels),
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-3)


def test_which_path():
    assert cross_entropy_path("cpu")[0] == "tiles"
    assert cross_entropy_path("cuda:0")[0] == "softmax"
    assert cross_entropy_path("npu", "softmax")[0] == "softmax"
    with pytest.raises(ValueError, match="use auto, tiles, softmax"):
        cross_entropy_path("cpu", "fast")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu():
    torch.manual_seed(0)
    hidden, weight = torch.randn(5_000, 64), torch.randn(3_000, 64) * 0.1
    labels = torch.randint(0, 3_000, (5_000,))
    exact = library(hidden, weight, labels)
    h, w = (x.cuda().bfloat16().requires_grad_() for x in (hidden, weight))
    nats = torch.empty(5_000, device="cuda")
    loss = tiled_cross_entropy(h, w, labels.cuda(), path="softmax", nats_out=nats)
    (loss * 0.5).backward()
    for a, b in zip((loss, nats, h.grad, w.grad), exact, strict=True):
        assert (a.float().cpu() - b).norm() <= 0.01 * b.norm()
