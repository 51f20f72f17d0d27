"""The solutions answer every exercise; after `make course` they run on its results."""

import json
import re
from pathlib import Path

import pytest

from finllm_utils.dependencies import REPOSITORY
from finllm_utils.execute import execute
from finllm_utils.notebooks import (
    PARAMETERS,
    code_cells,
    declared_parameters,
    parse_cell,
    read_notebook,
)
from finllm_utils.stages import discover
from tests.test_hygiene import ABSOLUTE, num_lines, text_of

FOLDER = REPOSITORY / "notebooks"
SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))
RUN = REPOSITORY / "runs" / "toy"
WRITING = re.compile(r"start_run|run\.(report|log|artifact|stage_dir)\b")

each_solution = pytest.mark.parametrize("path", SOLUTIONS, ids=lambda p: p.stem)


def exercises(path: Path) -> list[str]:
    """Numbers of the exercises in a course notebook."""
    text = text_of(read_notebook(path))
    part = re.search(r"^## Exercises\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"^(\d+)\. ", part[1], re.MULTILINE) if part else []


def content_of(run: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of every file of a run, locks left out."""
    return {
        str(p.relative_to(run)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in sorted(run.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def test_every_course_notebook_with_exercises_has_a_solution():
    course = {p.name: exercises(p) for p in FOLDER.glob("[0-9][0-9]_*.ipynb")}
    assert {name for name, found in course.items() if found} == {
        p.name for p in SOLUTIONS
    }
    assert all(course.values()), "a course notebook without exercises"


@each_solution
def test_every_exercise_is_answered_under_its_heading(path):
    text = text_of(read_notebook(path))
    answered = re.findall(r"^## Exercise (\d+)$", text, re.MULTILINE)
    assert answered == exercises(FOLDER / path.name)
    assert re.match(rf"# {path.stem[:2]} .+: solutions\n", text)
    assert re.search(r"^本节：", text, re.MULTILINE), "no Chinese summary"
    assert f"](../{path.name})" in text, "no link to the course notebook"


@each_solution
def test_every_answer_is_asserted(path):
    """Each exercise's part holds code with an assert."""
    parts: dict[str, str] = {}
    current = ""
    for cell in read_notebook(path)["cells"]:
        if found := re.search(r"^## Exercise (\d+)$", cell["source"], re.MULTILINE):
            current = found[1]
        elif cell["cell_type"] == "code" and current:
            parts[current] = parts.get(current, "") + cell["source"] + "\n"
    assert list(parts) == exercises(FOLDER / path.name)
    for number, code in parts.items():
        assert re.search(r"^ *assert ", code, re.MULTILINE), f"exercise {number}"


@each_solution
def test_cells_are_as_in_the_course(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert declared_parameters(read_notebook(path), path.name) == PARAMETERS
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    for number, source in enumerate(code_cells(read_notebook(path)), 1):
        size = num_lines(parse_cell(source, f"{path.name}, code cell {number}"))
        assert size <= 25, f"code cell {number} has {size} lines"
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
    assert not ABSOLUTE.search(path.read_text(encoding="utf-8")), "an absolute path"


@each_solution
def test_solutions_only_read_the_run_folder(path):
    code = "\n".join(code_cells(read_notebook(path)))
    assert not (found := WRITING.search(code)), f"{found[0]} writes into the run"
    assert "resolve_run_dir(RUN_DIR, cfg.name)" in code, "RUN_DIR must be honoured"


def test_solutions_are_no_stages():
    names = [stage.path.parent for stage in discover(FOLDER)]
    assert set(names) == {FOLDER}


@pytest.mark.course
@each_solution
def test_solution_runs_on_the_results_of_the_course(path, tmp_path):
    """Executes the notebook; needs ``make course``."""
    assert (RUN / "report.json").exists(), "no results: run `make course` first"
    before = content_of(RUN)
    outcome = execute(
        path, tmp_path / path.name, {"SEED": 0}, run_dir=tmp_path, repository=REPOSITORY
    )
    assert not outcome.error, f"cell {outcome.cell}: {outcome.error}\n{outcome.source}"
    assert content_of(RUN) == before, "the solution changed the results of the course"
