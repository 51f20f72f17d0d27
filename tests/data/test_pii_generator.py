"""The generated PII set: frozen contexts, exact spans, valid numbers, a strict judge."""

import re
import shutil
import unicodedata
from collections import Counter

import pytest

from tests.data import pii_generator
from tests.data.pii_digits import (
    id_digit,
    is_id_card,
    is_luhn,
    is_uscc,
    luhn_digit,
    org_digit,
    uscc_digit,
)  # fmt: skip
from tests.data.pii_generator import (
    FOLDER,
    SLOT,
    TYPES,
    PiiCase,
    contexts,
    filler,
    generate,
    judge,
    summary,
)
from tests.data.pii_people import chinese_number
from tests.data.pii_values import (
    BANK_CARD,
    EMAIL,
    ID_CARD,
    LANDLINE,
    MOBILE,
    MOBILE_PREFIXES,
    PASSPORT,
    PLATE,
    QQ,
    USCC,
    WECHAT,
    group,
)  # fmt: skip

NUMERALS = str.maketrans(
    "零〇幺一二三四五六七八九壹贰叁肆伍陆柒捌玖", "001123456789123456789"
)
FORMS = {
    "mobile": MOBILE, "landline": LANDLINE, "id_card": ID_CARD, "passport": PASSPORT,
    "bank_card": BANK_CARD, "license_plate": PLATE, "uscc": USCC, "qq": QQ,
    "email": EMAIL, "wechat": WECHAT,
}  # fmt: skip
NAME_FORMS = {
    "two", "two_spaced", "three", "two_surnames", "compound", "minority_dot",
    "minority_plain",
}  # fmt: skip
ADDRESS_FORMS = {
    "full", "city", "district", "spaced", "full_width", "chinese", "compact", "no_room",
    "rural", "english", "short",
}  # fmt: skip
LABELS = (
    "微信号", "微信", "vx", "V信", "薇信", "V：", "WeChat", "QQ", "qq", "扣扣", "企鹅号",
    "Q{", "扣{",
)  # fmt: skip


@pytest.fixture(scope="module")
def cases() -> list[PiiCase]:
    return generate(20, 5000)


def canonical(text: str, kind: str) -> str:
    """The identifier behind a written form, undone without the generator's help."""
    text = unicodedata.normalize("NFKC", text)
    if kind in ("address", "name"):
        return re.sub(r"\s", "", text)
    if kind == "email":
        text = re.sub(r"\s*[(\[【]?\bat\b[)\]】]?\s*|#", "@", text)
        return re.sub(r"\s+|\[(?=dot)|(?<=dot)\]", "", text).replace("dot", ".").lower()
    if kind == "wechat":
        return text.lower()
    text = re.sub(r"转分机|转|分机|ext\.", "", text).translate(NUMERALS)
    text = re.sub(r"[\s\-—–.,、·•()/]", "", text).upper()
    return text.lstrip("0") if kind == "landline" else text  # +86 drops the zero


@pytest.mark.parametrize(("part", "least"), [("tune", 37), ("fresh", 10)])
def test_contexts_are_many_and_of_every_type(part, least):
    counts = Counter(context["type"] for context in contexts(part))
    assert set(counts) == {*TYPES, "decoy"}
    assert min(counts[kind] for kind in TYPES) >= least and counts["decoy"] >= 30
    assert len({c["genre"] for c in contexts(part)}) >= 12


def test_no_context_stands_in_both_parts():
    both = contexts("tune") + contexts("fresh")
    assert len({c["id"] for c in both}) == len({c["text"] for c in both}) == len(both)


@pytest.mark.parametrize("part", ["tune", "fresh"])
def test_contexts_hold_their_type_and_decoys_nothing(part):
    for context in contexts(part):
        kinds = {m[1] for m in SLOT.finditer(context["text"]) if m[1] in TYPES}
        if context["type"] == "decoy":
            assert not kinds, context["id"]
        else:
            assert context["type"] in kinds, context["id"]
            literal = SLOT.sub("", context["text"])
            assert not re.search(r"\d{6}|[A-Za-z0-9]@", literal), context["id"]


def test_labels_of_chat_accounts_are_varied():
    texts = " ".join(context["text"] for context in contexts())
    for label in LABELS:
        assert label in texts, label


def test_a_changed_context_is_refused(tmp_path, monkeypatch):
    copy = tmp_path / "pii"
    shutil.copytree(FOLDER, copy)
    with (copy / "contexts.jsonl").open("a", encoding="utf-8") as handle:
        handle.write("\n")
    monkeypatch.setattr(pii_generator, "FOLDER", copy)
    contexts.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"contexts\.jsonl differs"):
            contexts()
    finally:
        contexts.cache_clear()


