"""The two usual ways to repay a Chinese loan: equal payments, equal principal."""

from dataclasses import dataclass
from decimal import Decimal

from finllm_utils.finance.conventions import amount, count, exact, rate, round_half_up


@dataclass(frozen=True, kw_only=True, slots=True)
class EqualPayment:
    """等额本息, in yuan to 0.01."""

    monthly_payment: Decimal
    total_interest: Decimal
    total_repaid: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class EqualPrincipal:
    """等额本金, in yuan to 0.01; ``kth_payment`` is None when no month is asked."""

    monthly_principal: Decimal
    first_payment: Decimal
    last_payment: Decimal
    kth_payment: Decimal | None
    monthly_decrease: Decimal
    total_interest: Decimal
    total_repaid: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class Instalment:
    """One month of a schedule; the amounts are not rounded."""

    month: int
    payment: Decimal
    principal: Decimal
    interest: Decimal
    balance: Decimal


def _terms(principal: Decimal, annual_rate: Decimal, months: int) -> tuple:
    principal = amount("principal", principal)
    annual_rate = rate("annual_rate", annual_rate)
    months = count("months", months, 600)
    with exact():
        return principal, annual_rate / 12, months


def _level_payment(principal: Decimal, monthly_rate: Decimal, months: int) -> Decimal:
    if not monthly_rate:
        return principal / months
    growth = (1 + monthly_rate) ** months
    return principal * monthly_rate * growth / (growth - 1)


def loan_equal_payment(
    principal: Decimal, annual_rate: Decimal, months: int
) -> EqualPayment:
    """Level payment P*r*(1+r)**n / ((1+r)**n - 1) with r = annual_rate / 12 (等额本息).

    Differs: a bank rounds every month's payment; here totals use the unrounded payment.
    """
    principal, step, months = _terms(principal, annual_rate, months)
    with exact():
        payment = _level_payment(principal, step, months)
        repaid = payment * months
        interest = repaid - principal
    return EqualPayment(
        monthly_payment=round_half_up(payment),
        total_interest=round_half_up(interest),
        total_repaid=round_half_up(repaid),
    )


def loan_equal_principal(
    principal: Decimal, annual_rate: Decimal, months: int, k: int | None = None
) -> EqualPrincipal:
    """Month k pays P/n + (P - P*(k-1)/n)*r; all interest is P*r*(n+1)/2 (等额本金)."""
    principal, step, months = _terms(principal, annual_rate, months)
    k = None if k is None else count("k", k, months)
    with exact():
        share = principal / months

        def payment(month: int) -> Decimal:
            return share + (principal - principal * (month - 1) / months) * step

        interest = principal * step * (months + 1) / 2
        return EqualPrincipal(
            monthly_principal=round_half_up(share),
            first_payment=round_half_up(payment(1)),
            last_payment=round_half_up(payment(months)),
            kth_payment=None if k is None else round_half_up(payment(k)),
            monthly_decrease=round_half_up(share * step),
            total_interest=round_half_up(interest),
            total_repaid=round_half_up(principal + interest),
        )


def schedule(
    principal: Decimal,
    annual_rate: Decimal,
    months: int,
    *,
    equal_principal: bool = False,
) -> list[Instalment]:
    """Every month of a loan, unrounded; the balance after the last month is zero."""
    balance, step, months = _terms(principal, annual_rate, months)
    rows = []
    with exact():
        share = balance / months
        level = _level_payment(balance, step, months)
        for month in range(1, months + 1):
            interest = balance * step
            paid_off = share if equal_principal else level - interest
            balance -= paid_off
            rows.append(
                Instalment(
                    month=month,
                    payment=paid_off + interest,
                    principal=paid_off,
                    interest=interest,
                    balance=balance,
                )
            )
    return rows
