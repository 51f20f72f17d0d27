"""The instruction set of 05: two training stages and held-out items, with provenance.

Training sources and held-out sources are disjoint: insurance items are held out by the
frozen valid split, every other text by a hash of its id. Notebook 05 calls this.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median

from finllm_utils.config import SFTConfig
from finllm_utils.corpora.chinese import reviews
from finllm_utils.corpora.insurance import InsuranceQuestion, insurance_answers
from finllm_utils.corpora.sources import training_laws
from finllm_utils.corpora.splits import insurance_questions
from finllm_utils.data.instruction_formats import read_instructions
from finllm_utils.data.instruction_gate import Gate, question_of
from finllm_utils.data.own_items import read_own_items
from finllm_utils.data.tasks_finance import (
    FINANCE_TASKS,
    QA,
    FinanceTexts,
    insurance_dialogue,
)
from finllm_utils.data.tasks_formulas import formulas
from finllm_utils.data.tasks_general import GENERAL_TASKS, GeneralTexts
from finllm_utils.data.tasks_tables import compare_table, compute_table, read_table
from finllm_utils.data.wordings import Source
from finllm_utils.records import ChatTurn, Document, Instruction, read_lines

DATA_FILES = ("data_samples/instructions",)
FOLDER = Path(__file__).resolve().parents[2] / DATA_FILES[0]
HELDOUT_SHARE = 0.1
TEXT_SHARES = {
    "general_zh": 0.6,
    "finance_zh": 0.15,
    "english": 0.2,
    "finance_en": 0.05,
}
"""Pre-training text mixed into stage 1: stage 2 of pre-training's final mix."""
STAGE2_SHARES = {
    "insurance_qa": 0.6,
    "insurance_dialogue": 0.15,
    "calculation": 0.1,
    "formula": 0.05,
    "table_compute": 0.05,
    "tool_call": 0.05,
    "statute": 0.05,
    "definition": 0.05,
}
"""Stage 2 by task, in proportion, of what our own items and dialogues leave."""
YOURS = "yours"  # the task of the user's own conversations
MIN_OVERLAP = 0.25
"""Stage 2 keeps answers that repeat this share of the question's character pairs."""
_TRIES = 30  # items looked at for one that is kept, before a task counts as exhausted


FinanceTasks = dict[
    str, tuple[Callable[[FinanceTexts, random.Random], Iterator[Instruction]], float]
]
COMPUTED_TASKS: FinanceTasks = {
    "formula": (formulas, 0.08),
    "table_read": (read_table, 0.02),
    "table_compare": (compare_table, 0.03),
    "table_compute": (compute_table, 0.03),
}
"""Tasks whose answers are computed, in proportion within ``sft.computed_share``; the
caller adds tool calls, whose tools stand in a higher layer."""


def is_heldout(source_id: str) -> bool:
    """Whether a text is kept for held-out items; depends on its id alone."""
    byte = hashlib.sha256(f"sft/{source_id}".encode()).digest()[0]
    return byte < 256 * HELDOUT_SHARE


def general_texts(documents: Iterable[Document], *, heldout: bool) -> GeneralTexts:
    """Prose and reviews of the cleaned corpus, and articles of laws outside finance.

    Args: documents are those of 01's general_zh.jsonl; your own sources count as prose.
    """
    labels = [("负面", "正面")[r.positive] for r in reviews()]
    prose, judged = [], []
    for doc in documents:
        if is_heldout(doc.id) != heldout:
            continue
        if doc.source == "reviews":
            label = labels[int(doc.id.split("/")[1])]
            judged.append(Source(doc.id, doc.text, label))
        elif doc.source != "laws":
            kind = "新闻" if doc.source == "peoples_daily" else ""
            prose.append(Source(doc.id, doc.text, kind))
    articles = [
        Source(f"laws/{law.name}/{a.number_zh}", a.text, law.short_name)
        for law in training_laws()
        if not law.is_finance
        for a in law.articles
    ]
    kept = tuple(a for a in articles if is_heldout(a.id) == heldout)
    return GeneralTexts(tuple(prose), tuple(judged), kept)


def finance_texts(cfg: SFTConfig, *, heldout: bool) -> FinanceTexts:
    """Insurance questions (valid split if held out), training laws' articles, terms."""
    split = "valid" if heldout else "train"
    articles = [
        Source(f"laws/{law.name}/{a.number_zh}", a.text, law.short_name + a.number_zh)
        for law in training_laws()
        if law.is_finance
        for a in law.articles
        if a.number_zh.startswith("第")
    ]
    terms = [
        Source(f"terms/{row['term']}", row["definition"], row["term"])
        for row in read_lines(FOLDER / "terms.jsonl")
    ]
    return FinanceTexts(
        questions=tuple(_question(q) for q in insurance_questions(split)),
        articles=tuple(a for a in articles if is_heldout(a.id) == heldout),
        terms=tuple(t for t in terms if is_heldout(t.id) == heldout),
        max_answer_chars=cfg.max_answer_chars,
    )


