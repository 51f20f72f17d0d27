"""One command: every model on every suite, kept item by item, made into a scoreboard.

What one model did on one suite is written the moment it is known, under a name that
holds the digest of the model, the items and the code: a run that was killed asks only
what is missing, and a model that was trained again is asked anew. Notebook 09 and
``finllm evaluate`` call this.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import torch

from finllm_utils.config import EvalsConfig
from finllm_utils.corpora.splits import HELDOUT_DOMAINS, heldout_documents
from finllm_utils.evals import bits_per_byte as bpb
from finllm_utils.evals.models.local import LocalModel
from finllm_utils.evals.models.prompts import Answering
from finllm_utils.evals.models.table import ModelSpec, open_model
from finllm_utils.evals.report.scoreboard import Entrant, Measure, Measured, Scoreboard
from finllm_utils.evals.report.scoreboard_build import build_scoreboard
from finllm_utils.evals.statistics.paired_scores import (
    ItemScore,
    document_scores,
    item_scores,
)
from finllm_utils.evals.suites.course import course_suites, exam_suite
from finllm_utils.evals.suites.own_exams import OwnExam, read_own_exams
from finllm_utils.evals.suites.suite import Suite
from finllm_utils.evals.tasks import following
from finllm_utils.files import atomic_file, file_digest, tree_digest
from finllm_utils.records import Document, ExamItem, numbered_lines

SCORING = ("evals", "finance", "model")
"""Folders of the package whose code decides a score."""
COURSE_EXAMS = ("exam", "exam_orders", "statute_open", "statute_unseen")
TEXT_AXES = {"general_zh": "chinese", "finance_zh": "finance", "english": ""}
TEXT_TITLES = {
    "general_zh": "general Chinese, bits/byte",
    "finance_zh": "Chinese finance, bits/byte",
    "english": "English, bits/byte",
}
STAGE_KINDS = {
    "base": "base",
    "expanded": "vocabulary",
    "stage1": "pretraining",
    "stage2": "pretraining",
    "sft1": "tuning",
    "sft2": "tuning",
    "ppo": "alignment",
}
"""The course's models by the kind of stage that made them; others are references."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is asked, of every model alike."""

    suites: Mapping[str, Suite]
    documents: Mapping[str, Sequence[Document]] = field(default_factory=dict)
    """Held-out documents by domain, for bits per byte."""
    window: int = 512
    """Tokens of a window of bits per byte, BOS included."""
    batch_tokens: int = 4096
    command: str = ""
    """Stands beside every figure."""
    own_exams: Mapping[str, OwnExam] = field(default_factory=dict)
    """Exams of the user's among the suites, as they were read."""

    @property
    def exams(self) -> list[str]:
        """Suites of exam items, asked by likelihood of every model with weights."""
        return [*COURSE_EXAMS, *self.own_exams]

    @property
    def own_items(self) -> list[ExamItem]:
        """All items of the user's exams, asked or not."""
        return [item for exam in self.own_exams.values() for item in exam.items]

    @property
    def left_out(self) -> list[str]:
        """Rows of the user's exams that became no item, by file and line."""
        return [text for exam in self.own_exams.values() for text in exam.left_out]

    def measures(self, baselines: Mapping[str, float]) -> list[Measure]:
        """The measures of the board, text first.

        Args: baselines gives a count model's bits per byte by domain; one that lacks
        gives the domain no axis score.
        """
        text = [
            Measure(
                name=f"bpb.{domain}",
                title=TEXT_TITLES.get(domain, domain),
                axis=TEXT_AXES.get(domain, ""),
                lower_is_better=True,
                baseline=baselines.get(domain),
                baseline_name="character bigrams" if domain in baselines else "",
                retention=True,
            )
            for domain in self.documents
        ]
        return text + [
            Measure(
                name=suite.name,
                title=suite.title,
                axis=suite.axis,
                baseline=suite.baseline,
                baseline_name=suite.baseline_name,
                ceiling=1.0,
            )
            for suite in self.suites.values()
        ]


def evaluate(
    specs: Sequence[ModelSpec],
    plan: Plan,
    folder: Path,
    *,
    only: Mapping[str, Iterable[str]] | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Measured]:
    """The scores of every model on every suite that it can be asked.

    Args: folder keeps scores and opened models; only maps a model's name to the
    measures it is asked, all where it is not named. A model is opened once, and not at
    all when everything is kept.
    Raises: ValueError naming the model and what is wrong with it.
    """
    return [
        one
        for spec in specs
        for one in _one_model(
            spec,
            plan,
            Path(folder),
            set((only or {}).get(spec.name, ())),
            device,
            dtype,
        )
    ]


