"""Vocabulary expansion (词表扩充): every missing character becomes a piece of its own.

The base's ids stay as they are, so English text keeps its ids one for one; new pieces
follow, then the padding and chat tokens. New merges stand after all old ones, so that a
new piece is always made of whole old ones. No piece is added by ``add_tokens``: those
are cut out before BPE runs, which changes how their neighbours are split.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from finllm_utils.config import TokenizerConfig
from finllm_utils.corpora.characters import standard_characters
from finllm_utils.tokenizer.base import (
    is_byte_level,
    model_json,
    piece_reader,
    piece_writer,
)
from finllm_utils.tokenizer.byte_level import MergePlan, gluing_merges, plan_merges
from finllm_utils.tokenizer.words import Merge, learn_words

CHAT_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>")
PAD_TOKEN = "<pad>"
# An assistant turn ends with EOS, which also ends a document; other turns end with
# <|end|>, so that a model that writes one of the two never confuses them.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}"
    "{% else %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_LONGEST_WORD = 16  # a shorter line of a character file is taken for a word
BOS_NAMES = ("<s>", "<|begin_of_text|>", "<|im_start|>", "<|startoftext|>", "<bos>")
EOS_NAMES = ("</s>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "<eos>")


@dataclass(frozen=True, slots=True)
class Expansion:
    """A grown tokenizer and what was added, in the order of the new ids."""

    tokenizer: Tokenizer
    characters: tuple[str, ...] = ()
    intermediates: tuple[str, ...] = ()
    """Pieces of a byte-level base on the way to a character."""
    words: tuple[str, ...] = ()
    removed_merges: tuple[Merge, ...] = ()
    """Old merges that glued a part of a Chinese character to its neighbour."""

    def counts(self) -> dict[str, int]:
        """What was added and taken out, by name, for a table."""
        return {
            "characters added": len(self.characters),
            "pieces in between": len(self.intermediates),
            "words added": len(self.words),
            "old merges taken out": len(self.removed_merges),
        }


def expand(
    tokenizer: Tokenizer, cfg: TokenizerConfig, texts: Iterable[str] = ()
) -> Expansion:
    """The base grown as ``cfg.strategy`` says.

    Args: texts is the cleaned training corpus, read by "characters_and_words" only.
    Raises: ValueError for a base that is not BPE, or more words than texts teach.
    """
    if cfg.strategy == "none":
        return Expansion(tokenizer)
    characters = characters_to_add(cfg.charset, tokenizer)
    grown = add_characters(tokenizer, characters)
    if cfg.strategy == "characters":
        return grown
    merges = learn_words(grown.tokenizer, texts, cfg.num_words)
    return add_words(grown, merges)


def characters_to_add(charset: str, tokenizer: Tokenizer) -> list[str]:
    """Characters of ``charset`` without a piece in the tokenizer, in the set's order.

    Args: charset is "standard-8105", "gb2312", or the path of a UTF-8 text file.
    Raises: ValueError for another name or a file that is empty or a list of words.
    """
    if charset == "standard-8105":
        wanted = standard_characters()
    elif charset == "gb2312":
        wanted = tuple(_gb2312())
    elif Path(charset).is_file():
        wanted = tuple(_characters_of(Path(charset)))
    else:
        raise ValueError(
            f"tokenizer.charset={charset!r}: use 'standard-8105', 'gb2312' or the path "
            "of a UTF-8 text file"
        )
    known = tokenizer.get_vocab(with_added_tokens=True)
    write = piece_writer(tokenizer)
    fresh = (c for c in dict.fromkeys(wanted) if not c.isspace())
    return [c for c in fresh if write(c) not in known]


def _characters_of(path: Path) -> str:
    """The text of a character file: one a line, or any number of long lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"tokenizer.charset={str(path)!r}: not UTF-8 at byte {error.start}; save "
            "the file as UTF-8"
        ) from error
    lines = text.splitlines()
    if not text.strip():
        raise ValueError(f"tokenizer.charset={str(path)!r}: the file is empty")
    for number, line in enumerate(lines[:-1], 1):
        if 2 <= len(line.strip()) <= _LONGEST_WORD:
            raise ValueError(
                f"tokenizer.charset={str(path)!r}, line {number}: {line.strip()!r} is "
                "a word, the file must hold characters: one a line, or all in one "
                "line; words are learnt with tokenizer.strategy='characters_and_words'"
            )
    return text


