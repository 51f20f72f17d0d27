"""A filter of one's own: from a notebook cell or a file, on every executor."""

import dataclasses
import functools
import linecache
import re

import numpy as np
import pytest

from finllm_utils.data.own_filters import (
    filter_sources,
    judge,
    read_filters,
    write_filters,
)
from finllm_utils.data.pipeline import clean_corpus
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document

CONFIG = load_profile("toy").data
LIMIT, PATTERN = 2, re.compile("债券")
TEXTS = (
    "久期衡量债券价格对利率变化的敏感程度，利率上升的时候，久期长的债券价格跌得更多一些，这是常识。",
    "存款保险实行限额的偿付办法，同一个存款人在同一家机构里的全部本息要合并在一起来计算和偿付。",
    "市盈率等于股票的价格除以每股的收益，周期股在盈利最高的那个时点上市盈率反而是最低的，要小心。",
)
CELL = """
import re
BONDS = ["债券"]
def no_bonds(text: str, meta: Meta) -> tuple[bool, str]:
    number = sum(len(re.findall(word, text)) for word in BONDS)
    return number < 2, f"bonds:{number}"
"""


def documents() -> list[Document]:
    return [
        Document(id=f"d{i}", text=text, source="test", domain="finance_zh")
        for i, text in enumerate(TEXTS)
    ]


def clean(folder, filters=(), **settings):
    rejected, funnel = clean_corpus(
        documents(), dataclasses.replace(CONFIG, **settings), heldout=[],
        output=folder / "out", work_dir=folder / "work", num_workers=1,
        filters=filters,
    )  # fmt: skip
    return {r["id"]: (r["step"], r["reason"]) for r in rejected}, funnel


def from_cell(code: str, name: str):
    """The function of a notebook cell: IPython keeps the source in linecache."""
    file = f"<ipython-input-{abs(hash(code))}>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    scope = {"__name__": "__main__", "Meta": dict}
    exec(compile(code, file, "exec"), scope)
    return scope[name]


def of_two_insurers(text, meta):
    if meta["id"] == "d1" and meta["domain"] == "finance_zh":
        return False, "deposits"
    return text.count("股") < LIMIT, f"shares of {meta['source']}"


def test_a_function_drops_with_its_name_and_reason(tmp_path):
    rejected, funnel = clean(tmp_path, [of_two_insurers])
    assert rejected == {
        "d1": ("own", "of_two_insurers:deposits"),
        "d2": ("own", "of_two_insurers:shares of test"),
    }
    left = {r["step"]: r["docs"] for r in funnel if r["domain"] == "finance_zh"}
    assert (left["harm"], left["own"]) == (3, 1)


def test_a_cell_brings_its_imports_and_plain_values(tmp_path):
    function = from_cell(CELL, "no_bonds")
    rejected, _ = clean(tmp_path, [function])
    assert rejected == {"d0": ("own", "no_bonds:bonds:2")}


def test_a_changed_function_or_value_is_another_run_the_same_one_is_not(tmp_path):
    def runs() -> int:
        return len(list((tmp_path / "work").iterdir()))

    clean(tmp_path, [from_cell(CELL, "no_bonds")])
    clean(tmp_path, [from_cell(CELL, "no_bonds")])
    assert runs() == 1
    other = CELL.replace('["债券"]', '["市盈率"]')
    assert clean(tmp_path, [from_cell(other, "no_bonds")])[0] == {
        "d2": ("own", "no_bonds:bonds:2")
    }
    clean(tmp_path)
    assert runs() == 3


def test_a_file_is_named_in_the_settings_and_may_lie_anywhere(tmp_path):
    for name in ("a", "b"):
        file = tmp_path / name / "mine.py"
        file.parent.mkdir()
        file.write_text(CELL.replace("Meta", "dict"), "utf-8")
        config = dataclasses.replace(CONFIG, filters=(f"{file}:no_bonds",))
        rejected, _ = clean_corpus(
            documents(), config, heldout=[], output=tmp_path / "out",
            work_dir=tmp_path / "work", num_workers=2,
        )  # fmt: skip
        assert [r["reason"] for r in rejected] == ["no_bonds:bonds:2"]
    assert len(list((tmp_path / "work").iterdir())) == 1, "the place does not count"


def closing():
    limit = 3

    def closure(text, meta):
        return len(text) > limit, ""

    return closure


def uses_pattern(text, meta):
    return not PATTERN.search(text), "bonds"


def without_source():
    scope = {}
    exec("def gone(text, meta):\n    return True, ''", scope)
    return scope["gone"]


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([lambda text, meta: (True, "")], "made with def"),
        ([functools.partial(of_two_insurers)], "made with def"),
        ([closing()], "closure uses limit"),
        ([uses_pattern], "uses PATTERN, a Pattern from outside: put"),
        ([without_source()], "gone has no source here"),
        ([of_two_insurers, of_two_insurers], "two filters are called of_two_insurers"),
    ],
)
def test_a_function_that_cannot_stand_alone_is_refused(functions, message):
    with pytest.raises(ValueError, match=message):
        filter_sources(functions, ())


def test_settings_that_cannot_work_say_so(tmp_path):
    with pytest.raises(ValueError, match="write path/to/file.py:function"):
        dataclasses.replace(CONFIG, filters=("mine.py",))
    with pytest.raises(ValueError, match="there is no file"):
        filter_sources((), (f"{tmp_path}/mine.py:f",))
    (tmp_path / "mine.py").write_text("import nothing_of_this_name")
    with pytest.raises(ValueError, match="does not run by itself"):
        filter_sources((), (f"{tmp_path}/mine.py:f",))
    (tmp_path / "mine.py").write_text("g = 1")
    with pytest.raises(ValueError, match="no function f"):
        filter_sources((), (f"{tmp_path}/mine.py:f",))


def fails(text, meta):
    return text[10**6], ""


def gives_none(text, meta):
    return None


def gives_text_first(text, meta):
    return "drop", "reason"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fails, "filter fails, document d0: IndexError"),
        (gives_none, "filter gives_none, document d0: returned None; return"),
        (gives_text_first, "returned \\('drop', 'reason'\\)"),
    ],
)
def test_a_filter_that_fails_names_itself_and_the_document(function, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        clean(tmp_path, [function])


def changes_meta(text, meta):
    meta.clear()
    return True, ""


def test_filters_run_in_order_and_cannot_change_the_document(tmp_path):
    write_filters(filter_sources([changes_meta, of_two_insurers], ()), tmp_path)
    found = read_filters(tmp_path)
    assert list(found) == ["changes_meta", "of_two_insurers"]
    meta = {"id": "d1", "domain": "finance_zh", "source": "x"}
    assert judge(found, "d1", "文", meta) == (False, "of_two_insurers:deposits")
    assert judge({"f": lambda t, m: (np.bool(False), "")}, "d", "文", {}) == (
        False,
        "f",
    )
    assert judge({}, "d", "文", {}) == (True, "")
