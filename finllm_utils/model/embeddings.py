"""New rows for a grown vocabulary, and new models of a stated shape.

``resize_token_embeddings(mean_resizing=True)`` makes all new rows nearly equal; here a
new row starts from the mean of the rows of the pieces that spelt its token before.
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
    config = LlamaConfig(
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
    return LlamaForCausalLM(config)


def spelling(
    token: str, before: PreTrainedTokenizerBase, space: str = "▁"
) -> list[int]:
    """Old ids that spelt ``token``, without the leading space piece of BPE."""
    ids = before(token, add_special_tokens=False)["input_ids"]
    prefix = before.convert_tokens_to_ids(space)
    return ids[1:] if len(ids) > 1 and ids[0] == prefix else ids


@torch.no_grad()
def expand_embeddings(
    model: PreTrainedModel,
    before: PreTrainedTokenizerBase,
    after: PreTrainedTokenizerBase,
    *,
    num_rows: int,
    method: str = "mean_of_pieces",
    seed: int = 0,
) -> PreTrainedModel:
    """A copy of the model with ``num_rows`` embedding and output rows.

    Args:
        before, after: the tokenizers; ids of ``before`` keep their rows bit for bit.
        num_rows: at least ``len(after)``; rows beyond it are padding.
        method: "mean_of_pieces" (default), "mean_of_all" or "random".

    Raises: ValueError for an unknown method or too few rows.
    """
    if num_rows < len(after):
        raise ValueError(f"num_rows={num_rows} is less than {len(after)} tokens")
    if method not in ("mean_of_pieces", "mean_of_all", "random"):
        raise ValueError(
            f"method={method!r}: use 'mean_of_pieces', 'mean_of_all' or 'random'"
        )
    model = copy.deepcopy(model)
    old_rows = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(num_rows, mean_resizing=False)
    matrices = [model.get_input_embeddings().weight]
    if not model.config.tie_word_embeddings:
        matrices.append(model.get_output_embeddings().weight)
    generator = torch.Generator().manual_seed(seed)
    for matrix in matrices:
        old = matrix[:old_rows].clone()
        if method == "random":
            std = model.config.initializer_range
            new = torch.randn(matrix[old_rows:].shape, generator=generator) * std
            matrix[old_rows:] = new.to(matrix)
            continue
        matrix[old_rows:] = old.mean(dim=0)
        if method == "mean_of_pieces":
            for index in range(old_rows, len(after)):
                pieces = spelling(after.convert_ids_to_tokens(index), before)
                matrix[index] = old[pieces].mean(dim=0)
    return model


def embedding_names(model: PreTrainedModel) -> set[str]:
    """Parameter names of embed_tokens and, when it is not tied, lm_head."""
    wanted = {
        id(model.get_input_embeddings().weight),
        id(model.get_output_embeddings().weight),
    }
    return {name for name, p in model.named_parameters() if id(p) in wanted}
