"""Tool dialogues: calls that the hub accepts, results of a fresh run, honest questions."""

import itertools
import json
import random
import re
from collections import Counter
from dataclasses import replace
from decimal import Decimal

import pytest

from finllm_utils.corpora.laws import laws
from finllm_utils.corpora.rates import ecb_rates
from finllm_utils.data import tasks_tools as tt
from finllm_utils.data.instruction_formats import require_conversation
from finllm_utils.data.tasks_finance import FinanceTexts
from finllm_utils.data.wordings import Source
from finllm_utils.hub.calculators import calculator_tools
from finllm_utils.hub.grounding import ungrounded
from finllm_utils.hub.lookups import Sources, lookup_tools
from finllm_utils.hub.search import SearchIndex
from finllm_utils.hub.statutes import LawBook
from finllm_utils.profiles import load_profile
from finllm_utils.records import ChatTurn, Instruction

INSURANCE_LAW = next(law for law in laws() if law.short_name == "保险法")
TEXTS = FinanceTexts(
    (),
    tuple(
        Source(f"laws/{a.number_zh}", a.text, f"保险法{a.number_zh}")
        for a in INSURANCE_LAW.articles
        if a.number_zh.startswith("第")
    ),
    (),
)


@pytest.fixture(scope="module")
def tools():
    """All the hub's tools; the insurance passages are never asked here."""
    sources = Sources(
        rates=ecb_rates(),
        laws=LawBook([INSURANCE_LAW]),
        passages=SearchIndex({"a": "保险"}),
        cfg=load_profile("toy").hub,
    )
    return calculator_tools() | lookup_tools(sources)


@pytest.fixture(scope="module")
def found(tools):
    return draw(tools, 480)


def draw(tools, number, seed=0, texts=TEXTS):
    stream = tt.tool_call(texts, random.Random(seed), tools)
    return list(itertools.islice(stream, number))


def call_of(item):
    """The call and its place, or None."""
    for place, turn in enumerate(item.messages):
        if turn.role == "assistant" and turn.content.startswith("{"):
            return json.loads(turn.content), place
    return None


def user_text(item):
    return "".join(turn.content for turn in item.messages if turn.role == "user")


def test_results_are_those_of_a_fresh_run(found, tools):
    """And the answer repeats figure and source as the tool gives them."""
    for item in found:
        if (at := call_of(item)) is None:
            continue
        call, place = at
        assert set(call) == {"tool", "arguments"}
        tool = tools[call["tool"]]
        fresh = tool.run(tool.schema.model_validate(call["arguments"]))
        result = json.loads(item.messages[place + 1].content)
        assert item.messages[place + 1].role == "tool"
        assert (result["text"], result["source"]) == (fresh.text, fresh.source)
        answer = item.messages[place + 2].content
        assert place + 3 == len(item.messages)
        assert answer.startswith(fresh.text.rstrip("。")) and fresh.source in answer
        if fresh.value is not None:
            assert Decimal(result["value"]) == fresh.value
            assert result["unit"] == fresh.unit
            assert f"{fresh.value:,}" in answer


def test_every_figure_of_a_call_was_said_by_the_user(found, tools):
    """The hub's own guard against invented numbers."""
    for item in found:
        if (at := call_of(item)) is not None:
            call = at[0]
            arguments = tools[call["tool"]].schema.model_validate(call["arguments"])
            bad = ungrounded(user_text(item), arguments)
            assert not bad, (item.id, user_text(item), call, bad)


def test_arguments_by_hand(found):
    """Read back from the words of the question, without the generator's slots."""
    checked = Counter()
    for item in found:
        if (at := call_of(item)) is None:
            continue
        call, text = at[0], user_text(item)
        arguments = call["arguments"]
        if call["tool"] == "loan_equal_payment":
            wan = Decimal(re.search("([\\d.]+)万元", text)[1])
            rate = Decimal(re.search("利率([\\d.]+)%", text)[1])
            months = re.search("(\\d+)(?:期|个月)", text)
            years = re.search("(\\d+)年(?!利)", text)
            assert Decimal(arguments["principal"]) == wan * 10_000
            assert Decimal(arguments["annual_rate"]) == rate / 100
            expected = int(months[1]) if months else 12 * int(years[1])
            assert arguments["months"] == expected
            asked = {"每月": None, "利息": "total_interest", "本息共": "total_repaid"}
            (word,) = [
                w for w in asked if f"{w}还多少" in text or f"{w}一共多少" in text
            ]
            assert arguments.get("ask") == asked[word]
        elif call["tool"] == "fx_convert":
            day = re.search("(\\d+)年(\\d+)月(\\d+)日", text)
            assert arguments["date"] == "-".join(part.zfill(2) for part in day.groups())
            names = {
                "USD": "美元",
                "EUR": "欧元",
                "GBP": "英镑",
                "AUD": "澳元",
                "CAD": "加元",
            }
            assert f"{arguments['amount']}{names[arguments['base']]}" in text
        elif call["tool"] == "compound_interest":
            per = {"每年": 1, "每半年": 2, "每季度": 4, "每月": 12}
            (word,) = [w for w in per if w in text]
            assert arguments.get("periods_per_year", 1) == per[word]
        elif call["tool"] == "annuity_future_value":
            assert arguments.get("due", False) is ("初" in text)
        else:
            continue
        checked[call["tool"]] += 1
    assert min(checked.values()) >= 15 and len(checked) == 4


