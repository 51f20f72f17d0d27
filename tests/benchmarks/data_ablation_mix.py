"""The text of ``data_ablation``: two raw mixes, and the five arms of each.

``natural`` is what we have: shipped training text, with every copy that the review
corpus holds of a review, and the gold files of the half ``dev``. ``planted`` is the same
plus dirt that we made, in the stated shares, until two thirds of the characters are
dirt: the talk keeps 32% of raw Chinese web text. Its shares are our assumption, not a
measurement of the web, and its advertisements come from files that the filters were
set on; it shows how each step works, not how well it does on new dirt.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from finllm_utils.config import DataConfig
from finllm_utils.corpora.sources import training_sources
from finllm_utils.corpora.splits import stable_order, text_key
from finllm_utils.data.decontaminate import HeldoutIndex, remove_overlaps
from finllm_utils.data.extract import read_file
from finllm_utils.data.filters import strip_boilerplate
from finllm_utils.data.gold import RAW_FOLDER, read_gold
from finllm_utils.data.normalize import normalize
from finllm_utils.data.pii import mask_pii
from finllm_utils.data.pipeline import clean_corpus
from finllm_utils.profiles import load_profile
from finllm_utils.records import Document, read_records
from tests.benchmarks.cleaning_checks import near_copy

ARMS = ("raw", "filtered", "dedup_class", "dedup_global", "ranked")
DOMAINS = ("general_zh", "finance_zh")
DIRT = {
    "copy": 0.40, "menu": 0.15, "advertisement": 0.15, "mojibake": 0.12,
    "symbols": 0.10, "stuffing": 0.08,
}  # fmt: skip
"""Share of the planted characters by kind."""
ELSEWHERE = 0.25  # of the copies stand in the other domain: what global dedup is for
EXACT = 0.3  # of the copies are equal to the original
BATCH = 256
_NAVIGATION = (
    "首页 新闻 财经 股票 基金 保险 理财 银行 外汇 期货 债券 房产 汽车 科技 教育 体育 娱乐 "
    "视频 图片 专题 论坛 博客 搜索 登录 注册 会员中心 客服热线 手机版 收藏本站 设为首页 "
    "网站地图 联系我们 关于我们 广告服务 诚聘英才 友情链接 意见反馈 上一页 下一页 返回顶部"
).split()
_FEET = (
    "版权所有 未经许可不得转载", "京ICP备{n}号 京公网安备{n}号", "责任编辑：{n}",
    "点击数：{n} 评论：{n} 分享到：微信 微博 QQ空间", "免责声明：本网站内容仅供参考",
    "违法和不良信息举报电话：{n}", "相关阅读 热门推荐 猜你喜欢 更多>>",
)  # fmt: skip
_SYMBOLS = "★☆◆◇●○■□▲△※→←↑↓│─┌┐└┘═║▓░|/\\_-=+*#~^<>[]{}@$%&0123456789.,:; "
_SENTENCE = re.compile(r"[^。！？!?\n]+[。！？!?\n]?")


def natural_mix(chars: int, seed: int) -> list[Document]:
    """About ``chars`` characters of each domain, and the dev gold files, shuffled."""
    config = load_profile("toy", {
        "data.chars_general_zh": chars, "data.chars_finance_zh": chars,
        "data.shipped": DOMAINS,
    }).data  # fmt: skip
    documents = list(training_sources(config))
    budget = sum(len(d.text) for d in documents if d.source == "reviews")
    documents = [d for d in documents if d.source != "reviews"]
    documents += [*_reviews_with_copies(budget), *gold_documents()]
    random.Random(seed).shuffle(documents)
    return documents


def _reviews_with_copies(chars: int) -> list[Document]:
    """Reviews drawn by text, every copy of a drawn text with it."""
    config = load_profile("toy", {
        "data.chars_general_zh": 10**9, "data.shipped": DOMAINS[:1],
    }).data  # fmt: skip
    groups: dict[str, list[Document]] = {}
    for document in training_sources(config):
        if document.source == "reviews":
            groups.setdefault(text_key(document.text), []).append(document)
    chosen: list[Document] = []
    for key in stable_order(groups, "ablation"):
        if chars <= 0:
            break
        chosen += groups[key]
        chars -= sum(len(document.text) for document in groups[key])
    return chosen


@cache
def gold_documents() -> tuple[Document, ...]:
    """The readable gold files of the half ``dev``, clean and dirty, as read."""
    documents = []
    for item in read_gold():
        if item.half == "dev":
            try:
                text, meta = read_file(RAW_FOLDER / item.file)
            except ValueError:  # planted: scanned, empty
                continue
            key = f"raw/{item.file}"
            row = Document(
                id=key, text=text, source="raw", domain=item.domain, meta=meta
            )
            documents.append(row)
    return tuple(documents)


def planted_mix(natural: Sequence[Document], share: float, seed: int) -> list[Document]:
    """``natural`` with planted dirt that makes up ``share`` of all characters."""
    rng = random.Random(seed)
    clean = [d for d in natural if d.source != "raw" and len(d.text) >= 80]
    pool = [d.text for d in clean]
    sentences = _dirty_sentences()
    makers: dict[str, Callable[[], str]] = {
        "menu": lambda: _menu(rng),
        "advertisement": lambda: _advertisement(sentences, rng),
        "mojibake": lambda: _mojibake(rng.choice(pool), rng),
        "symbols": lambda: _symbols(rng),
        "stuffing": lambda: _stuffing(sentences, rng),
    }
    planted: list[Document] = []
    for domain in DOMAINS:
        own = [d for d in clean if d.domain == domain]
        chars = sum(len(d.text) for d in natural if d.domain == domain)
        for kind, part in DIRT.items():
            left = chars * share / (1 - share) * part
            while left > 0:
                if kind == "copy":
                    made = _copies(rng.choice(own), pool, left, rng)
                else:
                    made = [_document(makers[kind](), kind, domain)]
                planted += made
                left -= sum(len(d.text) for d in made)
    numbered = [replace(d, id=f"planted/{d.source}/{i}") for i, d in enumerate(planted)]
    mixed = [*natural, *numbered]
    rng.shuffle(mixed)
    return mixed


def _document(text: str, kind: str, domain: str) -> Document:
    return Document(id="", text=text, source=f"planted_{kind}", domain=domain)


def _copies(
    original: Document, pool: Sequence[str], chars: float, rng: random.Random
) -> list[Document]:
    """Copies of one text: mostly a few, sometimes dozens, as reprints are."""
    number = min(40, int(rng.paretovariate(0.8)), 1 + int(chars / len(original.text)))
    made = []
    for _ in range(number):
        text, domain = original.text, original.domain
        if rng.random() >= EXACT:
            text, _ = near_copy(text[:3_000], 0.85, 1.0, pool, rng)
        if rng.random() < ELSEWHERE:
            domain = DOMAINS[domain == DOMAINS[0]]
        made.append(_document(text, "copy", domain))
    return made


def _dirty_sentences() -> list[str]:
    """Sentences of the dev gold files whose fault is what they say."""
    wanted = {"gambling_fraud", "seo_spam", "machine_generated"}
    names = {f"raw/{g.file}" for g in read_gold() if wanted & set(g.faults)}
    texts = [d.text for d in gold_documents() if d.id in names]
    found = [s.strip() for text in texts for s in _SENTENCE.findall(text)]
    return sorted({s for s in found if 8 <= len(s) <= 120})


def _menu(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(8, 24)):
        if rng.random() < 0.3:
            lines.append(rng.choice(_FEET).format(n=rng.randrange(10**6, 10**8)))
        else:
            lines.append(" | ".join(rng.sample(_NAVIGATION, rng.randint(4, 12))))
    return "\n".join(lines)


def _advertisement(sentences: Sequence[str], rng: random.Random) -> str:
    return "\n".join(rng.sample(sentences, min(len(sentences), rng.randint(5, 15))))


def _mojibake(text: str, rng: random.Random) -> str:
    """UTF-8 read as GB18030 or Windows Latin, with bytes lost on the way."""
    data = bytearray(text.encode("utf-8")[:1_800])
    for _ in range(max(3, len(data) // 60)):
        del data[rng.randrange(len(data))]
    encoding = rng.choice(("gb18030", "gb18030", "cp1252"))
    return bytes(data).decode(encoding, errors="replace")


def _symbols(rng: random.Random) -> str:
    return "".join(
        "\n" if rng.random() < 0.03 else rng.choice(_SYMBOLS)
        for _ in range(rng.randint(200, 1_200))
    )


def _stuffing(sentences: Sequence[str], rng: random.Random) -> str:
    phrases = [rng.choice(sentences)[:24] for _ in range(rng.randint(1, 3))]
    return "，".join(rng.choice(phrases) for _ in range(rng.randint(15, 50)))


def make_arms(
    items: Sequence[Document],
    config: DataConfig,
    *,
    heldout: Sequence[str],
    folder: Path,
    num_workers: int,
    keep_top_share: float,
    models: Path | None,
) -> dict[str, list[Document]]:
    """The documents that are left after each group of steps, each arm within the last.

    raw: normalised, without lines that hold a held-out window, whatever the source (the
    chain is milder to statutes); every other arm is made from it. filtered: without
    what the chain drops before dedup, page furniture cut and personal data masked.
    dedup_class, dedup_global: without what these drop; template sentences are cut.
    ranked: the chain again on dedup_global with ``keep_top_share``.
    Raises: ValueError when the chain's output and its list of drops disagree.
    """
    index = HeldoutIndex.build(heldout, config.decontamination_ngram)
    arms = {"raw": _decontaminated(items, _raw_text, index)}
    rejected, finished = _clean(
        arms["raw"], config, heldout, folder, num_workers, models
    )
    gone: dict[str, set[str]] = {arm: set() for arm in ARMS[1:4]}
    for row in rejected:
        stage = next((a for a in ARMS[2:4] if row["step"].startswith(a)), "filtered")
        gone[stage].add(row["id"])
    for before, arm in zip(ARMS, ARMS[1:4], strict=False):
        left = [d for d in arms[before] if d.id not in gone[arm]]
        if arm != "filtered":  # template sentences are cut from what stays
            left = [replace(d, text=finished.get(d.id, d.text)) for d in left]
        arms[arm] = _decontaminated(left, _filtered_text, index)
    if strangers := [d.id for d in arms["dedup_global"] if d.id not in finished]:
        raise ValueError(f"neither dropped nor in the corpus: {strangers[:5]}")
    again = replace(config, keep_top_share=keep_top_share, template_min_docs=0)
    _, best = _clean(arms["dedup_global"], again, heldout, folder, num_workers, models)
    arms["ranked"] = [d for d in arms["dedup_global"] if d.id in best]
    return arms


def _clean(
    items: Iterable[Document], config: DataConfig, heldout: Sequence[str],
    folder: Path, num_workers: int, models: Path | None,
) -> tuple[list[dict], dict[str, str]]:  # fmt: skip
    """What the chain dropped, and the text of what it kept, by id."""
    output = folder / "output"
    output.mkdir(parents=True, exist_ok=True)
    rejected, _ = clean_corpus(
        items, config, heldout=heldout, output=output, work_dir=folder / "work",
        num_workers=num_workers, models=models,
    )  # fmt: skip
    paths = [output / f"{domain}.jsonl" for domain in DOMAINS]
    paths = [path for path in paths if path.stat().st_size]
    return rejected, {d.id: d.text for p in paths for d in read_records(p, Document)}


def _raw_text(text: str) -> str:
    return normalize(text, {})[0]


def _filtered_text(text: str) -> str:
    return mask_pii(strip_boilerplate(text)[0])[0]


def _decontaminated(
    documents: Sequence[Document], change: Callable[[str], str], index: HeldoutIndex
) -> list[Document]:
    """Documents with changed text, cut or dropped where it is held-out text."""
    kept = []
    for start in range(0, len(documents), BATCH):
        batch = documents[start : start + BATCH]
        found = remove_overlaps([change(d.text) for d in batch], index)
        for document, (keep, _, text) in zip(batch, found, strict=True):
            if keep and text:
                kept.append(replace(document, text=text))
    return kept


def describe(arms: dict[str, list[Document]]) -> dict[str, dict]:
    """For each arm: documents, characters, share of raw's, planted share, sources."""
    raw = sum(len(d.text) for d in arms["raw"])
    notes = {}
    for arm, documents in arms.items():
        chars: Counter = Counter()
        for document in documents:
            chars[document.source] += len(document.text)
        total = chars.total()
        dirt = {s: n for s, n in sorted(chars.items()) if s.startswith("planted_")}
        notes[arm] = {
            "documents": len(documents),
            "chars": total,
            "share_of_raw": round(total / raw, 3),
            "planted_share": round(sum(dirt.values()) / max(total, 1), 3),
            "chars_by_source": dict(sorted(chars.items())),
        }
    return notes
