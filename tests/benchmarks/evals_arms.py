"""What the benchmark ``evals`` runs, each in a process of its own, on a finished course.

Every function ends with ``report_back``. ``folder`` is a run folder in which the stages
up to 06 are done.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.splits import heldout_documents, insurance_questions
from finllm_utils.evals import choice
from finllm_utils.evals.bits_per_byte import bits_per_byte, spread_sample
from finllm_utils.evals.exam.contamination import leak_report
from finllm_utils.evals.exam.items import (
    continuations,
    exam_prompt,
    read_exam,
    read_paraphrases,
)
from finllm_utils.evals.exam.scoring import CHAT, score_exam
from finllm_utils.evals.exam.statute_exam import statute_exam
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.statistics.paired_scores import ItemScore, document_scores
from finllm_utils.evals.tasks.following import spread
from finllm_utils.model.base import load_base_model
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.profiles import load_profile
from finllm_utils.records import ChatTurn, ExamItem, Instruction, read_records
from finllm_utils.tokenizer.base import load_base_tokenizer
from finllm_utils.tokenizer.expand import as_pretrained
from finllm_utils.train import sft, tuning
from finllm_utils.train.answer_scores import score_answers
from tests.benchmarks.evals_checks import (
    NUM_BOOTSTRAP,
    credit_scores,
    permuted_answers,
    verdicts,
)
from tests.benchmarks.harness import measured, report_back

SMOLLM2 = "smollm2-135m"
LEAK_EPOCHS, MAX_LEAK_ROUNDS = 40, 5
SOLVED = 0.95


def loaded(folder: str, name: str) -> tuple:
    """Model in float32 and tokenizer: SmolLM2-135M, or a model of stage 06."""
    if name == SMOLLM2:
        return load_base_model(name), as_pretrained(
            load_base_tokenizer(name), chat=False
        )
    path = Path(folder) / "06_sft" / name
    return load_model(path), load_tokenizer(path)


def exam_items(kind: str, number: int) -> list[ExamItem]:
    """``number`` items: ``mixed`` from the whole exam, or ``four`` choices, one right.

    Statute items follow where the exam has too few of four choices.
    """
    exam = read_exam()
    if kind == "mixed":
        return spread(exam, number)
    single = [one for one in exam if one.type == "single" and len(one.choices) == 4]
    if number > len(single):
        made = statute_exam("open", seed=0, per_kind=number)
        more = [one for one in made if one.type == "single"]
        single += spread(more, number - len(single))
    return spread(single, number)


def score(
    folder: str, name: str, contender: str, kind: str, number: int, batch: int
) -> None:
    """Seconds and log-likelihoods of one pass over the items, after one to warm up.

    Args: batch is padded tokens for ours and prompts for lm-eval.
    """
    items = exam_items(kind, number)
    run = {"ours": _ours, "lm_eval": _lm_eval}[contender](*loaded(folder, name), batch)
    run(items[:1])
    with measured() as row:
        found = run(items)
    report_back(row | {"items_per_s": len(items) / row["wall_s"], "nats": found})


def _ours(model, tokenizer, batch: int) -> Callable[[Sequence[ExamItem]], list]:
    def run(items: Sequence[ExamItem]) -> list[list[float]]:
        found = score_exam(model, tokenizer, items, name="ours", batch_tokens=batch)
        return [values.tolist() for values in found.loglikelihoods]

    return run


def _lm_eval(model, tokenizer, batch: int) -> Callable[[Sequence[ExamItem]], list]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)

    def run(items: Sequence[ExamItem]) -> list[list[float]]:
        pairs = [(exam_prompt(i), tail) for i in items for tail in continuations(i)]
        requests = [
            Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0)
            for pair in pairs
        ]
        values = iter(v for v, _ in lm.loglikelihood(requests, disable_tqdm=True))
        return [[next(values) for _ in continuations(i)] for i in items]

    return run


def credits(folder: str, name: str, number: int, batch_tokens: int) -> None:
    """Credit by item of those that could be scored, and how many could not."""
    model, tokenizer = loaded(folder, name)
    items = exam_items("mixed", number)
    results = score_exam(
        model, tokenizer, items, name=name, batch_tokens=batch_tokens
    ).results
    scored = {one.item: one.credit for one in results if one.status == "scored"}
    report_back({"credits": scored, "failed": len(results) - len(scored)})


PLANTED = ("honest", "answers", "labels")
"""What stage 2 learns from: its data, other questions' answers, shuffled labels."""


def regression(folder: str, profile: str, planted: str, quick: bool) -> None:
    """Stage 2 from sft1 as it is, or with one of the faults of ``PLANTED``."""
    cfg = load_profile(profile)
    model, tokenizer = loaded(folder, "sft1")
    data = Path(folder) / "05_sft_data" / "instructions"
    items = read_records(data / "stage2.jsonl", Instruction)[: 40 if quick else None]
    heldout = read_records(data / "heldout.jsonl", Instruction)
    heldout = sft.fitting(tokenizer, heldout, cfg.sft.max_seq_len)
    heldout = spread(heldout, 40 if quick else None)
    before = _measures(model, tokenizer, cfg, heldout, quick)
    if planted == "answers":
        items = with_wrong_answers(items)
    rows = sft.conversation_rows(tokenizer, items, cfg.sft.max_seq_len)
    if planted == "labels":
        rows = with_shuffled_labels(rows)
    found = tuning.train_sft(
        model,
        tokenizer,
        rows,
        cfg=cfg.sft,
        runtime=cfg.runtime,
        seed=0,
        learning_rate=cfg.sft.learning_rate_stage2,
        num_epochs=cfg.sft.num_epochs_stage2,
    )
    after = _measures(model, tokenizer, cfg, heldout, quick)
    report_back(
        {"steps": found["steps"], "words": told(before, after), "scores": after}
    )


