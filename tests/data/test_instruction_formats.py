"""Conversations in a team's formats come in whole, or with their fault and line."""

import json

import pytest

from finllm_utils.data.instruction_formats import read_instructions
from finllm_utils.records import ChatTurn, Instruction, write_records
from tests.conftest import write_lines

MESSAGES = {
    "messages": [
        {"role": "system", "content": "你是银行客服。"},
        {"role": "user", "content": "贷款十万，一年利率百分之四，利息多少？"},
        {"role": "assistant", "content": "一年利息是4,000元。"},
    ]
}
SHAREGPT = {
    "id": "s1",
    "system": "答案要短。",
    "conversations": [
        {"from": "human", "value": "查一下汇率"},
        {"from": "function_call", "value": '{"tool": "rate"}'},
        {"from": "observation", "value": "7.1"},
        {"from": "gpt", "value": "查到的汇率是7.1。"},
    ],
}
ALPACA = {
    "instruction": "把下面的话译成英文。",
    "input": "保证金",
    "output": "margin",
    "history": [["你好", "您好。"]],
    "domain": "general",
}


def roles(item):
    return [turn.role for turn in item.messages]


def test_four_forms_in_one_file(tmp_path):
    own = Instruction(
        id="own/1",
        messages=(ChatTurn(role="user", content="问"),
                  ChatTurn(role="assistant", content="答")),
        task="service", domain="general", source="crm",
    )  # fmt: skip
    write_records(tmp_path / "own.jsonl", [own])
    path = write_lines(
        tmp_path / "all.jsonl",
        MESSAGES, SHAREGPT, ALPACA, (tmp_path / "own.jsonl").read_text("utf-8").strip(),
    )  # fmt: skip
    first, second, third, fourth = read_instructions(path, task="team")
    assert roles(first) == ["system", "user", "assistant"]
    assert (first.id, first.task, first.domain) == ("all.jsonl/1", "team", "finance")
    assert roles(second) == ["system", "user", "assistant", "tool", "assistant"]
    assert second.id == "s1" and second.messages[3].content == "7.1"
    assert [t.content for t in third.messages] == [
        "你好", "您好。", "把下面的话译成英文。\n保证金", "margin",
    ]  # fmt: skip
    assert third.domain == "general" and fourth == own


def test_a_json_list_counts_items(tmp_path):
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps([ALPACA, MESSAGES]), encoding="utf-8")
    assert [i.id for i in read_instructions(path)] == ["alpaca.json/1", "alpaca.json/2"]
    path.write_text(json.dumps([ALPACA, {"text": "x"}]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"alpaca.json, item 2: fields text are of no"):
        read_instructions(path)
    path.write_text('[{"a": 1},\n {"b" 2}]', encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: broken JSON"):
        read_instructions(path)


def talk(*turns):
    return {"messages": [{"role": r, "content": c} for r, c in turns]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (talk(("user", "问")), "line 2: the conversation ends with 'user'"),
        (talk(("assistant", "答")), "line 2, message 1: role 'assistant' cannot stand"),
        (
            talk(("user", "问"), ("user", "问"), ("assistant", "答")),
            "line 2, message 2: role 'user' cannot stand after 'user'; assistant must",
        ),
        (
            talk(("user", "问"), ("system", "s"), ("assistant", "答")),
            "message 2: role 'system' cannot stand after 'user'",
        ),
        (talk(("user", " \n"), ("assistant", "答")), "message 1: the user's text is empty"),
        (talk(("user", "问"), ("assistant", "")), "message 2: the assistant's text is empty"),
        (talk(("user", "锟斤拷"), ("assistant", "答")), "text of another encoding"),
        (talk(("user", "a\ufffd"), ("assistant", "答")), "text of another encoding"),
        (talk(("client", "问"), ("assistant", "答")), "unknown role 'client'; use assistant"),
        ({"messages": []}, "the conversation is no list, or an empty one"),
        ({"messages": [{"role": "user"}]}, "message 1: expected an object with 'role' and"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "text was expected",
        ),
        ({"instruction": "q", "output": 3}, "message 2: text was expected, got 3"),
        ({"instruction": "q", "output": "a", "history": ["x"]}, "history 1: expected a pair"),
        ({"id": "same", **MESSAGES}, "x.jsonl, line 1 already; give each item its own"),
        ({"domain": "law", **MESSAGES}, "domain 'law'; write general or finance"),
        ("{broken", "line 2: broken JSON"),
    ],
)  # fmt: skip
def test_faults_are_named_with_their_line(tmp_path, row, said):
    path = write_lines(tmp_path / "x.jsonl", {"id": "same", **MESSAGES}, row)
    with pytest.raises(ValueError) as caught:
        read_instructions(path)
    assert said in str(caught.value) and "x.jsonl, line 2" in str(caught.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "gb.json").write_bytes(
        json.dumps([ALPACA], ensure_ascii=False).encode("gb18030")
    )
    with pytest.raises(ValueError, match="not UTF-8 at byte"):
        read_instructions(tmp_path / "gb.json")
    for name, content, said in (
        ("a.csv", "x", "unknown suffix"),
        ("b.json", "[]", "no conversation in it"),
        ("c.json", "{}", "a list of conversations was expected"),
        ("d.json", "[3]", "item 1: expected an object"),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=said):
            read_instructions(tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        read_instructions(tmp_path / "none.json")
