"""Draws by hand, both contenders on the same ones, and labels scored token by token."""

import dataclasses
import random
from collections import Counter

import pytest
import torch

from finllm_utils.corpora.splits import insurance_questions
from finllm_utils.evals.tasks import label_efficiency as le
from finllm_utils.model.load import save_model
from finllm_utils.profiles import load_profile
from tests.evals.tiny import tiny_model, tiny_tokenizer

PROFILE = load_profile("toy")
CFG = dataclasses.replace(
    PROFILE.sft, max_seq_len=96, micro_batch_size=2, grad_accum_steps=1
)
RUNTIME = dataclasses.replace(PROFILE.runtime, device="cpu", dtype="float32")
WORDS = {"银行": "贷款利率归还", "保险": "赔付合同约定"}
KEYS = {"task", "size", "seed", "contender", "accuracy", "n"}


def separable(seed: int = 0, num_test: int = 20, name: str = "s") -> le.LabelTask:
    """Two labels whose texts share no character."""
    rng = random.Random(f"{seed}/{name}")
    rows: dict[str, str] = {}
    while len(rows) < 120 + num_test:
        label = ("银行", "保险")[len(rows) % 2]
        rows["".join(rng.choices(WORDS[label], k=12))] = label
    pairs = list(rows.items())
    return le.LabelTask(name, tuple(WORDS), pairs[num_test:], pairs[:num_test], "问：")


def skewed() -> le.LabelTask:
    """Six texts of a, three of b, one of c, and a test of two b and one a."""
    train = [(f"text {i}", label) for i, label in enumerate("aaaaaabbbc")]
    test = [("test 1", "b"), ("test 2", "b"), ("test 3", "a")]
    return le.LabelTask("skewed", ("a", "b", "c"), train, test)


@pytest.fixture(scope="module")
def packaged() -> dict[str, le.LabelTask]:
    return {task.name: task for task in le.label_tasks(0, 200)}


@pytest.mark.parametrize("size", [10, 100])  # without and with cross-validation
def test_tfidf_solves_what_can_be_separated(size):
    task = separable()
    texts, right = zip(*task.test, strict=True)
    drawn = le.draw_labels(task, size, seed=0)
    assert le.tfidf_predictions(drawn, texts, 0) == list(right)
    turned = [(text, label + "！") for text, label in drawn]
    assert set(le.tfidf_predictions(turned, texts, 0)) <= {"银行！", "保险！"}


def test_draws_by_hand():
    """After one of each, the next is whose share of the pool is drawn least:
    a 1.5/6, a 2.5/6, b 1.5/3, a 3.5/6, a 4.5/6, b 2.5/3, a 5.5/6."""
    labels = [label for _, label in le.draw_labels(skewed(), 10, seed=4)]
    assert labels == list("abc" + "aabaaba")


def test_majority_by_hand():
    task = skewed()
    assert le.majority_label(task, le.draw_labels(task, 3, seed=0)) == "a"  # a tie
    assert le.majority_label(task, [("x", "c"), ("y", "b"), ("z", "c")]) == "c"


def test_draws_are_nested_and_depend_on_the_seed_alone():
    task = separable()
    draws = [le.draw_labels(task, size, seed=3) for size in (2, 5, 50, 120)]
    for small, large in zip(draws, draws[1:], strict=False):
        assert large[: len(small)] == small
    assert len(set(draws[-1])) == 120 and set(draws[-1]) == set(task.train)
    assert draws[2] != le.draw_labels(task, 50, seed=4)
    assert draws[2] == le.draw_labels(task, 50, seed=3)


def naive_nats(model, tokenizer, prompt: str, label: str) -> float:
    """Minus the log-probability of a label and the end mark, one token at a time."""
    text = f"<s><|user|>{prompt}<|end|><|assistant|>"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    for token in tokenizer(f"{label}<|end|>", add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].double()
        total -= logits.log_softmax(-1)[token].item()
        ids = [*ids, token]
    return total


