"""Fixtures that several tests of the evaluation need."""

import pytest


@pytest.fixture
def datasets_offline(monkeypatch, tmp_path):
    """Hugging Face's data sets: nothing from the network, and a cache of this test."""
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
