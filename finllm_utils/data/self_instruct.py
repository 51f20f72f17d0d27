"""New instructions from a few seeds: a model writes them, the filters judge them.

Three requests: new tasks like k seeds (self-instruct), a seed made harder or moved
(evolve), and answers from one article of law alone. What comes out has passed
``generated_filters``; nothing is repaired and nothing skips them. Notebook 05 calls
this with a recorded transcript, or with any model of ``chat_source``.
Source: Self-Instruct, arXiv 2212.10560; Evol-Instruct, arXiv 2304.12244.
Differs: the prompts are our own, in Chinese, and an answer comes with its question.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, zip_longest
from pathlib import Path

from finllm_utils.corpora.sources import training_laws
from finllm_utils.data.chat_source import Complete, masked, request_sha256
from finllm_utils.data.generated_filters import GeneratedFilter, Verdict
from finllm_utils.data.instructions import is_heldout
from finllm_utils.data.own_items import ITEMS_FOLDER, read_own_items, split_of
from finllm_utils.data.wordings import Source
from finllm_utils.records import ChatTurn, Instruction

DATA_FILES = ("data_samples/instructions/self_instruct_transcript.jsonl",)
TRANSCRIPT = Path(__file__).resolve().parents[2] / DATA_FILES[0]
AREAS = {
    "banking": "银行存贷与票据",
    "insurance": "保险",
    "funds": "基金与理财",
    "tax": "财税",
    "credit": "信贷与风险管理",
    "compliance": "合规与反洗钱",
    "securities": "证券投资",
    "payments": "支付结算",
    "office": "金融办公文书",
}
"""Seed files and what their area is called in a prompt."""
EVOLUTIONS = {
    "deepen": "把题目加深：需要多想一两步，或要比较两种情形，才能答对",
    "constrain": "给题目加一个限制：时间、金额、对象或输出格式，答案要遵守它",
    "concretise": "把题目写具体：换成有数字、有人物身份的真实场景，答案给出具体做法",
    "transfer": "把题目移到另一种金融产品或业务上，考的道理不变，情景和数字全换",
}
"""Ways to evolve a seed, with the order that the prompt gives."""
_SYSTEM = ChatTurn(
    role="system",
    content="你是金融培训教材的作者，只写真实、可核对的内容，用简体中文。不编造法条、数据"
    "和产品，不承诺收益；引用法律时写明法律名称和条号，没有把握就不引用。",
)
_FORM = (
    "每道题写成一行 JSON，只有 question 和 answer 两个字段，值都是字符串，换行写成 "
    "\\n。不要编号，不要代码块，不要其他文字。"
)
_CARE = (
    "问题像真人提的，脱离上文也能看懂；答案先给结论，再说理由，句子完整，"
    "不超过 300 字；计算要写出算式，逐步算对。"
)


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt. ``method``: self_instruct, answer, or a key of ``EVOLUTIONS``.

    ``passage`` is the only source that answers may use; None when there is none.
    """

    method: str
    messages: tuple[ChatTurn, ...]
    seeds: tuple[str, ...]
    passage: Source | None = None


def self_instruct_request(
    seeds: Sequence[Instruction], number: int, area: str
) -> Request:
    """Asks for ``number`` new tasks of an area, unlike the seeds that it shows.

    Raises: ValueError without seeds, or when number is not positive.
    """
    if not seeds or number < 1:
        raise ValueError(
            f"{len(seeds)} seeds, number={number}: give at least one of both"
        )
    shown = "\n\n".join(f"例{i}\n{_shown(seed)}" for i, seed in enumerate(seeds, 1))
    text = (
        f"下面是“{area}”方面的例题。\n\n{shown}\n\n请另写 {number} 道这方面的新题并作答"
        f"：题型和情景各不相同，也不与例题雷同。{_CARE}\n{_FORM}"
    )
    return _request("self_instruct", text, tuple(seed.source for seed in seeds))


def evolve_request(seed: Instruction, how: str) -> Request:
    """Asks for one task that the seed becomes; ``how`` is a key of ``EVOLUTIONS``.

    Raises: ValueError for another ``how``.
    """
    if how not in EVOLUTIONS:
        raise ValueError(f"how={how!r}: use one of {', '.join(EVOLUTIONS)}")
    text = (
        f"这是一道题和它的答案。\n\n{_shown(seed)}\n\n请改写成一道新题并作答。"
        f"{EVOLUTIONS[how]}。重新措辞，不要照抄原题。{_CARE}\n{_FORM}"
    )
    return _request(how, text, (seed.source,))


