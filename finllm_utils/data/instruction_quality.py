"""What an instruction set is worth by measurable signs: repeats, spread, leaks, scores.

All figures are cheap and computed from the text alone; none of them says that an answer
is right. That takes a reader, and for sums the checks of ``own_items``.
"""

import math
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finllm_utils.data.instruction_formats import require_conversation
from finllm_utils.data.instruction_gate import conversation_text, question_of
from finllm_utils.data.instructions import MIN_OVERLAP, question_overlap
from finllm_utils.data.own_items import cited_articles, supported_figures
from finllm_utils.data.shingles import LATIN_FACTOR, fold_texts, shingle_set
from finllm_utils.records import Instruction, read_lines

DATA_FILES = (
    "data_samples/exams",
    "data_samples/hub/numeric_questions.jsonl",
    "data_samples/hub/refusals.jsonl",
)
_ROOT = Path(__file__).resolve().parents[2]
NGRAM = 3  # characters of a shingle in near_duplicates
_SHORTEST = 6  # characters of an exam question that is looked for inside others
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
REQUESTS = {
    "计算": r"计算|[测估]算|算[一算]?下|怎么算|[帮请]我?算|多少|几[元年月天倍个次]",
    "解释": r"解释|什么意思|什么叫|何为|什么是|是什么|是指|讲讲|讲一?下",
    "原因": r"为什么|为何|为啥|凭什么|怎么回事|原因|什么道理",
    "办法": r"怎么|如何|怎样|咋",
    "比较": r"比较|对比|区别|差别|比一?比|哪[个种家款类]|选哪|差在哪|不一样|还是",
    "判断": r"能不能|可不可以|[是会行对该]不[是会行对该]|要不要|有没有|是否|吗|吧？",
    "写作": r"起草|草拟|拟[一份个]|写[一个份封段条句成首四]|帮我?写",
    "改写": r"改写|改[成为得掉]|改一?[下改]|[帮请]我?改|润色|重写|换[一种个]",
    "翻译": r"翻译|译成|译[为出]|用[中英]文",
    "概括": r"总结|概括|摘要|归纳|要点|提炼|标题|压[成缩]",
    "抽取": r"抽取|提取|摘出|找出|抽成|列出",
    "分类": r"分类|归类|属于哪|哪一?类|类别|正面|负面",
    "整理": r"整理|清单|列表|列个|表格|做[成个]?.{0,6}表|排序|排列|顺序|日程",
    "核对": r"核对|复核|检查|审[核查一]|查一?下|毛病|错在?哪|哪儿不对|对不上",
    "补全": r"补全|填空|填[上入]|续写|接着写|下一句|标点",
    "介绍": r"介绍|说明|说说|谈谈|推荐|建议|告诉我",
    "事实": r"什么|哪|谁|几|多[久大远长高]",
}
"""Kinds of request by the words that show them; the first word in a question counts."""
_REQUEST = re.compile("|".join(f"(?P<{name}>{p})" for name, p in REQUESTS.items()))
_BAD_CHARACTERS = re.compile("[\ufffd\x00-\x08\x0b-\x1f\ue000-\uf8ff]")
_FREE_ENDING = ("classify", "code", "format", "json", "table", "title", "translate")
_SHORT_ANSWER = (
    "arithmetic", "classify", "cloze", "format", "kind", "logic", "number", "order",
    "reading", "sentiment", "title",
)  # fmt: skip
"""Parts of the names of tasks that may be answered in a word or any ending."""


class Contact(NamedTuple):
    """An item that shares ``text`` (folded) with an exam question."""

    item: str
    exam: str
    text: str


class Score(NamedTuple):
    """The mean of ``parts``; a part that does not apply is absent."""

    value: float
    parts: dict[str, float]