def with_wrong_answers(items: Sequence[Instruction]) -> list[Instruction]:
    """Every last answer moved to another question."""
    places = permuted_answers(len(items), seed=0)
    return [
        dataclasses.replace(
            item, messages=(*item.messages[:-1], items[place].messages[-1])
        )
        for item, place in zip(items, places, strict=True)
    ]


def with_shuffled_labels(rows: Sequence[sft.Row]) -> list[sft.Row]:
    """The same rows and learnt places, the labels of all answers dealt out anew."""
    learnt = [x for row in rows for x in row["labels"] if x != sft.IGNORED]
    dealt = iter(learnt[place] for place in permuted_answers(len(learnt), seed=0))
    return [
        row
        | {"labels": [x if x == sft.IGNORED else next(dealt) for x in row["labels"]]}
        for row in rows
    ]


LOWER_IS_BETTER = {"answers": True, "choice": False, "bpb_finance_zh": True}


def _measures(model, tokenizer, cfg, heldout, quick: bool) -> dict[str, list[dict]]:
    """Scores an item of held-out answers, insurance choice and finance text."""
    batch = cfg.evals.batch_tokens
    answers = score_answers(model, tokenizer, heldout, batch)
    items = choice.build_choice_items(
        insurance_questions("test"), insurance_answers(),
        8 if quick else cfg.evals.num_choice_items, cfg.evals.choice_tolerance, 0,
    )  # fmt: skip
    picked = choice.choice_accuracy(
        model, tokenizer, items, prompt="chat", batch_tokens=batch
    )
    texts = spread_sample(heldout_documents("finance_zh"), 8 if quick else 200)
    bpb = bits_per_byte(
        model, tokenizer, texts, window=cfg.pretrain2.seq_len, batch_tokens=batch,
        num_bootstrap=10, seed=0,
    )  # fmt: skip
    scores = {
        "answers": [
            ItemScore(item=item.id, value=one.nats, weight=one.tokens)
            for item, one in zip(heldout, answers, strict=True)
        ],
        "choice": credit_scores(picked.hits),
        "bpb_finance_zh": document_scores(
            [text.id for text in texts], bpb.document_nats, bpb.document_bytes
        ),
    }
    return {name: [_plain(s) for s in values] for name, values in scores.items()}


def _plain(score: ItemScore) -> dict:
    return {"item": score.item, "value": score.value, "weight": score.weight}


def told(before: dict, after: dict) -> dict[str, dict]:
    """Word, change and interval of every measure, for the report's verdict on both."""
    found = verdicts(
        {
            name: (
                [ItemScore(**one) for one in before[name]],
                [ItemScore(**one) for one in after[name]],
                lower,
            )
            for name, lower in LOWER_IS_BETTER.items()
        }
    )
    return {
        name: {
            "word": one.word,
            "change": one.change.value,
            "interval": list(one.change.interval),
        }
        for name, one in found.items()
    }


def leak(folder: str, profile: str, quick: bool) -> None:
    """sft2 tuned on exam items that have paraphrases, until it solves them."""
    cfg, exam = load_profile(profile), read_exam()
    model, tokenizer = loaded(folder, "sft2")
    reworded = spread(read_paraphrases(exam), 8 if quick else None)
    names = {one.id for one in reworded}
    leaked = [one for one in exam if one.id in names]
    others = [one for one in exam if one.id not in names and one.type == "single"]
    sets = (leaked, reworded, spread(others, 8 if quick else None))

    def ask() -> list[list[ItemResult]]:
        kept = dict(name="sft2", batch_tokens=cfg.evals.batch_tokens, asking=CHAT)
        return [score_exam(model, tokenizer, part, **kept).results for part in sets]

    before = ask()
    rows = sft.conversation_rows(
        tokenizer, [_lesson(item) for item in leaked], cfg.sft.max_seq_len
    )
    for rounds in range(1, 2 if quick else MAX_LEAK_ROUNDS + 1):
        tuning.train_sft(
            model, tokenizer, rows, cfg=cfg.sft, runtime=cfg.runtime, seed=rounds,
            learning_rate=cfg.sft.learning_rate, num_epochs=LEAK_EPOCHS,
        )  # fmt: skip
        after = ask()
        if _share(after[0]) >= SOLVED:
            break
    found = leak_report(
        before[0], after[0], before[1], after[1],
        others_before=before[2], others_after=after[2],
        num_bootstrap=NUM_BOOTSTRAP, seed=0,
    )  # fmt: skip
    shares = {
        f"{part}_{when}": _share(results)
        for when, sides in (("before", before), ("after", after))
        for part, results in zip(("items", "paraphrases", "others"), sides, strict=True)
    }
    said = {
        "flagged": found.flagged,
        "said": found.sentence(),
        "epochs": LEAK_EPOCHS * rounds,
    }
    report_back(shares | said | {"rows": len(rows), "items": found.num_items})


def _lesson(item: ExamItem) -> Instruction:
    turns = (
        ChatTurn(role="user", content=CHAT.user_text(item)),
        ChatTurn(role="assistant", content=item.answer),
    )
    return Instruction(
        id=item.id, messages=turns, task="leak", domain="finance", source="exam"
    )


def _share(results: Sequence[ItemResult]) -> float:
    scored = [one.credit for one in results if one.status == "scored"]
    return sum(scored) / len(scored)