def answer_request(passage: Source, number: int = 2, question: str = "") -> Request:
    """Asks for answers from one article of law; its label is cited, 保险法第十六条.

    Args: question is answered if given; else the model thinks of ``number`` of them.
    Raises: ValueError when the label names no article.
    """
    law, found, article = passage.label.rpartition("第")
    if not found:
        raise ValueError(
            f"passage {passage.id!r}: label {passage.label!r} names no article; write "
            "law and number, such as 保险法第十六条"
        )
    wanted = f"回答这个问题：{question}" if question else (
        f"写出 {number} 个客户或员工会问、这一条能回答的问题，并作答"
    )  # fmt: skip
    text = (
        f"《{law}》第{article}：\n{passage.text}\n\n请只依据这一条，{wanted}。答案要写明出自"
        f"《{law}》第{article}，不引别的条文，不加条文里没有的数字。{_CARE}\n{_FORM}"
    )
    return _request("answer", text, (passage.id,), passage)


def _shown(seed: Instruction) -> str:
    question, answer = (turn.content for turn in seed.messages[-2:])
    return f"【题目】{question}\n【答案】{answer}"


def _request(
    method: str, text: str, seeds: tuple[str, ...], passage: Source | None = None
) -> Request:
    turns = (_SYSTEM, ChatTurn(role="user", content=text))
    return Request(method, turns, seeds, passage)


_BEFORE_ITEM = re.compile(
    r"(?:\s|```\w*|[\[\],]|[-*•]\s|[(（]?\d{1,3}[.、:：)）]|第?\d{1,3}[题条][:：]?)*"
)
_FIELDS = {"question", "answer"}


def parse_items(completion: str) -> list[tuple[str, str] | None]:
    """(question, answer) of each JSON object, None where one cannot be used.

    Numbers, bullets, code fences and a list around the objects are passed over, and so
    is prose between them. An object must have both fields, no other, and text in each;
    one that is cut off or broken is None, and the search goes on in the next line.
    """
    found: list[tuple[str, str] | None] = []
    place, decoder = 0, json.JSONDecoder()
    while True:
        place = _BEFORE_ITEM.match(completion, place).end()
        if place >= len(completion):
            return found
        line_end = completion.find("\n", place)
        line_end = len(completion) if line_end < 0 else line_end
        if completion[place] != "{":
            place = line_end
            continue
        try:
            value, place = decoder.raw_decode(completion, place)
        except json.JSONDecodeError:
            value, place = None, line_end
        found.append(_item(value))


def _item(value: object) -> tuple[str, str] | None:
    if not isinstance(value, dict) or set(value) != _FIELDS:
        return None
    question, answer = value["question"], value["answer"]
    if not (isinstance(question, str) and isinstance(answer, str)):
        return None
    return (question.strip(), answer.strip()) if question.strip() else None


@dataclass(frozen=True, slots=True)
class Generated:
    """What came of a list of requests.

    ``rejected`` holds each refused item with its verdict; ``counts`` all items by
    reason, with "unparsable" for objects that could not be read and "no item" for
    completions that held none.
    """

    kept: tuple[Instruction, ...]
    rejected: tuple[tuple[Instruction, Verdict], ...]
    counts: dict[str, int]


def generate(
    requests: Iterable[Request], complete: Complete, judge: GeneratedFilter, model: str
) -> Generated:
    """Asks every request and keeps what ``judge`` lets pass.

    Args: model is the name that stands in the source of each item.
    Raises: what ``complete`` raises when no answer came.
    """
    kept, rejected, counts = [], [], Counter()
    for request in requests:
        parsed = parse_items(complete(request.messages))
        counts["no item"] += not parsed
        for number, pair in enumerate(parsed, 1):
            if pair is None:
                counts["unparsable"] += 1
                continue
            item = _instruction(request, number, *pair, model)
            verdict = judge.verdict(item, request.passage)
            counts[verdict.reason or "kept"] += 1
            if verdict.reason:
                rejected.append((item, verdict))
            else:
                kept.append(item)
    return Generated(
        tuple(kept), tuple(rejected), {k: n for k, n in counts.items() if n}
    )