def test_the_same_seed_gives_the_same_cases():
    assert generate(3, 200) == generate(3, 200)
    assert generate(3, 100) == generate(3, 200)[:100]
    assert generate(3, 100) != generate(4, 100)


def test_every_context_is_used(cases):
    used = Counter(context for case in cases for context in case.contexts)
    assert set(used) == {context["id"] for context in contexts()}
    assert min(used.values()) >= 5000 // len(contexts())
    assert sum("\n" in case.text for case in cases) > 500
    assert sum(not case.spans for case in cases) > 1000


def test_the_card_tells_the_counts(cases):
    card = (FOLDER / "CARD.md").read_text(encoding="utf-8")
    for part in (cases, generate(20, 5000, "fresh")):
        gold = sum(len(case.spans) for case in part)
        empty = sum(not case.spans for case in part)
        assert f"{gold:,} gold spans" in card
        assert f"{empty:,} passages without any" in card
    decoys = sum(context["type"] == "decoy" for context in contexts())
    assert f"{len(contexts())} short" in card and f"{decoys} are decoys" in card
    assert f"{len(contexts('fresh'))} more" in card


def test_spans_are_the_identifiers(cases):
    for case in cases:
        last = 0
        for (start, end, kind), plain in zip(case.spans, case.plain, strict=True):
            assert last <= start < end <= len(case.text)
            last, written = end, case.text[start:end]
            assert canonical(written, kind) == canonical(plain, kind), (written, plain)
            assert not re.match(r"\s|.*\s$", written), "white space at an edge"
        assert "{" not in case.text and len(case.plain) == len(case.forms)


def test_no_digit_touches_a_number(cases):
    for case in cases:
        for start, end, kind in case.spans:
            if kind in ("address", "name"):
                continue
            before, after = case.text[:start][-1:], case.text[end:][:1]
            country = case.text[:start].endswith(("86", "８６"))
            letters = "A-Za-z" if kind in ("email", "wechat", "passport") else ""
            assert country or not re.match(f"[0-9０-９{letters}]", before), case.text
            assert not re.match(r"[0-9A-Za-z０-９_]", after), case.text


def test_all_types_and_written_forms_occur(cases):
    counts = Counter(kind for case in cases for _, _, kind in case.spans)
    assert min(counts[kind] for kind in TYPES) >= 300
    seen = {kind: set() for kind in TYPES}
    for case in cases + generate(20, 5000, "fresh"):
        for (_, _, kind), form in zip(case.spans, case.forms, strict=True):
            seen[kind].update(form.split("+"))
    for kind, forms in FORMS.items():
        wanted = {name for name, _, _ in forms}
        wanted -= {"plain"} if kind == "wechat" else set()
        assert wanted <= seen[kind], wanted - seen[kind]
    assert {"plus86", "0086"} <= seen["mobile"] and "ext" in seen["landline"]
    assert {"fuel", "new_energy", "trailer", "learner"} <= seen["license_plate"]
    assert {"wxid", "underscore", "hyphen"} <= seen["wechat"]
    assert seen["name"] == NAME_FORMS and seen["address"] == ADDRESS_FORMS


def test_every_mobile_prefix_and_country_code_occurs(cases):
    segments, codes = set(), set()
    for case in cases:
        for (start, _, kind), plain in zip(case.spans, case.plain, strict=True):
            if kind == "mobile":
                segments.add(plain[:2])
                codes |= {p for p in MOBILE_PREFIXES if case.text[:start].endswith(p)}
    assert segments == {f"1{n}" for n in range(3, 10)}
    assert codes == set(MOBILE_PREFIXES)


def test_check_digits_of_known_examples():
    assert luhn_digit("7992739871") == "3"  # the example of the Luhn article
    assert luhn_digit("411111111111111") == "1"  # the usual test card
    assert id_digit("11010519491231002") == "X"  # the example of GB 11643
    assert id_digit("44052418800101001") == "4"  # the other one
    assert org_digit("D2143569") == "X"  # the example of GB 11714
    assert uscc_digit("91350100M000100Y4") == "3"  # the example of GB 32100
    assert is_uscc("91350100M000100Y43") and not is_uscc("91350100M000100Y34")
    assert is_luhn("79927398713") and not is_luhn("79927398710")


