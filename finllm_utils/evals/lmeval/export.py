"""Our suites as tasks of lm-eval (0.4.13) on local files: a second program to check by.

Choices become ``multiple_choice``: same prompt byte for byte, nothing between prompt
and answer, so every log-likelihood is that of ``exam.scoring``. A set of letters is one
of the choices. Held-out text becomes ``loglikelihood_rolling``; what a program verifies
becomes ``generate_until`` with the verdicts of ``lmeval.results``. Stability and the
exam in several orders are figures of many answers: each wording or order is a request,
and an aggregation of ours compares them.

Not exported: answers at several temperatures, since another program draws other
samples, and dialogues. In ``multiturn`` the model hears its own earlier answers, while
lm-eval fixes every request before it asks the first one. The items hold a reference for
the last turn only, so there is no history to give either.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finllm_utils.config import EvalsConfig
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.splits import (
    HELDOUT_DOMAINS,
    heldout_documents,
    insurance_questions,
)
from finllm_utils.evals.bits_per_byte import spread_sample
from finllm_utils.evals.choice import ChoiceItem, build_choice_items
from finllm_utils.evals.exam.items import read_exam
from finllm_utils.evals.exam.option_order import InOrders
from finllm_utils.evals.exam.scoring import PLAIN, Asking
from finllm_utils.evals.exam.statute_exam import FORMS, statute_exam
from finllm_utils.evals.lmeval.rows import Item, in_chat, task_rows
from finllm_utils.evals.suites.course import MAX_CANDIDATE_CHARS, order_items
from finllm_utils.evals.suites.hallucination_suite import exam_items, hallucination_exam
from finllm_utils.evals.suites.numeric_suite import NumericItem, numeric_items
from finllm_utils.evals.tasks.answer_selection import SelectionItem, selection_items
from finllm_utils.evals.tasks.following import FollowingItem, read_following, spread
from finllm_utils.evals.tasks.hallucination import Passage, Question, StatutePrompt
from finllm_utils.evals.tasks.safety import SafetyItem, read_prompts
from finllm_utils.evals.tasks.stability import ParaphraseGroup, read_paraphrases
from finllm_utils.files import atomic_file
from finllm_utils.records import Document, ExamItem

PREFIX = "finllm_"
RESULTS_FILE = "finllm_results.py"
_RESULTS = '''"""Called by lm-eval with each answer; FinLLM must be installed."""

from finllm_utils.evals.lmeval.results import (
    following,
    hallucination,
    numeric,
    orders,
    orders_mean,
    safety,
    selection,
    stability,
    stability_mean,
)
'''
_HEAD = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
num_fewshot: 0
"""
_CHOICE = """\
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: gold
target_delimiter: ""
"""
_ROLLING = """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: text
"""
_WRITING = """\
output_type: generate_until
doc_to_text: prompt
doc_to_target: id
generation_kwargs:
  until: []
  do_sample: false
  max_gen_toks: {max_new_tokens}
"""
_FUNCTION = f"!function {Path(RESULTS_FILE).stem}."


def _judged(body: str, name: str) -> str:
    return f"{body}process_results: {_FUNCTION}{name}\n"


@dataclass(frozen=True, slots=True)
class _Kind:
    """How lm-eval asks and which figures it prints, the one that is ours first."""

    body: str
    metrics: tuple[str, ...]
    same_as: str
    model_args: str = ""
    """Added to ``--model_args``."""


_HALLUCINATION = _Kind(
    _judged(_WRITING, "hallucination"),
    ("right", "invented"),
    "hallucination_suite.hallucination_suite, share_invented",
)
KINDS = {
    ExamItem: _Kind(_CHOICE, ("acc",), 'exam.scoring.score_exam, form="letters"'),
    InOrders: _Kind(
        _judged(_CHOICE, "orders"), ("every_order",), "option_order.in_every_order"
    ),
    ChoiceItem: _Kind(_CHOICE, ("acc_norm", "acc"), "choice.choice_accuracy"),
    SelectionItem: _Kind(
        _judged(_CHOICE, "selection"),
        ("hit_at_1", "reciprocal_rank"),
        "answer_selection.selection_results",
    ),
    Document: _Kind(
        _ROLLING,
        ("bits_per_byte",),
        "bits_per_byte.bits_per_byte",
        model_args=",add_bos_token=False",  # lm-eval sets a BOS of its own before text
    ),
    FollowingItem: _Kind(
        _judged(_WRITING, "following"), ("kept",), "following.following_share"
    ),
    NumericItem: _Kind(
        _judged(_WRITING, "numeric"), ("right",), "numeric_suite.NumericItem.mark"
    ),
    SafetyItem: _Kind(_judged(_WRITING, "safety"), ("safe",), "safety.safety"),
    ParaphraseGroup: _Kind(
        _judged(_WRITING, "stability"),
        ("stability",),
        "stability_suite.stability_results",
    ),
    StatutePrompt: _HALLUCINATION,
    Question: _HALLUCINATION,
    Passage: _HALLUCINATION,
}
_LOWER_IS_BETTER = {"bits_per_byte", "invented"}
_AGGREGATIONS = {
    "bits_per_byte": "bits_per_byte",
    "every_order": f"{_FUNCTION}orders_mean",
    "stability": f"{_FUNCTION}stability_mean",
}
"""Of the figures that are no mean over requests."""


