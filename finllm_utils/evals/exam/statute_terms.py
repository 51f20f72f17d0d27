"""Terms of the law base: who acts in a statute's sentences, and what it defines.

A subject is what stands before 应当, 不得, 可以 at the beginning of a sentence
(投保人, 国务院保险监督管理机构); a defined term stands before 是指. Two subjects are of
the same kind when they end alike, as those in 人, 机构, 部门 or 公司 do.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

_SUBJECT = re.compile(
    r"(?P<term>[\u4e00-\u9fff]{2,14}?)(?=依法应当|依法可以|应当|不得|可以|有权|负责)"
)
_DEFINED = re.compile(r"(?:本法所称的?)?(?P<term>[\u4e00-\u9fff]{2,12})，?(?=是指)")
_NOT_A_TERM = re.compile(
    "[的和或及因在对向从于以与经未为其本该依按将被所之者并但由需是不各任何每等前后上下中时]"
    "|国家|违反|规定|下列|情形|必要|确有|不服|发现|认为|根据|可能|有关|自然人|情况|一般"
)
_ALLOWED = re.compile(
    "被保险人|被告|经营|依法|经纪|经理|为|所|中国|中心|上市|以上|事务|在"
)
_ACTS = "人者员官师会院关构门位司行所府局厅团校园社站户业组"
"""What those end with that can act: persons, bodies, authorities."""
_TOO_WIDE = {"国务院", "全社会", "电影院", "学校", "企业", "公民", "当事人", "行业"}
_MIN_USES = 3  # a string that opens three sentences is a term, not an accident
_LIKE_LENGTH = 2  # characters by which a wrong term may be longer or shorter


class Term(NamedTuple):
    """A term at ``start`` to ``end`` of its sentence; kind is subject or defined."""

    text: str
    start: int
    end: int
    kind: str


def opening_term(sentence: str) -> Term | None:
    """The subject or defined term that a sentence begins with; None without one.

    The term occurs once in the sentence, so that a blank hides all of it.
    """
    for kind, pattern in (("defined", _DEFINED), ("subject", _SUBJECT)):
        if found := pattern.match(sentence):
            term = found["term"]
            acts = term[-1] in _ACTS and term not in _TOO_WIDE
            known = _is_term(term) and (acts or kind == "defined")
            if known and sentence.count(term) == 1:
                return Term(term, found.start("term"), found.end("term"), kind)
            return None
    return None


def _is_term(text: str) -> bool:
    return not _NOT_A_TERM.search(_ALLOWED.sub("", text))


class TermPool:
    """The subjects and defined terms of the laws, with the laws that use them."""

    def __init__(self, sentences: Iterable[tuple[str, str]]) -> None:
        """Args: sentences are pairs (name of the law, sentence)."""
        self._counts: dict[str, Counter[str]] = {}
        self._of_law: dict[tuple[str, str], Counter[str]] = {}
        for law, sentence in sentences:
            if term := opening_term(sentence):
                for table, key in (
                    (self._counts, term.kind),
                    (self._of_law, (term.kind, law)),
                ):
                    table.setdefault(key, Counter())[term.text] += 1

    def is_common(self, term: Term) -> bool:
        """Whether a subject opens enough sentences; every defined term is one."""
        uses = self._counts.get(term.kind, Counter())[term.text]
        return term.kind == "defined" or uses >= _MIN_USES

    def others(
        self, true: Term, law: str, article: str, number: int, rng: random.Random
    ) -> list[str]:
        """``number`` wrong terms of the same kind, or none when there are fewer.

        Those of the same law come first. None stands in ``article``, and none is the
        true term with characters added or left out.
        """
        own = self._of_law.get((true.kind, law), Counter())
        ranked = []
        for text, uses in self._counts.get(true.kind, Counter()).items():
            fits = (
                (text in own or text[-1] == true.text[-1])
                and (true.kind == "defined" or uses >= _MIN_USES)
                and abs(len(text) - len(true.text)) <= _LIKE_LENGTH
                and text not in article
                and not _alike(text, true.text)
            )
            if fits:
                draw = rng.random() ** (1 / uses)
                ranked.append((text in own, draw, text))
        picked: list[str] = []
        for _, _, text in sorted(ranked, reverse=True):
            if not any(_alike(text, one) for one in picked):
                picked.append(text)
            if len(picked) == number:
                return picked
        return []


def _alike(one: str, other: str) -> bool:
    """Whether the shorter one's characters stand in the longer one in that order."""
    short, rest = sorted((one, other), key=len)
    left = iter(rest)
    return all(char in left for char in short)
