"""The hub: one question in, one answer with its source (or an honest refusal) out.

Question -> proposed call -> schema check -> tool -> answer -> sealed audit line. A
figure comes from a tool or not at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import ValidationError

from finllm_utils.config import HubConfig
from finllm_utils.corpora.insurance import insurance_answers
from finllm_utils.corpora.laws import laws
from finllm_utils.corpora.rates import ecb_rates
from finllm_utils.hub.audit import START, seal
from finllm_utils.hub.calculators import calculator_tools
from finllm_utils.hub.grounding import ungrounded
from finllm_utils.hub.lookups import NotKnown, Sources, lookup_tools
from finllm_utils.hub.router import Call, propose_call
from finllm_utils.hub.search import SearchIndex
from finllm_utils.hub.statutes import LawBook
from finllm_utils.hub.tools import ARGUMENT_NAMES, Tool

UNKNOWN = "这个问题我不知道：它不在本系统的工具和知识库范围内。"


@dataclass(frozen=True, kw_only=True, slots=True)
class HubAnswer:
    """The hub's answer. ``status``: answered, clarify (with ``missing``) or unknown."""

    question: str
    status: str
    text: str
    tool: str = ""
    arguments: dict = field(default_factory=dict)
    value: Decimal | None = None
    unit: str = ""
    source: str = ""
    details: dict = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Hub:
    """Routes questions to tools and keeps the audit trail.

    Args: propose(question) -> Call | None finds the call: rules by default; a larger
    model may take their place, since its proposal passes the same schema. check_numbers
    (for such a model): every proposed number must also stand in the question.
    """

    tools: dict[str, Tool]
    propose: Callable[[str], Call | None]
    check_numbers: bool = False
    audit: list[dict] = field(default_factory=list)

    def ask(self, question: str) -> HubAnswer:
        """Answers one question and adds a line to the audit trail."""
        answer = self._answer(question.strip())
        prev_hash = self.audit[-1]["hash"] if self.audit else START
        self.audit.append(seal(_audit_entry(answer), prev_hash))
        return answer

    def _answer(self, question: str) -> HubAnswer:
        call = self.propose(question) if question else None
        if call is None:
            return HubAnswer(question=question, status="unknown", text=UNKNOWN)
        if call.tool not in self.tools:
            text = f"{UNKNOWN}（没有名为 {call.tool} 的工具）"
            return HubAnswer(question=question, status="unknown", text=text)
        if call.missing:
            return _clarify(question, call, list(call.missing))
        tool = self.tools[call.tool]
        try:
            arguments = tool.schema.model_validate(call.arguments)
            if self.check_numbers and (bad := ungrounded(question, arguments)):
                return _clarify(question, call, bad)
            found = tool.run(arguments)
        except ValidationError as error:
            return _clarify(
                question, call, [str(e["loc"][0]) for e in error.errors() if e["loc"]]
            )
        except NotKnown as error:
            text = f"{UNKNOWN}（{error}）"
            return HubAnswer(
                question=question, status="unknown", text=text, tool=call.tool
            )
        except ValueError as error:
            return _refuse_argument(question, call, str(error))
        return HubAnswer(
            question=question,
            status="answered",
            text=found.text,
            tool=call.tool,
            arguments=arguments.model_dump(mode="json", exclude_none=True),
            value=found.value,
            unit=found.unit,
            source=found.source,
            details=found.details,
        )


def _clarify(question: str, call: Call, missing: list[str]) -> HubAnswer:
    names = [ARGUMENT_NAMES.get(name, name) for name in dict.fromkeys(missing)]
    return HubAnswer(
        question=question,
        status="clarify",
        text=f"还缺少或不合理：{'、'.join(names)}。请补充后再问，我不会猜数字。",
        tool=call.tool,
        missing=tuple(dict.fromkeys(missing)),
    )


def _refuse_argument(question: str, call: Call, reason: str) -> HubAnswer:
    name = reason.split(":")[0].split("=")[0].strip()
    if name in ARGUMENT_NAMES:
        found = _clarify(question, call, [name])
        return HubAnswer(
            question=question,
            status="clarify",
            text=f"{found.text}（{reason}）",
            tool=call.tool,
            missing=found.missing,
        )
    text = f"{UNKNOWN}（{reason}）"
    return HubAnswer(question=question, status="unknown", text=text, tool=call.tool)


def _audit_entry(answer: HubAnswer) -> dict:
    return {
        "question": answer.question,
        "status": answer.status,
        "tool": answer.tool,
        "arguments": answer.arguments,
        "answer": answer.text,
        "value": None if answer.value is None else str(answer.value),
        "unit": answer.unit,
        "source": answer.source,
        "missing": list(answer.missing),
    }


def open_hub(
    cfg: HubConfig, propose: Callable[[str], Call | None] | None = None
) -> tuple[Hub, Sources]:
    """A hub over the package-shipped rates, laws and insurance answers."""
    book = LawBook(laws())
    texts = {key: answer.zh for key, answer in insurance_answers().items()}
    sources = Sources(
        rates=ecb_rates(), laws=book, passages=SearchIndex(texts), cfg=cfg
    )
    tools = calculator_tools() | lookup_tools(sources)
    hub = Hub(
        tools=tools,
        propose=propose or (lambda question: propose_call(question, book)),
        check_numbers=propose is not None,
    )
    return hub, sources
