"""A team's own pairs come in whole, or with their fault, line and remedy."""

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl import apply_chat_template
from trl.data_utils import is_conversational

from finllm_utils.records import PreferencePair, write_records
from finllm_utils.rlhf.preference_formats import read_preferences, write_trl_pairs
from tests.conftest import write_lines

TEXT = {"prompt": "存款能随时取吗？", "chosen": "活期能。", "rejected": "都不能。"}


def said(role, content):
    return {"role": role, "content": content}


ASKED = said("user", TEXT["prompt"])
GOOD, BAD = said("assistant", "活期能。"), said("assistant", "都不能。")
MESSAGES = {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]}
PAIRS = [
    PreferencePair(
        id="a/1", prompt="问“一”？", chosen="答一。\n第二行", rejected="答二。",
        source="human:anna", margin=1 / 3,
    ),
    PreferencePair(id="a/2", prompt="问二", chosen="甲", rejected="乙", source=""),
]  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        TEXT,
        MESSAGES,
        TEXT | {"chosen": [GOOD]},
        TEXT | {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "score_chosen": 4.5},
    ],
    ids=["text", "messages", "mixed", "question repeated", "implicit prompt"],
)
def test_every_form_gives_the_same_pair(tmp_path, row):
    (pair,) = read_preferences(write_lines(tmp_path / "team.jsonl", row))
    assert pair == PreferencePair(
        id="team.jsonl/1", source="team.jsonl", margin=0.0, **TEXT
    )


def test_the_forms_of_this_project(tmp_path):
    write_records(tmp_path / "own.jsonl", PAIRS)
    assert read_preferences(tmp_path / "own.jsonl") == PAIRS
    value = TEXT | {"id": "tone/001", "value": "tone", "reason": "r", "basis": "b"}
    (pair,) = read_preferences(write_lines(tmp_path / "tone.jsonl", value))
    assert (pair.id, pair.source) == ("tone/001", "value pairs: tone")


def without(field):
    return {k: v for k, v in TEXT.items() if k != field}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (without("prompt"), "field 'prompt' is missing, the line has chosen, rejected"),
        (without("rejected"), "field 'rejected' is missing, the line has chosen, prompt"),
        ({"Chosen": "x"}, "field 'chosen' is missing, the line has Chosen; write prompt,"),
        (TEXT | {"rejected": "活期能。 "}, "are the same text, so there is nothing to"),
        (TEXT | {"chosen": ""}, "chosen, message 2: the assistant's text is empty; fill"),
        (TEXT | {"rejected": "\n"}, "rejected, message 2: the assistant's text is empty"),
        (TEXT | {"prompt": "  "}, "message 1: the user's text is empty"),
        (TEXT | {"rejected": "锟斤拷"}, "export the file again in UTF-8"),
        (TEXT | {"chosen": []}, "chosen: expected text or a list of messages, got []"),
        (TEXT | {"prompt": None}, "prompt: expected text or a list of messages, got None"),
        (TEXT | {"chosen": [{"role": "assistant"}]}, "message 1: expected role and content"),
        (TEXT | {"chosen": [said("assistant", [1])]}, "pictures and tool calls are not"),
        (TEXT | {"chosen": [GOOD, ASKED]}, "chosen: ends with a message of 'user'"),
        (
            TEXT | {"rejected": [said("user", "别的？"), BAD]},
            "rejected: repeats another question than prompt has",
        ),
        (
            {"chosen": [ASKED, GOOD], "rejected": [said("user", "别的？"), BAD]},
            "rejected: repeats another question than chosen has",
        ),
        (
            MESSAGES | {"prompt": [said("system", "s"), ASKED]},
            "prompt: has the turns system, user; a pair holds one question",
        ),
        (MESSAGES | {"prompt": [GOOD]}, "prompt: has the turns assistant;"),
        (TEXT | {"margin": 2}, "margin 2.0 is not in [0, 1]; divide all margins by the"),
        (TEXT | {"margin": float("nan")}, "margin nan is not in [0, 1]"),
        (TEXT | {"margin": "0.5"}, "margin must be a number in [0, 1], got '0.5'"),
        (TEXT | {"margin": True}, "margin must be a number"),
        (TEXT | {"id": 7}, "id must be text, got 7"),
        (TEXT | {"id": ""}, "id must be text, got ''"),
        (TEXT | {"source": None}, "source must be text, got None"),
        (TEXT | {"id": "one"}, "x.jsonl, line 1 already; give each item its own"),
    ],
)  # fmt: skip
def test_faults_are_named_with_line_and_remedy(tmp_path, row, message):
    path = write_lines(tmp_path / "x.jsonl", MESSAGES | {"id": "one"}, row)
    with pytest.raises(ValueError) as caught:
        read_preferences(path)
    assert message in str(caught.value) and "x.jsonl, line 2" in str(caught.value)


