"""One report a run: the stages' parts merged, held against the checks, shown as a page.

``runs/<name>/report.json`` is flat: ``{"vocab.size_after": 38912, ...}``. The page
``index.html`` links every executed notebook; ``report.html`` is the report card of
the evaluation.
"""

import html
import json
import math
from collections.abc import Collection
from pathlib import Path

from rich.console import Console
from rich.table import Table

from finllm_utils import stages
from finllm_utils.checks import CHECKS, TARGETS, Check, format_value
from finllm_utils.files import atomic_file, read_json, require_finite, write_json

SCOREBOARD = Path("09_evaluation") / "scoreboard"


def merge(run_dir: Path, names: Collection[str] | None = None) -> dict[str, object]:
    """Joins the finished stages' ``report.json`` parts with ``course.*`` and writes it.

    Where two stages report a key, the later one counts. ``names`` leaves out folders
    of notebooks that are gone; None takes every stage folder.
    Raises: ValueError naming the file of a value that is not finite.
    """
    status = stages.read_status(run_dir)
    records = status["stages"]
    values: dict[str, object] = {}
    for path in sorted(run_dir.glob("[0-9][0-9]_*/report.json")):
        record = records.get(path.parent.name)
        if names is not None and path.parent.name not in names:
            continue
        if record and record["state"] != "done":
            continue
        part = read_json(path)
        require_finite(part, path)
        values |= part
        read_metrics(path.parent / "metrics.jsonl")
    done = [
        record
        for name, record in records.items()
        if record["state"] == "done" and (names is None or name in names)
    ]
    if done:
        values["course.seconds"] = round(sum(r["seconds"] for r in done), 1)
        values["course.peak_rss_mb"] = max(r["peak_rss_mb"] for r in done)
    if "second_run_seconds" in status:
        values["course.second_run_seconds"] = status["second_run_seconds"]
    values = dict(sorted(values.items()))
    write_json(run_dir / "report.json", values)
    return values


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a ``metrics.jsonl``; empty when the stage logged none.

    Raises: ValueError naming the line of broken JSON or of a number that is not finite.
    """
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{where}: broken JSON ({error.msg}); rerun the stage that writes it"
            ) from error
        require_finite(row, where)
        rows.append(row)
    return rows


def verdicts(values: dict[str, object]) -> list[tuple[str, Check, str]]:
    """``(kind, check, verdict)`` for every check and target."""
    rows = [("check", c, c.verdict(values)) for c in CHECKS]
    return rows + [("target", c, c.verdict(values, short="SHORT")) for c in TARGETS]


def print_table(console: Console, values: dict[str, object]) -> None:
    """Prints checks, then targets, each with its verdict and the values behind it."""
    table = Table(title="What the run shows", title_justify="left")
    table.add_column("kind")
    table.add_column("statement")
    table.add_column("verdict")
    table.add_column("values", overflow="fold")
    colours = {"HOLDS": "green", "FAILS": "red", "SHORT": "yellow"}
    for kind, check, verdict in verdicts(values):
        colour = colours.get(verdict, "dim")
        table.add_row(
            kind, check.id, f"[{colour}]{verdict}[/{colour}]", check.text(values)
        )
    if not console.is_terminal:
        console = Console(file=console.file, width=160)
    console.print(table)


def write_index(run_dir: Path, values: dict[str, object]) -> Path:
    """Writes ``index.html`` with links to every executed notebook; its path."""
    records = stages.read_status(run_dir)["stages"]
    parts = [
        _HEAD.format(title=html.escape(f"FinLLM run {run_dir.name}")),
        _card_link(run_dir),
        "<h2>Notebooks</h2>",
        _table(
            ("notebook", "state", "seconds", "memory (MiB)", "files"),
            [_stage_row(run_dir, name, records[name]) for name in sorted(records)],
        ),
        "<h2>Checks and targets</h2>",
        _table(
            ("kind", "statement", "verdict", "values"),
            [
                (k, html.escape(c.id), _mark(v), html.escape(c.text(values)))
                for k, c, v in verdicts(values)
            ],
        ),
        "<h2>Training logs</h2>",
        _table(("notebook", "steps", "first to last"), _log_rows(run_dir)),
        "<h2>All keys</h2>",
        _table(
            ("key", "value"),
            [(html.escape(k), html.escape(format_value(v))) for k, v in values.items()],
        ),
        "</body></html>\n",
    ]
    page = run_dir / "index.html"
    with atomic_file(page) as handle:
        handle.write("\n".join(parts))
    return page


def write_card(run_dir: Path, compare: str = "") -> tuple[Path, ...]:
    """Writes the report card of a run, ``report.html`` and ``report_card.md``.

    Args: compare is the folder of another run, or empty.
    Returns: their paths; none when 09 left no scoreboard and nothing is compared.
    Raises: ValueError naming the scoreboard that is missing, broken or of a stage that
    did not finish.
    """
    from finllm_utils.evals.report.compare_boards import compare_folders
    from finllm_utils.evals.report.page import write_report
    from finllm_utils.evals.report.scoreboard import BOARD_FILE, read_scoreboard

    ours = run_dir / SCOREBOARD
    record = stages.read_status(run_dir)["stages"].get(SCOREBOARD.parent.name)
    unfinished = bool(record) and record["state"] != "done"
    if compare and unfinished:
        raise ValueError(f"{ours.parent.name} is {record['state']}: finish it first")
    if not compare and (unfinished or not (ours / BOARD_FILE).exists()):
        return ()
    comparison = None
    if compare:
        comparison = compare_folders(Path(compare) / SCOREBOARD, ours)
    return write_report(
        read_scoreboard(ours),
        run_dir,
        title=f"Report card of run {run_dir.name}",
        comparison=comparison,
        other=compare,
    )


def _card_link(run_dir: Path) -> str:
    if not (run_dir / "report.html").exists():
        return ""
    return '<p>The models compared: <a href="report.html">report card</a>.</p>'


def _stage_row(run_dir: Path, name: str, record: dict) -> tuple[str, ...]:
    folder = run_dir / name
    links = [
        f'<a href="{name}/{name}{suffix}">{label}</a>'
        for suffix, label in ((".html", "page"), (".ipynb", "notebook"))
        if (folder / f"{name}{suffix}").exists()
    ]
    if (folder / "report.json").exists():
        links.append(f'<a href="{name}/report.json">numbers</a>')
    error = record.get("error", "")
    state = _mark(record["state"]) + (f"<br>{html.escape(error)}" if error else "")
    seconds = record.get("seconds")
    return (
        html.escape(name),
        state,
        f"{seconds:.0f}" if seconds is not None else "",
        f"{record.get('peak_rss_mb', 0):.0f}",
        ", ".join(links),
    )


def _log_rows(run_dir: Path) -> list[tuple[str, ...]]:
    rows = []
    for path in sorted(run_dir.glob("[0-9][0-9]_*/metrics.jsonl")):
        lines = read_metrics(path)
        names = sorted({k for line in lines for k in line} - {"step", "seconds"})
        ends = []
        for name in names:
            series = [line[name] for line in lines if name in line]
            numbers = [x for x in series if isinstance(x, (int, float))]
            if numbers and all(math.isfinite(x) for x in numbers):
                first, last = format_value(numbers[0]), format_value(numbers[-1])
                ends.append(f"{html.escape(name)} {first} to {last}")
        rows.append((html.escape(path.parent.name), str(len(lines)), "<br>".join(ends)))
    return rows


def _mark(word: str) -> str:
    return f'<span class="{word.split()[0].lower()}">{html.escape(word)}</span>'


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """An HTML table; the rows hold HTML already."""
    cells = "".join(f"<th>{h}</th>" for h in head)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{cells}</tr>\n{body}\n</table>"


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto;
  padding: 0 1em; color: #222; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .3em .8em; border-bottom: 1px solid #ddd;
  vertical-align: top; }}
.holds, .done {{ color: #0a7a3d; font-weight: 600; }}
.fails, .failed {{ color: #b3261e; font-weight: 600; }}
.short, .running, .interrupted {{ color: #9a6700; font-weight: 600; }}
</style></head><body>
<h1>{title}</h1>
<p>Checks must hold. Targets say how far the toy size gets: HOLDS or SHORT.
Every number is in <a href="report.json">report.json</a>.</p>"""
