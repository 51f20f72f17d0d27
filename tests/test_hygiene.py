"""What a reader may expect of every notebook and every file of code."""

import ast
import json
import re
from pathlib import Path

import pytest

from finllm_utils.dependencies import REPOSITORY, declared_data, notebook_dependencies
from finllm_utils.notebooks import (
    PARAMETERS,
    code_cells,
    code_digest,
    declared_parameters,
    parse_cell,
    read_notebook,
)

FOLDER = REPOSITORY / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
CODE = sorted(
    path
    for folder in ("finllm_utils", "tests", "data_samples")
    for path in (REPOSITORY / folder).rglob("*.py")
)
SECTIONS = (
    "What you will be able to do", "Time and hardware", "What must hold", "Summary",
    "Exercises", "Common faults", "Next",
)  # fmt: skip
ABSOLUTE = re.compile(r"(?<![\w.:/~>-])/(home|root|work|tmp|Users|mnt|data|opt|srv)/\w")
TABLES = {"finllm_utils/profiles.py", "tests/hub/numeric_answers.py"}
"""Long functions that only list settings, or an answer key frozen by its hash."""
PLAIN_CALLS = {"input", "sleep", "get_ipython", "system"}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def text_of(notebook: dict) -> str:
    cells = [c["source"] for c in notebook["cells"] if c["cell_type"] == "markdown"]
    return "\n".join(cells)


def trees(path: Path) -> list[ast.Module]:
    cells = code_cells(read_notebook(path))
    return [
        parse_cell(s, f"{path.name}, code cell {i}") for i, s in enumerate(cells, 1)
    ]


def num_lines(tree: ast.Module) -> int:
    """Lines of code; imports, one name a line, are not what a reader has to follow."""
    kept = [n for n in tree.body if not isinstance(n, (ast.Import, ast.ImportFrom))]
    return sum(n.end_lineno - n.lineno + 1 for n in kept)


@each_notebook
def test_parameters_are_exactly_the_four(path):
    declared = declared_parameters(read_notebook(path), path.name)
    assert declared == PARAMETERS and list(declared) == list(PARAMETERS)


@each_notebook
def test_sections_stand_in_order(path):
    text = text_of(read_notebook(path))
    assert re.match(r"# \d\d ", text), "the first cell starts with `# NN Title`"
    assert re.search(r"[\u4e00-\u9fff]", text), "the first cell has a Chinese summary"
    places = []
    for section in SECTIONS:
        found = re.search(rf"^## {section}\b", text, re.MULTILINE)
        assert found, f"{path.name}: no `## {section}`"
        places.append(found.start())
    assert places == sorted(places), "the sections are out of order"


@each_notebook
def test_cells_and_file_are_small(path):
    assert path.stat().st_size <= 400 * 1024
    sizes = [num_lines(tree) for tree in trees(path)]
    for number, size in enumerate(sizes, 1):
        assert size <= 25, f"code cell {number} has {size} lines"
    assert sum(sizes) <= 200


@each_notebook
def test_code_is_plain_and_uses_the_package(path):
    imports, definitions = set(), 0
    for tree in trees(path):
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                definitions += 1
            elif isinstance(node, ast.ImportFrom):
                imports.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Import):
                imports |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                assert name not in PLAIN_CALLS, f"{name}() in a notebook"
    assert "finllm_utils" in imports
    assert definitions <= 1, "at most one new def: the idea built from scratch"


@each_notebook
def test_must_hold_asserts_something(path):
    cells = read_notebook(path)["cells"]
    start = next(
        i for i, c in enumerate(cells)
        if re.search("^## What must hold", c["source"], re.MULTILINE)
    )  # fmt: skip
    code = [c["source"] for c in cells[start:] if c["cell_type"] == "code"]
    asserts = [
        n for source in code for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.Assert)
    ]  # fmt: skip
    told = [n for n in asserts if n.msg is not None]
    assert 3 <= len(told) and len(asserts) <= 12, "3-8 asserts that say what to do"


@each_notebook
def test_dependencies_can_be_followed(path):
    needs = notebook_dependencies(path)
    assert needs.modules


@each_notebook
def test_metadata_is_minimal(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info", "finllm"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}, cell["id"]


@each_notebook
def test_saved_outputs_are_clean_and_belong_to_this_code(path):
    notebook = read_notebook(path)
    rendered = notebook["metadata"].get("finllm")
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["execution_count"] is None
        assert rendered or not cell["outputs"], "outputs come from `make render` alone"
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
    if rendered:
        assert rendered["profile"] == "toy"
        assert rendered["code_sha256"] == code_digest(notebook), (
            "the code changed after its outputs were made: run `make render`"
        )


@each_notebook
def test_links_and_figures_exist(path):
    text = text_of(read_notebook(path))
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (FOLDER / target).exists(), f"{path.name} links to missing {target}"


@pytest.mark.parametrize(
    "path", [*NOTEBOOKS, *CODE], ids=lambda p: p.relative_to(REPOSITORY).as_posix()
)
def test_no_absolute_paths(path):
    if path == Path(__file__):
        return
    found = ABSOLUTE.search(path.read_text(encoding="utf-8"))
    assert not found, f"{path.name} has the absolute path {found[0]}..."


@pytest.mark.parametrize(
    "path", CODE, ids=lambda p: p.relative_to(REPOSITORY).as_posix()
)
def test_files_and_functions_are_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    relative = path.relative_to(REPOSITORY).as_posix()
    for node in ast.walk(ast.parse(text)):
        if relative in TABLES:
            break
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"


def test_modules_declare_the_data_they_read():
    for path in CODE:
        relative = path.relative_to(REPOSITORY).as_posix()
        declared = declared_data(path)
        for data in declared:
            assert (REPOSITORY / data).exists(), f"{relative}: DATA_FILES names {data}"
        if relative.startswith("finllm_utils/") and not declared:
            constants = [
                n.value for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            ]  # fmt: skip
            assert "data_samples" not in constants, (
                f'{relative} reads data_samples: add DATA_FILES = ("data_samples/x",) '
                "so that a change there reruns what uses it"
            )


def test_no_pickles_are_loaded():
    for path in CODE:
        if path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            assert "pickle.load" not in text and "weights_only=False" not in text, path