def near_duplicates(
    texts: Sequence[str], threshold: float = 0.7
) -> list[tuple[int, int, float]]:
    """All pairs (i, j, similarity), i < j, that are at least ``threshold`` alike.

    Similarity is the Jaccard index of the sets of 3-character shingles, folded and
    hashed as in ``shingles``. Every pair is found: sets that similar share one of
    their rarest shingles (prefix filter), so only those that do are compared.
    Source: Bayardo, Ma and Srikant 2007, "Scaling Up All Pairs Similarity Search".
    Raises: ValueError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold}: give a share above 0, at most 1")
    sets = _ranked_sets(texts)
    index: dict[int, list[int]] = defaultdict(list)
    found = []
    for i in sorted(range(len(texts)), key=lambda k: (len(sets[k]), k)):
        ours, size = set(sets[i]), len(sets[i])
        least = math.ceil(threshold * size - 1e-9)  # shared by any similar set
        prefix = sets[i][: size - least + 1]
        for j in {j for rank in prefix for j in index[rank] if len(sets[j]) >= least}:
            shared = len(ours.intersection(sets[j]))
            similarity = shared / (size + len(sets[j]) - shared)
            if similarity >= threshold:
                found.append((min(i, j), max(i, j), similarity))
        for rank in prefix:
            index[rank].append(i)
    return sorted(found)


def _ranked_sets(texts: Sequence[str]) -> list[list[int]]:
    """Each text's shingles as numbers by rarity, the rarest (0) first."""
    hashed = [shingle_set(text, NGRAM) for text in texts]
    if not hashed:
        return []
    _, inverse, counts = np.unique(
        np.concatenate(hashed), return_inverse=True, return_counts=True
    )
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    ends = np.cumsum([len(h) for h in hashed])[:-1]
    return [np.sort(part).tolist() for part in np.split(rank[inverse], ends)]


def near_duplicate_rate(
    texts: Sequence[str], threshold: float = 0.7, against: Sequence[str] = ()
) -> float:
    """Share of ``texts`` that repeat an earlier one; with ``against``, one of those.

    Example: two equal texts have the rate 0.5. 0 for no texts.
    """
    pairs = near_duplicates([*against, *texts], threshold)
    start = len(against)
    repeats = {j for i, j, _ in pairs if j >= start and (i < start) == (start > 0)}
    return len(repeats) / max(1, len(texts))


def entropy(counts: Iterable[int]) -> float:
    """Bits of the distribution with these counts: 2 for four equal ones, 0 for one."""
    counts = [c for c in counts if c]
    return sum(c / sum(counts) * math.log2(sum(counts) / c) for c in counts)


def request_of(question: str) -> str:
    """The kind of request (a key of ``REQUESTS``) whose words come first, or 其他."""
    found = _REQUEST.search(question)
    return found.lastgroup if found else "其他"


def diversity(items: Sequence[Instruction]) -> dict[str, object]:
    """How varied a set is.

    Returns: items; tasks {name: items}, task_bits (their entropy) and task_evenness
    (entropy over that of equal shares, 0 to 1); requests {kind: items} and
    request_bits; multi_turn (share with more than one user turn); question_chars and
    answer_chars {quantile: characters} of first question and last answer.
    Raises: ValueError for an empty set.
    """
    if not items:
        raise ValueError("diversity of no items: give at least one")
    tasks = Counter(item.task for item in items)
    requests = Counter(request_of(question_of(item)) for item in items)
    turns = [sum(t.role == "user" for t in item.messages) for item in items]
    lengths = (
        [len(question_of(item)) for item in items],
        [len(item.messages[-1].content) for item in items],
    )
    question, answer = (
        dict(zip(QUANTILES, np.quantile(part, QUANTILES).tolist(), strict=True))
        for part in lengths
    )
    return {
        "items": len(items),
        "tasks": dict(sorted(tasks.items())),
        "task_bits": entropy(tasks.values()),
        "task_evenness": entropy(tasks.values()) / max(1.0, math.log2(len(tasks))),
        "requests": dict(sorted(requests.items(), key=lambda r: (-r[1], r[0]))),
        "request_bits": entropy(requests.values()),
        "multi_turn": sum(t > 1 for t in turns) / len(items),
        "question_chars": question,
        "answer_chars": answer,
    }


