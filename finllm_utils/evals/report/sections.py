"""The sections of the report card, each a list of blocks made from the scoreboard."""

from collections.abc import Mapping, Sequence

from finllm_utils.evals.report.axis_scores import AxisScore, axis_scores, scale_ranges
from finllm_utils.evals.report.blocks import (
    Block,
    Drawings,
    Fold,
    Heading,
    Inline,
    Paragraph,
    Table,
    Text,
)
from finllm_utils.evals.report.charts import COLOURS, curve, radar
from finllm_utils.evals.report.compare_boards import RunChange, RunComparison
from finllm_utils.evals.report.recommend import (
    CostBasis,
    Recommendation,
    Scene,
    recommend,
)
from finllm_utils.evals.report.scoreboard import (
    AXES,
    BoardChange,
    Cell,
    Example,
    Measure,
    Scoreboard,
)
from finllm_utils.intervals import Interval

OUTSIDE = "outside the four abilities"
CHANGE = "+.4f"  # changes of bits per byte are clear from the third place on
CHANGE_HEAD = (
    "measure", "models", "change", "interval", "p, adjusted",
    "items better, worse, all", "by its interval", "verdict",
)  # fmt: skip


def horizontal(board: Scoreboard) -> list[Block]:
    """How the models compare: a table an ability, a column a measure."""
    blocks: list[Block] = [
        Heading("How the models compare"),
        Paragraph(
            f"Each figure with its {board.level:.0%} interval (bootstrap over items), "
            "the number of items behind it, and in brackets the number of the command "
            "that made it (last section). Whether two models differ is not read from "
            "these intervals but from the paired changes below."
        ),
    ]
    numbers = command_numbers(board)
    for axis, title in {**AXES, "": OUTSIDE}.items():
        measures = [m for m in board.measures if m.axis == axis]
        if not measures:
            continue
        rows: list[list[Inline]] = [
            [Text("baseline", "note"), *(_baseline(m) for m in measures)]
        ]
        for entrant in board.entrants:
            cells = [board.cell(m.name, entrant.name) for m in measures]
            label = f"{entrant.name}\n{entrant.stage}"
            rows.append([label, *(_figure(cell, numbers) for cell in cells)])
        blocks.append(Table(title, ["model", *map(_measure_head, measures)], rows))
    missing = [title for axis, title in AXES.items()
               if not any(m.axis == axis for m in board.measures)]  # fmt: skip
    if missing:
        blocks.append(Paragraph(f"Not measured: {', '.join(missing)}.", "note"))
    return blocks


def radar_section(board: Scoreboard) -> list[Block]:
    """The four abilities at one glance, with the same figures as a table."""
    scores = axis_scores(board)
    axes = [a for a in AXES if any(a in row for row in scores.values())]
    if not axes:
        return []
    drawn = _drawn_models(board, scores)
    picture = radar(
        [AXES[a] for a in axes],
        {model: [scores[model][a].value for a in axes] for model in drawn},
        f"Radar of {', '.join(drawn)}; the table below has its figures",
    )
    rows = [
        [model, *(_axis_text(row[a]) for a in axes)] for model, row in scores.items()
    ]
    return [
        Heading("The four abilities"),
        Paragraph(
            "An ability is the mean of its measures, each scaled so that 0 is its "
            "baseline and 1 its top (the stated ceiling, or the best model here). "
            "Intervals take baseline and top as exact. A model that lacks a measure of "
            "an ability has no figure there: other measures would not compare. "
            "Measures without a baseline take no part. Values outside 0 to 1 are drawn "
            "at the edge."
        ),
        Drawings([picture]),
        Table(
            "Abilities (0 baseline, 1 top)", ["model", *(AXES[a] for a in axes)], rows
        ),
        Table("The scale of each measure", ["measure", "0 is", "1 is"], _scale(board)),
    ]


def vertical(board: Scoreboard) -> list[Block]:
    """What each stage added: a curve a measure, and every change in pairs."""
    curves, changes = [], []
    for measure in board.measures:
        stages = board.stages_of(measure.name)
        cells = [board.cell(measure.name, model) for model in stages]
        if len(cells) > 1:
            values = [cell.value for cell in cells]
            intervals = [cell.interval for cell in cells]
            name = _measure_head(measure)
            curves.append(curve(name, stages, values, intervals, measure.baseline))
        changes += board.steps(measure.name)
    blocks: list[Block] = [Heading("What each stage added")]
    if not changes:
        return [*blocks, Paragraph("Fewer than two stages were measured.")]
    blocks += [
        Drawings(curves),
        Table(
            "Change from stage to stage, on the items that both were scored on",
            CHANGE_HEAD,
            _change_rows(board, changes),
        ),
    ]
    against = [c for m in board.measures for c in board.against_references(m.name)]
    if against:
        rows = _change_rows(board, against)
        caption = "From a reference to the last stage: better means ours is"
        blocks.append(Table(caption, CHANGE_HEAD, rows))
    return blocks


