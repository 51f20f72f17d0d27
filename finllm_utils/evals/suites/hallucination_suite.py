"""Made-up answers as item results: article numbers, missing facts, figures of a text.

The exam is ``hallucination``'s. An item earns its credit for the right answer or for
saying what is lacking, never for silence: the detail of a lost item tells an invention
from an answer that gave nothing.
"""

import random
from collections.abc import Sequence
from functools import partial

from finllm_utils.corpora.laws import laws
from finllm_utils.corpora.sources import training_laws
from finllm_utils.data.citations import ArticleBook
from finllm_utils.data.figures import figures_in_full
from finllm_utils.evals.models.prompts import Asked, Mark, run_suite, user_prompt
from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.evals.suites.suite import Suite
from finllm_utils.evals.tasks.following import spread
from finllm_utils.evals.tasks.hallucination import (
    BASELINES,
    FOLDER,
    Exam,
    Passage,
    Question,
    StatutePrompt,
    read_items,
    refusals_of,
    statute_prompts,
)

HallucinationItem = StatutePrompt | Question | Passage
INVENTED = "invented"
"""How the detail of an item begins when the answer made something up."""


def hallucination_exam(number: int, seed: int) -> Exam:
    """About ``number`` items: a quarter statutes, a quarter passages, half questions.

    Questions and passages are spread evenly over their files; ``seed`` draws sentences
    of finance laws that the model was trained on.
    """
    known_laws = [law for law in training_laws() if law.is_finance]
    quarter = max(2, number // 4)
    questions = read_items(FOLDER / "unanswerable.jsonl", Question)
    kinds = [[q for q in questions if q.answerable == known] for known in (True, False)]
    rng = random.Random(f"{seed}/hallucination")
    return Exam(
        statutes=statute_prompts(known_laws, quarter, rng),
        book=ArticleBook(laws()),
        questions=[q for kind in kinds for q in spread(kind, quarter)],
        passages=spread(read_items(FOLDER / "grounded.jsonl", Passage), quarter),
    )


def exam_items(exam: Exam) -> list[HallucinationItem]:
    """All that the exam asks, in the order of the suite."""
    return [*exam.statutes, *exam.questions, *exam.passages]


def item_id(item: HallucinationItem) -> str:
    """The item's id; a statute prompt is known by its article."""
    if isinstance(item, StatutePrompt):
        return f"statute/{item.article.law}/{item.article.number}"
    return item.id


def part_of(item: HallucinationItem) -> str:
    """Its part of the exam: statute, answerable, lacking or passage."""
    if isinstance(item, Question):
        return "answerable" if item.answerable else "lacking"
    return "statute" if isinstance(item, StatutePrompt) else "passage"


def mark_answer(
    item: HallucinationItem, answer: str, *, book: ArticleBook, refusals: Sequence[str]
) -> Mark:
    """What the answer is worth.

    Args: refusals as in ``Question.marks``; they change the detail, never the credit.
    """
    if isinstance(item, StatutePrompt):
        return _statute_mark(item, book, answer)
    if isinstance(item, Question):
        return _question_mark(item, refusals, answer)
    return _passage_mark(item, answer)


def asked_items(exam: Exam) -> list[Asked]:
    """Every item of the exam with what marks an answer; the group is its part."""
    known = {"book": exam.book, "refusals": refusals_of(exam.questions)}
    return [
        Asked(
            user_prompt(item_id(item), item.prompt),
            partial(mark_answer, item, **known),
            part_of(item),
            _expected(item),
        )
        for item in exam_items(exam)
    ]


def _expected(item: HallucinationItem) -> str:
    if isinstance(item, StatutePrompt):
        return f"《{item.article.law}》{item.article.number}"
    return item.reference


def _statute_mark(item: StatutePrompt, book: ArticleBook, answer: str) -> Mark:
    found = item.marks(answer, book)
    if found["articles_right"]:
        return Mark(1.0, answer)
    detail = "another article"
    if found["articles_none"]:
        detail = "no article"
    if found["articles_invented"]:
        detail = f"{INVENTED}: an article that does not exist"
    return Mark(0.0, answer, detail)


def _question_mark(item: Question, refusals: Sequence[str], answer: str) -> Mark:
    found = item.marks(answer, refusals)
    if item.answerable:
        if found["answerable_right"]:
            return Mark(1.0, answer)
        refused = found["answerable_refused"]
        return Mark(0.0, answer, "refused" if refused else "not the key")
    if found["lacking_handled"]:
        return Mark(1.0, answer)
    if figures_in_full(answer) - figures_in_full(item.prompt):
        return Mark(0.0, answer, f"{INVENTED}: a figure that nobody gave")
    return Mark(0.0, answer, "does not say what is lacking")


def _passage_mark(item: Passage, answer: str) -> Mark:
    found = item.marks(answer)
    if found["figures_right"]:
        return Mark(1.0, answer)
    if found["figures_invented"]:
        return Mark(0.0, answer, f"{INVENTED}: a figure that is not in the text")
    none = found["figures_none"]
    return Mark(0.0, answer, "no figure" if none else "not the key, or a recital")


def share_invented(results: Sequence[ItemResult]) -> float:
    """Share of the scored items, 0 to 1, whose answer made something up.

    Raises: ValueError when no item was scored.
    """
    scored = [one for one in results if one.status == "scored"]
    if not scored:
        raise ValueError("no item was scored: ask the model again")
    return sum(one.detail.startswith(INVENTED) for one in scored) / len(scored)


def baseline_shares(asked: Sequence[Asked]) -> dict[str, float]:
    """What answers that never look earn, by the baseline's name."""
    talks = [one.prompt.messages for one in asked]
    return {
        name: sum(
            one.mark(said).credit for one, said in zip(asked, reply(talks), strict=True)
        )
        / len(asked)
        for name, reply in BASELINES.items()
    }


def hallucination_suite(number: int, max_new_tokens: int, seed: int) -> Suite:
    """About ``number`` items of ``hallucination_exam``."""
    asked = asked_items(hallucination_exam(number, seed))
    return Suite(
        name="hallucination",
        title="nothing made up, and answered all the same",
        axis="dialogue",
        run=lambda model: run_suite(model, "hallucination", asked, max_new_tokens),
        questions={a.prompt.id: a.prompt.messages[-1].content for a in asked},
        key=str(([(a.prompt, a.expected) for a in asked], max_new_tokens)),
        baseline=max(baseline_shares(asked).values()),
        baseline_name="the best of always refusing, repeating and saying nothing",
        needs="chat",
    )
