"""The report card from flat figures."""

import json

import pytest

from finllm_utils.evals.bootstrap import Change
from finllm_utils.evals.report_card import (
    COUNT_MODELS,
    DOMAINS,
    STAGES,
    build_report_card,
    card_markdown,
    require_figures,
    write_report_card,
)


def figures() -> dict[str, float]:
    keys = [f"bpb.{m}.{d}" for m in (*COUNT_MODELS, *STAGES) for d in DOMAINS]
    values = {key: 1.0 + i / 100 for i, key in enumerate(keys)}
    return values | {"sft.choice_accuracy.sft2": 0.4, "rm.accuracy_hard": 0.55}


CHANGES = {
    ("finance_zh", "stage1", "stage2"): Change(-0.5, (-0.6, -0.4), "better"),
}


def test_figures_land_in_their_cells():
    card = build_report_card(figures(), CHANGES)
    assert list(card["stages"]) == [*COUNT_MODELS, *STAGES]
    assert card["stages"]["unigram"]["bpb general_zh"] == 1.0
    assert card["stages"]["sft2"]["choice accuracy"] == 0.4
    assert card["stages"]["base"]["choice accuracy"] is None
    assert card["alignment"] == {"rm.accuracy_hard": 0.55}
    assert card["changes"][0]["word"] == "better"


def test_markdown_has_every_stage_and_the_word():
    text = card_markdown(build_report_card(figures(), CHANGES))
    for model in (*COUNT_MODELS, *STAGES):
        assert f"| {model} |" in text
    assert (
        "| finance_zh | stage1 -> stage2 | -0.5000 | [-0.6000, -0.4000] | better |"
        in text
    )


def test_written_files_agree(tmp_path):
    card = build_report_card(figures(), CHANGES)
    write_report_card(card, tmp_path)
    again = json.loads((tmp_path / "report_card.json").read_text(encoding="utf-8"))
    assert again["stages"] == card["stages"]
    assert (tmp_path / "report_card.md").read_text(encoding="utf-8") == card_markdown(
        card
    )


def test_a_missing_figure_is_named_with_its_notebook():
    values = figures()
    require_figures(values)
    del values["bpb.stage2.finance_zh"]
    with pytest.raises(ValueError, match=r"bpb\.stage2\.finance_zh.*04"):
        require_figures(values)
