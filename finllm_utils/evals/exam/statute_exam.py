"""A statute exam made from the law base: thousands of items whose key is the article.

Four kinds: a number or a term blanked out of a quoted sentence, the article that a
quoted sentence stands in, and a quoted sentence whose number may have been changed.
Two forms: ``open`` asks about laws of the training corpus in sentences of its own, so
knowing the law helps and knowing the item cannot; ``unseen`` asks about held-out laws,
where only general knowledge of how statutes are written helps.
A sentence serves one item. Left out are sentences and articles that stand twice in the
base, sentences that differ from another one of their law in numbers or subject alone,
and those that lean on their neighbours (前款规定的).
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from finllm_utils.corpora.laws import Article, Law, laws
from finllm_utils.corpora.sources import training_laws
from finllm_utils.corpora.splits import text_key
from finllm_utils.evals.exam.items import TRUE_FALSE
from finllm_utils.evals.exam.statute_numbers import QuantityPool, quantities
from finllm_utils.evals.exam.statute_terms import TermPool, opening_term
from finllm_utils.records import Document, ExamItem

FORMS = ("open", "unseen")
LETTERS = "ABCD"
KINDS = {
    "number": (
        "法条数字",
        "《{law}》{number}有这样一句：“{quote}”横线上原来是哪个数？",
    ),
    "term": ("法条用语", "《{law}》{number}有这样一句：“{quote}”横线上原来是哪个词？"),
    "article": ("法条条号", "“{quote}”这句话写在《{law}》的哪一条里？"),
    "true_false": (
        "法条核对",
        "有人这样引用《{law}》{number}：“{quote}”引文里的数与法条一致。",
    ),
}
"""{kind: (subject, wording of the question)}."""
BLANK = "____"
_MIN_CHARS, _MAX_CHARS = 14, 120
_NEIGHBOURS = 6  # articles before and after from which wrong numbers are taken
_NUMBERED = re.compile("第[一二三四五六七八九十百千]+条(?:之[一二三四五六七八九十]+)?")
_MARK = re.compile("^（[一二三四五六七八九十]+）")
_LEANS = re.compile(
    "前[款项条两三]|上述|本[条款项]|该[条款项]|^[（其该此]|起施行|同时废止"
)
_CITES = re.compile("第[一二三四五六七八九十百]+[条款项章节]|下列")
_AMENDS = re.compile("修正案|决定|解释|决议|修改")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with its law, its article and the article's whole text."""

    law: str
    article: Article
    text: str


def exam_laws(form: str) -> tuple[Law, ...]:
    """The laws that a form asks about.

    Raises: ValueError for an unknown form.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; use {' or '.join(FORMS)}")
    trained = {law.name for law in training_laws()}
    return tuple(law for law in laws() if (law.name in trained) == (form == "open"))


def statute_exam(
    form: str,
    *,
    seed: int,
    per_kind: int = 0,
    finance_only: bool = False,
    trained_on: Iterable[Document] | None = None,
) -> list[ExamItem]:
    """The items of one form, kind after kind, the same for the same seed.

    Args: per_kind bounds the items of a kind (0: all there are); finance_only leaves
    laws of other fields out; trained_on are the documents of a run that reads a part of
    the laws only: ``open`` then asks about articles that stand in them.
    Raises: ValueError for an unknown form, or when no article is left to ask about.
    """
    chosen = {law.name for law in exam_laws(form) if law.is_finance or not finance_only}
    pool = [one for one in _sentences() if one.law in chosen]
    if trained_on is not None and form == "open":
        pool = _standing_in(pool, trained_on)
    if not pool:
        raise ValueError(
            "no article of the law base is left to ask about: the documents of "
            "trained_on hold no law; pass the training documents before cleaning"
        )
    rng = random.Random(f"{form}/{seed}")
    rng.shuffle(pool)
    used: set[str] = set()
    items: list[ExamItem] = []
    for kind, draw in _DRAWERS.items():
        drafts = []
        for one in pool:
            if per_kind and len(drafts) == per_kind:
                break
            if one.text not in used and (draft := draw(one, rng)):
                used.add(one.text)
                drafts.append(draft)
        items += _dealt(kind, form, drafts, rng)
    return items


def _standing_in(
    pool: Sequence[Sentence], documents: Iterable[Document]
) -> list[Sentence]:
    texts = defaultdict(list)
    for document in documents:
        if document.source == "laws":
            texts[document.id.split("/")[1]].append(document.text)
    joined = {law: "\n".join(parts) for law, parts in texts.items()}
    return [one for one in pool if one.article.text in joined.get(one.law, "")]


@cache
def _sentences() -> tuple[Sentence, ...]:
    """Every sentence of the base that can be asked about by itself."""
    articles = Counter(a.text for law in laws() for a in law.articles)
    every = _every_sentence()
    texts = Counter(one.text for one in every)
    names = [(one.law, _frame(one.text)) for one in every]
    frames = Counter(names)
    return tuple(
        one
        for one, name in zip(every, names, strict=True)
        if articles[one.article.text] == 1
        and texts[one.text] == 1
        and frames[name] == 1
        and _NUMBERED.fullmatch(one.article.number_zh)
        and not _AMENDS.search(one.law)
        and _MIN_CHARS <= len(one.text) <= _MAX_CHARS
        and not _LEANS.search(one.text)
    )


@cache
def _every_sentence() -> tuple[Sentence, ...]:
    return tuple(
        Sentence(law.name, article, text)
        for law in laws()
        for article in law.articles
        for text in _split(article.text)
    )


def _split(text: str) -> Iterator[str]:
    """Sentences with their end; of a list's parts and heads, those with numbers."""
    for line in text.split("\n"):
        mark = _MARK.match(line)
        pattern = "[^。；]+[。；]" if mark else "[^。：]+。|[^。]+：$"
        for part in re.findall(pattern, _MARK.sub("", line)):
            whole = part[-1] == "。" and not mark
            if not re.search('["“”《（]', part) and (whole or quantities(part)):
                yield part.strip()


