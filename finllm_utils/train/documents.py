"""Documents as rows of tokens, for the stages that mix pre-training text in."""

from collections.abc import Iterable, Iterator

from transformers import PreTrainedTokenizerBase

from finllm_utils.records import Document


def cut_documents(
    tokenizer: PreTrainedTokenizerBase,
    documents: Iterable[Document],
    max_seq_len: int,
) -> Iterator[list[int]]:
    """Yields ``<s> text </s>`` of each document in parts of up to ``max_seq_len``."""
    for document in documents:
        ids = tokenizer(document.text, add_special_tokens=False)["input_ids"]
        ids = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
        for start in range(0, len(ids), max_seq_len):
            yield ids[start : start + max_seq_len]
