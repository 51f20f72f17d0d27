"""Tiny random models, so that no test needs a trained run folder."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

EOS, PAD = 2, 3


TEMPLATE = (
    "<s> {% for m in messages %}<|{{ m.role }}|> {{ m.content }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def word_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, their ids in the order given, with TEMPLATE."""
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", pad_token="<pad>", bos_token="<s>"
    )
    made.chat_template = TEMPLATE
    return made


def tiny_config(vocab_size: int = 40) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=EOS,
        pad_token_id=PAD,
        num_labels=1,
        initializer_range=0.2,
    )


@pytest.fixture(autouse=True)
def seeded(one_thread):
    torch.manual_seed(0)


@pytest.fixture
def policy():
    return LlamaForCausalLM(tiny_config()).eval()


@pytest.fixture
def reward_model():
    return LlamaForSequenceClassification(tiny_config()).eval()


@pytest.fixture
def prompts():
    return [[1, 10, 11], [1, 12], [1, 13, 14, 15, 16], [1, 17]]
