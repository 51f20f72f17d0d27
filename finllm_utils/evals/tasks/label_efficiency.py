"""How many labels does a classification task need: one tuned model, or one TF-IDF each?

Four tasks from the packaged corpora. The first contender is a single course model tuned
once on the labels of all tasks; the second a separate TF-IDF classifier a task, which
is how every department builds its own silo (烟囱). Both see the same draws.

What the comparison does not hide: the course model knows the wording of every label and
has read unlabelled text in pre-training, articles under their law's name among them.
Start from a model of 04: one tuned in 06 has seen far more labels of these very tasks.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq, sub
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from finllm_utils.config import RuntimeConfig, SFTConfig
from finllm_utils.corpora.chinese import peoples_daily, reviews
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.laws import Law
from finllm_utils.corpora.sources import training_laws
from finllm_utils.corpora.splits import (
    BLOCK_LINES,
    heldout_answer_ids,
    insurance_questions,
    load_splits,
    text_key,
)
from finllm_utils.data.instructions import is_heldout
from finllm_utils.data.tasks_finance import INSURANCE_KINDS
from finllm_utils.data.wordings import one_turn
from finllm_utils.model.load import load_tokenizer
from finllm_utils.model.score import answer_nats
from finllm_utils.records import ChatTurn
from finllm_utils.train.sft import conversation_rows, encode_conversation, encode_prompt
from finllm_utils.train.tuning import model_to_tune, plain_model, train_sft
from finllm_utils.train.tuning_rows import PackedRows

Example = tuple[str, str]
"""A text and its label."""
Pools = tuple[list[Example], list[Example]]
"""Training and held-out examples."""
MAX_CHARS = 80
MIN_CHARS = 4  # 什么是年金 is a whole question; less is a byline
NUM_LAWS = 8
NUM_DOMAINS = 10
NUM_OF_KIND = 3_000  # training texts of each kind, so that no kind is the majority
PENALTIES = (1.0, 10.0, 100.0)
"""Values of ``C`` that cross-validation chooses from; the middle one without it."""
CROSS_VALIDATE_FROM = 50  # a fold of fewer labels says nothing about C
CONTENDERS = ("model", "tfidf", "majority", "chance")


@dataclass(frozen=True, slots=True)
class LabelTask:
    """Texts with one label each. ``wording`` stands before a text in the prompt.

    ``labels`` come most frequent first.
    Raises: ValueError for fewer than two labels, a label without training text, an
    unknown label, an empty test set, or a text that comes twice in train and test.
    """

    name: str
    labels: tuple[str, ...]
    train: list[Example]
    test: list[Example]
    wording: str = ""

    def __post_init__(self) -> None:
        known, seen = set(self.labels), {label for _, label in self.train}
        if not 2 <= len(known) == len(self.labels) or known - seen or not self.test:
            raise ValueError(
                f"{self.name}: give two or more different labels, a training text for "
                f"each (missing: {'、'.join(sorted(known - seen))}) and a test text"
            )
        keys: dict[str, int] = {}
        for number, (text, label) in enumerate(self.train + self.test, 1):
            where = f"{self.name}, item {number} of train and test: {text!r:.40}"
            if label not in known:
                raise ValueError(f"{where} has label {label!r}, not in the task's")
            if (first := keys.setdefault(_key(text), number)) != number:
                raise ValueError(f"{where} is item {first} again; keep one of them")


def label_tasks(seed: int, num_test: int) -> list[LabelTask]:
    """Sentiment, insurance domain, law of an article and kind of text, in this order.

    Test texts come from what 05 holds out by id, news from the held-out blocks, and
    insurance from the valid split; ``seed`` draws ``num_test`` of them in their natural
    shares. Texts are cut to 80 characters; those with two labels are left out.
    Raises: ValueError when a task has fewer than ``num_test`` test texts.
    """
    longest = sorted(training_laws(), key=lambda law: -len(law.articles))[:NUM_LAWS]
    pools = {
        "sentiment": ("这条评论是正面还是负面？", _review_pools()),
        "insurance_domain": ("这个问题属于哪一类保险？", _question_pools()),
        "law_of_article": ("这一条出自哪部法律？", _article_pools(longest)),
        "text_kind": ("下面这段话属于哪一类文字？", _kind_pools(seed)),
    }
    # one model learns all tasks: a test text of one is no training text of another
    held = {_key(_cut(text)) for _, parts in pools.values() for text, _ in parts[1]}
    return [
        _task(name, wording, parts, held, random.Random(f"{seed}/{name}"), num_test)
        for name, (wording, parts) in pools.items()
    ]


def _task(
    name: str, wording: str, pools: Pools, held: set[str], rng: random.Random, num: int
) -> LabelTask:
    """Leaves out repeats, contradictions, and texts in both pools or ``held``."""
    found: dict[str, Example] = {}
    given: dict[str, set[str]] = defaultdict(set)
    for text, label in pools[0] + pools[1]:
        if len(key := _key(text := _cut(text))) >= MIN_CHARS:
            found.setdefault(key, (text, label))
            given[key].add(label)
    shown = {_key(_cut(text)) for text, _ in pools[0]}
    kept = [key for key in found if len(given[key]) == 1]
    pool = [found[key] for key in kept if key not in shown]
    if not 1 <= num <= len(pool):
        raise ValueError(f"num_test={num}: {name} has test texts for 1 to {len(pool)}")
    rows = [found[key] for key in kept if key not in held]
    labels = [label for label, _ in Counter(label for _, label in rows).most_common()]
    return LabelTask(name, tuple(labels), rows, rng.sample(pool, num), wording)


def _cut(text: str) -> str:
    return " ".join(text.split())[:MAX_CHARS].strip()


def _key(text: str) -> str:
    """What makes two texts the same: their letters and digits, or all if none."""
    return "".join(c for c in text.lower() if c.isalnum()) or text


def _review_pools() -> Pools:
    """Held out: reviews of the frozen split, or every copy of which 05 holds out."""
    frozen = set(load_splits()["reviews"])
    shown = [r.text for i, r in enumerate(reviews()) if not is_heldout(f"reviews/{i}")]
    trained, pools = set(shown), ([], [])
    for review in reviews():
        held = text_key(review.text) in frozen or review.text not in trained
        pools[held].append((review.text, ("负面", "正面")[review.positive]))
    return pools


def _question_pools() -> Pools:
    """Questions of the most frequent domains; held out is the valid split."""
    counts = Counter(q.domain for q in insurance_questions("train"))
    domains = {domain for domain, _ in counts.most_common(NUM_DOMAINS)}
    pools: Pools = [], []
    for pool, split in zip(pools, ("train", "valid"), strict=True):
        asked = [q for q in insurance_questions(split) if q.domain in domains]
        pool += [(q.zh, INSURANCE_KINDS[q.domain]) for q in asked]
    return pools


def _article_pools(laws: Sequence[Law]) -> Pools:
    """Articles with their law's short name."""
    pools: Pools = [], []
    for law in laws:
        for a in law.articles:
            held = is_heldout(f"laws/{law.name}/{a.number_zh}")
            pools[held].append((a.text, law.short_name))
    return pools


