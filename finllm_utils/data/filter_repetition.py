"""The repetition filter: characters, lines and n-grams that come again and again.

A natural answer names its subject in every sentence and a statute has formulae: both
repeat a phrase, yet most of their n-grams occur once. Spun and pasted text has few
different n-grams. So a common n-gram counts only where variety is low.
"""

import re
from collections.abc import Sequence

import numpy as np

from finllm_utils.data.shingles import fold, window_hashes
from finllm_utils.data.text_views import TABLE_ROW, decoded, spoken

Verdict = tuple[bool, str]
KEEP: Verdict = (True, "")

MAX_CHAR_SHARE = 0.2  # one character; the commonest, 的, stays under 0.1
MAX_CHAR_RUN = 12  # 哈哈哈哈; fill-in lines are runs of _ and do not count
MAX_MARK_RUN_SHARE = 0.25  # of the text: one long 。。。。 ends many a good review
MAX_DUPLICATE_LINES = 0.287  # fineweb-2: dup_line_frac, share of lines
MAX_TOP_GRAM = {4: 0.25, 8: 0.25}  # fineweb-2: top 2- and 3-word grams .256 .201
MIN_TOP_COUNT = 4  # short answers name their subject often: no fault
MIN_VARIETY = 0.5  # different 4-grams of all; answers about one product have 0.7
MIN_LIST_VARIETY = 0.75  # where there are no sentences: a heap of search words
_SENTENCE_CHARS = 100  # characters a sentence end may stand for
_SHORT_GRAM = 4
_LONG_GRAM = 16
MAX_DUPLICATE_GRAM = 0.45  # of 16-character windows; penal clauses of a law reach 0.4
_MIN_LOOP = 24  # Han in a row that all stood among the few before
_LOOP_REACH = 6
_RUN = re.compile(rf"([^\s\d\-=_.…·*—|])\1{{{MAX_CHAR_RUN - 1},}}")


def check_repetition(text: str) -> Verdict:
    """Drops a text that repeats characters, lines or n-grams."""
    return check_repetitions([text])[0]


def check_repetitions(texts: Sequence[str]) -> list[Verdict]:
    """``check_repetition`` for a batch: windows of all texts are counted at once.

    What looks wrong is looked at again with its tables taken apart.
    """
    verdicts = _check(texts)
    doubtful = [
        i
        for i, (keep, _) in enumerate(verdicts)
        if not keep and (TABLE_ROW.search(texts[i]) or decoded(texts[i]) != texts[i])
    ]
    if doubtful:
        again = _check([spoken(texts[i]) for i in doubtful])
        for i, verdict in zip(doubtful, again, strict=True):
            verdicts[i] = verdict
    return verdicts


def _check(texts: Sequence[str]) -> list[Verdict]:
    codes, bounds, _ = fold(texts)
    length = np.diff(bounds).tolist()
    _, kinds = gram_counts(codes, bounds, _SHORT_GRAM)
    letters = np.flatnonzero((codes < ord("0")) | (codes > ord("9")))
    most, _ = gram_counts(codes[letters], np.searchsorted(letters, bounds), 1)
    loops, runs = _loops(codes, bounds), _with_runs(texts)
    verdicts = []
    for row, text in enumerate(texts):
        verdict = _char_run(text) if row in runs else None
        verdict = verdict or _repeated_lines(text)
        if verdict is None and loops[row]:
            verdict = False, f"loop:{loops[row]}"
        if verdict is None and length[row] >= _LONG_GRAM + 4:
            if (share := int(most[row]) / length[row]) > MAX_CHAR_SHARE:
                verdict = False, f"one_character:{share:.2f}"
            elif _is_monotonous(int(kinds[row]), length[row]):
                own = codes[bounds[row] : bounds[row + 1]]
                verdict = _repeated_grams(own, int(kinds[row]), text)
        verdicts.append(verdict or KEEP)
    return verdicts


def _is_monotonous(kinds: int, length: int) -> bool:
    """Whether longer windows are worth counting.

    Args: kinds is the number of different windows of 4, and those of 16 are at least
    as many less 12, since each begins with one.
    """
    limit = (1 - MAX_DUPLICATE_GRAM) * length + _LONG_GRAM - _SHORT_GRAM
    return kinds < max(limit, MIN_LIST_VARIETY * length)


