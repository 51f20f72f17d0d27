"""Parameters cells, static dependencies, HTML and rendering, on tiny notebooks."""

import base64
import io
import json

import pytest
from PIL import Image

from finllm_utils.dependencies import notebook_dependencies
from finllm_utils.execute import export_html
from finllm_utils.notebooks import (
    check_parameters,
    code_digest,
    declared_parameters,
    parameters_cell,
    read_notebook,
    source_digest,
)
from finllm_utils.render import (
    clean_outputs,
    clean_text,
    render_notebooks,
    shrink_png,
)
from tests.conftest import PARAMETERS_CELL


def test_declared_parameters(write_notebook):
    notebook = read_notebook(write_notebook("01_make"))
    assert declared_parameters(notebook, "x") == {
        "PROFILE": str, "SEED": int, "RUN_DIR": str, "OVERRIDES": dict,
    }  # fmt: skip
    check_parameters(notebook, "x", {"SEED": 3, "OVERRIDES": {"a.b": 1}})


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("SEED: int = 1 + 1", "SEED = 1 \\+ 1 is not a literal"),
        ("SEED: int = '0'", "annotated int but its default is str"),
        ("SEED: int", "no default value"),
        ("print(1)", "only `NAME: type = literal` lines"),
    ],
)
def test_bad_parameters_cells(write_notebook, cell, message):
    notebook = read_notebook(write_notebook("01_make", parameters=cell))
    with pytest.raises(ValueError, match=message):
        declared_parameters(notebook, "01_make.ipynb")


def test_missing_unknown_and_wrong_parameters(write_notebook):
    without = read_notebook(write_notebook("01_make", parameters=None))
    with pytest.raises(ValueError, match='give one code cell the tag "parameters"'):
        parameters_cell(without, "01_make.ipynb")
    notebook = read_notebook(write_notebook("02_use"))
    with pytest.raises(ValueError, match="unknown parameter SEDE; did you mean SEED"):
        check_parameters(notebook, "02_use.ipynb", {"SEDE": 0})
    with pytest.raises(ValueError, match="SEED=True is bool, the notebook expects int"):
        check_parameters(notebook, "02_use.ipynb", {"SEED": True})
    notebook["cells"].append(notebook["cells"][1])
    with pytest.raises(ValueError, match="2 parameters cells; keep one"):
        parameters_cell(notebook, "x")


@pytest.mark.parametrize("text", ["", "{}", '{"cells": 3}', "\ufffe", "[1]"])
def test_a_file_that_is_no_notebook(tmp_path, text):
    path = tmp_path / "01_x.ipynb"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="not a notebook"):
        read_notebook(path)
    with pytest.raises(ValueError, match="no such notebook"):
        read_notebook(tmp_path / "absent.ipynb")


def test_digests_ignore_outputs_and_metadata(write_notebook):
    path = write_notebook("01_make", "# text", "1")
    before = read_notebook(path)
    after = json.loads(path.read_text())
    after["metadata"]["finllm"] = {"profile": "toy"}
    after["cells"][-1]["outputs"] = [{"output_type": "stream", "name": "stdout"}]
    after["cells"][-1]["execution_count"] = 7
    assert source_digest(after) == source_digest(before)
    assert code_digest(after) == code_digest(before)
    after["cells"][-2]["source"] = "# other text"
    assert source_digest(after) != source_digest(before)
    assert code_digest(after) == code_digest(before)


def test_dependencies_are_found(write_notebook):
    path = write_notebook(
        "04_train",
        "from finllm_utils.profiles import as_table, load_profile\n"
        "from finllm_utils.runtime import require_artifact, start_run",
        "cfg = load_profile(PROFILE, OVERRIDES)\n"
        'run = start_run(RUN_DIR, cfg, SEED, stage="04_train")\n'
        'as_table(cfg, "sft")',
        'bins = require_artifact(run, "bins", made_by="03_pretrain")\n'
        "step(cfg.ppo.kl_coef, run.cfg.hub, [cfg.evals for _ in range(2)], cfg.name)",
    )
    needs = notebook_dependencies(path)
    assert needs.sections == ("evals", "hub", "ppo", "runtime", "sft")
    assert needs.artifacts == (("03_pretrain", "bins"),)
    assert needs.modules == (
        "finllm_utils/__init__.py",
        "finllm_utils/files.py",
        "finllm_utils/metrics.py",
        "finllm_utils/runtime.py",
    ), "config.py and profiles.py count through the sections"


