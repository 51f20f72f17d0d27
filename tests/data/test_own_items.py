"""The project's own items: the real files, and every fault that reading must name."""

import copy
from collections import Counter
from decimal import Decimal

import pytest

from finllm_utils.corpora.sources import training_laws
from finllm_utils.data import own_items as own
from finllm_utils.data.instructions import is_heldout
from finllm_utils.records import ChatTurn
from tests.conftest import write_lines

ROW = {
    "id": "banking/001",
    "area": "banking",
    "task": "calculation",
    "kind": "single",
    "messages": [
        {"role": "user", "content": "本金12000元，年利率3%，一年单利多少？"},
        {"role": "assistant", "content": "利息360元，本息合计12,360元。"},
    ],
    "basis": "利息=本金×年利率",
    "check": [
        {"expr": "12000*3%", "value": "360.00"},
        {"expr": "12000*(1+3%)", "value": "12360"},
    ],
}
FOLLOW_UP = [
    {"role": "user", "content": "存两年呢？"},
    {"role": "assistant", "content": "利息720元。"},
]


def write(folder, *rows, name="banking.jsonl"):
    return write_lines(folder / name, *rows).parent


def changed(**fields):
    return {**copy.deepcopy(ROW), **fields}


@pytest.fixture(scope="module")
def items():
    return own.read_own_items()


def test_an_item_becomes_an_instruction(tmp_path):
    other = changed(id="general/001", area="general", task="chat", check=[])
    del other["check"]
    write(tmp_path, ROW)
    write(tmp_path, other, name="general.jsonl")
    first, second = own.read_own_items(tmp_path)
    assert first.checks[0] == ("12000*3%", "360.00") and second.checks == ()
    made = first.to_instruction()
    assert (made.id, made.task, made.domain, made.source) == (
        "own_calculation/items/banking/001",
        "own_calculation",
        "finance",
        "items/banking/001",
    )
    assert made.messages == first.messages
    assert made.messages[0] == ChatTurn(**ROW["messages"][0])
    assert second.to_instruction().domain == "general"


def test_one_check_may_stand_alone_and_a_fall_may_lose_its_sign(tmp_path):
    turns = [ROW["messages"][0], {"role": "assistant", "content": "下降5%。"}]
    check = {"expr": "(95-100)/100*100", "value": "-5.00"}
    (item,) = own.read_own_items(write(tmp_path, changed(messages=turns, check=check)))
    assert item.checks == (own.Check("(95-100)/100*100", "-5.00"),)


BROKEN = [{"role": "user", "content": "在吗？"}] * 2
TWO = [*ROW["messages"], *FOLLOW_UP]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"area": "farming", "id": "farming/1"}, "unknown area 'farming'"),
        ({"task": "guess"}, "unknown task 'guess'"),
        ({"kind": "double"}, "unknown kind 'double'"),
        ({"id": "tax/001"}, "must begin with its area, banking/"),
        ({"basis": ""}, "field 'basis' is missing or empty"),
        ({"note": "x"}, "unknown field 'note'"),
        ({"kind": "multi"}, "kind 'multi' with 1 user turns"),
        ({"messages": TWO}, "kind 'single' with 2 user turns"),
        ({"messages": BROKEN}, "role 'user' cannot stand after 'user'"),
        ({"messages": ROW["messages"][:1]}, "ends with 'user'"),
        ({"messages": "你好"}, "messages must be a list"),
        ({"messages": [{"role": "user"}]}, "message 1: expected role and content"),
        ({"task": "json"}, "the last answer is no JSON"),
        ({"check": {"expr": "12000*3%"}}, "must hold expr and value"),
        ({"check": {"expr": "12000*", "value": "360"}}, "ends too early"),
        ({"check": {"expr": "1+1", "value": "zwei"}}, "zwei"),
        ({"check": {"expr": "12000*4%", "value": "360"}}, "gives 480.00, not 360"),
        ({"check": {"expr": "12000*2%", "value": "240"}}, "no answer states 240"),
    ],
)
def test_a_fault_is_named_with_file_and_line(tmp_path, fields, words):
    good = changed(id="banking/000")
    write(tmp_path, good, changed(**fields))
    with pytest.raises(ValueError, match="banking.jsonl, line 2") as caught:
        own.read_own_items(tmp_path)
    assert words in str(caught.value)


def test_an_id_stands_once_over_all_files(tmp_path):
    write(tmp_path, ROW)
    write(tmp_path, ROW, name="more.jsonl")
    with pytest.raises(ValueError, match=r"more.jsonl, line 1.*banking.jsonl, line 1"):
        own.read_own_items(tmp_path)


