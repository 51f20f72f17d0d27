"""The published dataset: read back by ``datasets``, counted, verified, licensed."""

import json

import pytest

from finllm_utils.corpora.licences import LICENCES, licence_of
from finllm_utils.corpora.sources import _SHARES, training_sources
from finllm_utils.data.dataset import dataset_card, verify_dataset, write_dataset
from finllm_utils.data.sources import DOMAINS, gather_items
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document, write_records

REJECTED = [
    {"step": "length", "reason": "too_short:12"},
    {"step": "length", "reason": "too_short:3"},
    {"step": "dedup_class_near", "reason": "duplicate_of:a:0.91"},
]


@pytest.fixture
def written(tmp_path):
    """A dataset of three finance documents, one general one, two a shard."""
    corpus, folder = tmp_path / "corpus", tmp_path / "dataset"
    corpus.mkdir()
    texts = {"finance_zh": ["久期。", "利率下调。", "净值。"], "general_zh": ["潮汐。"]}
    sources = {"finance_zh": "laws", "general_zh": "mine"}
    for domain in DOMAINS:
        documents = [
            Document(id=f"{domain}/{i}", text=text, source=sources[domain],
                     domain=domain, meta={"n": i} if i else {"title": "甲"})
            for i, text in enumerate(texts.get(domain, []))
        ]  # fmt: skip
        write_records(corpus / f"{domain}.jsonl", documents)
    manifest = write_dataset(corpus, folder, rejected=REJECTED, docs_per_shard=2)
    return folder, manifest


def test_datasets_reads_every_document_back(written, tmp_path):
    from datasets import load_dataset

    rows = load_dataset(
        str(written[0]), "finance_zh", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [row["text"] for row in rows] == ["久期。", "利率下调。", "净值。"]
    assert json.loads(rows[0]["meta"]) == {"title": "甲"}
    assert set(rows["licence"]) == {"public domain"}


def test_the_manifest_counts_by_hand(written):
    shards = written[1]["shards"]
    assert [(s["path"], s["docs"], s["chars"]) for s in shards] == [
        ("data/general_zh-00000.parquet", 1, 3),
        ("data/finance_zh-00000.parquet", 2, 8),
        ("data/finance_zh-00001.parquet", 1, 3),
    ]
    assert written[1]["sources"] == {
        "laws": {"docs": 3, "chars": 11, "licence": "public domain"},
        "mine": {"docs": 1, "chars": 3, "licence": "as you supplied it"},
    }
    assert written[1]["dropped"] == [
        ["dedup_class_near", "duplicate_of", 1],
        ["length", "too_short", 2],
    ]


def test_the_card_is_the_manifest(written):
    folder, manifest = written
    card = (folder / "README.md").read_text("utf-8")
    assert card == dataset_card(json.loads((folder / "manifest.json").read_text()))
    assert "| finance_zh | 2 | 3 | 11 |" in card
    assert "config_name: english" not in card


def test_changed_missing_and_incomplete_shards_are_named(written):
    import pyarrow.parquet as parquet

    from finllm_utils.files import file_digest, read_json, write_json

    folder, _ = written
    verify_dataset(folder)
    first, second, third = sorted((folder / "data").iterdir())
    first.unlink()
    second.write_bytes(third.read_bytes())
    table = parquet.read_table(third).drop_columns(["source"])
    parquet.write_table(table, third)
    manifest = read_json(folder / "manifest.json")
    for shard in manifest["shards"]:
        if shard["path"].endswith(third.name):
            shard["sha256"] = file_digest(third)
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(ValueError) as caught:
        verify_dataset(folder)
    message = str(caught.value)
    assert f"{first.name}: missing" in message
    assert f"{second.name}: not the file" in message
    assert f"{third.name}: no column source" in message


def test_every_shipped_source_has_a_licence():
    shipped = {source for shares in _SHARES.values() for source in shares}
    assert shipped <= set(LICENCES)
    assert licence_of("my folder").name == "as you supplied it"


def test_clean_licences_leave_public_and_own_text_only():
    few = {f"data.chars_{domain}": 3_000 for domain in DOMAINS}
    config = load_profile("toy", few | {"data.licences": "clean"}).data
    assert {d.source for d in training_sources(config)} == {"laws", "sotu"}
    assert {d.domain for d in gather_items(config)} == set(DOMAINS) - {"finance_en"}
    with pytest.raises(ValueError, match="data.licences='free': use all or clean"):
        load_profile("toy", {"data.licences": "free"})
