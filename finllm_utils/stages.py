"""The stages of the course, their cache keys, and why one has to run again.

A stage is a notebook ``NN_name.ipynb``; the folder is the list. Its key covers what
``dependencies.py`` finds plus the seed and the profile's name. Inputs count by content:
when an earlier stage reruns and makes the same artifact, nothing after it reruns.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from finllm_utils.config import Profile
from finllm_utils.dependencies import REPOSITORY, Dependencies, notebook_dependencies
from finllm_utils.files import file_digest, read_json, tree_digest, write_json
from finllm_utils.notebooks import (
    PARAMETERS,
    check_parameters,
    read_notebook,
    source_digest,
)

STATUS_FILE = "status.json"
DIGESTS_FILE = ".digests.json"
RUNNER_FILES = {"metrics.jsonl", "report.json", "tensorboard"}
"""In a stage folder, but not artifacts: they may differ between equal runs."""
PLANNED_SECONDS = {
    "00": 5, "01": 60, "02": 30, "03": 260, "04": 200, "05": 30,
    "06": 120, "07": 150, "08": 150, "09": 90, "10": 30,
}  # fmt: skip
"""Expected seconds of a toy stage on two CPU cores, until one has been measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One notebook and what it reads."""

    path: Path
    needs: Dependencies

    @property
    def name(self) -> str:
        """The notebook's name without suffix, for example ``08_ppo``."""
        return self.path.stem

    @property
    def number(self) -> str:
        """The two digits in front."""
        return self.name[:2]

    @property
    def parents(self) -> set[str]:
        """Names of the stages whose artifacts this one reads."""
        return {made_by for made_by, _ in self.needs.artifacts}


def discover(notebooks_dir: Path, repository: Path = REPOSITORY) -> list[Stage]:
    """All stages in order; the runner runs what exists.

    Raises: ValueError for an empty folder, a stage that reads from a later one, an
    unknown section, or a notebook whose parameters cell is not the course's.
    """
    paths = sorted(Path(notebooks_dir).glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise ValueError(
            f"{notebooks_dir}: no notebooks named NN_topic.ipynb; pass the course's "
            "notebooks folder"
        )
    known = {field.name for field in dataclasses.fields(Profile)}
    stages = []
    for path in paths:
        needs = notebook_dependencies(path, repository)
        if unknown := set(needs.sections) - known:
            raise ValueError(
                f"{path.name}: cfg.{sorted(unknown)[0]} is no section of the profile; "
                f"known: {', '.join(sorted(known - {'name'}))}"
            )
        for made_by, name in needs.artifacts:
            if made_by >= path.stem:
                raise ValueError(
                    f"{path.name}: reads {made_by}/{name}, which no earlier one makes; "
                    "renumber one of the notebooks"
                )
        stages.append(Stage(path=path, needs=needs))
    return stages


def check_notebooks(stages: Iterable[Stage], values: dict[str, object]) -> None:
    """Raises ValueError unless every notebook takes the four parameters as given."""
    for stage in stages:
        notebook = read_notebook(stage.path)
        check_parameters(notebook, stage.path.name, values)
        for key, kind in PARAMETERS.items():
            check_parameters(notebook, stage.path.name, {key: values.get(key, kind())})


class Digests:
    """File digests remembered by size, inode and modification time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._known = read_json(path)
        except (FileNotFoundError, ValueError):
            self._known = {}  # a cache may always be rebuilt
        self._used: dict[str, list] = {}

    def of_file(self, path: Path) -> str:
        """SHA-256 of one file; a stage's report.json counts without its timings."""
        stat = os.stat(path)
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if not known or known[:3] != mark:
            timed = path.name == "report.json"
            digest = _report_digest(path) if timed else file_digest(path)
            known = self._known[str(path)] = [*mark, digest]
        self._used[str(path)] = known
        return known[3]

    def of_tree(self, path: Path) -> str:
        """``files.tree_digest`` with remembered files; "missing" when there is none."""
        return tree_digest(path, self.of_file) if path.exists() else "missing"

    def save(self) -> None:
        """Keeps what was asked for in this session."""
        write_json(self.path, self._used)


def _report_digest(path: Path) -> str:
    values = read_json(path)
    kept = {k: v for k, v in values.items() if not k.startswith("throughput.")}
    return _hash(kept)


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def section_values(profile: Profile, section: str) -> dict[str, object]:
    """Settings of a section with its derived values, such as ``num_steps``."""
    config = getattr(profile, section)
    derived = [n for n, v in vars(type(config)).items() if isinstance(v, property)]
    names = [f.name for f in dataclasses.fields(config)] + derived
    return {name: getattr(config, name) for name in names}


def key_parts(
    stage: Stage,
    profile: Profile,
    seed: int,
    run_dir: Path,
    digests: Digests,
    repository: Path = REPOSITORY,
) -> dict[str, str]:
    """Everything the stage's result depends on, each by name with its digest."""
    parts = {
        "notebook": source_digest(read_notebook(stage.path)),
        "seed": str(seed),
        "profile": profile.name,
    }
    for section in stage.needs.sections:
        parts[f"section {section}"] = _hash(section_values(profile, section))
    for module in stage.needs.modules:
        parts[f"module {module}"] = digests.of_file(repository / module)
    for data in stage.needs.data_files:
        parts[f"data {data}"] = digests.of_tree(repository / data)
    for made_by, name in stage.needs.artifacts:
        parts[f"input {made_by}/{name}"] = digests.of_tree(run_dir / made_by / name)
    return parts


def cache_key(parts: dict[str, str]) -> str:
    """One digest over all parts."""
    return _hash(parts)


def outputs_of(stage_dir: Path, digests: Digests) -> dict[str, str]:
    """Artifacts in a stage folder with their digests."""
    skipped = RUNNER_FILES | {f"{stage_dir.name}.ipynb", f"{stage_dir.name}.html"}
    return {
        path.name: digests.of_tree(path)
        for path in sorted(stage_dir.iterdir())
        if path.name not in skipped and not path.name.startswith(".")
    }


def why_stale(
    record: dict | None, parts: dict[str, str], stage_dir: Path, digests: Digests
) -> list[str]:
    """Reasons to run the stage again; empty when its results are current."""
    if not record:
        return ["never run"]
    if record["state"] != "done":
        return [f"last run: {record['state']}"]
    before = record["parts"]
    reasons = [f"{p} is missing" for p, v in parts.items() if v == "missing"]
    for part in sorted(set(before) | set(parts)):
        if part not in before:
            reasons.append(f"{part} is new")
        elif part not in parts:
            reasons.append(f"{part} is no longer read")
        elif before[part] != parts[part]:
            reasons.append(f"{part} changed")
    for name, digest in record["outputs"].items():
        if name == "report.json":
            found = (stage_dir / name).exists()
        else:
            found = digests.of_tree(stage_dir / name) == digest
        if not found:
            reasons.append(f"artifact {name} is missing or was changed")
    return reasons


def read_status(run_dir: Path) -> dict:
    """What ``finllm run`` noted in this run folder; empty before the first run."""
    path = run_dir / STATUS_FILE
    return read_json(path) if path.exists() else {"stages": {}}


def write_status(run_dir: Path, status: dict) -> None:
    """Replaces the run folder's ``status.json``."""
    write_json(run_dir / STATUS_FILE, status)


def expected_seconds(stage: Stage, record: dict | None, profile: str) -> float | None:
    """Seconds of the last run, else the plan for toy, else None."""
    if record and record.get("last_seconds"):
        return record["last_seconds"]
    return PLANNED_SECONDS.get(stage.number) if profile == "toy" else None
