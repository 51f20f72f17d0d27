"""The hub's tools: a pydantic schema for the arguments, and exact code for the answer.

A call proposed by the router or by a language model passes the same schema; a missing
or wrong argument becomes a question back to the user, never a guess.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Positive = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False)]
Months = Annotated[int, Field(ge=1, le=600)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3,4}$")]


class Arguments(BaseModel):
    """Base of all schemas: unknown fields and floats are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_floats(cls, value: object) -> object:
        if isinstance(value, float):
            raise ValueError(
                "pass numbers as strings or Decimals: a float is not exact"
            )
        return value


class Calculate(Arguments):
    """Exact arithmetic."""

    expression: str = Field(min_length=1, max_length=400)
    unit: Literal["", "元", "万元", "亿元", "%", "倍", "bp"] = ""


class LoanEqualPayment(Arguments):
    """A loan with equal monthly payments."""

    principal: Positive
    annual_rate: Rate
    months: Months
    ask: Literal["monthly_payment", "total_interest", "total_repaid"] = (
        "monthly_payment"
    )


class LoanEqualPrincipal(Arguments):
    """A loan with equal monthly principal."""

    principal: Positive
    annual_rate: Rate
    months: Months
    k: Months | None = None
    ask: Literal[
        "first_payment",
        "kth_payment",
        "last_payment",
        "monthly_decrease",
        "total_interest",
        "total_repaid",
    ] = "first_payment"


class SimpleInterest(Arguments):
    """Simple interest or a fixed-term deposit."""

    principal: Positive
    annual_rate: Rate
    term: Positive
    unit: Literal["years", "months", "days"]
    days_per_year: Literal[360, 365] = 360
    ask: Literal["interest", "total"] = "interest"
    currency: Currency = "CNY"


class CompoundInterest(Arguments):
    """Interest on interest."""

    principal: Positive
    annual_rate: Rate
    years: Positive
    periods_per_year: Annotated[int, Field(ge=1, le=366)] = 1
    ask: Literal["interest", "total"] = "total"
    currency: Currency = "CNY"


class AnnuityFutureValue(Arguments):
    """Equal payments and what they grow to."""

    payment: Positive
    rate_per_period: Rate
    periods: Annotated[int, Field(ge=1, le=10_000)]
    due: bool = False
    ask: Literal["interest", "total"] = "total"
    currency: Currency = "CNY"


class PresentValue(Arguments):
    """Today's value of a later sum."""

    future: Positive
    annual_rate: Rate
    years: Positive
    currency: Currency = "CNY"


class FundSubscription(Arguments):
    """Buying fund shares, fee taken out of the amount."""

    amount: Positive
    fee_rate: Rate
    nav: Positive | None = None
    ask: Literal["shares", "fee", "net_amount"] = "shares"


class BondCurrentYield(Arguments):
    """Coupon over price."""

    face: Positive
    coupon_rate: Rate
    price: Positive


class HoldingReturn(Arguments):
    """Gain over cost."""

    buy: Positive
    sell: Annotated[Decimal, Field(ge=0)]
    income: Annotated[Decimal, Field(ge=0)] = Decimal(0)


class VatSplit(Arguments):
    """A gross price without and with its tax."""

    gross: Positive
    rate: Rate
    ask: Literal["net", "tax"] = "net"


class FxRate(Arguments):
    """A cross rate on a day."""

    base: Currency
    quote: Currency
    date: dt.date | None = None


class FxConvert(FxRate):
    """An amount in another currency."""

    amount: Positive


class LawArticle(Arguments):
    """An article by number, or by key words."""

    law: str | None = None
    article: Annotated[int, Field(ge=1, le=2000)] | None = None
    keywords: str | None = None


class InsuranceSearch(Arguments):
    """A question to the insurance knowledge base."""

    question: str = Field(min_length=2, max_length=400)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a tool answers. ``value`` is None where the answer is a text."""

    text: str
    source: str
    value: Decimal | None = None
    unit: str = ""
    details: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A name, a schema and the code behind it."""

    name: str
    title: str
    schema: type[Arguments]
    run: Callable[[Arguments], Answer]


ARGUMENT_NAMES = {
    "expression": "算式",
    "principal": "本金",
    "annual_rate": "年利率",
    "months": "期限（月数）",
    "k": "第几期",
    "term": "期限",
    "unit": "期限单位",
    "years": "年数",
    "payment": "每期金额",
    "rate_per_period": "每期利率",
    "periods": "期数",
    "future": "未来金额",
    "amount": "金额",
    "fee_rate": "费率",
    "nav": "单位净值",
    "face": "面值",
    "coupon_rate": "票面利率",
    "price": "价格",
    "buy": "买入价",
    "sell": "卖出价",
    "gross": "含税金额",
    "rate": "税率",
    "base": "原币种",
    "quote": "目标币种",
    "date": "日期（年月日）",
    "single": "一次只问一种算法（请分开问）",
    "method": "还款方式（等额本息或等额本金）",
    "law": "法律名称",
    "article": "条号",
}
"""What the hub calls an argument when it asks the user for it."""
