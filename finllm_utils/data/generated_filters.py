"""What a generated instruction must pass before anyone may train on it.

Each check returns what it found, or an empty string. Checks by program find what can be
looked up or computed: an answer that is wrong in other ways passes, so people read a
sample of what was kept. ``self_instruct`` calls this; nothing is repaired.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from finllm_utils.corpora.laws import Law
from finllm_utils.data.citations import ArticleBook
from finllm_utils.data.instruction_gate import Gate
from finllm_utils.data.wordings import Source, chinese_number
from finllm_utils.finance.expression import evaluate
from finllm_utils.records import Instruction

REASONS = (
    "length", "refusal", "language", "broken", "similar", "promise", "unknown law",
    "article", "quote", "arithmetic", "off source", "held-out",
)  # fmt: skip
"""Why an item is refused, in the order of the checks."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in characters, and shares from 0 to 1."""

    question_chars: tuple[int, int] = (6, 400)
    answer_chars: tuple[int, int] = (10, 1_000)
    similarity: float = 0.7  # ROUGE-L; Source: arXiv 2212.10560, section 2.2
    min_chinese: float = 0.5  # Chinese characters over these and foreign words


class Verdict(NamedTuple):
    """Why an item is refused, of ``REASONS``, and what was found; empty if kept."""

    reason: str = ""
    detail: str = ""


class GeneratedFilter:
    """Judges items one after the other; each kept one joins those to differ from.

    ``counts`` holds items by reason, "kept" among them.
    """

    def __init__(
        self,
        seeds: Iterable[str],
        laws: Iterable[Law],
        gate: Gate,
        limits: Limits = Limits(),  # noqa: B008  (frozen)
    ) -> None:
        """Takes the seeds' questions, the laws that may be cited, and the exam gate."""
        self.limits, self.gate = limits, gate
        self.book = ArticleBook(laws)
        self.known = [shape(seed) for seed in seeds]
        self.counts: Counter[str] = Counter()

    def verdict(self, item: Instruction, passage: Source | None = None) -> Verdict:
        """Whether to keep ``item``; ``passage`` is what it was to answer from."""
        checks = self._checks(item, passage)
        found = next((Verdict(r, d) for r, d in checks if d), Verdict())
        if not found.reason:
            self.known.append(shape(item.messages[-2].content))
        self.counts[found.reason or "kept"] += 1
        return found

    def _checks(
        self, item: Instruction, passage: Source | None
    ) -> Iterator[tuple[str, str]]:
        """(reason, what was found) of each check; the next runs only when asked for."""
        limits = self.limits
        question, answer = (turn.content for turn in item.messages[-2:])
        yield "length", bad_length(question, answer, limits)
        yield "refusal", refusal(answer)
        yield "language", foreign(question, answer, limits.min_chinese)
        yield "broken", broken(question, answer)
        near = similar(question, self.known, limits.similarity)
        yield "similar", question if question in self.gate.seen else near
        yield "promise", promise(answer)
        for citation, _, _ in self.book.cited(f"{question}\n{answer}"):
            law = citation.law
            yield "unknown law", "" if self.book.knows(law) else law
            yield "article", "" if citation in self.book else "".join(citation)
        yield "quote", misquoted(answer, self.book)
        yield "arithmetic", wrong_step(answer)
        if passage is not None:
            given = f"{question}\n{passage.label}\n{passage.text}"
            cited = {"".join(citation) for citation, _, _ in self.book.cited(answer)}
            yield "off source", "" if cited == {passage.label} else f"cites {cited}"
            yield "off source", unsupported(answer, given)
        if not self.gate.passes(item):  # it remembers the question of what may pass
            yield "held-out", "shared text"

    def table(self) -> list[dict[str, object]]:
        """One row a reason that occurred, "kept" first: reason, items, share."""
        total = self.counts.total()
        return [
            {"reason": name, "items": number, "share": number / total}
            for name in ("kept", *REASONS)
            if (number := self.counts[name])
        ]


def plain(text: str) -> str:
    """``text`` with half-width digits and signs; 1.05² becomes 1.05^2."""
    return unicodedata.normalize("NFKC", text.replace("²", "^2").replace("³", "^3"))


