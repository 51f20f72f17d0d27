"""Which pass this is, and whether its model, tokenizer and bins belong together."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from finllm_utils.config import PretrainConfig
from finllm_utils.config_train import NO_INFLUENCE
from finllm_utils.files import read_json
from finllm_utils.train.mixture import DOMAINS

_SAMPLE = 512  # numbers of a weight that tell it from others


def pass_fingerprint(
    cfg: PretrainConfig,
    dtype: str,
    seed: int,
    bins: Path,
    model: PreTrainedModel,
    first_new_row: int,
) -> dict[str, object]:
    """Flat names and plain values: equal for two passes that may share checkpoints.

    Args: model with the weights that the pass starts from, before anything is cast.
    """
    settings = dataclasses.asdict(cfg)
    found: dict[str, object] = {
        name: _plain(value)
        for name, value in settings.items()
        if name not in NO_INFLUENCE
    }
    found |= {"seed": seed, "dtype": dtype, "first_new_row": first_new_row}
    shape = model.config
    for name in ("vocab_size", "hidden_size", "num_hidden_layers"):
        found[f"model.{name}"] = getattr(shape, name)
    found["model.start_weights"] = weights_digest(model)
    for domain in DOMAINS:
        found[f"bins.{domain}"] = _bin_digest(Path(bins) / f"{domain}.json")
    return found


def _plain(value: object) -> object:
    """Tuples as the lists that JSON makes of them."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def weights_digest(model: PreTrainedModel) -> str:
    """A short digest of every weight's name, shape and evenly spaced sample."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLE)].to("cpu", torch.float32)
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def _bin_digest(path: Path) -> str | None:
    """A short digest of a bin's description, None where there is no bin."""
    if not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def require_fitting_model(
    model: PreTrainedModel, bins: Path, seq_len: int, bos_id: int | None
) -> None:
    """Raises ValueError when a model cannot read the bins' ids or so long a row.

    Whether the bins are of the tokenizer at hand is for ``bins.check_bins``, which has
    one.
    """
    if bos_id is None:
        raise ValueError(
            "the model's config has no bos_token_id, and rows tell documents apart by "
            "it: set model.config.bos_token_id to the tokenizer's"
        )
    limit = model.config.max_position_embeddings
    if seq_len > limit:
        raise ValueError(
            f"seq_len={seq_len} exceeds the model's context of {limit} tokens: lower it"
        )
    num_rows = model.get_input_embeddings().weight.shape[0]
    for domain in DOMAINS:
        path = Path(bins) / f"{domain}.json"
        meta = read_json(path) if path.is_file() else {}
        size = max(meta.get("vocab_size", 0), meta.get("max_id", -1) + 1)
        if size > num_rows:
            raise ValueError(
                f"{path}: written by a tokenizer of {size:,} tokens, but the model has "
                f"{num_rows:,} embedding rows; expand the model to this tokenizer, or "
                "write the bins again with the model's own"
            )
        first = _first_id(path, meta) if meta else bos_id
        if first != bos_id:
            raise ValueError(
                f"{path}: documents begin with id {first}, but the model's config says "
                f"bos_token_id={bos_id}, so documents of a row would see each other: "
                "set model.config.bos_token_id to that of the bins' tokenizer"
            )


def _first_id(path: Path, meta: dict) -> int:
    """The id that a bin begins with: its tokenizer's BOS."""
    kind = np.dtype(meta["dtype"])
    return int(np.fromfile(path.with_suffix(".bin"), dtype=kind, count=1)[0])
