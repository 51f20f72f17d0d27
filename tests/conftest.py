"""Shared pieces of the tests: small notebooks made on the spot, and CI's strictness."""

import json
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

PARAMETERS_CELL = """PROFILE: str = "toy"
SEED: int = 0
RUN_DIR: str = ""
OVERRIDES: dict = {}"""

TOOLS = {
    "needs_slurm": ("sbatch", lambda: shutil.which("sbatch")),
    "needs_chromium": ("chromium", lambda: shutil.which("chromium")),
    "needs_ray": ("the extra ray", lambda: find_spec("ray")),  # no command on PATH
}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Starts the server that tests fork processes from, with torch imported.

    The first user decides what it imports; others would import it in every process.
    """
    if any("tests/train/" in item.nodeid for item in session.items):
        multiprocessing.set_forkserver_preload(["tests.train.tiny"])
        multiprocessing.forkserver.ensure_running()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test whose tool is missing, with the reason; CI fails instead."""
    for marker, (name, find) in TOOLS.items():
        if item.get_closest_marker(marker) and find() is None:
            reason = f"{name} is not installed"
            if os.environ.get("CI"):
                pytest.fail(f"{reason}, and CI must not skip this test")
            pytest.skip(reason)
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU on this machine")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: matrices of tiny models are slower on two."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_lines(path: Path, *rows: object) -> Path:
    """A JSONL file of these rows; text is a line as it stands."""
    lines = (
        r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows
    )
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def notebook_text(*cells: str, parameters: str | None = PARAMETERS_CELL) -> str:
    """A notebook with a title, the parameters cell and ``cells``; "# " starts text."""
    made = [{"cell_type": "markdown", "source": "# A tiny notebook", "metadata": {}}]
    if parameters is not None:
        made.append(_code(parameters, {"tags": ["parameters"]}))
    for cell in cells:
        if cell.startswith("# "):
            made.append({"cell_type": "markdown", "source": cell, "metadata": {}})
        else:
            made.append(_code(cell, {}))
    for number, cell in enumerate(made):
        cell["id"] = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps(
        {
            "cells": made,
            "metadata": {"kernelspec": kernel},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


def _code(source: str, metadata: dict) -> dict:
    return {
        "cell_type": "code",
        "source": source,
        "metadata": metadata,
        "outputs": [],
        "execution_count": None,
    }


@pytest.fixture
def notebooks_dir(tmp_path: Path) -> Path:
    """An empty notebooks folder."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder


@pytest.fixture
def write_notebook(notebooks_dir: Path) -> Callable[..., Path]:
    """Writes ``NN_name.ipynb`` from code cells; see ``notebook_text``."""

    def write(name: str, *cells: str, **options: str | None) -> Path:
        path = notebooks_dir / f"{name}.ipynb"
        path.write_text(notebook_text(*cells, **options), encoding="utf-8")
        return path

    return write
