"""Several comparisons at once, against values worked out by hand."""

import numpy as np
import pytest

from finllm_utils.evals.item_results import ItemResult
from finllm_utils.evals.many_changes import changes_between, holm, sign_test


def results(credits, status="scored"):
    return [
        ItemResult(suite="exam", model="m", item=str(i), credit=c)
        if c is not None
        else ItemResult(
            suite="exam", model="m", item=str(i), credit=0, status="failed", detail="x"
        )
        for i, c in enumerate(credits)
    ]


def test_the_sign_test_by_hand():
    assert sign_test(1, 7) == sign_test(7, 1) == pytest.approx(2 * (1 + 8) / 256)
    assert sign_test(0, 5) == pytest.approx(2 / 32)
    assert sign_test(0, 0) == sign_test(3, 3) == 1
    with pytest.raises(ValueError, match="no counts"):
        sign_test(-1, 3)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.005, 0.9, 0.6]) == pytest.approx([0.06, 0.02, 1.0, 1.0])
    assert holm([]) == []
    with pytest.raises(ValueError, match="1.5"):
        holm([0.1, 1.5])


def test_a_change_is_judged_among_all_that_were_looked_at():
    base = results([0] * 10 + [1] * 10)
    clear = results([1] * 10 + [1] * 10)  # 10 gained: p = 2/1024
    weak = results([1] * 6 + [0] * 4 + [1] * 10)  # 6 gained: p = 2/64
    down = results([0] * 10 + [0] * 10)
    options = dict(num_bootstrap=200, seed=0)
    alone = changes_between({"weak": (base, weak)}, **options)
    assert alone["weak"].word == "better"
    assert alone["weak"].p_value == alone["weak"].adjusted_p == pytest.approx(2 / 64)
    found = changes_between(
        {"same": (base, base), "weak": (base, weak), "clear": (base, clear),
         "down": (base, down)},
        **options,
    )  # fmt: skip
    words = {name: one.word for name, one in found.items()}
    assert words == {
        "same": "no clear change",
        "weak": "no clear change",  # 2 * 2/64 > 0.05
        "clear": "better",
        "down": "worse",
    }
    assert found["weak"].change.word == "better"  # its own interval alone
    assert found["weak"].adjusted_p == pytest.approx(4 / 64)
    assert found["clear"].adjusted_p == pytest.approx(4 * 2 / 1024)
    assert (found["down"].num_gained, found["down"].num_lost) == (0, 10)


def test_failed_items_are_no_change():
    before, after = results([0, 1, None, 1]), results([1, None, 1, 0.5])
    found = changes_between({"x": (before, after)}, num_bootstrap=50, seed=0)["x"]
    assert (found.num_gained, found.num_lost) == (1, 1)
    assert found.change.value == pytest.approx((1 - 0.5) / 2)


def test_twenty_equal_models_are_rarely_called_different():
    """Any wrong word among 20 comparisons: at most 5%, where unadjusted ones exceed."""
    random = np.random.default_rng(0)
    wrong = alone = 0
    for _ in range(300):
        p_values = []
        for _ in range(20):
            before, after = random.random((2, 100)) < 0.5
            gained, lost = (after & ~before).sum(), (before & ~after).sum()
            p_values.append(sign_test(int(gained), int(lost)))
        wrong += min(holm(p_values)) <= 0.05
        alone += min(p_values) <= 0.05
    assert wrong / 300 <= 0.05
    assert alone / 300 > 0.3
