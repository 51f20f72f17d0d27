"""What the benchmark ``sft`` runs, each in a process of its own, on a finished course.

Every function ends with ``report_back``. ``folder`` is a run folder in which the stages
up to 05 are done.
"""

import copy
import random
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from finllm_utils.config import Profile
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.laws import laws
from finllm_utils.corpora.sources import training_laws
from finllm_utils.corpora.splits import (
    HELDOUT_DOMAINS,
    heldout_documents,
    insurance_questions,
)
from finllm_utils.data.citations import ArticleBook
from finllm_utils.evals import choice
from finllm_utils.evals.bits_per_byte import bits_per_byte, spread_sample
from finllm_utils.evals.models.generate import chat_reply
from finllm_utils.evals.tasks import hallucination as made_up
from finllm_utils.evals.tasks.following import Reply, following_share, read_following
from finllm_utils.evals.tasks.label_efficiency import label_efficiency
from finllm_utils.evals.tasks.multiturn import dialogue_share, read_dialogues
from finllm_utils.model.load import load_model, load_tokenizer
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document, Instruction, read_records
from finllm_utils.runtime import resolve_dtype
from finllm_utils.train import sft, tuning
from finllm_utils.train.answer_scores import mean_nats, score_answers
from finllm_utils.train.methods import method_cost
from tests.benchmarks.harness import REPOSITORY, report_back

EXAMS = REPOSITORY / "data_samples" / "exams"


def start_of(folder: str) -> Path:
    """The model that tuning starts from."""
    return Path(folder) / "04_pretrain_stage2" / "stage2"


def sets_of(folder: str) -> dict[str, list[Instruction]]:
    """Stage 1, stage 2 and held-out items of 05."""
    data = Path(folder) / "05_sft_data" / "instructions"
    names = ("stage1", "stage2", "heldout")
    return {n: read_records(data / f"{n}.jsonl", Instruction) for n in names}


def texts_of(folder: str) -> list[Document]:
    """Plain text that 05 drew for mixing in."""
    data = Path(folder) / "05_sft_data" / "instructions"
    return read_records(data / "pretrain_text.jsonl", Document)


def speed(folder: str, profile: str, contender: str, number: int) -> None:
    """Useful tokens a second of one pass over ``number`` instructions.

    Useful are the tokens of the conversations, padding left out; loading and the
    making of rows are not timed.
    """
    cfg, items = load_profile(profile), sets_of(folder)["stage1"][:number]
    tokenizer, model = load_tokenizer(start_of(folder)), load_model(start_of(folder))
    rows = sft.conversation_rows(tokenizer, items, cfg.sft.max_seq_len)
    useful = sum(len(row["input_ids"]) for row in rows)
    if contender == "ours":
        found = tuning.train_sft(
            model, tokenizer, rows, cfg=cfg.sft, runtime=cfg.runtime, seed=0,
            learning_rate=cfg.sft.learning_rate, num_epochs=1,
        )  # fmt: skip
        seconds = found["seconds"]
    else:
        fits = sft.fitting(tokenizer, items, cfg.sft.max_seq_len)
        seconds = _trl_seconds(model, tokenizer, fits)
    report_back({"tokens_per_s": useful / seconds, "seconds": seconds})