def coverage(
    texts: Sequence[str],
    reference: Sequence[str],
    rng: random.Random,
    num_cells: int = 20,
    dimensions: int = 64,
) -> dict[str, float]:
    """How far ``texts`` spread, and how much of ``reference`` they reach.

    Texts become TF-IDF vectors of 2 to 3 characters, reduced by truncated SVD and
    scaled to length 1; distances are cosine. Both are fitted on the reference alone, so
    sets of equal size compared with one reference and seed can be compared.
    Returns: spread (mean distance of a text to its nearest other text), reach (mean
    distance of a reference text to the nearest text) and cells (share of the k-means
    cells of the reference that some text lies in: nearest to that centre, and no
    farther from it than the median reference text of the cell).
    Raises: ValueError for fewer than two texts, or fewer references than cells.
    """
    if len(texts) < 2 or len(set(reference)) < num_cells:
        raise ValueError(
            f"coverage of {len(texts)} texts by {len(reference)} references with "
            f"num_cells={num_cells}: give two texts or more, and as many different "
            "references as cells"
        )
    from sklearn.cluster import KMeans
    from sklearn.neighbors import NearestNeighbors

    ours, theirs = _vectors(texts, reference, dimensions, rng)
    near = NearestNeighbors(metric="cosine", algorithm="brute").fit(ours)
    cells = KMeans(num_cells, n_init=4, random_state=rng.randrange(2**32)).fit(theirs)
    far, own = cells.transform(theirs), cells.transform(ours)
    radius = [np.median(far[cells.labels_ == c, c]) for c in range(num_cells)]
    home = own.argmin(axis=1)
    inside = own.min(axis=1) <= np.array(radius)[home] + 1e-9
    inside &= ours.any(axis=1)  # a text that shares nothing lies nowhere
    return {
        "spread": float(near.kneighbors(n_neighbors=1)[0].mean()),
        "reach": float(near.kneighbors(theirs, n_neighbors=1)[0].mean()),
        "cells": len(set(home[inside].tolist())) / num_cells,
    }


def _vectors(
    texts: Sequence[str], reference: Sequence[str], dimensions: int, rng: random.Random
) -> tuple[np.ndarray, np.ndarray]:
    """(texts, d) and (references, d) of length 1, or 0 where no n-gram is shared."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    tfidf = TfidfVectorizer(analyzer="char", ngram_range=(2, 3), max_features=50_000)
    weights = tfidf.fit_transform(fold_texts(reference))
    size = max(1, min(dimensions, *(n - 1 for n in weights.shape)))
    svd = TruncatedSVD(size, random_state=rng.randrange(2**32)).fit(weights)
    others = svd.transform(tfidf.transform(fold_texts(texts)))
    return normalize(others), normalize(svd.transform(weights))


def read_exams(paths: Iterable[str | Path] = DATA_FILES) -> dict[str, str]:
    """{id: text asked} of exam files, or folders of them; id#2 is a second turn."""
    places = [_ROOT / path for path in paths]
    files = [f for p in places for f in (sorted(p.glob("*.jsonl")) or [p])]
    found = {}
    for row in (row for file in files for row in read_lines(file)):
        asked = [row[k] for k in ("passage", "prompt", "question") if k in row]
        for number, text in enumerate([*row.get("turns", ()), *asked], 1):
            found[row["id"] + f"#{number}" * (number > 1)] = text
    return found


def contaminated(
    items: Iterable[Instruction], exams: Mapping[str, str], n: int = 13
) -> list[Contact]:
    """Each item and exam question that share text, with the longest shared part.

    Shared is a window of ``n`` folded characters within one turn (three times as many
    where the exam question is mostly Latin), or a whole shorter question of at least 6.
    A window of two exam questions counts for the first.
    """
    windows: dict[str, str] = {}
    sizes = set()
    for key, text in zip(exams, fold_texts(list(exams.values())), strict=True):
        latin = sum(c.isascii() for c in text) > 0.8 * len(text)
        size = min(n * (LATIN_FACTOR if latin else 1), len(text))
        if size >= _SHORTEST:
            sizes.add(size)
            for start in range(len(text) - size + 1):
                windows.setdefault(text[start : start + size], key)
    longest: dict[tuple[str, str], str] = {}
    for item in items:
        for turn in fold_texts([t.content for t in item.messages]):
            for key, text in _shared(turn, windows, sizes):
                known = longest.get((item.id, key), "")
                longest[item.id, key] = max(known, text, key=len)
    return [Contact(*key, text) for key, text in longest.items()]


