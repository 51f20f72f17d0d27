"""The fast scoring path against transformers' own loss and log-softmax."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from finllm_utils.model.score import answer_nats, sequence_nats

VOCAB = 1500  # more than one vocabulary tile


def tiny_model(seed: int = 0, scale: float = 1.0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)  # far from uniform
        model.lm_head.weight.mul_(scale)
    return model


def random_sequences(num: int = 9) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(0, VOCAB, n).tolist() for n in random.integers(2, 60, num)]


def hf_nats(model: LlamaForCausalLM, sequence: list[int]) -> np.ndarray:
    ids = torch.tensor([sequence])
    with torch.no_grad():
        logits = model(ids).logits[0].double()
    logprobs = torch.log_softmax(logits, dim=-1)
    return -logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0].numpy()


def test_equals_transformers_loss_document_by_document():
    model = tiny_model()
    sequences = random_sequences()
    fast = sequence_nats(model, sequences, batch_tokens=100, pad_id=0)
    for sequence, nats in zip(sequences, fast, strict=True):
        ids = torch.tensor([sequence])
        loss = model(ids, labels=ids).loss.item()
        assert nats.dtype == np.float64
        assert len(nats) == len(sequence) - 1
        assert nats.mean() == pytest.approx(loss, abs=1e-4)
        np.testing.assert_allclose(nats, hf_nats(model, sequence), atol=1e-3)


@pytest.mark.parametrize("batch_tokens", [1, 64, 10_000])
def test_batch_size_and_padding_change_nothing(batch_tokens):
    model = tiny_model()
    sequences = random_sequences()
    alone = [sequence_nats(model, [s], batch_tokens=1, pad_id=0)[0] for s in sequences]
    together = sequence_nats(model, sequences, batch_tokens=batch_tokens, pad_id=7)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_huge_logits_use_the_safe_path():
    model = tiny_model(scale=100.0)
    sequences = random_sequences(3)
    fast = sequence_nats(model, sequences, batch_tokens=500, pad_id=0)
    for sequence, nats in zip(sequences, fast, strict=True):
        expected = hf_nats(model, sequence)
        assert expected.max() > 88
        np.testing.assert_allclose(nats, expected, rtol=1e-4, atol=1e-2)


def test_bfloat16_stays_near_float32():
    model = tiny_model()
    sequences = random_sequences(20)
    exact = np.concatenate(sequence_nats(model, sequences, batch_tokens=500, pad_id=0))
    model.bfloat16()
    fast = np.concatenate(sequence_nats(model, sequences, batch_tokens=500, pad_id=0))
    assert fast.mean() == pytest.approx(exact.mean(), rel=0.01)


def test_model_mode_and_empty_inputs():
    model = tiny_model().train()
    assert sequence_nats(model, [], batch_tokens=8, pad_id=0) == []
    assert len(sequence_nats(model, [[5]], batch_tokens=8, pad_id=0)[0]) == 0
    assert model.training


class _Tokenizer:
    pad_token_id = 3


def test_answer_nats_counts_the_answer_only():
    model = tiny_model()
    prompts, answers = [[1, 5, 9], [1, 8]], [[40, 41, 2], [50, 2]]
    got = answer_nats(model, _Tokenizer(), prompts, answers, batch_tokens=100)
    for prompt, answer, value in zip(prompts, answers, got, strict=True):
        whole = hf_nats(model, prompt + answer)
        assert value == pytest.approx(whole[len(prompt) - 1 :].sum(), abs=1e-3)


def test_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="BOS"):
        answer_nats(tiny_model(), _Tokenizer(), [[]], [[4]], batch_tokens=10)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [([[1] * 65], "context of 64"), ([[1, VOCAB]], "own folder")],
)
def test_impossible_sequences_are_refused(sequences, message):
    with pytest.raises(ValueError, match=message):
        sequence_nats(tiny_model(), sequences, batch_tokens=100, pad_id=0)


def test_nan_weights_are_refused():
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight[3, 3] = float("nan")
    with pytest.raises(ValueError, match="diverged"):
        sequence_nats(model, [[1, 2, 3]], batch_tokens=100, pad_id=0)
