"""New rows for a grown vocabulary, and new models of a stated shape.

``resize_token_embeddings(mean_resizing=True)`` makes all new rows nearly equal; here a
new row starts from the mean of the rows of the pieces that spelt its token before
(XuanYuan-13B report).
"""

import copy

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from finllm_utils.config import ModelConfig


def new_llama(cfg: ModelConfig, vocab_size: int, seed: int) -> LlamaForCausalLM:
    """A LLaMA with random weights, float32, BOS 1 and EOS 2."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(llama_config(cfg, vocab_size))


def llama_config(cfg: ModelConfig, vocab_size: int) -> LlamaConfig:
    """The configuration of such a model."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=cfg.hidden_size,
        intermediate_size=cfg.intermediate_size,
        num_hidden_layers=cfg.num_layers,
        num_attention_heads=cfg.num_heads,
        num_key_value_heads=cfg.num_kv_heads,
        max_position_embeddings=cfg.max_seq_len,
        tie_word_embeddings=cfg.tie_embeddings,
        bos_token_id=1,
        eos_token_id=2,
        use_cache=False,
    )


METHODS = ("mean_of_pieces", "mean_of_all", "noise_around_mean", "random")


def spelling(
    token: str, before: PreTrainedTokenizerBase, space: str = "▁"
) -> list[int]:
    """Old ids that spelt ``token``, without the leading space piece of BPE.

    Args: token is a piece of the grown vocabulary as it stands there; in a byte-level
    one that is its bytes in symbols, whole characters or not.
    """
    if token.isascii():  # padding, chat and other special tokens
        ids = before(token, add_special_tokens=False)["input_ids"]
        prefix = before.convert_tokens_to_ids(space)
        return ids[1:] if len(ids) > 1 and ids[0] == prefix else ids
    return [piece.id for piece in before.backend_tokenizer.model.tokenize(token)]


@torch.no_grad()
def expand_embeddings(
    model: PreTrainedModel,
    before: PreTrainedTokenizerBase,
    after: PreTrainedTokenizerBase,
    *,
    num_rows: int,
    method: str = "mean_of_pieces",
    noise: float = 0.1,
    seed: int = 0,
) -> PreTrainedModel:
    """A copy of the model with ``num_rows`` embedding and output rows.

    Args:
        before, after: the tokenizers; ids of ``before`` keep their rows bit for bit.
        num_rows: at least ``len(after)``; rows beyond it are padding.
        method: "mean_of_pieces" (default), "mean_of_all", "noise_around_mean" or
            "random" (the model's own initial normal distribution).
        noise: of "noise_around_mean", in standard deviations of the old rows, each
            dimension by itself. Source: Hewitt 2021, "Initializing new word embeddings
            for pretrained language models". Differs: no covariances.

    Raises: ValueError for an unknown method, too few rows, or a model with fewer rows
    than ``before`` has tokens.
    """
    if num_rows < len(after):
        raise ValueError(f"num_rows={num_rows} is less than {len(after)} tokens")
    if method not in METHODS:
        raise ValueError(f"method={method!r}: use one of {', '.join(METHODS)}")
    model_rows = model.get_input_embeddings().weight.shape[0]
    if model_rows < len(before):
        raise ValueError(
            f"the old tokenizer has {len(before):,} tokens but the model only "
            f"{model_rows:,} embedding rows: they do not belong together; give "
            "tokenizer.base and model.path of the same model"
        )
    model = copy.deepcopy(model)
    model.resize_token_embeddings(num_rows, mean_resizing=False)
    matrices = [model.get_input_embeddings().weight]
    if not model.config.tie_word_embeddings:
        matrices.append(model.get_output_embeddings().weight)
    pieces = [
        spelling(token, before)
        for token in after.convert_ids_to_tokens(range(len(before), len(after)))
    ]
    generator = torch.Generator().manual_seed(seed)
    std = model.config.initializer_range
    for matrix_VD in matrices:
        matrix_VD[len(before) :] = new_rows(
            matrix_VD[: len(before)],
            pieces,
            num_rows - len(before),
            method=method,
            scale=std if method == "random" else noise,
            generator=generator,
        )
    # The loop tells documents apart by the config's BOS; a base may have named another.
    model.config.bos_token_id = after.bos_token_id
    model.config.eos_token_id = after.eos_token_id
    return model


def new_rows(
    old_VD: torch.Tensor,
    pieces: list[list[int]],
    count: int,
    *,
    method: str,
    scale: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """First values of ``count`` new rows, (count, D), from the old ones.

    Args:
        pieces: old ids that spelt each new token; rows beyond them are padding.
        scale: standard deviation of "random"; of "noise_around_mean" its share of the
            old rows' standard deviation in each dimension.
    """
    shape = (count, old_VD.shape[1])
    if method == "random":
        return (torch.randn(shape, generator=generator) * scale).to(old_VD)
    rows_ND = old_VD.mean(dim=0).repeat(count, 1)
    if method == "noise_around_mean":
        noise_ND = torch.randn(shape, generator=generator).to(old_VD)
        rows_ND += scale * old_VD.std(dim=0) * noise_ND
    if method == "mean_of_pieces":
        for index, ids in enumerate(pieces):
            rows_ND[index] = old_VD[ids].mean(dim=0)
    return rows_ND


def embedding_names(model: PreTrainedModel) -> set[str]:
    """Parameter names of embed_tokens and, when it is not tied, lm_head."""
    wanted = {
        id(model.get_input_embeddings().weight),
        id(model.get_output_embeddings().weight),
    }
    return {name for name, p in model.named_parameters() if id(p) in wanted}