@dataclass(frozen=True, slots=True)
class ExportedSuite:
    """One suite as lm-eval knows it."""

    suite: str
    tasks: tuple[str, ...]
    num_items: int
    kind: _Kind
    chat: bool
    """Whether it is asked in the model's chat template."""

    @property
    def name(self) -> str:
        """What ``--tasks`` takes: the group of all its tasks, or the only one."""
        return PREFIX + self.suite


def exported_items(cfg: EvalsConfig, seed: int) -> dict[str, Sequence[Item]]:
    """The items of ``course_suites``, and the documents of ``course_plan``.

    Left out: dialogues, and answers at several temperatures.
    """
    questions, answers = insurance_questions("test"), insurance_answers()
    number = cfg.num_suite_items
    found: dict[str, Sequence[Item]] = {"exam": spread(read_exam(), number)}
    for form in FORMS:
        found[f"statute_{form}"] = statute_exam(
            form, seed=seed, per_kind=max(1, number // 4), finance_only=True
        )
    for domain in HELDOUT_DOMAINS:
        documents = heldout_documents(domain)
        found[f"text_{domain}"] = spread_sample(documents, cfg.num_curve_documents)
    return found | {
        "exam_orders": order_items(number, seed),
        "choice": build_choice_items(
            questions, answers, number, cfg.choice_tolerance, seed
        ),
        "answer_selection": selection_items(
            questions,
            answers,
            num_questions=cfg.num_selection_questions,
            num_negatives=cfg.num_selection_negatives,
            max_chars=MAX_CANDIDATE_CHARS,
            seed=seed,
        ),
        "following": read_following(cfg.num_exam_items),
        "numeric": numeric_items(cfg.num_numeric_items),
        "safety": spread_sample(read_prompts(), cfg.num_accept_items),
        "stability": spread(read_paraphrases(), cfg.num_paraphrase_groups),
        "hallucination": exam_items(hallucination_exam(cfg.num_exam_items, seed)),
    }


def export_tasks(
    folder: Path | str,
    suites: Mapping[str, Sequence[Item]],
    *,
    asking: Asking = PLAIN,
    prompt: str = "plain",
    max_new_tokens: int = 128,
) -> dict[str, ExportedSuite]:
    """Writes a YAML and a JSONL file a task, a YAML a group, and a README.

    The YAML names its data by absolute path, as lm-eval reads it from anywhere: export
    again after moving the folder. What an earlier export left in it is removed.
    Args: suites has items of one kind under each name; asking gives exam items their
    solved examples and says whether they are a chat turn (lm-eval's
    ``apply_chat_template``); prompt is that of insurance questions, "chat" or a name in
    ``choice.PROMPTS``; max_new_tokens is of an answer that a program verifies. The
    course's suites ask chat models with ``exam.scoring.CHAT`` and "chat".
    Raises: ValueError naming the suite and what it cannot hold.
    """
    folder = Path(folder).resolve()
    for old in folder.glob(f"{PREFIX}*"):
        old.unlink()
    exported = {}
    for suite, items in suites.items():
        kind = _kind_of(suite, items)
        parts = task_rows(items, asking, prompt)
        body = kind.body.format(max_new_tokens=max_new_tokens)
        for part, rows in parts.items():
            _write_task(folder, _task(suite, part), rows, body, kind.metrics)
        tasks = tuple(_task(suite, part) for part in parts)
        chat = in_chat(items[0], asking, prompt)
        found = ExportedSuite(suite, tasks, len(items), kind, chat)
        if tasks != (found.name,):
            _write(folder / f"{found.name}.yaml", _group(found))
        exported[suite] = found
    _write(folder / RESULTS_FILE, _RESULTS)
    _write(folder / "README.md", _readme(folder, exported))
    return exported


def _kind_of(suite: str, items: Sequence[Item]) -> _Kind:
    if not re.fullmatch("[a-z0-9_]+", suite):
        raise ValueError(f"suite {suite!r}: name it with a-z, 0-9 and _")
    types = {type(item) for item in items}
    kinds = {KINDS.get(one) for one in types}
    if len(kinds) != 1 or None in kinds:
        names = ", ".join(sorted(one.__name__ for one in types)) or "no items"
        known = ", ".join(one.__name__ for one in KINDS)
        raise ValueError(f"suite {suite!r} holds {names}: give items of one of {known}")
    return kinds.pop()


def _task(suite: str, part: str) -> str:
    return PREFIX + "_".join(filter(None, (suite, part)))


def _write_task(
    folder: Path, name: str, rows: list[dict], body: str, metrics: Sequence[str]
) -> None:
    data = folder / f"{name}.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    _write(data, "".join(lines))
    text = _HEAD.format(name=name, data=json.dumps(str(data), ensure_ascii=False))
    text += body + "metric_list:\n"
    for metric in metrics:
        better = str(metric not in _LOWER_IS_BETTER).lower()
        mean = _AGGREGATIONS.get(metric, "mean")
        text += f"  - metric: {metric}\n    aggregation: {mean}\n"
        text += f"    higher_is_better: {better}\n"
    _write(folder / f"{name}.yaml", text)


def _group(suite: ExportedSuite) -> str:
    tasks = "".join(f"  - {task}\n" for task in suite.tasks)
    means = "".join(
        f"  - metric: {metric}\n    aggregation: mean\n    weight_by_size: true\n"
        for metric in suite.kind.metrics
    )
    return f"group: {suite.name}\ntask:\n{tasks}aggregate_metric_list:\n{means}"


def _readme(folder: Path, suites: Mapping[str, ExportedSuite]) -> str:
    rows = [
        f"| `{s.name}` | {len(s.tasks)} | {s.num_items} | {', '.join(s.kind.metrics)} "
        f"| `{s.kind.same_as}` |\n"
        for s in suites.values()
    ]
    runs: dict[tuple[str, bool], list[str]] = {}
    for one in suites.values():
        runs.setdefault((one.kind.model_args, one.chat), []).append(one.name)
    commands = "\n".join(
        _command(folder, ",".join(names), model_args, chat)
        for (model_args, chat), names in runs.items()
    )
    return _README.format(rows="".join(rows), commands=commands)


def _command(folder: Path, tasks: str, model_args: str, chat: bool) -> str:
    turn = " --apply_chat_template" if chat else ""
    return (
        "HF_HUB_OFFLINE=1 lm_eval --model hf \\\n"
        f"  --model_args pretrained=MODEL,dtype=float32{model_args} --batch_size 8 \\\n"
        f"  --include_path {shlex.quote(str(folder))} --tasks {tasks}{turn}"
    )


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as handle:
        handle.write(text)


_README = """\
# FinLLM's suites as tasks of lm-eval

For lm-eval 0.4.13 (`pip install "lm-eval[hf]==0.4.13"`). Everything is read from this
folder; the data paths in the YAML files are absolute, so export anew after moving it.
`MODEL` is a folder in Hugging Face's format.

```
{commands}
```

| tasks | number | items | figures | the same in FinLLM |
|---|---|---|---|---|
{rows}
- Multiple choice: prompt and answers are byte for byte those of FinLLM, and so are the
  log-likelihoods. Of exactly equal ones lm-eval takes the first; FinLLM shares the
  credit. An answer to a multiple item is a set of letters closed by a line break.
- `acc_norm` divides by characters, which is FinLLM's score of insurance answers. Their
  questions, outside a chat turn, begin with BOS in FinLLM; in lm-eval they do where the
  tokenizer sets one by itself, and elsewhere the figure is another.
- FinLLM's report card asks a model that was taught to chat everything but text in its
  chat template: export with `asking=CHAT, prompt="chat"` to check such a card.
- Text: `add_bos_token=False` keeps lm-eval, which sets a BOS itself, from reading two.
  FinLLM cuts a document into windows that each begin with BOS, lm-eval lets later
  windows begin with the last token of the one before. Documents that fit into a window
  give the same figure; pass `max_length` for another window than the model's.
- Answers that a program verifies need FinLLM installed where lm-eval runs, with its
  packages of laws for hallucination. A prompt that does not fit the context beside the
  answer is a failed item in FinLLM; lm-eval cuts it on the left and scores it.
- Stability compares the answers of all groups, so `--limit` gives another figure: that
  of the groups asked whole, `nan` when these are fewer than two.
- The exam in several orders counts what is right in all of them; `--limit` may leave
  out an order, and the item with it.
- Dialogues are not here: in FinLLM a model hears its own earlier answers, and lm-eval
  asks one turn. Nor are answers at several temperatures: it draws other samples.
"""