def _question(question: InsuranceQuestion) -> QA:
    answer = insurance_answers()[question.positives[0]].zh
    return QA(question.id, question.domain, question.zh, question.en, answer)


def own_dialogues() -> list[Instruction]:
    """Greetings and compliance answers that we wrote: data_samples/instructions."""
    found = []
    for i, row in enumerate(read_lines(FOLDER / "dialogues.jsonl")):
        turns = tuple(
            ChatTurn(role=("user", "assistant")[k % 2], content=text)
            for k, text in enumerate(row["turns"])
        )
        key = f"dialogues/{i}"
        found.append(
            Instruction(
                id=f"{row['task']}/{key}",
                messages=turns,
                task=row["task"],
                domain=row["domain"],
                source=key,
            )
        )
    return found


def own_instructions(cfg: SFTConfig, *, heldout: bool) -> list[Instruction]:
    """Our items whose answers all fit ``cfg.max_own_chars``, and all of the user's own.

    Tasks are own_general, own_finance and yours. A tenth of either is held out.
    Raises: ValueError naming file and line of what is wrong, see ``read_own_items`` and
    ``read_instructions``.
    """
    found = []
    for item in read_own_items():
        answers = (t.content for t in item.messages if t.role == "assistant")
        if max(map(len, answers)) <= cfg.max_own_chars:
            made = item.to_instruction()
            found.append(replace(made, task=f"own_{made.domain}"))
    for path in cfg.own_instructions:
        found += [replace(i, task=YOURS) for i in read_instructions(path)]
    return [item for item in found if is_heldout(item.source) == heldout]


def draw(
    stream: Iterable[Instruction], number: int, passes: Callable[[Instruction], bool]
) -> list[Instruction]:
    """The first ``number`` items of ``stream`` that pass; fewer when it runs dry."""
    candidates = islice(stream, number * _TRIES)
    return list(islice((item for item in candidates if passes(item)), number))


def _finance_tasks(cfg: SFTConfig, more: FinanceTasks | None) -> FinanceTasks:
    """Every finance task with its share of stage 1's finance instructions."""
    computed = COMPUTED_TASKS | dict(more or {})
    if cfg.computed_share == 0:
        return FINANCE_TASKS
    scale = cfg.computed_share / sum(share for _, share in computed.values())
    shares = {name: (task, share * scale) for name, (task, share) in computed.items()}
    return FINANCE_TASKS | shares


def stage1_counts(cfg: SFTConfig) -> tuple[int, int]:
    """(general, finance) instructions whose ratio is ``cfg.general_to_finance``.

    Example: 2,400 at 4:1 are (1920, 480).
    """
    finance = round(cfg.num_instructions / (1 + cfg.general_to_finance))
    return cfg.num_instructions - finance, finance


def build_stage1(
    cfg: SFTConfig,
    general: GeneralTexts,
    finance: FinanceTexts,
    gate: Gate,
    seed: int,
    more: FinanceTasks | None = None,
) -> list[Instruction]:
    """Stage 1: every task, general and finance in the configured ratio, shuffled.

    A task that runs dry leaves its places to the tasks after it; the last ones are
    computed and never do.

    Args: more finance tasks by name, each with its share of the finance instructions.
    """
    num_general, num_finance = stage1_counts(cfg)
    own = own_instructions(cfg, heldout=False)
    general_own = [item for item in own if item.task == "own_general"]
    _rng(seed, "own").shuffle(general_own)
    most = num_general // (len(GENERAL_TASKS) + 1)
    found = draw(general_own, most, gate.passes)
    for left, (name, task) in zip(
        range(len(GENERAL_TASKS), 0, -1), GENERAL_TASKS.items(), strict=True
    ):
        number = (num_general - len(found)) // left
        found += draw(task(general, _rng(seed, name)), number, gate.passes)
    parts: list[Instruction] = []
    for name, (task, share) in sorted(
        _finance_tasks(cfg, more).items(), key=lambda t: t[1][1]
    ):
        last = name == "insurance_qa"  # the largest pool takes what is left
        number = num_finance - len(parts) if last else round(num_finance * share)
        parts += draw(task(finance, _rng(seed, name)), number, gate.passes)
    found += parts
    _rng(seed, "stage1").shuffle(found)
    return found


