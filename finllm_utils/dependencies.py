"""What a notebook depends on, read from its code without running it.

Four things count, and a stage reruns when one of them changes: the ``cfg.<section>``
settings it reads, the package modules it imports (with everything those import), the
artifacts it asks for with ``require_artifact(run, "name", made_by="stage")``, and the
data files that those modules name in a module-level tuple of repository paths, for
example ``DATA_FILES = ("data_samples/raw",)``.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from finllm_utils.notebooks import code_cells, parse_cell, read_notebook

PACKAGE = "finllm_utils"
REPOSITORY = Path(__file__).resolve().parent.parent
WHOLE_PROFILE = {"load_profile", "start_run", "as_table"}
"""The only functions that may take the whole profile from a notebook."""
SETTINGS_MODULES = {
    f"{PACKAGE}/{name}.py"
    for name in ("config", "config_data", "config_train", "profiles")
}
"""Left out of the modules: their values count section by section instead."""
_MODULE_NAME = re.compile(rf"{PACKAGE}(\.\w+)+(:\w+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependencies:
    """Everything a stage reads."""

    sections: tuple[str, ...]
    modules: tuple[str, ...]  # repository-relative paths
    data_files: tuple[str, ...]  # repository-relative paths
    artifacts: tuple[tuple[str, str], ...]  # (made_by, name)


def notebook_dependencies(path: Path, repository: Path = REPOSITORY) -> Dependencies:
    """What the notebook at ``path`` reads.

    Raises: ValueError naming the cell for anything that cannot be followed statically.
    """
    sections: set[str] = set()
    modules: set[str] = set()
    artifacts: set[tuple[str, str]] = set()
    profile_names: set[str] = set()
    for number, source in enumerate(code_cells(read_notebook(path)), 1):
        where = f"{path.name}, code cell {number}"
        tree = parse_cell(source, where)
        profile_names |= _profile_names(tree)
        sections |= _sections(tree, profile_names, where)
        modules |= set(imported_names(tree, ""))
        artifacts |= set(_artifacts(tree, where))
    files = module_files(modules, repository)
    data = {d for f in files for d in declared_data(repository / f)}
    return Dependencies(
        sections=tuple(sorted(sections)),
        modules=tuple(sorted(files - SETTINGS_MODULES)),
        data_files=tuple(sorted(data)),
        artifacts=tuple(sorted(artifacts)),
    )


def _profile_names(tree: ast.AST) -> set[str]:
    """Variables that hold the profile: ``cfg`` in ``cfg = load_profile(...)``."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _called(node.value) == "load_profile"
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _called(node: ast.AST) -> str:
    """Name of the function when ``node`` is a call, else an empty string."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return getattr(function, "id", getattr(function, "attr", ""))


def _sections(tree: ast.AST, profiles: set[str], where: str) -> set[str]:
    """Sections read as ``cfg.<section>`` or shown by ``as_table(cfg, "section")``."""
    sections, allowed = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_profile(node.value, profiles):
            allowed.add(id(node.value))
            sections.add(node.attr)
        elif _called(node) in WHOLE_PROFILE:
            allowed |= {id(a) for a in node.args}
            if _called(node) == "start_run":
                sections.add("runtime")  # start_run sets the number of threads
            if _called(node) == "as_table":
                sections |= {
                    a.value for a in node.args[1:] if isinstance(a, ast.Constant)
                }
    for node in ast.walk(tree):
        read = isinstance(getattr(node, "ctx", None), ast.Load)
        if read and _is_profile(node, profiles) and id(node) not in allowed:
            raise ValueError(
                f"{where}, line {node.lineno}: the whole profile is passed on; pass a "
                "section such as cfg.sft, so that the runner knows what the stage reads"
            )
    return sections - {"name"}


def _is_profile(node: ast.AST, profiles: set[str]) -> bool:
    """True for ``cfg`` and for ``run.cfg``."""
    if isinstance(node, ast.Attribute):
        return node.attr == "cfg"
    return isinstance(node, ast.Name) and node.id in profiles


def _artifacts(tree: ast.AST, where: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if _called(node) != "require_artifact":
            continue
        named = {k.arg: k.value for k in node.keywords}
        values = [node.args[1] if len(node.args) > 1 else named.get("name")]
        values.append(named.get("made_by"))
        if not all(
            isinstance(v, ast.Constant) and isinstance(v.value, str) for v in values
        ):
            raise ValueError(
                f'{where}, line {node.lineno}: write require_artifact(run, "name", '
                'made_by="stage") with literal strings, so the runner can follow it'
            )
        name, made_by = (v.value for v in values)
        yield made_by, name


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names under ``finllm_utils`` that the code imports or names in a string.

    Strings count: ``launch.run("finllm_utils.train.worker:main")`` is followed.
    ``package`` resolves relative imports.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join(parents + ([node.module] if node.module else []))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = _MODULE_NAME.fullmatch(node.value)
            names = [node.value.split(":")[0]] if found else []
        else:
            continue
        yield from (n for n in names if n.split(".")[0] == PACKAGE)


def module_files(names: set[str], repository: Path = REPOSITORY) -> set[str]:
    """Files of the named modules and of everything they import, repository-relative.

    A name that is no module (a function in one) counts as the module that has it.
    """
    todo, files = set(names), set()
    while todo:
        for file in _files_of(todo.pop(), repository):
            if file not in files:
                files.add(file)
                todo |= _imports_of_file(repository / file, file)
    return files


def _files_of(name: str, repository: Path) -> list[str]:
    files, parts = [], name.split(".")
    for length in range(1, len(parts) + 1):
        path = Path(*parts[:length])
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if (repository / candidate).is_file():
                files.append(candidate.as_posix())
    return files


@cache
def _parsed(path: Path, mtime_ns: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports_of_file(path: Path, relative: str) -> set[str]:
    package = ".".join(Path(relative).with_suffix("").parts[:-1])
    return set(imported_names(_parsed(path, path.stat().st_mtime_ns), package))


def declared_data(path: Path) -> tuple[str, ...]:
    """The module's ``DATA_FILES``; empty when it declares none.

    Raises: ValueError when the tuple is not a literal.
    """
    for node in _parsed(path, path.stat().st_mtime_ns).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(getattr(t, "id", "") == "DATA_FILES" for t in targets):
            try:
                return tuple(ast.literal_eval(node.value))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {node.lineno}: DATA_FILES must be a tuple of "
                    "literal repository-relative paths"
                ) from error
    return ()