def alignment_tax(board: Scoreboard) -> list[Block]:
    """What alignment changed against the stage before it."""
    aligned = {e.name for e in board.entrants if e.stage == "alignment"}
    changes = [
        change
        for measure in board.measures
        for change in board.steps(measure.name)
        if change.after in aligned
    ]
    blocks: list[Block] = [Heading("Alignment tax")]
    if not changes:
        return [*blocks, Paragraph("No aligned model was measured after a tuned one.")]
    words = [change.word for change in changes]
    summary = (
        f"Reinforcement learning made {words.count('worse')} of {len(words)} measures "
        f"clearly worse and {words.count('better')} clearly better."
    )
    rows = _change_rows(board, changes)
    return [*blocks, Paragraph(summary), Table("Paid and gained", CHANGE_HEAD, rows)]


def forgetting(board: Scoreboard) -> list[Block]:
    """What training must not lose, held against the first stage."""
    kept = [m for m in board.measures if m.retention]
    changes = [change for m in kept for change in board.since_first(m.name)]
    blocks: list[Block] = [Heading("Forgetting")]
    if not changes:
        return [*blocks, Paragraph("No measure of retention, or a single stage.")]
    rows = _change_rows(board, changes)
    return [*blocks, Table("Against the first stage", CHANGE_HEAD, rows)]


def recommendations(
    board: Scoreboard, scenes: Sequence[Scene], basis: CostBasis
) -> list[Block]:
    """A model for each scene, and why no other."""
    found = recommend(board, scenes, basis)
    head = ("scene", "model", "why", "weights", "customers' data")
    rows = [
        [
            one.scene.name,
            Text(one.model or "none", "better" if one.model else "worse"),
            one.reason,
            ", ".join(f"{axis} {w:g}" for axis, w in one.scene.weights.items()),
            "yes: no cloud" if one.scene.customer_data else "no",
        ]
        for one in found
    ]
    return [
        Heading("Which model for which scene"),
        Paragraph(f"The weights of a scene are a stated choice. {basis.text()}"),
        Table("Recommendation", head, rows),
        Fold("Every candidate in every scene", [_candidates(one) for one in found]),
    ]


def examples_section(board: Scoreboard) -> list[Block]:
    """Answers that changed, so that a figure can be looked into."""
    head = ("item", "question", "expected", "before", "after")
    groups: dict[tuple[str, str], list[Example]] = {}
    for example in board.examples:
        groups.setdefault((example.before, example.after), []).append(example)
    folds = [
        Fold(
            f"{before} to {after}: {len(examples)} items",
            [Table(f"{before} to {after}", head, list(map(_example_row, examples)))],
        )
        for (before, after), examples in groups.items()
    ]
    text = "The largest changes of either direction, a few of each measure; no sample."
    if not folds:
        text = "No item with an answer to read changed between two stages."
    return [Heading("Examples that changed"), Paragraph(text), *folds]


def comparison_section(
    board: Scoreboard, comparison: RunComparison, other: str
) -> list[Block]:
    """This run against another one."""
    titles = {m.name: m.title for m in board.measures}
    head = ("measure", "model", "other run", "this run", "change", "interval",
            "p, adjusted", "verdict", "how or why not")  # fmt: skip
    rows = [_run_row(titles, change) for change in comparison.changes]
    words = [change.word for change in comparison.changes]
    counts = ", ".join(f"{words.count(w)} {w}" for w in dict.fromkeys(words))
    blocks: list[Block] = [
        Heading("Against another run"),
        Paragraph(
            f"From {other or 'the other run'} to this one: {counts or 'nothing'}."
        ),
        Table("Every figure that both runs have", head, rows),
    ]
    for name, alone in (
        ("the other run", comparison.only_before),
        ("this run", comparison.only_after),
    ):
        if alone:
            blocks.append(Paragraph(f"Only in {name}: {'; '.join(alone)}.", "note"))
    return blocks


def how_made(board: Scoreboard) -> list[Block]:
    """How many comparisons there were, and the command behind every figure."""
    changes = board.changes
    alone = sum(c.word_alone in ("better", "worse") for c in changes)
    among = sum(c.word in ("better", "worse") for c in changes)
    alpha = 1 - board.level
    rows = []
    for command, number in command_numbers(board).items():
        cells = [c for c in board.cells if c.command == command]
        made = "; ".join(f"{c.measure} of {c.model}" for c in cells)
        rows.append([str(number), Text(command, "code"), made])
    return [
        Heading("How to read and remake it"),
        Paragraph(
            f"This card makes {len(changes)} comparisons. At {alpha:.0%} each, about "
            f"{alpha * len(changes):.1f} would look clear if nothing had changed. "
            f"{alone} look clear by their own interval; {among} remain after Holm's "
            "correction for all of them, which the verdicts and the summary use. "
            "No clear change does not prove that two models are equal."
        ),
        Table("Commands", ("number", "command", "figures"), rows),
    ]


