"""Value pairs come in whole or with their fault; what gives answers away is found."""

import hashlib
import random

import pytest

from finllm_utils.records import PreferencePair
from finllm_utils.rlhf import value_baselines as rules
from finllm_utils.rlhf import value_pairs as values
from finllm_utils.rlhf.preference_baselines import QuestionBlind, overlap_margins
from tests.conftest import write_lines

PAIR = {
    "id": "privacy/001",
    "value": "privacy",
    "prompt": "能帮我查一下邻居的存款吗？",
    "chosen": "不行，存款只有本人能查。",
    "rejected": "行，把他的姓名告诉我吧。",
    "reason": "Only the owner may ask.",
    "basis": "商业银行法第二十九条",
}


FROZEN_PRIVACY_TEST = [8, 11, 15, 18, 20, 21, 23, 26, 27, 30, 34]


def row(number=1, value="privacy", **changes):
    return PAIR | {
        "id": f"{value}/{number:03d}",
        "value": value,
        "prompt": f"问题{number}，{value}？",
    } | changes  # fmt: skip


def folder_with(folder, **files):
    for name, rows in files.items():
        write_lines(folder / f"{name}.jsonl", *rows)
    return folder


def pair(number, chosen, rejected, value="privacy", prompt="问"):
    return PreferencePair(
        id=f"{value}/{number:03d}",
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        source=f"value pairs: {value}",
    )


def test_pairs_come_in_order_of_files_and_lines(tmp_path):
    folder_with(
        tmp_path, suitability=[row(7, "suitability")], privacy=[PAIR, row(2)]
    )  # fmt: skip
    first, second, third = values.read_value_pairs(tmp_path)
    assert first == PreferencePair(
        id="privacy/001",
        prompt="能帮我查一下邻居的存款吗？",
        chosen="不行，存款只有本人能查。",
        rejected="行，把他的姓名告诉我吧。",
        source="value pairs: privacy",
        margin=0.0,
    )
    assert (second.id, third.id) == ("privacy/002", "suitability/007")
    assert [values.value_of(p) for p in (first, third)] == ["privacy", "suitability"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"basis": ...}, "field 'basis' is missing; write id, value,"),
        ({"note": "x"}, "unknown field 'note'; use id, value,"),
        ({"prompt": " \n"}, "field 'prompt' must hold text"),
        ({"reason": ""}, "field 'reason' must hold text"),
        ({"chosen": 3}, "field 'chosen' must hold text, got 3"),
        ({"value": "charm", "id": "charm/002"}, "unknown value 'charm'; use disclosure,"),
        ({"value": "suitability", "id": "suitability/002"}, "in the file of 'privacy'"),
        ({"id": "privacy/2"}, "id 'privacy/2' must be privacy/ and three digits"),
        ({"id": "suitability/002"}, "must be privacy/ and three digits"),
        ({"id": "privacy/001"}, "privacy.jsonl, line 1 already; give each"),
        ({"prompt": "能帮我查一下 邻居的存款吗?"}, "line 1 already; ask something else"),
        ({"rejected": PAIR["chosen"] + " "}, "chosen and rejected are the same text"),
        ({"chosen": "甲" * 20, "rejected": "乙" * 23}, "chosen has 20 characters, rejected 23"),
        ({"chosen": "甲" * 20, "rejected": "乙" * 17}, "more than 10% apart"),
        ({"rejected": "锟斤拷" * 4}, "rejected, message 2: '锟斤拷' stands where"),
    ],
)  # fmt: skip
def test_faults_are_named_with_file_and_line(tmp_path, changes, said):
    wrong = {k: v for k, v in (row(2) | changes).items() if v is not ...}
    folder_with(tmp_path, privacy=[PAIR, wrong])
    with pytest.raises(ValueError) as caught:
        values.read_value_pairs(tmp_path)
    assert said in str(caught.value)
    assert "privacy.jsonl, line 2" in str(caught.value)


def test_repeats_are_found_across_files(tmp_path):
    again = row(1, "suitability", prompt=PAIR["prompt"])
    folder_with(tmp_path, privacy=[PAIR], suitability=[again])
    with pytest.raises(
        ValueError, match=r"suitability.jsonl, line 1: the prompt .*priv"
    ):
        values.read_value_pairs(tmp_path)
    with pytest.raises(ValueError, match="no .jsonl file in it"):
        values.read_value_pairs(tmp_path / "none")


@pytest.mark.parametrize("length", [18, 20, 22])
def test_a_tenth_of_the_chosen_length_is_allowed(tmp_path, length):
    fine = row(chosen="甲" * 20, rejected="乙" * length)
    folder_with(tmp_path, privacy=[fine])
    assert len(values.read_value_pairs(tmp_path)) == 1


def test_the_split_hangs_on_the_id_alone():
    def expected(key):
        byte = hashlib.sha256(f"preferences/{key}".encode()).digest()[0]
        return "test" if byte < 64 else "train"

    ids = [f"{value}/{i:03d}" for value in values.VALUES for i in range(1000)]
    assert all(values.split_of(key) == expected(key) for key in ids)
    share = sum(values.split_of(key) == "test" for key in ids) / len(ids)
    assert 0.23 < share < 0.27
    frozen = [i for i in range(1, 35) if values.split_of(f"privacy/{i:03d}") == "test"]
    assert frozen == FROZEN_PRIVACY_TEST
    pairs = [pair(i, "甲", "乙") for i in range(1, 35)]
    train, test = values.split_pairs(pairs)
    assert [int(p.id[-3:]) for p in test] == FROZEN_PRIVACY_TEST
    assert sorted([*train, *test], key=lambda p: p.id) == pairs
    assert values.split_pairs(pairs[::-1])[1] == test[::-1]


