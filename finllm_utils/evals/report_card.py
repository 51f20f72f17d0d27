"""The vertical report card: one model lineage, stage after stage, on the same measures.

Reads the flat figures that the stages reported and the paired changes between
neighbours; computes nothing itself. Notebook 09 writes it as Markdown and JSON.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from finllm_utils.evals.bootstrap import Change
from finllm_utils.evals.report_blocks import markdown_table
from finllm_utils.files import atomic_file, write_json

STAGES = ("base", "expanded", "stage1", "stage2", "sft1", "sft2", "ppo")
COUNT_MODELS = ("unigram", "bigram")
DOMAINS = ("general_zh", "finance_zh", "english")
COLUMNS = {
    "bpb general_zh": "bpb.{model}.general_zh",
    "bpb finance_zh": "bpb.{model}.finance_zh",
    "bpb english": "bpb.{model}.english",
    "choice accuracy": "sft.choice_accuracy.{model}",
    "answer nats/token": "sft.heldout_answer_nats.{model}",
}
"""Column heading to report key; a stage that lacks a figure shows a dash."""
ALIGNMENT = ("rm.", "ppo.")


def require_figures(figures: Mapping[str, float]) -> None:
    """Raises ValueError naming the bits-per-byte figures that no stage reported."""
    wanted = [f"bpb.{m}.{d}" for m in (*COUNT_MODELS, *STAGES) for d in DOMAINS]
    missing = [key for key in wanted if key not in figures]
    if missing:
        raise ValueError(
            f"no stage reported {', '.join(missing)}: rerun 03 (base, expanded, stage1 "
            "and count models), 04 (stage2), 06 (sft1, sft2) or 08 (ppo)"
        )


def build_report_card(
    figures: Mapping[str, float], changes: Mapping[tuple[str, str, str], Change]
) -> dict:
    """The card as plain data.

    Args: figures are flat report keys; changes map (measure, before, after) to a paired
    change, for example ("finance_zh", "stage1", "stage2").
    Returns: {"stages": {model: {column: value or None}}, "changes": [...],
    "alignment": {key: value}}.
    """
    stages = {
        model: {
            column: figures.get(key.format(model=model))
            for column, key in COLUMNS.items()
        }
        for model in (*COUNT_MODELS, *STAGES)
    }
    rows = [
        {"measure": measure, "before": before, "after": after, **asdict(change)}
        for (measure, before, after), change in changes.items()
    ]
    alignment = {
        key: value
        for key, value in sorted(figures.items())
        if key.startswith(ALIGNMENT) and isinstance(value, (int, float))
    }
    return {"stages": stages, "changes": rows, "alignment": alignment}


def card_markdown(card: Mapping) -> str:
    """The card as Markdown: stages, changes with a word each, alignment figures."""
    columns = list(COLUMNS)
    stage_rows = [
        [model, *(_number(values[c]) for c in columns)]
        for model, values in card["stages"].items()
    ]
    change_rows = [
        [
            row["measure"],
            f"{row['before']} -> {row['after']}",
            f"{row['value']:+.4f}",
            "[{:+.4f}, {:+.4f}]".format(*row["interval"]),
            row["word"],
        ]
        for row in card["changes"]
    ]
    alignment_rows = [[k, _number(v)] for k, v in card["alignment"].items()]
    return "\n".join(
        [
            "# Report card",
            "",
            "## Stages (bits per byte and nats: lower is better)",
            "",
            *markdown_table(["model", *columns], stage_rows),
            "",
            "## Change against the stage before (paired bootstrap, 95%)",
            "",
            *markdown_table(
                ["measure", "stages", "change", "interval", "word"], change_rows
            ),
            "",
            "## Reward model and PPO",
            "",
            *markdown_table(["figure", "value"], alignment_rows),
            "",
        ]
    )


def write_report_card(card: Mapping, folder: Path) -> None:
    """Writes ``report_card.md`` and ``report_card.json`` into ``folder``."""
    with atomic_file(Path(folder) / "report_card.md") as handle:
        handle.write(card_markdown(card))
    write_json(Path(folder) / "report_card.json", dict(card))


def _number(value: float | bool | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, (bool, int)):
        return str(value)
    return f"{value:.4f}"
