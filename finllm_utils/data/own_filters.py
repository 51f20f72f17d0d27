"""Filters of the user's own: functions ``(text, meta) -> (keep, reason)``.

A function comes from a notebook cell, a module or a file named in ``data.filters``. Its
source is written into the work folder and read there by every process, on whichever
machine: nothing is pickled, and a changed function is another run.
"""

import ast
import builtins
import dis
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import NamedTuple

import numpy as np

from finllm_utils.files import atomic_file

OwnFilter = Callable[[str, dict], tuple[bool, str]]
_REMEDY = (
    "put what it needs inside the function, or the function into a file and its name "
    'into data.filters as "path/to/file.py:function"'
)


class Source(NamedTuple):
    """A filter as text: ``code`` run as a module defines ``name``."""

    name: str
    code: str


def filter_sources(
    functions: Sequence[OwnFilter], entries: Sequence[str]
) -> list[Source]:
    """The source of every filter: ``functions`` first, then ``data.filters``.

    Raises: ValueError naming a filter that cannot stand alone, and the remedy.
    """
    sources = [_of_function(function) for function in functions]
    sources += [_of_entry(entry) for entry in entries]
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two filters are called {twice[0]}; rename one of them")
    for source in sources:
        load_filter(source, "its source")
    return sources


def _of_entry(entry: str) -> Source:
    path, _, name = entry.rpartition(":")
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"data.filters has {entry!r}: there is no file {path}")
    return Source(name, file.read_text(encoding="utf-8"))


def _of_function(function: OwnFilter) -> Source:
    """Its text, with the modules and plain values that it uses from around it."""
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        raise ValueError(
            f"filters has {function!r}: give a plain function, made with def"
        )
    name = function.__name__
    if function.__closure__:
        inner = ", ".join(function.__code__.co_freevars)
        raise ValueError(f"filter {name} uses {inner} of the call around it: {_REMEDY}")
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise ValueError(f"filter {name} has no source here: {_REMEDY}") from error
    lines = ["from __future__ import annotations"]
    for used in sorted(set(_globals(function.__code__)) - {name}):
        if used in function.__globals__:
            lines.append(_definition(name, used, function.__globals__[used]))
        elif not hasattr(builtins, used):
            raise ValueError(f"filter {name} uses {used}, which is not defined")
    return Source(name, "\n".join([*lines, "", text]))


def _globals(code: CodeType) -> Iterator[str]:
    """Names that a function's code, and code inside it, takes from its module."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def _definition(name: str, used: str, value: object) -> str:
    """A line that defines ``used`` again: an import, or a plain value."""
    if isinstance(value, ModuleType):
        return f"import {value.__name__} as {used}"
    try:
        if ast.literal_eval(repr(value)) == value:
            return f"{used} = {value!r}"
    except (ValueError, SyntaxError, TypeError):
        pass  # an object that has no literal
    raise ValueError(
        f"filter {name} uses {used}, a {type(value).__name__} from outside: {_REMEDY}"
    )


def load_filter(source: Source, where: Path | str) -> OwnFilter:
    """The function that a source defines.

    Raises: ValueError naming it when the source does not run or has no such function.
    """
    scope: dict[str, object] = {"__name__": f"own_filter_{source.name}"}
    try:
        exec(compile(source.code, str(where), "exec"), scope)
    except Exception as error:
        raise ValueError(
            f"filter {source.name}: its source does not run by itself "
            f"({type(error).__name__}: {error}); {_REMEDY}"
        ) from error
    if not callable(scope.get(source.name)):
        raise ValueError(f"data.filters: no function {source.name} in its file")
    return scope[source.name]


def write_filters(sources: Sequence[Source], folder: Path) -> None:
    """Writes ``<folder>/<number>_<name>.py`` for each filter."""
    for number, source in enumerate(sources):
        with atomic_file(folder / f"{number:03d}_{source.name}.py") as handle:
            handle.write(source.code)


def read_filters(folder: Path) -> dict[str, OwnFilter]:
    """What ``write_filters`` wrote, by name and in order."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        name = path.stem.partition("_")[2]
        source = Source(name, path.read_text(encoding="utf-8"))
        found[name] = load_filter(source, path)
    return found


def judge(
    filters: dict[str, OwnFilter], key: str, text: str, meta: dict
) -> tuple[bool, str]:
    """(keep, reason) of the first filter that drops the text, or (True, "").

    Raises: ValueError naming the filter and the document ``key`` when the filter fails
    or returns something else.
    """
    for name, function in filters.items():
        try:
            result = function(text, dict(meta))
        except Exception as error:
            raise ValueError(
                f"filter {name}, document {key}: {type(error).__name__}: {error}; "
                "repair the filter and run the same again"
            ) from error
        match result:
            case (bool() | np.bool() as keep, str() as reason):
                if not keep:
                    return False, f"{name}:{reason}" if reason else name
            case _:
                raise ValueError(
                    f"filter {name}, document {key}: returned {result!r:.60}; "
                    "return (keep, reason), for example (False, 'advertisement')"
                )
    return True, ""
