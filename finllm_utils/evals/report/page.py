"""The report card as a page: how models compare, what each stage added, what it cost.

``report.blocks`` turns the sections made here into ``report.html`` and its Markdown
twin. Every figure stands with its interval, its items and the command that made it.
"""

from collections.abc import Sequence
from pathlib import Path

from finllm_utils.evals.report.blocks import (
    Block,
    Heading,
    Paragraph,
    html_page,
    markdown_page,
)
from finllm_utils.evals.report.compare_boards import RunComparison
from finllm_utils.evals.report.recommend import SCENES, CostBasis, Scene
from finllm_utils.evals.report.scoreboard import Scoreboard
from finllm_utils.evals.report.sections import (
    alignment_tax,
    comparison_section,
    examples_section,
    forgetting,
    horizontal,
    how_made,
    radar_section,
    recommendations,
    vertical,
)
from finllm_utils.evals.statistics.many_changes import UNCLEAR
from finllm_utils.files import atomic_file

HTML_FILE, MARKDOWN_FILE = "report.html", "report_card.md"


def write_report(
    board: Scoreboard,
    folder: Path,
    *,
    title: str = "Report card",
    comparison: RunComparison | None = None,
    other: str = "",
    scenes: Sequence[Scene] = SCENES,
    basis: CostBasis | None = None,
) -> tuple[Path, Path]:
    """Writes ``report.html`` and ``report_card.md`` into ``folder``; their paths.

    Args: comparison with another run, which ``other`` names; scenes and basis as
    ``recommend`` takes them.
    """
    blocks = report_blocks(
        board, comparison=comparison, other=other, scenes=scenes, basis=basis
    )
    pages = {
        Path(folder) / HTML_FILE: html_page(title, blocks),
        Path(folder) / MARKDOWN_FILE: markdown_page(title, blocks),
    }
    for path, text in pages.items():
        with atomic_file(path) as handle:
            handle.write(text)
    html_path, markdown_path = pages
    return html_path, markdown_path


def report_blocks(
    board: Scoreboard,
    *,
    comparison: RunComparison | None = None,
    other: str = "",
    scenes: Sequence[Scene] = SCENES,
    basis: CostBasis | None = None,
) -> list[Block]:
    """The sections in their order; notebook 09 shows them through ``markdown_page``."""
    blocks = standing_out(board)
    if comparison is not None:
        blocks += comparison_section(board, comparison, other)
    return [
        *blocks,
        *horizontal(board),
        *radar_section(board),
        *vertical(board),
        *alignment_tax(board),
        *forgetting(board),
        *recommendations(board, scenes, basis or CostBasis()),
        *examples_section(board),
        *how_made(board),
    ]


def standing_out(board: Scoreboard) -> list[Block]:
    """What a reader must not miss: leaks, alarms, stages that made something worse."""
    titles = {measure.name: measure.title for measure in board.measures}
    steps = [change for m in board.measures for change in board.steps(m.name)]
    worse = [change for change in steps if change.word == "worse"]
    better = [change for change in steps if change.word == "better"]
    unclear = [change for change in steps if change.word == UNCLEAR]
    blocks: list[Block] = [Heading("What stands out")]
    blocks += _sentences("Leak", board.leaks, "test items in the training data")
    blocks += _sentences("Alarm", board.alarms, "alarms of the checks during training")
    blocks += [
        Paragraph(
            f"Worse: {titles[change.measure]} got worse from {change.before} to "
            f"{change.after} by {abs(change.value):.4f}.",
            "alarm",
        )
        for change in worse
    ]
    alone = [
        f"{titles[change.measure]} ({change.before} to {change.after})"
        for change in unclear
        if change.word_alone == "worse"
    ]
    if alone:
        text = f"Worse by its own interval, which may be chance: {'; '.join(alone)}."
        blocks.append(Paragraph(text, "note"))
    failed = sum(cell.num_failed for cell in board.cells)
    blocks.append(
        Paragraph(
            f"From stage to stage: {len(better)} figures clearly better, {len(worse)} "
            f"clearly worse, {len(unclear)} without a clear change. {failed} items "
            "could not be scored; they are counted and never taken as wrong."
        )
    )
    return blocks


def _sentences(
    name: str, sentences: Sequence[str] | None, what: str
) -> list[Paragraph]:
    if sentences is None:
        return [Paragraph(f"Nobody looked for {what} in this run.", "note")]
    if not sentences:
        return [Paragraph(f"No {what}.")]
    return [Paragraph(f"{name}: {text}", "alarm") for text in sentences]
