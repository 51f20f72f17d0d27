"""Reads a tekken file: a byte-level BPE that lists byte strings by rank, not merges.

mistral-common ships two of them; they read Chinese, which makes them our example of a
base that needs no expansion.
"""

import base64
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
)

from finllm_utils.files import read_json
from finllm_utils.tokenizer.byte_level import byte_alphabet

_SPECIAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]")


def tokenizer_from_tekken(path: Path | str) -> Tokenizer:
    """The tokenizer of a tekken JSON file, with equal ids.

    A merge exists for every way to cut a piece into two pieces; lower ranks go first.
    Raises: ValueError when the file is no tekken file.
    """
    value = read_json(Path(path))
    if not {"config", "vocab"} <= set(value):
        raise ValueError(f"{path}: no tekken file (it needs 'config' and 'vocab')")
    config = value["config"]
    num_special = config["default_num_special_tokens"]
    size = config["default_vocab_size"] - num_special
    raw = [base64.b64decode(row["token_bytes"]) for row in value["vocab"][:size]]
    special = _special_names(value, num_special)
    alphabet = byte_alphabet()
    names = ["".join(alphabet[byte] for byte in piece) for piece in raw]
    rank = {piece: i for i, piece in enumerate(raw)}
    merges = []
    for index, (piece, name) in enumerate(zip(raw, names, strict=True)):
        for cut in range(1, len(piece)):
            left, right = rank.get(piece[:cut]), rank.get(piece[cut:])
            if left is not None and right is not None:
                merges.append((index, left, right, (name[:cut], name[cut:])))
    vocab = {name: i for i, name in enumerate([*special, *names])}
    tokenizer = Tokenizer(
        models.BPE(vocab, [m[3] for m in sorted(merges)], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(config["pattern"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in special]
    )
    return tokenizer


def _special_names(value: dict, count: int) -> list[str]:
    """Names of the ``count`` special ids; the file may leave the later ones unnamed."""
    listed = value.get("special_tokens") or []
    names = {row["rank"]: row["token_str"] for row in listed}
    names = dict(enumerate(_SPECIAL)) | names
    return [names.get(i, f"<SPECIAL_{i}>") for i in range(count)]