def command_numbers(board: Scoreboard) -> dict[str, int]:
    """Every command of the board with its number, in the order of the cells."""
    commands = dict.fromkeys(cell.command for cell in board.cells)
    return {command: number for number, command in enumerate(commands, 1)}


def interval_text(interval: Interval | None, form: str = ".3f") -> str:
    """An interval such as [0.310, 0.402]."""
    if interval is None:
        return "-"
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]"


def _figure(cell: Cell | None, numbers: Mapping[str, int]) -> Inline:
    if cell is None:
        return "-"
    failed = f", {cell.num_failed} failed" if cell.num_failed else ""
    where = f"n={cell.num_items}{failed} ({numbers[cell.command]})"
    if cell.value is None:
        return f"not scored\n{where}"
    return f"{cell.value:.3f}\n{interval_text(cell.interval)}\n{where}"


def _baseline(measure: Measure) -> Inline:
    if measure.baseline is None:
        return "-"
    return f"{measure.baseline:.3f}\n{measure.baseline_name}"


def _measure_head(measure: Measure) -> str:
    better = "lower" if measure.lower_is_better else "higher"
    return f"{measure.title} ({better} is better)"


def _drawn_models(
    board: Scoreboard, scores: Mapping[str, Mapping[str, AxisScore]]
) -> list[str]:
    """Last stage, references, first stage, then late ones, as far as colours go."""
    stages = list(reversed(board.lineage))
    order = [*stages[:1], *board.references, *stages[-1:], *stages[1:-1]]
    order = list(dict.fromkeys(order))
    known = [
        m for m in order if any(s.value is not None for s in scores.get(m, {}).values())
    ]
    return known[: len(COLOURS)]


def _axis_text(score: AxisScore) -> str:
    if score.value is None:
        return f"-\nwithout {', '.join(score.missing)}"
    return f"{score.value:.3f}\n{interval_text(score.interval)}"


def _scale(board: Scoreboard) -> list[list[Inline]]:
    ranges = scale_ranges(board)
    rows = []
    for measure in board.measures:
        if measure.name in ranges and measure.axis:
            low, high = ranges[measure.name]
            top = "best here" if measure.ceiling is None else "stated ceiling"
            start = f"{low:.3f} ({measure.baseline_name})"
            rows.append([measure.title, start, f"{high:.3f} ({top})"])
    return rows


def _change_rows(
    board: Scoreboard, changes: Sequence[BoardChange]
) -> list[list[Inline]]:
    titles = {m.name: m.title for m in board.measures}
    return [
        [
            titles[one.measure],
            f"{one.before} to {one.after}",
            f"{one.value:{CHANGE}}",
            interval_text(one.interval, CHANGE),
            f"{one.p_value:.2g}, {one.adjusted_p:.2g}",
            f"{one.num_gained}, {one.num_lost}, {one.num_items}",
            one.word_alone,
            _word(one.word),
        ]
        for one in changes
    ]


def _candidates(one: Recommendation) -> Table:
    head = ("model", "score", "interval", "cost of 1,000", "runs", "verdict")
    rows = [
        [
            c.model,
            "-" if c.score is None else f"{c.score:.3f}",
            interval_text(c.interval),
            "-" if c.cost is None else f"{c.cost:.4g} ({c.cost_source})",
            c.residency,
            c.verdict,
        ]
        for c in one.choices
    ]
    return Table(one.scene.name, head, rows)


def _example_row(one: Example) -> list[Inline]:
    return [
        Text(f"{one.measure}: {one.item}", one.word),
        one.question,
        one.expected,
        f"{one.given_before}\n({one.value_before:.3g})",
        f"{one.given_after}\n({one.value_after:.3g})",
    ]


def _run_row(titles: Mapping[str, str], one: RunChange) -> list[Inline]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return [
        titles[one.measure],
        one.model,
        number(one.value_before, ".3f"),
        number(one.value_after, ".3f"),
        number(one.value, CHANGE),
        interval_text(one.interval, CHANGE),
        number(one.adjusted_p, ".2g"),
        _word(one.word),
        one.reason if one.num_items is None else f"{one.reason}, n={one.num_items}",
    ]


def _word(word: str) -> Inline:
    return Text(word, word) if word in ("better", "worse") else Text(word, "note")
