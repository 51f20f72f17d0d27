"""The gold files are what the gold file says of them."""

from finllm_utils.data.gold import read_gold
from finllm_utils.data.labelled import gold_texts
from finllm_utils.data.shingles import fold_texts


def shingles(text: str) -> set[str]:
    (folded,) = fold_texts([text])
    return {folded[i : i + 5] for i in range(len(folded) - 4)}


def test_planted_near_copies_are_near_as_the_chain_reads_them():
    gold = read_gold()
    copies = [g for g in gold if "near_duplicate" in g.faults]
    originals = {g.duplicate_of for g in copies}
    texts = gold_texts(g for g in gold if g in copies or g.file in originals)
    assert len(copies) >= 30
    for copy in copies:
        one, other = (shingles(texts[f]) for f in (copy.file, copy.duplicate_of))
        similarity = len(one & other) / len(one | other)
        assert similarity >= 0.81, f"{copy.file}: {similarity:.2f} is no near copy"
