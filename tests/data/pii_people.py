"""Fictional names and addresses: real cities, invented streets, villages and people."""

import random

from tests.data.pii_values import WORDS, Value, spoken, wide

Rng = random.Random
FORMAL_GENRES = {"form", "loan_file", "contract", "claim", "transfer"}
CHINESE = "零一二三四五六七八九"


def name(rng: Rng, genre: str, wanted: str = "") -> Value:
    """Two to four characters, compound surnames, minority names with and without dot."""
    surname, kind = rng.choice(WORDS["surnames"]), rng.random()
    given = "".join(rng.sample(WORDS["given"], 2))
    if wanted == "minority" or kind < 0.08:
        return _minority(rng)
    if kind < 0.16:
        compound = rng.choice(WORDS["compound_surnames"])
        given = given[: rng.choice((1, 2, 2))]
        return Value("", compound + given, compound + given, "compound")
    if kind < 0.19:
        plain = surname + rng.choice(WORDS["surnames"]) + given
        return Value("", plain, plain, "two_surnames")
    if kind < 0.35:
        plain = surname + given[0]
        if genre in FORMAL_GENRES and rng.random() < 0.15:
            return Value("", "　".join(plain), plain, "two_spaced")
        return Value("", plain, plain, "two")
    return Value("", surname + given, surname + given, "three")


def _minority(rng: Rng) -> Value:
    if rng.random() < 0.35:
        plain = rng.choice(WORDS["minority_single"])
        return Value("", plain, plain, "minority_plain")
    dot = rng.choice("···••．")
    plain = (
        rng.choice(WORDS["minority_first"]) + dot + rng.choice(WORDS["minority_last"])
    )
    return Value("", plain, plain, "minority_dot")


def chinese_number(number: int) -> str:
    """A number below 1000 in Chinese, as in an address: 128 is 一百二十八."""
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    text = CHINESE[hundreds] + "百" if hundreds else ""
    if tens:
        text += ("" if tens == 1 and not hundreds else CHINESE[tens]) + "十"
    elif hundreds and ones:
        text += "零"
    return text + (CHINESE[ones] if ones else "")


def _region(rng: Rng) -> tuple[str, str, str]:
    province, city, districts = rng.choice(WORDS["regions"])
    return province, city, rng.choice(districts)


def _street(rng: Rng) -> str:
    number = rng.randrange(1, 400)
    lane = f"{number}弄{rng.randrange(1, 40)}号"
    forms = (f"{number}号", f"{number}号", f"{number}号", f"{number}号院", lane)
    town = rng.choice(WORDS["subdistricts"]) if rng.random() < 0.2 else ""
    sub = f"{number}-{rng.randrange(1, 9)}号"
    return town + rng.choice(WORDS["streets"]) + rng.choice((*forms, sub))


def _room(rng: Rng) -> str:
    """Building, unit and room; the room always ends the address."""
    building, unit = rng.randrange(1, 40), rng.randrange(1, 5)
    floor, door = rng.randrange(1, 33), rng.randrange(1, 5)
    room = f"{floor}{door:02}"
    tower = f"{rng.choice('ABCD')}座"
    return rng.choice(
        (
            f"{building}幢{unit}单元{room}室",
            f"{building}号楼{unit}单元{room}室",
            f"{building}栋{unit}单元{room}",
            f"{building}号楼{room}室",
            f"{tower}{room}室",
            f"{tower}{floor}楼{room}",
            f"{building}栋{tower}{room}房",
        )
    )


def _compact_room(rng: Rng) -> str:
    building, unit = rng.randrange(1, 40), rng.randrange(1, 5)
    room = f"{rng.randrange(1, 33)}{rng.randrange(1, 5):02}"
    return rng.choice((f"{building}-{unit}-{room}", f"{building}#楼{unit}-{room}"))


def _chinese_tail(rng: Rng) -> str:
    building = chinese_number(rng.randrange(1, 40))
    unit, room = rng.choice("一二三四"), f"{rng.randrange(1, 10)}0{rng.randrange(1, 5)}"
    number = chinese_number(rng.randrange(1, 400))
    street = f"{rng.choice(WORDS['streets'])}{number}号"
    return f"{street}{building}号楼{unit}单元{spoken(room)}室"


def _rural(rng: Rng) -> str:
    if rng.random() < 0.12:
        parts = (rng.choice(WORDS[k]) for k in ("herding_regions", "sumu", "gacha"))
        return "".join(parts) + f"{rng.randrange(1, 60)}号"
    group, house = rng.randrange(1, 16), f"{rng.randrange(1, 150)}号"
    place = rng.choice(
        (
            f"{group}组{house}",
            f"{group}组",
            f"第{chinese_number(group)}村民小组{house}",
            f"{chinese_number(group)}组{house}",
            f"{rng.choice(WORDS['hamlets'])}屯{house}",
            house,
        )
    )
    parts = (rng.choice(WORDS[k]) for k in ("rural_regions", "towns", "villages"))
    return "".join(parts) + place


def _english(rng: Rng) -> str:
    province, city, district = _region(rng)
    estate = rng.choice(WORDS["english_estates"])
    number, building = rng.randrange(1, 300), rng.randrange(1, 20)
    room = f"{rng.randrange(1, 30)}{rng.randrange(1, 9):02}"
    street = rng.choice(WORDS["streets"])
    return rng.choice(
        (
            f"{city or province}{district}{street}{number}号{estate} {building}栋{room}室",
            f"{city or province}{district}{estate} {rng.choice('ABC')}座{room}",
            f"Room {room}, {building}号楼, {street}{number}号, {district}, {city or province}",
        )
    )


def _urban(rng: Rng) -> tuple[str, str]:
    province, city, district = _region(rng)
    if not city:
        province, city = "", province
    estate = rng.choice(WORDS["estates"]) if rng.random() < 0.7 else ""
    street, room = _street(rng), _room(rng)
    form = rng.choices(
        (
            "full",
            "city",
            "district",
            "spaced",
            "full_width",
            "chinese",
            "compact",
            "no_room",
        ),
        (25, 18, 9, 6, 5, 4, 9, 5),
    )[0]
    if form == "district":
        return district + street + estate + room, form
    if form == "spaced":
        parts = (province, city, district, street + estate, room)
        return " ".join(part for part in parts if part), form
    if form == "chinese":
        return city + district + _chinese_tail(rng), form
    start = (city if form == "city" else province + city) + district + street
    if form == "compact":
        return start + (estate or rng.choice(WORDS["estates"])) + _compact_room(
            rng
        ), form
    if form == "no_room":
        return start, form
    full = start + estate + room
    return (wide(full) if form == "full_width" else full), form


def address(rng: Rng, genre: str, wanted: str = "") -> Value:
    """A home or mailing address of any depth; ``wanted`` names its kind."""
    kinds = ("urban", "rural", "english", "short")
    kind = wanted or rng.choices(kinds, (75, 14, 5, 6))[0]
    form = kind
    if kind == "urban":
        text, form = _urban(rng)
    elif kind == "rural":
        text = _rural(rng)
    elif kind == "english":
        text = _english(rng)
    elif kind == "short":
        tail = _room(rng) if rng.random() < 0.7 else _compact_room(rng)
        text = rng.choice(WORDS["estates"]) + tail
    else:
        raise ValueError(f"contexts.jsonl: no kind of address {kind!r}")
    return Value("", text, text, form)