def test_label_nats_equal_a_naive_loop():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    task = le.LabelTask(
        "t",
        ("银行", "保险公司", "人寿"),
        [("贷款", "银行"), ("赔付", "保险公司"), ("人", "人寿")],
        [("利率", "银行")],
        "什么是",
    )
    texts = ["利率", "按照合同约定归还资金", "赔"]
    nats = le.label_nats(model, tokenizer, task, texts, batch_tokens=60)
    assert nats.shape == (3, 3)
    for i, text in enumerate(texts):
        for k, label in enumerate(task.labels):
            want = naive_nats(model, tokenizer, "什么是" + text, label)
            assert nats[i, k] == pytest.approx(want, abs=1e-3)


def test_both_contenders_see_the_same_draws(monkeypatch):
    seen: dict[str, list] = {"model": [], "tfidf": []}

    def tune(folder, drawn, cfg, runtime, seed, num_epochs, min_steps):
        seen["model"] += [(seed, rows) for _, rows in drawn]
        return tiny_model(), tiny_tokenizer()

    def tfidf(rows, texts, seed):
        seen["tfidf"].append((seed, rows))
        return ["银行"] * len(texts)

    monkeypatch.setattr(le, "tune_on_labels", tune)
    monkeypatch.setattr(le, "tfidf_predictions", tfidf)
    tasks = {s: [separable(s, 6, n) for n in "xy"] for s in (0, 1)}
    rows = le.label_efficiency(
        "none", CFG, RUNTIME, (4, 8), (0, 1), 6, make_tasks=lambda s, n: tasks[s]
    )
    assert seen["model"] == seen["tfidf"] and len(seen["model"]) == 2 * 2 * 2
    for seed, drawn in seen["model"]:
        tests = {text for task in tasks[seed] for text, _ in task.test}
        assert len(drawn) in (4, 8) and not tests & {text for text, _ in drawn}
    assert len(rows) == 8 * 4 and all(row.keys() == KEYS for row in rows)
    said = {row["contender"]: row for row in rows if row["seed"] == 1}
    assert said["chance"]["accuracy"] == 0.5 and said["model"]["n"] == 6
    banks = sum(label == "银行" for _, label in tasks[1][1].test) / 6
    assert said["tfidf"]["accuracy"] == said["majority"]["accuracy"] == banks


def test_one_model_learns_two_tasks_at_once(tmp_path):
    """Real tuning: opposite answers to the same texts, told apart by the wording."""
    save_model(tiny_model(), tiny_tokenizer(), tmp_path)
    first = separable(0, 10)
    swap = {"银行": "保险", "保险": "银行"}
    second = le.LabelTask(
        "other",
        first.labels,
        [(text, swap[label]) for text, label in first.train],
        [(text, swap[label]) for text, label in first.test],
        "答：",
    )
    rows = le.label_efficiency(
        tmp_path, CFG, RUNTIME, (40,), (0,), 10, num_epochs=1, min_steps=70,
        make_tasks=lambda seed, num_test: [first, second],
    )  # fmt: skip
    got = {(r["task"], r["contender"]): r["accuracy"] for r in rows}
    assert got["s", "model"] >= 0.9 and got["other", "model"] >= 0.9
    assert got["s", "tfidf"] == got["other", "tfidf"] == 1.0


def test_the_table_by_hand():
    shares = {"model": (0.5, 0.7), "tfidf": (0.6, 0.6), "majority": (0.4, 0.2)}
    rows = [
        {"task": task, "size": 10, "seed": seed, "contender": name, "accuracy": a + up}
        for task, up in (("one", 0.0), ("two", 0.2))
        for name, pair in (shares | {"chance": (0.25, 0.25)}).items()
        for seed, a in enumerate(pair)
    ]
    one, two, both = le.label_table(rows)
    assert (one["task"], two["task"], both["task"]) == ("one", "two", "all")
    assert one["model"] == pytest.approx(0.6) and one["tfidf"] == pytest.approx(0.6)
    assert one["model_std"] == pytest.approx(0.02**0.5)  # +-0.1 over two seeds
    assert one["tfidf_std"] == 0 and one["gap"] == pytest.approx(0)
    assert one["gap_std"] == pytest.approx(0.02**0.5)
    assert one["majority"] == pytest.approx(0.3) and one["chance"] == 0.25
    assert both["model"] == pytest.approx(0.7) and both["chance"] == pytest.approx(0.35)
    alone = le.label_table([row for row in rows if row["seed"] == 0])
    assert alone[0]["model_std"] is None and alone[0]["gap"] == pytest.approx(-0.1)


