"""Requests, parsing, and the whole recorded transcript replayed offline."""

import json
import random
from collections import Counter
from functools import cache

import pytest

from finllm_utils.corpora.sources import training_laws
from finllm_utils.data import self_instruct as si
from finllm_utils.data.chat_source import (
    exchanges,
    masked,
    recording,
    request_sha256,
    transcript,
)
from finllm_utils.data.generated_filters import REASONS, GeneratedFilter
from finllm_utils.data.instruction_formats import require_conversation
from finllm_utils.data.instruction_gate import Gate, heldout_gate, question_of
from finllm_utils.data.wordings import Source, one_turn
from finllm_utils.records import Instruction, read_records, write_records

SEEDS = [
    one_turn(
        "own_qa",
        "finance",
        f"items/banking/{i}",
        f"第{i}种存款的利息怎么算？",
        "按年利率算。",
    )
    for i in range(12)
]
ITEM = {"question": "活期存款的利息怎么算？", "answer": "按支取日的活期利率算。"}
LINE = json.dumps(ITEM, ensure_ascii=False)
PAIR = (ITEM["question"], ITEM["answer"])
ARTICLE = Source("laws/票据法/第九条", "更改的票据无效。", "票据法第九条")


def judge(seeds=(), gate=None) -> GeneratedFilter:
    return GeneratedFilter(seeds, training_laws(), gate or Gate())


def test_a_prompt_shows_its_seeds_and_asks_for_the_form():
    request = si.self_instruct_request(SEEDS[:3], 5, "银行存贷与票据")
    text = request.messages[1].content
    assert [t.role for t in request.messages] == ["system", "user"]
    assert all(question_of(seed) in text for seed in SEEDS[:3])
    assert "另写 5 道" in text and "“银行存贷与票据”" in text
    assert "只有 question 和 answer 两个字段" in text
    assert request.seeds == tuple(f"items/banking/{i}" for i in range(3))


def test_evolving_gives_the_order_of_its_way():
    texts = {
        how: si.evolve_request(SEEDS[0], how).messages[1].content
        for how in si.EVOLUTIONS
    }
    assert len(set(texts.values())) == 4
    assert all(si.EVOLUTIONS[how] in text for how, text in texts.items())


def test_an_answer_may_use_its_article_alone():
    request = si.answer_request(ARTICLE)
    assert request.passage == ARTICLE and request.seeds == (ARTICLE.id,)
    text = request.messages[1].content
    assert "《票据法》第九条：\n更改的票据无效。" in text and "写出 2 个" in text
    asked = si.answer_request(ARTICLE, question="改了日期的汇票有效吗？")
    assert "回答这个问题：改了日期的汇票有效吗？" in asked.messages[1].content


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match="0 seeds, number=5"):
        si.self_instruct_request([], 5, "保险")
    with pytest.raises(ValueError, match="how='shorten'.*deepen"):
        si.evolve_request(SEEDS[0], "shorten")
    with pytest.raises(ValueError, match="'产品说明书' names no article"):
        si.answer_request(Source("p", "文字。", "产品说明书"))
    with pytest.raises(ValueError, match="banking: 2 seeds"):
        si.plan_requests({"banking": SEEDS[:2]}, [], random.Random(0))


def test_a_plan_draws_by_its_random_numbers_and_shows_no_seed_twice():
    def plan(seed: int) -> list[si.Request]:
        return si.plan_requests(
            {"banking": SEEDS}, [ARTICLE], random.Random(seed), num_evolved=5
        )

    requests = plan(0)
    methods = [r.method for r in requests]
    assert methods == ["self_instruct"] * 2 + [*si.EVOLUTIONS, "deepen", "answer"]
    shown = [seed for r in requests for seed in r.seeds]
    assert len(set(shown)) == len(shown) == 2 * 3 + 5 + 1
    assert plan(0) == requests != plan(1)


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        f"```json\n{LINE}\n```",
        f"1. {LINE}",
        f"1、{LINE}",
        f"（1）{LINE}",
        f"- {LINE}",
        f"第1题：{LINE}",
        f"好的，以下是题目：\n\n{LINE}\n\n供您参考。",
        f"[{LINE}]",
        json.dumps(ITEM, ensure_ascii=False, indent=2),
    ],
)
def test_numbers_fences_and_prose_are_passed_over(text):
    assert si.parse_items(text) == [PAIR]
    assert si.parse_items(f"{text}\n{text}") == [PAIR, PAIR]


@pytest.mark.parametrize(
    "text",
    [
        '{"question": "利息怎么算？"}',
        '{"question": "利息怎么算？", "ans": "按利率算。"}',
        '{"question": "利息怎么算？", "answer": "按利率算。", "area": "存款"}',
        '{"question": "利息怎么算？", "answer": ["按利率算。"]}',
        '{"question": "", "answer": "按利率算。"}',
        "{'question': '利息怎么算？', 'answer': '按利率算。'}",
        '{"question": "利息怎么算？", "answer": "按利',
        '{"question": "利息怎么算？", "answer": "按利\n率算。"}',
    ],
)
def test_broken_objects_are_counted_not_repaired(text):
    assert si.parse_items(text) == [None]
    assert si.parse_items(f"{LINE}\n{text}\n{LINE}") == [PAIR, None, PAIR]


def test_prose_alone_holds_no_item():
    assert si.parse_items("抱歉，我无法完成。") == si.parse_items("") == []


def test_items_carry_seed_method_and_model():
    request = si.evolve_request(SEEDS[3], "transfer")
    found = si.generate([request], lambda _: LINE, judge(), "qwen-7b")
    (item,) = found.kept
    assert item.task == "evolved" and item.domain == "finance"
    assert item.source == "items/banking/3 transfer qwen-7b"
    assert item.id == f"evolved/{request_sha256(request.messages)[:12]}/1"
    request = si.self_instruct_request(SEEDS[:2], 1, "保险")
    (item,) = si.generate([request], lambda _: LINE, judge(), "m").kept
    assert item.task == "self_instruct"
    assert item.source == "items/banking/0+items/banking/1 self_instruct m"