def test_one_in_six_lacks_an_argument_and_is_asked_back(found, tools):
    asked = [
        i for i in found if i.messages[2].role == "assistant" and call_of(i) is None
    ]
    later = [i for i in found if (at := call_of(i)) and at[1] == 4]
    assert 0.1 < (len(asked) + len(later)) / len(found) < 0.22
    assert len(asked) > 15 and len(later) > 15
    for item in asked + later:
        question, back = (turn.content for turn in item.messages[1:3])
        label = re.search("缺少(.+?)，|需要(.+?)，|说明(.+?)，", back)
        assert next(filter(None, label.groups())) in back
        assert not re.search("\\d", back), "asks, and says no number"
        assert question != back and not back.startswith("{")


def test_what_is_asked_back_is_not_in_the_question(tools):
    """Without the reply the guard finds a figure that nobody said.

    It allows changes of unit (6 and 0.6%), so a few coincidences are let pass.
    """
    later = [i for i in draw(tools, 1600) if (at := call_of(i)) and at[1] == 4]
    assert len(later) > 60
    missed = []
    for item in later:
        call, first = call_of(item)[0], item.messages[1].content
        arguments = tools[call["tool"]].schema.model_validate(call["arguments"])
        if not ungrounded(first, arguments):
            missed.append(first)
    assert len(missed) <= 0.05 * len(later), missed


def test_system_names_the_tool_and_others(found, tools):
    for item in found:
        system = item.messages[0]
        assert system.role == "system"
        listed = re.findall("^- (\\w+)\\((.*)\\)：(.+)$", system.content, re.M)
        names = [name for name, _, _ in listed]
        assert len(names) == len(set(names)) == tt.OTHER_TOOLS + 1
        tool = item.source.removeprefix("computed-").rsplit("-", 1)[0]
        assert ("calculate" if "calculate_" in tool else tool) in names
        for name, arguments, _ in listed:
            fields = tools[name].schema.model_fields
            assert [a.strip("?") for a in arguments.split(", ")] == list(fields)


def test_shape_variety_and_order(found, tools):
    questions = [i.messages[1].content for i in found[:300]]
    assert len(set(questions)) >= 0.95 * 300
    for item in found:
        require_conversation(item.messages, item.id)
        tt.require_known_tools(item, tools)
        assert (item.task, item.domain) == ("tool_call", "finance")
        assert item.id == f"tool_call/{item.source}"
        assert not any("{" in t.content.replace('{"', "") for t in item.messages[1:2])
    used = Counter(at[0]["tool"] for i in found if (at := call_of(i)))
    assert set(used) == set(tools) - {"insurance_search"}
    skeletons = {re.sub("[\\d.]+", "#", q) for q in questions if "《" not in q}
    assert len(skeletons) >= 90


def test_every_case_has_three_wordings():
    for name, case in tt._CASES.items():
        assert len(set(case.lines["Q"])) >= 3, name
        assert all(len(line.split(" | ")) == 3 for line in case.lines["G"]), name


def test_same_seed_same_items(tools):
    assert draw(tools, 60) == draw(tools, 60)
    assert draw(tools, 60) != draw(tools, 60, seed=1)


def test_only_tools_that_are_given_are_used():
    tools = calculator_tools()
    some = {name: tools[name] for name in ("vat_split", "calculate")}
    items = draw(some, 40, texts=FinanceTexts((), (), ()))
    used = {at[0]["tool"] for i in items if (at := call_of(i))}
    assert used == set(some)
    assert not any("loan_equal" in i.messages[0].content for i in items)
    with pytest.raises(ValueError, match="pass calculator_tools"):
        draw({}, 1)


def with_answer(text):
    turns = (ChatTurn(role="user", content="月供多少？"),)
    turns += (ChatTurn(role="assistant", content=text),)
    return Instruction(
        id="own/7", messages=turns, task="own", domain="finance", source="own"
    )


GOOD = {"principal": "1000", "annual_rate": "0.03", "months": 12}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"tool":"loan_pay","arguments":{}}', "unknown tool 'loan_pay'"),
        ('{"tool":["vat_split"],"arguments":{}}', "unknown tool"),
        ('{"tool":"loan_equal_payment"}', "refuses its arguments"),
        ('{"tool":"loan_equal_payment","arguments":{"months":12}}', "principal"),
        ('{"tool":"vat_split","arguments":{"gross":1.5,"rate":"0.03"}}', "gross"),
        ('{"tool":"vat_split","arguments":{"gross":"1","rate":"3"}}', "rate"),
        ('{"tool":"vat_split","arguments":{"gross":"1"', "broken JSON"),
    ],
)
def test_wrong_calls_are_named(text, message):
    with pytest.raises(ValueError, match=message) as error:
        tt.require_known_tools(with_answer(text), calculator_tools())
    assert "own/7, message 2" in str(error.value)
    if "broken" not in message:
        assert "known tools: annuity_future_value, bond_current_yield" in str(
            error.value
        )


def test_right_calls_and_other_answers_pass():
    call = json.dumps({"tool": "loan_equal_payment", "arguments": GOOD})
    for text in (call, "每月还 84.69 元。", '{"金额":"12元"}', "{不是 JSON}", "[1, 2]"):
        tt.require_known_tools(with_answer(text), calculator_tools())


def test_a_changed_argument_or_result_is_noticed(found, tools):
    """The checks above are not blind: a bent call fails them."""
    item = next(i for i in found if i.source.startswith("computed-loan_equal_payment"))
    bent = replace(
        item,
        messages=tuple(
            ChatTurn(role=t.role, content=t.content.replace('"months"', '"terms"'))
            for t in item.messages
        ),
    )
    with pytest.raises(ValueError, match="loan_equal_payment refuses"):
        tt.require_known_tools(bent, tools)