def test_a_folder_is_read_by_name_and_ids_differ_across_files(tmp_path):
    write_lines(tmp_path / "b.jsonl", TEXT)
    write_lines(tmp_path / "a.jsonl", TEXT, TEXT | {"id": "one"})
    write_lines(tmp_path / "notes.json", TEXT)
    assert [p.id for p in read_preferences(tmp_path)] == [
        "a.jsonl/1",
        "one",
        "b.jsonl/1",
    ]
    write_lines(tmp_path / "c.jsonl", TEXT | {"id": "one"})
    with pytest.raises(
        ValueError, match=r"c.jsonl, line 1: id 'one' .*a.jsonl, line 2"
    ):
        read_preferences(tmp_path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="unknown suffix '.json'"):
        read_preferences(tmp_path / "a.json")
    with pytest.raises(ValueError, match="no such file"):
        read_preferences(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(ValueError, match="no pair in it"):
        read_preferences(tmp_path / "a.jsonl")


@pytest.fixture(scope="module")
def tokenizer():
    words = ["<unk>", "</s>", "<|user|>", "<|assistant|>", "w1", "w2", "w3"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    made.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}<|assistant|> {% endif %}"
    )
    return made


def test_a_long_pair_is_named(tmp_path, tokenizer):
    short = {"prompt": "w1 w2", "chosen": "w3", "rejected": "w1"}
    path = write_lines(tmp_path / "x.jsonl", short, short | {"prompt": "w1 w2 w3"})
    read = {"tokenizer": tokenizer}
    assert len(read_preferences(path, max_seq_len=7, **read)) == 2
    with pytest.raises(ValueError, match="line 2: the question takes 5 tokens"):
        read_preferences(path, max_seq_len=6, **read)
    for half in (read, {"max_seq_len": 6}):
        with pytest.raises(ValueError, match="belong together"):
            read_preferences(path, **half)


def test_what_is_written_for_trl_reads_back(tmp_path, tokenizer):
    path = tmp_path / "out" / "trl.jsonl"
    assert write_trl_pairs(path, PAIRS) == 2
    assert read_preferences(path) == PAIRS
    rows = Dataset.from_json(str(path), cache_dir=str(tmp_path / "cache"))
    assert {"prompt", "chosen", "rejected", "margin"} <= set(rows.column_names)
    assert rows["margin"] == [1 / 3, 0.0]
    assert is_conversational(rows[1])
    texts = apply_chat_template(rows[1], tokenizer)  # trl's own reading of the line
    assert texts["prompt"] == "<|user|> 问二 <|assistant|> "
    assert (texts["chosen"], texts["rejected"]) == ("甲 ", "乙 ")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "there is no pair to write"),
        ([PAIRS[0], PAIRS[0]], r"pair 2 \(a/1\): id 'a/1' stands at pair 1"),
        ([PreferencePair(id="b", prompt="问", chosen="同", rejected="同", source="s")],
         r"pair 1 \(b\): chosen and rejected are the same"),
    ],
)  # fmt: skip
def test_nothing_is_written_that_could_not_be_read(tmp_path, pairs, message):
    path = tmp_path / "trl.jsonl"
    path.write_text("as it was")
    with pytest.raises(ValueError, match=message):
        write_trl_pairs(path, pairs)
    assert path.read_text() == "as it was"
