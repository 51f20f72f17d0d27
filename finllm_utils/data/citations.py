"""Articles of law that a text cites, and whether the law named has them.

One pattern and one book of articles serve all who read citations. What a bare 第三条
belongs to is for the reader to say: generated items, an exam's answers and the score of
an item want different things, see ``ArticleBook.cited``, ``hallucination`` and
``own_items``.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple
from unicodedata import normalize

from finllm_utils.corpora.laws import Article, Law
from finllm_utils.data.wordings import chinese_number

_NUMERALS = "零〇一二两三四五六七八九十百千万"
ARTICLE = re.compile(
    rf"第\s*(?P<number>[{_NUMERALS}\d]+)\s*条(?P<inserted>之[一二三四五六七八九十]+)?"
)
"""第十六条, 第 16 条, 第一百二十条之一."""
TITLE = "《(?P<law>[^《》]{2,60})》"
_TITLE_BEFORE = re.compile(rf"{TITLE}(?:\([^()]{{1,20}}\))?的?$")
_RULE_BEFORE = re.compile(
    r"[\u4e00-\u9fff]+(?:条例|办法|细则|准则|解释|[^该本同此]法)$"
)
_CHAINED = re.compile(
    rf"(?:第[{_NUMERALS}\d]+[款项])*[、,和与以及或至]{{,2}}|.*[该同]法"
)
_PLAIN = str.maketrans("〇两", "零二")


class Citation(NamedTuple):
    """An article: the law's short name in half width, and 第十六条 in characters."""

    law: str
    number: str


class Cited(NamedTuple):
    """A citation that ends at ``end`` of its text; ``chained`` to the one before it."""

    citation: Citation
    end: int
    chained: bool


def short_name(law: str) -> str:
    """A law's name without 中华人民共和国, in half width."""
    return normalize("NFKC", law).removeprefix("中华人民共和国")


def number_of(found: re.Match[str]) -> str:
    """The article that ``ARTICLE`` found, in characters: 第 16 条 is 第十六条.

    Digits from 10,000 on stay: no law has so many articles.
    """
    return f"第{_in_characters(found['number'])}条{found['inserted'] or ''}"


def _in_characters(number: str) -> str:
    def written(digits: re.Match[str]) -> str:
        value = int(digits[0])
        return chinese_number(value) if value < 10_000 else digits[0]

    return re.sub(r"\d+", written, number).translate(_PLAIN)


class ArticleBook:
    """The articles of laws, found by full or short name of the law and by number."""

    def __init__(self, laws: Iterable[Law]) -> None:
        self._laws: dict[str, dict[str, str]] = {}
        for law in laws:
            articles = {_key(a): a.text for a in law.articles if a.number}
            self._laws[normalize("NFKC", law.name)] = articles
            self._laws[short_name(law.name)] = articles
        self._longest = max(map(len, self._laws), default=0)

    def knows(self, law: str) -> bool:
        """Whether a law of that name, full or short, is in the book."""
        return law in self._laws

    def __contains__(self, citation: Citation) -> bool:
        return citation.number in self._laws.get(citation.law, ())

    def text(self, citation: Citation) -> str:
        """The wording of an article; empty when the book does not have it."""
        return self._laws.get(citation.law, {}).get(citation.number, "")

    def law_before(self, text: str) -> str:
        """Short name of the law whose name ``text`` ends with, the longest; or empty.

        Args: text in half width.
        """
        for size in range(min(self._longest, len(text)), 1, -1):
            if (name := text[-size:]) in self._laws:
                return short_name(name)
        return ""

    def cited(self, text: str) -> list[Cited]:
        """Articles cited with a law: 《保险法》第十六条, 保险法第16条, 、第二十三条.

        Any name in 《》 counts; without it, those in the book and what reads like a
        rule's. So citations of laws that do not exist are found too. A bare number
        counts when it is chained to a citation; else it may be a contract's article.
        """
        text, found = normalize("NFKC", text), []
        for match in ARTICLE.finditer(text):
            law = self._named_before(text[: match.start()].rstrip())
            gap = text[found[-1].end : match.start()] if found else "。"
            chained = not law and bool(_CHAINED.fullmatch(gap.strip()))
            if law or chained:
                name = short_name(law) if law else found[-1].citation.law
                citation = Citation(name, number_of(match))
                found.append(Cited(citation, match.end(), chained))
        return found

    def _named_before(self, text: str) -> str:
        """The law or rule whose name ends ``text``; empty for none."""
        if title := _TITLE_BEFORE.search(text):
            return title["law"]
        if name := self.law_before(text):
            return name
        rule = _RULE_BEFORE.search(text)
        return rule[0] if rule else ""

    def invented(self, text: str) -> list[Citation]:
        """Articles cited with a law that no law of that name has.

        A law that the book does not hold counts too: ask about laws it holds.
        """
        return [c for c, _, _ in self.cited(text) if c not in self]


def _key(article: Article) -> str:
    """The number as cited; amendments call theirs 条目三, and are cited as 第三条."""
    found = ARTICLE.fullmatch(article.number_zh)
    return number_of(found) if found else f"第{chinese_number(article.number)}条"
