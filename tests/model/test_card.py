"""The card says what the run found, in a form that hubs read."""

import pytest
import yaml

from finllm_utils.model.card import write_model_card

GIVEN = {
    "title": "Toy",
    "base": "",
    "about": "Continued pre-training.",
    "settings": {"pretrain2.tokens": 479_232},
    "bits_per_byte": {"stage2": {"zh": 2.7721, "en": 2.0}, "unigram": {"zh": 3.3734}},
    "sources": {"laws": {"chars": 1_200, "licence": "public domain"}},
    "limits": ["It answers no question well."],
    "command": "finllm run --to 04",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


def test_a_card_holds_every_fact(folder):
    text = write_model_card(folder, **GIVEN).read_text(encoding="utf-8")
    header, body = text.split("---\n")[1:]
    assert yaml.safe_load(header)["language"] == ["zh", "en"]
    assert "base_model" not in yaml.safe_load(header)
    for line in (
        "| model | zh | en |",
        "|---|---|---|",
        "| stage2 | 2.772 | 2.000 |",
        "| unigram | 3.373 |  |",
        "| pretrain2.tokens | 479232 |",
        "| laws | 1,200 | public domain |",
        "- It answers no question well.",
    ):
        assert f"\n{line}\n" in body


def test_a_base_is_named_for_the_hub(folder):
    path = write_model_card(folder, **GIVEN | {"base": "HuggingFaceTB/SmolLM2-135M"})
    header = path.read_text(encoding="utf-8").split("---\n")[1]
    assert yaml.safe_load(header)["base_model"] == "HuggingFaceTB/SmolLM2-135M"


def test_no_card_without_weights_or_figures(folder, tmp_path_factory):
    with pytest.raises(ValueError, match="no safetensors"):
        write_model_card(tmp_path_factory.mktemp("empty"), **GIVEN)
    with pytest.raises(ValueError, match="claims nothing"):
        write_model_card(folder, **GIVEN | {"bits_per_byte": {}})
    assert not (folder / "README.md").exists()
