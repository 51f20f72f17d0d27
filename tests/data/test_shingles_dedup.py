"""Shingles, MinHash, LSH and duplicates against brute force on small texts."""

import numpy as np
import pytest

from finllm_utils.data.dedup import (
    band_keys,
    exact_duplicates,
    exact_keys,
    near_duplicates,
    signatures,
)
from finllm_utils.data.shingles import (
    fold,
    fold_texts,
    jaccard,
    shingle_set,
    spans,
    window_hashes,
)

BASE = (
    "本产品为非保本浮动收益型，银行不保证本金和收益。投资者应当充分认识投资风险，"
    "谨慎投资，并在购买之前仔细阅读产品说明书和风险揭示书，确认自己能够承受亏损。"
)


def variants(count: int, seed: int) -> list[str]:
    """Texts that keep less and less of BASE."""
    generator = np.random.default_rng(seed)
    texts = []
    for i in range(count):
        chars = list(BASE)
        for place in generator.integers(0, len(chars), i):
            chars[place] = chr(0x4E00 + int(generator.integers(0, 5_000)))
        texts.append("".join(chars))
    return texts


def python_jaccard(a: str, b: str, n: int) -> float:
    sets = []
    for text in fold_texts([a, b]):
        sets.append({text[i : i + n] for i in range(len(text) - n + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_fold_keeps_letters_digits_and_han_only():
    assert fold_texts(["保本，High！ 5%", "", "甲 乙"]) == ["保本high5", "", "甲乙"]
    codes, bounds, positions = fold(["保，本", "A b"])
    assert bounds.tolist() == [0, 2, 4]
    assert positions.tolist() == [0, 2, 3, 5]
    assert "".join(map(chr, codes)) == "保本ab"


@pytest.mark.parametrize("num", [1, 2, 5, 15, 30])
def test_window_hashes_are_equal_exactly_where_windows_are(num):
    codes, _, _ = fold([BASE + "甲" + BASE])
    hashes = window_hashes(codes, num)
    windows = [tuple(codes[i : i + num]) for i in range(len(codes) - num + 1)]
    assert len(hashes) == len(windows)
    assert len(set(hashes.tolist())) == len(set(windows))


def test_jaccard_of_shingle_sets_equals_plain_python_sets():
    for text in variants(12, seed=1):
        ours = jaccard(shingle_set(BASE, 5), shingle_set(text, 5))
        assert ours == pytest.approx(python_jaccard(BASE, text, 5))


def test_latin_text_uses_three_times_as_many_letters():
    text = "The quick brown fox jumps over the lazy dog."
    assert len(shingle_set(text, 5)) == len(fold_texts([text])[0]) - 15 + 1


def test_minhash_estimate_is_unbiased():
    errors = []
    for text in variants(20, seed=2) * 3:
        rows = signatures([BASE, text], num_hashes=600, ngram=5)
        exact = jaccard(shingle_set(BASE, 5), shingle_set(text, 5))
        errors.append(float((rows[0] == rows[1]).mean()) - exact)
    assert abs(np.mean(errors)) < 0.01
    assert np.abs(errors).max() < 0.1


def test_signature_does_not_depend_on_the_batch():
    texts = [*variants(8, seed=3), "短", "", "An English sentence, alone."]
    together = signatures(texts, num_hashes=24, ngram=5)
    alone = [signatures([t], num_hashes=24, ngram=5)[0] for t in texts]
    assert np.array_equal(together, np.stack(alone))


def test_band_keys_match_where_all_rows_of_a_band_do():
    rows = np.array([[1, 2, 3, 4], [1, 2, 9, 4]], dtype=np.uint32)
    keys = band_keys(rows, bands=2, rows=2)
    assert keys.shape == (2, 2)
    assert (keys[0] == keys[1]).tolist() == [True, False]


def test_exact_duplicates_ignore_marks_and_keep_the_first_in_order():
    keys = exact_keys(["保本，收益", "保本 收益！", "别的"])
    assert keys[0] == keys[1] != keys[2]
    assert exact_duplicates(keys, [1, 0, 2]) == {0: 1}


def test_near_duplicates_find_all_pairs_above_the_threshold_and_no_other():
    texts = [*variants(30, seed=4), *variants(30, seed=5)]
    keys = band_keys(signatures(texts, num_hashes=200, ngram=5), bands=50, rows=4)
    dropped = near_duplicates(
        keys, range(len(texts)), lambda i: texts[i], ngram=5, threshold=0.8
    )
    kept = [i for i in range(len(texts)) if i not in dropped]
    for i, (original, similarity) in dropped.items():
        assert original in kept
        assert similarity == pytest.approx(python_jaccard(texts[i], texts[original], 5))
        assert similarity >= 0.8
    for a in kept:
        for b in kept:
            assert a == b or python_jaccard(texts[a], texts[b], 5) < 0.8


def test_pairs_of_one_group_are_left_alone():
    texts = [BASE, BASE + "补充一句。"]
    keys = band_keys(signatures(texts, num_hashes=120, ngram=5), bands=20, rows=6)

    def run(groups):
        order, text_of = range(2), texts.__getitem__
        return near_duplicates(
            keys, order, text_of, ngram=5, threshold=0.8, groups=groups
        )

    assert list(run(None)) == [1]
    assert list(run(["general_zh", "finance_zh"])) == [1]
    assert run(["general_zh", "general_zh"]) == {}


def test_spans_cover_everything_within_the_limit():
    parts = spans(np.array([3, 3, 3, 20, 1]), 6)
    assert [(p.start, p.stop) for p in parts] == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert spans(np.array([], dtype=int), 6) == []
