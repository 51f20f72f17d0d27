"""Puts the outputs of a finished toy run into the notebooks that the repository keeps.

Readers without a machine see the results; what differs from run to run without meaning
anything (counts, timings, warnings, progress bars, addresses) is left out.
"""

import base64
import copy
import io
import json
import re
from pathlib import Path

from finllm_utils.dependencies import REPOSITORY
from finllm_utils.files import atomic_file
from finllm_utils.notebooks import code_digest, read_notebook

MAX_PNG_BYTES = 80 * 1024
MAX_NOTEBOOK_BYTES = 400 * 1024
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PROGRESS = re.compile(r"\d+%\|.*\||\d+(\.\d+)?(it/s|s/it)")
_WIDGETS = "application/vnd.jupyter.widget"


def render_notebooks(run_dir: Path, notebooks_dir: Path) -> list[tuple[str, int]]:
    """Renders every notebook that the run has executed; ``(name, bytes)`` of each.

    Raises: ValueError when a run is missing, failed, or ran other code.
    """
    written = []
    for source in sorted(notebooks_dir.glob("[0-9][0-9]_*.ipynb")):
        executed = run_dir / source.stem / source.name
        if not executed.exists():
            raise ValueError(
                f"{executed} is missing: run `finllm run` before `finllm render`"
            )
        rendered = rendered_notebook(source, executed)
        text = json.dumps(rendered, ensure_ascii=False, indent=1) + "\n"
        size = len(text.encode())
        if size > MAX_NOTEBOOK_BYTES:
            raise ValueError(
                f"{source.name}: {size // 1024} KB with outputs, allowed are "
                f"{MAX_NOTEBOOK_BYTES // 1024}; {_largest_cell(rendered)}; show less"
            )
        with atomic_file(source) as handle:
            handle.write(text)
        written.append((source.name, size))
    return written


def rendered_notebook(source: Path, executed: Path) -> dict:
    """The notebook at ``source`` with the cleaned outputs of its executed copy.

    Raises: ValueError when a cell failed or the executed code is another.
    """
    notebook, ran = read_notebook(source), read_notebook(executed)
    outputs = {c["id"]: c for c in ran["cells"] if c["cell_type"] == "code"}
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] != "code":
            continue
        match = outputs.get(cell["id"])
        if match is None or match["source"] != cell["source"]:
            raise ValueError(
                f"{source.name}, cell {number}: changed since it ran; run `finllm run` "
                "again, then render"
            )
        where = f"{source.name}, cell {number}"
        cell["execution_count"] = None
        cell["outputs"] = clean_outputs(match["outputs"], where)
    for cell in notebook["cells"]:
        tags = cell.get("metadata", {}).get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        cell["source"] = cell["source"].splitlines(keepends=True)
    digest = code_digest(read_notebook(source))
    kept = {k: v for k, v in notebook["metadata"].items() if k != "papermill"}
    notebook["metadata"] = kept | {"finllm": {"profile": "toy", "code_sha256": digest}}
    return notebook


def clean_outputs(outputs: list[dict], where: str) -> list[dict]:
    """Outputs worth keeping: no stderr, progress, widgets, counts or addresses.

    Raises: ValueError for an error output.
    """
    cleaned = []
    for output in copy.deepcopy(outputs):
        kind = output["output_type"]
        if kind == "error":
            raise ValueError(f"{where}: it failed; only whole runs are rendered")
        if kind == "stream":
            if output["name"] == "stderr" or not (text := clean_text(output["text"])):
                continue
            output["text"] = text.splitlines(keepends=True)
        else:
            data = output["data"]
            if any(name.startswith(_WIDGETS) for name in data):
                continue
            output["metadata"] = {}
            if "execution_count" in output:
                output["execution_count"] = None
            output["data"] = {k: _clean_data(k, v, where) for k, v in data.items()}
        cleaned.append(output)
    return cleaned


def _clean_data(mime: str, value: object, where: str) -> object:
    if mime == "image/png":
        return shrink_png(value if isinstance(value, str) else "".join(value), where)
    if mime.startswith("text/") or mime == "image/svg+xml":
        return clean_text(value).splitlines(keepends=True)
    return value


def clean_text(text: str | list[str]) -> str:
    """Text without colours, progress bars, memory addresses and this folder's path."""
    text = _ANSI.sub("", text if isinstance(text, str) else "".join(text))
    lines = [line.split("\r")[-1] for line in text.replace("\r\n", "\n").split("\n")]
    text = "\n".join(line for line in lines if not _PROGRESS.search(line))
    return _ADDRESS.sub("", text).replace(f"{REPOSITORY}/", "").rstrip(" ")


def shrink_png(encoded: str, where: str) -> str:
    """The base64 image, if needed with fewer colours, then smaller, to fit the cap.

    Raises: ValueError when it still does not fit.
    """
    from PIL import Image

    data = base64.b64decode(encoded)
    if len(data) <= MAX_PNG_BYTES:
        return base64.b64encode(data).decode()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    for scale in (1.0, 0.75, 0.5):
        size = (round(image.width * scale), round(image.height * scale))
        small = image.resize(size, Image.Resampling.LANCZOS).quantize(64)
        buffer = io.BytesIO()
        small.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= MAX_PNG_BYTES:
            return base64.b64encode(buffer.getvalue()).decode()
    raise ValueError(
        f"{where}: the figure stays above {MAX_PNG_BYTES // 1024} KB; draw it smaller"
    )


def _largest_cell(notebook: dict) -> str:
    sizes = [len(json.dumps(c.get("outputs", ""))) for c in notebook["cells"]]
    number = max(range(len(sizes)), key=sizes.__getitem__)
    return f"the largest output is cell {number + 1}'s, {sizes[number] // 1024} KB"
