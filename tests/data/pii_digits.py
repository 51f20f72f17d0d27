"""Check digits of Chinese identifiers, written from the standards for the tests."""

ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
ORG_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)


def luhn_digit(body: str) -> str:
    """The digit that makes ``body`` plus it pass the Luhn check."""
    doubled = [int(d) * (2 - i % 2) for i, d in enumerate(reversed(body))]
    return str(-sum(d - 9 * (d > 9) for d in doubled) % 10)


def id_digit(body: str) -> str:
    """The MOD 11-2 check character of 17 digits (GB 11643-1999)."""
    total = sum(int(d) * w for d, w in zip(body, ID_WEIGHTS, strict=True))
    return "10X98765432"[total % 11]


def org_digit(body: str) -> str:
    """The MOD 11 check character of an 8-character organisation code (GB 11714)."""
    total = sum(int(c, 36) * w for c, w in zip(body, ORG_WEIGHTS, strict=True))
    return "0123456789X0"[11 - total % 11]


def uscc_digit(body: str) -> str:
    """The MOD 31 check character of 17 characters (GB 32100-2015)."""
    total = sum(USCC_ALPHABET.index(c) * pow(3, i, 31) for i, c in enumerate(body))
    return USCC_ALPHABET[-total % 31]


def is_id_card(text: str) -> bool:
    """Eighteen places with a plausible date and the right check character."""
    return (
        len(text) == 18
        and text[:17].isdigit()
        and 1900 <= int(text[6:10]) <= 2026
        and 1 <= int(text[10:12]) <= 12
        and 1 <= int(text[12:14]) <= 31
        and id_digit(text[:17]) == text[-1].upper()
    )


def is_luhn(text: str) -> bool:
    """Digits alone that pass the Luhn check."""
    return text.isdigit() and luhn_digit(text[:-1]) == text[-1]


def is_uscc(text: str) -> bool:
    """Eighteen characters of the code's alphabet with the right check character."""
    known = len(text) == 18 and set(text) <= set(USCC_ALPHABET)
    return known and uscc_digit(text[:17]) == text[17]
