"""The text classifier: features by hand, learning, calibration, saving."""

import numpy as np
import pytest

from finllm_utils.data.gold import GoldItem
from finllm_utils.data.labelled import gold_texts
from finllm_utils.data.quality import (
    BITS,
    MAX_CHARS,
    TextClassifier,
    hashed_ngrams,
    score_probabilities,
    train_classifier,
)

GOOD = "银行不保证本金和收益，投资者应当充分认识风险，并仔细阅读说明书第{}页的内容。"
BAD = "老师带单稳赚不赔！！！加微信领取牛股{}，名额有限，速来！！！"


def examples(count):
    texts = [t.format(i) for i in range(count) for t in (GOOD, BAD)]
    return texts, [1, 0] * count, [str(i) for i in range(2 * count)]


def test_features_count_every_ngram_once_and_have_length_one():
    row = hashed_ngrams(["甲乙甲乙"]).toarray()[0]
    # 甲 and 乙 twice, 甲乙 twice, 乙甲 once, 甲乙甲 and 乙甲乙 once
    values = np.sort(row[row > 0])
    twice, once = 1 + np.log(2), 1.0
    norm = (3 * twice**2 + 3 * once**2) ** 0.5
    assert values == pytest.approx([once / norm] * 3 + [twice / norm] * 3, rel=1e-5)


def test_features_do_not_depend_on_the_batch():
    texts = ["利率下调。", "", "Abc abc", "久期"]
    together = hashed_ngrams(texts).toarray()
    for row, text in zip(together, texts, strict=True):
        assert (row == hashed_ngrams([text]).toarray()[0]).all()
    assert together[1].sum() == 0
    assert (hashed_ngrams(["ABC"]) != hashed_ngrams(["abc"])).nnz == 0


def test_only_the_beginning_counts():
    long = "债券" * MAX_CHARS
    assert (hashed_ngrams([long]) != hashed_ngrams([long[:MAX_CHARS]])).nnz == 0


def test_it_learns_and_scores_unseen_texts():
    model, scores = train_classifier(*examples(30), seed=0)
    assert scores["auc"] == 1.0
    assert scores["majority"] == 0.5
    good, bad = model.probabilities([GOOD.format("九十九"), BAD.format("某某")])
    assert good > 0.9 > 0.1 > bad


def test_copies_in_one_group_do_not_help_to_guess_random_labels():
    generator = np.random.default_rng(0)
    texts, labels, groups = [], [], []
    for i in range(60):
        text = "".join(chr(c) for c in generator.integers(0x4E00, 0x9000, 50))
        label = int(generator.integers(2))
        texts += [text, text]
        labels += [label, label]
        groups += [str(i), str(i)]
    leaky = train_classifier(texts, labels, [str(i) for i in range(120)], seed=0)[1]
    honest = train_classifier(texts, labels, groups, seed=0)[1]
    assert leaky["auc"] > 0.9
    assert honest["auc"] < 0.7


def test_scores_by_hand():
    scores = score_probabilities(np.array([0.9, 0.8, 0.3, 0.2]), [1, 0, 1, 0])
    assert scores["auc"] == 0.75
    assert scores["accuracy"] == 0.5
    assert scores["brier"] == pytest.approx((0.01 + 0.64 + 0.49 + 0.04) / 4)
    assert scores["calibration_error"] == pytest.approx((0.1 + 0.8 + 0.7 + 0.2) / 4)
    assert scores["majority"] == 0.5


def test_saved_and_loaded_is_the_same(tmp_path):
    model, _ = train_classifier(*examples(10), seed=0)
    model.save(tmp_path / "quality.npz")
    again = TextClassifier.load(tmp_path / "quality.npz")
    texts = [GOOD.format(1), BAD.format(1)]
    assert (again.probabilities(texts) == model.probabilities(texts)).all()


def test_a_foreign_or_broken_file_is_named(tmp_path):
    path = tmp_path / "quality.npz"
    path.write_bytes(b"not an array")
    with pytest.raises(ValueError, match="quality.npz: not a text classifier"):
        TextClassifier.load(path)
    np.savez(path, weights=np.zeros(4), numbers=np.zeros(3))
    with pytest.raises(ValueError, match="made with other features"):
        TextClassifier.load(path)
    np.savez(path, weights=np.array([{}], dtype=object), numbers=np.zeros(3))
    with pytest.raises(ValueError, match="not a text classifier"):
        TextClassifier.load(path)  # a pickle inside is refused
    assert BITS == 18


def test_too_few_labels_say_so():
    with pytest.raises(ValueError, match="class 0 has 3 groups"):
        train_classifier(*examples(3), seed=0)


def test_gold_texts_are_masked_as_in_the_chain_and_unreadable_files_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("客户经理的电话是１３８００１３８０００。", "utf-8")
    (tmp_path / "b.txt").touch()
    gold = [GoldItem(file=f"{n}.txt", clean=True, domain="x") for n in "ab"]
    assert gold_texts(gold, tmp_path) == {"a.txt": "客户经理的电话是[手机号]。"}


def test_the_reported_calibration_is_of_folds_that_were_not_calibrated_on():
    generator = np.random.default_rng(0)
    texts = [
        "".join(chr(c) for c in generator.integers(0x4E00, 0x9000, 40))
        for _ in range(200)
    ]
    labels = generator.integers(2, size=200).tolist()
    groups = [str(i) for i in range(200)]
    scores = train_classifier(texts, labels, groups, seed=0)[1]
    assert scores["brier"] == pytest.approx(0.25, abs=0.03)  # nothing to be learnt
