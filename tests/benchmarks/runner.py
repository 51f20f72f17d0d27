"""Runs a benchmark: what it is asked, its parts in turn, and the result of a whole run.

A benchmark is an object whose methods are the parts; each returns figures and how they
came about.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.harness import (
    ENVIRONMENTS,
    REPOSITORY,
    beside_earlier,
    print_table,
    say,
    today,
    versions,
    write_result,
)

Found = tuple[dict[str, float], dict[str, object]]
"""Figures, and how they came about."""


def parts_parser(about: str, parts: Sequence[str]) -> argparse.ArgumentParser:
    """Asks for ``--parts``, all unless told, and ``--quick``; about is a docstring."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--quick", action="store_true")
    return parser


def course_parser(
    about: str, parts: Sequence[str], profile: str = "toy", run: str = "toy"
) -> argparse.ArgumentParser:
    """``parts_parser`` that asks for a finished course too, ``runs/<run>`` unless told."""
    parser = parts_parser(about, parts)
    parser.add_argument("--run", type=Path, default=REPOSITORY / "runs" / run)
    parser.add_argument("--profile", default=profile)
    return parser


def course_options(about: str, parts: Sequence[str], needs: str) -> argparse.Namespace:
    """What ``course_parser`` was told; ends the program for a course without ``needs``.

    Args: needs is a folder of the course, such as "05_sft_data/instructions".
    """
    parser = course_parser(about, parts)
    asked = parser.parse_args()
    asked.run = asked.run.resolve()
    if not (asked.run / needs).is_dir():
        stage = needs[:2]
        parser.error(
            f"{asked.run} holds no finished {stage}: run `finllm run --to {stage}` first"
        )
    return asked


def size_option(about: str) -> str:
    """What the command line says: "quick", "small" or "default"."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    sizes = parser.add_mutually_exclusive_group()
    for name in ("quick", "small"):
        sizes.add_argument(f"--{name}", action="store_const", const=name, dest="size")
    return parser.parse_args().size or "default"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder beside the rivals' environments, gone afterwards."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=ENVIRONMENTS.parent) as folder:
        yield Path(folder)


def run_parts(
    bench: object,
    parts: Iterable[str],
    told: Callable[[str, dict, dict], dict] = lambda part, figures, notes: notes,
) -> Found:
    """The figures of the methods of ``bench`` that ``parts`` names, and {part: notes}.

    Args: told gets what each part found, and says which notes are kept.
    """
    figures, runs = {}, {}
    for part in parts:
        say(part)
        found, notes = getattr(bench, part)()
        figures |= found
        runs[part] = told(part, found, notes)
    return figures, runs


def dated_parts(bench: object, parts: Iterable[str], goals: Mapping[str, str]) -> Found:
    """``run_parts``, a table after each part, and each part with its own date."""

    def told(part: str, figures: dict, notes: dict) -> dict:
        print_table(figures, goals)
        return notes | {"date": today()}

    return run_parts(bench, parts, told)


def publish(
    name: str,
    found: Found,
    packages: Sequence[str],
    *,
    quick: bool = False,
    beside: bool = False,
) -> None:
    """Writes the result of ``make bench ONLY=<name>``; of a slice it says there is none.

    Args: packages are what ``versions`` takes; beside keeps the parts of earlier runs.
    """
    if quick:
        print("a slice only: no result was written")
        return
    figures, runs = beside_earlier(name, *found) if beside else found
    command = f"make bench ONLY={name}"
    print(write_result(name, command, figures, runs, versions(*packages)))
