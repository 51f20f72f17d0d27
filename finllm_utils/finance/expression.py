"""Exact arithmetic on a written expression, without ``eval``.

Grammar: + - * / ** brackets, decimals, unary minus, and % as a suffix (5%) or, before
another number, as the remainder (7 % 4).
"""

import re
from decimal import Decimal, DivisionByZero, InvalidOperation, Overflow

from finllm_utils.finance.conventions import exact

MAX_EXPONENT = 1000
_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+|\*\*|[-+*/()%])")


def evaluate(expression: str) -> Decimal:
    """The exact value of ``expression``.

    Raises: ValueError naming the expression and what is wrong with it.
    Example: evaluate("(1 + 5%) ** 2 * 100") == Decimal("110.25").
    """
    text = expression.strip()
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise ValueError(
                f"expression={expression!r}: cannot read {text[position:]!r}; use "
                "numbers, + - * / ** % and brackets"
            )
        tokens.append(match[1])
        position = match.end()
    if not tokens or len(tokens) > 200:
        raise ValueError(f"expression={expression!r:.60}: empty or too long")
    parser = _Parser(tokens)
    try:
        with exact():
            value = parser.sum()
    except (DivisionByZero, InvalidOperation, Overflow) as error:
        raise ValueError(
            f"expression={expression!r}: division by zero or too large"
        ) from error
    except IndexError as error:
        raise ValueError(f"expression={expression!r}: ends too early") from error
    if parser.tokens:
        raise ValueError(f"expression={expression!r}: unexpected {parser.tokens[0]!r}")
    return value


class _Parser:
    """Recursive descent: sum > product > power > suffix > atom."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def take(self, *wanted: str) -> str:
        if self.tokens and self.tokens[0] in wanted:
            return self.tokens.pop(0)
        return ""

    def sum(self) -> Decimal:
        value = self.product()
        while sign := self.take("+", "-"):
            right = self.product()
            value = value + right if sign == "+" else value - right
        return value

    def product(self) -> Decimal:
        value = self.signed()
        while sign := self.take("*", "/", "%"):
            right = self.signed()
            if sign == "*":
                value *= right
            else:
                value = value / right if sign == "/" else value % right
        return value

    def signed(self) -> Decimal:
        if self.take("-"):
            return -self.signed()
        return self.power()

    def power(self) -> Decimal:
        value = self.percent()
        if self.take("**"):
            exponent = self.signed()
            if abs(exponent) > MAX_EXPONENT:
                raise ValueError(f"exponent {exponent}: must be within {MAX_EXPONENT}")
            value **= exponent
        return value

    def percent(self) -> Decimal:
        value = self.atom()
        while self.tokens[:1] == ["%"] and not self._operand_follows():
            self.tokens.pop(0)
            value /= 100
        return value

    def _operand_follows(self) -> bool:
        return len(self.tokens) > 1 and (
            self.tokens[1][0] in "(." or self.tokens[1][0].isdigit()
        )

    def atom(self) -> Decimal:
        if self.take("("):
            value = self.sum()
            if not self.take(")"):
                raise ValueError("a bracket is not closed")
            return value
        token = self.tokens.pop(0)
        if token in ("+", "-", "*", "/", "**", "%", ")"):
            raise ValueError(f"unexpected {token!r} in the expression")
        return Decimal(token)
