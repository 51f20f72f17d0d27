"""New rows: the mean of what spelt them, by hand; old rows bit for bit."""

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from finllm_utils.model.embeddings import METHODS, expand_embeddings, spelling

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
# 税 is E7 A8 8E and 务 E5 8A A1; their symbols are ç ¨ İ and å Ĭ ¡.
TAX, DUTY, BETWEEN = "ç¨İ", "åĬ¡", "ç¨"


def byte_level(extra: list[str], merges: list[tuple[str, str]]):
    vocab = {piece: i for i, piece in enumerate([*BYTES, *extra])}
    raw = Tokenizer(models.BPE(vocab, merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw)


@pytest.fixture(scope="module")
def before():
    return byte_level(["åĬ"], [("å", "Ĭ")])


@pytest.fixture(scope="module")
def after():
    old = [("å", "Ĭ")]
    new = [("ç", "¨"), (BETWEEN, "İ"), ("åĬ", "¡"), (TAX, DUTY)]
    grown = byte_level(["åĬ", TAX, DUTY, BETWEEN, TAX + DUTY], old + new)
    grown.add_special_tokens({"additional_special_tokens": [AddedToken("<|ab|>")]})
    return grown


def tiny(rows: int, tied: bool, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=rows,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
    )


def matrices(model: LlamaForCausalLM) -> list[torch.Tensor]:
    both = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    return both[:1] if model.config.tie_word_embeddings else both


def test_the_two_tokenizers_are_as_meant(before, after):
    assert before.tokenize("税务") == ["ç", "¨", "İ", "åĬ", "¡"]
    assert after.tokenize("税务") == [TAX + DUTY] and len(after) == 257 + 5


def test_spelling_of_byte_level_pieces(before):
    ids = before.convert_tokens_to_ids
    assert spelling(TAX, before) == ids(["ç", "¨", "İ"])
    assert spelling(DUTY, before) == ids(["åĬ", "¡"]), "old merges are used"
    assert spelling(BETWEEN, before) == ids(["ç", "¨"]), "not a whole character"
    assert spelling(TAX + DUTY, before) == ids(["ç", "¨", "İ", "åĬ", "¡"])
    assert spelling("<|ab|>", before) == ids(list("<|ab|>"))


@pytest.mark.parametrize("tied", [True, False])
def test_mean_of_pieces_by_hand(before, after, tied):
    model = tiny(257, tied)
    old = [m.clone() for m in matrices(model)]
    grown = expand_embeddings(model, before, after, num_rows=264)
    assert len(matrices(grown)) == (1 if tied else 2)
    for was, matrix in zip(old, matrices(grown), strict=True):
        assert matrix.shape == (264, 8) and torch.equal(matrix[:257], was)
        for token in (TAX, DUTY, BETWEEN, TAX + DUTY, "<|ab|>"):
            row = matrix[after.convert_tokens_to_ids(token)]
            expected = was[spelling(token, before)].mean(dim=0)
            torch.testing.assert_close(row, expected)
        torch.testing.assert_close(matrix[263], was.mean(dim=0))
    assert grown.config.vocab_size == 264 and model.config.vocab_size == 257
    assert all(torch.equal(a, b) for a, b in zip(old, matrices(model), strict=True))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_methods(before, after, method, tied):
    model = tiny(257, tied)
    first, again, other = (
        matrices(
            expand_embeddings(
                model, before, after, num_rows=384, method=method, seed=seed
            )
        )
        for seed in (1, 1, 2)
    )
    for old, a, b, c in zip(matrices(model), first, again, other, strict=True):
        assert torch.equal(a, b) and torch.equal(a[:257], old)
        drawn = method in ("noise_around_mean", "random")
        assert torch.equal(a, c) is not drawn
        new, mean, std = a[257:], old.mean(dim=0), old.std(dim=0)
        if method == "mean_of_all":
            torch.testing.assert_close(new, mean.expand_as(new))
        if method == "noise_around_mean":  # 127 rows of 8 numbers, each of std 0.1
            noise = (new - mean) / std
            assert abs(noise.std() - 0.1) < 0.01 and abs(noise.mean()) < 0.01
        if method == "random":
            assert abs(new.std() - model.config.initializer_range) < 0.002
    if not tied:
        assert not torch.equal(first[0][257:], first[1][257:])


def test_rows_of_padding_in_the_old_model_are_overwritten(before, after):
    """A base padded to 320 rows: new tokens start behind its 257 tokens, not its rows."""
    model = tiny(320, tied=True)
    old = matrices(model)[0].clone()
    for num_rows in (384, 264):
        grown = expand_embeddings(model, before, after, num_rows=num_rows)
        matrix = matrices(grown)[0]
        assert matrix.shape[0] == num_rows and torch.equal(matrix[:257], old[:257])
        expected = old[spelling(TAX, before)].mean(dim=0)
        torch.testing.assert_close(matrix[257], expected)


def test_sizes_that_disagree(before, after):
    with pytest.raises(ValueError, match="257 tokens but the model only 200 embedding"):
        expand_embeddings(tiny(200, True), before, after, num_rows=264)
    with pytest.raises(ValueError, match="num_rows=261 is less than 262 tokens"):
        expand_embeddings(tiny(257, True), before, after, num_rows=261)
    with pytest.raises(ValueError, match="method='best': use one of mean_of_pieces"):
        expand_embeddings(tiny(257, True), before, after, num_rows=264, method="best")


def test_a_tokenizer_that_did_not_grow_leaves_the_model_as_it_is(before):
    """A base that reads Chinese already: strategy "none"."""
    model = tiny(257, tied=False)
    same = expand_embeddings(model, before, before, num_rows=257)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name]), name


def test_the_grown_model_knows_the_marks_of_its_tokenizer(before, after):
    """The loop tells documents apart by the config's BOS."""
    model = tiny(257, tied=True)
    model.config.bos_token_id = model.config.eos_token_id = 77
    grown = expand_embeddings(model, before, after, num_rows=264)
    marks = grown.config.bos_token_id, grown.config.eos_token_id
    assert marks == (after.bos_token_id, after.eos_token_id) != (77, 77)