def _shared(
    turn: str, windows: Mapping[str, str], sizes: Iterable[int]
) -> Iterable[tuple[str, str]]:
    """(exam, text) of every run of neighbouring windows that one exam question has."""
    for size in sorted(sizes):
        start, key = 0, None
        for place in range(len(turn) - size + 2):
            inside = place + size <= len(turn)
            here = windows.get(turn[place : place + size]) if inside else None
            if here != key:
                if key:
                    yield key, turn[start : place + size - 1]
                start, key = place, here


def contamination_report(
    items: Sequence[Instruction], exams: Mapping[str, str], n: int = 13
) -> dict[str, object]:
    """Counts of ``contaminated``: items, exams, window, contacts, item_ids, share."""
    found = contaminated(items, exams, n)
    ids = sorted({contact.item for contact in found})
    return {
        "items": len(items), "exams": len(exams), "window": n, "contacts": len(found),
        "item_ids": ids, "share": len(ids) / max(1, len(items)),
    }  # fmt: skip


def score_item(item: Instruction) -> Score:
    """Signs of a usable last answer, each in [0, 1], and their mean.

    on_topic: the answer repeats a quarter of the question's character pairs, or fewer
    in proportion. length: 1 within the range usual for the task, falling outside.
    ending: it ends a sentence (JSON, tables and the like may end as they do). clean:
    the turns make a conversation without broken or private characters. articles: share
    of cited articles that the named law in force has. figures: share of the answer's
    figures that were given, stand behind a written sum that is true, or follow from two
    such figures by one operation. The last two are absent where nothing is cited or
    stated.
    It cannot see whether the answer is true, complete, polite or lawful, whether a
    cited article says what is claimed, or whether a sum is the right one to do; an
    answer in other words than the question's scores low on_topic. Use it to find items
    to read first, not to accept any.
    """
    answer, task = item.messages[-1].content, item.task
    asked = next(t.content for t in reversed(item.messages) if t.role == "user")
    parts = {
        "on_topic": min(1.0, question_overlap(asked, answer) / MIN_OVERLAP),
        "length": _length(task, len(answer)),
        "ending": float(_ends(task, answer)),
        "clean": float(_clean(item)),
    }
    if cited := cited_articles(item.messages):
        parts["articles"] = sum(exists for *_, exists in cited) / len(cited)
    given = "\n".join(turn.content for turn in item.messages[:-1])
    if (share := supported_figures(given, answer)) is not None:
        parts["figures"] = share
    return Score(sum(parts.values()) / len(parts), parts)


def _length(task: str, chars: int) -> float:
    low = 1 if any(name in task for name in _SHORT_ANSWER) else 8
    return min(1.0, chars / low, 400 / max(1, chars))


def _ends(task: str, answer: str) -> bool:
    free = any(name in task for name in _FREE_ENDING)
    return free or answer.rstrip()[-1:] in tuple("。！？!?.…；”』」）)]}|`")


def _clean(item: Instruction) -> bool:
    if _BAD_CHARACTERS.search(conversation_text(item)):
        return False
    try:
        require_conversation(item.messages, item.id)
    except ValueError:
        return False
    return True


def no_item_in_two_splits(splits: Mapping[str, Sequence[Instruction]]) -> None:
    """Compares splits by id, source and first question (spaces and end marks aside).

    Training stages draw from the same texts: pass them as one split. A source of two
    parts (a+b) counts as both; computed-<n> is a counter, not a source.
    Raises: ValueError naming the items that stand in two splits, and by what.
    """
    owner: dict[tuple[str, str], tuple[str, str]] = {}
    faults = []
    for name, items in splits.items():
        for item in items:
            parts = item.source.split("+")
            keys = [("id", item.id), ("question", _plain(question_of(item)))]
            keys += [("source", p) for p in parts if not p.startswith("computed")]
            for key in keys:
                split, other = owner.setdefault(key, (name, item.id))
                if split != name:
                    faults.append(
                        f"{item.id} ({name}) and {other} ({split}): same {key[0]}"
                    )
    if faults:
        raise ValueError(
            f"{len(faults)} times an item stands in two splits, beginning with "
            f"{'; '.join(faults[:10])}; leave each in one"
        )


def _plain(question: str) -> str:
    """Keeps signs such as + and ×, without which two sums look the same."""
    text = unicodedata.normalize("NFKC", question).lower()
    return re.sub(r"[\s。、?!;:\"'“”‘’]", "", text)
