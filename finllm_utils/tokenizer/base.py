"""Reading a base tokenizer: SentencePiece BPE or tokenizer.json, as one object."""

import json
from importlib.util import find_spec
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

MISTRAL_V1 = "mistral-v1"


def load_base_tokenizer(name: str) -> Tokenizer:
    """The tokenizer called ``name``.

    Args: name is "mistral-v1" (32,000 pieces, ships in mistral-common), a folder with
    ``tokenizer.json`` or ``tokenizer.model``, or one of those files.
    Raises: ValueError naming what was looked for when nothing is there.
    """
    path = _mistral_file() if name == MISTRAL_V1 else Path(name)
    if path.is_dir():
        found = [path / f for f in ("tokenizer.json", "tokenizer.model")]
        path = next((f for f in found if f.is_file()), path)
    if not path.is_file():
        raise ValueError(
            f"tokenizer.base={name!r}: no tokenizer.json or tokenizer.model there; "
            f"give a folder that has one, or {MISTRAL_V1!r}"
        )
    if path.suffix == ".json":
        return Tokenizer.from_file(str(path))
    return from_sentencepiece(path)


def _mistral_file() -> Path:
    spec = find_spec("mistral_common")
    return Path(spec.submodule_search_locations[0]) / "data" / "tokenizer.model.v1"


def from_sentencepiece(path: Path) -> Tokenizer:
    """A byte-fallback BPE model file as a ``tokenizers.Tokenizer`` with equal ids.

    SentencePiece keeps scores, not merges: a merge exists for every way to cut a piece
    into two pieces, and the better score goes first.
    """
    import sentencepiece

    source = sentencepiece.SentencePieceProcessor(model_file=str(path))
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
    """The tokenizer's JSON as a dict.

    Raises: ValueError when it is not a BPE model with byte fallback.
    """
    value = json.loads(tokenizer.to_str())
    kind = value["model"].get("type")
    if kind != "BPE" or not value["model"].get("byte_fallback"):
        raise ValueError(
            f"the base tokenizer is {kind} without byte fallback: adding characters "
            "needs a byte-fallback BPE such as LLaMA's or Mistral's; a model that "
            "already reads Chinese can skip expansion and keep its own tokenizer"
        )
    return value
