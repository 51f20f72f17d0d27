"""Whether a grown tokenizer still cuts texts where the old one did."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from finllm_utils.tokenizer.base import piece_writer
from finllm_utils.tokenizer.report import cut_pieces


@dataclass(frozen=True, slots=True)
class Splits:
    """What became of the old tokenizer's pieces, over a set of texts."""

    num_kept: int = 0
    num_joined: int = 0
    """Pieces that are now a part of one longer piece."""
    num_changed: int = 0
    """Pieces that were cut, or got another id in the same place."""
    num_inserted: int = 0
    """Old pieces that now stand where the old tokenizer had none, such as a space
    piece behind an added token."""

    @property
    def changed_share(self) -> float:
        """Share of old pieces that are not what they were."""
        total = self.num_kept + self.num_joined + self.num_changed
        return self.num_changed / total if total else 0.0


def changed_splits(
    before: PreTrainedTokenizerBase,
    after: PreTrainedTokenizerBase,
    texts: Iterable[str],
) -> Splits:
    """How the pieces of ``before`` fare under ``after``.

    Bytes and pieces that cut a character are left out: those are meant to go.
    """
    cut = cut_pieces(before.backend_tokenizer)
    known = set(before.get_vocab().values())
    kept = joined = changed = inserted = 0
    for text in texts:
        old, new = _spans(before, text), _spans(after, text)
        same, cover = set(new), {}
        inserted += sum(index in known for index, _ in same - set(old))
        for _, (start, end) in new:
            cover |= dict.fromkeys(range(start, end), (start, end))
        for index, (start, end) in old:
            if index in cut or start == end:
                continue
            new_start, new_end = cover.get(start, (end, start))
            longer = new_start <= start and end <= new_end
            if (index, (start, end)) in same:
                kept += 1
            elif longer and new_end - new_start > end - start:
                joined += 1
            else:
                changed += 1
    return Splits(kept, joined, changed, inserted)


def _spans(
    tokenizer: PreTrainedTokenizerBase, text: str
) -> list[tuple[int, tuple[int, int]]]:
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    return list(zip(encoding.ids, encoding.offsets, strict=True))


def characters_in_pieces(
    tokenizer: Tokenizer, characters: Sequence[str], *, seed: int = 0
) -> list[str]:
    """Characters that are not one token everywhere; empty is what expansion promises.

    Each is tried alone, twice in a row, after a space, between Latin letters, digits,
    brackets and Chinese punctuation, and between two other characters of the list.
    Not for tokenizers with words, where neighbours join on purpose.
    """
    write, draw = piece_writer(tokenizer), random.Random(seed)
    tests: list[tuple[str, str, int]] = []
    for c in characters:
        left, right = draw.choice(characters), draw.choice(characters)
        texts = (
            c, c + c, f" {c}", f"a{c}b", f"1{c}2", f"({c})", f"，{c}。", f"“{c}”",
            f"\n{c}\n", f"é{c}の", f"{left}{c}{right}",
        )  # fmt: skip
        tests += [(c, text, text.count(c)) for text in texts]
    encoded = tokenizer.encode_batch_fast(
        [text for _, text, _ in tests], add_special_tokens=False
    )
    wrong = {
        c: None
        for (c, _, count), encoding in zip(tests, encoded, strict=True)
        if encoding.ids.count(tokenizer.token_to_id(write(c))) != count
    }
    return list(wrong)