def question_overlap(question: str, answer: str) -> float:
    """Share of the question's character pairs that occur in the answer, in [0, 1].

    A cheap sign of an answer on topic. Example: 买保险 has the pairs 买保 and 保险.
    """
    pairs = {question[i : i + 2] for i in range(len(question) - 1)}
    return sum(pair in answer for pair in pairs) / max(1, len(pairs))


def build_stage2(
    cfg: SFTConfig,
    finance: FinanceTexts,
    gate: Gate,
    seed: int,
    more: FinanceTasks | None = None,
) -> list[Instruction]:
    """Stage 2: small, on topic, partly of two turns, with our own dialogues; shuffled.

    Share the gate with stage 1, so no question comes twice.
    """

    def on_topic(item: Instruction) -> bool:
        turns = item.messages
        pairs = zip(turns[::2], turns[1::2], strict=True)
        return all(
            question_overlap(q.content, a.content) >= MIN_OVERLAP for q, a in pairs
        ) and gate.passes(item)

    plain = replace(finance, plain_questions=True)
    streams = {name: task for name, (task, _) in _finance_tasks(cfg, more).items()}
    streams["insurance_dialogue"] = insurance_dialogue
    own = own_instructions(cfg, heldout=False)
    ours = [item for item in own if item.task == "own_finance"]
    _rng(seed, "stage2/own").shuffle(ours)
    dialogues = [item for item in own_dialogues() if gate.passes(item)]
    found = dialogues[: cfg.num_stage2]
    found += draw(ours, round(cfg.own_share * cfg.num_stage2), gate.passes)
    room = max(0, cfg.num_stage2 - len(found))
    total = sum(s for name, s in STAGE2_SHARES.items() if name in streams)
    for name, share in sorted(STAGE2_SHARES.items(), key=lambda t: t[1]):
        if name not in streams:
            continue
        passes = on_topic if name.startswith("insurance") else gate.passes
        last = name == "insurance_qa"
        number = cfg.num_stage2 - len(found) if last else int(room * share / total)
        stream = streams[name](plain, _rng(seed, f"stage2/{name}"))
        found += draw(stream, number, passes)
    found += [item for item in own if item.task == YOURS and gate.passes(item)]
    _rng(seed, "stage2").shuffle(found)
    return found


def build_heldout(
    cfg: SFTConfig,
    general: GeneralTexts,
    finance: FinanceTexts,
    seen: Gate,
    seed: int,
    more: FinanceTasks | None = None,
) -> list[Instruction]:
    """Held-out items of every task, from held-out sources; none is in ``seen``.

    ``seen`` is the gate that the training stages passed: its questions are refused.
    """
    gate = Gate()  # no overlap rule: these *are* held-out questions
    gate.seen = set(seen.seen)
    plain = replace(finance, plain_questions=True)
    found: list[Instruction] = []
    for name, task in GENERAL_TASKS.items():
        stream = task(general, _rng(seed, f"heldout/{name}"))
        found += draw(stream, cfg.num_heldout_per_task, gate.passes)
    for name, (task, _) in _finance_tasks(cfg, more).items():
        number = cfg.num_heldout_per_task
        if name == "insurance_qa":
            number = cfg.num_heldout_answers
        stream = task(plain, _rng(seed, f"heldout/{name}"))
        found += draw(stream, number, gate.passes)
    found += [i for i in own_instructions(cfg, heldout=True) if gate.passes(i)]
    return [replace(item, id=f"heldout/{item.id}") for item in found]


def draw_pretrain_text(
    by_domain: dict[str, Sequence[Document]], num_chars: int, seed: int
) -> list[Document]:
    """About ``num_chars`` characters of documents in ``TEXT_SHARES``, shuffled."""
    found: list[Document] = []
    for domain, share in TEXT_SHARES.items():
        left = num_chars * share
        pool = list(by_domain[domain])
        _rng(seed, f"text/{domain}").shuffle(pool)
        for document in pool:
            if left <= 0:
                break
            left -= len(document.text)
            found.append(document)
    _rng(seed, "text").shuffle(found)
    return found


def task_table(instructions: Iterable[Instruction]) -> list[dict[str, object]]:
    """One row a task: domain, items, median characters of question and answer."""
    groups: dict[tuple[str, str], list[Instruction]] = {}
    for item in instructions:
        groups.setdefault((item.domain, item.task), []).append(item)
    return [
        {
            "domain": domain,
            "task": task,
            "items": len(items),
            "turns": max(len(i.messages) for i in items),
            "question_chars": median(len(question_of(i)) for i in items),
            "answer_chars": median(len(i.messages[-1].content) for i in items),
        }
        for (domain, task), items in sorted(groups.items())
    ]


def _rng(seed: int, name: str) -> random.Random:
    return random.Random(f"{seed}/{name}")