def folded(text: str) -> str:
    """Letters and digits alone, half width and small."""
    return re.sub(r"[\W_]", "", plain(text).lower())


def shape(text: str) -> str:
    """``folded`` with every number as 0: a task with other figures is the same task."""
    return re.sub(r"\d+", "0", folded(text))


def rouge_l(left: str, right: str) -> float:
    """F1 of the longest common subsequence of characters, in [0, 1].

    Example: 存款利息 and 存款的利率 share 存款利, so 2 * 3 / (4 + 5).
    Source: ROUGE (Lin, 2004); the subsequence in bits: Hyyrö 2004.
    """
    places: dict[str, int] = {}
    for i, char in enumerate(left):
        places[char] = places.get(char, 0) | 1 << i
    row = full = (1 << len(left)) - 1
    for char in right:
        shared = row & places.get(char, 0)
        row = ((row + shared) | (row - shared)) & full
    common = len(left) - row.bit_count()
    return 2 * common / max(1, len(left) + len(right))


def similar(question: str, known: Iterable[str], limit: float) -> str:
    """The first of ``known``, shapes of questions, that the question is like."""
    text = shape(question)
    for other in known:
        best = 2 * min(len(text), len(other)) / max(1, len(text) + len(other))
        if best >= limit and rouge_l(text, other) >= limit:
            return other[:40]
    return ""


def bad_length(question: str, answer: str, limits: Limits) -> str:
    """Which of the two is outside its bounds."""
    bounds = {question: limits.question_chars, answer: limits.answer_chars}
    sizes = [(len(text.strip()), low, high) for text, (low, high) in bounds.items()]
    bad = [f"{n} characters" for n, low, high in sizes if not low <= n <= high]
    return " and ".join(bad)


_REFUSAL = re.compile(
    r"(?:作为|我是|我只是|身为)[^。，]{0,6}(?:AI|人工智能|语言模型|助手|聊天机器人)"
    r"|(?:抱歉|对不起|不好意思)[，,]?\s*(?:但)?我(?!行|们|司|公司)[^。]{0,6}(?:无法|不能|没办法)"
    r"|我(?:无法|不能|没办法|没有办法)(?:回答|提供|给出|生成|完成)[您你这该此具任上投建]"
    r"|(?:训练数据|知识库?)(?:截止|更新[到至])|(?i:as an ai\b|i'm sorry|i cannot)"
)


def refusal(answer: str) -> str:
    """The words with which a model declines instead of answering.

    An adviser who declines what is unlawful and says why does not read like that.
    """
    found = _REFUSAL.search(answer)
    return found[0] if found else ""


_CODE = re.compile(r"```.*?```", re.DOTALL)
_LETTERS = re.compile(r"([\u4e00-\u9fff])|[^\W\d_\u4e00-\u9fff]+")


def foreign(question: str, answer: str, min_chinese: float) -> str:
    """Which of the two has too little Chinese; a foreign word counts as one letter."""
    for name, text in (("question", question), ("answer", answer)):
        is_json = text.lstrip()[:1] in ("{", "[")  # it has English keys
        found = [] if is_json else _LETTERS.findall(_CODE.sub("", text))
        if found and (share := sum(map(bool, found)) / len(found)) < min_chinese:
            return f"{name}: {share:.0%} Chinese"
    return ""


_PAIRS = ("()", "[]", "{}", "《》", "【】", "「」", "『』", "“”")
_LIST_MARK = re.compile(r"^\s*[\w①-⑳]{1,3}[)）]", re.MULTILINE)
_ENDS = "。！？!?…”」』》】）)]}|`"
_SIGNATURE = re.compile(r"[\u4e00-\u9fff【】]{2,14}")  # needs no full stop
_SHORT = 30  # characters; a label or a list of names needs no full stop
_LEFTOVER = re.compile(
    r"\{\{\s*\w+\s*\}\}|<\|\w+\|>|</?s>|\[/?INST\]|\{(?:question|answer|text|seed|n|k)\}"
    r"|#{2,}\s*(?:指令|回答|Instruction|Response|Output)|(?:^|\n)\s*(?:用户|助手|问|答|Human|"
    r"Assistant|User)[：:]|\[(?:插入|此处|在此|请填)[^\]]*\]|[（(]此处(?:省略|填写|插入)"
    r"|(?:^|\n)\s*(?:答案|输出|题目)\s*\d*[：:]|X{4,}|\.{6,}|lorem ipsum",
    re.IGNORECASE,
)
_LOOP = 3  # the same sentence as often as this
_REPEAT = 0.85  # ROUGE-L of question and answer