def _gb2312() -> list[str]:
    """The 6,763 characters of GB 2312, by decoding its rows 16 to 87."""
    cells = (
        bytes([row, cell]) for row in range(0xB0, 0xF8) for cell in range(0xA1, 0xFF)
    )
    decoded = (cell.decode("gb2312", errors="ignore") for cell in cells)
    return [character for character in decoded if character]


def add_pieces(tokenizer: Tokenizer, pieces: list[str]) -> Tokenizer:
    """A copy whose BPE model also has ``pieces``, numbered after the old vocabulary.

    Raises: ValueError for a piece that is there already or has several characters.
    """
    return add_characters(tokenizer, pieces).tokenizer


def add_characters(tokenizer: Tokenizer, characters: Iterable[str]) -> Expansion:
    """A copy of the base in which every character is one token.

    With byte fallback a character needs no merge: the model starts from characters. A
    byte-level model needs merges of its bytes, see ``byte_level.plan_merges``.
    Raises: ValueError for a character that is there already, or several at once.
    """
    characters = tuple(characters)
    value = model_json(tokenizer)
    vocab, write = value["model"]["vocab"], piece_writer(tokenizer)
    removed: list[Merge] = []
    plan = MergePlan()
    if is_byte_level(tokenizer):
        merges = [tuple(merge) for merge in value["model"]["merges"]]
        removed = gluing_merges(merges)
        glue = set(removed)
        value["model"]["merges"] = [m for m in merges if m not in glue]
        plan = plan_merges(_rebuilt(value).model, vocab, characters)
        value["model"]["merges"] += plan.merges
    for character in characters:
        if write(character) in vocab or len(character) != 1:
            raise ValueError(
                f"cannot add {character!r}: known already, or not one character"
            )
        vocab[write(character)] = len(vocab)
    for piece in plan.intermediates:
        vocab[piece] = len(vocab)
    return Expansion(
        _rebuilt(value), characters, plan.intermediates, removed_merges=tuple(removed)
    )


def add_words(expansion: Expansion, merges: Iterable[Merge]) -> Expansion:
    """The expansion with the merges of ``learn_words`` after its own."""
    value = model_json(expansion.tokenizer)
    vocab = value["model"]["vocab"]
    words = []
    for left, right in merges:
        value["model"]["merges"].append([left, right])
        if left + right not in vocab:
            vocab[left + right] = len(vocab)
            words.append(left + right)
    read = piece_reader(expansion.tokenizer)
    return dataclasses.replace(
        expansion,
        tokenizer=_rebuilt(value),
        words=(*expansion.words, *(read(word) or word for word in words)),
    )


def _rebuilt(value: dict) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(value, ensure_ascii=False))


def as_pretrained(tokenizer: Tokenizer, *, chat: bool) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers loads it, BOS in front of every text.

    BOS and EOS are the base's own (``BOS_NAMES``, ``EOS_NAMES``). They must differ,
    since a BOS marks where a document starts: a base without one gets ``<s>`` with the
    chat tokens.
    Args: chat adds the padding and chat tokens and the chat template.
    Raises: ValueError when the base has no EOS.
    """
    bos, eos = _ends(tokenizer)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    if chat:
        missing_bos = () if bos else (BOS_NAMES[0],)
        extra = (PAD_TOKEN, *CHAT_TOKENS, *missing_bos)
        tokenizer.add_special_tokens(
            [AddedToken(t, special=True, normalized=False) for t in extra]
        )
    bos = bos or (BOS_NAMES[0] if chat else eos)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A",
        pair=f"{bos} $A {bos} $B",
        special_tokens=[(bos, tokenizer.token_to_id(bos))],
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        unk_token="<unk>" if tokenizer.token_to_id("<unk>") is not None else None,
        pad_token=PAD_TOKEN if chat else None,
        clean_up_tokenization_spaces=False,
        model_max_length=int(1e9),
    )
    if chat:
        wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def _ends(tokenizer: Tokenizer) -> tuple[str | None, str]:
    """The base's BOS, if it has one, and its EOS."""
    known = tokenizer.get_vocab(with_added_tokens=True)
    bos = next((name for name in BOS_NAMES if name in known), None)
    eos = next((name for name in EOS_NAMES if name in known), None)
    if eos is None:
        raise ValueError(
            f"the base tokenizer has none of {', '.join(EOS_NAMES)}: a document's end "
            "needs a token; add one to the base's tokenizer.json"
        )
    return bos, eos


def padded_rows(vocab_size: int, multiple: int) -> int:
    """Embedding rows for ``vocab_size`` tokens, rounded up to ``multiple``."""
    return -(-vocab_size // multiple) * multiple
