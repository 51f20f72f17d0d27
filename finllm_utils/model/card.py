"""The model card (README.md) of a trained model: from what, on what, how good, limits.

Every line comes from the run's own files; what a card claims can be rerun.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from finllm_utils.files import atomic_file

Table = Mapping[str, Mapping[str, float]]


def write_model_card(
    folder: Path,
    *,
    title: str,
    base: str,
    about: str,
    settings: Mapping[str, object],
    bits_per_byte: Table,
    sources: Mapping[str, Mapping[str, object]],
    limits: Sequence[str],
    command: str,
) -> Path:
    """Writes ``folder/README.md`` beside the weights; its path.

    Args:
        base: name of the base model, or empty for one that began at random.
        about: a sentence that says what was done to it.
        settings: of training, by dotted name.
        bits_per_byte: {model or baseline: {domain: value}}, on held-out text.
        sources: of 01's manifest: {source: {"chars": .., "licence": ..}}.
        limits: what a reader must know before using the weights, a sentence each.
        command: what makes this model again.
    Raises: ValueError when ``folder`` holds no weights, or no figure is given.
    """
    folder = Path(folder)
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} holds no safetensors: save the model first")
    if not bits_per_byte:
        raise ValueError(f"{folder}: a card without figures claims nothing; give some")
    lines = [*_header(base), f"# {title}", "", about, ""]
    lines += ["Made again by:", "", "```", command, "```", ""]
    lines += ["## Bits per byte on held-out text (lower is better)", ""]
    lines += _table(bits_per_byte)
    lines += ["", "## Training", "", "| setting | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in settings.items()]
    lines += ["", "## Text and licences", "", "The strictest licence of a part binds"]
    lines += ["whoever passes the weights on.", ""]
    lines += ["| source | characters in the corpus | licence |", "|---|---|---|"]
    for name, entry in sorted(sources.items()):
        lines.append(f"| {name} | {entry['chars']:,} | {entry['licence']} |")
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in limits)]
    with atomic_file(folder / "README.md") as handle:
        handle.write("\n".join(lines) + "\n")
    return folder / "README.md"


def _header(base: str) -> list[str]:
    """What model hubs read. ``other``: the corpora's licences differ."""
    lines = ["---", "language:", "- zh", "- en", "license: other"]
    lines += ["library_name: transformers", "pipeline_tag: text-generation"]
    return [*lines, *([f"base_model: {base}"] if base else []), "---"]


def _table(rows: Table) -> list[str]:
    domains = list(dict.fromkeys(d for row in rows.values() for d in row))
    lines = [
        "| model | " + " | ".join(domains) + " |",
        "|---" * (len(domains) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = [f"{row[d]:.3f}" if d in row else "" for d in domains]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines
