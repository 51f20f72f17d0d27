"""Words learnt from a corpus, as further merges of a tokenizer.

Byte-pair encoding goes on where the tokenizer stopped: its pieces are the letters, and
only runs of Chinese characters are joined, so no piece crosses a punctuation mark, a
digit or a Latin letter. Every merge makes one piece that the merges before it reach.
"""

import json
import re
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from finllm_utils.tokenizer.base import piece_reader

_HAN = re.compile("[\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]+")
_FIRST_LETTER = 0xF0000  # private use: a letter for each piece, never in a text
_MAX_LETTERS = 0xFFFD

Merge = tuple[str, str]


def learn_words(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    num_words: int,
    *,
    exact: bool = True,
    max_pieces: int = 8,
    min_count: int = 10,
    max_chars: int = 1_000_000,
) -> list[Merge]:
    """Merges that add ``num_words`` pieces, the most useful first.

    The first n merges are what a call with fewer words would have given.

    Args:
        tokenizer: one whose pieces are characters already, see ``add_pieces``.
        texts: training text; never held-out text.
        exact: False takes what there is where the texts teach fewer.
        max_pieces: longest word, in pieces of ``tokenizer``: mostly characters.
        min_count: a pair must occur this often to be joined.
        max_chars: of a larger corpus, evenly spaced documents of about this many
            characters are read: the frequent words are the same in any fair sample.

    Raises: ValueError when num_words is below 1 or, if ``exact``, above what the texts
    teach.
    """
    if num_words < 1:
        raise ValueError(
            f"tokenizer.num_words={num_words}: give at least 1, or use "
            "tokenizer.strategy='characters'"
        )
    vocab = tokenizer.get_vocab(with_added_tokens=False)
    pieces = sorted(vocab, key=vocab.__getitem__)
    runs = list(han_runs(tokenizer, evenly(texts, max_chars)))
    letters = {index: i for i, index in enumerate(sorted({i for r in runs for i in r}))}
    if len(letters) > _MAX_LETTERS:
        raise ValueError(f"{len(letters)} Chinese pieces are more than can be joined")
    read = piece_reader(tokenizer)
    there = sum(len(text) > 1 for p in pieces if (text := _han_text(read(p))))
    learnt = _train(runs, letters, num_words + there, max_pieces, min_count)
    names = {_letter(i): pieces[index] for index, i in letters.items()}
    merges, new = [], set()
    for left, right in learnt:
        left, right = ("".join(names[c] for c in side) for side in (left, right))
        merges.append((left, right))
        if left + right not in vocab:
            new.add(left + right)
        if len(new) == num_words:
            return merges
    if not exact:
        return merges
    raise ValueError(
        f"tokenizer.num_words={num_words}: the corpus has only {len(new)} words that "
        f"occur {min_count} times; lower it or give more text"
    )


def evenly(texts: Iterable[str], max_chars: int) -> list[str]:
    """Evenly spaced texts of about ``max_chars`` characters, or all of them."""
    texts = list(texts)
    step = max(1, -(-sum(map(len, texts)) // max_chars))
    return texts[::step]


def han_runs(tokenizer: Tokenizer, texts: list[str]) -> Iterator[list[int]]:
    """Runs of two or more neighbouring pieces that are Chinese characters only."""
    read = piece_reader(tokenizer)
    vocab = tokenizer.get_vocab(with_added_tokens=False)
    is_han = {index for piece, index in vocab.items() if _han_text(read(piece))}
    for start in range(0, len(texts), 256):
        batch = texts[start : start + 256]
        encoded = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        for encoding in encoded:
            run: list[int] = []
            for index in [*encoding.ids, -1]:
                if index in is_han:
                    run.append(index)
                    continue
                if len(run) > 1:
                    yield run
                run = []


def _han_text(text: str | None) -> str:
    """``text`` when it is Chinese characters only, else an empty string."""
    return text if text and _HAN.fullmatch(text) else ""


def _letter(index: int) -> str:
    return chr(_FIRST_LETTER + index)


def _train(
    runs: list[list[int]],
    letters: dict[int, int],
    num_merges: int,
    max_pieces: int,
    min_count: int,
) -> list[Merge]:
    """Byte-pair encoding over runs of pieces, each piece written as one letter."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(letters) + num_merges,
        min_frequency=min_count,
        initial_alphabet=[_letter(i) for i in letters.values()],
        max_token_length=max_pieces,
        show_progress=False,
    )
    lines = ["".join(_letter(letters[i]) for i in run) for run in runs]
    blocks = (" ".join(lines[i : i + 1_000]) for i in range(0, len(lines), 1_000))
    learner.train_from_iterator(blocks, trainer)
    return _merges_of(learner)


def _merges_of(tokenizer: Tokenizer) -> list[Merge]:
    return [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
