"""The gate every instruction passes: once, not empty, nothing from held-out text.

``instructions`` and the generated items use it; 05 shows what it refused.
"""

from collections.abc import Iterable
from pathlib import Path

from finllm_utils.corpora.splits import heldout_documents, insurance_questions
from finllm_utils.data.decontaminate import HeldoutIndex
from finllm_utils.records import Instruction, read_lines

DATA_FILES = ("data_samples/hub/numeric_questions.jsonl", "data_samples/exams")
_HUB_EXAM, _EXAMS = (Path(__file__).resolve().parents[2] / p for p in DATA_FILES)


def question_of(instruction: Instruction) -> str:
    """The first thing that the user says."""
    return next(t.content for t in instruction.messages if t.role == "user")


def conversation_text(instruction: Instruction) -> str:
    """All turns of an instruction, one a line."""
    return "\n".join(turn.content for turn in instruction.messages)


class Gate:
    """Lets an instruction pass once, unless it is empty or overlaps held-out text.

    ``refused`` counts what it held back, by reason.
    """

    def __init__(
        self, heldout: HeldoutIndex | None = None, questions: Iterable[str] = ()
    ) -> None:
        self.heldout = heldout
        self.questions = tuple(q for q in questions if len(q) >= 6)
        self.seen: set[str] = set()
        self.refused: dict[str, int] = {}

    def overlaps(self, text: str) -> bool:
        """Whether ``text`` shares a window or a whole question with held-out text."""
        if self.heldout is not None and self.heldout.overlaps([text]):
            return True
        return any(question in text for question in self.questions)

    def passes(self, instruction: Instruction) -> bool:
        """Whether to keep it."""
        question = question_of(instruction)
        if not all(turn.content.strip() for turn in instruction.messages):
            reason = "empty turn"
        elif question in self.seen:
            reason = "repeated question"
        elif self.overlaps(conversation_text(instruction)):
            reason = "held-out text"
        else:
            self.seen.add(question)
            return True
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return False


def heldout_gate(ngram: int) -> Gate:
    """The gate against every held-out document and question, and the hub's exam.

    Args: ngram is the window in characters, ``cfg.data.decontamination_ngram``.
    """
    documents = [
        d.text for name in ("general_zh", "finance_zh") for d in heldout_documents(name)
    ]
    questions = [
        text
        for split in ("valid", "test")
        for q in insurance_questions(split)
        for text in (q.zh, q.en)
    ]
    questions += [row["question"] for row in read_lines(_HUB_EXAM)]
    for path in sorted(_EXAMS.glob("*.jsonl")):
        for row in read_lines(path):
            questions.append(
                row.get("prompt") or row.get("question") or row["turns"][0]
            )
    return Gate(HeldoutIndex.build(documents, ngram), questions)
