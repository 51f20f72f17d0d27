"""Random personal identifiers with valid check digits, written as people write them.

Each maker returns a ``Value``: its ``text`` as it stands in a document, the ``prefix``
before it (a country code, not part of the identifier), the ``plain`` identifier and the
name of the written ``form``. Nothing here looks at the masker that the values test.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.data.pii_digits import (
    id_digit,
    is_id_card,
    is_luhn,
    is_uscc,
    luhn_digit,
    org_digit,
    uscc_digit,
)  # fmt: skip

FOLDER = Path(__file__).parents[2] / "data_samples" / "pii"
WORDS = json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))
RESERVED_SEGMENTS = ("154", "161", "163", "164", "168", "169", "179")
PLATE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
CASUAL_GENRES = {"chat", "call", "forum", "moments", "review"}
Rng = random.Random


class Value(NamedTuple):
    """An identifier as written; ``prefix`` stands before it and is not part of it."""

    prefix: str
    text: str
    plain: str
    form: str


def digits(rng: Rng, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def wide(text: str) -> str:
    """Full-width letters, digits and signs."""
    return text.translate(WIDE)


def spoken(text: str, table: str = "零一二三四五六七八九") -> str:
    """Chinese numerals, digit by digit; everything else stays."""
    return "".join(table[int(c)] if c in "0123456789" else c for c in text)


def group(text: str, sizes: tuple[int, ...], separator: str) -> str:
    """``text`` cut into ``sizes``; the last size repeats until the end."""
    parts, place, index = [], 0, 0
    while place < len(text):
        size = sizes[min(index, len(sizes) - 1)]
        parts.append(text[place : place + size])
        place, index = place + size, index + 1
    return separator.join(parts)


def grouped(sizes: tuple[int, ...], separator: str) -> Callable[[Rng, str], str]:
    return lambda rng, plain: group(plain, sizes, separator)


def _same(rng: Rng, plain: str) -> str:
    return plain


def _wide(rng: Rng, plain: str) -> str:
    return wide(plain)


def _spoken(rng: Rng, plain: str) -> str:
    zero = rng.choice("零零〇")
    return spoken(plain, zero + "一二三四五六七八九")


def _yao(rng: Rng, plain: str) -> str:
    return spoken(plain, "零幺二三四五六七八九")


def _half_wide(rng: Rng, plain: str) -> str:
    """Some characters full width, others not: at least one of each."""
    cut = rng.randrange(1, len(plain))
    return plain[:cut] + wide(plain[cut:])


def _half_spoken(rng: Rng, plain: str) -> str:
    return plain[:3] + spoken(plain[3:7]) + plain[7:]


Form = tuple[str, int, Callable[[Rng, str], str]]
"""Name, weight and writer; forms named ``chinese...`` or ``mixed...`` are casual."""

MOBILE: list[Form] = [
    ("plain", 30, _same),
    ("spaces_344", 8, grouped((3, 4), " ")),
    ("dashes_344", 8, grouped((3, 4), "-")),
    ("dots_344", 3, grouped((3, 4), ".")),
    ("spaces_335", 2, grouped((3, 3, 5), " ")),
    ("spaces_434", 2, grouped((4, 3, 4), " ")),
    ("split_38", 2, grouped((3, 8), "-")),
    ("full_width", 5, _wide),
    ("full_width_344", 2, lambda r, p: group(wide(p), (3, 4), r.choice("－　"))),
    ("chinese", 4, _spoken),
    ("chinese_344", 3, lambda r, p: group(_yao(r, p), (3, 4), r.choice(" ，、-"))),
    ("chinese_yao", 3, _yao),
    ("chinese_capital", 3, lambda r, p: spoken(p, "零壹贰叁肆伍陆柒捌玖")),
    ("mixed_width", 5, _half_wide),
    ("mixed_chinese", 5, _half_spoken),
    ("mixed_single", 3, lambda r, p: " ".join(p)),
]
MOBILE_PREFIXES = (
    "+86", "+86 ", "+86-", "0086", "0086-", "86-", "（+86）", "(+86)", "＋８６ ",
)  # fmt: skip
ID_CARD: list[Form] = [
    ("plain", 40, _same),
    ("lower_x", 8, lambda r, p: p.lower()),
    ("full_x", 5, lambda r, p: p[:-1] + "Ｘ"),
    ("spaces_684", 10, grouped((6, 8, 4), " ")),
    ("dashes_684", 4, grouped((6, 8, 4), "-")),
    ("spaces_6444", 6, grouped((6, 4), " ")),
    ("spaces_333", 2, grouped((3,), " ")),
    ("full_width", 6, _wide),
    ("chinese", 3, _spoken),
    ("chinese_684", 2, lambda r, p: group(_yao(r, p), (6, 8, 4), r.choice(" ，"))),
    ("mixed_width", 5, _half_wide),
]
PASSPORT: list[Form] = [
    ("plain", 40, _same),
    ("lower", 6, lambda r, p: p.lower()),
    ("letter_space", 8, lambda r, p: " ".join(_letters(p))),
    ("spaces_4", 6, grouped((5, 4), " ")),
    ("letter_dash", 3, lambda r, p: "-".join(_letters(p))),
    ("full_width", 6, _wide),
    ("chinese", 3, _spoken),
    ("mixed_width", 5, _half_wide),
]
BANK_CARD: list[Form] = [
    ("plain", 36, _same),
    ("spaces_4444", 22, grouped((4,), " ")),
    ("dashes_4444", 8, grouped((4,), "-")),
    ("spaces_6", 4, grouped((6, 13), " ")),
    ("full_width", 6, _wide),
    ("full_width_4444", 2, lambda r, p: group(wide(p), (4,), r.choice(" 　"))),
    ("chinese", 3, _spoken),
    ("chinese_4444", 2, lambda r, p: group(_yao(r, p), (4,), r.choice(" ，"))),
    ("mixed_width", 5, _half_wide),
]
PLATE: list[Form] = [
    ("plain", 30, _same),
    ("dot", 22, grouped((2, 9), "·")),
    ("bullet", 3, grouped((2, 9), "•")),
    ("space", 8, grouped((2, 9), " ")),
    ("dash", 4, grouped((2, 9), "-")),
    ("full_stop", 2, grouped((2, 9), ".")),
    ("lower", 4, lambda r, p: p.lower()),
    ("full_width", 5, _wide),
    ("chinese", 2, _yao),
]
USCC: list[Form] = [
    ("plain", 45, _same),
    ("lower", 5, lambda r, p: p.lower()),
    ("spaces_4", 10, grouped((4,), " ")),
    ("spaces_891", 5, grouped((8, 9, 1), " ")),
    ("dashes_891", 3, grouped((8, 9, 1), "-")),
    ("full_width", 6, _wide),
]
QQ: list[Form] = [
    ("plain", 42, _same),
    ("spaces_3", 6, grouped((3,), " ")),
    ("dashes_4", 3, grouped((4,), "-")),
    ("full_width", 8, _wide),
    ("chinese", 6, _spoken),
    ("mixed_width", 5, _half_wide),
]
WECHAT: list[Form] = [
    ("plain", 80, _same),
    ("full_width", 6, _wide),
    ("upper", 3, lambda r, p: p.upper()),
]
EMAIL: list[Form] = [
    ("plain", 40, _same),
    ("upper", 5, lambda r, p: p.upper()),
    ("full_at", 9, lambda r, p: p.replace("@", "＠")),
    ("spaced_at", 5, lambda r, p: p.replace("@", " @ ")),
    ("full_width", 2, _wide),
    (
        "paren_at",
        6,
        lambda r, p: p.replace("@", r.choice(("(at)", "（at）", " (at) "))),
    ),
    ("bracket_at", 4, lambda r, p: p.replace("@", r.choice(("[at]", "【at】")))),
    ("at_dot", 3, lambda r, p: p.replace(".", " dot ").replace("@", " at ")),
    ("bracket_at_dot", 2, lambda r, p: p.replace(".", "[dot]").replace("@", "[at]")),
    ("hash", 0, lambda r, p: p.replace("@", "#")),
]
AREA_CODES = WORDS["area_codes_8"] + WORDS["area_codes_7"]
LANDLINE: list[Form] = [
    ("dash", 25, lambda r, p: _area(p)[0] + "-" + _area(p)[1]),
    ("paren", 5, lambda r, p: "({}){}".format(*_area(p))),
    ("full_paren", 5, lambda r, p: "（{}）{}".format(*_area(p))),
    ("space", 6, lambda r, p: "{} {}".format(*_area(p))),
    ("tight", 5, _same),
    ("full_width", 4, lambda r, p: wide("{}-{}".format(*_area(p)))),
    ("long_dash", 3, lambda r, p: r.choice("—－–").join(_area(p))),
    ("grouped", 6, lambda r, p: _area(p)[0] + "-" + group(_area(p)[1], (4,), " ")),
    ("chinese", 3, _spoken),
    ("chinese_grouped", 3, lambda r, p: "，".join(_area(_yao(r, p)))),
    ("plus86", 4, lambda r, p: r.choice("- ").join(_area(p[1:]))),
]
EXTENSIONS = ("-", "转", " 转 ", "－", "分机", " 分机 ", "转分机", " ext. ", "/")


def _area(plain: str) -> tuple[str, str]:
    """Area code and number; without its zero, or spoken, the code has the same length."""
    ascii_ = plain.translate(str.maketrans("零幺二三四五六七八九", "0123456789"))
    zero = "" if ascii_.startswith("0") else "0"
    length = 3 if (zero + ascii_)[1] in "12" else 4
    return plain[: length - len(zero)], plain[length - len(zero) :]


def _letters(plain: str) -> tuple[str, str]:
    number = plain.lstrip(PLATE_LETTERS)
    return plain[: -len(number)], number


def choose(rng: Rng, forms: list[Form], genre: str, wanted: str = "") -> Form:
    """A form by weight; numerals only in casual genres, and mostly in phone calls."""
    if wanted:
        return next(form for form in forms if form[0] == wanted)
    weights = [weight for _, weight, _ in forms]
    for index, (name, weight, _) in enumerate(forms):
        if name.startswith(("chinese", "mixed", "at_dot")):
            boost = 5 if genre == "call" and name.startswith("chinese") else 1
            weights[index] = weight * boost if genre in CASUAL_GENRES else 0
    return rng.choices(forms, weights)[0]


def mobile(rng: Rng, genre: str) -> Value:
    segment = rng.choice(RESERVED_SEGMENTS)
    if rng.random() < 0.5:
        segment = f"1{rng.randrange(3, 10)}{rng.randrange(10)}"
    plain = segment + digits(rng, 8)
    form, _, write = choose(rng, MOBILE, genre)
    text, prefix = write(rng, plain), ""
    if not form.startswith(("chinese", "mixed")) and rng.random() < 0.15:
        prefix = rng.choice(MOBILE_PREFIXES)
        form = f"{form}+{'0086' if prefix.startswith('00') else 'plus86'}"
    return Value(prefix, text, plain, form)


def landline(rng: Rng, genre: str, wanted: str = "") -> Value:
    short = rng.random() < 0.2
    area = rng.choice(WORDS["area_codes_7" if short else "area_codes_8"])
    first = "9" if rng.random() < 0.5 else rng.choice("2345678")
    plain = area + first + digits(rng, 6 if short else 7)
    form, _, write = choose(rng, LANDLINE, genre)
    text = write(rng, plain)
    prefix = rng.choice(("+86-", "+86 ", "0086-")) if form == "plus86" else ""
    if wanted == "ext" or (rng.random() < 0.15 and not form.startswith("chinese")):
        extension = digits(rng, rng.choice((3, 4)))
        said = spoken(extension) if form.startswith("chinese") else extension
        said = wide(extension) if form == "full_width" else said
        text += (rng.choice(EXTENSIONS[1:3]) if said != extension
                 else rng.choice(EXTENSIONS)) + said  # fmt: skip
        plain, form = f"{plain}-{extension}", f"{form}+ext"
    return Value(prefix, text, plain, form)


def id_card(rng: Rng, genre: str, wanted: str = "") -> Value:
    form, _, write = choose(rng, ID_CARD, genre)
    ends_in_x = wanted == "x" or form in ("lower_x", "full_x")
    while True:
        date = f"{rng.randrange(1940, 2008)}{rng.randrange(1, 13):02}"
        body = rng.choice(WORDS["id_regions"]) + date + f"{rng.randrange(1, 29):02}"
        body += f"{rng.randrange(1, 1000):03}"
        plain = body + id_digit(body)
        if plain[-1] == "X" or not ends_in_x:
            return Value("", write(rng, plain), plain, form)


def passport(rng: Rng, genre: str, wanted: str = "") -> Value:
    form, _, write = choose(rng, PASSPORT, genre)
    shapes = ["E########"] * 4 + ["E?#######"] * 4 + ["G########", "DE#######"]
    shapes = (
        ["M########", "T?#######", "K########"] if wanted else [*shapes, "PE#######"]
    )
    shape = rng.choice(shapes).replace("?", rng.choice(PLATE_LETTERS))
    plain = shape.replace("#", "") + digits(rng, shape.count("#"))
    return Value("", write(rng, plain), plain, form)


def bank_card(rng: Rng, genre: str) -> Value:
    while True:
        start = rng.choice(["62"] * 14 + ["4", "5", "51", "54", "35", "95"])
        length = rng.choice((16, 19, 19, 19, 18, 17))
        length = length if start in ("62", "95") else 16
        body = start + digits(rng, length - 1 - len(start))
        plain = body + luhn_digit(body)
        if not is_id_card(plain) and not is_uscc(plain):
            form, _, write = choose(rng, BANK_CARD, genre)
            return Value("", write(rng, plain), plain, form)


def license_plate(rng: Rng, genre: str, wanted: str = "") -> Value:
    """Fuel, new energy (six places), trailer or learner; the context may ask for one."""
    start = rng.choice(WORDS["provinces"]) + rng.choice(PLATE_LETTERS)
    kind = wanted or rng.choices(("fuel", "new_energy"), (3, 1))[0]
    places = list(digits(rng, 5))
    for place in rng.sample(range(5), rng.choice((0, 1, 1, 2))):
        places[place] = rng.choice(PLATE_LETTERS)
    small = rng.choice("DF") + rng.choice("0123456789" + PLATE_LETTERS) + digits(rng, 4)
    body = {
        "fuel": "".join(places),
        "new_energy": rng.choice((small, small, digits(rng, 5) + rng.choice("DF"))),
        "trailer": digits(rng, 4) + "挂",
        "learner": digits(rng, 4) + "学",
    }[kind]
    form, _, write = choose(rng, PLATE, genre)
    return Value("", write(rng, start + body), start + body, f"{form}+{kind}")


def uscc(rng: Rng, genre: str, wanted: str = "firm") -> Value:
    """A code with both check characters; none that could also be a bank card."""
    starts = {"firm": ("91",), "sole": ("92",), "public": ("51", "52", "12", "11")}
    starts["any"] = ("91", "91", "92", "93")
    start = rng.choice(starts[wanted])
    org = rng.choice(("MA", "MA", "MA", "")) if start[0] == "9" else ""
    pool = "0123456789" + "ABCDEFGHJKLMNPQRTUWXY" * bool(org)
    while len(org) < 8:
        org += rng.choice(pool)
    body = start + rng.choice(WORDS["id_regions"]) + org
    body += org_digit(org)
    plain = body + uscc_digit(body)
    if is_luhn(plain):
        return uscc(rng, genre, wanted)
    form, _, write = choose(rng, USCC, genre)
    return Value("", write(rng, plain), plain, form)


def email(rng: Rng, genre: str, wanted: str = "") -> Value:
    name = rng.choice(WORDS["mail_names"])
    name += rng.choice(("", "", str(rng.randrange(1, 2000)), "+news", "_cn"))
    plain = f"{name}@{rng.choice(WORDS['mail_domains'])}"
    if wanted == "obfuscated":
        wanted = rng.choice(("paren_at", "bracket_at", "at_dot", "bracket_at_dot"))
    form, _, write = choose(rng, EMAIL, genre, wanted)
    return Value("", write(rng, plain), plain, form)


def wechat(rng: Rng, genre: str) -> Value:
    word, number = rng.choice(WORDS["wechat_words"]), digits(rng, rng.choice((3, 4, 6)))
    other = rng.choice(WORDS["wechat_words"])
    tail = "".join(rng.choice("abcdefghijkmnpqrstuvwxyz0123456789") for _ in range(14))
    shapes = [(f"{word}{number}", "word_digits"), (f"{word}_{number}", "underscore")]
    shapes += [(f"{word}-{other}", "hyphen"), (f"{word}_{other}{number[:2]}", "words")]
    shapes += [(f"wxid_{tail}", "wxid"), (f"{word[0]}{number}{other}", "letters")]
    plain, shape = rng.choice(shapes)
    plain = plain if 6 <= len(plain) <= 20 else f"{word}_{number}88"[:20]
    form, _, write = choose(rng, WECHAT, genre)
    form = shape if form == "plain" else form
    return Value("", write(rng, plain), plain, form)


def qq(rng: Rng, genre: str) -> Value:
    length = rng.choices(range(5, 11), (1, 1, 1, 2, 6, 8))[0]
    plain = rng.choice("123456789") + digits(rng, length - 1)
    form, _, write = choose(rng, QQ, genre)
    return Value("", write(rng, plain), plain, form)
