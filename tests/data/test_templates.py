"""Templates and paragraphs: cut everywhere but in the best text, nothing else touched."""

import numpy as np
import pytest

from finllm_utils.data.paragraphs import ParagraphCutter, paragraph_hashes
from finllm_utils.data.templates import TemplateCutter, document_windows

NOTICE = (
    "本文所载信息仅供参考之用，并不构成对任何人的投资建议，读者应当独立判断并自行承担由此产生的全部风险，"
    "作者与发布机构对依据本文作出的决定不负任何责任。"
)
BODIES = (
    "久期衡量债券价格对利率变化的敏感程度。利率上升时，久期长的债券跌得更多。",
    "存款保险实行限额偿付。同一存款人在同一家机构的本息合并计算。",
    "市盈率等于股价除以每股收益。周期股在盈利高点时市盈率反而最低。",
    "信用卡账单日与还款日之间是免息期。取现不享受免息。",
)
PAGES = [f"{body}\n{NOTICE}" for body in BODIES]


def template_windows(texts, *, ngram: int, min_docs: int) -> np.ndarray:
    """Sorted hashes of the sampled windows that stand in ``min_docs`` texts."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *document_windows(texts, ngram)])
    found, counts = np.unique(hashes, return_counts=True)
    return found[counts >= min_docs]


def cut_all(cutter, texts, order=None) -> dict[int, str]:
    changed = {}
    for i in order or range(len(texts)):
        left = cutter.cut(texts[i])
        cutter.keep(left)
        if left != texts[i]:
            changed[i] = left
    return changed


def cut(texts, order=None, min_docs=3, ngram=30):
    windows = template_windows(texts, ngram=ngram, min_docs=min_docs)
    return cut_all(TemplateCutter(windows, ngram), texts, order)


def test_the_best_document_keeps_the_template_and_the_others_lose_it():
    changed = cut(PAGES, order=[2, 0, 1, 3])
    assert changed == {i: BODIES[i] for i in (0, 1, 3)}


def test_a_passage_of_too_few_documents_is_no_template():
    assert cut(PAGES, min_docs=5) == {}
    assert cut([PAGES[0], PAGES[0], BODIES[1]]) == {}  # two documents, not three


def test_a_template_is_found_in_another_spelling_and_place():
    spelled = NOTICE.replace("，", ", ").replace("投资建议", " 投资\u3000建议")
    texts = [*PAGES[:2], f"{spelled}\n{BODIES[2]}"]
    assert cut(texts)[2] == BODIES[2]


def test_a_sentence_that_only_quotes_a_little_of_a_template_stays():
    quote = f"公司声明称{NOTICE[:32]}，但投资者仍然可以依法要求赔偿，法院近年已有多起判决支持这一主张，值得留意。"
    assert 3 not in cut([*PAGES[:3], quote], ngram=32)


def test_repeats_inside_one_document_do_not_make_a_template():
    assert cut([NOTICE * 5, *BODIES]) == {}


def test_empty_and_short_texts_are_left_alone():
    assert cut(["", "短", *PAGES])[3] == BODIES[1]
    assert len(template_windows([], ngram=30, min_docs=2)) == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_windows_equal_brute_force(seed):
    generator = np.random.default_rng(seed)
    letters = [chr(0x4E00 + i) for i in range(3)]
    texts = ["".join(generator.choice(letters, 40)) for _ in range(30)]
    count: dict[str, int] = {}
    for text in texts:
        for window in {text[i : i + 4] for i in range(len(text) - 3)}:
            count[window] = count.get(window, 0) + 1
    frequent = [window for window, n in count.items() if n >= 11]
    alone = {
        w: template_windows([w], ngram=4, min_docs=1).tolist() for w in frequent
    }  # empty where the window is not in the sample
    expected = sorted(h for hashes in alone.values() for h in hashes)
    found = template_windows(texts, ngram=4, min_docs=11)
    assert found.tolist() == expected
    assert 0 < len(expected) < len(frequent)


def test_a_long_paragraph_stays_in_the_best_text_and_once_in_it():
    texts = [f"{BODIES[0]}\n{NOTICE}\n{NOTICE}", f"{NOTICE}\n{BODIES[1]}", BODIES[0]]
    assert cut_all(ParagraphCutter(40), texts) == {
        0: f"{BODIES[0]}\n{NOTICE}",
        1: BODIES[1],
    }
    assert cut_all(ParagraphCutter(40), texts, order=[1, 0, 2]) == {0: BODIES[0]}
    assert cut_all(ParagraphCutter(0), texts) == {}


def test_a_paragraph_is_found_in_another_spelling_but_not_inside_another():
    spelled = NOTICE.replace("，", ", ")
    longer = f"{NOTICE}此外还有一句。"
    texts = [NOTICE, f"{BODIES[0]}\n{spelled}", longer]
    assert cut_all(ParagraphCutter(40), texts) == {1: BODIES[0]}


def test_paragraph_hashes_count_letters_only():
    text = f"{'，' * 60}短\n{'甲' * 39}\n{'甲' * 40}\n{'乙' * 41}，"
    assert [len(h) for h in paragraph_hashes([text, "", "甲" * 40], 40)] == [2, 0, 1]
    first, alone = paragraph_hashes([text, "甲" * 40], 40)
    assert first[0] == alone[0]
