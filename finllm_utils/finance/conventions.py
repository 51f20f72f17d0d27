"""The conventions that every calculator follows: rounding, day count, checked input.

Amounts are ``decimal.Decimal``; a value is rounded once, half up, at the very end.
A change of any convention gets a new ``VERSION``, which every answer carries.
"""

from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation, localcontext

VERSION = "finllm-conventions-1"
DAYS_PER_YEAR = 360
"""China's bank day count for deposits and loans (a question may ask for 365)."""
DIGITS = 50
"""Significant digits of every intermediate value."""
CENT = 2
"""Decimals of an amount in yuan."""


def exact() -> localcontext:
    """Context manager: decimal arithmetic with ``DIGITS`` digits, half up."""
    return localcontext(Context(prec=DIGITS, rounding=ROUND_HALF_UP))


def round_half_up(value: Decimal, places: int = CENT) -> Decimal:
    """``value`` with ``places`` decimals; 0.125 becomes 0.13, -0.125 becomes -0.13."""
    with exact():
        return value.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)


def amount(name: str, value: object, *, positive: bool = True) -> Decimal:
    """``value`` as a finite Decimal above zero (or not below it).

    Raises: ValueError naming the argument. A float is refused: 0.1 is not one tenth.
    """
    if isinstance(value, float | bool):
        raise ValueError(f"{name}={value!r}: pass a Decimal, an int or a string")
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError) as error:
        raise ValueError(f"{name}={value!r}: not a decimal number") from error
    if not number.is_finite() or number < 0 or (positive and number == 0):
        bound = "above zero" if positive else "zero or more"
        raise ValueError(f"{name}={value}: must be a finite number {bound}")
    return number


def rate(name: str, value: object, maximum: int = 1) -> Decimal:
    """A rate as a fraction (0.035 for 3.5%), from 0 to ``maximum``.

    Raises: ValueError naming the argument; 3.5 for "3.5%" is caught here.
    """
    number = amount(name, value, positive=False)
    if number > maximum:
        raise ValueError(f"{name}={value}: a rate is a fraction; write 3.5% as 0.035")
    return number


def count(name: str, value: object, maximum: int = 10_000) -> int:
    """A whole number from 1 to ``maximum``.

    Raises: ValueError naming the argument.
    """
    number = amount(name, value)
    if number != number.to_integral_value() or number > maximum:
        raise ValueError(f"{name}={value}: must be a whole number from 1 to {maximum}")
    return int(number)