def _trl_seconds(model, tokenizer, items: list[Instruction]) -> float:
    """trl's SFTTrainer as it comes, given the same conversations as messages."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    messages = [
        {"messages": [{"role": t.role, "content": t.content} for t in item.messages]}
        for item in items
    ]
    with TemporaryDirectory() as out:
        trainer = SFTTrainer(
            model,
            args=SFTConfig(
                output_dir=out, num_train_epochs=1, report_to="none",
                save_strategy="no", use_cpu=not torch.cuda.is_available(),
            ),
            train_dataset=Dataset.from_list(messages),
            processing_class=tokenizer,
        )  # fmt: skip
        return trainer.train().metrics["train_runtime"]


def forget(
    folder: str, profile: str, seed: int, mixed: bool, quick: bool, work: str
) -> None:
    """Stage 1 with or without pre-training text, and with it stage 2; all measures."""
    cfg, found = load_profile(profile), {}
    start, sets = start_of(folder), sets_of(folder)
    tokenizer = load_tokenizer(start)
    items = sets["stage1"][: 40 if quick else None]
    if mixed:
        spoken, plain = sft.mixed_rows(tokenizer, items, texts_of(folder), cfg.sft)
    else:
        spoken, plain = sft.conversation_rows(tokenizer, items, cfg.sft.max_seq_len), []
    stages = [("sft1", spoken + plain, cfg.sft.learning_rate, cfg.sft.num_epochs)]
    if mixed:
        rows = sft.conversation_rows(tokenizer, sets["stage2"], cfg.sft.max_seq_len)
        rates = (cfg.sft.learning_rate_stage2, cfg.sft.num_epochs_stage2)
        stages.append(("sft2", rows[: 20 if quick else None], *rates))
    places = {name: Path(work) / f"{name}_{seed}_{mixed}" for name, *_ in stages}
    model = load_model(start)
    if mixed and seed == 0:
        found |= measures(model, tokenizer, cfg, sets["heldout"], "pretrained", quick)
    for name, rows, rate, epochs in stages:
        tuning.train_sft(
            model, tokenizer, rows, cfg=cfg.sft, runtime=cfg.runtime, seed=seed,
            learning_rate=rate, num_epochs=epochs,
            checkpoints=places[name],
        )  # fmt: skip
        found |= measures(model, tokenizer, cfg, sets["heldout"], name, quick)
    for place in places.values():
        shutil.rmtree(place)
    report_back(found)


def measures(
    model, tokenizer, cfg: Profile, heldout: list[Instruction], name: str, quick: bool
) -> dict[str, float]:
    """Every figure of one model in the profile's precision, as ``<measure>.<name>``."""
    model = copy.deepcopy(model).to(resolve_dtype(cfg.runtime.dtype))
    number = 6 if quick else None
    batch = cfg.evals.batch_tokens
    fits = sft.fitting(tokenizer, heldout, cfg.sft.max_seq_len)[:number]
    items = choice.build_choice_items(
        insurance_questions("test"), insurance_answers(),
        8 if quick else 1_000, cfg.evals.choice_tolerance, 0,
    )  # fmt: skip
    prompt = choice.prompt_for("stage2" if name == "pretrained" else name)
    picked = choice.choice_accuracy(
        model, tokenizer, items, prompt=prompt, batch_tokens=batch
    )
    found = {
        "heldout_nats": mean_nats(score_answers(model, tokenizer, fits, batch)),
        "choice": picked.accuracy,
        "choice_items": picked.num_items,
        "choice_shortest": choice.shortest_option(items).accuracy,
    }
    for domain in HELDOUT_DOMAINS:
        part = spread_sample(heldout_documents(domain), 4 if quick else 200)
        found[f"bpb.{domain}"] = bits_per_byte(
            model, tokenizer, part, window=cfg.pretrain2.seq_len, batch_tokens=batch,
            num_bootstrap=10, seed=0,
        ).value  # fmt: skip
    if name != "pretrained":  # it was never asked in chat turns
        found |= exams(chat_reply(model, tokenizer, 64), number)
    return {f"{key}.{name}": value for key, value in found.items()}


def exams(reply: Reply, number: int | None) -> dict[str, float]:
    """Shares of the exams that a program checks."""
    exam = made_up.Exam(
        statutes=made_up.statute_prompts(
            training_laws(), number or 100, random.Random(0)
        ),
        book=ArticleBook(laws()),
        questions=_some(EXAMS / "unanswerable.jsonl", made_up.Question, number),
        passages=_some(EXAMS / "grounded.jsonl", made_up.Passage, number),
    )
    result = made_up.hallucination(reply, exam)
    shares = {f: getattr(result, f).value for f in result.__dataclass_fields__}
    invented = ("articles_invented", "figures_invented")
    unhandled = 1 - shares["lacking_handled"]
    return shares | {
        "balanced": result.balanced,
        "hallucination": (sum(shares[n] for n in invented) + unhandled) / 3,
        "following": following_share(read_following(number), reply),
        "multiturn": dialogue_share(read_dialogues(number), reply),
    }


def _some(path: Path, kind: type, number: int | None) -> tuple:
    items = made_up.read_items(path, kind)
    if number is None:
        return items
    return items[: number // 2] + items[-(number - number // 2) :]


def method(folder: str, profile: str, name: str, number: int) -> None:
    """Memory, speed and, of adapters, how far merging moves the logits."""
    cfg, items = load_profile(profile), sets_of(folder)["stage1"][:number]
    start, tokenizer = start_of(folder), load_tokenizer(start_of(folder))
    rows = sft.conversation_rows(tokenizer, items, cfg.sft.max_seq_len)
    cost = method_cost(start, tokenizer, rows, name, cfg.sft, cfg.runtime, 0)
    report_back({k: v for k, v in cost.as_dict().items() if v is not None})


def labels(folder: str, profile: str, size: int, seed: int, num_test: int) -> None:
    """One tuned model and one TF-IDF a task, on the same few labels."""
    cfg, began = load_profile(profile), time.monotonic()
    rows = label_efficiency(
        start_of(folder), cfg.sft, cfg.runtime, sizes=(size,), seeds=(seed,),
        num_test=num_test,
    )  # fmt: skip
    found = {f"{r['task']}.{r['contender']}": r["accuracy"] for r in rows}
    report_back(found | {"seconds": time.monotonic() - began})