def _instruction(
    request: Request, number: int, question: str, answer: str, model: str
) -> Instruction:
    """The item with its provenance: seeds, method and model in ``source``."""
    task = "evolved" if request.method in EVOLUTIONS else "self_instruct"
    key = request_sha256(request.messages)[:12]
    return Instruction(
        id=f"{task}/{key}/{number}",
        messages=(
            ChatTurn(role="user", content=question),
            ChatTurn(role="assistant", content=answer),
        ),
        task=task,
        domain="finance",
        source=f"{'+'.join(request.seeds)} {request.method} {model}",
    )


def read_seeds(folder: Path = ITEMS_FOLDER) -> dict[str, list[Instruction]]:
    """Our own items by area: one turn, not to be declined, not held out.

    Raises: ValueError naming file and line of what is wrong, see ``read_own_items``.
    """
    found: dict[str, list[Instruction]] = {area: [] for area in AREAS}
    for item in read_own_items(folder):
        usable = item.kind == "single" and item.task != "refuse"
        if item.area in found and usable and split_of(item) == "train":
            found[item.area].append(item.to_instruction())
    return found


def training_passages(low: int = 40, high: int = 200) -> list[Source]:
    """Articles of finance laws of ``low`` to ``high`` characters, none held out."""
    return [
        Source(f"laws/{law.name}/{a.number_zh}", a.text, law.short_name + a.number_zh)
        for law in training_laws()
        if law.is_finance
        for a in law.articles
        if a.number_zh.startswith("第") and low <= len(a.text) <= high
        if not is_heldout(f"laws/{law.name}/{a.number_zh}")
    ]


def plan_requests(
    seeds: Mapping[str, Sequence[Instruction]],
    passages: Sequence[Source],
    rng: random.Random,
    *,
    per_area: int = 2,
    num_shown: int = 3,
    num_new: int = 5,
    num_evolved: int = 16,
) -> list[Request]:
    """Requests of all three kinds, seeds drawn by ``rng`` and none shown twice.

    Args: seeds by area; each area gets ``per_area`` requests that show ``num_shown``
    seeds and ask for ``num_new`` tasks, ``num_evolved`` seeds are evolved, the areas
    taking turns, and every passage gets one request.
    Raises: ValueError naming the area that has too few seeds.
    """
    found, left = [], []
    for area, pool in seeds.items():
        if len(pool) < per_area * num_shown:
            raise ValueError(
                f"{area}: {len(pool)} seeds for {per_area} requests of {num_shown}; "
                "add seeds, or lower per_area or num_shown"
            )
        drawn = rng.sample(list(pool), len(pool))
        for i in range(0, per_area * num_shown, num_shown):
            part = drawn[i : i + num_shown]
            found.append(self_instruct_request(part, num_new, AREAS.get(area, area)))
        left.append(drawn[per_area * num_shown :])
    turns = [seed for row in zip_longest(*left) for seed in row if seed is not None]
    hows = cycle(EVOLUTIONS)
    found += [evolve_request(seed, next(hows)) for seed in turns[:num_evolved]]
    return found + [answer_request(passage) for passage in passages]


_RECORDED_SEEDS = 10  # of each area, the first of its file
_RECORDED_ARTICLES = (
    "保险法第二十四条", "保险法第二十六条", "保险法第四十条", "商业银行法第四十条",
    "票据法第四十一条", "票据法第九条", "期货和衍生品法第十八条", "信托法第三十五条",
    "会计法第三十五条", "社会保险法第六十二条", "税收征收管理法第三十二条",
)  # fmt: skip


def recorded_seeds() -> list[Request]:
    """The requests whose completions ``TRANSCRIPT`` holds, from the first seeds.

    Raises: ValueError naming the article when the laws no longer have one.
    """
    seeds = {}
    for area, pool in read_seeds().items():  # masked ones would hang on rules of pii
        clear = [seed for seed in pool if masked(seed.messages) == seed.messages]
        seeds[area] = clear[:_RECORDED_SEEDS]
    passages = {passage.label: passage for passage in training_passages()}
    if missing := [label for label in _RECORDED_ARTICLES if label not in passages]:
        raise ValueError(
            f"{missing[0]} is not among the training passages; choose another article "
            f"in _RECORDED_ARTICLES and record {TRANSCRIPT.name} again"
        )
    chosen = [passages[label] for label in _RECORDED_ARTICLES]
    return plan_requests(seeds, chosen, random.Random(0))