def _kind_pools(seed: int) -> Pools:
    """As many texts of each kind: news, review, article, insurance answer."""
    blocks = set(load_splits()["peoples_daily_blocks"])
    news: tuple[list[str], list[str]] = [], []
    for number, line in enumerate(peoples_daily()):
        if len(line) >= 20:  # shorter ones are headings and bylines
            news[number // BLOCK_LINES in blocks].append(line)
    answers, held = insurance_answers(), heldout_answer_ids()
    said = [
        [a for q in insurance_questions(split) for a in q.positives]
        for split in ("train", "valid")
    ]
    said[0] = [a for a in said[0] if a not in held]
    judged, articles = _review_pools(), _article_pools(training_laws())
    pools: Pools = [], []
    for part, pool in enumerate(pools):
        kinds = {
            "新闻": news[part],
            "商品评论": [text for text, _ in judged[part]],
            "法律条文": [text for text, _ in articles[part]],
            "保险问答": [answers[a].zh for a in said[part]],
        }
        kinds = {kind: list(dict.fromkeys(texts)) for kind, texts in kinds.items()}
        number = min(NUM_OF_KIND, *map(len, kinds.values()))
        for kind, texts in kinds.items():
            rng = random.Random(f"{seed}/kind/{part}/{kind}")
            pool += [(text, kind) for text in rng.sample(texts, number)]
    return pools


def draw_labels(task: LabelTask, num_labels: int, seed: int) -> list[Example]:
    """Exactly ``num_labels`` training examples; a smaller draw begins a larger one.

    Every label comes once, the most frequent first, so with fewer examples than labels
    the rarest have none; from there on labels come in their shares of the pool. How
    many of each label depends on the size alone, which texts on ``seed``.
    Raises: ValueError below 2 or above the number of training texts.
    """
    if not 2 <= num_labels <= len(task.train):
        raise ValueError(
            f"{task.name}: cannot draw {num_labels} labels; use 2 to {len(task.train)}"
        )
    rng = random.Random(f"{seed}/draw/{task.name}")
    places = []
    for index, label in enumerate(task.labels):
        pool = [row for row in task.train if row[1] == label]
        for rank, row in enumerate(rng.sample(pool, len(pool))):
            share = (rank + 0.5) / len(pool) if rank else 0.0
            places.append((share, index, row))
    places.sort(key=lambda place: place[:2])
    return [row for _, _, row in places[:num_labels]]


def majority_label(task: LabelTask, drawn: Sequence[Example]) -> str:
    """The most frequent label of a draw; on a tie, the pool's more frequent one."""
    counts = Counter(label for _, label in drawn)
    return max(task.labels, key=lambda label: counts[label])


def tfidf_predictions(
    drawn: Sequence[Example], texts: Sequence[str], seed: int
) -> list[str]:
    """Labels by TF-IDF of 1 to 3 characters and logistic regression, fit on ``drawn``.

    From 50 labels on, three-fold cross-validation chooses the penalty. Labels that the
    draw lacks are never answered.
    Raises: ValueError when the draw has fewer than two labels.
    """
    known, labels = [text for text, _ in drawn], [label for _, label in drawn]
    if len(set(labels)) < 2:
        raise ValueError(f"a draw with labels {set(labels)}: a classifier needs two")
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    penalty = PENALTIES[len(PENALTIES) // 2]
    model = make_pipeline(vectors, LogisticRegression(C=penalty, max_iter=1_000))
    if len(drawn) >= CROSS_VALIDATE_FROM:
        folds = KFold(3, shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"logisticregression__C": PENALTIES}, cv=folds)
    return model.fit(known, labels).predict(texts).tolist()


def label_nats(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    task: LabelTask,
    texts: Sequence[str],
    batch_tokens: int,
) -> np.ndarray:
    """(texts, labels) nats of each label as the whole answer, its end mark included.

    The sum is the probability of that answer. A mean over tokens would favour long
    names, whose later characters follow from the first.
    """
    prompts, answers = [], []
    for text in texts:
        asked = ChatTurn(role="user", content=task.wording + text)
        prompt = encode_prompt(tokenizer, [asked])
        for label in task.labels:
            said = ChatTurn(role="assistant", content=label)
            prompts.append(prompt)
            ids, _ = encode_conversation(tokenizer, [asked, said])
            answers.append(ids[len(prompt) :])
    nats = answer_nats(model, tokenizer, prompts, answers, batch_tokens)
    return np.array(nats).reshape(len(texts), len(task.labels))


def tune_on_labels(
    model_folder: Path | str,
    drawn: Sequence[tuple[LabelTask, Sequence[Example]]],
    cfg: SFTConfig,
    runtime: RuntimeConfig,
    seed: int,
    num_epochs: float = 3.0,
    min_steps: int = 60,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    """One model, tuned once on the draws of all tasks together, and its tokenizer.

    Args: num_epochs passes, or as many as make about ``min_steps`` optimiser steps.
    Raises: ValueError when a row is longer than ``cfg.max_seq_len``.
    """
    tokenizer = load_tokenizer(model_folder)
    items = [
        one_turn(task.name, "general", str(i), task.wording + text, label)
        for task, rows in drawn
        for i, (text, label) in enumerate(rows)
    ]
    random.Random(f"{seed}/rows").shuffle(items)
    rows = conversation_rows(tokenizer, items, cfg.max_seq_len)
    if len(rows) < len(items):
        raise ValueError(
            f"{len(items) - len(rows)} of {len(items)} labelled texts exceed "
            f"sft.max_seq_len={cfg.max_seq_len} and would not count: raise it"
        )
    packed = len(PackedRows(rows, cfg.max_seq_len, seed))
    steps = -(-packed // (cfg.micro_batch_size * cfg.grad_accum_steps))
    model = model_to_tune(model_folder, cfg, runtime, seed)
    train_sft(
        model,
        tokenizer,
        rows,
        cfg=cfg,
        runtime=runtime,
        learning_rate=cfg.learning_rate,
        num_epochs=max(num_epochs, math.ceil(min_steps / steps)),
        seed=seed,
    )
    return plain_model(model), tokenizer


def label_efficiency(
    model_folder: Path | str,
    cfg: SFTConfig,
    runtime: RuntimeConfig,
    sizes: Sequence[int] = (10, 100, 1_000),
    seeds: Sequence[int] = (0, 1, 2),
    num_test: int = 200,
    *,
    num_epochs: float = 3.0,
    min_steps: int = 60,
    batch_tokens: int = 4_096,
    make_tasks: Callable[[int, int], Sequence[LabelTask]] = label_tasks,
) -> list[dict[str, object]]:
    """Rows of task, size, seed, contender, accuracy and n (test texts).

    Args: sizes are labels a task; a seed draws labels and test texts and tunes, so the
    spread over seeds covers all three; make_tasks(seed, num_test) gives the tasks.
    Raises: ValueError for no or repeated sizes or seeds, before any tuning.
    """
    for name, given in (("sizes", sizes), ("seeds", seeds)):
        if not given or len(set(given)) < len(given):
            raise ValueError(f"{name}={given}: give one or more different ones")
    draws = {
        (seed, size): [(task, draw_labels(task, size, seed)) for task in tasks]
        for seed in seeds
        for tasks in [make_tasks(seed, num_test)]
        for size in sizes
    }
    found: list[dict[str, object]] = []
    for (seed, size), drawn in draws.items():
        model, tokenizer = tune_on_labels(
            model_folder, drawn, cfg, runtime, seed, num_epochs, min_steps
        )
        for task, rows in drawn:
            texts, right = zip(*task.test, strict=True)
            nats = label_nats(model, tokenizer, task, texts, batch_tokens)
            said = {
                "model": [task.labels[i] for i in nats.argmin(axis=1)],
                "tfidf": tfidf_predictions(rows, texts, seed),
                "majority": [majority_label(task, rows)] * len(texts),
            }
            shares = {k: mean(map(eq, v, right)) for k, v in said.items()}
            shares["chance"] = 1 / len(task.labels)
            row = {"task": task.name, "size": size, "seed": seed, "n": len(texts)}
            found += [
                row | {"contender": name, "accuracy": float(shares[name])}
                for name in CONTENDERS
            ]
    return found


def label_table(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """One row a task and size, and "all" over tasks: means and deviations over seeds.

    ``gap`` is the model's accuracy minus TF-IDF's on the same texts. A deviation is
    None for one seed; of three it is a rough figure.
    """
    groups: dict[tuple, dict[str, dict[object, list]]] = {}
    for row in (*rows, *({**row, "task": "all"} for row in rows)):
        group = groups.setdefault((row["task"], row["size"]), defaultdict(dict))
        by_seed = group[row["contender"]]
        by_seed.setdefault(row["seed"], []).append(row["accuracy"])
    table = []
    for (task, size), group in groups.items():
        values = {k: [mean(v) for v in group[k].values()] for k in CONTENDERS}
        values["gap"] = list(map(sub, values["model"], values["tfidf"]))
        line: dict[str, object] = {"task": task, "size": size}
        for name, shares in values.items():
            line[name] = mean(shares)
            if name in ("model", "tfidf", "gap"):
                line[f"{name}_std"] = stdev(shares) if len(shares) > 1 else None
        table.append(line)
    return table