def broken(question: str, answer: str) -> str:
    """What is wrong with the form: a repeat, leftovers, brackets, no end, a loop."""
    asked, said = folded(question), folded(answer)
    if said.startswith(asked) or rouge_l(asked, said) >= _REPEAT:
        return "repeats the question"
    for text in (question, answer):
        if found := _LEFTOVER.search(text):
            return f"leftover {found[0].strip()!r}"
        bare = plain(_LIST_MARK.sub("", _CODE.sub("", text)))  # （ and ( are one
        for left, right in _PAIRS:
            if bare.count(left) != bare.count(right):
                return f"{left}{right} do not match"
    *before, last = re.findall(r"\S(?:.*\S)?", answer) or [""]
    signed = before and before[-1][-1] in _ENDS and _SIGNATURE.fullmatch(last)
    if len(answer) > _SHORT and last[-1] not in _ENDS and not signed:
        return f"breaks off at {last[-12:]!r}"
    parts = Counter(p for p in re.split(r"[。！？；\n]", answer) if len(p) > 5)
    return next((f"repeats {p[:20]!r}" for p, n in parts.items() if n >= _LOOP), "")


_PROMISE = re.compile(
    r"(?<![不非未])(?:稳赚|稳赢|包赚|必赚|躺赚|只赚不[赔亏]|零风险|[毫绝]无风险"
    r"|无风险[、，]?高收益|(?:没有|不存在)任何风险|保本(?:保息|保收益|高收益|稳)"
    r"|保证(?:本金|收益|盈利|赚|不会?亏)|(?:本金|收益)(?:绝对|完全|100%)(?:安全|有?保[证障])"
    r"|(?:肯定|一定|绝对?|绝不会?|保证)(?:能|会)?(?:不会?亏|赚|上?涨|盈利|翻倍)"
    r"|闭眼[买入]|放心买|不会亏[本损钱]|躺着赚"
    r"|稳稳\d|亏了[^，。]{0,4}[补兜]|本金不会有?任?何?损失|旱涝保收)"
)
_WARNS = re.compile(
    r"不得|禁止|不能|不可|不要(?!错过|犹豫)|不宜|不应|不允许|不会有|不存在[^任]|不等于|不代表"
    r"|不构成|没有哪|并非|而非|非保本|不保本|未必|切勿|请勿|(?<![特个级类性分区])别(?!的)"
    r"|警惕|谨防|当心|凡是|所谓|声称|宣称|号称|诱导|骗|陷阱|误导|违规|违法|夸大|无法"
    r"|谁[也都说敢]|应当删|删[除去掉]|改[为成]|不对|收益承诺|原话|说法|字样|用语|绝对化|虚假|[暗明]示"
)


def promise(answer: str) -> str:
    """A promise of profit in a sentence that neither warns nor denies."""
    for sentence in re.split(r"[。！？!?\n]", answer):
        found = _PROMISE.search(sentence)
        if found and not _WARNS.search(sentence.replace(found[0], "")):
            return found[0]
    return ""


_QUOTE = re.compile(r"[“「『]([^”」』]+)[”」』]")


def misquoted(text: str, book: ArticleBook) -> str:
    """Quoted words behind a citation that its article does not have."""
    text, allowed = plain(text), ""
    found = book.cited(text)
    for i, (citation, end, chained) in enumerate(found):
        wording = folded(book.text(citation))
        allowed = allowed + wording if chained else wording
        stop = found[i + 1].end if i + 1 < len(found) else len(text)
        clause = re.split(r"[。;!?\n]", text[end:stop], maxsplit=1)[0]
        for quote in _QUOTE.finditer(clause):
            for part in re.split(r"…+|\.{3,}", quote[1]):
                if folded(part) not in allowed:
                    return quote[0]
    return ""