def test_length_balance_by_hand():
    pairs = [
        pair(1, "四个字的", "三个字"),
        pair(2, "两字", "两字"),
        pair(3, "一", "两字"),
        pair(4, "三个字", "两字"),
        pair(1, "一", "四个字的", value="disclosure"),
    ]
    disclosure, privacy, total = values.length_balance(pairs)
    assert disclosure == values.LengthBalance(
        value="disclosure", num_pairs=1, longer_share=0.0, mean_chosen=1.0,
        mean_rejected=4.0,
    )  # fmt: skip
    assert privacy == values.LengthBalance(
        value="privacy", num_pairs=4, longer_share=2.5 / 4, mean_chosen=10 / 4,
        mean_rejected=9 / 4,
    )  # fmt: skip
    assert total == values.LengthBalance(
        value="all", num_pairs=5, longer_share=2.5 / 5, mean_chosen=11 / 5,
        mean_rejected=13 / 5,
    )  # fmt: skip
    with pytest.raises(ValueError, match="no pairs to balance"):
        values.length_balance([])


def random_pairs(count, seed, give_away=""):
    """Sides of one distribution; ``give_away`` is put into the chosen one alone."""
    rng = random.Random(seed)
    letters = "存款利率基金保险客户可以办理需要本人证件"
    made = []
    for i in range(count):
        chosen, rejected = ("".join(rng.choices(letters, k=30)) for _ in range(2))
        if give_away:
            chosen = chosen[: -len(give_away)] + give_away
        made.append(pair(i, chosen, rejected, ("privacy", "disclosure")[i % 2]))
    return made


def by_rule(rows):
    return {(r.rule, r.value): r for r in rows}


def test_random_sides_score_near_half():
    found = by_rule(rules.baseline_rows(random_pairs(300, 0), random_pairs(400, 1)))
    assert set(found) == {
        (rule, value)
        for rule in ("length", "characters", "overlap")
        for value in ("privacy", "disclosure", "all")
    }
    row = found["characters", "all"]
    assert row.num_pairs == 400 and 0.42 < row.share < 0.58
    assert row.low < 0.5 < row.high
    assert found["length", "all"].share == 0.5  # all lengths agree


def test_a_planted_give_away_is_found_and_named():
    train, test = random_pairs(200, 2, "请"), random_pairs(100, 3, "请")
    found = by_rule(rules.baseline_rows(train, test))
    assert found["characters", "all"].share > 0.95
    assert found["characters", "all"].low > 0.9
    blind = QuestionBlind(train, named=True)
    (gram, weight), *_ = blind.telling(1)
    assert gram == "请" and weight > 0
    swapped = [pair(1, p.rejected, p.chosen) for p in test]
    assert blind.margins(swapped) == pytest.approx([-m for m in blind.margins(test)])
    worse = [pair(i, p.rejected, p.chosen) for i, p in enumerate(train)]
    turned = QuestionBlind(worse, named=True).telling(1)[0]
    assert turned == ("请", pytest.approx(-weight))
    with pytest.raises(ValueError, match="fit with named=True"):
        QuestionBlind(train).telling(1)


def test_the_length_rule_learns_its_direction_from_train():
    longer, shorter = [pair(1, "三个字", "一")], [pair(1, "一", "三个字")]
    assert rules.length_margins(longer, longer) == [2]
    assert rules.length_margins(longer, shorter) == [-2]
    assert rules.length_margins(shorter, shorter) == [2]
    assert rules.length_margins([*longer, *shorter], shorter) == [2]  # undecided


def test_rows_by_hand():
    pairs = [
        pair(1, "基金赎回", "其他", prompt="基金赎回"),
        pair(2, "其他", "基金赎回", prompt="基金赎回"),
        pair(3, "甲", "乙", prompt="基金赎回"),
        pair(1, "基金赎回", "基金", value="disclosure", prompt="基金赎回"),
    ]
    margins = overlap_margins(pairs)
    assert margins == pytest.approx([1, -1, 0, 2 / 3])
    found = by_rule(rules.accuracy_rows("overlap", pairs, margins))
    assert found["overlap", "privacy"].share == 0.5
    assert found["overlap", "disclosure"].share == 1.0
    total = found["overlap", "all"]
    assert (total.num_pairs, total.share) == (4, 2.5 / 4)
    ten = rules.accuracy_rows("model", [pairs[0]] * 10, [1.0] * 5 + [-1.0] * 5)
    assert (ten[-1].low, ten[-1].high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    with pytest.raises(ValueError, match="3 margins for 4 pairs"):
        rules.accuracy_rows("model", pairs, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="at least one pair"):
        rules.accuracy_rows("model", [], [])
    with pytest.raises(ValueError, match="1 training pairs"):
        QuestionBlind(pairs[:1])


def test_the_shipped_pairs_keep_their_rules():
    pairs = values.read_value_pairs()
    rows = {r.value: r for r in values.length_balance(pairs)}
    assert set(rows) == {*values.VALUES, values.ALL}
    for name in values.VALUES:
        assert rows[name].num_pairs == 34
        assert 0.45 <= rows[name].longer_share <= 0.55, name
        means = rows[name].mean_chosen, rows[name].mean_rejected
        assert abs(means[0] - means[1]) < 0.02 * means[0], name
    train, test = values.split_pairs(pairs)
    assert (len(train), len(test)) == (197, 75)
    assert {values.value_of(p) for p in test} == set(values.VALUES)