def test_nothing_comes_out_unfiltered_and_everything_is_counted():
    bad = json.dumps(
        {"question": "利率是多少呢？", "answer": "不知道。"}, ensure_ascii=False
    )
    answers = iter([f"{LINE}\n{bad}\n{{", LINE, "抱歉。"])
    requests = [si.self_instruct_request(SEEDS[i : i + 1], 3, "保险") for i in range(3)]
    found = si.generate(requests, lambda _: next(answers), judge(), "m")
    assert found.counts == {
        "kept": 1,
        "length": 1,
        "unparsable": 1,
        "similar": 1,
        "no item": 1,
    }
    assert [v.reason for _, v in found.rejected] == ["length", "similar"]


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    requests = si.plan_requests({"banking": SEEDS}, [], random.Random(0), num_evolved=4)
    calls = Counter()

    def stops(_):
        calls["asked"] += 1
        if calls["asked"] == 4:
            raise RuntimeError("the server stopped")
        question = f"{'甲乙丙丁戊己庚辛'[calls['asked']] * 5}账户怎么销户？"
        return json.dumps({"question": question, "answer": "带身份证件去开户行办理。"})

    source = recording(stops, tmp_path / "log.jsonl")
    with pytest.raises(RuntimeError):
        si.generate(requests, source, judge(), "m")
    found = si.generate(requests, source, judge(), "m")
    assert calls["asked"] == len(requests) + 1
    assert sum(found.counts.values()) == len(requests)
    again = si.generate(requests, transcript(tmp_path / "log.jsonl"), judge(), "m")
    assert again == found


@cache
def replayed() -> tuple[si.Generated, dict[str, str], list[dict]]:
    """The transcript through the real filters: result, reason by item id, records."""
    requests, records = si.recorded_seeds(), exchanges(si.TRANSCRIPT)
    seeds = [question_of(s) for pool in si.read_seeds().values() for s in pool]
    found = si.generate(
        requests, transcript(si.TRANSCRIPT), judge(seeds, heldout_gate(30)), "recorded"
    )
    reasons = {item.id: verdict.reason for item, verdict in found.rejected}
    reasons |= {item.id: "" for item in found.kept}
    return found, reasons, records


def test_the_transcript_holds_exactly_the_planned_requests():
    requests, records = si.recorded_seeds(), exchanges(si.TRANSCRIPT)
    assert [row["request_sha256"] for row in records] == [
        request_sha256(r.messages) for r in requests
    ]
    assert requests == si.recorded_seeds() and len(requests) == 45
    assert all(masked(r.messages) == r.messages for r in requests)
    fields = {"request_sha256", "messages", "completion", "model", "planted"}
    assert all(set(row) == fields and row["model"] == "recorded" for row in records)
    methods = Counter(r.method for r in requests)
    assert methods == {"self_instruct": 18, "answer": 11} | dict.fromkeys(
        si.EVOLUTIONS, 4
    )


def by_item() -> list[tuple[str, str]]:
    """(planted, found) of every object of the transcript, in order."""
    _, reasons, records = replayed()
    pairs = []
    for request, row in zip(si.recorded_seeds(), records, strict=True):
        planted = dict(row["planted"])
        parsed = si.parse_items(row["completion"])
        if not parsed:
            pairs.append((planted.pop(0, ""), "no item"))
        task = "evolved" if request.method in si.EVOLUTIONS else "self_instruct"
        for number, pair in enumerate(parsed, 1):
            key = f"{task}/{row['request_sha256'][:12]}/{number}"
            got = "unparsable" if pair is None else reasons[key]
            pairs.append((planted.pop(number, ""), got))
        assert not planted, "a planted number that no item has"
    return pairs


def test_every_planted_fault_is_caught_for_its_reason():
    pairs = by_item()
    faults = [(want, got) for want, got in pairs if want]
    assert len(pairs) >= 120 and len(faults) >= 40
    assert all(want == got for want, got in faults), faults
    seen = Counter(want for want, _ in faults)
    assert {name for name, number in seen.items() if number >= 2} >= {
        *REASONS,
        "unparsable",
    }


def test_nine_in_ten_of_the_others_are_kept():
    others = [got for want, got in by_item() if not want]
    assert len(others) >= 80
    assert others.count("") >= 0.9 * len(others), Counter(others)


def test_counts_say_where_every_object_went():
    found, _, _ = replayed()
    assert found.counts == Counter(got or "kept" for _, got in by_item())
    assert len(found.kept) == found.counts["kept"]


def test_kept_items_are_records_to_train_on(tmp_path):
    kept = replayed()[0].kept
    for item in kept:
        require_conversation(item.messages, item.id)
        assert item.domain == "finance" and item.task in ("self_instruct", "evolved")
        assert item.source.endswith(" recorded")
    assert len({item.id for item in kept}) == len(kept)
    write_records(tmp_path / "kept.jsonl", kept)
    assert read_records(tmp_path / "kept.jsonl", Instruction) == list(kept)


def test_replaying_gives_the_same_again():
    first = replayed()[0]
    seeds = [question_of(s) for pool in si.read_seeds().values() for s in pool]
    fresh = judge(seeds, heldout_gate(30))
    again = si.generate(
        si.recorded_seeds(), transcript(si.TRANSCRIPT), fresh, "recorded"
    )
    assert again == first
    kept = {"reason": "kept", "items": len(first.kept)}
    assert fresh.table()[0].items() >= kept.items()