_DIGITS = r"\d+(?:\.\d+)?"
_LIST_NUMBER = re.compile(r"^\s*\d{1,2}[.、)]", re.MULTILINE)
_PARTS = {"": 1, "万分之": 100, "千分之": 10}  # 0.05% is 万分之五


def unsupported(answer: str, source: str) -> str:
    """The first figure of ``answer`` that ``source`` has neither as 30 nor as 三十.

    What stands behind = is a result, which is computed anew elsewhere.
    """
    text, given = plain(answer), plain(source).replace("两", "二")
    known = set(re.findall(_DIGITS, given))
    known.update(re.findall(rf"[=≈]\s?-?({_DIGITS})", text))
    for number in re.findall(_DIGITS, _LIST_NUMBER.sub("", text)):
        parts = [(word, Decimal(number) * scale) for word, scale in _PARTS.items()]
        words = [
            w + chinese_number(int(n)) for w, n in parts if n < 10_000 and n % 1 == 0
        ]
        if number not in known and not any(word in given for word in words):
            return number
    return ""


_FIGURE = r"\d+(?:\.\d+)?%?[万亿]?"
_TERM = rf"(?:\(+-?)?{_FIGURE}(?:\)[万亿]?)*"
_SIDE = rf"-?{_TERM}(?:\s?(?:\*\*|[-+*/])\s?{_TERM})*"
_CHAIN = re.compile(rf"(?<![\d.A-Za-z√)]){_SIDE}(?:\s?[=≈]\s?{_SIDE})+")
_UNIT = re.compile(r"(?<=[\d%)万亿])(?![万亿])[\u4e00-\u9fff]{1,3}(?=\s?[-+*/=≈)])")
_LABEL = re.compile(r"[-+*/]\s?[\u4e00-\u9fff]{0,10}$")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "^": "**"})
_LARGE = {"万": "10000", "亿": "100000000"}


def wrong_step(answer: str) -> str:
    """The first a × b = c whose figure is not the value, rounded to the digits shown.

    Behind ≈ the last digit may be one off. 万 and 亿 count where they stand or nowhere,
    as in 16 × 50 ÷ 80 = 10 万. What cannot be read as numbers and signs is not checked.
    """
    text = plain(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", answer)).translate(_SIGNS)
    text = _UNIT.sub("", re.sub(r"(?<=\d)x(?=\d)", "*", text))
    for chain in _CHAIN.finditer(text):
        if _LABEL.search(text[: chain.start()]):
            continue  # the first side is the end of a longer one
        parts = re.split(r"([=≈])", re.sub(r"\s", "", chain[0]))
        for i in range(0, len(parts) - 2, 2):
            left, sign, right = parts[i : i + 3]
            if not (_is_near(left, right, sign, 0) or _is_near(left, right, sign, 1)):
                return f"{left} {sign} {right}"
    return ""


def _is_near(left: str, right: str, sign: str, large: bool) -> bool:
    """Whether the sides agree; true as well when they are no step or unreadable."""
    if not re.search(r"[-+*/]", left[1:]) or re.search(r"[-+*/]", right[1:]):
        return True  # 100 美元 = 719 元 is no step; 2 * 3 = 6 * 1 may have been rounded
    decimals = [len(d) for d in re.findall(r"\.(\d+)", right)]
    unit = Decimal(1).scaleb(-max(decimals, default=0)) / (100 if "%" in right else 1)
    unit *= int(_LARGE.get(right[-1], 1)) if large else 1
    try:
        gap = abs(_value(left, large) - _value(right, large))
    except ValueError:
        return True
    return gap <= (unit if sign == "≈" else unit / 2)


def _value(side: str, large: bool) -> Decimal:
    """Value without a bracket that the sentence opened before or closes behind it."""
    extra = side.count("(") - side.count(")")
    side = side[extra:] if extra > 0 else side[: len(side) + extra]
    side = re.sub(r"(\d[\d.]*%?)([万亿])", r"(\1*\2)", side)
    side = re.sub(r"\)([万亿])", r")*\1", side)
    for word, factor in _LARGE.items():
        side = side.replace(word, factor if large else "1")
    return evaluate(side)
