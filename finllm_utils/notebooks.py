"""Notebook files: their parameters cell, what is wrong with it, and their digests.

Notebooks are read as plain JSON, which takes milliseconds; running one is in
``execute.py``, finding what one depends on in ``dependencies.py``.
"""

import ast
import difflib
import hashlib
import json
from pathlib import Path

PARAMETERS = {"PROFILE": str, "SEED": int, "RUN_DIR": str, "OVERRIDES": dict}
"""The parameters every notebook of the course has, with their types."""

REMEDY = 'give one code cell the tag "parameters" (JupyterLab: property inspector)'


def read_notebook(path: Path) -> dict:
    """The notebook as nested dicts, each cell's source as one string.

    Raises: ValueError naming the file when it is missing or is not a notebook.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such notebook")
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a notebook ({error!r}); open it in JupyterLab, save it again"
        ) from error
    return notebook


def code_cells(notebook: dict) -> list[str]:
    """Sources of the code cells, in order."""
    return [c["source"] for c in notebook["cells"] if c["cell_type"] == "code"]


def code_digest(notebook: dict) -> str:
    """SHA-256 over the code cells alone: saved outputs belong to exactly this code."""
    joined = "\0".join(code_cells(notebook))
    return hashlib.sha256(joined.encode()).hexdigest()


def source_digest(notebook: dict) -> str:
    """SHA-256 over every cell's type and source, never its outputs or metadata."""
    cells = [[c["cell_type"], c["source"]] for c in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def parse_cell(source: str, where: str) -> ast.Module:
    """Syntax tree of a code cell.

    Raises: ValueError saying that magics and shell lines are not plain Python.
    """
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ValueError(
            f"{where}, line {error.lineno}: not plain Python ({error.msg}); cells with "
            "! or % lines cannot be checked or cached, use Python instead"
        ) from error


def parameters_cell(notebook: dict, name: str) -> str:
    """Source of the one cell tagged ``parameters``.

    Raises: ValueError when there is none or more than one: papermill would only warn
    and run with the defaults.
    """
    tagged = [
        cell["source"]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        and "parameters" in cell.get("metadata", {}).get("tags", [])
    ]
    if not tagged:
        raise ValueError(f"{name}: no parameters cell; {REMEDY}")
    if len(tagged) > 1:
        raise ValueError(f"{name}: {len(tagged)} parameters cells; keep one")
    return tagged[0]


def declared_parameters(notebook: dict, name: str) -> dict[str, type]:
    """Names and types in the parameters cell, for example ``{"SEED": int}``.

    Raises: ValueError for a value that is not a literal or contradicts its annotation.
    """
    declared: dict[str, type] = {}
    for statement in parse_cell(parameters_cell(notebook, name), name).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(
            statement.target, ast.Name
        ):
            key, value = statement.target.id, statement.value
            annotation = ast.unparse(statement.annotation).split("[")[0]
        elif isinstance(statement, ast.Assign) and isinstance(
            statement.targets[0], ast.Name
        ):
            key, value, annotation = statement.targets[0].id, statement.value, ""
        else:
            raise ValueError(
                f"{name}: `{ast.unparse(statement)}` in the parameters cell; only "
                "`NAME: type = literal` lines belong there, since papermill does not "
                "recompute anything else"
            )
        declared[key] = _literal_type(name, key, value, annotation)
    return declared


def _literal_type(name: str, key: str, value: ast.expr | None, annotation: str) -> type:
    try:
        kind = type(ast.literal_eval(value)) if value is not None else None
    except (ValueError, SyntaxError) as error:
        raise ValueError(
            f"{name}: parameter {key} = {ast.unparse(value)} is not a literal; write "
            "the value itself, papermill does not recompute derived values"
        ) from error
    if kind is None:
        raise ValueError(f"{name}: parameter {key} has no default value; give it one")
    if annotation and annotation != kind.__name__:
        raise ValueError(
            f"{name}: parameter {key} is annotated {annotation} but its default is "
            f"{kind.__name__}; make them agree"
        )
    return kind


def check_parameters(notebook: dict, name: str, values: dict[str, object]) -> None:
    """Raises ValueError unless every value fits a parameter that the notebook has."""
    declared = declared_parameters(notebook, name)
    for key, value in values.items():
        if key not in declared:
            near = difflib.get_close_matches(key, declared, n=1, cutoff=0.0)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{name}: unknown parameter {key}{hint} The parameters cell has "
                f"{', '.join(declared) or 'none'}; add `{key}: {type(value).__name__} "
                "= ...` there or do not pass it"
            )
        if type(value) is not declared[key]:
            raise ValueError(
                f"{name}: parameter {key}={value!r} is {type(value).__name__}, the "
                f"notebook expects {declared[key].__name__}"
            )