def course_plan(cfg: EvalsConfig, window: int, command: str, seed: int = 0) -> Plan:
    """What a profile asks: all its suites, and held-out text of every domain.

    Raises: ValueError naming an exam of the user's that cannot be read.
    """
    number = cfg.num_curve_documents
    exams = read_own_exams(cfg.exams) if cfg.exams else {}
    suites = course_suites(cfg, seed)
    if taken := suites.keys() & exams.keys():
        raise ValueError(
            f"evals.exams: {min(taken)!r} is a suite of the course; give yours another "
            "name (rename the file, or list it in a TOML file with a name)"
        )
    for name, exam in exams.items():
        asked = following.spread(exam.items, cfg.num_suite_items)
        title, axis = exam.source.title or name, exam.source.axis
        suites[name] = exam_suite(name, title, asked, cfg.batch_tokens, axis)
    return Plan(
        suites=suites,
        own_exams=exams,
        documents={
            domain: bpb.spread_sample(heldout_documents(domain), number)
            for domain in HELDOUT_DOMAINS
        },
        window=window,
        batch_tokens=cfg.batch_tokens,
        command=command,
    )


def make_board(
    specs: Sequence[ModelSpec],
    plan: Plan,
    measured: Sequence[Measured],
    *,
    num_bootstrap: int,
    seed: int,
    baselines: Mapping[str, float] | None = None,
    alarms: Sequence[str] | None = None,
    leaks: Sequence[str] | None = None,
) -> Scoreboard:
    """The scoreboard; a measure that no model was asked is left out.

    Args: baselines as in ``Plan.measures``; alarms and leaks: sentences for the card.
    """
    asked = {one.measure for one in measured}
    return build_scoreboard(
        entrants(specs),
        [one for one in plan.measures(baselines or {}) if one.name in asked],
        measured,
        num_bootstrap=num_bootstrap,
        seed=seed,
        alarms=alarms,
        leaks=leaks,
    )


def entrants(specs: Sequence[ModelSpec]) -> list[Entrant]:
    """The models as the board lists them; endpoints are taken to be somebody else's."""
    return [
        Entrant(
            name=spec.name,
            stage=STAGE_KINDS.get(spec.name, "reference"),
            residency="cloud" if spec.kind == "endpoint" else "local",
        )
        for spec in specs
    ]


def _one_model(
    spec: ModelSpec,
    plan: Plan,
    folder: Path,
    wanted: set[str],
    device: str,
    dtype: torch.dtype,
) -> list[Measured]:
    opened: list[Answering] = []

    def model() -> Answering:
        if not opened:
            opened.append(
                open_model(spec, folder / "models", device=device, dtype=dtype)
            )
        return opened[0]

    asked: dict[str, str] = {
        f"bpb.{domain}": _digest(*(d.text for d in documents), str(plan.window))
        for domain, documents in plan.documents.items()
    } | {name: _digest(suite.key) for name, suite in plan.suites.items()}
    if unknown := wanted - set(asked):
        raise ValueError(
            f"model {spec.name!r}: no measure {sorted(unknown)[0]!r}; the plan has "
            f"{', '.join(asked)}"
        )
    options = str(sorted(spec.options.items()))
    identity = _digest(_weights(spec), str(dtype), options, _code())
    found = []
    for name, items in asked.items():
        if wanted and name not in wanted:
            continue
        kept = folder / "items" / f"{name}.{spec.name}.{_digest(identity, items)}.jsonl"
        scores = _read(kept) if kept.exists() else _ask(name, model(), plan)
        if scores is None:
            continue
        if not kept.exists():
            _write(kept, scores)
        found.append(
            Measured(measure=name, model=spec.name, scores=scores, command=plan.command)
        )
    return found


def _ask(name: str, model: Answering, plan: Plan) -> list[ItemScore] | None:
    """The scores, or None where the model cannot be asked this."""
    if name in plan.suites:
        suite = plan.suites[name]
        if not suite.takes(model):
            return None
        return item_scores(suite.run(model), suite.questions)
    if not isinstance(model, LocalModel):
        return None
    documents = plan.documents[name.removeprefix("bpb.")]
    measured = bpb.bits_per_byte(
        model.network,
        model.tokenizer,
        documents,
        window=plan.window,
        batch_tokens=plan.batch_tokens,
        num_bootstrap=1,
        seed=0,
    )
    return document_scores(
        [d.id for d in documents], measured.document_nats, measured.document_bytes
    )


def _weights(spec: ModelSpec) -> str:
    """What tells two states of a model apart: its files by size and time, or place."""
    path = Path(spec.where)
    if not path.exists():
        return spec.where

    def stamp(file: Path) -> str:
        info = file.stat()
        return f"{info.st_size}/{info.st_mtime_ns}"

    return tree_digest(path, stamp)


@cache
def _code() -> str:
    """Of what scores: with another rule or reader, what was kept counts no more."""
    package = Path(__file__).parents[1]
    files = sorted(f for part in SCORING for f in (package / part).rglob("*.py"))
    return _digest(*(file_digest(file) for file in files))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _write(path: Path, scores: Sequence[ItemScore]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as handle:
        for one in scores:
            handle.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")


def _read(path: Path) -> list[ItemScore]:
    scores = []
    for number, row in numbered_lines(path):
        try:
            scores.append(ItemScore(**row))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: {error}; delete the file to ask again"
            ) from error
    return scores
