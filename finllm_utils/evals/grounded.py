"""What an answer makes up: articles that no law has, and figures that nobody gave.

Both are counted by program, so they find what can be looked up and nothing finer: an
article that exists but says something else passes here. Notebook 06 calls this.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from finllm_utils.corpora.laws import Law

_CITED = re.compile(
    r"《([^《》]{2,60})》\s*(第\s*[零〇一二两三四五六七八九十百千\d]+\s*条(?:之[一二三四五])?)"
)
_FIGURE = re.compile(r"\d+(?:[,，]\d{3})*(?:\.\d+)?")
_LIST_MARK = re.compile(r"^\s*\d{1,2}\s*(?:[.．](?!\d)|[、)）])", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Citation:
    """An article as a text cites it: 《law》 and 第…条."""

    law: str
    number: str


def citations(text: str) -> list[Citation]:
    """Every article that ``text`` cites with the name of its law, in order."""
    plain = unicodedata.normalize("NFKC", text)
    return [
        Citation(law, "".join(number.split())) for law, number in _CITED.findall(plain)
    ]


class ArticleBook:
    """Which articles there are, by full and short name of their law."""

    def __init__(self, laws: Iterable[Law]) -> None:
        self._articles: dict[str, set[str]] = {}
        for law in laws:
            numbers = {a.number_zh for a in law.articles}
            numbers |= {f"第{a.number}条" for a in law.articles if a.number}
            for name in (law.name, law.short_name):
                self._articles[unicodedata.normalize("NFKC", name)] = numbers

    def knows(self, law: str) -> bool:
        """Whether a law of that name is in the book."""
        return law in self._articles

    def invented(self, text: str) -> list[Citation]:
        """Cited articles that no law of that name has.

        A law that the book does not hold counts too: ask about laws it holds.
        """
        return [
            found
            for found in citations(text)
            if found.number not in self._articles.get(found.law, ())
        ]


def figures(text: str) -> list[str]:
    """Numbers of a text as plain digits: 3,000.50 is "3000.5"; marks of lists left out.

    Numbers written in Chinese characters are not read.
    """
    plain = _LIST_MARK.sub("", unicodedata.normalize("NFKC", text))
    found = [re.sub("[,，]", "", number) for number in _FIGURE.findall(plain)]
    return [n.rstrip("0").rstrip(".") if "." in n else n for n in found]


def unsupported_figures(answer: str, sources: Sequence[str]) -> list[str]:
    """Numbers of ``answer`` that stand in none of ``sources``."""
    given = {number for source in sources for number in figures(source)}
    return [number for number in figures(answer) if number not in given]


@dataclass(frozen=True, slots=True)
class MadeUp:
    """Shares of answers, 0 to 1, over all answers of a set."""

    invented_articles: float
    """With at least one article that does not exist."""
    unsupported: float
    """With at least one figure that neither question nor reference has."""
    num_answers: int

    def as_dict(self) -> Mapping[str, float]:
        """By name, for a table."""
        return {
            "invented articles": self.invented_articles,
            "unsupported figures": self.unsupported,
            "answers": self.num_answers,
        }


def made_up(
    answers: Sequence[str], sources: Sequence[Sequence[str]], book: ArticleBook
) -> MadeUp:
    """How often answers make something up.

    Args: sources are what each answer may take figures from: its question, its
    reference and whatever it was given.
    Raises: ValueError when there is no answer, or not a list of sources for each.
    """
    if not answers or len(answers) != len(sources):
        raise ValueError(
            f"{len(answers)} answers and {len(sources)} lists of sources: give as many "
            "of both, at least one"
        )
    invented = [bool(book.invented(answer)) for answer in answers]
    unsupported = [
        bool(unsupported_figures(answer, given))
        for answer, given in zip(answers, sources, strict=True)
    ]
    number = len(answers)
    return MadeUp(sum(invented) / number, sum(unsupported) / number, number)
