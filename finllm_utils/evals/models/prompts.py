"""What a suite asks of any model, and what it gets where no answer came.

A model of the table (``models``) turns prompts into texts or failures, one for each;
``run_suite`` turns those into item results, in which a failure is never a wrong answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from finllm_utils.evals.statistics.item_results import ItemResult
from finllm_utils.records import ChatTurn


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request: the item's id and the conversation, the user's turn last.

    ``continues`` marks a single turn that ends where its answer begins ("答案："), so
    that a model without a chat template may simply continue the text.
    """

    id: str
    messages: tuple[ChatTurn, ...]
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer came, or none that can be read, and why."""

    reason: str


class Answering(Protocol):
    """Any model of the table."""

    name: str

    def answers(
        self, prompts: Sequence[Prompt], max_new_tokens: int
    ) -> list[str | Failure]:
        """A text or a failure for each prompt, in their order."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What an answer is worth: the credit, in [0, 1], and what was read out of it.

    ``detail`` says why it is worth no more, where that is not plain to see.
    """

    credit: float
    given: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """An item as a suite asks it: its prompt, its group and what marks an answer.

    ``mark`` gives a failure for an answer that it cannot read.
    """

    prompt: Prompt
    mark: Callable[[str], Mark | Failure]
    group: str = ""
    expected: str = ""


def user_prompt(item_id: str, text: str, *, continues: bool = False) -> Prompt:
    """The prompt of one user turn."""
    return Prompt(item_id, (ChatTurn(role="user", content=text),), continues)


def as_reply(
    model: Answering, max_new_tokens: int
) -> Callable[[Sequence[Sequence[ChatTurn]]], list[str]]:
    """``model`` as the suites that take a ``following.Reply`` ask it.

    They have no place for a failure, so the reply raises instead of inventing a text:
    RuntimeError with the number of failures and the first reason. What an endpoint has
    answered by then is kept; run again. Outputs recorded by item cannot be asked so.
    """

    def reply(conversations: Sequence[Sequence[ChatTurn]]) -> list[str]:
        prompts = [
            Prompt(f"{number}", tuple(turns))
            for number, turns in enumerate(conversations)
        ]
        answers = model.answers(prompts, max_new_tokens)
        if failed := [one for one in answers if isinstance(one, Failure)]:
            raise RuntimeError(
                f"{model.name}: {len(failed)} of {len(answers)} answers are missing, "
                f"the first because: {failed[0].reason}"
            )
        return answers

    return reply


def run_suite(
    model: Answering, suite: str, asked: Sequence[Asked], max_new_tokens: int
) -> list[ItemResult]:
    """One result an item: marked, or failed with the reason.

    Raises: ValueError for an id that stands twice, and what the model raises for
    settings that spoil every item (a refused key, an unknown model).
    """
    prompts = [one.prompt for one in asked]
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise ValueError(f"{suite}: an item's id stands twice; number the items anew")
    answers = model.answers(prompts, max_new_tokens)
    return [
        _result(model.name, suite, one, answer)
        for one, answer in zip(asked, answers, strict=True)
    ]


def _result(model: str, suite: str, asked: Asked, answer: str | Failure) -> ItemResult:
    mark = answer if isinstance(answer, Failure) else asked.mark(answer)
    failed = isinstance(mark, Failure)
    return ItemResult(
        suite=suite, model=model, item=asked.prompt.id, group=asked.group,
        expected=asked.expected,
        credit=0.0 if failed else mark.credit,
        given=("" if isinstance(answer, Failure) else answer) if failed else mark.given,
        status="failed" if failed else "scored",
        detail=mark.reason if failed else mark.detail,
    )  # fmt: skip
