"""Checksums of personal numbers: identity card, bank card, social credit code.

Pure functions on canonical numbers (ASCII digits, capital letters, no separators).
Used by ``pii`` and by anyone who builds test numbers.
"""

import calendar
import re

_PROVINCE_CODES = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54"
    " 61 62 63 64 65 71 81 82 83 91".split()
)
_CARD_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CREDIT_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_VALUE = {c: i for i, c in enumerate(_CREDIT_ALPHABET)}


def _is_date(year: int, month: int, day: int) -> bool:
    if not 1 <= month <= 12:
        return False
    return 1 <= day <= calendar.monthrange(year, month)[1]


def is_identity_card(number: str) -> bool:
    """18 characters: a province, a real birth date, the check digit of GB 11643.

    ``11010519491231002X``: the weights 7 9 10 5 8 4 2 1 6 3 7 9 10 5 8 4 2 give 167,
    and 167 mod 11 = 2 stands at X in ``10X98765432``.
    """
    if not re.fullmatch(r"[1-9]\d{5}(?:18|19|20)\d{9}[\dX]", number, re.ASCII):
        return False
    total = sum(int(d) * w for d, w in zip(number, _CARD_WEIGHTS, strict=False))
    return (
        number[:2] in _PROVINCE_CODES
        and _is_date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
        and "10X98765432"[total % 11] == number[17]
    )


def is_old_identity_card(number: str) -> bool:
    """15 digits around a real birth date; the old form had no check digit."""
    if not re.fullmatch(r"[1-9]\d{14}", number, re.ASCII):
        return False
    year, month, day = 1900 + int(number[6:8]), int(number[8:10]), int(number[10:12])
    return number[:2] in _PROVINCE_CODES and _is_date(year, month, day)


def is_luhn(number: str) -> bool:
    """12 to 19 digits whose Luhn sum (every second one doubled) ends in 0."""
    if not re.fullmatch(r"\d{12,19}", number, re.ASCII) or len(set(number)) < 2:
        return False
    digits = [int(d) for d in reversed(number)]
    doubled = [d * 2 - 9 if d > 4 else d * 2 for d in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_card_of_known_issuer(number: str) -> bool:
    """Luhn holds and prefix and length are those of a card network.

    UnionPay 62 and the banks' own older 60, 68, 69, 9: 16 to 19 digits; Visa 4,
    Mastercard 51-55 and 2221-2720, JCB 35: 16; Amex 34 and 37: 15; Diners 36, 38: 14.
    """
    if not is_luhn(number):
        return False
    length = len(number)
    if length >= 16 and re.match("62|60|68|69|955|940|990|984|966", number):
        return True
    if length == 16:
        return bool(re.match("4|5[1-5]|35|65", number)) or (
            2221 <= int(number[:4]) <= 2720
        )
    return (length == 15 and number[:2] in ("34", "37")) or (
        length == 14 and number[:2] in ("36", "38")
    )


def is_credit_code(code: str) -> bool:
    """18 characters with the check character of GB 32100."""
    if len(code) != 18 or any(c not in _CREDIT_VALUE for c in code):
        return False
    total = sum(_CREDIT_VALUE[c] * pow(3, i, 31) for i, c in enumerate(code[:17]))
    return _CREDIT_ALPHABET[(31 - total % 31) % 31] == code[17]
