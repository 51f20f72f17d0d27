"""A byte-level tokenizer whose letters merge, a tiny model for it, lm-eval beside it."""

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def byte_tokenizer(bos: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a few merges, so that letters and seams merge."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    shown = dict(zip(" \n", "ĠĊ", strict=True))
    merges = [("A", "B"), ("AB", "C"), ("B", "D"), (shown[" "], "A")]
    words = ["<s>", "</s>", *alphabet, *("".join(pair) for pair in merges)]
    vocab = {word: i for i, word in enumerate(words)}
    raw = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    if bos:
        raw.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def byte_model(
    attention: str = "sdpa", context: int = 96, seed: int = 0
) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(byte_tokenizer()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        attn_implementation=attention,
    )
    made = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(8 if parameter.dim() > 1 else 1)
    return made


def lm_eval_scores(llama, pieces, prompts, answers) -> list[list[float]]:
    """What lm-eval gives for each pair."""
    lm = HFLM(pretrained=llama, tokenizer=pieces, batch_size=3)
    asked = [(p, a) for p, own in zip(prompts, answers, strict=True) for a in own]
    found = lm.loglikelihood(
        [
            Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0)
            for pair in asked
        ],
        disable_tqdm=True,
    )
    values = iter(value for value, _ in found)
    return [[next(values) for _ in own] for own in answers]
