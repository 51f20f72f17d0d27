"""Does a tuned model make things up? Three small exams that a program scores.

Statutes: which article of a named law says this sentence. Questions that cannot be
answered from what is given, with answerable twins, so that refusing always does not
pay. Passages whose figures the answer must take. Items: data_samples/exams.

An empty or garbled answer earns nothing, but it invents nothing either: read each share
of inventions beside the share of answers that gave nothing. Figures in Chinese
characters are not read, and a false statement without a figure is not found.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypeVar
from unicodedata import normalize

from finllm_utils.corpora.laws import Article, Law
from finllm_utils.data.citations import (
    ARTICLE,
    TITLE,
    ArticleBook,
    Citation,
    number_of,
    short_name,
)
from finllm_utils.data.figures import figures_in_full, in_full
from finllm_utils.data.wordings import chinese_number, fill, sentences
from finllm_utils.evals.tasks.item_files import checked, read_items_of
from finllm_utils.evals.tasks.multiturn import Reply
from finllm_utils.intervals import Interval, wilson_interval
from finllm_utils.records import ChatTurn

DATA_FILES = ("data_samples/exams",)
FOLDER = Path(__file__).resolve().parents[3] / DATA_FILES[0]
LACKING = ("missing_figure", "future", "private", "not_in_text", "not_shown")
"""Why there is no answer; not_shown: a contract or product nowhere to be seen."""
_LAW_OR_ARTICLE = re.compile(f"{TITLE}|{ARTICLE.pattern}")
_WORDINGS = (
    "《{law}》第几条规定：“{text}”请写出法律名称和条号。",
    "“{text}”这句话写在《{law}》的哪一条？请答法律名称和条号。",
    "请问《{law}》中哪一条有下面这句话？\n{text}\n只答法律名称和条号。",
)
_PASSAGE = "阅读材料，回答问题，数字只用材料里的。\n材料：{passage}\n问题：{question}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StatutePrompt:
    """A question for the article that a sentence of a known law stands in."""

    prompt: str
    article: Citation

    def marks(self, answer: str, book: ArticleBook) -> dict[str, bool]:
        """What the answer counts as; none of them when it cites a wrong, real one."""
        cited = set(cited_articles(answer, self.article.law, book))
        return {
            "articles_invented": any(citation not in book for citation in cited),
            "articles_none": not cited,
            "articles_right": cited == {self.article},
        }


def statute_prompts(
    laws: Sequence[Law], number: int, rng: random.Random
) -> list[StatutePrompt]:
    """``number`` questions for the article that a sentence stands in.

    One article of every law, then a second one, so that long codes do not fill the
    exam. The sentence has 15 to 60 characters, stands once in its law, cites none and
    is not its aim or date, which stand first and last in every law.
    Raises: ValueError when ``number`` is below 1 or above what the laws give.
    """
    pools = []
    for law in rng.sample(laws, len(laws)):
        found = list(_askable(law))
        pools.append((law, rng.sample(found, len(found))))
    rounds = range(max((len(pool) for _, pool in pools), default=0))
    drawn = [(law, *pool[i]) for i in rounds for law, pool in pools if i < len(pool)]
    if not 1 <= number <= len(drawn):
        raise ValueError(f"number {number}: {len(laws)} laws give 1 to {len(drawn)}")
    return [
        StatutePrompt(
            prompt=fill(_WORDINGS, rng, law=law.name, text=sentence),
            article=Citation(short_name(law.name), article.number_zh),
        )
        for law, article, sentence in drawn[:number]
    ]


def _askable(law: Law) -> Iterator[tuple[Article, str]]:
    """Articles with the first sentence that tells them from the rest of their law."""
    if "《" in law.name or len(law.name) > 60:
        return  # no reader can tell where such a name ends inside 《》
    whole = law.text
    for article in law.articles:
        if article.number_zh != f"第{chinese_number(article.number)}条":
            continue  # such as 第…条之一
        for text in sentences(article.text, 15, 60):
            unfit = re.search("[“”《》（(]|第[^，。]{1,9}条|制定本|施行", text)
            if text[-1] == "。" and not unfit and whole.count(text) == 1:
                yield article, text
                break


def cited_articles(answer: str, asked: str, book: ArticleBook) -> list[Citation]:
    """Every article that an answer to a question for the law ``asked`` cites.

    A bare number belongs to the law named last, at first the one that was asked for:
    unlike ``ArticleBook.cited`` no article may go uncounted, since there is a question.
    Names count in 《》, and without it when the book knows them.
    """
    plain, law, found = normalize("NFKC", answer), asked, []
    for match in _LAW_OR_ARTICLE.finditer(plain):
        if match["law"]:
            law = short_name(match["law"])
            continue
        law = book.law_before(plain[: match.start()]) or law
        found.append(Citation(law, number_of(match)))
    return found


def _plain(text: str) -> str:
    return "".join(in_full(text).split())


def _says_one(phrases: Sequence[str], said: str) -> bool:
    """Whether plain text has a phrase; a figure only as a whole: 5 is not in 15."""
    for part in map(_plain, phrases):
        left = r"(?<![\d.])" if part[0].isdigit() else ""
        right = r"(?!\.?\d|%)" if part[-1].isdigit() else ""
        if re.search(left + re.escape(part) + right, said):
            return True
    return False


def _fit(groups: object) -> bool:
    """Whether this is a list of lists of phrases, none of them empty."""
    lists = isinstance(groups, list) and all(isinstance(g, list) for g in groups)
    return lists and bool(groups) and all(g and all(g) for g in groups)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question, whether it can be answered, and what shows in an answer."""

    id: str
    kind: str
    prompt: str
    answerable: bool
    must: Sequence[Sequence[str]]  # one of each: the key, or ways to say what lacks
    must_not: Sequence[str]
    reference: str
    no_figure: bool = False  # none that the prompt lacks, not even as an example

    def fault(self) -> str:
        """Why the item cannot be scored; empty when it can."""
        known = ("answerable",) if self.answerable else LACKING
        if self.kind not in known or self.no_figure == self.answerable:
            kinds = ", ".join(LACKING)
            return f"kind answerable takes answerable, {kinds} take no_figure"
        if not _fit(self.must) or not _fit([self.must_not or ["-"]]):
            return "must takes groups of phrases, [[...], ...], must_not takes phrases"
        return "" if self.passes(self.reference) else "its reference does not pass"

    def passes(self, answer: str) -> bool:
        """Whether ``answer`` gives the key, or says what is lacking and invents none.

        A prompt repeated whole is cut out first. An empty answer never passes.
        """
        said = _plain(answer).replace(_plain(self.prompt), "")
        new = figures_in_full(answer) - figures_in_full(self.prompt)
        if (self.no_figure and new) or _says_one(self.must_not, said):
            return False
        return all(_says_one(group, said) for group in self.must)

    def marks(self, answer: str, refusals: Sequence[str]) -> dict[str, bool]:
        """What the answer counts as; ``refusals`` are wordings that refuse."""
        passed, refused = self.passes(answer), _says_one(refusals, _plain(answer))
        if self.answerable:
            refused = refused and not passed
            return {"answerable_right": passed, "answerable_refused": refused}
        return {"lacking_handled": passed, "lacking_refused": refused}


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A passage and a question whose answer takes its figure from there."""

    id: str
    passage: str
    question: str
    must: Sequence[Sequence[str]]
    reference: str

    @property
    def prompt(self) -> str:
        """What the model is asked."""
        return _PASSAGE.format(passage=self.passage, question=self.question)

    def fault(self) -> str:
        """Why the item cannot be scored; empty when it can."""
        if not _fit(self.must) or len(self._others()) < 2:
            return "needs groups of phrases in must, and two figures beside the key"
        passed = self.marks(self.reference)["figures_right"]
        return "" if passed else "its reference does not pass"

    def marks(self, answer: str) -> dict[str, bool]:
        """What the answer counts as; a sum that it works out is an invented figure.

        Who recites over two thirds of the passage's other figures did not choose.
        """
        given, others = figures_in_full(answer), self._others()
        invented = bool(given - figures_in_full(self.prompt))
        chosen = 3 * len(others - given) >= len(others)
        said = all(_says_one(group, _plain(answer)) for group in self.must)
        return {
            "figures_invented": invented,
            "figures_none": not given and not said,
            "figures_right": said and chosen and not invented,
        }

    def _others(self) -> set[str]:
        needed = figures_in_full(f"{self.reference}\n{self.question}")
        return figures_in_full(self.passage) - needed


Item = TypeVar("Item", Question, Passage)


def read_items(path: Path, kind: type[Item]) -> tuple[Item, ...]:
    """The items of ``unanswerable.jsonl`` (Question) or ``grounded.jsonl`` (Passage).

    Raises: ValueError naming file, line and item for wrong fields, an id that comes
    twice, or an item with a fault.
    """
    return read_items_of(path, partial(checked, kind))


@dataclass(frozen=True, slots=True)
class Share:
    """``num`` of ``of`` answers; as text with Wilson's interval at 95%."""

    num: int
    of: int

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.num / self.of

    @property
    def interval(self) -> Interval:
        """Wilson's interval at 95%."""
        return wilson_interval(self.num, self.of)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2f} [{low:.2f}, {high:.2f}] of {self.of}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hallucination:
    """What a model made up: every share is over all answers of its part.

    An empty answer counts in ``articles_none`` and ``figures_none`` and in no other;
    a garbled one there too, unless it happens upon a citation, figure or refusal.
    """

    articles_invented: Share  # cites an article that does not exist
    articles_none: Share  # cites no article
    articles_right: Share  # cites the true article and no other
    lacking_handled: Share  # unanswerable: says what is lacking, without a new figure
    lacking_refused: Share  # unanswerable: refuses, also beside an invented figure
    answerable_right: Share  # gives the key
    answerable_refused: Share  # refuses and does not give the key
    figures_invented: Share  # passages: a figure that the prompt does not have
    figures_none: Share  # passages: no figure at all, nor the key in characters
    figures_right: Share  # passages: the key, nothing invented, no recital

    @property
    def balanced(self) -> float:
        """Mean of handled and answerable right, 0 to 1; always refusing gives 0.5."""
        return (self.lacking_handled.value + self.answerable_right.value) / 2

    @property
    def balanced_interval(self) -> Interval:
        """At 95%, after Zou and Donner, Statistics in Medicine 27 (2008), 1693-1702."""
        parts = (self.lacking_handled, self.answerable_right)
        low = sum((p.value - p.interval[0]) ** 2 for p in parts) ** 0.5 / 2
        high = sum((p.interval[1] - p.value) ** 2 for p in parts) ** 0.5 / 2
        return self.balanced - low, self.balanced + high

    def row(self) -> dict[str, str]:
        """Every share as text with interval and number of answers, for a table."""
        low, high = self.balanced_interval
        row = {f.name: str(getattr(self, f.name)) for f in fields(self)}
        return row | {"balanced": f"{self.balanced:.2f} [{low:.2f}, {high:.2f}]"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exam:
    """All that a model is asked, and the book of articles that exist.

    Raises: ValueError for a part without items, or an article that the book lacks.
    """

    statutes: Sequence[StatutePrompt]
    book: ArticleBook
    questions: Sequence[Question]
    passages: Sequence[Passage]

    def __post_init__(self) -> None:
        both = {item.answerable for item in self.questions} == {True, False}
        known = all(item.article in self.book for item in self.statutes)
        if not (self.statutes and self.passages and both and known):
            parts = "statute prompts for articles of its book, both kinds of questions"
            raise ValueError(f"an exam needs {parts} and passages")


def refusals_of(questions: Sequence[Question]) -> list[str]:
    """Wordings that refuse: any that some unanswerable item takes for one."""
    lacking = [item for item in questions if not item.answerable]
    return sorted({phrase for item in lacking for phrase in item.must[0]})


def hallucination(reply: Reply, exam: Exam) -> Hallucination:
    """Asks everything at once and scores the answers.

    Raises: ValueError when the number of answers is not that of the questions.
    """
    items = [*exam.statutes, *exam.questions, *exam.passages]
    answers = reply([[ChatTurn(role="user", content=item.prompt)] for item in items])
    if len(answers) != len(items):
        raise ValueError(f"{len(answers)} answers to {len(items)} questions")
    refusals = refusals_of(exam.questions)
    found: dict[str, list[bool]] = {}
    needs = {StatutePrompt: (exam.book,), Question: (refusals,), Passage: ()}
    for item, answer in zip(items, answers, strict=True):
        for name, mark in item.marks(answer, *needs[type(item)]).items():
            found.setdefault(name, []).append(mark)
    return Hallucination(**{k: Share(sum(m), len(m)) for k, m in found.items()})


def always_refuses(talks: Sequence[Sequence[ChatTurn]]) -> list[str]:
    """The baseline that never answers."""
    return ["抱歉，根据现有信息无法确定。" for _ in talks]


def copies_passage(talks: Sequence[Sequence[ChatTurn]]) -> list[str]:
    """The baseline that repeats its prompt: every given figure, none invented."""
    return [talk[-1].content for talk in talks]


def empty(talks: Sequence[Sequence[ChatTurn]]) -> list[str]:
    """The baseline that says nothing, and so invents nothing."""
    return [""] * len(talks)


BASELINES = {r.__name__: r for r in (always_refuses, copies_passage, empty)}


def with_baselines(models: Mapping[str, Reply], exam: Exam) -> dict[str, Hallucination]:
    """Models by name, then the baselines, which no model may be named after."""
    if same := sorted(set(models) & set(BASELINES)):
        raise ValueError(f"models named {', '.join(same)}: baselines have that name")
    both = {**models, **BASELINES}
    return {name: hallucination(reply, exam) for name, reply in both.items()}
