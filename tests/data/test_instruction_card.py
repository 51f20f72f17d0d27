"""The dataset card: its head parses, every figure stands in it, gaps are refused."""

import dataclasses

import pytest
import yaml

from finllm_utils.data.instruction_card import (
    CardFacts,
    SourceRow,
    SplitRow,
    shown,
    write_card,
)

FACTS = CardFacts(
    title="FinLLM: 指令数据 #1",
    about="Chinese instructions for finance and everyday tasks.",
    sources=(
        SourceRow(name="own items", licence="Apache-2.0", items=540),
        SourceRow(name="laws", licence="public domain", items=960),
        SourceRow(name="reviews | shops", licence="unclear", items=1_500),
    ),
    how_made=("Items are written by hand.", "Tasks are made from training text."),
    splits=(
        SplitRow(name="stage1", file="stage1.jsonl", items=2_700),
        SplitRow(name="heldout", file="data/heldout-*.jsonl", items=300),
    ),
    ratio_planned=4.0,
    ratio_drawn=3.875,
    near_duplicates={"rate at 0.7": 0.0123, "pairs": 37},
    contamination={"items": 3_000, "window": 13, "contacts": 1, "ids": ["own/a"]},
    diversity={"task_bits": 4.13649, "tasks": {"qa": 1_052, "json": 20}},
    second_reading={"read": 150, "kappa": 0.8125, "rejected": 0},
    limits=("Statutes may have changed.", "Small."),
    command="finllm run 05 --profile toy",
)


def written(tmp_path, **changes):
    path = write_card(tmp_path, dataclasses.replace(FACTS, **changes))
    assert path == tmp_path / "README.md"
    return path.read_text(encoding="utf-8")


def head(text):
    start, body = text.removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(start), body


def test_the_head_is_what_hubs_read(tmp_path):
    fields, _ = head(written(tmp_path))
    assert fields == {
        "pretty_name": "FinLLM: 指令数据 #1",
        "language": ["zh"],
        "license": "other",
        "size_categories": ["1K<n<10K"],
        "task_categories": ["text-generation", "question-answering"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "stage1", "path": "stage1.jsonl"},
                    {"split": "heldout", "path": "data/heldout-*.jsonl"},
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("items", "size"),
    [
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (20_000_000, "n>10M"),
    ],
)
def test_the_size_is_the_hubs_word_for_it(tmp_path, items, size):
    text = written(
        tmp_path,
        sources=[SourceRow(name="a", licence="b", items=items)],
        splits=[SplitRow(name="train", file="train.jsonl", items=items)],
    )
    assert head(text)[0]["size_categories"] == [size]


def test_norwegian_stays_a_language_and_quotes_stay_text(tmp_path):
    title, license_id = 'The "best\\worst" set', "apache-2.0"
    text = written(tmp_path, languages=["zh", "no"], title=title, license_id=license_id)
    fields, _ = head(text)
    assert fields["language"] == ["zh", "no"]
    assert (fields["pretty_name"], fields["license"]) == (title, license_id)


def test_every_figure_stands_in_the_text(tmp_path):
    _, body = head(written(tmp_path))
    rows = [
        "| own items | Apache-2.0 | 540 | 18.0% |",
        "| laws | public domain | 960 | 32.0% |",
        "| reviews \\| shops | unclear | 1,500 | 50.0% |",
        "| stage1 | stage1.jsonl | 2,700 |",
        "| heldout | data/heldout-*.jsonl | 300 |",
        "| all |  | 3,000 |",
        "| planned | 4 |",
        "| drawn | 3.875 |",
        "| rate at 0.7 | 0.0123 |",
        "| ids | own/a |",
        "| task_bits | 4.1365 |",
        "| tasks | qa: 1,052, json: 20 |",
        "| kappa | 0.8125 |",
        "| rejected | 0 |",
    ]
    for row in rows:
        assert row in body.splitlines(), row
    for part in ("near_duplicates", "contamination", "diversity", "second_reading"):
        for name, value in getattr(FACTS, part).items():
            assert f"| {name} | {shown(value)} |" in body
    for text in (*FACTS.how_made, *FACTS.limits, FACTS.about, FACTS.command):
        assert text in body


def test_the_sections_come_in_order(tmp_path):
    _, body = head(written(tmp_path))
    assert [line for line in body.splitlines() if line.startswith("#")] == [
        "# FinLLM: 指令数据 #1",
        "## Sources",
        "## How it was made",
        "## Splits",
        "## General to finance",
        "## Near duplicates",
        "## Contamination",
        "## Diversity",
        "## Second reading",
        "## Known limits",
        "## Made again by",
    ]


def test_same_facts_same_bytes(tmp_path):
    first = write_card(tmp_path / "a", FACTS).read_bytes()
    assert write_card(tmp_path / "b", FACTS).read_bytes() == first


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234, "1,234"),
        (1234.5, "1,234.5"),
        (0.0, "0"),
        (0.12345, "0.1235"),
        (0.00001, "1e-05"),
        (True, "True"),
        ("n/a", "n/a"),
        ([], "none"),
        ({0.5: 46.0, 0.95: [1, 2]}, "0.5: 46, 0.95: 1, 2"),
    ],
)
def test_figures_as_shown(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limits": ()}, "limits is empty"),
        ({"second_reading": {}}, "second_reading is empty"),
        ({"command": ""}, "command is empty"),
        ({"title": "two\nlines"}, "several lines"),
        ({"splits": (SplitRow(name="held-out", file="x", items=3_000),)}, "held-out"),
        ({"splits": (SplitRow(name="a", file="x", items=1_500),) * 2}, "once each"),
        ({"sources": FACTS.sources[:2]}, "sources have 1500 items, splits 3000"),
    ],
)
def test_a_card_with_gaps_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(FACTS, **changes)
