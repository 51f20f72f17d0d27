"""What an answer says of risk: recognised disclosures, and forbidden promises.

The words are data with a version, ``compliance_words.json``. Phrases are looked up
clause by clause, so that a denial belongs to what stands behind it: 不保本 discloses,
保本 promises. Differs from a reader: a disclosure in other words is not seen, and a
clause is judged alone. Rewards call this; nothing here knows a model.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unicodedata import normalize

from finllm_utils.files import read_json

DATA_FILES = ("finllm_utils/finance/compliance_words.json",)
WORDS_FILE = Path(__file__).with_name("compliance_words.json")
_SENTENCE = re.compile(r"[^。!?;\n]+[。!?;\n]*")  # after NFKC, which leaves 。 alone
_CLAUSE = re.compile(r"[^,、:]+")
_QUESTION = re.compile(r"(?:\?|[吗么呢][。!]*)$")


@dataclass(frozen=True, slots=True)
class _Words:
    """The word lists as patterns."""

    version: str
    disclosure: re.Pattern[str]
    undone: re.Pattern[str]
    promise: re.Pattern[str]
    denied: re.Pattern[str]  # the end of what stands before a promise
    doubt: re.Pattern[str]


@cache
def compliance_words() -> _Words:
    """The lists of ``compliance_words.json``; an answer may name their ``version``."""
    lists = read_json(WORDS_FILE)

    def any_of(name: str) -> str:
        longest_first = sorted(lists[name], key=len, reverse=True)
        return "(?:" + "|".join(map(re.escape, longest_first)) + ")"

    return _Words(
        version=lists["version"],
        disclosure=re.compile(any_of("disclosures")),
        undone=re.compile(any_of("undone_by")),
        promise=re.compile(any_of("promises")),
        denied=re.compile(f"{any_of('denials')}{any_of('links')}*$"),
        doubt=re.compile(any_of("doubts")),
    )


def disclosures(text: str) -> list[str]:
    """The recognised disclosures of ``text``, in order; questions disclose nothing.

    Example: 股价会变，投资有风险。 gives ["投资有风险"]; 投资有风险吗？ gives [].
    """
    return [found for clause in _stated(text) if (found := _disclosure(clause))]


def promises(text: str) -> list[str]:
    """The promises of safety or profit that ``text`` makes and does not deny.

    Example: 保本，稳赚。 gives ["保本", "稳赚"]; 不保本，没人能保证收益。 gives [].
    """
    words = compliance_words()
    return [
        found[0]
        for clause in _stated(text)
        for found in words.promise.finditer(clause)
        if not words.denied.search(clause[: found.start()])
        and not words.doubt.search(clause[found.end() :])
    ]


def without_disclosures(text: str) -> str:
    """The clauses of ``text`` that disclose nothing: what else an answer says."""
    return "".join(clause for clause in _clauses(text) if not _disclosure(clause))


def _disclosure(clause: str) -> str:
    words = compliance_words()
    found = words.disclosure.search(clause)
    if not found or words.undone.search(clause[: found.start()]):
        return ""
    return found[0]


def _stated(text: str) -> list[str]:
    """The clauses of all sentences that are no questions."""
    return [
        clause
        for sentence in _sentences(text)
        if not _QUESTION.search(sentence)
        for clause in _CLAUSE.findall(sentence)
    ]


def _clauses(text: str) -> list[str]:
    return [c for sentence in _sentences(text) for c in _CLAUSE.findall(sentence)]


def _sentences(text: str) -> list[str]:
    """Without white space and full-width forms: 风 险 is no way round a list."""
    return _SENTENCE.findall(re.sub(r"\s", "", normalize("NFKC", text)))
