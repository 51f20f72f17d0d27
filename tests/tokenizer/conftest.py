"""The course's base, and byte-level ones small enough to train in a test."""

import pytest

from finllm_utils.tokenizer.base import MISTRAL_V1, load_base_tokenizer
from finllm_utils.tokenizer.expand import add_characters, characters_to_add
from finllm_utils.tokenizer.stand_in import train_byte_level

ENGLISH = (
    "The bank lends at 3.45% a year, and the premium is refunded within thirty days.",
    "for i in range(10):\n\tprint(i)  # squares\n\n    return {'rate': x ** 2}",
    "It’s “quoted” — naïve café, 5 € per item…",
)
CHINESE = ("税务 利率 中国的 保险 贷款，赔付。", "中的，在 一、是不了")


@pytest.fixture(scope="session")
def mistral():
    """The course's base."""
    return load_base_tokenizer(MISTRAL_V1)


@pytest.fixture(scope="session")
def mistral_grown(mistral):
    """The course's tokenizer before its chat tokens."""
    return add_characters(mistral, characters_to_add("standard-8105", mistral))


@pytest.fixture(scope="session")
def byte_base():
    """English, a few Chinese characters, and merges of a space with a first byte."""
    glued = [f" {c}" for c in "税秋种的百目有来"] * 20  # shares first bytes E7 and E6
    texts = [*ENGLISH * 30, *CHINESE * 3, *glued]
    return train_byte_level(texts, 700, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
