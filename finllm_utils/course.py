"""Runs the course: which stages, in which order, skipping what is current.

``run_course`` validates everything first, then runs each stale stage in its own kernel.
A failed stage blocks what depends on it and nothing else.
"""

import difflib
import operator
import re
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from finllm_utils import execute, report, stages
from finllm_utils.config import Profile
from finllm_utils.dependencies import REPOSITORY
from finllm_utils.files import hold_lock, read_json, release_lock
from finllm_utils.notebooks import check_parameters, read_notebook
from finllm_utils.profiles import load_profile
from finllm_utils.progress import StageView, clock
from finllm_utils.runtime import resolve_run_dir
from finllm_utils.stages import Digests, Stage

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_GATE = re.compile(r"\s*([\w.]+)\s*(<=|>=|<|>)\s*([-+\d.eE]+)\s*")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What ``finllm run`` was asked for."""

    profile: str = "toy"
    seed: int = 0
    run_dir: str = ""
    overrides: dict = field(default_factory=dict)
    first: str = ""
    last: str = ""
    only: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    force: bool = False
    notebooks_dir: Path = REPOSITORY / "notebooks"

    def command(self, *extra: str) -> str:
        """The shell command that repeats this run."""
        words = ["finllm", "run", "--profile", self.profile, *extra]
        for key, value in self.overrides.items():
            words += ["--set", f"{key}={value}"]
        if self.seed:
            words += ["--seed", str(self.seed)]
        if self.run_dir:
            words += ["--run-dir", self.run_dir]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition on one report key, for example ``bpb.stage2.finance_zh <= 1.2``."""

    key: str
    symbol: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> "Gate":
        """Reads ``key<=number``; ``stage2.finance_zh_bpb`` means the bpb key.

        Raises: ValueError showing the form.
        """
        match = _GATE.fullmatch(text)
        try:
            key, symbol, number = match.groups()
            bound = float(number)
        except (AttributeError, ValueError):
            raise ValueError(
                f'gate {text!r}: write key<=number, for example "ppo.kl_nats<=10" or '
                '"stage2.finance_zh_bpb<=1.2"; <, <=, > and >= work'
            ) from None
        if alias := re.fullmatch(r"(\w+)\.(\w+)_bpb", key):
            key = "bpb.{}.{}".format(*alias.groups())
        return cls(key, symbol, bound)

    def missed(self, values: dict[str, object]) -> str:
        """Why the values miss this gate; empty when they hold it or lack the key."""
        value = values.get(self.key)
        if value is None or _COMPARE[self.symbol](value, self.bound):
            return ""
        return f"gate {self.key}{self.symbol}{self.bound:g} missed: it is {value:.4g}"