@pytest.mark.parametrize(
    "call",
    [
        "require_artifact(run, name, made_by='01_make')",
        "require_artifact(run, f'{x}', made_by='01_make')",
        "require_artifact(run, 'x')",
    ],
)
def test_artifacts_must_be_literal(write_notebook, call):
    with pytest.raises(ValueError, match="literal strings"):
        notebook_dependencies(write_notebook("02_use", call))


@pytest.mark.parametrize("use", ["train(cfg)", "cfg", "x = cfg", "train(run.cfg)"])
def test_the_whole_profile_may_not_travel(write_notebook, use):
    path = write_notebook("02_use", "cfg = load_profile(PROFILE)", use)
    with pytest.raises(ValueError, match="code cell 3, line 1: the whole profile"):
        notebook_dependencies(path)


def png(size: int) -> str:
    import random

    noise = random.Random(0).randbytes(size * size * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (size, size), noise).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_large_figures_shrink_small_ones_stay():
    small, large = png(20), png(300)
    assert shrink_png(small, "x") == small
    assert len(base64.b64decode(large)) > 80 * 1024
    assert len(base64.b64decode(shrink_png(large, "x"))) <= 80 * 1024
    with pytest.raises(ValueError, match="draw it smaller"):
        shrink_png(png(700), "cell 3")


def test_outputs_are_cleaned():
    outputs = [
        {"output_type": "stream", "name": "stderr", "text": "warning"},
        {"output_type": "stream", "name": "stdout", "text": " 10%|#  | 1/9\rdone\n"},
        {
            "output_type": "execute_result",
            "execution_count": 3,
            "metadata": {"a": 1},
            "data": {"text/plain": ["<Figure at 0x7f01>"]},
        },
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"application/vnd.jupyter.widget-view+json": {}},
        },
    ]
    cleaned = clean_outputs(outputs, "x")
    assert [o["output_type"] for o in cleaned] == ["stream", "execute_result"]
    assert cleaned[0]["text"] == ["done\n"]
    assert cleaned[1]["data"] == {"text/plain": ["<Figure>"]}
    assert cleaned[1]["execution_count"] is None
    with pytest.raises(ValueError, match="only whole runs"):
        clean_outputs([{"output_type": "error"}], "x")
    assert clean_text("\x1b[31mred\x1b[0m 5%|# | 2.1it/s") == ""


def test_render_puts_outputs_and_digest_into_the_notebook(
    write_notebook, notebooks_dir, tmp_path
):
    path = write_notebook("01_make", "# Map\n\n![](map.svg)", "1 + 1")
    executed = json.loads(path.read_text())
    executed["cells"].insert(
        2,
        {
            "cell_type": "code", "id": "injected", "source": 'RUN_DIR = "x"',
            "metadata": {}, "outputs": [], "execution_count": 1,
        },
    )  # fmt: skip
    executed["cells"][-1]["outputs"] = [
        {
            "output_type": "execute_result", "execution_count": 2, "metadata": {},
            "data": {"text/plain": "2"},
        }
    ]  # fmt: skip
    folder = tmp_path / "run" / "01_make"
    folder.mkdir(parents=True)
    target = folder / "01_make.ipynb"
    target.write_text(json.dumps(executed))
    (notebooks_dir / "map.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    page = export_html(target, notebooks_dir).read_text()
    assert "<html" in page and "map.svg" not in page, "pictures travel in the page"

    before = source_digest(read_notebook(path))
    [(name, size)] = render_notebooks(tmp_path / "run", notebooks_dir)
    rendered = read_notebook(path)
    assert name == "01_make.ipynb" and size == path.stat().st_size
    assert rendered["cells"][-1]["outputs"][0]["data"]["text/plain"] == ["2"]
    assert rendered["metadata"]["finllm"]["code_sha256"] == code_digest(rendered)
    assert "injected" not in path.read_text()
    assert source_digest(rendered) == before, "rendering makes no stage stale"
    first = path.read_bytes()
    render_notebooks(tmp_path / "run", notebooks_dir)
    assert path.read_bytes() == first, "rendering twice changes nothing"

    path.write_text(path.read_text().replace("1 + 1", "1 + 2"))
    with pytest.raises(ValueError, match="changed since it ran"):
        render_notebooks(tmp_path / "run", notebooks_dir)


def test_parameters_of_the_test_notebooks_are_the_courses():
    assert len(PARAMETERS_CELL.splitlines()) == 4
