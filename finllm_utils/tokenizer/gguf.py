"""Reads the tokenizer out of a GGUF model file, without any GGUF package.

Only the metadata at the start of the file is read, never a weight. Source: the format's
description in ggml (docs/gguf.md): a header, then keys with typed values.
"""

import struct
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_STRING, _ARRAY = 8, 9
_NUMBERS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_CONTROL = 3  # token_type of special tokens
_DIGITS_ALONE = ("smollm",)  # tokenizer.ggml.pre names that split every digit


def read_metadata(path: Path | str) -> dict:
    """All metadata of a GGUF file: numbers, strings and lists.

    Raises: ValueError naming the file when it is not GGUF or ends too early.
    """
    path = Path(path)
    with path.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise ValueError(f"{path}: not a GGUF file (its first bytes are others)")
        try:
            number = partial(_number, handle)
            if number("<I") < 2:
                raise ValueError(f"{path}: GGUF version 1; convert it to 2 or later")
            number("<Q")  # tensors
            return {_string(handle): _value(handle) for _ in range(number("<Q"))}
        except struct.error as error:
            raise ValueError(
                f"{path}: ends inside its metadata; download it again"
            ) from error


def _number(handle: BinaryIO, form: str) -> int | float:
    return struct.unpack(form, handle.read(struct.calcsize(form)))[0]


def _string(handle: BinaryIO) -> str:
    size = _number(handle, "<Q")
    raw = handle.read(size)
    if len(raw) < size:
        raise struct.error("short read")
    return raw.decode("utf-8")


def _value(handle: BinaryIO, kind: int | None = None) -> object:
    kind = _number(handle, "<I") if kind is None else kind
    if kind == _STRING:
        return _string(handle)
    if kind == _ARRAY:
        inner, size = _number(handle, "<I"), _number(handle, "<Q")
        return [_value(handle, inner) for _ in range(size)]
    if kind not in _NUMBERS:
        raise ValueError(f"{handle.name}: unknown GGUF value type {kind}")
    return _number(handle, _NUMBERS[kind])


def tokenizer_from_gguf(path: Path | str) -> Tokenizer:
    """The byte-level BPE tokenizer inside a GGUF file, with equal ids.

    Raises: ValueError when the file holds another kind of tokenizer.
    """
    meta = read_metadata(path)
    kind = meta.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise ValueError(
            f"{path}: its tokenizer is {kind!r}; only byte-level BPE ('gpt2') is read "
            "from GGUF, else give the folder with tokenizer.json or tokenizer.model"
        )
    tokens = meta["tokenizer.ggml.tokens"]
    types = meta["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in meta["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    if meta.get("tokenizer.ggml.pre") in _DIGITS_ALONE:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind == _CONTROL
        ]
    )
    return tokenizer
