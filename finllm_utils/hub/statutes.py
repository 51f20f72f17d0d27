"""Statutes by name, number and key words."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from finllm_utils.corpora.laws import Article, Law
from finllm_utils.data.citations import ARTICLE
from finllm_utils.hub.numerals import normalise, parse_number
from finllm_utils.hub.search import SearchIndex

_FILLER = re.compile(
    r"请问|您好|你好|我想(?:问|知道|了解)(?:一下)?|想(?:问|请教)(?:一下)?|"
    r"帮我?(?:查|找|看)(?:一下)?|查一下|"
    r"麻烦|谢谢|是怎么规定的?|怎么规定的?|如何规定的?|有什么规定|"
    r"的?规定(?:是什么|在哪)?|哪一条|第几条|"
    r"是什么(?:内容)?|说了?什么|内容|的条文|条文|原文|全文|法律上?|法条|依据"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Statute:
    """An article of a law in force."""

    law: Law
    article: Article

    @property
    def source(self) -> str:
        """Law name, article number and the day since which it has been in force."""
        day = self.law.effective_date
        return f"《{self.law.name}》{self.article.number_zh}，{day} 起施行"


class LawBook:
    """All laws in force, by name, number and key words."""

    def __init__(self, laws: Iterable[Law]):
        self.by_name: dict[str, Law] = {}
        for law in sorted(laws, key=lambda x: x.effective_date):
            self.by_name[normalise(law.name)] = law
            self.by_name[normalise(law.short_name)] = law
        self._laws = {law.name: law for law in self.by_name.values()}
        self._names = sorted(self.by_name, key=lambda n: (-len(n), n))

    def find_law(self, text: str) -> Law | None:
        """The law named in ``text``; the longest name wins."""
        for quoted in re.findall(r"《([^》]+)》", text):
            name = "".join(normalise(quoted).split())
            for candidate in (name, re.sub(r"\(.*", "", name)):
                if candidate in self.by_name:
                    return self.by_name[candidate]
        text = normalise(text)
        for name in self._names:
            if name in text and len(name) > 2:
                return self.by_name[name]
        return None

    def article(self, law: Law, number: int) -> Statute:
        """Article ``number`` of ``law``.

        Raises: ValueError naming the law and its last article.
        """
        for article in law.articles:
            if article.number == number:
                return Statute(law=law, article=article)
        last = max((a.number for a in law.articles), default=0)
        raise ValueError(f"article={number}: {law.name} 只有 {last} 条")

    def search(self, keywords: str, law: Law | None, top_k: int) -> list[Statute]:
        """Articles that match key words, best first, within ``law`` if named."""
        query = keywords if law is None else keywords.replace(law.name, "")
        query = _FILLER.sub(" ", query.replace(law.short_name, "") if law else query)
        index = self._articles
        if law is None:
            keys = [p.id for p in index.search(query, top_k)]
        else:
            own = [f"{law.name}#{i}" for i in range(len(law.articles))]
            keys = index.rank_within(query, own, top_k)
        places = (key.rsplit("#", 1) for key in keys)
        return [
            Statute(law=self._laws[name], article=self._laws[name].articles[int(place)])
            for name, place in places
        ]

    @cached_property
    def _articles(self) -> SearchIndex:
        laws = self._laws
        return SearchIndex(
            {
                f"{name}#{i}": f"{laws[name].short_name} {article.text}"
                for name in sorted(laws)
                for i, article in enumerate(laws[name].articles)
            }
        )


def article_number(question: str) -> int | None:
    """The article asked for: 第十六条, 第 16 条, 第一百四十五条."""
    match = ARTICLE.search(normalise(question))
    return int(parse_number(match["number"])) if match else None
