"""Imports run one way: from the tools on top down to plain settings, never sideways."""

import ast
import importlib
import subprocess
import sys

import pytest

from finllm_utils.dependencies import PACKAGE, REPOSITORY, imported_names

ROOT = REPOSITORY / PACKAGE
LAYERS = (
    {"config", "config_data", "config_train", "profiles"}
    | {"files", "metrics", "records"},
    {"runtime"},
    {"finance", "corpora"},
    {"data", "tokenizer", "model"},
    {"train", "scaling"},
    {"rlhf"},
    {"evals"},
    {"hub"},
    {"apps"},
)
ALONE = {
    "plots", "annotation", "intervals", "board", "board_frame", "reference_runs",
    "compare_run",
}  # fmt: skip
"""Import nothing above the first layer; anything may import them."""
TOP = {
    "launch", "passes", "report", "checks", "notebooks", "dependencies", "stages", "execute",
    "progress", "render", "course", "doctor", "cli",
}  # fmt: skip
EVALS = (
    "monitor", "statistics", "bits_per_byte", "choice", "models", "tasks", "pairwise",
    "report", "exam", "acceptance", "suites", "lmeval", "pretrain_watch", "evaluate",
)  # fmt: skip
"""Folders and files of evals: each imports itself and what stands before it."""
LIGHT = ("files", "config", "profiles", "records", "runtime", "course", "report", "cli")
"""Importing these must not import torch: `finllm run` answers at once."""


def modules() -> list[str]:
    return sorted(p.relative_to(REPOSITORY).as_posix() for p in ROOT.rglob("*.py"))


def layer(name: str) -> int:
    """0 for the bottom; the tools on top stand above every layer."""
    if name in TOP:
        return len(LAYERS)
    return next(i for i, members in enumerate(LAYERS) if name in members)


def rooms_imported(path: str) -> set[str]:
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    package = ".".join(path.split("/")[:-1])
    names = {n.split(".")[1] for n in imported_names(tree, package) if "." in n}
    return {n for n in names if (ROOT / n).is_dir() or (ROOT / f"{n}.py").exists()}


def room_of(path: str) -> str:
    return path.split("/")[1].removesuffix(".py")


@pytest.mark.parametrize("path", modules())
def test_imports_run_one_way(path):
    room = room_of(path)
    if room == "__init__":
        assert not rooms_imported(path), "importing finllm_utils must do nothing"
        return
    known = set().union(*LAYERS) | TOP | ALONE
    assert room in known, f"{path}: give {room} its place in tests/test_layering.py"
    for other in rooms_imported(path) - {room} - ALONE:
        if room in TOP and other in TOP:
            continue
        height = 1 if room in ALONE else layer(room)
        beside = height == 0 and layer(other) == 0  # the files at the bottom
        beside = beside or (room, other) == ("scaling", "train")
        assert layer(other) < height or beside, f"{path} must not import {other}"


@pytest.mark.parametrize("path", [p for p in modules() if "/evals/" in p])
def test_evals_import_one_way(path):
    parts = path.removesuffix(".py").split("/")[2:]
    if parts[0] in ("__init__", "metrics"):  # metrics: read from their files, alone
        return
    assert parts[0] in EVALS, f"{path}: give {parts[0]} its place in EVALS"
    below = EVALS[: EVALS.index(parts[0]) + 1]
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    package = ".".join(path.split("/")[:-1])
    for name in imported_names(tree, package):
        room = name.split(".")[2] if name.startswith(f"{PACKAGE}.evals.") else parts[0]
        assert room in below, f"{path} must not import {name}"


def test_the_top_level_imports_nothing_heavy():
    code = (
        "import sys, time; t = time.perf_counter(); import finllm_utils;"
        "took = time.perf_counter() - t;"
        "assert took < 0.2, took;"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_settings_and_runner_do_not_import_torch():
    names = "; ".join(f"import {PACKAGE}.{name}" for name in LIGHT)
    code = f"import sys; {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_package_folders_hold_only_docstrings():
    for path in ROOT.rglob("__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        rest = [n for n in body if not isinstance(n, ast.Expr)]
        if path.parent == ROOT:
            heads = [ast.unparse(n).split()[0] for n in rest]
            assert heads == ["import", "__version__"], "one library is quietened"
        else:
            assert not rest, f"{path}: callers import from the modules"
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_the_walk_sees_lazy_and_relative_imports():
    tree = ast.parse(
        "def f():\n    from ..hub import x\n    import finllm_utils.course"
    )
    names = set(imported_names(tree, "finllm_utils.train"))
    assert {"finllm_utils.hub", "finllm_utils.hub.x", "finllm_utils.course"} <= names
    assert importlib.import_module("finllm_utils").__doc__