def gram_counts(
    codes: np.ndarray, bounds: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each text: how often its commonest ``num``-gram occurs, how many differ."""
    num_texts = len(bounds) - 1
    owner = np.repeat(np.arange(num_texts, dtype=np.uint64), np.diff(bounds))
    hashes = window_hashes(codes, num)
    inside = owner[: len(hashes)] == owner[len(owner) - len(hashes) :]
    first = owner[: len(hashes)][inside]
    keys = np.sort((first << np.uint64(48)) | (hashes[inside] >> np.uint64(16)))
    if not len(keys):
        return np.zeros(num_texts, np.int64), np.zeros(num_texts, np.int64)
    edges = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True])))
    texts = (keys[edges[:-1]] >> np.uint64(48)).astype(np.int64)
    most = np.zeros(num_texts, dtype=np.int64)
    np.maximum.at(most, texts, np.diff(edges))
    return most, np.bincount(texts, minlength=num_texts)


def _loops(codes: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Length of a run of Han that only repeats the few before it, 0 if below the limit.

    A translator that fails writes 新旗新新旗新新旗新新旗 to the end of the page.
    """
    han = np.flatnonzero(codes >= 0x3400)
    own, starts = codes[han], np.searchsorted(han, bounds[:-1])
    repeats = np.zeros(len(own), dtype=bool)
    for back in range(1, min(_LOOP_REACH, len(own) - 1) + 1):
        same = own[back:] == own[:-back]
        across = (starts[:, None] + np.arange(back)).ravel() - back
        same[across[(across >= 0) & (across < len(same))]] = False
        repeats[back:] |= same
    ends = np.flatnonzero(np.concatenate(([True], ~repeats, [True])))
    runs = np.diff(ends) - 1
    longest = np.zeros(len(bounds) - 1, dtype=np.int64)
    long = np.flatnonzero(runs >= _MIN_LOOP)
    owner = np.searchsorted(bounds, han[ends[long]], side="right") - 1
    np.maximum.at(longest, owner, runs[long])
    return longest


def _with_runs(texts: Sequence[str]) -> set[int]:
    """The texts that have some character eight times in a row: worth a closer look."""
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    raw = np.frombuffer(joined, dtype=np.uint32)
    same = raw[1:] == raw[:-1]
    for step in (1, 2, 4):  # then same[i] says that 8 neighbours from i are equal
        same = same[step:] & same[:-step]
    ends = np.cumsum([0, *map(len, texts)])
    return set((np.searchsorted(ends, np.flatnonzero(same), side="right") - 1).tolist())


def _char_run(text: str) -> Verdict | None:
    for run in _RUN.finditer(text):
        long = len(run.group())
        if run.group(1).isalnum() or long > MAX_MARK_RUN_SHARE * len(text):
            return False, f"char_run:{long}"
    return None


def _repeated_lines(text: str) -> Verdict | None:
    lines = [line.strip() for line in text.split("\n") if len(line.strip()) > 4]
    if len(lines) >= 4:
        repeated = 1 - len(set(lines)) / len(lines)
        if repeated > MAX_DUPLICATE_LINES:
            return False, f"duplicate_lines:{repeated:.2f}"
    return None


def _repeated_grams(codes: np.ndarray, kinds: int, text: str) -> Verdict | None:
    """Args: codes of ``text``; kinds, how many different short windows it has."""
    length, bounds = len(codes), np.array([0, len(codes)])
    ends = sum(map(text.count, "。！？；"))
    listed = length >= 100 and ends * _SENTENCE_CHARS < len(text)
    least = MIN_LIST_VARIETY if listed else MIN_VARIETY
    if kinds < least * (length - _SHORT_GRAM + 1):
        for num, limit in MAX_TOP_GRAM.items():
            top = int(gram_counts(codes, bounds, num)[0][0])
            if top >= MIN_TOP_COUNT and (share := top * num / length) > limit:
                return False, f"top_{num}_gram:{share:.2f}"
    if length >= 100:
        different = int(gram_counts(codes, bounds, _LONG_GRAM)[1][0])
        share = 1 - different / (length - _LONG_GRAM + 1)
        if share > MAX_DUPLICATE_GRAM:
            return False, f"duplicate_{_LONG_GRAM}_grams:{share:.2f}"
    return None
