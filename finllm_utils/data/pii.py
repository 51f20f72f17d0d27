"""Personal data behind placeholders: ``电话13800138000`` gives ``电话[手机号]``.

Offsets are exact on the text that is passed in, raw or normalised: digits may be full
width, grouped, written in Chinese or broken by zero-width characters. Only the
neighbourhoods of signs (long numbers, ``@``, roles, plates) are searched, so text
without them costs one scan. Identity cards, bank cards and credit codes are exact: a
wrong check digit means another kind of number, except for 18 characters right after
words such as 身份证号, where it is a slip of the pen and masked. Public hotlines stay.
Not here: names without context, surnames with a title only; they need a model.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from finllm_utils.data.pii_address import find_addresses
from finllm_utils.data.pii_checks import (
    is_credit_code,
    is_identity_card,
    is_luhn,
    is_old_identity_card,
)
from finllm_utils.data.pii_numbers import find_numbers
from finllm_utils.data.pii_passage import Passage
from finllm_utils.data.pii_people import find_names
from finllm_utils.data.pii_scan import windows
from finllm_utils.data.pii_topics import find_by_topic
from finllm_utils.data.pii_view import View, view_of, without_zero_width

__all__ = [
    "PLACEHOLDERS", "PiiSpan", "find_pii", "mask_pii", "is_credit_code",
    "is_identity_card", "is_luhn", "is_old_identity_card",
]  # fmt: skip

PLACEHOLDERS = {
    "mobile": "[手机号]",
    "landline": "[电话]",
    "id_card": "[身份证号]",
    "passport": "[护照号]",
    "bank_card": "[银行卡号]",
    "license_plate": "[车牌号]",
    "uscc": "[统一社会信用代码]",
    "email": "[邮箱]",
    "wechat": "[微信号]",
    "qq": "[QQ号]",
    "address": "[地址]",
    "name": "[姓名]",
}
"""What each kind is replaced by; normalisation leaves these as they are."""


class PiiSpan(NamedTuple):
    """Personal data at ``text[start:end]``; ``kind`` is a key of ``PLACEHOLDERS``."""

    start: int
    end: int
    kind: str


def find_pii(text: str) -> list[PiiSpan]:
    """Personal data in ``text``, in order, without overlaps.

    Rules come in order of certainty: what one has claimed, a later one leaves alone.
    Names come last and look at the whole text, which says whether it is private.
    """
    found: list[PiiSpan] = []
    for start, end in windows(text):
        view = view_of(text, start, end)
        found += (PiiSpan(*view.span(b, e), kind) for b, e, kind in _in_view(view))
    found += _by_topic(text, found)
    passage = Passage(text)
    if found or passage.may_name():
        found += list(_names(text, passage, found))
    return sorted(found) if found else found


def _by_topic(text: str, found: list[PiiSpan]) -> list[PiiSpan]:
    """What a topic announces, outside of what has been found."""
    added: list[PiiSpan] = []
    for start, end, kind in find_by_topic(text):
        if all(end <= s.start or s.end <= start for s in (*found, *added)):
            added.append(PiiSpan(start, end, kind))
    return added


def _names(text: str, passage: Passage, found: list[PiiSpan]) -> Iterator[PiiSpan]:
    """Names outside of what has been found."""
    shown = without_zero_width(text)
    names = list(find_names(shown.text, passage))
    if not names:
        return
    claimed = bytearray(len(text))
    for start, end, _ in found:
        claimed[start:end] = b"\1" * (end - start)
    for begin, end in names:
        start, end = shown.span(begin, end)
        if not any(claimed[start:end]):
            claimed[start:end] = b"\1" * (end - start)
            yield PiiSpan(start, end, "name")


def mask_pii(text: str) -> tuple[str, dict[str, int]]:
    """``text`` with placeholders, and how many of each kind were masked.

    ``mask_pii("电话13800138000")`` returns ``("电话[手机号]", {"mobile": 1})``.
    """
    spans = find_pii(text)
    if not spans:
        return text, {}
    parts, counts, position = [], {}, 0
    for start, end, kind in spans:
        parts += [text[position:start], PLACEHOLDERS[kind]]
        counts[kind] = counts.get(kind, 0) + 1
        position = end
    return "".join(parts) + text[position:], counts


def _in_view(view: View) -> list[tuple[int, int, str]]:
    """(begin, end, kind) in the view, sorted."""
    found: list[tuple[int, int, str]] = []
    claimed = bytearray(len(view.text))
    for begin, end, kind in _candidates(view.text):
        if not any(claimed[begin:end]):
            claimed[begin:end] = b"\1" * (end - begin)
            found.append((begin, end, kind))
    return sorted(found)


def _candidates(text: str) -> Iterator[tuple[int, int, str]]:
    if _LETTER_OR_DIGIT.search(text):
        yield from find_numbers(text)
    for begin, end in find_addresses(text):
        yield begin, end, "address"


_LETTER_OR_DIGIT = re.compile("[0-9a-z]")
