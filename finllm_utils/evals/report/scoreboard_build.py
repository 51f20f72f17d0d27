"""Makes the scoreboard from the scores of every item: figures, changes, examples.

All comparisons of the board are one family: a word such as "worse" holds for all of
them together.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from finllm_utils.evals.report.scoreboard import (
    REFERENCE,
    BoardChange,
    Cell,
    Entrant,
    Example,
    Measure,
    Measured,
    Scoreboard,
)
from finllm_utils.evals.statistics.many_changes import AdjustedChange
from finllm_utils.evals.statistics.paired_scores import (
    Comparison,
    ItemScore,
    adjusted_changes,
    figure_of,
    items_digest,
    shared_items,
)


def build_scoreboard(
    entrants: Sequence[Entrant],
    measures: Sequence[Measure],
    measured: Iterable[Measured],
    *,
    num_bootstrap: int,
    seed: int,
    level: float = 0.95,
    num_examples: int = 2,
    alarms: Sequence[str] | None = None,
    leaks: Sequence[str] | None = None,
) -> Scoreboard:
    """The board; the order of ``measured`` and of items within it does not matter.

    Args: num_examples of either direction, for a measure and a pair of stages.
    Raises: ValueError for a name that is unknown or stands twice, and for models that
    were asked different items under one measure.
    """
    scores, commands = _by_place(entrants, measures, measured)
    resampling = {"num_bootstrap": num_bootstrap, "seed": seed, "level": level}
    cells = tuple(
        _cell(measure.name, entrant.name, scores[key], commands[key], resampling)
        for measure in measures
        for entrant in entrants
        if (key := (measure.name, entrant.name)) in scores
    )
    _require_same_items(cells)
    comparisons, steps = {}, []
    for measure in measures:
        neighbours, others = _pairs(entrants, measure, cells)
        steps += [(measure.name, *pair) for pair in neighbours]
        for before, after in (*neighbours, *others):
            comparisons[measure.name, before, after] = Comparison(
                scores[measure.name, before],
                scores[measure.name, after],
                measure.lower_is_better,
            )
    found = adjusted_changes(comparisons, **resampling)
    examples = [
        example
        for key in steps
        for example in _examples(key, comparisons[key], num_examples)
    ]
    return Scoreboard(
        entrants=tuple(entrants),
        measures=tuple(measures),
        cells=cells,
        changes=tuple(
            _change(key, one, comparisons[key]) for key, one in found.items()
        ),
        examples=tuple(examples),
        level=level,
        alarms=None if alarms is None else tuple(alarms),
        leaks=None if leaks is None else tuple(leaks),
    )


def _by_place(
    entrants: Sequence[Entrant],
    measures: Sequence[Measure],
    measured: Iterable[Measured],
) -> tuple[dict[tuple[str, str], Sequence[ItemScore]], dict[tuple[str, str], str]]:
    """Scores and commands by (measure, model)."""
    known = ([m.name for m in measures], [e.name for e in entrants])
    for names in known:
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"{twice[0]!r} stands twice on the board")
    scores, commands = {}, {}
    for one in measured:
        key = (one.measure, one.model)
        for name, names in zip(key, known, strict=True):
            if name not in names:
                raise ValueError(f"{name!r} is not on the board; it has {names}")
        if key in scores:
            raise ValueError(f"{one.measure} of {one.model} is given twice")
        scores[key], commands[key] = one.scores, one.command
    return scores, commands


def _cell(
    measure: str,
    model: str,
    scores: Sequence[ItemScore],
    command: str,
    resampling: Mapping[str, float],
) -> Cell:
    try:
        digest = items_digest(scores)
    except ValueError as error:
        raise ValueError(f"{measure} of {model}: {error}") from error
    figure = figure_of(scores, **resampling)
    return Cell(
        model=model,
        measure=measure,
        value=figure.value,
        interval=figure.interval,
        num_items=figure.num_scored,
        num_failed=figure.num_failed,
        digest=digest,
        command=command,
    )


def _require_same_items(cells: Sequence[Cell]) -> None:
    first: dict[str, Cell] = {}
    for cell in cells:
        other = first.setdefault(cell.measure, cell)
        if other.digest != cell.digest:
            raise ValueError(
                f"{cell.measure}: {other.model} and {cell.model} were asked different "
                "items, so their figures do not compare; ask all models the same"
            )


def _pairs(
    entrants: Sequence[Entrant], measure: Measure, cells: Sequence[Cell]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Neighbouring stages; and first to later, references to last."""
    there = {c.model for c in cells if c.measure == measure.name and c.num_items}
    stages = [e.name for e in entrants if e.stage != REFERENCE and e.name in there]
    beside = [e.name for e in entrants if e.stage == REFERENCE and e.name in there]
    others = [(stages[0], later) for later in stages[2:] if measure.retention]
    others += [(name, last) for last in stages[-1:] for name in beside]
    return list(pairwise(stages)), others


def _change(
    key: tuple[str, str, str], one: AdjustedChange, comparison: Comparison
) -> BoardChange:
    measure, before, after = key
    return BoardChange(
        measure=measure,
        before=before,
        after=after,
        value=one.change.value,
        interval=one.change.interval,
        p_value=one.p_value,
        adjusted_p=one.adjusted_p,
        word_alone=one.change.word,
        word=one.word,
        num_gained=one.num_gained,
        num_lost=one.num_lost,
        num_items=len(shared_items(comparison.before, comparison.after)),
    )


def _examples(
    key: tuple[str, str, str], comparison: Comparison, most: int
) -> list[Example]:
    """The largest changes with something to read, of either direction."""
    sign = -1 if comparison.lower_is_better else 1
    pairs = [
        (sign * (b.value - a.value), a, b)
        for a, b in shared_items(comparison.before, comparison.after)
        if a.value != b.value and (a.given or b.given)
    ]
    pairs.sort(key=lambda row: (-abs(row[0]), row[1].item))
    chosen = [row for row in pairs if row[0] > 0][:most]
    chosen += [row for row in pairs if row[0] < 0][:most]
    return [
        Example(
            measure=key[0],
            item=a.item,
            before=key[1],
            after=key[2],
            question=a.question,
            expected=a.expected,
            given_before=a.given,
            given_after=b.given,
            value_before=a.value,
            value_after=b.value,
            word="better" if gain > 0 else "worse",
        )
        for gain, a, b in chosen
    ]