def test_generated_numbers_are_valid(cases):
    patterns = {
        "mobile": r"1[3-9]\d{9}",
        "landline": r"0\d{2,3}[2-9]\d{6,7}(-\d{3,4})?",
        "passport": r"[A-Z]{1,2}\d{7,8}",
        "license_plate": r"[\u4e00-\u9fff][A-HJ-NP-Z][0-9A-HJ-NP-Z]{4,6}[挂学]?",
        "email": r"[\w.+-]+@[\w.-]*(example(\.(com|cn|org))?|test)",
        "wechat": r"[A-Za-z][\w-]{5,19}",
        "qq": r"[1-9]\d{4,9}",
    }
    for case in cases:
        for (_, _, kind), plain in zip(case.spans, case.plain, strict=True):
            if kind == "id_card":
                assert is_id_card(plain), plain
            elif kind == "bank_card":
                assert 16 <= len(plain) <= 19 and is_luhn(plain), plain
                assert not is_id_card(plain) and not is_uscc(plain), plain
            elif kind == "uscc":
                assert is_uscc(plain) and org_digit(plain[8:16]) == plain[16], plain
                assert not is_luhn(plain), plain
            elif kind in patterns:
                assert re.fullmatch(patterns[kind], plain), plain


def test_decoys_pass_no_check(cases):
    decoys = [case for case in cases if not case.spans]
    for case in decoys:
        for run in re.findall(
            r"[0-9A-Z]{16,}", re.sub("(?<=\\d) (?=\\d)", "", case.text)
        ):
            for size in range(16, 20):
                if len(run) == size:
                    assert not is_luhn(run) and not is_id_card(run), case.text
                    assert not is_uscc(run), case.text


@pytest.mark.parametrize("kind", ["x_nothing", "x_digits"])
def test_an_unknown_filler_is_refused(kind):
    with pytest.raises(ValueError, match="unknown filler"):
        filler(None, kind)


def test_numbers_in_chinese_and_groups():
    assert [chinese_number(n) for n in (7, 10, 15, 40, 108, 110, 128)] == [
        "七", "十", "十五", "四十", "一百零八", "一百一十", "一百二十八",
    ]  # fmt: skip
    assert group("13800138000", (3, 4), "-") == "138-0013-8000"
    assert group("330106199001011234", (6, 8, 4), " ") == "330106 19900101 1234"


def made(text: str, *spans: tuple[int, int, str]) -> PiiCase:
    return PiiCase(
        text, spans, ("x",), tuple("" for _ in spans), tuple("" for _ in spans)
    )


@pytest.mark.parametrize(
    ("found", "hits", "right", "wrong"),
    [
        ([(10, 21, "mobile")], 1, 1, 0),  # exact
        ([(7, 21, "mobile")], 1, 1, 0),  # with the country code
        ([(4, 21, "mobile")], 1, 1, 0),  # with its label
        ([(2, 21, "mobile")], 0, 0, 1),  # eats a word of the sentence
        ([(10, 23, "mobile")], 0, 0, 1),  # eats a word after it
        ([(10, 20, "mobile")], 0, 1, 0),  # one digit is left
        ([(10, 15, "mobile"), (15, 21, "mobile")], 1, 2, 0),  # in two pieces
        ([(10, 21, "landline")], 0, 0, 1),  # wrong placeholder
        ([(0, 2, "name"), (10, 21, "mobile")], 1, 1, 1),  # something else as well
        ([], 0, 0, 0),
    ],
)
def test_judge_by_hand(found, hits, right, wrong):
    case = made("请打我的手机+86 13800138000找我", (10, 21, "mobile"))
    assert case.text[10:21] == "13800138000"
    verdict = judge(case, found)
    assert len(verdict.hits) == hits and len(verdict.misses) == 1 - hits
    assert (len(verdict.right), len(verdict.wrong)) == (right, wrong)


def test_one_span_may_cover_two_neighbours_but_no_words_between():
    near = made("QQ：123456、654321", (3, 9, "qq"), (10, 16, "qq"))
    assert len(judge(near, [(3, 16, "qq")]).hits) == 2
    far = made("QQ：123456或许654321", (3, 9, "qq"), (11, 17, "qq"))
    assert judge(far, [(3, 17, "qq")]).wrong == ((3, 17, "qq"),)


def test_summary_of_a_perfect_and_of_a_blind_masker(cases):
    some = cases[:500]
    perfect = summary(some, [case.spans for case in some])
    for counts in perfect.values():
        assert (
            counts["gold"] == counts["hits"] == counts["found"] == counts["right"] > 0
        )
    blind = summary(some, [[] for _ in some])["all"]
    assert blind == {"gold": perfect["all"]["gold"], "hits": 0, "found": 0, "right": 0}