@dataclass(kw_only=True)
class Course:
    """A validated run: everything that can be wrong beforehand has been checked."""

    options: Options
    profile: Profile
    run_dir: Path
    stages: list[Stage]
    selected: list[str]
    gates: list[Gate]
    console: Console
    failed: dict[str, str] = field(default_factory=dict)  # stage: reason

    @property
    def parameters(self) -> dict[str, object]:
        """What every notebook is run with."""
        default = resolve_run_dir("", self.profile.name)
        return {
            "PROFILE": self.profile.name,
            "SEED": self.options.seed,
            "RUN_DIR": "" if self.run_dir == default else str(self.run_dir),
            "OVERRIDES": self.options.overrides,
        }

    def say(self, text: str) -> None:
        """One line to the terminal or the log."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def prepare(options: Options, console: Console | None = None) -> Course:
    """Checks the profile, overrides, gates and every notebook before anything runs.

    Raises: ValueError naming what is wrong.
    """
    profile = load_profile(options.profile, options.overrides)
    found = stages.discover(options.notebooks_dir)
    course = Course(
        options=options,
        profile=profile,
        run_dir=resolve_run_dir(options.run_dir, profile.name),
        stages=found,
        selected=select(found, options),
        gates=[Gate.parse(text) for text in options.gates],
        console=console or Console(),
    )
    for stage in found:
        check_parameters(read_notebook(stage.path), stage.path.name, course.parameters)
    return course


def select(found: list[Stage], options: Options) -> list[str]:
    """Names of the stages that ``--from``, ``--to`` and ``--only`` ask for.

    Raises: ValueError for a number that no notebook has.
    """
    names = [s.name for s in found]

    def resolve(word: str, option: str) -> str:
        match = [n for n in names if n == word or n[:2] == word.zfill(2)]
        if not match:
            near = difflib.get_close_matches(word, names, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"{option} {word}: no such notebook; did you mean {near}? "
                f"There are {', '.join(names)}"
            )
        return match[0]

    if options.only:
        wanted = {resolve(word, "--only") for word in options.only}
        return [n for n in names if n in wanted]
    first = resolve(options.first, "--from") if options.first else names[0]
    last = resolve(options.last, "--to") if options.last else names[-1]
    if first > last:
        raise ValueError(f"--from {first} comes after --to {last}; swap them")
    return [n for n in names if first <= n <= last]


def run_course(options: Options, console: Console | None = None) -> int:
    """Runs the stages that are stale; 0 when all succeeded, else 1.

    Raises: ValueError before anything runs, RuntimeError when the folder is in use.
    """
    course = prepare(options, console)
    lock = course.run_dir / ".lock"
    hold_lock(
        lock,
        f"run folder {course.run_dir}",
        "wait for it, stop that process, or pass another --run-dir",
        patience_s=1.0,
    )
    try:
        execute.kill_orphans(course.run_dir)
        num_run = _run_selected(course)
        _note_second_run(course, num_run)
        return _finish(course)
    finally:
        release_lock(lock)


def _run_selected(course: Course) -> int:
    """Runs what is stale; the number of stages that were executed."""
    digests = Digests(course.run_dir / stages.DIGESTS_FILE)
    num_run = 0
    for stage in course.stages:
        if stage.name not in course.selected:
            continue
        if reason := _blocked(course, stage):
            course.failed[stage.name] = reason
            course.say(f"{stage.name}  not run: {reason}")
            continue
        status = stages.read_status(course.run_dir)
        parts = stages.key_parts(
            stage, course.profile, course.options.seed, course.run_dir, digests
        )
        record = status["stages"].get(stage.name)
        stage_dir = course.run_dir / stage.name
        reasons = stages.why_stale(record, parts, stage_dir, digests)
        if reasons or course.options.force:
            num_run += 1
            _run_stage(course, stage, parts, digests)
        else:
            course.say(f"{stage.name}  current, took {clock(record['seconds'])}")
        digests.save()
        if stage.name not in course.failed and (missed := _gates(course, stage)):
            course.failed[stage.name] = missed
            course.say(f"{stage.name}  stops the run: {missed}")
            break
    return num_run


def _blocked(course: Course, stage: Stage) -> str:
    """Why the stage cannot run now; empty when it can."""
    for made_by, name in stage.needs.artifacts:
        if made_by in course.failed:
            return f"it needs {made_by}, which did not succeed"
        made_first = made_by in course.selected
        if not made_first and not (course.run_dir / made_by / name).exists():
            again = course.options.command("--only", made_by[:2])
            return f"{made_by}/{name} is missing; make it with `{again}`"
    return ""


def _gates(course: Course, stage: Stage) -> str:
    path = course.run_dir / stage.name / "report.json"
    values = read_json(path) if path.exists() else {}
    return "; ".join(filter(None, (gate.missed(values) for gate in course.gates)))


def _run_stage(
    course: Course, stage: Stage, parts: dict[str, str], digests: Digests
) -> None:
    """Executes one notebook and notes the outcome in status.json."""
    stage_dir = course.run_dir / stage.name
    stage_dir.mkdir(parents=True, exist_ok=True)
    for leftover in stage_dir.glob(".*.tmp"):
        _remove(leftover)
    status = stages.read_status(course.run_dir)
    before = status["stages"].get(stage.name) or {}
    expected = stages.expected_seconds(stage, before, course.profile.name)
    record = {
        "state": "running",
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "last_seconds": before.get("last_seconds"),
    }
    _note(course, stage, record)
    target = stage_dir / f"{stage.name}.ipynb"
    began = time.monotonic()
    with StageView(course.console, stage.name, expected) as view:
        outcome = _execute(course, stage, target, view)
    seconds = round(time.monotonic() - began, 3)
    record |= {"seconds": seconds, "peak_rss_mb": round(outcome.peak_rss_mb, 1)}
    if outcome.error:
        _note(course, stage, record | {"state": "failed", "error": outcome.error})
        course.failed[stage.name] = outcome.error
        _explain_failure(course, stage, target, outcome)
        return
    outputs = stages.outputs_of(stage_dir, digests)
    if (stage_dir / "report.json").exists():
        outputs["report.json"] = "present"
    record |= {"state": "done", "last_seconds": seconds, "outputs": outputs}
    record |= {"key": stages.cache_key(parts), "parts": parts}
    _note(course, stage, record)
    course.say(f"{stage.name}  done in {clock(seconds)}")


def _execute(
    course: Course, stage: Stage, target: Path, view: StageView
) -> execute.Outcome:
    """One execution with its HTML; Ctrl-C is noted before it goes on."""
    try:
        outcome = execute.execute(
            stage.path,
            target,
            course.parameters,
            run_dir=course.run_dir,
            repository=REPOSITORY,
            watch=view.update,
        )
        if target.exists():
            execute.export_html(target, assets=stage.path.parent)
    except (KeyboardInterrupt, SystemExit):
        _note(course, stage, {"state": "interrupted"})
        again = course.options.command("--from", stage.number)
        course.say(f"{stage.name}  interrupted; go on with `{again}`")
        raise
    return outcome


def _note(course: Course, stage: Stage, record: dict) -> None:
    status = stages.read_status(course.run_dir)
    status |= {
        "profile": course.profile.name,
        "seed": course.options.seed,
        "overrides": course.options.overrides,
    }
    status["stages"][stage.name] = record
    stages.write_status(course.run_dir, status)


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _explain_failure(
    course: Course, stage: Stage, target: Path, outcome: execute.Outcome
) -> None:
    course.say(f"{stage.name}  FAILED in cell {outcome.cell}:")
    for line in outcome.source.strip().splitlines():
        course.say(f"    {line}")
    course.say(f"  {outcome.error}")
    course.say(f"  executed copy with the error: {target}")
    course.say(f"  resume with: {course.options.command('--from', stage.number)}")


def _note_second_run(course: Course, num_run: int) -> None:
    """Keeps the seconds of a whole run that found nothing to do."""
    if num_run or course.failed or len(course.selected) < len(course.stages):
        return
    import psutil

    status = stages.read_status(course.run_dir)
    seconds = time.time() - psutil.Process().create_time()
    stages.write_status(
        course.run_dir, status | {"second_run_seconds": round(seconds, 2)}
    )


def _finish(course: Course) -> int:
    """Writes the report and the index, prints the table."""
    values = report.merge(course.run_dir, [s.name for s in course.stages])
    absent = [g.key for g in course.gates if g.key not in values]
    card = report.write_card(course.run_dir)
    page = report.write_index(course.run_dir, values)
    report.print_table(course.console, values)
    course.say(f"report: {page}")
    for path in card:
        course.say(f"report card: {path}")
    if absent:
        near = difflib.get_close_matches(absent[0], values, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]}?" if near else ""
        course.say(f"gate {absent[0]}: no stage has reported this key{hint}")
    return 1 if course.failed or absent else 0


def describe(options: Options) -> list[tuple[str, str, float | None, list[str]]]:
    """Rows of ``finllm status``: stage, state, seconds, reasons to run again."""
    course = prepare(options)
    status = stages.read_status(course.run_dir)
    digests = Digests(course.run_dir / stages.DIGESTS_FILE)
    rows = []
    for stage in course.stages:
        record = status["stages"].get(stage.name)
        parts = stages.key_parts(
            stage, course.profile, course.options.seed, course.run_dir, digests
        )
        stage_dir = course.run_dir / stage.name
        reasons = stages.why_stale(record, parts, stage_dir, digests)
        state = record["state"] if record else "never run"
        if state == "done" and reasons:
            state = "stale"
        rows.append((stage.name, state, (record or {}).get("seconds"), reasons))
    return rows