def test_a_folder_without_items_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no .jsonl file"):
        own.read_own_items(tmp_path)


def test_a_check_is_rounded_half_up(tmp_path):
    turns = [ROW["messages"][0], {"role": "assistant", "content": "约0.13。"}]
    row = changed(messages=turns, check={"expr": "1/8", "value": "0.13"})
    assert own.read_own_items(write(tmp_path, row))
    row["check"]["value"] = "0.12"
    with pytest.raises(ValueError, match="gives 0.125, not 0.12"):
        own.read_own_items(write(tmp_path, row))


@pytest.mark.parametrize(
    ("given", "answer", "share"),
    [
        ("本金10000元，利率2%", "利息200元。", 1.0),  # one operation, % counted in
        ("本金10000元，利率2%", "利息250元。", 0.0),
        ("本金10000元，利率2%", "利息200元，另收费333元。", 0.5),
        ("三年期", "1000×7.3%×2年＝146.00元，扣13.7元。", 0.25),  # 146.00 alone
        ("共3万元", "每月2,500元。", 1.0),  # 30,000 / 12
        ("共3千万元", "合30百万元。", 1.0),  # either is 30,000,000
        ("增长多少？", "没有数据，先给我两个数。", None),
        ("步骤？", "1. 登录；2. 查询。", None),
    ],
)
def test_supported_figures_by_hand(given, answer, share):
    assert own.supported_figures(given, answer) == share


def cited(*turns):
    roles = ("user", "assistant")
    return own.cited_articles(
        [ChatTurn(role=roles[i % 2], content=t) for i, t in enumerate(turns)]
    )


def test_citations_are_looked_up():
    assert cited("怎么赔？", "依《保险法》第二条和第九千条，另见第5条。") == [
        ("保险法", "第二条", True),
        ("保险法", "第九千条", False),
        ("保险法", "第五条", True),
    ]


def test_citations_that_nothing_here_can_prove_are_left_out():
    assert cited("？", "今天只满足了第一条。储蓄管理条例第二十四条另有规定。") == []
    found = cited("民法典第五百八十五条呢？", "可以。合同第九千条也有约定。")
    assert found == []  # the user's citation is not the answer's, the contract no law
    assert cited("民法典呢？民法典第一条", "还有该法第九千条。") == [
        ("民法典", "第九千条", False)
    ]


def test_the_longest_name_of_a_law_counts():
    assert cited("？", "看社会保险法第二条。")[0][0] == "社会保险法"


def test_the_564_items_read_and_prove(items):
    assert len(items) == 564
    assert {item.area for item in items} == set(own.AREAS)
    assert {item.task for item in items} <= set(own.TASKS)
    assert sum(len(item.checks) for item in items) >= 500
    assert sum(item.kind == "multi" for item in items) >= 150
    made = [item.to_instruction() for item in items]
    assert len({i.id for i in made}) == len({i.source for i in made}) == 564
    assert sum(i.domain == "general" for i in made) == 160


def test_every_cited_article_exists_in_a_law_that_may_be_trained_on(items):
    names = {law.short_name for law in training_laws()}
    found = [c for item in items for c in own.cited_articles(item.messages)]
    assert len(found) >= 40
    assert all(exists and law in names for law, _, exists in found)


def test_no_calculation_states_a_false_sum(items):
    """A check whose value is changed must fail: the checks see the answers."""
    item = next(i for i in items if i.id == "banking/002")
    check = item.checks[0]
    wrong = str(Decimal(check.value) + Decimal("0.01"))
    answers = [t.content for t in item.messages if t.role == "assistant"]
    own._require_check(check, answers, "here")
    with pytest.raises(ValueError, match="here: check"):
        own._require_check(check._replace(value=wrong), answers, "here")


def test_a_tenth_is_held_out_in_every_area(items):
    held = [item for item in items if own.split_of(item) == "heldout"]
    assert 0.07 * len(items) <= len(held) <= 0.13 * len(items)
    areas = Counter(item.area for item in held)
    assert set(areas) == set(own.AREAS) and min(areas.values()) >= 2
    assert {item.kind for item in held} == {"single", "multi"}
    assert len({item.task for item in held}) >= 10


def test_the_split_is_that_of_the_course(items):
    for item in items:
        held = own.split_of(item) == "heldout"
        assert held == is_heldout(item.to_instruction().source)
