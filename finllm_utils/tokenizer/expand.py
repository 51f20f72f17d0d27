"""Vocabulary expansion (词表扩充): every missing character becomes a piece of its own.

The base's ids stay as they are, so English text keeps its ids one for one; new pieces
follow, then the padding and chat tokens. No piece is added by ``add_tokens``: those are
cut out before BPE runs, which changes how their neighbours are split.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from finllm_utils.corpora.characters import standard_characters
from finllm_utils.tokenizer.base import model_json

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


def characters_to_add(charset: str, tokenizer: Tokenizer) -> list[str]:
    """Characters of ``charset`` without a piece in the tokenizer, in the set's order.

    Args: charset is "standard-8105", "gb2312", or the path of a UTF-8 text file.
    """
    if charset == "standard-8105":
        wanted = standard_characters()
    elif charset == "gb2312":
        wanted = tuple(_gb2312())
    elif Path(charset).is_file():
        wanted = tuple(dict.fromkeys(Path(charset).read_text(encoding="utf-8")))
    else:
        raise ValueError(
            f"tokenizer.charset={charset!r}: use 'standard-8105', 'gb2312' or the path "
            "of a UTF-8 text file"
        )
    known = tokenizer.get_vocab(with_added_tokens=True)
    return [c for c in dict.fromkeys(wanted) if not c.isspace() and c not in known]


def _gb2312() -> list[str]:
    """The 6,763 characters of GB 2312, by decoding its rows 16 to 87."""
    cells = (
        bytes([row, cell]) for row in range(0xB0, 0xF8) for cell in range(0xA1, 0xFF)
    )
    decoded = (cell.decode("gb2312", errors="ignore") for cell in cells)
    return [character for character in decoded if character]


def add_pieces(tokenizer: Tokenizer, pieces: list[str]) -> Tokenizer:
    """A copy whose BPE model also has ``pieces``, numbered after the old vocabulary.

    A one-character piece needs no merge: the model starts from characters.
    Raises: ValueError for a piece that is there already or has several characters.
    """
    value = model_json(tokenizer)
    vocab = value["model"]["vocab"]
    for piece in pieces:
        if piece in vocab or len(piece) != 1:
            raise ValueError(
                f"cannot add {piece!r}: known already, or not one character"
            )
        vocab[piece] = len(vocab)
    return Tokenizer.from_str(json.dumps(value, ensure_ascii=False))


def as_pretrained(tokenizer: Tokenizer, *, chat: bool) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers loads it, BOS in front of every text.

    Args: chat adds the padding and chat tokens and the chat template.
    """
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    if chat:
        extra = (PAD_TOKEN, *CHAT_TOKENS)
        tokenizer.add_special_tokens(
            [AddedToken(t, special=True, normalized=False) for t in extra]
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A",
        pair="<s> $A <s> $B",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>"))],
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token=PAD_TOKEN if chat else None,
        clean_up_tokenization_spaces=False,
        model_max_length=int(1e9),
    )
    if chat:
        wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def padded_rows(vocab_size: int, multiple: int) -> int:
    """Embedding rows for ``vocab_size`` tokens, rounded up to ``multiple``."""
    return -(-vocab_size // multiple) * multiple