def test_packaged_tasks_hold_what_they_say(packaged):
    assert [len(task.labels) for task in packaged.values()] == [2, 10, 8, 4]
    for task in packaged.values():
        counts = Counter(label for _, label in task.train)
        assert [counts[label] for label in task.labels] == sorted(
            counts.values(), reverse=True
        )
        train = {text for text, _ in task.train}
        assert max(map(len, train)) <= 80
        assert len(task.test) == 200 and not train & {t for t, _ in task.test}
        drawn = le.draw_labels(task, 10, seed=0)
        assert {label for _, label in drawn} == set(task.labels)
        assert len(le.draw_labels(task, 1_000, seed=0)) == 1_000


def test_packaged_tests_are_held_out(packaged):
    """Also of other tasks' training texts, since one model learns all of them."""
    known = {text for task in packaged.values() for text, _ in task.train}
    tests = {text for task in packaged.values() for text, _ in task.test}
    assert not known & tests
    valid = {q.zh[:80].strip() for q in insurance_questions("valid")}
    assert {text for text, _ in packaged["insurance_domain"].test} <= valid


def test_repeats_and_contradictions_leave_a_packaged_task():
    pools = (
        [("好的东西", "正面"), ("好的 东西！", "正面"), ("都可以吧", "正面")]
        + [
            ("不好用的", "负面"),
            ("说不清楚", "负面"),
            ("说不清楚", "正面"),
            ("别处的题", "负面"),
        ],
        [
            ("都可以吧", "正面"),
            ("再也不买", "负面"),
            ("短", "负面"),
            ("真的很满意", "正面"),
        ],
    )
    held = {"都可以吧", "再也不买", "真的很满意", "别处的题"}
    task = le._task("t", "", pools, held, random.Random(0), 2)
    assert task.train == [("好的东西", "正面"), ("不好用的", "负面")]
    assert sorted(task.test) == [("再也不买", "负面"), ("真的很满意", "正面")]
    with pytest.raises(ValueError, match="num_test=3: t has test texts for 1 to 2"):
        le._task("t", "", pools, held, random.Random(0), 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a",)}, "two or more"),
        ({"labels": ("a", "b", "c", "d")}, "missing: d"),
        ({"test": []}, "a test text"),
        ({"test": [("new", "e")]}, "item 11 .* has label 'e'"),
        ({"test": [("Text 3！", "a")]}, "item 11 .* is item 4 again"),
    ],
)
def test_broken_tasks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(skewed(), **changes)


@pytest.mark.parametrize("size", [1, 11])
def test_draws_out_of_range_are_refused(size):
    with pytest.raises(ValueError, match="use 2 to 10"):
        le.draw_labels(skewed(), size, seed=0)


def test_bad_settings_are_refused_before_tuning(tmp_path):
    tasks = {"make_tasks": lambda seed, num_test: [skewed()]}
    for sizes, seeds, message in (
        ((), (0,), "sizes"),
        ((4, 4), (0,), "sizes"),
        ((4,), (0, 0), "seeds"),
        ((4, 11), (0,), "use 2 to 10"),
    ):
        with pytest.raises(ValueError, match=message):
            le.label_efficiency("none", CFG, RUNTIME, sizes, seeds, 3, **tasks)
    with pytest.raises(ValueError, match="a classifier needs two"):
        le.tfidf_predictions([("x", "a")], ["y"], 0)
    tiny_tokenizer().save_pretrained(tmp_path)
    short = dataclasses.replace(CFG, max_seq_len=16)
    drawn = [(task := separable(), task.train[:4])]
    with pytest.raises(ValueError, match="max_seq_len=16"):
        le.tune_on_labels(tmp_path, drawn, short, RUNTIME, 0)
