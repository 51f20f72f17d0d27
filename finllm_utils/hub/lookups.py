"""The look-up tools: exchange rates, statutes and the insurance knowledge base."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from finllm_utils.config import HubConfig
from finllm_utils.finance import fx
from finllm_utils.finance.conventions import round_half_up
from finllm_utils.hub import tools
from finllm_utils.hub.arithmetic import plain
from finllm_utils.hub.calculators import money
from finllm_utils.hub.currencies import chinese_name
from finllm_utils.hub.search import SearchIndex
from finllm_utils.hub.statutes import LawBook, Statute
from finllm_utils.hub.tools import Answer, Tool

RATE_DECIMALS = 4


class NotKnown(LookupError):
    """The sources hold no answer; the hub then says so."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What the look-up tools read: units per euro, laws, insurance passages."""

    rates: Mapping[str, Mapping[date, Decimal]]
    laws: LawBook
    passages: SearchIndex
    cfg: HubConfig

    def fx_rate(self, args: tools.FxRate) -> Answer:
        """A cross rate with four decimals and the day of its fixing."""
        cross = fx.fixing(self.rates, args.base, args.quote, args.date)
        value = round_half_up(cross.rate, RATE_DECIMALS)
        unit = f"{args.quote}/{args.base}"
        text = f"1 {chinese_name(args.base)} = {value} {chinese_name(args.quote)}"
        return Answer(
            value=value,
            unit=unit,
            text=f"{text}（{cross.day} 定盘{_moved(args.date, cross.day)}）",
            source=f"ECB reference rate, {cross.day}; {args.base}/{args.quote}",
        )

    def fx_convert(self, args: tools.FxConvert) -> Answer:
        """An amount in another currency at the unrounded cross rate."""
        cross = fx.fixing(self.rates, args.base, args.quote, args.date)
        value = fx.convert(args.amount, cross, args.quote)
        unit = "元" if args.quote == "CNY" else chinese_name(args.quote)
        left = money(Decimal(plain(args.amount)), chinese_name(args.base))
        return Answer(
            value=value,
            unit=unit,
            text=(
                f"{left} = {money(value, unit)}"
                f"（{cross.day} 定盘{_moved(args.date, cross.day)}）"
            ),
            source=f"ECB reference rate, {cross.day}; {args.base}/{args.quote}, "
            f"amount={plain(args.amount)}",
            details={"rate": str(round_half_up(cross.rate, RATE_DECIMALS))},
        )

    def law_article(self, args: tools.LawArticle) -> Answer:
        """The text of an article in force."""
        law = self.laws.find_law(args.law) if args.law else None
        if args.law and law is None:
            raise NotKnown(f"法律库里没有 {args.law}")
        if args.article is not None and law is not None:
            found = [self.laws.article(law, args.article)]
        elif args.keywords:
            found = self.laws.search(args.keywords, law, self.cfg.bm25_top_k)
        else:
            raise ValueError("article: which article, or which key words?")
        if not found:
            raise NotKnown("没有找到相符的法条")
        return _statute_answer(found)

    def insurance_search(self, args: tools.InsuranceSearch) -> Answer:
        """The best passage; nothing below ``min_search_score``."""
        found = self.passages.search(args.question, self.cfg.bm25_top_k)
        if not found or found[0].score < self.cfg.min_search_score:
            raise NotKnown("保险知识库里没有足够相近的内容")
        best = found[0]
        return Answer(
            text=best.text,
            source=f"insuranceqa answer {best.id}, BM25 {best.score:.2f}",
            details={"passage_id": best.id, "others": [p.id for p in found[1:]]},
        )


def _moved(asked: date | None, found: date) -> str:
    if asked is None:
        return "，为数据的最后一天"
    return "" if asked == found else f"；{asked} 没有定盘，用之前最近的一天"


def _statute_answer(found: list[Statute]) -> Answer:
    best = found[0]
    others = [f"《{s.law.name}》{s.article.number_zh}" for s in found[1:]]
    return Answer(
        text=f"{best.article.number_zh}　{best.article.text}",
        source=best.source,
        details={
            "law": best.law.name,
            "article": best.article.number,
            "effective_date": best.law.effective_date.isoformat(),
            "others": others,
        },
    )


def lookup_tools(sources: Sources) -> dict[str, Tool]:
    """The four look-up tools by name."""
    table = (
        ("fx_rate", "汇率", tools.FxRate, sources.fx_rate),
        ("fx_convert", "货币换算", tools.FxConvert, sources.fx_convert),
        ("law_article", "法条查询", tools.LawArticle, sources.law_article),
        (
            "insurance_search",
            "保险知识库",
            tools.InsuranceSearch,
            sources.insurance_search,
        ),
    )
    return {
        name: Tool(name=name, title=title, schema=schema, run=run)
        for name, title, schema, run in table
    }