def _frame(sentence: str) -> str:
    """The sentence without its numbers and its subject."""
    if term := opening_term(sentence):
        sentence = sentence[: term.start] + "@" + sentence[term.end :]
    for one in reversed(quantities(sentence)):
        sentence = sentence[: one.start] + "#" + sentence[one.end :]
    return sentence


@cache
def _quantity_pool() -> QuantityPool:
    return QuantityPool(a.text for law in laws() for a in law.articles)


@cache
def _term_pool() -> TermPool:
    return TermPool((one.law, one.text) for one in _every_sentence())


@dataclass(frozen=True, slots=True)
class _Draft:
    """An item before its options are put in order; the first option is right."""

    sentence: Sentence
    quote: str
    options: tuple[str, ...]


def _number(one: Sentence, rng: random.Random) -> _Draft | None:
    """A blank for a number that the sentence states once."""
    every = quantities(one.text)
    found = [q for q in every if one.text.count(q.text) == 1]
    spared = len(every) == 1 and rng.random() < 0.5  # half of these are true_false's
    if not found or spared:
        return None
    true = rng.choice(found)
    wrong = _quantity_pool().others(true, one.article.text, 3, rng)
    quote = one.text[: true.start] + BLANK + one.text[true.end :]
    return _Draft(one, quote, (true.text, *wrong)) if wrong else None


def _edited(one: Sentence, rng: random.Random) -> _Draft | None:
    """A sentence with a single number, as it stands and with another one."""
    found = quantities(one.text)
    if len(found) != 1:
        return None
    true = found[0]
    wrong = _quantity_pool().others(true, one.article.text, 1, rng)
    if not wrong:
        return None
    changed = one.text[: true.start] + wrong[0] + one.text[true.end :]
    return _Draft(one, "", (one.text, changed))


def _term(one: Sentence, rng: random.Random) -> _Draft | None:
    """A blank for the subject or the defined term."""
    true = opening_term(one.text)
    if true is None or not _term_pool().is_common(true):
        return None
    wrong = _term_pool().others(true, one.law, one.article.text, 3, rng)
    quote = one.text[: true.start] + BLANK + one.text[true.end :]
    return _Draft(one, quote, (true.text, *wrong)) if wrong else None


def _article(one: Sentence, rng: random.Random) -> _Draft | None:
    """Four articles of which the true one is at any place in order of number."""
    if one.text[-1] != "。" or _CITES.search(one.text):
        return None
    wordings = _wordings(one.law)
    numbers = list(wordings)
    place = numbers.index(one.article.number_zh)
    before = rng.randrange(len(LETTERS))
    low = numbers[max(0, place - _NEIGHBOURS) : place]
    high = numbers[place + 1 : place + 1 + _NEIGHBOURS]
    if len(low) < before or len(high) < len(LETTERS) - 1 - before:
        return None
    wrong = rng.sample(low, before) + rng.sample(high, len(LETTERS) - 1 - before)
    if any(one.text in wordings[number] for number in wrong):
        return None  # it stands there in a longer sentence, or in a list
    return _Draft(one, one.text, (one.article.number_zh, *wrong))


@cache
def _wordings(law: str) -> dict[str, str]:
    """{number of the article: its text}, in order."""
    articles = next(one.articles for one in laws() if one.name == law)
    return {a.number_zh: a.text for a in articles if _NUMBERED.fullmatch(a.number_zh)}


_DRAWERS = {
    "number": _number,
    "true_false": _edited,
    "term": _term,
    "article": _article,
}


def _dealt(
    kind: str, form: str, drafts: Sequence[_Draft], rng: random.Random
) -> Iterator[ExamItem]:
    """The drafts as items: each letter is right equally often."""
    subject, wording = KINDS[kind]
    letters = LETTERS[:2] if kind == "true_false" else LETTERS
    answers = [letters[i % len(letters)] for i in range(len(drafts))]
    rng.shuffle(answers)
    for draft, answer in zip(drafts, answers, strict=True):
        place, quote = letters.index(answer), draft.quote
        if kind == "true_false":
            choices, quote = TRUE_FALSE, draft.options[place]
        else:
            wrong = rng.sample(draft.options[1:], len(letters) - 1)
            choices = (*wrong[:place], draft.options[0], *wrong[place:])
        law, article = draft.sentence.law, draft.sentence.article
        question = wording.format(law=law, number=article.number_zh, quote=quote)
        yield ExamItem(
            id=f"statute/{form}/{kind}/{text_key(question + '/'.join(choices))}",
            subject=subject,
            type="true_false" if kind == "true_false" else "single",
            question=question,
            choices=choices,
            answer=answer,
            proof=f"《{law}》{article.number_zh}",
        )
